"""Filters of sessions: each gives the sessions that are left and a report that counts the rest.

A filter may leave items out of the vocabulary, so filter before splitting; or filter the training
part alone and bring the parts together again with :func:`~graphseq.data.splits.splits.fixed_split`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from graphseq.data.sessions.sessions import Sessions, only_sessions


@dataclass(frozen=True)
class Counts:
    """Sessions, clicks, items that occur, and targets."""

    sessions: int
    clicks: int
    items: int
    targets: int

    @classmethod
    def of(cls, sessions: Sessions) -> Counts:
        known = sessions.items[sessions.items >= 0]
        items = np.count_nonzero(np.bincount(known, minlength=sessions.num_items))
        return cls(sessions.num_sessions, sessions.num_clicks, int(items), sessions.num_targets)


@dataclass(frozen=True)
class FilterReport:
    """What a filter found and what it left.

    Args:
        filter: The filter with its arguments.
        before, after: Counts of the sessions that went in and that came out.
        rounds: How often the filter went over the clicks.
    """

    filter: str
    before: Counts
    after: Counts
    rounds: int = 1

    def to_frame(self) -> pd.DataFrame:
        """Rows ``before``, ``after`` and ``removed``; columns sessions, clicks, items, targets."""
        frame = pd.DataFrame([asdict(self.before), asdict(self.after)], index=["before", "after"])
        frame.loc["removed"] = frame.loc["before"] - frame.loc["after"]
        return frame.rename_axis(self.filter)

    def __str__(self) -> str:
        changes = ", ".join(
            f"{count} -> {getattr(self.after, name)} {name}"
            for name, count in asdict(self.before).items()
        )
        return f"{self.filter}: {changes}"


def keep_min_length(sessions: Sessions, min_length: int = 2) -> tuple[Sessions, FilterReport]:
    """Sessions of at least ``min_length`` clicks.

    Args:
        sessions: Any sessions.
        min_length: Clicks a session needs, at least 1.

    Raises:
        ValueError: If the number is below 1, or no session is left.
    """
    only_sessions("sessions", sessions)
    _check("min_length", min_length)
    keep = sessions.lengths >= min_length
    left = sessions if keep.all() else sessions.select(keep)
    return _result(f"keep_min_length({min_length})", sessions, left)


def keep_min_support(
    sessions: Sessions,
    min_support: int = 5,
    *,
    core: bool = False,
    min_length: int | None = None,
) -> tuple[Sessions, FilterReport]:
    """Clicks on items that were clicked at least ``min_support`` times; sessions left empty go.

    With ``core``, sessions left with fewer than ``min_length`` clicks go too, which may take
    support from other items: both are repeated until nothing changes. What remains is the largest
    part of the log in which both hold. A click outside the vocabulary stays.

    Args:
        sessions: Any sessions.
        min_support: Clicks an item needs, at least 1.
        core: Whether to repeat, in turn with the sessions' length.
        min_length: Clicks a session needs, with ``core`` only; ``None``: as many as an item.

    Raises:
        ValueError: If a number is below 1, ``min_length`` is given without ``core``, or no session
            is left.
    """
    only_sessions("sessions", sessions)
    _check("min_support", min_support)
    if min_length is not None and not core:
        raise ValueError(
            f"min_length={min_length!r} acts with core=True only: call keep_min_length after this "
            "filter to drop short sessions once."
        )
    if not core:
        keep = _supported(sessions.items, sessions.num_items, min_support)
        left = sessions if keep.all() else sessions.keep_clicks(keep)
        return _result(f"keep_min_support({min_support})", sessions, left)

    min_length = min_support if min_length is None else min_length
    _check("min_length", min_length)
    clicks = np.arange(sessions.num_clicks)  # those still in
    items, session = np.asarray(sessions.items), sessions.session_index
    rounds, size = 0, -1
    while len(clicks) != size:
        rounds, size = rounds + 1, len(clicks)
        long_enough = np.bincount(session, minlength=sessions.num_sessions) >= min_length
        keep = long_enough[session]
        clicks, items, session = clicks[keep], items[keep], session[keep]
        keep = _supported(items, sessions.num_items, min_support)
        clicks, items, session = clicks[keep], items[keep], session[keep]
    left = sessions
    if size < sessions.num_clicks:
        kept = np.zeros(sessions.num_clicks, dtype=bool)
        kept[clicks] = True
        left = sessions.keep_clicks(kept)
    name = f"keep_min_support({min_support}, core=True, min_length={min_length})"
    return _result(name, sessions, left, rounds)


def collapse_repeats(sessions: Sessions) -> tuple[Sessions, FilterReport]:
    """Clicks on the item of the click before (in the same session) go: ``a a b a`` is ``a b a``.

    Two clicks outside the vocabulary stay, since they may be on different items.

    Args:
        sessions: Any sessions.

    Raises:
        ValueError: If there is no session.
    """
    only_sessions("sessions", sessions)
    items = np.asarray(sessions.items)
    keep = np.ones(len(items), dtype=bool)
    keep[1:] = (items[1:] != items[:-1]) | (items[1:] < 0)
    keep[sessions.ptr[:-1]] = True
    left = sessions if keep.all() else sessions.keep_clicks(keep)
    return _result("collapse_repeats()", sessions, left)


def keep_newest(sessions: Sessions, max_length: int) -> tuple[Sessions, FilterReport]:
    """The newest ``max_length`` clicks of every session.

    For training data and for storage: evaluation needs no cut sessions, since a model applies its
    own ``max_length``. Targets among the clicks removed are gone, and counted.

    Args:
        sessions: Any sessions.
        max_length: Clicks to keep, at least 1.

    Raises:
        ValueError: If the number is below 1, or there is no session.
    """
    only_sessions("sessions", sessions)
    _check("max_length", max_length)
    lengths = sessions.lengths
    start = np.maximum(lengths - max_length, 0)
    left = sessions
    if start.any():
        left = sessions.window(np.arange(len(lengths)), start, lengths)
    return _result(f"keep_newest({max_length})", sessions, left)


def suggest_max_length(sessions: Sessions, quantile: float = 0.9) -> int:
    """The smallest length, in clicks, that at least this share of the sessions does not exceed.

    Only sessions with a target count, as a visit of one click has none; all of them where none has.

    Args:
        sessions: Any sessions.
        quantile: Share of the sessions that shall fit whole, above 0 and at most 1.

    Raises:
        ValueError: If the share is out of range, or there is no session.
    """
    only_sessions("sessions", sessions)
    if not 0 < quantile <= 1:
        raise ValueError(f"quantile is a share of the sessions, in (0, 1], got {quantile!r}.")
    if sessions.num_sessions == 0:
        raise ValueError("There is no session whose length could be suggested.")
    lengths = sessions.lengths[with_target(sessions)]
    return int(np.quantile(lengths, quantile, method="inverted_cdf"))


def with_target(sessions: Sessions) -> NDArray[np.bool_]:
    """Which sessions have a target, bool [num_sessions]; all of them where none has."""
    found = sessions.lengths > sessions.targets_from
    return found if found.any() else np.ones(sessions.num_sessions, dtype=bool)


def _supported(items: NDArray[np.int32], num_items: int, min_support: int) -> NDArray[np.bool_]:
    """Which clicks lie on an item with enough clicks, or on none that is known, bool [n]."""
    enough = np.bincount(items[items >= 0], minlength=num_items) >= min_support
    return np.append(enough, True)[items]  # -1 reads the last place


def _result(
    name: str, before: Sessions, after: Sessions, rounds: int = 1
) -> tuple[Sessions, FilterReport]:
    if after.num_sessions == 0:
        raise ValueError(f"{name} leaves none of the {before.num_sessions} sessions: ask for less.")
    if after is not before:
        after = after.drop_unused_items()
    return after, FilterReport(name, Counts.of(before), Counts.of(after), rounds)


def _check(name: str, number: int) -> None:
    if not isinstance(number, (int, np.integer)) or isinstance(number, bool) or number < 1:
        raise ValueError(f"{name} is a number of clicks, at least 1, got {number!r}.")
