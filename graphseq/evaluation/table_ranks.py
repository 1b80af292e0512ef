"""Places of targets under inner products with an item table, whose scores are never held."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import linear

from graphseq.evaluation.rank_counts import rank_counts
from graphseq.models.use.ties import first_equal

ROWS_AT_ONCE = 2048
"""Vectors multiplied at once: a product of fewer costs up to a fourth more for each."""

ITEMS_AT_ONCE = 1024
"""Items multiplied at once: a tile of scores is compared while the cache still holds it."""

OWN_AT_ONCE = 64
"""Vectors multiplied at once with their own targets, of which only the diagonal is wanted."""

FEWEST_ROWS = 32
"""Below so many vectors a product takes other paths for other shapes, and rounds differently."""

MOST_SCORES = 2**24
"""Scores held at once where they are held."""


class TableRanks:
    r"""Ranks of targets by :math:`r = W x + b`, for many blocks of vectors against one table.

    On a CPU the product is made tile by tile and each tile is compared with the targets' scores at
    once. These are needed before their own tile is made; they come from a product of the targets'
    rows alone, and where one does not turn out equal to its own tile's, to the last bit, that row
    is done again with all its scores held. Counts are thus exact counts of one set of scores, as
    those of :func:`~graphseq.evaluation.rank_counts`; items with equal rows and biases have one
    score in it, that of the first of them (:mod:`graphseq.models.use.ties`).

    Args:
        weight: The item table W, [num_items, d].
        bias: Of each item, [num_items], or ``None``.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.weight = weight.detach()
        self.bias = None if bias is None else bias.detach()
        self._largest = float(torch.linalg.vector_norm(self.weight, dim=1).max())
        if self.bias is not None:
            self._largest += float(self.bias.abs().max())
        first = first_equal(self.weight, self.bias)
        self._equal = (first != torch.arange(len(first), device=first.device)).nonzero().view(-1)
        self._first = first[self._equal]  # of each of these
        self._shared, self._column = self._first.unique(return_inverse=True)
        # The scores of items that others share are held for a block of rows.
        self._rows = min(ROWS_AT_ONCE, max(1, MOST_SCORES // max(1, len(self._shared))))
        self._tiled = weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.float64)

    def counts(
        self, vectors: Tensor, targets: Tensor, *, excluded: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Better and tied items of each target, as ``rank_counts`` of the scores.

        Args:
            vectors: [n, d].
            targets: Item codes, int64 [n]; -1: unknown.
            excluded: Row numbers and item codes that leave the ranking, both int64 [m].

        Returns:
            ``better`` and ``tied``, both int64 [n].

        Raises:
            ValueError: If a score is NaN or a target is no item.
        """
        better = torch.empty(len(vectors), dtype=torch.long, device=vectors.device)
        tied = torch.empty_like(better)
        for rows, part in _cut(len(vectors), self._rows, excluded):
            better[rows], tied[rows] = self._block(vectors[rows], targets[rows], part)
        return better, tied

    def _block(
        self, vectors: Tensor, targets: Tensor, excluded: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        # By Cauchy and Schwarz no score is larger than this: none is infinite or NaN.
        largest = float(torch.linalg.vector_norm(vectors, dim=1).max()) * self._largest
        safe = largest + self._largest < torch.finfo(vectors.dtype).max / 2
        if not self._tiled or not safe or len(vectors) < FEWEST_ROWS:
            return self._held(vectors, targets, excluded)
        better, tied, differs = self._by_tiles(vectors, targets, excluded)
        again = differs.nonzero().view(-1)
        if len(again):
            part = None
            if excluded is not None:
                place = torch.full((len(vectors),), -1).index_copy_(
                    0, again, torch.arange(len(again))
                )
                row = place[excluded[0]]
                part = row[row >= 0], excluded[1][row >= 0]
            better[again], tied[again] = self._held(vectors[again], targets[again], part)
        return better, tied

    def _held(
        self, vectors: Tensor, targets: Tensor, excluded: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        better = torch.empty(len(vectors), dtype=torch.long, device=vectors.device)
        tied = torch.empty_like(better)
        for rows, part in _cut(len(vectors), max(1, MOST_SCORES // len(self.weight)), excluded):
            scores = linear(vectors[rows], self.weight, self.bias)
            scores[:, self._equal] = scores[:, self._first]
            better[rows], tied[rows] = rank_counts(scores, targets[rows], excluded=part)
        return better, tied

    def _by_tiles(
        self, vectors: Tensor, targets: Tensor, excluded: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Better, tied, and whether a target's score was not the one of its tile, all [n]."""
        known = targets.clamp(min=0)
        shared = vectors.new_empty(len(vectors), len(self._shared))
        own = self._own(vectors, known)  # [n]
        mine = own.unsqueeze(1).contiguous()  # [n, 1]
        met = torch.empty_like(own)  # the targets' scores as their tiles have them
        better = torch.zeros(len(vectors), dtype=torch.long)
        reached = torch.zeros_like(better)  # scores as high as the target's, its own included
        by_target = _Cuts(known)
        by_item = None if excluded is None else _Cuts(excluded[1])

        scores = vectors.new_empty(len(vectors), min(ITEMS_AT_ONCE, len(self.weight)))
        flags = torch.empty_like(scores)
        for start in range(0, len(self.weight), ITEMS_AT_ONCE):
            items = self.weight[start : start + ITEMS_AT_ONCE]
            end = start + len(items)
            tile = torch.mm(vectors, items.t(), out=scores[:, : len(items)])  # [n, tile]
            if self.bias is not None:
                tile += self.bias[start:end]
            if len(self._shared):
                low, high = _range(self._shared, start, end)
                shared[:, low:high] = tile[:, self._shared[low:high] - start]
                low, high = _range(self._equal, start, end)
                tile[:, self._equal[low:high] - start] = shared[:, self._column[low:high]]
            flag = flags[:, : len(items)]
            better += torch.gt(tile, mine, out=flag).sum(1).long()
            reached += torch.ge(tile, mine, out=flag).sum(1).long()
            row = by_target.within(start, end)
            met[row] = tile[row, known[row] - start]
            if excluded is not None and by_item is not None:
                pair = by_item.within(start, end)
                row, item = excluded[0][pair], excluded[1][pair]
                theirs = tile[row, item - start]
                better.index_add_(0, row, (theirs > own[row]).long(), alpha=-1)
                # The target is taken off below, once for all.
                other = (theirs >= own[row]) & (item != known[row])
                reached.index_add_(0, row, other.long(), alpha=-1)

        tied = reached - better - 1
        missed = targets < 0
        if excluded is not None:
            missed[excluded[0][excluded[1] == targets[excluded[0]]]] = True
        better[missed] = len(self.weight)
        tied[missed] = 0
        return better, tied, (met != own) & ~missed

    def _own(self, vectors: Tensor, items: Tensor) -> Tensor:
        """The score of one item for each vector, [n], as a product of many has it."""
        parts = max(1, len(vectors) // OWN_AT_ONCE)  # none is too small to round as a tile does
        pairs = zip(vectors.tensor_split(parts), items.tensor_split(parts), strict=True)
        own = torch.cat([torch.mm(x, self.weight[item].t()).diagonal() for x, item in pairs])
        return own if self.bias is None else own + self.bias[items]


def _cut(
    num_rows: int, step: int, excluded: tuple[Tensor, Tensor] | None
) -> Iterator[tuple[slice, tuple[Tensor, Tensor] | None]]:
    """So many rows at a time, and what is excluded of these, by their place among them."""
    for start in range(0, num_rows, step):
        part = None
        if excluded is not None:
            inside = (excluded[0] >= start) & (excluded[0] < start + step)
            part = excluded[0][inside] - start, excluded[1][inside]
        yield slice(start, start + step), part


class _Cuts:
    """Where items lie in a list, cut by ranges of items."""

    def __init__(self, items: Tensor) -> None:
        self.ordered, self.order = items.sort()

    def within(self, start: int, end: int) -> Tensor:
        """Places in the list of items start..end - 1."""
        low, high = _range(self.ordered, start, end)
        return self.order[low:high]


def _range(ordered: Tensor, start: int, end: int) -> tuple[int, int]:
    """Where items start..end - 1 lie in an ascending list."""
    low, high = torch.searchsorted(ordered, torch.tensor([start, end])).tolist()
    return low, high
