"""Ranks of targets by inner products with an item table, without holding all scores in memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import linear

from graphseq.evaluation.rank_counts import rank_counts
from graphseq.models.use.ties import first_equal

Pairs = tuple[Tensor, ...]
"""Row numbers and item codes, both int64 [m], and whatever each pair has, [m]."""

ROWS_AT_ONCE = 2048
"""Vectors multiplied at once: with fewer, each costs up to a quarter more."""

ITEMS_AT_ONCE = 1024
"""Items multiplied at once: a tile of scores is compared while it is still in the cache."""

OWN_AT_ONCE = 64
"""Vectors multiplied at once with their own targets; only the diagonal is needed."""

FEWEST_ROWS = 32
"""With fewer vectors, the kernel of a product depends on its shape, and so does rounding."""

MOST_SCORES = 2**24
"""Maximum number of scores held at once, if they are held."""


class TableRanks:
    r"""Ranks of targets by :math:`r = W x + b`, for many blocks of vectors against one table.

    On a CPU the product is computed tile by tile, and each tile is compared with the targets'
    scores immediately. The targets' scores are needed before their own tile exists, so they come
    from a separate product of the targets' rows. If such a score is not bit-equal to the one in its
    tile, that row is computed again with all its scores held. Counts are therefore exact for one
    set of scores, as in :func:`~graphseq.evaluation.rank_counts`. Items with equal rows and biases
    share the score of the first of them (:mod:`graphseq.models.use.ties`).

    Args:
        weight: The item table W, [num_items, d].
        bias: Bias of each item, [num_items], or ``None``.
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
        # The scores of items with duplicates are held for a block of rows.
        self._rows = min(ROWS_AT_ONCE, max(1, MOST_SCORES // max(1, len(self._shared))))
        self._tiled = weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.float64)

    def counts(
        self,
        vectors: Tensor,
        targets: Tensor,
        *,
        added: Pairs | None = None,
        excluded: Pairs | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Better and tied items of each target, equal to ``rank_counts`` of the scores.

        Args:
            vectors: [n, d].
            targets: Item codes, int64 [n]; -1: unknown.
            added: What is added to some scores, as row numbers and item codes, both int64 [m], and
                values [m]; no pair comes twice.
            excluded: Items removed from the ranking, as row numbers and item codes, both int64 [m].

        Returns:
            ``better`` and ``tied``, both int64 [n].

        Raises:
            ValueError: If a score is NaN or a target is not an item.
        """
        better = torch.empty(len(vectors), dtype=torch.long, device=vectors.device)
        tied = torch.empty_like(better)
        for rows, more, out in _cut(len(vectors), self._rows, added, excluded):
            better[rows], tied[rows] = self._block(vectors[rows], targets[rows], more, out)
        return better, tied

    def counts_with(
        self,
        found: tuple[Tensor, Pairs],
        targets: Tensor,
        *,
        excluded: Pairs | None = None,
    ) -> tuple[Tensor, Tensor]:
        """:meth:`counts` of vectors that come together with what is added to their scores."""
        vectors, added = found
        return self.counts(vectors, targets, added=added, excluded=excluded)

    def _block(
        self, vectors: Tensor, targets: Tensor, added: Pairs | None, excluded: Pairs | None
    ) -> tuple[Tensor, Tensor]:
        # By the Cauchy-Schwarz inequality no score exceeds this bound: none is infinite or NaN.
        largest = float(torch.linalg.vector_norm(vectors, dim=1).max()) * self._largest
        if added is not None and len(added[2]):
            largest += float(added[2].abs().max())
        safe = largest + self._largest < torch.finfo(vectors.dtype).max / 2
        if not self._tiled or not safe or len(vectors) < FEWEST_ROWS:
            return self._held(vectors, targets, added, excluded)
        better, tied, differs = self._by_tiles(vectors, targets, added, excluded)
        again = differs.nonzero().view(-1)
        if len(again):
            place = torch.full((len(vectors),), -1)
            place[again] = torch.arange(len(again))
            more, out = (_at(pairs, place) for pairs in (added, excluded))
            better[again], tied[again] = self._held(vectors[again], targets[again], more, out)
        return better, tied

    def _held(
        self, vectors: Tensor, targets: Tensor, added: Pairs | None, excluded: Pairs | None
    ) -> tuple[Tensor, Tensor]:
        better = torch.empty(len(vectors), dtype=torch.long, device=vectors.device)
        tied = torch.empty_like(better)
        step = max(1, MOST_SCORES // len(self.weight))
        for rows, more, out in _cut(len(vectors), step, added, excluded):
            scores = linear(vectors[rows], self.weight, self.bias)
            scores[:, self._equal] = scores[:, self._first]
            if more is not None:
                scores[more[0], more[1]] += more[2]
            removed = None if out is None else (out[0], out[1])
            better[rows], tied[rows] = rank_counts(scores, targets[rows], excluded=removed)
        return better, tied

    def _by_tiles(
        self, vectors: Tensor, targets: Tensor, added: Pairs | None, excluded: Pairs | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Better, tied, and whether a target's score differs from the one in its tile, all [n]."""
        known = targets.clamp(min=0)
        shared = vectors.new_empty(len(vectors), len(self._shared))
        own = self._own(vectors, known)  # [n]
        if added is not None:
            of_target = added[1] == known[added[0]]
            own[added[0][of_target]] += added[2][of_target]
        mine = own.unsqueeze(1).contiguous()  # [n, 1]
        met = torch.empty_like(own)  # the targets' scores from their tiles
        better = torch.zeros(len(vectors), dtype=torch.long)
        reached = torch.zeros_like(better)  # scores as high as the target's, including its own
        starts = torch.arange(0, len(self.weight) + ITEMS_AT_ONCE, ITEMS_AT_ONCE)
        by_target = _Cuts(known, starts)
        by_item = None if excluded is None else _Cuts(excluded[1], starts)
        by_more = None if added is None else _Cuts(added[1], starts)
        by_shared, by_equal = (_Cuts(items, starts) for items in (self._shared, self._equal))

        scores = vectors.new_empty(len(vectors), min(ITEMS_AT_ONCE, len(self.weight)))
        flags = torch.empty_like(scores)
        for number, start in enumerate(starts[:-1].tolist()):
            items = self.weight[start : start + ITEMS_AT_ONCE]
            end = start + len(items)
            tile = torch.mm(vectors, items.t(), out=scores[:, : len(items)])  # [n, tile]
            if self.bias is not None:
                tile += self.bias[start:end]
            if len(self._shared):
                part = by_shared.place(number)
                shared[:, part] = tile[:, self._shared[part] - start]
                part = by_equal.place(number)
                tile[:, self._equal[part] - start] = shared[:, self._column[part]]
            if added is not None and by_more is not None:
                row, item, value = (part[by_more.within(number)] for part in added)
                tile[row, item - start] += value
            flag = flags[:, : len(items)]
            better += torch.gt(tile, mine, out=flag).sum(1).long()
            reached += torch.ge(tile, mine, out=flag).sum(1).long()
            row = by_target.within(number)
            met[row] = tile[row, known[row] - start]
            if excluded is not None and by_item is not None:
                pair = by_item.within(number)
                row, item = excluded[0][pair], excluded[1][pair]
                theirs = tile[row, item - start]
                better.index_add_(0, row, (theirs > own[row]).long(), alpha=-1)
                # The target itself is subtracted once, below.
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
        """The score of one item for each vector, [n], rounded as in a product of many."""
        parts = max(1, len(vectors) // OWN_AT_ONCE)  # no block is too small to round as a tile does
        pairs = zip(vectors.tensor_split(parts), items.tensor_split(parts), strict=True)
        own = torch.cat([torch.mm(x, self.weight[item].t()).diagonal() for x, item in pairs])
        return own if self.bias is None else own + self.bias[items]


def _cut(
    num_rows: int, step: int, added: Pairs | None, excluded: Pairs | None
) -> Iterator[tuple[slice, Pairs | None, Pairs | None]]:
    """Blocks of rows with their pairs; row numbers count within the block."""
    for start in range(0, num_rows, step):
        place = torch.full((num_rows,), -1)
        place[start : start + step] = torch.arange(len(place[start : start + step]))
        yield slice(start, start + step), _at(added, place), _at(excluded, place)


def _at(pairs: Pairs | None, place: Tensor) -> Pairs | None:
    """The pairs of some rows.

    Args:
        pairs: As given to :meth:`TableRanks.counts`.
        place: The new number of every row, or -1: its pairs are left out.
    """
    if pairs is None:
        return None
    row = place.to(pairs[0].device)[pairs[0]]
    kept = row >= 0
    return row[kept], *(part[kept] for part in pairs[1:])


class _Cuts:
    """Positions of items in a list, split by ranges of items.

    Args:
        items: Item codes, int64 [n].
        starts: The first item of each range, and an end, ascending.
    """

    def __init__(self, items: Tensor, starts: Tensor) -> None:
        ordered, self.order = items.sort()
        self._ends: list[int] = torch.searchsorted(ordered, starts).tolist()

    def place(self, number: int) -> slice:
        """Where a range lies in the list in ascending order."""
        return slice(self._ends[number], self._ends[number + 1])

    def within(self, number: int) -> Tensor:
        """Positions in the list of the items of a range."""
        return self.order[self.place(number)]
