"""Ids as arrays: all kinds keep their types, and damaged arrays cannot crash the process."""

from __future__ import annotations

import datetime
import decimal
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphseq.data.sessions.vocabulary import as_index
from graphseq.data.storage.folders import FolderKind, open_folder, write_folder
from graphseq.data.storage.ids import (
    check_distinct,
    check_ids_can_be_saved,
    ids_from_arrays,
    ids_to_arrays,
)

KIND = FolderKind("graphseq.test", 1, "test.json", "tests", "a test", {})
HERE = Path("here")
BERLIN = pd.DatetimeIndex(["2024-10-27 00:30", "2024-10-27 01:30"], tz="UTC")

KINDS: list[Any] = [
    [1, -(2**63)],
    [2**64 - 1, 3],
    np.array([1.5, np.inf]),
    [True, False],
    ["a", "ü", "", "a\x00b"],
    [1, "1", 2.5, True, 2**70],
    [datetime.date(2024, 2, 29), datetime.date(1, 1, 1)],
    [datetime.datetime(2024, 1, 1, 3), datetime.datetime(2024, 1, 2)],
    pd.to_datetime(["2024-01-01", "1700-01-01"]),
    BERLIN.tz_convert("Europe/Berlin"),
    BERLIN.tz_convert(datetime.timezone(datetime.timedelta(hours=2))),
    pd.RangeIndex(3),
    pd.Index(["a", "b", "c"])[1:],
    pd.Index([], dtype="str"),
    [],
]


@pytest.mark.parametrize("values", KINDS, ids=str)
def test_ids_of_every_kind_come_back_with_their_types(values: Any) -> None:
    check_ids_can_be_saved(values)
    about, arrays = ids_to_arrays(values, "ids")
    before, after = as_index(values), ids_from_arrays(about, arrays, "ids", HERE)
    told = [(type(v) if v.__class__ is not datetime.datetime else pd.Timestamp, v) for v in before]
    assert [(type(value), value) for value in after] == told
    assert not any(array.dtype.hasobject for array in arrays.values())


@given(texts=st.lists(st.text(st.characters(codec="utf-8")), max_size=20), data=st.data())
def test_texts_written_piece_by_piece_are_those_written_at_once(
    texts: list[str], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("ids")
    cut = data.draw(st.integers(0, len(texts)))
    with write_folder(folder / "whole", KIND) as out:
        out.write_ids("ids", pd.Index(texts, dtype="str"))
    with write_folder(folder / "pieces", KIND) as out, out.ids_file("ids") as file:
        for piece in (texts[:cut], texts[cut:]):
            file.append(pa.array(piece, pa.string()))
    for path in (folder / "whole").iterdir():
        assert (folder / "pieces" / path.name).read_bytes() == path.read_bytes()
    with open_folder(folder / "whole", KIND) as opened:
        assert opened.ids("ids", distinct=False).tolist() == texts


def test_pieces_of_several_types_are_refused(tmp_path: Path) -> None:
    def write() -> None:
        with write_folder(tmp_path / "x", KIND) as out, out.ids_file("ids") as file:
            file.append(pa.array([1]))
            file.append(pa.array(["1"]))

    with pytest.raises(ValueError, match="ids are of several types"):
        write()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([uuid.UUID(int=1)], "ids of type UUID"),
        ([decimal.Decimal(1)], "ids of type Decimal"),
        ([b"x"], "ids of type bytes"),
        ([(1, 2)], "ids of type tuple"),
        ([1, datetime.date(2020, 1, 1)], "ids of type date"),
        (pd.period_range("2020", periods=2), "ids of type period"),
        (pd.to_timedelta([1, 2]), "ids of type timedelta"),
        ([1, None], "position 1 is missing"),
        ([float("nan")], "position 0 is missing"),
        ([float("inf"), "a"], "cannot be saved"),
    ],
    ids=str,
)
def test_ids_without_a_place_are_refused_before_anything_is_written(
    values: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=f"item_ids.*{message}"):
        check_ids_can_be_saved(values, "item_ids")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids.offsets": np.array([0, 9, 3])}, "do not lie one after the other"),
        ({"ids.offsets": np.array([0, -1, 3])}, "do not lie one after the other"),
        ({"ids.offsets": np.array([1, 1, 3])}, "do not lie one after the other"),
        ({"ids.offsets": np.array([0, 1, 2**62])}, "do not lie one after the other"),
        ({"ids.offsets": np.array([0, 1, 2])}, "do not lie one after the other"),
        ({"ids.offsets": np.array([], np.int64)}, "of other types"),
        ({"ids.offsets": np.array([0.0, 1, 3])}, "of other types"),
        ({"ids.text": np.array([1, 2, 3])}, "of other types"),
        ({"ids.offsets": np.array([0, 3])}, "holds 1 ids, not 2"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_before_arrow_sees_them(
    change: dict[str, Any], message: str
) -> None:
    about, arrays = ids_to_arrays(["a", "bc"], "ids")
    for verify in (True, False):
        with pytest.raises(ValueError, match=f"here/ids is broken: .*{message}"):
            ids_from_arrays(about, arrays | change, "ids", HERE, verify=verify)


@pytest.mark.parametrize(
    ("kind", "texts", "message"),
    [
        ("text", [b"\xff", b"a"], "is broken"),
        ("mixed", [b"[1]", b"2"], "'\\[1\\]' is not an id"),
        ("mixed", [b"null", b"2"], "is not an id"),
        ("mixed", [b"[" * 10**5, b"2"], "is broken"),
        ("mixed", [b"1", b"x"], "is broken"),
    ],
)
def test_texts_that_are_none_are_refused(kind: str, texts: list[bytes], message: str) -> None:
    arrays: dict[str, Any] = {
        "ids.text": np.frombuffer(b"".join(texts), np.uint8),
        "ids.offsets": np.cumsum([0, *map(len, texts)]),
    }
    with pytest.raises(ValueError, match=message):
        ids_from_arrays({"kind": kind, "size": 2}, arrays, "ids", HERE)


def test_zone_that_is_none_and_missing_values_are_refused() -> None:
    arrays: dict[str, Any] = {"ids": np.array(["2024-01-01", "NaT"], "datetime64[s]")}
    with pytest.raises(ValueError, match="is broken"):
        ids_from_arrays({"kind": "times", "size": 2, "zone": "Mars/X"}, arrays, "ids", HERE)
    with pytest.raises(ValueError, match="an id is missing"):
        ids_from_arrays({"kind": "numbers", "size": 2}, arrays, "ids", HERE)


@pytest.mark.parametrize("values", [[3, 4, 3], ["a", "b", "a"], [1, "1", 1], [1.5, 1.5]], ids=str)
def test_id_that_occurs_twice_is_found(values: Any) -> None:
    with pytest.raises(ValueError, match=r"of \d ids only \d are distinct"):
        check_distinct(as_index(values), "ids")
    check_distinct(as_index(values[:1]), "ids")
