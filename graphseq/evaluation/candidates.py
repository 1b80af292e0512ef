"""Candidates drawn for every target, among which sampled metrics rank it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphseq.evaluation.protocol import Protocol
from graphseq.random import integers, substreams, uniform, words_of
from graphseq.typing import Ints

ROUNDS = 24
"""Draws of a row before the exact method is used: popular items are often drawn twice."""


class CandidateDraw:
    """The candidates of each target, which depend only on the seed and the case.

    Args:
        protocol: Its ``candidates``, ``sampling`` and ``seed``.
        num_items: Items of the catalog.
        counts: Training counts of the items [num_items]; ``None``: unknown.

    Raises:
        ValueError: If there are too few items to draw from, or no counts for ``"popularity"``.
    """

    def __init__(
        self, protocol: Protocol, num_items: int, counts: NDArray[Any] | None = None
    ) -> None:
        self.size = int(protocol.candidates)
        self._key = words_of("candidates", protocol.seed)
        self._num_items = num_items
        weight = np.ones(num_items)
        if protocol.sampling == "popularity":
            if counts is None:
                raise ValueError(
                    "Candidates by popularity need training counts, but the model has no catalog: "
                    "fit it, attach model.catalog, or draw 'uniform'."
                )
            weight = np.asarray(counts, dtype=np.float64)
        drawable = int((weight > 0).sum())
        if self.size > drawable - 1:
            raise ValueError(
                f"{self.size} candidates besides the target cannot be drawn from {drawable} items "
                f"({protocol.sampling}): draw fewer, or rank all of them."
            )
        self._weight = weight
        self._draw: Callable[..., Ints] = self._uniform
        if protocol.sampling == "popularity":
            self._cumulated = np.cumsum(weight)
            self._draw = self._popular

    def of(self, case: Ints, target: Ints) -> Ints:
        """The candidates of cases, int64 [n, size], distinct and without the target.

        Args:
            case: Numbers of the cases, int64 [n].
            target: Their targets, int64 [n]; -1: unknown.
        """
        streams = substreams(self._key, case)
        found = np.full((len(case), self.size), -1, dtype=np.int64)
        open_rows = np.arange(len(case))
        for turn in range(ROUNDS):
            counter = turn * self.size + np.arange(self.size)
            drawn = self._draw(streams[open_rows, None], counter)
            found[open_rows] = np.where(found[open_rows] < 0, drawn, found[open_rows])
            bad = _repeats(found[open_rows]) | (found[open_rows] == target[open_rows, None])
            rows = open_rows[bad.any(1)]
            if len(rows) == 0:
                return found
            part = found[open_rows]
            part[bad] = -1
            found[open_rows] = part
            open_rows = rows
        for (
            row
        ) in open_rows:  # rare: the size is near the number of items, or counts are very uneven
            found[row] = self._exact(streams[row], int(target[row]))
        return found

    def _uniform(self, streams: NDArray[np.uint64], counter: Ints) -> Ints:
        return integers(streams, counter, self._num_items)

    def _popular(self, streams: NDArray[np.uint64], counter: Ints) -> Ints:
        place = uniform(streams, counter) * self._cumulated[-1]
        return np.searchsorted(self._cumulated, place, side="right").astype(np.int64)

    def _exact(self, row: np.uint64, target: int) -> Ints:
        """Weighted draws without replacement: the largest ``u^(1/w)`` (Efraimidis et al., 2006)."""
        counter = ROUNDS * self.size + np.arange(self._num_items)
        chance = uniform(np.asarray(row), counter)
        with np.errstate(divide="ignore", invalid="ignore"):
            key = np.where(self._weight > 0, np.log(chance) / self._weight, -np.inf)
        if target >= 0:
            key[target] = -np.inf
        return np.argsort(-key, kind="stable")[: self.size]


def columns_of(row: Ints, item: Ints, target: Ints, candidates: Ints) -> tuple[Ints, Ints]:
    """Where items stand among a target and its candidates; items that do not are left out.

    Args:
        row: Row of each item, int64 [m].
        item: Item codes, int64 [m].
        target: The target of each row, int64 [n]; -1: unknown.
        candidates: Its candidates, int64 [n, size].

    Returns:
        Row and column of each that does, both int64: column 0 for the target, the candidates from 1
        on.
    """
    codes = np.concatenate([target[:, None], candidates], axis=1)
    most = max(codes.max(initial=0), item.max(initial=0)) + 1
    key = np.where(codes >= 0, codes + most * np.arange(len(codes))[:, None], -1)
    found: tuple[Ints, ...] = np.nonzero(np.isin(key, item + most * row))
    return found[0], found[1]


def _repeats(rows: Ints) -> NDArray[np.bool_]:
    """Marks numbers that occurred before in their row, bool [n, size]."""
    order = np.argsort(rows, axis=1, kind="stable")
    ordered = np.take_along_axis(rows, order, axis=1)
    again = np.zeros(rows.shape, dtype=bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    found = np.empty_like(again)
    np.put_along_axis(found, order, again, axis=1)
    return found
