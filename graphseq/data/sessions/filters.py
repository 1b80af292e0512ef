"""Filters of sessions and of splits; each returns the same kind of object as its input.

A filter of sessions may leave items out of the vocabulary. Filters of a split keep its parts
comparable. :func:`keep_min_length` and :func:`collapse_repeats` look at one session at a time and
act on every part. :func:`keep_min_support` counts only the clicks of training. :func:`keep_newest`
cuts only training, since a model applies its own ``max_length`` in evaluation. In the filtered
split, test clicks on removed items are unknown.

Each filter logs what it removed; with ``report=True`` it returns a pair, with the report second.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeVar, overload

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from graphseq.arguments import flag
from graphseq.data.sessions.sessions import Sessions, only_sessions
from graphseq.data.splits.split_parts import Split

logger = logging.getLogger(__name__)

Data = TypeVar("Data", Sessions, Split)
"""Sessions or a split: a filter returns the same kind as its input."""


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
    """The effect of a filter: counts before and after.

    Args:
        filter: The filter with its arguments.
        before, after: Counts of the input and the output; for a split, of its training part.
        rounds: Number of passes over the clicks.
        parts: For a split, the report of every part by its name.
    """

    filter: str
    before: Counts
    after: Counts
    rounds: int = 1
    parts: Mapping[str, FilterReport] = field(default_factory=dict)

    def to_frame(self) -> pd.DataFrame:
        """Rows ``before``, ``after`` and ``removed``; columns sessions, clicks, items, targets.

        For a split, these rows for every part, with the part as first index level.
        """
        if self.parts:
            frames = {name: part.to_frame() for name, part in self.parts.items()}
            return pd.concat(frames, names=["part"])
        frame = pd.DataFrame([asdict(self.before), asdict(self.after)], index=["before", "after"])
        frame.loc["removed"] = frame.loc["before"] - frame.loc["after"]
        return frame.rename_axis(self.filter)

    def __str__(self) -> str:
        if self.parts:
            said = "; ".join(f"{name} {part._changes()}" for name, part in self.parts.items())
            return f"{self.filter}: {said}"
        return f"{self.filter}: {self._changes()}"

    def _changes(self) -> str:
        return ", ".join(
            f"{count} -> {getattr(self.after, name)} {name}"
            for name, count in vars(self.before).items()
        )


@overload
def keep_min_length(sessions: Data, min_length: int = 2, *, report: Literal[False] = False) -> Data:
    """The filtered sessions or split."""


@overload
def keep_min_length(
    sessions: Data, min_length: int = 2, *, report: Literal[True]
) -> tuple[Data, FilterReport]:
    """The filtered sessions or split, and the report."""


def keep_min_length(sessions: Any, min_length: int = 2, *, report: bool = False) -> Any:
    """Sessions of at least ``min_length`` clicks.

    Args:
        sessions: Sessions, or a split, all parts of which are filtered.
        min_length: Minimum number of clicks per session, at least 1.
        report: Whether to return a pair, with the report second.

    Returns:
        The filtered sessions or split, or a pair with a :class:`FilterReport`.

    Raises:
        ValueError: If the number is below 1, or no session is left.
    """
    _check("min_length", min_length)

    def change(given: Sessions) -> tuple[Sessions, int]:
        keep = given.lengths >= min_length
        return (given if keep.all() else given.select(keep)), 1

    return _filtered(f"keep_min_length({min_length})", sessions, change, report)


@overload
def keep_min_support(
    sessions: Data,
    min_support: int = 5,
    *,
    core: bool = False,
    min_length: int | None = None,
    report: Literal[False] = False,
) -> Data:
    """The filtered sessions or split."""


@overload
def keep_min_support(
    sessions: Data,
    min_support: int = 5,
    *,
    core: bool = False,
    min_length: int | None = None,
    report: Literal[True],
) -> tuple[Data, FilterReport]:
    """The filtered sessions or split, and the report."""


def keep_min_support(
    sessions: Any,
    min_support: int = 5,
    *,
    core: bool = False,
    min_length: int | None = None,
    report: bool = False,
) -> Any:
    """Clicks on items that were clicked at least ``min_support`` times; empty sessions are dropped.

    With ``core``, sessions left with fewer than ``min_length`` clicks are dropped too, which may
    take support from other items: both are repeated until nothing changes. What remains is the
    largest part of the log in which both hold. A click outside the vocabulary stays.

    Args:
        sessions: Sessions, or a split, whose training part is counted and filtered.
        min_support: Minimum number of clicks per item, at least 1.
        core: Whether to repeat both filters until nothing changes.
        min_length: Minimum number of clicks per session, with ``core`` only; ``None``:
            ``min_support``.
        report: Whether to return a pair, with the report second.

    Returns:
        The filtered sessions or split, or a pair with a :class:`FilterReport`.

    Raises:
        ValueError: If a number is below 1, ``min_length`` is given without ``core``, or no session
            is left.
    """
    _check("min_support", min_support)
    core = flag("core", core)
    if min_length is not None and not core:
        raise ValueError(
            f"min_length={min_length!r} acts with core=True only: call keep_min_length after this "
            "filter to drop short sessions once."
        )
    name = f"keep_min_support({min_support})"
    shortest: int | None = None
    if core:
        shortest = min_support if min_length is None else min_length
        _check("min_length", shortest)
        name = f"keep_min_support({min_support}, core=True, min_length={shortest})"

    def change(given: Sessions) -> tuple[Sessions, int]:
        return _supported_part(given, min_support, shortest)

    return _filtered(name, sessions, change, report, train_only=True)


@overload
def collapse_repeats(sessions: Data, *, report: Literal[False] = False) -> Data:
    """The filtered sessions or split."""


@overload
def collapse_repeats(sessions: Data, *, report: Literal[True]) -> tuple[Data, FilterReport]:
    """The filtered sessions or split, and the report."""


def collapse_repeats(sessions: Any, *, report: bool = False) -> Any:
    """Drops clicks on the item of the click before: the session ``a a b a`` becomes ``a b a``.

    Two clicks outside the vocabulary stay, since they may be on different items.

    Args:
        sessions: Sessions, or a split, all parts of which are filtered.
        report: Whether to return a pair, with the report second.

    Returns:
        The filtered sessions or split, or a pair with a :class:`FilterReport`.

    Raises:
        ValueError: If there is no session.
    """

    def change(given: Sessions) -> tuple[Sessions, int]:
        items = np.asarray(given.items)
        keep = np.ones(len(items), dtype=bool)
        keep[1:] = (items[1:] != items[:-1]) | (items[1:] < 0)
        keep[given.ptr[:-1]] = True
        return (given if keep.all() else given.keep_clicks(keep)), 1

    return _filtered("collapse_repeats()", sessions, change, report)


@overload
def keep_newest(sessions: Data, max_length: int, *, report: Literal[False] = False) -> Data:
    """The filtered sessions or split."""


@overload
def keep_newest(
    sessions: Data, max_length: int, *, report: Literal[True]
) -> tuple[Data, FilterReport]:
    """The filtered sessions or split, and the report."""


def keep_newest(sessions: Any, max_length: int, *, report: bool = False) -> Any:
    """The newest ``max_length`` clicks of every session.

    For training data and for storage: evaluation needs no cut sessions, since a model applies its
    own ``max_length``. Targets among the clicks removed are gone, and counted.

    Args:
        sessions: Sessions, or a split, whose training part is cut.
        max_length: Clicks to keep, at least 1.
        report: Whether to return a pair, with the report second.

    Returns:
        The filtered sessions or split, or a pair with a :class:`FilterReport`.

    Raises:
        ValueError: If the number is below 1, or there is no session.
    """
    _check("max_length", max_length)

    def change(given: Sessions) -> tuple[Sessions, int]:
        lengths = given.lengths
        start = np.maximum(lengths - max_length, 0)
        cut = given
        if start.any():
            cut = given.window(np.arange(len(lengths)), start, lengths)
        return cut, 1

    return _filtered(f"keep_newest({max_length})", sessions, change, report, train_only=True)


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


def _supported_part(
    sessions: Sessions, min_support: int, min_length: int | None
) -> tuple[Sessions, int]:
    """What has support, once, or with a length until nothing changes; and the rounds it took."""
    if min_length is None:
        keep = _supported(sessions.items, sessions.num_items, min_support)
        return (sessions if keep.all() else sessions.keep_clicks(keep)), 1
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
    if size == sessions.num_clicks:
        return sessions, rounds
    kept = np.zeros(sessions.num_clicks, dtype=bool)
    kept[clicks] = True
    return sessions.keep_clicks(kept), rounds


def _supported(items: NDArray[np.int32], num_items: int, min_support: int) -> NDArray[np.bool_]:
    """Which clicks lie on an item with enough clicks, or on none that is known, bool [n]."""
    enough = np.bincount(items[items >= 0], minlength=num_items) >= min_support
    return np.append(enough, True)[items]  # -1 reads the last place


def _filtered(
    name: str,
    data: Any,
    change: Callable[[Sessions], tuple[Sessions, int]],
    report: bool,
    *,
    train_only: bool = False,
) -> Any:
    """Sessions or a split without what ``change`` removes, with the report where it is wanted."""
    report = flag("report", report)
    left: Sessions | Split
    if isinstance(data, Split):
        left, found = _of_split(name, data, change, train_only)
    else:
        only_sessions("sessions", data)
        left, found = _of_sessions(name, data, change)
    logger.info("%s", found)
    return (left, found) if report else left


def _of_sessions(
    name: str, given: Sessions, change: Callable[[Sessions], tuple[Sessions, int]]
) -> tuple[Sessions, FilterReport]:
    left, rounds = change(given)
    if left.num_sessions == 0:
        raise ValueError(f"{name} leaves none of the {given.num_sessions} sessions: ask for less.")
    if left is not given:
        left = left.drop_unused_items()
    return left, FilterReport(name, Counts.of(given), Counts.of(left), rounds)


def _of_split(
    name: str,
    split: Split,
    change: Callable[[Sessions], tuple[Sessions, int]],
    train_only: bool,
) -> tuple[Split, FilterReport]:
    rounds: list[int] = []

    def changed(part: Sessions) -> Sessions:
        left, number = change(part)
        rounds.append(number)
        if left.num_sessions == 0:
            named = {"train": split.train, "validation": split.validation, "test": split.test}
            (which,) = (key for key, value in named.items() if value is part)
            raise ValueError(
                f"{name} leaves none of the {part.num_sessions} sessions of split.{which}: ask for "
                "less."
            )
        return left

    made = split.map_parts(changed, train_only=train_only)
    filters = [*split.protocol.get("filters", []), name]
    left = replace(made, protocol={**split.protocol, "filters": filters})
    parts = {
        part: FilterReport(name, Counts.of(before), Counts.of(after), rounds[0])
        for part, before, after in (
            ("train", split.train, left.train),
            ("validation", split.validation, left.validation),
            ("test", split.test, left.test),
        )
        if before is not None and after is not None
    }
    return left, replace(parts["train"], parts=parts)


def _check(name: str, number: int) -> None:
    if not isinstance(number, (int, np.integer)) or isinstance(number, bool) or number < 1:
        raise ValueError(f"{name} is a number of clicks, at least 1, got {number!r}.")
