"""Ranks of targets when few items have evidence: only these items are compared one by one.

All other items are ordered by popularity, so it is enough to count how many are above a score. The
cost depends only on the evidence, not on the size of the catalog.
"""

from __future__ import annotations

from typing import Any, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.models.base import SessionModel
from graphseq.models.counting.counting import CountingModel, Evidence
from graphseq.ragged import ptr_of
from graphseq.typing import Floats, Ints


def has_evidence(model: SessionModel) -> TypeGuard[CountingModel]:
    """Whether a model's scores are computed from its ``evidence``, with the same ties."""
    if (
        not isinstance(model, CountingModel)
        or type(model).score_tolerance is not CountingModel.score_tolerance
    ):
        return False
    for kind in type(
        model
    ).__mro__:  # the most derived class decides: a subclass may override the scores
        if kind is CountingModel:
            return False
        if "evidence" in vars(kind):
            return model.sparse
        if "score" in vars(kind) or "evidence_scores" in vars(kind):
            return False
    return False


class EvidenceRanks:
    """Counts of better and tied items by :meth:`CountingModel.evidence`, without dense scores.

    Scores and ranks equal those of ``CountingModel.score``: items tie within the same tolerance,
    and items that are never recommended come after all others.

    Args:
        model: A model for which :func:`has_evidence` holds.
    """

    def __init__(self, model: CountingModel) -> None:
        self.model = model
        self._share: Floats | None = None

    def counts(
        self, batch: Batch, targets: Tensor, *, excluded: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Better and tied items of each target, equal to ``rank_counts`` of the scores.

        Args:
            batch: Session graphs.
            targets: Item codes, int64 [num_sessions]; -1: unknown.
            excluded: Items removed from the ranking, as row numbers and item codes, both int64 [m];
                each pair at most once.

        Returns:
            ``better`` and ``tied``, both int64 [num_sessions].

        Raises:
            ValueError: If the model is not fitted yet, or a score is NaN.
        """
        evidence = self.model.evidence(batch.to(self.model.device))
        share = self._shares(evidence)
        target = targets.cpu().numpy()
        scale = torch.as_tensor(evidence.backoff, dtype=torch.double).cpu().expand(len(target))
        better = np.empty(len(target), dtype=np.int64)
        tied = np.empty_like(better)
        row = item = np.empty(0, dtype=np.int64)
        if excluded is not None:
            row, item = (part.cpu().numpy() for part in excluded)
            order = np.argsort(row, kind="stable")
            row, item = row[order], item[order]
        start = 0
        for block in evidence.blocks:
            rows = slice(start, start + block.shape[0])
            start = rows.stop
            inside = slice(*np.searchsorted(row, [rows.start, rows.stop]))
            better[rows], tied[rows] = self._block(
                _Scores(block, share, scale[rows].numpy(), evidence.unit),
                target[rows],
                (row[inside] - rows.start, item[inside]),
            )
        return torch.from_numpy(better), torch.from_numpy(tied)

    def _shares(self, evidence: Evidence) -> Floats:
        """Popularity of every item; its distinct values are sorted once."""
        found = self.model.popularity() if evidence.share is None else evidence.share
        share = np.asarray(found.cpu().numpy(), dtype=np.float64)
        if self._share is None or not np.array_equal(share, self._share):
            self._share = share
            self._levels, counts = np.unique(share, return_counts=True)
            at_or_below = ptr_of(counts)
            self._above = (
                len(share) - at_or_below
            )  # number of items at or above each level, and none
        return share

    def _block(
        self, scores: _Scores, target: Ints, excluded: tuple[Ints, Ints]
    ) -> tuple[Ints, Ints]:
        num_rows, num_items = scores.block.shape
        own = scores.of_targets(np.maximum(target, 0))
        if np.isnan(scores.block.data).any():
            raise ValueError(
                f"Evidence must be numbers, but some of this {type(self.model).__name__} are NaN."
            )
        at = torch.from_numpy(own).unsqueeze(1)
        with np.errstate(invalid="ignore"):
            tolerance = self.model.score_tolerance(at, at).squeeze(1).numpy()
            low, high = own - tolerance, own + tolerance

        def count(row: Ints, flags: NDArray[np.bool_]) -> Ints:
            return np.bincount(row[flags], minlength=num_rows)

        row = scores.row
        better = self._num_above(high, scores.scale, strict=True)
        better += count(row, scores.value > high[row]) - count(row, scores.base > high[row])
        reached = self._num_above(low, scores.scale, strict=False)
        reached += count(row, scores.value >= low[row]) - count(row, scores.base >= low[row])
        missed = (target < 0) | (own == -np.inf)
        gone_row, gone_item = excluded
        if len(gone_row):
            theirs = scores.of(gone_row, gone_item)
            better -= count(gone_row, theirs > high[gone_row])
            is_target = gone_item == target[gone_row]
            reached -= count(gone_row, (theirs >= low[gone_row]) & ~is_target)
            missed[gone_row[is_target]] = True
        tied = reached - better - 1
        better[missed], tied[missed] = num_items, 0
        return better, tied

    def _num_above(self, bound: Floats, scale: Floats, *, strict: bool) -> Ints:
        """Numbers of items whose popularity alone scores above a bound (at it if not ``strict``).

        Rounded products increase with their factors, so that a bisection over the levels of
        popularity finds exactly the products in the scores.
        """
        low = np.zeros(len(bound), dtype=np.int64)
        high = np.full(len(bound), len(self._levels))
        while (low < high).any():
            middle = (low + high) // 2
            value = self._levels[np.minimum(middle, len(self._levels) - 1)] * scale
            above = value > bound if strict else value >= bound
            open_rows = low < high
            high = np.where(open_rows & above, middle, high)
            low = np.where(open_rows & ~above, middle + 1, low)
        # Without popularity, an item without evidence is never recommended.
        return np.where(scale > 0, self._above[low], 0)


class _Scores:
    """The scores of a block: cells with evidence, and all other cells.

    Args:
        block: Sums of evidence, [num_rows, num_items].
        share: Popularity, [num_items].
        scale: Weight of popularity in each row, [num_rows].
        unit: Unit of the sums.
    """

    def __init__(self, block: csr_matrix, share: Floats, scale: Floats, unit: float) -> None:
        self.block, self.share, self.scale, self.unit = block, share, scale, unit
        self.row: Ints = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
        self.base = self._base(self.row, block.indices)
        self.value = self._sum(self.base, block.data, self.row)

    def of_targets(self, target: Ints) -> Floats:
        """The scores of one item in each row, float64 [num_rows]."""
        rows = np.arange(len(target))
        cell = np.flatnonzero(self.block.indices == target[self.row])
        evidence = np.zeros(len(target))
        evidence[self.row[cell]] = self.block.data[cell]
        return self._sum(self._base(rows, target), evidence, rows)

    def of(self, row: Ints, item: Ints) -> Floats:
        """The scores of any cells, float64 [n]."""
        width = self.block.shape[1]
        key = self.row * width + self.block.indices
        order = np.argsort(key, kind="stable")
        wanted = row * width + item
        place = np.searchsorted(key, wanted, sorter=order)
        found = place < len(order)
        cell = order[place[found]]
        evidence = np.zeros(len(row))
        evidence[found] = np.where(key[cell] == wanted[found], self.block.data[cell], 0.0)
        return self._sum(self._base(row, item), evidence, row)

    def _base(self, row: Ints, item: NDArray[Any]) -> Floats:
        """The score of a cell from popularity alone; ``-inf`` if popularity has no weight."""
        scale = self.scale[row]
        return np.where(scale > 0, self.share[item] * scale, -np.inf)

    def _sum(self, base: Floats, evidence: Floats, row: Ints) -> Floats:
        scale = self.scale[row]
        alone = evidence * (1 / self.unit)
        total = torch.add(
            torch.from_numpy(np.where(scale > 0, base, 0.0)),
            torch.from_numpy(np.asarray(evidence, dtype=np.float64)),
            alpha=1 / self.unit,
        ).numpy()
        found: Floats = np.where(scale > 0, total, np.where(alone > 0, alone, -np.inf))
        return found
