"""Saved sessions: read back completely and memory-mapped, or an error."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.data.storage import folders, open_sessions, save_sessions, tables
from graphseq.data.storage.documents import seal

IDS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.text(alphabet=st.characters(codec="utf-8"), max_size=4),
)


def full() -> Sessions:
    """Sessions with every field."""
    frame = pd.DataFrame(
        {
            "session_id": ["s", "r", "s", "r", "s"],
            "item_id": ["x", "y", "z", "z", "x"],
            "t": [5.5, 3, 1, 4, 1],
            "user": ["p", None, "p", None, "p"],
            "price / €": [1.5, np.nan, 2.0, 3.0, 4.0],
            "colour": ["red", None, "blue", "red", "red"],
        }
    )
    sessions = Sessions.from_frame(
        frame,
        time="t",
        user="user",
        features=["price / €", "colour"],
        item_features=["price / €", "colour"],
    )
    return replace(sessions, first_target=np.array([2, 1]))


def same(a: Sessions, b: Sessions) -> None:
    assert a.fingerprint() == b.fingerprint()
    pd.testing.assert_frame_equal(a.to_frame(), b.to_frame())
    if a.item_features is None:
        assert b.item_features is None
    else:
        pd.testing.assert_frame_equal(a.item_features, b.item_features)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    full().save(tmp_path / "log")
    return tmp_path / "log"


def test_save_open_every_field_comes_back(saved: Path) -> None:
    opened = Sessions.open(saved)
    same(full(), opened)
    assert opened.targets_from.tolist() == [2, 1]
    assert opened.vocabulary == full().vocabulary
    assert opened.feature_vocabularies["colour"].ids.tolist() == ["blue", "red"]


@given(
    lists=st.one_of(
        st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1), min_size=1),
        st.lists(st.lists(IDS, min_size=1, max_size=5), min_size=1, max_size=5),
    )
)
@settings(max_examples=25)
def test_save_open_ids_of_any_kind_keep_their_types(
    lists: list[list[Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("ids") / "log"
    sessions = Sessions.from_lists(lists)
    sessions.save(folder)
    opened = Sessions.open(folder)
    assert opened.to_lists() == lists
    assert [type(v) for ids in opened for v in ids] == [type(v) for ids in lists for v in ids]
    same(sessions, opened)


@pytest.mark.parametrize(
    "ids",
    [
        [2**64 - 1, 3],
        [1.5, 2.5],
        [True, False],
        [1, "1", 2.5, 2**70],
        pd.to_datetime(["2020-01-01", "2020-01-02"]),
    ],
    ids=str,
)
def test_save_open_rarer_ids_keep_their_types(ids: Any, tmp_path: Path) -> None:
    sessions = Sessions.from_ragged(ids, [0, len(ids)])
    sessions.save(tmp_path / "log")
    before, after = sessions.to_lists()[0], Sessions.open(tmp_path / "log").to_lists()[0]
    assert [(type(v), v) for v in after] == [(type(v), v) for v in before]


def test_save_ids_without_a_place_in_the_format_are_refused(tmp_path: Path) -> None:
    for ids in ([(1, 2), (3, 4)], [1, date(2020, 1, 1)]):
        with pytest.raises(ValueError, match="no id"):
            Sessions.from_ragged(ids, [0, 2]).save(tmp_path / "log")
    assert list(tmp_path.iterdir()) == []


def test_save_features_of_python_objects_are_refused(tmp_path: Path) -> None:
    sessions = Sessions.from_lists([[1]])
    objects = {"tag": np.array([{}], dtype=object)}
    with pytest.raises(ValueError, match="one number per click, got 'tag' with object"):
        replace(sessions, click_features=objects)
    with pytest.raises(ValueError, match="click_0 holds Python objects"):
        save_sessions({**vars(sessions), "click_features": objects}, tmp_path / "log")
    odd = replace(sessions, item_features=pd.DataFrame({"a": [object()]}))
    with pytest.raises(ValueError, match="item_features cannot be saved"):
        odd.save(tmp_path / "log")
    assert list(tmp_path.iterdir()) == []


def test_open_arrays_are_mapped_and_read_only(saved: Path) -> None:
    opened = Sessions.open(saved)
    for array in (opened.items, opened.ptr, opened.time, opened.click_features["price / €"]):
        assert isinstance(array, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    assert isinstance(opened.select([1]).items, np.memmap)


def test_open_items_out_of_pages_are_not_looked_at(saved: Path) -> None:
    clicks = 100_000_000
    items = np.lib.format.open_memmap(saved / "items.npy", "w+", np.int32, (clicks,))  # sparse
    del items
    np.save(saved / "ptr.npy", np.array([0, clicks]))
    header = json.loads((saved / "sessions.json").read_text())
    del header["ids"]["session_ids"]
    header["arrays"] = {
        **{name: about for name, about in header["arrays"].items() if "_ids." in name},
        "items": {"dtype": "<i4", "shape": [clicks]},
        "ptr": {"dtype": "<i8", "shape": [2]},
    }
    header["files"]["items.npy"]["bytes"] = 4 * clicks + 128
    header["files"]["ptr.npy"]["bytes"] = 144
    edit(saved, **{**header, "click_features": []})
    opened = Sessions.open(saved, verify=False)
    assert opened.num_clicks == clicks
    assert opened.window([0], [clicks - 3], [clicks]).to_lists() == [["z"] * 3]


def test_save_no_sessions_left_comes_back(tmp_path: Path) -> None:
    full().select([]).save(tmp_path / "log")
    opened = Sessions.open(tmp_path / "log")
    assert (len(opened), opened.num_clicks, opened.num_items) == (0, 0, 3)


def test_save_replaces_saved_sessions_even_those_it_reads_from(saved: Path) -> None:
    opened = Sessions.open(saved)
    opened.select([1]).save(saved)
    assert Sessions.open(saved).to_lists() == [["y", "z"]]
    assert opened.to_lists() == full().to_lists()
    assert [path.name for path in saved.parent.iterdir()] == ["log"]


def test_save_into_an_empty_or_new_folder_works(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "some" / "new"):
        save_sessions(vars(full()), folder)
        same(open_sessions(folder, Sessions), full())


def test_save_over_something_else_is_refused_and_leaves_it(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="something other than saved sessions"):
        full().save(tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        full().save(tmp_path / "thesis.txt")
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    "header", ["", "{}", '{"format": "graphseq.sessions", "version": 2}', None]
)
def test_save_over_a_folder_with_a_file_of_the_headers_name_is_refused(
    header: str | None, saved: Path
) -> None:
    (saved / "src").mkdir()
    (saved / "src" / "main.py").write_text("mine")
    if header is not None:
        (saved / "sessions.json").write_text(header)
    before = sorted(path.name for path in saved.rglob("*"))
    with pytest.raises(ValueError, match=r"choose another folder"):
        full().save(saved)
    assert (saved / "src" / "main.py").read_text() == "mine"
    assert sorted(path.name for path in saved.rglob("*")) == before
    assert [path.name for path in saved.parent.iterdir()] == ["log"]


def test_save_through_a_link_replaces_the_folder_and_keeps_the_link(
    saved: Path, tmp_path: Path
) -> None:
    (tmp_path / "current").symlink_to(saved)
    Sessions.from_lists([[7]]).save(tmp_path / "current")
    assert (tmp_path / "current").is_symlink()
    assert Sessions.open(saved).to_lists() == [[7]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "log"]


def test_save_where_nothing_can_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"log cannot be written: "):
        full().save(tmp_path / "file" / "log")


def test_save_that_fails_leaves_the_old_one_and_nothing_half(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tables, "write", full_disk)
    with pytest.raises(ValueError, match=r"log cannot be written: .*No space left"):
        full().select([1]).save(saved)
    assert [path.name for path in saved.parent.iterdir()] == ["log"]
    same(Sessions.open(saved), full())


# -- what cannot be opened -----------------------------------------------------------------------


def edit(folder: Path, **changes: Any) -> None:
    """Changes fields of a header, with the checksum of the new one."""
    path = folder / "sessions.json"
    header = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(seal(header, header["format"], header["version"])))


def test_open_folder_that_is_none_or_another_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="There is no folder"):
        Sessions.open(tmp_path / "no")
    with pytest.raises(ValueError, match="holds no saved sessions"):
        Sessions.open(tmp_path)
    (tmp_path / "sessions.json").write_text('{"format": "other"}')
    with pytest.raises(ValueError, match=r"not a graphseq\.sessions file"):
        Sessions.open(tmp_path)
    (tmp_path / "sessions.json").write_text('{"format": "graph')
    with pytest.raises(ValueError, match=r"sessions\.json is broken"):
        Sessions.open(tmp_path)
    with pytest.raises(ValueError, match="is not a folder"):
        Sessions.open(tmp_path / "sessions.json")


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (3, r"version 3 of the format, this graphseq reads version 2: install a newer"),
        (1, r"version 1 of the format, by an older graphseq, .*: make it again"),
        (True, "its version is True, not a whole number"),
        ("2", "its version is '2', not a whole number"),
    ],
)
def test_open_another_version_is_refused_with_the_way_out(
    saved: Path, version: Any, message: str
) -> None:
    edit(saved, version=version)
    with pytest.raises(ValueError, match=message):
        Sessions.open(saved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"click_features": "price"}, "click_features of .* must be a list, got 'price'"),
        ({"item_features": "no"}, "item_features of .* must be true or false, got 'no'"),
        ({"arrays": []}, "arrays of .* must be a mapping"),
        ({"arrays": {"items": {"dtype": "|O", "shape": [5]}}}, "a type that is not read, '|O'"),
        ({"arrays": {"../items": {"dtype": "<i4", "shape": [5]}}}, "must have"),
        ({"files": {"../x": {"bytes": 1, "checksum": "a"}}}, "must be a plain file name"),
        ({"files": {"items.npy": {"bytes": 1.5, "checksum": "a"}}}, "must be a whole number"),
    ],
)
def test_open_header_that_breaks_a_rule_is_refused_by_field(
    saved: Path, changes: dict[str, Any], message: str
) -> None:
    edit(saved, **changes)
    with pytest.raises(ValueError, match=message):
        Sessions.open(saved)


def test_open_header_changed_by_hand_is_refused(saved: Path) -> None:
    path = saved / "sessions.json"
    path.write_text(path.read_text().replace("colour", "color"))
    with pytest.raises(ValueError, match=r"sessions\.json .* was changed after it was written"):
        Sessions.open(saved)


@pytest.mark.parametrize("size", [-1, -8, -1000, 8])
@pytest.mark.parametrize("name", ["items.npy", "ptr.npy", "item_ids.text.npy", "click_0.npy"])
def test_open_file_of_another_size_is_refused_by_name(name: str, size: int, saved: Path) -> None:
    data = (saved / name).read_bytes()
    (saved / name).write_bytes(data + b"\0" * size if size > 0 else data[:size])
    for verify in (True, False):
        with pytest.raises(ValueError, match=rf"{name} is broken, cut off"):
            Sessions.open(saved, verify=verify)


def test_open_any_file_missing_is_refused(saved: Path) -> None:
    for path in sorted(saved.iterdir()):
        copy = saved.with_name("copy")
        shutil.copytree(saved, copy)
        (copy / path.name).unlink()
        with pytest.raises(ValueError, match=r"missing|no saved sessions"):
            Sessions.open(copy)
        shutil.rmtree(copy)


def test_open_any_byte_changed_is_refused(saved: Path) -> None:
    for path in sorted(saved.iterdir()):
        data = path.read_bytes()
        path.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
        with pytest.raises(ValueError, match=re.escape(path.name)):
            Sessions.open(saved)
        path.write_bytes(data)
    same(Sessions.open(saved), full())


def test_open_again_in_one_process_reads_no_file_twice(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Sessions.open(saved)
    monkeypatch.setattr(folders, "checksum_of_file", lambda handle: 1 / 0)
    same(Sessions.open(saved), full())


def test_open_ids_of_another_log_are_refused(saved: Path, tmp_path: Path) -> None:
    other = replace(full(), item_features=None).with_vocabulary(Vocabulary(["q", "r", "s"]))
    other.save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "item_ids.text.npy", saved / "item_ids.text.npy")
    with pytest.raises(ValueError, match=r"item_ids\.text\.npy is broken, .* or of another folder"):
        Sessions.open(saved)
