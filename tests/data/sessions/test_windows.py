"""Sliding windows against a loop over targets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.windows import sliding_windows


@st.composite
def cases(draw: st.DrawFn) -> tuple[Sessions, int, int]:
    lengths = draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    lists = [[100 * n + place for place in range(length)] for n, length in enumerate(lengths)]
    sessions = Sessions.from_lists(lists)
    first = [draw(st.integers(1, length)) for length in lengths]
    length = draw(st.integers(2, 7))
    first_target = np.array(first) if draw(st.booleans()) else None
    return replace(sessions, first_target=first_target), length, draw(st.integers(1, length - 1))


@given(cases())
def test_sliding_windows_hold_each_target_once_with_enough_before_it(
    case: tuple[Sessions, int, int],
) -> None:
    sessions, length, stride = case
    windows = sliding_windows(sessions, length, stride)
    found = []
    for clicks, first in zip(windows, windows.targets_from, strict=True):
        assert len(clicks) <= length
        for place in range(int(first), len(clicks)):
            found.append(clicks[place])
            whole = next(session for session in sessions if clicks[place] in session)
            before = whole.index(clicks[place])
            assert clicks[:place] == whole[before - place : before]  # no gap
            assert place >= min(before, length - stride)
    expected = [
        clicks[place]
        for clicks, first in zip(sessions, sessions.targets_from, strict=True)
        for place in range(int(first), len(clicks))
    ]
    assert sorted(found) == sorted(expected)
    assert windows.num_targets == sessions.num_targets


def test_sliding_windows_by_hand() -> None:
    windows = sliding_windows(Sessions.from_lists([[0, 1, 2, 3, 4, 5, 6], [7, 8]]), 4)
    assert windows.to_lists() == [[0, 1, 2], [1, 2, 3, 4], [3, 4, 5, 6], [7, 8]]
    assert windows.targets_from.tolist() == [1, 2, 2, 1]


def test_sliding_windows_carry_what_is_known_of_clicks_and_sessions() -> None:
    sessions = Sessions.from_lists([[0, 1, 2, 3]])
    sessions = replace(sessions, time=np.arange(4.0), users=np.array([5], dtype=np.int32))
    windows = sliding_windows(sessions, 2, 1)
    assert windows.time is not None
    assert windows.users is not None
    assert windows.time.tolist() == [0, 1, 1, 2, 2, 3]
    assert windows.users.tolist() == [5, 5, 5]


@pytest.mark.parametrize(
    ("length", "stride", "message"), [(1, None, "length must be"), (4, 4, r"stride lies in 1\.\.3")]
)
def test_sliding_windows_out_of_range_are_refused(
    length: int, stride: int | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        sliding_windows(Sessions.from_lists([[0, 1]]), length, stride)
