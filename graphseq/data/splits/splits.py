"""Splits into training, validation and test, without leaks from test to training."""

from __future__ import annotations

import datetime
import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphseq.arguments import flag, whole
from graphseq.data.logs.times import Duration, Moment, duration, seconds_of_moment
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.statistics import date_of
from graphseq.data.splits.split_parts import Split, assemble, require_own_ids, require_sessions
from graphseq.ragged import share_of
from graphseq.random import stream

__all__ = ["Split", "fixed_split", "leave_last_split", "session_split", "temporal_split"]

SECONDS_PER_DAY = 86_400.0


def temporal_split(
    sessions: Sessions,
    *,
    test_days: Duration | None = None,
    at: Moment | None = None,
    validation: Duration | None = None,
) -> Split:
    """The newest sessions are the test: sessions whose last click is at or after a cut.

    A session that crosses the cut is a test session with all of its clicks, so that no training
    click is at or after the cut.

    Args:
        sessions: The log, with times.
        test_days: Days from the cut to the newest click; or a timedelta, or text with a unit, as
            ``"36h"``.
        at: The cut itself, instead of ``test_days``: ISO 8601 text or a date (UTC without a zone),
            or seconds since 1970.
        validation: Days (or a timedelta, or text) before the newest click of the training part:
            sessions that end at or after that time are the validation part.

    Raises:
        ValueError: If the log has no times, not exactly one of ``test_days`` and ``at`` is given, a
            number of days is not positive, or a part would be empty.
    """
    require_sessions("sessions", sessions)
    end = last_clicks("temporal_split", sessions)
    if (test_days is None) == (at is None):
        raise ValueError(
            f"Give one of test_days and at, got test_days={test_days!r} and at={at!r}."
        )
    cut = (
        seconds_of_moment("at", at) if at is not None else end.max() - _days("test_days", test_days)
    )
    in_test = end >= cut
    if not in_test.any() or in_test.all():
        empty = "training" if in_test.all() else "test"
        number = not isinstance(at, (datetime.date, np.datetime64, str)) and at is not None
        if number or (isinstance(at, str) and at.strip().replace(".", "", 1).isdigit()):
            hint = f" (at={at!r} is seconds since 1970; a date is written '2014-09-30')"
        else:
            hint = ""
        raise ValueError(
            f"The {empty} part would be empty: the cut lies at {date_of(cut)}, and the sessions of "
            f"this log end between {date_of(end.min())} and {date_of(end.max())}{hint}."
        )
    protocol: dict[str, Any] = {"split": "temporal", "at": float(cut)}
    in_validation = None
    if validation is not None:
        newest = end[~in_test].max()
        validation_cut = newest - _days("validation", validation)
        in_validation = ~in_test & (end >= validation_cut)
        if (in_test | in_validation).all():
            raise ValueError(
                f"The training part would be empty: the validation part begins at "
                f"{date_of(validation_cut)}, and the sessions before the test end between "
                f"{date_of(end[~in_test].min())} and {date_of(newest)}."
            )
        protocol["validation_at"] = float(validation_cut)
    return _by_session(
        sessions, in_test, in_validation if validation is not None else None, protocol
    )


def leave_last_split(
    sessions: Sessions, n: int | float = 1, *, validation: int | float | None = None
) -> Split:
    """The last ``n`` clicks of every session are the test targets; training ends before them.

    Test sessions keep their whole history as input. A session needs a click before its targets: a
    session of ``n`` clicks or fewer stays in training, and the report counts it.

    Args:
        sessions: The log; a session may be the whole history of a user.
        n: Targets per session. Below 1: the share of each session's clicks that are targets,
            rounded down but at least one. ``leave_last_split(log, 0.1, validation=0.1)`` is the
            split of 8:1:1 per user.
        validation: Targets per session, taken from the end of the training part by the same rule; a
            share refers to all clicks of the session.

    Raises:
        ValueError: If a number is below 1 and not a share, or no session is long enough.
    """
    require_sessions("sessions", sessions)
    lengths = sessions.lengths
    train, test, short = _leave_last(sessions, _targets("n", n, lengths), "test")
    protocol: dict[str, Any] = {"split": "leave_last", "n": _plain(n)}
    too_short = {"test": short}
    held = None
    if validation is not None:
        held_targets = _targets("validation", validation, lengths)
        protocol["validation"] = _plain(validation)
        train, held, too_short["validation"] = _leave_last(train, held_targets, "validation")
    return assemble(train, test, held, protocol, too_short)


def session_split(
    sessions: Sessions,
    test_fraction: float = 0.1,
    *,
    seed: int = 0,
    validation: float | None = None,
) -> Split:
    """Random whole sessions are the test.

    The test sessions depend only on the seed and the number of sessions, not on ``validation``.
    Every part keeps the order of the log.

    Args:
        sessions: The log.
        test_fraction: Share of the sessions that are the test, above 0 and below 1.
        seed: Seed of the draw.
        validation: Share of the other sessions that are the validation part.

    Raises:
        ValueError: If a share is out of range, or a part would be empty.
    """
    require_sessions("sessions", sessions)
    seed = whole("seed", seed, at_least=0)
    order = stream("split", seed).permutation(sessions.num_sessions)
    num_test = share_of_sessions("test_fraction", test_fraction, len(order))
    in_test = np.zeros(len(order), dtype=bool)
    in_test[order[:num_test]] = True
    protocol: dict[str, Any] = {
        "split": "session",
        "test_fraction": float(test_fraction),
        "seed": int(seed),
    }
    in_validation = None
    if validation is not None:
        rest = order[num_test:]
        in_validation = np.zeros(len(order), dtype=bool)
        in_validation[rest[: share_of_sessions("validation", validation, len(rest))]] = True
        protocol["validation"] = float(validation)
    return _by_session(sessions, in_test, in_validation, protocol)


def fixed_split(
    train: Sessions,
    test: Sessions,
    validation: Sessions | float | None = None,
    *,
    shared_ids: bool = False,
) -> Split:
    """An existing split: the given parts, in the codes of training.

    Every part may come with its own vocabularies; items, users and features are matched by id. Use
    it also after filtering one part of a split.

    Args:
        train, test: The parts.
        validation: A third part. Or the share of ``train`` to cut from its end: the last sessions
            in the order of the file, since published files are in the order of time.
        shared_ids: Whether one session id may name sessions of two parts, as in files that are
            numbered from 0 each. A history of which a later part has more clicks, all of them
            before its targets, may always have the same id in both.

    Raises:
        ValueError: If a part is empty, a share out of range, or the click features differ. Also if
            two parts share a session id, unless ``shared_ids`` allows it.
    """
    shared_ids = flag("shared_ids", shared_ids)
    protocol: dict[str, Any] = {"split": "fixed"}
    require_sessions("train", train)
    if validation is not None and not isinstance(validation, Sessions):
        kept = train.num_sessions - share_of_sessions("validation", validation, train.num_sessions)
        last = np.arange(train.num_sessions) >= kept
        protocol["validation"] = float(validation)
        train, validation = train.select(~last), train.select(last)
    split = assemble(train, test, validation, protocol)
    if not shared_ids:
        require_own_ids(split)
    return split


# -- parts -------------------------------------------------------------------------------------


def last_clicks(caller: str, sessions: Sessions) -> NDArray[np.float64]:
    """The time of each session's last click, float64 [num_sessions].

    Raises:
        ValueError: If times are missing, or one is NaN.
    """
    if sessions.time is None:
        raise ValueError(
            f"{caller} needs the time of every click, and these sessions have none: name the "
            "log's time column when reading it, or use session_split."
        )
    end: NDArray[np.float64] = np.maximum.reduceat(sessions.time, sessions.ptr[:-1])
    if not np.isfinite(end).all():
        raise ValueError(
            f"A time is not a number in {int((~np.isfinite(end)).sum())} sessions, the first is "
            f"session {int(np.argmax(~np.isfinite(end)))}: drop them or fill the times in."
        )
    return end


def _by_session(
    sessions: Sessions,
    in_test: NDArray[np.bool_],
    in_validation: NDArray[np.bool_] | None,
    protocol: dict[str, Any],
) -> Split:
    in_train = ~in_test if in_validation is None else ~(in_test | in_validation)
    validation = None if in_validation is None else sessions.select(in_validation)
    return assemble(sessions.select(in_train), sessions.select(in_test), validation, protocol)


def _leave_last(
    sessions: Sessions, n: NDArray[np.int64], part: str
) -> tuple[Sessions, Sessions, int]:
    """What is left, the sessions with their last ``n`` clicks as targets, and how many had none."""
    lengths = sessions.lengths
    first_target = np.maximum(lengths - n, sessions.targets_from)
    held = (lengths > n) & (first_target < lengths)
    if not held.any():
        raise ValueError(
            f"The {part} part would be empty: the last {n.min()} clicks of a session are its "
            f"targets, with a click before them, but the longest session has {lengths.max()} "
            "clicks."
        )
    start = np.zeros_like(lengths)
    left = sessions.window(np.arange(len(lengths)), start, np.where(held, lengths - n, lengths))
    whole = sessions if held.all() else sessions.select(held)
    return left, replace(whole, first_target=first_target[held]), int((~held).sum())


# -- arguments ---------------------------------------------------------------------------------


def _days(name: str, days: Duration | None) -> float:
    return float(duration(name, math.nan if days is None else days, number="days"))


def _targets(name: str, n: int | float, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Targets of each session, int64 [num_sessions]."""
    if isinstance(n, (float, np.floating)) and 0 < n < 1:
        return np.maximum(np.floor(share_of(n, lengths)), 1).astype(np.int64)
    if not isinstance(n, (int, np.integer)) or isinstance(n, bool) or n < 1:
        raise ValueError(
            f"{name} is a number of clicks, at least 1, or a share of them below 1, got {n!r}."
        )
    return np.full(len(lengths), n, dtype=np.int64)


def _plain(n: int | float) -> int | float:
    """The number as Python's, fit for JSON."""
    return int(n) if isinstance(n, (int, np.integer)) else float(n)


def share_of_sessions(name: str, share: float, total: int) -> int:
    """How many of ``total`` sessions a share is: at least one, and not all of them."""
    number_of = isinstance(share, (int, float, np.integer, np.floating))
    if not number_of or isinstance(share, bool) or not 0 < share < 1:
        raise ValueError(f"{name} is a share of the sessions, above 0 and below 1, got {share!r}.")
    number = max(1, round(share * total))
    if number >= total:
        raise ValueError(
            f"The training part would be empty: {name}={share!r} takes {number} of {total} "
            "sessions."
        )
    return number
