"""Strict JSON, sealed documents, and files that are replaced in one step."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphseq.data.storage.documents import (
    MOST_BYTES,
    read_json,
    replacing_file,
    seal,
    unseal,
    write_json,
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(content=st.dictionaries(st.text(), VALUES, max_size=5))
def test_sealed_document_comes_back_and_any_other_value_breaks_the_seal(
    content: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("json") / "document.json"
    write_json(seal(content, "kind", 3), path)
    document = read_json(path)
    assert unseal(document, "kind", 3, {}, path, "me") == document
    fields = {k: v for k, v in content.items() if k not in ("format", "version", "checksum")}
    assert document == {**fields, "format": "kind", "version": 3, "checksum": document["checksum"]}
    with pytest.raises(ValueError, match=r"changed after it was written"):
        unseal({**document, "more": 1}, "kind", 3, {}, path, "me")


def test_seal_is_of_values_not_of_spaces_or_order(tmp_path: Path) -> None:
    document = seal({"b": (1, 2), "a": {3: 1.5}}, "kind", 1)
    assert document["b"] == [1, 2]
    assert document["a"] == {"3": 1.5}
    text = json.dumps(dict(reversed(document.items())), indent=7)
    (tmp_path / "x.json").write_text(text)
    assert unseal(read_json(tmp_path / "x.json"), "kind", 1, {}, "x", "me") == document


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 1}', "the key 'a' occurs twice"),
        ('{"a": NaN}', "NaN is no number in strict JSON"),
        ('{"a": -Infinity}', "-Infinity is no number"),
        ('{"a": 1e999}', "1e999 is beyond what a number can be"),
        ("[" * 100_000 + "]" * 100_000, "nested too deep"),
        ("[" * 70 + "]" * 70, "nested deeper than 64 levels"),
        ('{"a": ' + "9" * 5000 + "}", "is broken"),
        ('{"a"', "is broken"),
        ("", "is broken"),
        (b"\xff\xfe", "is broken"),
    ],
    ids=range(10),
)
def test_what_is_no_strict_json_is_refused_in_one_sentence(
    text: str | bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message) as caught:
        read_json(path)
    assert type(caught.value) is ValueError
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numbers_keep_their_digits(tmp_path: Path) -> None:
    content = {"a": 2**80, "b": 0.1 + 0.2, "c": -0.0}
    write_json(content, tmp_path / "x.json")
    assert str(read_json(tmp_path / "x.json")) == str(content)
    with pytest.raises(ValueError, match="cannot be written as JSON"):
        write_json({"a": float("nan")}, tmp_path / "x.json")
    assert read_json(tmp_path / "x.json") == content


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def make_sparse(path: Path) -> None:
    path.write_text("{}")
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_pipe, "is a folder, pipe or device where a file is expected"),
        (make_socket, "cannot be opened as a file"),
        (make_sparse, f"more than the {MOST_BYTES:,} that it may have"),
        (lambda path: path.mkdir(), "is a folder, pipe or device"),
        (lambda path: path.symlink_to("/dev/zero"), "is a folder, pipe or device"),
        (lambda path: path.symlink_to(path), "cannot be opened as a file"),
        (lambda path: path.symlink_to("nowhere"), "is missing"),
        (lambda path: None, "is missing"),
    ],
    ids=["pipe", "socket", "sparse", "folder", "device", "circle", "dangling", "missing"],
)
def test_what_is_no_file_is_refused_at_once(make: Any, message: str, tmp_path: Path) -> None:
    make(tmp_path / "x.json")
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / "x.json")


def test_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(KeyboardInterrupt), replacing_file(path) as file:  # noqa: PT012
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    with replacing_file(tmp_path / "link") as file:
        file.write(b"new")
    assert path.read_text() == "new"
    assert (tmp_path / "link").is_symlink()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link", "x"]
    with pytest.raises(ValueError, match="choose the name of a file"), replacing_file(tmp_path):
        pass


def test_leftovers_of_a_file_go_once_their_writer_is_dead(tmp_path: Path) -> None:
    path = tmp_path / "x"
    (tmp_path / ".x.0123abcd.part").write_text("of the dead")
    (tmp_path / ".y.0123abcd.part").write_text("of another")
    (tmp_path / ".x.notes.part").write_text("mine")
    with replacing_file(path) as living:
        living.write(b"1")
        with replacing_file(path) as file:
            file.write(b"2")
    assert path.read_text() == "1"
    left = sorted(each.name for each in tmp_path.iterdir())
    assert left == [".x.notes.part", ".y.0123abcd.part", "x"]


def test_file_has_the_mode_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_json({}, tmp_path / "x")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640
