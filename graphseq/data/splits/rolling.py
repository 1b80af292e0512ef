"""Rolling windows: consecutive splits, each tested on the data after its training part."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from graphseq.arguments import whole
from graphseq.data.logs.times import Duration, duration
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.statistics import date_of
from graphseq.data.splits.split_parts import Split, require_sessions
from graphseq.data.splits.splits import (
    fixed_split,
    last_clicks,
    share_of_sessions,
    temporal_split,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class RollingSplits(Sequence[Split]):
    """Splits of one log, oldest first; each is made on access and not kept.

    Args:
        sessions: The log.
        bounds: Begin and end of training, and end of the test, of each window, [num_windows, 3]: in
            seconds, or in numbers of sessions; ends are exclusive.
        end: The value compared with the bounds: the time of each session's last click, or its
            number.
        validation: Size of the validation part of each split.
        by_time: Whether the bounds are times.
    """

    sessions: Sessions
    bounds: NDArray[Any]
    end: NDArray[Any]
    validation: Any
    by_time: bool

    def __len__(self) -> int:
        return len(self.bounds)

    @overload
    def __getitem__(self, index: int) -> Split: ...

    @overload
    def __getitem__(self, index: slice) -> RollingSplits: ...

    def __getitem__(self, index: int | slice) -> Split | RollingSplits:
        if isinstance(index, slice):
            return replace(self, bounds=self.bounds[index])
        begin, cut, end = self.bounds[index].tolist()  # raises IndexError beyond the last one
        within = np.flatnonzero((self.end >= begin) & (self.end < end))
        if self.by_time:
            part = self.sessions.select(within)
            split = temporal_split(part, at=cut, validation=self.validation)
        else:
            in_test = self.end[within] >= cut
            train, test = (self.sessions.select(within[each]) for each in (~in_test, in_test))
            split = fixed_split(train, test, self.validation)
        window = range(len(self))[index]
        told = {"split": "rolling", "window": window, "windows": len(self)}
        told |= (
            {"begin": begin, "at": cut, "end": end}
            if np.isfinite(begin)
            else {
                "at": cut,
                "end": end,
            }
        )
        return replace(split, protocol={**split.protocol, **told})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} windows of {self.sessions!r})"


def rolling_split(
    sessions: Sessions,
    *,
    test_days: Duration | None = None,
    train_days: Duration | None = None,
    step: Duration | None = None,
    windows: int | None = None,
    periods: int | None = None,
    first: int | None = None,
    validation: Duration | None = None,
) -> RollingSplits:
    """Splits of windows that roll over the log: train on the past, test on the data after it.

    The last click of a session determines its part. The newest window equals
    :func:`~graphseq.data.splits.splits.temporal_split`, and its test ends with the newest click;
    each earlier window is shifted back by ``step``. Every split has only the items of its training
    part. Windows without a session to train on, or without a target to validate or to test on, are
    left out with a warning, as are such periods.

    Logs without times are split into ``periods`` with equal numbers of sessions, in the order of
    the log. Each period from number ``first`` on is the test of all periods before it. Logs with
    times can be split in the same way, in the order of their sessions' last clicks.

    Args:
        sessions: The log.
        test_days: Length of each test: days, a timedelta, or text with a unit, as ``"36h"``.
        train_days: Length of the training part; ``None``: everything before the test.
        step: Distance between windows; ``None``: the length of the test, so that tests are
            adjacent.
        windows: Number of windows, the newest ones; ``None``: all with ``train_days`` (or else
            ``test_days``) of the log before their test.
        periods: Instead of ``test_days``: number of periods, at least 2.
        first: Periods before the first test, with ``periods``; ``None``: half of them.
        validation: Length of the validation part, cut from the end of each training part; with
            ``periods`` the share of the training sessions.

    Returns:
        A sequence of splits, oldest window first.

    Raises:
        ValueError: If not exactly one of ``test_days`` and ``periods`` is given, or an argument
            does not belong to it or is out of range. Also if the log has no times, or no window
            or period is left.
    """
    require_sessions("sessions", sessions)
    if (test_days is None) == (periods is None):
        raise ValueError(
            f"Give one of test_days and periods, got test_days={test_days!r} and "
            f"periods={periods!r}."
        )
    if periods is not None:
        by_time = {"train_days": train_days, "step": step, "windows": windows}
        for name, value in by_time.items():
            if value is not None:
                raise ValueError(f"{name} goes with test_days, and periods was given.")
        return _by_periods(sessions, periods, first, validation)
    if first is not None:
        raise ValueError("first goes with periods, and test_days was given.")
    test = float(duration("test_days", test_days, number="days"))  # type: ignore[arg-type]
    train = None if train_days is None else float(duration("train_days", train_days, number="days"))
    stride = test if step is None else float(duration("step", step, number="days"))
    held = None if validation is None else float(duration("validation", validation, number="days"))
    end = last_clicks("rolling_split", sessions)
    newest, oldest = float(end.max()), float(end.min())
    room = newest - test - oldest - (test if train is None else train)
    fit = int(np.floor(room / stride + 1e-9)) + 1 if room >= 0 else 0
    number = fit if windows is None else whole("windows", windows)
    cuts = newest - test - stride * np.arange(number)[::-1]
    bounds = np.stack(
        [np.full(number, -np.inf) if train is None else cuts - train, cuts, cuts + test], axis=1
    )
    if number:
        bounds[-1, 2] = np.inf  # the newest click belongs to the newest test
    before = np.searchsorted(np.sort(end), bounds[:, 1])  # sessions that end before each test
    last = np.append(-np.inf, np.sort(end))[before]
    begin = bounds[:, 1] if held is None else last - held
    trained, tested = _filled(sessions, end, bounds, begin, held is not None)
    if number == 0 or not trained[tested].any() or (windows is not None and not trained.all()):
        raise ValueError(
            f"The log is too short for {'a window' if windows is None else f'{windows} windows'}: "
            f"its sessions end between {date_of(oldest)} and {date_of(newest)}, and a test of "
            f"{_days(test)} needs a session with a target in it and one that ends before it"
            f"{'' if train is None else f', at most {_days(train)} before'}"
            f"{'' if held is None else f', besides a target in {_days(held)} of validation'}."
        )
    kept = _told(trained & tested, "windows")
    return RollingSplits(sessions, bounds[kept], end, validation, True)


def _by_periods(
    sessions: Sessions, periods: int, first: int | None, validation: Any
) -> RollingSplits:
    periods = whole("periods", periods, at_least=2)
    first = periods // 2 if first is None else whole("first", first)
    if first >= periods:
        raise ValueError(f"first must be below periods={periods}, got {first}.")
    if periods > sessions.num_sessions:
        raise ValueError(
            f"periods must be at most the number of sessions, {sessions.num_sessions}, got "
            f"{periods}."
        )
    if sessions.time is not None:
        end = last_clicks("rolling_split", sessions)
        sessions = sessions.select(np.argsort(end, kind="stable"))
    number = np.arange(sessions.num_sessions)
    ends = np.cumsum([0, *map(len, np.array_split(number, periods))])
    bounds = np.stack([np.zeros_like(ends[first:-1]), ends[first:-1], ends[first + 1 :]], axis=1)
    begin = bounds[:, 1]
    if validation is not None:
        share_of_sessions("validation", validation, int(begin.max()))
        begin = begin - np.maximum(np.round(validation * begin), 1)
    trained, tested = _filled(sessions, number, bounds, begin, validation is not None)
    if not (trained & tested).any():
        raise ValueError(
            f"No period from number {first} on has a target, and sessions to train on before it: "
            "give fewer periods, or a smaller validation."
        )
    kept = _told(trained & tested, "periods")
    return RollingSplits(sessions, bounds[kept], number, validation, False)


def _filled(
    sessions: Sessions,
    end: NDArray[Any],
    bounds: NDArray[Any],
    begin: NDArray[Any],
    validated: bool,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which windows have a click to train on, and which a target in each further part.

    Args:
        sessions: The log.
        end: What places each session, [num_sessions].
        bounds: Begin and end of training, and end of the test, [num_windows, 3].
        begin: Where the validation part begins, [num_windows].
        validated: Whether there is one.

    Returns:
        bool [num_windows] each.
    """
    known = np.logical_or.reduceat(np.asarray(sessions.items) >= 0, sessions.ptr[:-1])
    predicted = sessions.lengths > np.maximum(sessions.targets_from, 1)  # has a target

    def some(of: NDArray[np.bool_], start: NDArray[Any], stop: NDArray[Any]) -> NDArray[np.bool_]:
        places = np.sort(end[of])
        found: NDArray[np.bool_] = np.searchsorted(places, start) < np.searchsorted(places, stop)
        return found

    tested = some(predicted, bounds[:, 1], bounds[:, 2])
    if validated:
        tested &= some(predicted, np.maximum(begin, bounds[:, 0]), bounds[:, 1])
    return some(known, bounds[:, 0], begin), tested


def _told(kept: NDArray[np.bool_], what: str) -> NDArray[np.bool_]:
    """The same, with a warning that counts what is left out."""
    if not kept.all():
        logger.warning(
            "%d of %d %s have no session to train on or no target in validation or test, and are "
            "left out.",
            int((~kept).sum()),
            len(kept),
            what,
        )
    return kept


def _days(seconds: float) -> str:
    return f"{seconds / 86_400:g} days"
