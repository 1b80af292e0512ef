"""64-bit hashes of sessions and their prefixes: equal for equal sessions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from graphseq.data.sessions.sessions import Sessions
from graphseq.random import substreams, words_of

Words = NDArray[np.uint64]


class SessionHashes(NamedTuple):
    """Hashes of all prefixes of some sessions.

    Attributes:
        prefix: Hash of the session up to and including each click, uint64 [num_clicks].
        whole: Hash of each whole session, uint64 [num_sessions].
        length: Clicks up to each click, int64 [num_clicks].
        session: The session of each click, int64 [num_clicks].
        first: The first click that a match must include, int64 [num_sessions].
    """

    prefix: Words
    whole: Words
    length: NDArray[np.int64]
    session: NDArray[np.int64]
    first: NDArray[np.int64]


def of(sessions: Sessions, *, timed: bool) -> SessionHashes:
    """Hashes of items by position, and of times if ``timed``.

    Args:
        sessions: Sessions in the codes of a split.
        timed: Whether clicks at different times are different clicks.
    """
    session = np.repeat(np.arange(sessions.num_sessions), sessions.lengths)
    place = np.arange(sessions.num_clicks) - sessions.ptr[session]
    key = substreams(words_of("session_hashes"), place)
    word = substreams(key, np.asarray(sessions.items).astype(np.int64) + 1)
    if timed:
        assert sessions.time is not None
        word = substreams(word, np.asarray(sessions.time, dtype=np.float64).view(np.uint64))
    total = np.zeros(sessions.num_clicks + 1, dtype=np.uint64)
    np.cumsum(word, out=total[1:])  # modulo 2^64
    with np.errstate(over="ignore"):
        prefix = total[1:] - total[sessions.ptr[session]]
    ends = sessions.ptr[1:] - 1
    return SessionHashes(prefix, prefix[ends], place + 1, session, sessions.targets_from)


def matches(
    asked: SessionHashes, learned: SessionHashes, *, same: bool
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Sessions that equal another one, and sessions that are a prefix of one or start with one.

    A prefix counts only if it includes a target: clicks that belong to training are not a leak.

    Args:
        asked: The sessions to look up.
        learned: The sessions to search.
        same: Whether both are the same sessions; a session then does not match itself.

    Returns:
        Both bool [num_sessions].
    """
    values, counts = np.unique(learned.whole, return_counts=True)
    size = len(asked.whole)
    ends = np.zeros(len(asked.prefix), dtype=bool)
    ends[np.flatnonzero(np.diff(asked.session, append=-1))] = True
    place = _place(values, asked.prefix)
    found = place >= 0
    whole = np.zeros(size, dtype=bool)
    at_end = ends & found
    times = counts[place[at_end]] > (1 if same else 0)
    whole[asked.session[at_end][times]] = True
    begins_with = found & ~ends & (asked.length > asked.first[asked.session])
    begun = np.zeros(size, dtype=bool)
    begun[asked.session[begins_with]] = True
    inner = np.ones(len(learned.prefix), dtype=bool)
    inner[np.flatnonzero(np.diff(learned.session, append=-1))] = False
    beginnings = np.unique(learned.prefix[inner])
    begun |= _place(beginnings, asked.whole) >= 0
    return whole, begun


def unlikely(sessions: Sessions, counts: NDArray[np.int64], bound: float) -> NDArray[np.bool_]:
    """Sessions whose items coincide by chance with a log-probability below a bound.

    Args:
        sessions: Sessions in the codes of the counts.
        counts: Training clicks of each item.
        bound: Natural logarithm of the probability, with items drawn by popularity.
    """
    chance = np.log(np.maximum(counts, 1) / max(1, counts.sum()))
    items = np.asarray(sessions.items)
    known = np.where(items >= 0, chance[items], chance.min(initial=0.0))
    return np.add.reduceat(known, sessions.ptr[:-1]) < bound


def _place(ordered: Words, values: Words) -> NDArray[np.int64]:
    """Index of values in an ascending list; -1 if absent."""
    if len(ordered) == 0:
        return np.full(len(values), -1)
    place = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return np.where(ordered[place] == values, place, -1)
