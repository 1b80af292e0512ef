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


class ExhaustiveIndex(Index):
    """An index that looks at every item; ties are in the order of codes, as in ``recommend``.

    Items with equal vectors tie, also where rounding puts their products apart. One item more than
    asked tells whether the last place may be shared. Only then are all products of the query
    compared.
    """

    _longest: tuple[int, float] | None = None

    def _search(self, queries: Floats, k: int) -> tuple[Codes, Floats]:
        rows, scores = self._highest(queries, min(k + 1, len(self)))
        shared = np.empty(0, dtype=np.int64)
        if scores.shape[1] > k:
            shared = np.flatnonzero(scores[:, k - 1] - scores[:, k] <= self._reach(queries))
        rows, scores = rows[:, :k], scores[:, :k]
        if len(shared):
            rows[shared], scores[shared] = self._settled(queries[shared], k)
        order = np.lexsort((self._items[rows], -scores), axis=1)
        return np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)

    def _reach(self, queries: Floats) -> Floats:
        """How far rounding may put products of equal rows apart, per query, float32 [n]."""
        if self._longest is None or self._longest[0] != self.revision:
            length = torch.linalg.vector_norm(self._vectors(), dim=1).max()
            self._longest = (self.revision, float(length))
        roundings = (self.width + 8) * float(np.finfo(np.float32).eps)
        return np.linalg.norm(queries, axis=1) * (roundings * self._longest[1])

    def _settled(self, queries: Floats, k: int) -> tuple[Codes, Floats]:
        """The best ``k`` rows of all, by the rule of :mod:`graphseq.models.use.ties`."""
        table = self._vectors()
        alive = np.flatnonzero(self._alive)
        column = torch.from_numpy(alive[np.argsort(self._items[alive], kind="stable")])
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        at_once = max(1, MAX_SCORES // len(table))
        for start in range(0, len(queries), at_once):
            vectors = torch.from_numpy(queries[start : start + at_once])
            ties = TableTies(vectors, lambda columns: (table[column[columns]], None))
            query, place, value = stable_topk((vectors @ table.T)[:, column], k, share=ties.share)
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
