"""Sessions from lists, arrays, tensors and columns keep their numbers and text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from graphseq.data.logs.lists import read_lists
from graphseq.data.sessions.sessions import Sessions

NUMBERS = [[3, 5], [5, 2**53 + 1]]


@pytest.mark.parametrize(
    "sessions",
    [
        NUMBERS,
        (tuple(session) for session in NUMBERS),
        np.array(NUMBERS),
        torch.tensor(NUMBERS),
        np.array(NUMBERS, dtype=np.uint64),
        [np.array(session) for session in NUMBERS],
        [torch.tensor(session) for session in NUMBERS],
        [[torch.tensor(item) for item in session] for session in NUMBERS],
        [[np.int64(item) for item in session] for session in NUMBERS],
        [[np.array(item) for item in session] for session in NUMBERS],
        [[pa.scalar(item) for item in session] for session in NUMBERS],
        [np.array(NUMBERS[0], dtype=np.uint64), np.array(NUMBERS[1])],
        [NUMBERS[0], torch.tensor(NUMBERS[1])],
        [pd.Series(session) for session in NUMBERS],
        [pd.Series(session, dtype="Int64") for session in NUMBERS],
        [pd.Index(session) for session in NUMBERS],
        [pl.Series(session) for session in NUMBERS],
        [pa.array(session) for session in NUMBERS],
        [pa.chunked_array([session]) for session in NUMBERS],
        pd.Series(NUMBERS),
        pl.Series(NUMBERS),
        pa.array(NUMBERS),
        pa.chunked_array([NUMBERS[:1], NUMBERS[1:]]),
    ],
    ids=lambda sessions: type(sessions).__name__,
)
def test_from_lists_of_any_library_are_numbers(sessions: Any) -> None:
    found = Sessions.from_lists(sessions)
    assert found.to_lists() == NUMBERS
    assert found.vocabulary.ids.dtype == np.int64


@pytest.mark.parametrize("make", [list, np.array, pd.Series, pl.Series, pa.array])
def test_from_lists_of_text_and_of_mixed_types(make: Any) -> None:
    assert Sessions.from_lists([make(["a", "b"]), make(["b"])]).to_lists() == [["a", "b"], ["b"]]
    assert Sessions.from_lists([make(["7"]), [7]]).to_lists() == [["7"], [7]]


@pytest.mark.parametrize("nothing", [None, float("nan"), pd.NA, pd.NaT], ids=str)
def test_what_is_missing_is_named_by_its_place(nothing: Any) -> None:
    with pytest.raises(ValueError, match=r"Session 1 is missing: it is .* \(1 such in all\)"):
        read_lists([["a"], nothing, ["b"]])
    with pytest.raises(
        ValueError, match=r"item of click 1 of session 2 is missing.*\(2 such in all"
    ):
        read_lists([["a"], [3], ["b", nothing], [nothing]])


def test_missing_clicks_of_arrays_are_named_by_their_place() -> None:
    for session in (
        np.array([1.0, np.nan]),
        torch.tensor([1.0, torch.nan]),
        pd.Series([1, None], dtype="Int64"),
        pa.array([1, None]),
        pl.Series([1, None]),
    ):
        with pytest.raises(ValueError, match="item of click 1 of session 1 is missing"):
            Sessions.from_lists([[7], session])


@pytest.mark.parametrize(
    ("sessions", "words"),
    [
        ("abc", r"got 'abc' \(str\)"),
        (5, "got 5"),
        (None, "got None"),
        ({1: [2]}, "got {1: "),
        ([1, 2], r"session 0 is 1: write \[\[...\]\]"),
        ([[1], "ab"], "session 1 is 'ab'"),
        ([[1], {2}], r"session 1 is \{2\}"),
        (torch.tensor([1, 2]), r"shape \[2\]"),
        ([torch.tensor(1)], r"session 0 is tensor\(1\)"),
        (pa.array([1]), "a column of int64"),
        ([[[1, 2]]], r"holds list in 1 of its rows \(click 0 of session 0"),
        ([[True, 1]], "mixes booleans"),
        (pd.DataFrame({"a": [1]}), "Sessions.from_frame reads"),
        (pl.DataFrame({"a": [1]}), "Sessions.from_frame reads"),
        (pa.table({"a": [1]}), "Sessions.from_frame reads"),
        ([[1], []], "Session 1 is empty"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_list_of_sessions_is_refused_with_the_way_out(sessions: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Sessions.from_lists(sessions)


def test_from_lists_users_are_one_a_session() -> None:
    sessions = Sessions.from_lists([[1], [2]], users=torch.tensor([2**53 + 1, 5]))
    assert sessions.user_vocabulary.decode(sessions.users) == [2**53 + 1, 5]
    with pytest.raises(ValueError, match="users needs one user per session: 2, got 1"):
        Sessions.from_lists([[1], [2]], users=[1])
