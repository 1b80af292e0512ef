"""Ids of any type keep their value, or raise an error before anything is built."""

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

from graphseq.data.logs.ids import id_column, series_of_arrow
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary

BIG = 2**53 + 1  # the first integer that is no float


def ids_of(values: Any, **options: Any) -> list[Any]:
    """The ids of a log of one session with these items."""
    frame = pd.DataFrame({"session_id": 1, "item_id": values})
    return Sessions.from_frame(frame, **options).to_lists()[0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([2**64 - 1, 1], dtype=np.uint64), [2**64 - 1, 1]),
        (np.array([3, 1], dtype=np.uint8), [3, 1]),
        (pd.array([BIG, BIG + 1], dtype="Int64"), [BIG, BIG + 1]),
        (pd.array([BIG, BIG + 1], dtype="int64[pyarrow]"), [BIG, BIG + 1]),
        (pd.Series([2**64 - 1, BIG], dtype=object), [2**64 - 1, BIG]),
        (pd.Series([2**64, 1], dtype=object), ["18446744073709551616", "1"]),
        (pd.Series([1, "1"], dtype=object), [1, "1"]),
        ([1.0, 2.0], [1, 2]),
        ([0.5, 2.0], [0.5, 2.0]),
        ([2.0**53, 1.0], [2**53, 1]),
        (pd.Series([1, 2.0], dtype=object), [1, 2]),
        (pd.Categorical([BIG, 7, BIG]), [BIG, 7, BIG]),
        (pd.Categorical(["7", "b"], categories=["c", "b", "7"]), ["7", "b"]),
        ([True, False], [True, False]),
        ([decimal.Decimal("1.10"), decimal.Decimal("1.1")], ["1.10", "1.1"]),
        ([decimal.Decimal(2**60), decimal.Decimal(5)], [2**60, 5]),
        ([uuid.UUID(int=1)], ["00000000-0000-0000-0000-000000000001"]),
        ([datetime.date(2020, 1, 2)], [pd.Timestamp("2020-01-02")]),
        (["007", "+5", "1.0"], ["007", "+5", "1.0"]),
    ],
    ids=str,
)
def test_ids_of_any_type_keep_their_value_and_are_saved(
    values: Any, expected: list[Any], tmp_path: Path
) -> None:
    frame = pd.DataFrame({"session_id": 1, "item_id": values})
    sessions = Sessions.from_frame(frame)
    assert [(type(v), v) for v in sessions.to_lists()[0]] == [(type(v), v) for v in expected]
    sessions.save(tmp_path / "log")
    assert Sessions.open(tmp_path / "log").to_lists() == [expected]
    assert Vocabulary(sessions.vocabulary.ids).encode(expected).tolist() == sessions.items.tolist()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([b"a"], r"holds bytes in 1 of its rows \(row 0.*decode"),
        (["a", {"x": 1}], r"holds dict in 1 of its rows \(row 1"),
        ([1, 2 + 1j], "holds complex"),
        ([True, 1], "mixes booleans"),
        ([2.0**53 + 2, 1.0], "1 of them, the first 9007199254740994, are too large for a float"),
        ([np.inf, 1.0], "infinite"),
        (pd.to_timedelta([1, 2], unit="s"), "timedelta64.*not ids"),
        (pd.period_range("2020", periods=2), "period.*not ids"),
        (np.array([2.0**24 + 2, 1.0], dtype=np.float32), "too large for a float"),
    ],
    ids=str,
)
def test_ids_that_cannot_be_kept_are_refused_at_once(values: Any, words: str) -> None:
    column = pd.Series(
        values, dtype=object if isinstance(values, list) and words[0] in "hm" else None
    )
    with pytest.raises(ValueError, match=words):
        ids_of(column)


def test_ids_options_ask_for_text_or_integers() -> None:
    assert ids_of([7, 8], ids="text") == ["7", "8"]
    assert ids_of(["7", "8"], ids="integer") == [7, 8]
    assert ids_of(["7", "8"]) == ["7", "8"]
    assert ids_of(pd.Categorical(["7", "8"]), ids="integer") == [7, 8]
    assert ids_of([7.0, 8.0], ids="text") == ["7", "8"]
    for odd in ("007", "+7", "7.0", "x", ""):
        with pytest.raises(ValueError, match=r"ids='integer' asks .* 1 of its rows \(row 1,"):
            ids_of(["7", odd], ids="integer")
    with pytest.raises(ValueError, match=r"integers of 64 bits, but .*'7', one of 2 of its rows"):
        ids_of(["7", str(2**64)], ids="integer")


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_integers_with_missing_values_are_never_floats(values: list[int | None]) -> None:
    """Regression: 995 users became 736 because ids were converted to float64."""
    there = list(dict.fromkeys(v for v in values if v is not None))
    for column in (
        series_of_arrow(pa.array(values, pa.int64()), "user"),
        pd.Series(pd.array(values, dtype="Int64")),
        pd.Series(values, dtype=object),
    ):
        ids = id_column(column)
        assert ids.isna().tolist() == [value is None for value in values]
        vocabulary, codes = Vocabulary.factorize(ids)
        assert vocabulary.ids.tolist() == there
        assert codes.tolist() == [-1 if v is None else there.index(v) for v in values]


@pytest.mark.parametrize(
    "text", ["7", "-7", "0", "007", "+7", "7.0", "-0", "1e3", " 7", "7 ", "0x1", "1_0", "٣",
             str(2**63 - 1), str(2**63), str(2**64 - 1), str(2**64), str(-(2**63)), ""]
)  # fmt: skip
def test_text_is_an_integer_only_where_it_is_written_as_one(text: str, tmp_path: Path) -> None:
    """The same in memory and on disk; one value that is not an integer makes the column text."""
    whole = text != "" and text == str(int(text)) if text.lstrip("-").isdecimal() else False
    whole = whole and -(2**63) <= int(text) < 2**64
    other = "5"
    (tmp_path / "a.csv").write_text(f"session_id,item_id,user\n1,{other},\n1,{text or 'x'},\n")
    expected: list[Any] = [other, text or "x"]
    if whole:
        expected = [int(value) for value in expected]
    assert Sessions.from_frame(tmp_path / "a.csv").to_lists() == [expected]
