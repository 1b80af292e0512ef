"""Rolling windows: each equals the temporal split of its sessions, without later data."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphseq as gs

DAY = 86_400.0


def a_log(days: int = 10, per_day: int = 3) -> gs.Sessions:
    """Sessions of two clicks in the first minutes of each day; on the last one, an hour later."""
    rows = [
        {
            "session_id": f"{day}.{s}",
            "item_id": (day + step) % 4,
            "time": day * DAY + 60 * s + step + 3600 * (day == days - 1),
        }
        for day in range(days)
        for s in range(per_day)
        for step in range(2)
    ]
    return gs.Sessions.from_frame(pd.DataFrame(rows), time="time")


def days_of(sessions: gs.Sessions) -> list[int]:
    return sorted({int(name.split(".")[0]) for name in sessions.session_ids})


def test_windows_adjoin_and_end_with_the_newest_click() -> None:
    splits = gs.rolling_split(a_log(), test_days=2, train_days="3days", windows=3)
    assert len(splits) == 3
    assert [days_of(s.test) for s in splits] == [[4, 5], [6, 7], [8, 9]]
    assert [days_of(s.train) for s in splits] == [[1, 2, 3], [3, 4, 5], [5, 6, 7]]
    assert [s.protocol["window"] for s in splits] == [0, 1, 2]
    assert splits[-1].protocol["split"] == "rolling"
    assert splits[-1].protocol["at"] - splits[-1].protocol["begin"] == 3 * DAY


def test_newest_window_is_the_temporal_split_and_without_train_days_all_before_is_learned() -> None:
    log = a_log()
    splits = gs.rolling_split(log, test_days=pd.Timedelta("1D"), validation=pd.Timedelta("1D"))
    plain = gs.temporal_split(log, test_days=1, validation=1)
    for name in ("train", "validation", "test"):
        assert getattr(splits[-1], name).fingerprint() == getattr(plain, name).fingerprint()
    assert len(splits) == 8  # the first has a day, and a part of one, before its test
    assert days_of(splits[0].train) == [0]
    assert days_of(splits[0].validation) == [0, 1]  # a day back from the newest click before


def test_step_shorter_or_longer_than_the_test() -> None:
    log = a_log()
    tests = [days_of(s.test) for s in gs.rolling_split(log, test_days=2, step=1, windows=3)]
    assert tests == [[6, 7], [7, 8], [8, 9]]
    tests = [days_of(s.test) for s in gs.rolling_split(log, test_days=1, step="72h", windows=2)]
    assert tests == [[6], [9]]


@given(
    st.lists(st.integers(0, 40), min_size=4, max_size=30),
    st.integers(1, 5),
    st.integers(1, 5),
    st.none() | st.integers(1, 8),
)
def test_any_windows_equal_a_naive_loop(
    ends: list[int], test: int, step: int, train: int | None
) -> None:
    rows = [
        {"session_id": n, "item_id": step, "time": end * DAY}
        for n, end in enumerate(ends)
        for step in (0, 1)
    ]
    log = gs.Sessions.from_frame(pd.DataFrame(rows), time="time")
    newest, oldest = max(ends), min(ends)
    expected = []
    cut = newest - test
    while cut - (test if train is None else train) >= oldest:
        inside = [
            [
                n
                for n, end in enumerate(ends)
                if (train is None or end >= cut - train) and end < cut
            ],
            [
                n
                for n, e in enumerate(ends)
                if cut <= e and (e < cut + test or cut + test == newest)
            ],
        ]
        if all(inside):
            expected.insert(0, inside)
        cut -= step
    arguments: dict[str, Any] = {"test_days": test, "step": step, "train_days": train}
    if not expected:
        with pytest.raises(ValueError, match="too short for a window"):
            gs.rolling_split(log, **arguments)
        return
    splits = gs.rolling_split(log, **arguments)
    assert [[s.train.session_ids.tolist(), s.test.session_ids.tolist()] for s in splits] == expected


def test_periods_are_of_equally_many_sessions_in_the_order_of_time() -> None:
    log = a_log(4, 2)
    mixed = log.select(np.random.default_rng(0).permutation(8))
    splits = gs.rolling_split(mixed, periods=4, first=2)
    assert [days_of(s.train) for s in splits] == [[0, 1], [0, 1, 2]]
    assert [days_of(s.test) for s in splits] == [[2], [3]]
    untimed = gs.Sessions.from_lists([[n, 0] for n in range(6)])
    lists = [(s.train.num_sessions, s.test[0][-1]) for s in gs.rolling_split(untimed, periods=3)]
    assert lists == [(2, 0), (4, 0)]
    held = gs.rolling_split(untimed, periods=2, validation=0.34)[0]
    assert (held.train.num_sessions, held.validation.num_sessions) == (2, 1)


def test_windows_are_a_sequence() -> None:
    splits = gs.rolling_split(a_log(), test_days=1, windows=4)
    assert len(splits[1:]) == 3
    assert days_of(splits[1:][0].test) == days_of(splits[1].test) == [7]
    assert days_of(splits[-1].test) == [9]
    with pytest.raises(IndexError):
        splits[4]
    assert repr(splits).startswith("RollingSplits(4 windows of Sessions(")


def test_windows_without_a_session_are_left_out_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = a_log()
    gap = log.select(np.array([not name.startswith("7") for name in log.session_ids]))
    splits = gs.rolling_split(gap, test_days=1, windows=4)
    assert [days_of(s.test) for s in splits] == [[6], [8], [9]]
    assert "1 of 4 windows have no session" in caplog.text


def test_windows_without_a_target_to_test_are_left_out_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = a_log()
    short = np.array([name.startswith("7") for name in log.session_ids])
    log = log.keep_clicks(~short[log.session_index] | (np.arange(log.num_clicks) % 2 == 0))
    assert log.lengths[short].tolist() == [1, 1, 1]
    splits = gs.rolling_split(log, test_days=1, windows=4)
    assert [days_of(split.test) for split in splits] == [[6], [8], [9]]
    assert 7 in days_of(splits[1].train)
    assert "1 of 4 windows have no session to train on or no target" in caplog.text
    with pytest.raises(ValueError, match="a test of 1 days needs a session with a target in it"):
        gs.rolling_split(
            log.keep_clicks(np.arange(log.num_clicks) == log.ptr[log.session_index]), test_days=1
        )


def test_periods_without_a_target_are_left_out_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = gs.Sessions.from_lists([[1, 2], [2, 1], [1], [2], [1, 2], [2, 1]])
    splits = gs.rolling_split(log, periods=3, first=1)
    assert [split.test.to_lists() for split in splits] == [[[1, 2], [2, 1]]]
    assert [split.train.num_sessions for split in splits] == [4]
    assert "1 of 2 periods have no session to train on or no target" in caplog.text
    with pytest.raises(ValueError, match="No period from number 1 on has a target"):
        gs.rolling_split(log[:4], periods=2)


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 2)), min_size=3, max_size=20),
    st.sampled_from([{"periods": 2}, {"periods": 3, "first": 1}, {"test_days": 2, "step": 1}]),
    st.sampled_from([None, 1, 4]),
)
def test_windows_and_periods_that_are_left_are_those_of_which_a_split_can_be_made(
    sessions: list[tuple[int, int]], arguments: dict[str, Any], validation: int | None
) -> None:
    rows = [
        {"session_id": n, "item_id": click, "time": end * DAY}
        for n, (end, clicks) in enumerate(sorted(sessions))
        for click in range(clicks)
    ]
    log = gs.Sessions.from_frame(pd.DataFrame(rows), time="time")
    end = log.time[log.ptr[1:] - 1]
    expected = []
    if "periods" in arguments:
        share = None if validation is None else validation / 10
        arguments = {**arguments, "validation": share}
        parts = np.array_split(np.arange(len(log)), arguments["periods"])
        for place in range(arguments.get("first", 1), len(parts)):
            with contextlib.suppress(ValueError):
                train = log.select(np.concatenate(parts[:place]))
                expected.append(gs.fixed_split(train, log.select(parts[place]), share))
    else:
        arguments = {**arguments, "validation": validation}
        newest, step = end.max(), 0
        while (cut := newest - (2 + step) * DAY) - 2 * DAY >= end.min():
            part = log.select((end < cut + 2 * DAY) | (step == 0))
            with contextlib.suppress(ValueError):
                expected.insert(0, gs.temporal_split(part, at=cut, validation=validation))
            step += 1
    if not expected:
        with pytest.raises(ValueError):
            gs.rolling_split(log, **arguments)
        return
    found = list(gs.rolling_split(log, **arguments))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for name in ("train", "validation", "test"):
            ours, theirs = getattr(one, name), getattr(other, name)
            assert (ours is None) == (theirs is None)
            assert ours is None or ours.session_ids.tolist() == theirs.session_ids.tolist()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"test_days": 1, "validation": 0}, "validation"),
        ({"periods": 3, "validation": 2}, "validation is a share of the sessions"),
        ({}, "Give one of test_days and periods"),
        ({"test_days": 1, "periods": 2}, "Give one of test_days and periods"),
        ({"test_days": 0}, "test_days"),
        ({"test_days": 1, "first": 2}, "first goes with periods"),
        ({"periods": 3, "step": 1}, "step goes with test_days"),
        ({"periods": 1}, "periods must be at least 2"),
        ({"periods": 31}, "at most the number of sessions, 30, got 31"),
        ({"periods": 3, "first": 3}, "first must be below periods=3, got 3"),
        ({"test_days": 1, "windows": 0}, "windows must be at least 1"),
        ({"test_days": 1, "windows": 20}, "too short for 20 windows"),
        ({"test_days": 9}, "too short for a window.*a test of 9 days"),
        ({"test_days": 1, "train_days": 20}, "20 days before"),
        ({"test_days": 1, "train_days": pd.NaT}, "train_days"),
    ],
)
def test_wrong_arguments_say_what_to_give(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        gs.rolling_split(a_log(), **arguments)


def test_log_without_times_is_told_what_to_do() -> None:
    with pytest.raises(ValueError, match="rolling_split needs the time of every click"):
        gs.rolling_split(gs.Sessions.from_lists([[1, 2], [2, 1]]), test_days=1)
