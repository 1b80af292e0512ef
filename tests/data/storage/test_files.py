"""One file of named arrays and plain values: it is read back completely, or raises an error."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from graphseq.data.storage import read_file, write_file
from graphseq.data.storage.rules import whole


def state() -> dict[str, Any]:
    table = torch.arange(12, dtype=torch.float32).view(3, 4)
    return {
        "whole": 3,
        "big": 2**70,
        "text": "ü\n$",
        "no": None,
        "yes": True,
        "number": 0.1,
        "nan": float("nan"),
        "tuple": (1, [2, (3,)], {}),
        "mapping": {0: {"step": torch.tensor(3.0)}, None: 1, 1.5: 2, "$": "mine"},
        "mark": {"$": "tensor"},
        "table": table,
        "turned": table.t(),
        "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "flags": torch.tensor([True, False]),
        "none of it": torch.empty(0, 3),
        "array": np.array([[1, 2]], dtype=np.int16),
        "dates": np.array(["2024-01-01"], dtype="datetime64[s]"),
    }


def same(one: Any, other: Any) -> None:
    assert type(one) is type(other) or isinstance(one, np.ndarray)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            same(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            same(a, b)
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)
    else:
        assert repr(one) == repr(other)


def test_values_of_every_kind_come_back(tmp_path: Path) -> None:
    write_file(tmp_path / "x", "kind", 1, state())
    same(read_file(tmp_path / "x", "kind", 1, "me"), state())
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_the_same_content_gives_the_same_bytes_and_a_tensor_twice_is_kept_once(
    tmp_path: Path,
) -> None:
    write_file(tmp_path / "x", "kind", 1, state())
    write_file(tmp_path / "y", "kind", 1, state())
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()
    table = torch.rand(1000)
    write_file(tmp_path / "x", "kind", 1, {"a": table, "b": table})
    assert (tmp_path / "x").stat().st_size < 5000


def test_what_was_read_can_be_written_to_and_the_file_stays(tmp_path: Path) -> None:
    write_file(tmp_path / "x", "kind", 1, state())
    before = (tmp_path / "x").read_bytes()
    content = read_file(tmp_path / "x", "kind", 1, "me")
    content["table"].add_(1)
    assert content["table"][0, 0] == 1
    assert (tmp_path / "x").read_bytes() == before
    write_file(tmp_path / "x", "kind", 1, {"other": 1})
    assert content["table"][2, 3] == 12


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({1, 2}, "A set"),
        (torch.ones(2).to_sparse(), "sparse"),
        (torch.ones(2, dtype=torch.complex64), "complex"),
        (np.array([{}], dtype=object), "Python objects"),
        (np.array(["a"]), "not saved"),
    ],
    ids=["set", "sparse", "complex", "objects", "text"],
)
def test_value_without_a_place_is_refused_and_leaves_the_file(
    value: Any, message: str, tmp_path: Path
) -> None:
    write_file(tmp_path / "x", "kind", 1, {"a": 1})
    with pytest.raises(ValueError, match=message):
        write_file(tmp_path / "x", "kind", 1, {"a": [value]})
    assert read_file(tmp_path / "x", "kind", 1, "me") == {"a": 1}


def test_file_of_another_kind_version_or_content_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_file(path, "kind", 2, {"a": 1})
    for asked, message in (
        (("other", 2, "me"), "is not a other file: me makes one"),
        (("kind", 1, "me"), "version 2 of the format, this graphseq reads version 1"),
        (("kind", 3, "me"), "by an older graphseq"),
    ):
        with pytest.raises(ValueError, match=message):
            read_file(path, *asked)
    with pytest.raises(ValueError, match="lacks b: make it again with me"):
        read_file(path, "kind", 2, "me", rules={"b": whole()})
    with pytest.raises(ValueError, match=r"a of .*x must be a whole number, 2 or more, got 1"):
        read_file(path, "kind", 2, "me", rules={"a": whole(2)})


def test_any_bit_of_an_array_counts_unless_nothing_is_verified(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_file(path, "kind", 1, {"a": torch.zeros(5)})
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"\x01")
    with pytest.raises(ValueError, match="checksum of a part differs"):
        read_file(path, "kind", 1, "me")
    assert read_file(path, "kind", 1, "me", verify=False)["a"][-1] != 0
    path.write_bytes(data[:-1])
    with pytest.raises(ValueError, match="cut off"):
        read_file(path, "kind", 1, "me", verify=False)


def test_readers_find_the_old_or_the_new_file_whole(tmp_path: Path) -> None:
    path, stop = tmp_path / "x", threading.Event()
    contents = [{"number": n, "table": torch.full((50 + n,), float(n))} for n in range(2)]
    write_file(path, "kind", 1, contents[0])

    def write() -> None:
        while not stop.is_set():
            for content in contents:
                write_file(path, "kind", 1, content)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(200):
            found = read_file(path, "kind", 1, "me")
            same(found, contents[found["number"]])
    finally:
        stop.set()
        thread.join()
    assert os.listdir(tmp_path) == ["x"]
