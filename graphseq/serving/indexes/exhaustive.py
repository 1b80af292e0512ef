"""What indexes that look at every item share: of equal items, those that ``recommend`` takes."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor

from graphseq.models.use.recommend import MAX_SCORES, stable_topk
from graphseq.models.use.ties import TableTies
from graphseq.serving.indexes.base import Index
from graphseq.serving.item_vectors import Codes, Floats

SPARE = 64
"""Items that are looked at beyond twice as many as asked, where the last place may be shared."""


class ExhaustiveIndex(Index):
    """An index that looks at every item; ties are in the order of codes, as in ``recommend``.

    Items with equal vectors tie, also where rounding puts their products apart. One item more than
    asked tells whether the last place may be shared. Only then are the next ones compared too, and
    all where even these may share it.
    """

    _longest: tuple[int, float] | None = None

    def _search(self, queries: Floats, k: int) -> tuple[Codes, Floats]:
        rows, scores = self._highest(queries, min(k + 1, len(self)))
        shared = self._shares_last_place(queries, scores, k)
        rows, scores = rows[:, :k], scores[:, :k]
        if len(shared):
            near, their = self._highest(queries[shared], min(2 * k + SPARE, len(self)))
            rest = self._shares_last_place(queries[shared], their, k)
            some = np.setdiff1d(np.arange(len(shared)), rest)
            for part, among in ((some, np.unique(near[some])), (rest, np.arange(len(self._alive)))):
                if len(part):
                    found = self._settled(queries[shared[part]], k, among)
                    rows[shared[part]], scores[shared[part]] = found
        order = np.lexsort((self._items[rows], -scores), axis=1)
        return np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)

    def _shares_last_place(self, queries: Floats, scores: Floats, k: int) -> Codes:
        """The queries of which a score that is not among these may equal that of place ``k``."""
        if scores.shape[1] <= k:
            return np.empty(0, dtype=np.int64)
        return np.flatnonzero(scores[:, k - 1] - scores[:, -1] <= self._reach(queries))

    def _reach(self, queries: Floats) -> Floats:
        """How far rounding may put products of equal rows apart, per query, float32 [n]."""
        if self._longest is None or self._longest[0] != self.revision:
            length = torch.linalg.vector_norm(self._vectors(), dim=1).max()
            self._longest = (self.revision, float(length))
        roundings = (self.width + 8) * float(np.finfo(np.float32).eps)
        return np.linalg.norm(queries, axis=1) * (roundings * self._longest[1])

    def _settled(self, queries: Floats, k: int, among: Codes) -> tuple[Codes, Floats]:
        """The best ``k`` of some rows, by the rule of :mod:`graphseq.models.use.ties`."""
        alive = among[self._alive[among]]
        column = torch.from_numpy(alive[np.argsort(self._items[alive], kind="stable")])
        table = self._vectors()[column]
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        at_once = max(1, MAX_SCORES // len(table))
        for start in range(0, len(queries), at_once):
            vectors = torch.from_numpy(queries[start : start + at_once])
            ties = TableTies(vectors, lambda columns: (table[columns], None))
            query, place, value = stable_topk(vectors @ table.T, k, share=ties.share)
            rank = torch.arange(len(query)) - torch.searchsorted(query, query)
            rows[start + query.numpy(), rank.numpy()] = column[place].numpy()
            scores[start + query.numpy(), rank.numpy()] = value.numpy()
        return rows, scores

    @abstractmethod
    def _highest(self, queries: Floats, k: int) -> tuple[Codes, Floats]:
        """What :meth:`_search` gives, but for ties; both may be written to."""

    @abstractmethod
    def _vectors(self) -> Tensor:
        """All rows, float32 [n, width], also of removed items."""
