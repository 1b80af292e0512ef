"""The evaluated cases: every target of every session, and the known clicks before it."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from graphseq.data.sessions.sessions import Sessions
from graphseq.ragged import ptr_of, ragged_arange
from graphseq.typing import Ints

CLICKS_AT_ONCE = 1 << 22
"""Number of clicks whose ids are hashed at once; this bounds memory."""


def fingerprint_of(sessions: Sessions) -> str:
    """SHA-256, in hex, of the item ids of all clicks, and of which clicks are targets.

    Equal for equal test cases, independent of the item codes.

    Args:
        sessions: Sessions as passed to ``evaluate``.
    """
    items = np.asarray(sessions.items)
    occurs = np.zeros(len(sessions.vocabulary) + 1, dtype=bool)  # the last row: unknown
    occurs[items] = True
    codes = np.flatnonzero(occurs[:-1])
    # By text and type: 1 and "1" are two items.
    ids = pd.Series([f"{type(v).__name__} {v!r}" for v in sessions.vocabulary.ids[codes].tolist()])
    hashes = np.zeros(len(occurs), dtype=np.uint64)
    hashes[codes] = pd.util.hash_pandas_object(ids, index=False).to_numpy()
    digest = hashlib.sha256()
    for start in range(0, len(items), CLICKS_AT_ONCE):
        digest.update(hashes[items[start : start + CLICKS_AT_ONCE]].tobytes())
    for array in (sessions.ptr, sessions.targets_from):
        digest.update(np.ascontiguousarray(array, dtype=np.int64).data)
    return digest.hexdigest()


class Targets:
    """The targets of sessions, in the order of session and position.

    Clicks on unknown items are skipped: the history of a case is the known clicks before it.

    Args:
        sessions: Sessions in the codes of the model.

    Attributes:
        session: The session of each case, int64 [num_cases].
        position: The position of its target in the session, int64 [num_cases].
        target: The target item, int64 [num_cases]; -1: unknown.
        history: Known clicks before it, int64 [num_cases].

    Raises:
        ValueError: If there is no target.
    """

    def __init__(self, sessions: Sessions) -> None:
        lengths = sessions.lengths
        first = np.clip(sessions.targets_from, 0, lengths)
        counts = lengths - first
        if not counts.any():
            raise ValueError(
                f"There is nothing to evaluate: none of the {sessions.num_sessions} sessions has a "
                "click at or after its first_target (by default the second click)."
            )
        self.items = np.asarray(sessions.items)
        self.ptr = sessions.ptr
        self.session = np.repeat(np.arange(sessions.num_sessions), counts)
        self.position = ragged_arange(first, counts)
        click = self.ptr[self.session] + self.position
        self.target = self.items[click].astype(np.int64)
        known_before = ptr_of(self.items >= 0)
        self.history: Ints = known_before[click] - known_before[self.ptr[self.session]]
        self._first_visits: tuple[Ints, Ints] | None = None

    def __len__(self) -> int:
        return len(self.session)

    def facts(self, sessions: Sessions, counts: Ints | None) -> pd.DataFrame:
        """Properties of the cases: one row per case, for :meth:`Report.strata`.

        Args:
            sessions: The sessions of the cases, in the codes of the model.
            counts: Training clicks of each item; ``None``: not known.

        Returns:
            ``length``: clicks of the session; ``popularity``: training clicks of the target, 0 if
            it is unknown, -1 where there are no counts; ``repeat``: whether it is in the known
            history; ``gap``: seconds since the click before it, NaN without times.
        """
        click = self.ptr[self.session] + self.position
        order = np.lexsort((self.items, sessions.session_index))  # stable: the oldest click first
        item, owner = self.items[order], sessions.session_index[order]
        again = np.zeros(len(order), dtype=bool)
        again[order[1:]] = (item[1:] == item[:-1]) & (owner[1:] == owner[:-1]) & (item[1:] >= 0)
        popularity = np.full(len(self), -1, dtype=np.int64)
        if counts is not None:
            popularity = np.where(self.target >= 0, np.asarray(counts)[self.target], 0)
        gap = np.full(len(self), np.nan)
        if sessions.time is not None:
            time = np.asarray(sessions.time, dtype=np.float64)
            after = self.position > 0
            gap[after] = time[click[after]] - time[click[after] - 1]
        return pd.DataFrame(
            {
                "length": np.diff(self.ptr)[self.session],
                "popularity": popularity,
                "repeat": again[click],
                "gap": gap,
            }
        )

    def seen(self, case: Ints) -> tuple[Ints, Ints]:
        """The distinct items in the known history of cases.

        Args:
            case: Numbers of cases, int64 [n].

        Returns:
            Index into ``case`` and item code of each, both int64 [num_seen].
        """
        if self._first_visits is None:
            self._first_visits = self._find_first_visits()
        visits, before = self._first_visits
        begin = self.ptr[self.session[case]]
        start, stop = before[begin], before[begin + self.position[case]]
        row = np.repeat(np.arange(len(case)), stop - start)
        return row, self.items[visits[ragged_arange(start, stop - start)]].astype(np.int64)

    def num_seen(self) -> Ints:
        """Number of distinct items in the known history of each case, int64 [num_cases]."""
        if self._first_visits is None:
            self._first_visits = self._find_first_visits()
        before = self._first_visits[1]
        begin = self.ptr[self.session]
        return before[begin + self.position] - before[begin]

    def _find_first_visits(self) -> tuple[Ints, Ints]:
        """First clicks of a session on known items; the number of such clicks before each click."""
        session = np.repeat(np.arange(len(self.ptr) - 1), np.diff(self.ptr))
        order = np.lexsort((self.items, session))  # stable: the oldest of equal clicks comes first
        is_first = np.ones(len(order), dtype=bool)
        item, owner = self.items[order], session[order]
        is_first[1:] = (item[1:] != item[:-1]) | (owner[1:] != owner[:-1])
        is_first &= item >= 0
        visits = np.sort(order[is_first])
        flag = np.zeros(len(order) + 1, dtype=np.int64)
        flag[visits + 1] = 1
        return visits, np.cumsum(flag)
