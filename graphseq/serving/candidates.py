"""Candidates of sessions with their scores: merged, made diverse, cut to the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphseq.serving.item_vectors import Codes

FUSION_CONSTANT = 60.0
"""What reciprocal rank fusion adds to a rank, as Cormack et al. do."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """The candidates of each session, best first.

    Args:
        items: Codes, int64 [num_sessions, m]; -1 fills rows with fewer, at their end.
        scores: float64 [num_sessions, m]; ``-inf`` where there is no item.
    """

    items: Codes
    scores: NDArray[np.float64]

    @classmethod
    def of_pairs(
        cls, session: Codes, item: Codes, score: NDArray[Any], num_sessions: int
    ) -> Candidates:
        """Of one row per candidate, sorted by session; their order within it is kept."""
        counts = np.bincount(session, minlength=num_sessions)
        place = np.arange(len(session)) - (np.cumsum(counts) - counts)[session]
        width = int(counts.max(initial=0))
        items = np.full((num_sessions, width), -1, dtype=np.int64)
        scores = np.full((num_sessions, width), -np.inf)
        items[session, place] = item
        scores[session, place] = score
        return cls(items, scores)

    @property
    def counts(self) -> Codes:
        """Candidates of each session, int64 [num_sessions]."""
        return np.count_nonzero(self.items >= 0, axis=1)

    def rescored(self, scores: NDArray[np.float64] | None = None) -> Candidates:
        """The same candidates in the order of other scores [n, m], or their own; ties by code."""
        scores = np.where(self.items >= 0, self.scores if scores is None else scores, -np.inf)
        if (scores[:, 1:] < scores[:, :-1]).all() and (scores[:, -1:] > -np.inf).all():
            return Candidates(self.items, scores)  # they are in order already
        order = np.lexsort((self.items, -scores), axis=1)
        # What has no item sorts last: nothing else of it is left.
        items = np.take_along_axis(self.items, order, axis=1)
        kept = np.take_along_axis(scores, order, axis=1)
        return Candidates(np.where(kept > -np.inf, items, -1), kept)

    def without(self, hidden: NDArray[np.bool_]) -> Candidates:
        """The same without those that are marked [n, m]."""
        if not hidden.any():
            return self
        return Candidates(
            np.where(hidden, -1, self.items), np.where(hidden, -np.inf, self.scores)
        )._closed_up()

    def _closed_up(self) -> Candidates:
        order = np.argsort(self.items < 0, axis=1, kind="stable")
        return Candidates(
            np.take_along_axis(self.items, order, axis=1),
            np.take_along_axis(self.scores, order, axis=1),
        )

    def best(self, k: int) -> Candidates:
        """The first ``k`` of each session."""
        return Candidates(self.items[:, :k], self.scores[:, :k])


def fuse(lists: Sequence[Candidates], weights: Sequence[float], k: int) -> Candidates:
    r"""Reciprocal rank fusion of several lists per session (Cormack et al., SIGIR 2009).

    .. math::
        s(i) = \sum_r \frac{w_r}{60 + \mathrm{rank}_r(i)}

    Args:
        lists: Of the same sessions; what a list lacks gains nothing from it.
        weights: One per list; what only lists of weight 0 have is left out.
        k: Candidates to keep per session.
    """
    sessions, items, gains = [], [], []
    for found, weight in zip(lists, weights, strict=True):
        if weight == 0:
            continue
        session, place = np.nonzero(found.items >= 0)
        sessions.append(session)
        items.append(found.items[session, place])
        gains.append(weight / (FUSION_CONSTANT + place + 1))
    session, item = np.concatenate(sessions), np.concatenate(items)
    pairs, number = np.unique(np.stack([session, item]), axis=1, return_inverse=True)
    score = np.bincount(number.ravel(), weights=np.concatenate(gains), minlength=pairs.shape[1])
    order = np.lexsort((pairs[1], -score, pairs[0]))
    num_sessions = len(lists[0].items)
    merged = Candidates.of_pairs(pairs[0][order], pairs[1][order], score[order], num_sessions)
    return merged.best(k)


def diversify(
    candidates: Candidates, vectors: NDArray[np.float32], diversity: float, k: int
) -> Candidates:
    r"""Maximal marginal relevance (Carbonell & Goldstein, SIGIR 1998), for all sessions at once.

    The next item is the one with the highest

    .. math::
        (1 - \lambda)\, r_i - \lambda \max_{j \text{ chosen}} \cos(v_i, v_j)

    where the relevance :math:`r_i` of a session's candidates is scaled to 0..1. Items keep the
    scores that they came with.

    Args:
        candidates: m of each session.
        vectors: Item vectors of the candidates, [n, m, d].
        diversity: :math:`\lambda` in 0..1; 0 keeps the order.
        k: Items to choose.
    """
    n, m = candidates.items.shape
    present = candidates.items >= 0
    k = min(k, m)
    if n == 0 or k == 0:
        return candidates.best(k)
    length = np.linalg.norm(vectors, axis=2, keepdims=True)
    unit = vectors / np.where(length > 0, length, 1)
    high = np.where(present, candidates.scores, -np.inf).max(1, keepdims=True)
    low = np.where(present, candidates.scores, np.inf).min(1, keepdims=True)
    with np.errstate(invalid="ignore"):
        spread = np.where(np.isfinite(high - low) & (high > low), high - low, 1.0)
        relevance = np.where(present, (candidates.scores - low) / spread, -np.inf)
    nearest = np.full((n, m), -np.inf)  # the highest cosine with what was chosen
    open_ = present.copy()
    rows, chosen = np.arange(n), np.zeros((n, k), dtype=np.int64)
    for place in range(k):
        penalty = np.where(np.isfinite(nearest), nearest, 0.0)
        value = np.where(open_, (1 - diversity) * relevance - diversity * penalty, -np.inf)
        pick = value.argmax(1)
        # A session with nothing left picks a place without an item.
        pick = np.where(open_.any(1), pick, np.argmax(~present, axis=1))
        chosen[:, place] = pick
        open_[rows, pick] = False
        nearest = np.maximum(nearest, np.einsum("nmd,nd->nm", unit, unit[rows, pick]))
    left = np.arange(k) < candidates.counts[:, None]
    items = np.take_along_axis(candidates.items, chosen, axis=1)
    scores = np.take_along_axis(candidates.scores, chosen, axis=1)
    return Candidates(np.where(left, items, -1), np.where(left, scores, -np.inf))
