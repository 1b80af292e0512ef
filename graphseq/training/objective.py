"""The loss of one batch: what is compared with what, for every loss by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data.catalog import Catalog
from graphseq.models.base import SessionModel
from graphseq.training import losses
from graphseq.training.negatives import NegativeSampler, shared_scores
from graphseq.training.sampled_softmax import shared_sampled_softmax

SAMPLED_LOSSES: dict[str, Callable[..., Tensor]] = {
    "sampled_softmax": losses.sampled_softmax,
    "bpr": losses.bpr,
    "top1": losses.top1,
    "bpr_max": losses.bpr_max,
    "top1_max": losses.top1_max,
    "bce": losses.bce,
    "gbce": losses.gbce,
}
"""Losses over one positive and some negatives, by name."""

LOSSES = ("cross_entropy", *SAMPLED_LOSSES)
"""Names that ``fit(loss=...)`` takes."""


@dataclass(frozen=True)
class SampledLoss:
    r"""A loss over negatives that all rows of a batch share, or over some of each row's own.

    With ``logq``, the log of how often a row is expected to meet an item leaves its score, drawn or
    in the batch: of item j with :math:`c_j` clicks among n rows and N draws

    .. math::
        r_j - \log \Big(N \frac{c_j^\alpha}{\sum_k c_k^\alpha}
            + (n - 1) \frac{c_j}{\sum_k c_k}\Big)

    where the second term is there with ``in_batch`` alone. GRU4Rec's program (Hidasi & Karatzoglou,
    CIKM 2018) takes :math:`\log c_j` off scores of the batch's targets and :math:`\alpha \log c_j`
    off those drawn. That is the same for either kind alone, as a softmax cancels a constant; of
    both together the program weighs the kinds by these constants, here each item counts once.

    Args:
        name: ``"sampled_softmax"``, ``"bpr"``, ``"top1"``, ``"bpr_max"``, ``"top1_max"``, ``"bce"``
            or ``"gbce"``.
        num_negatives: Negatives drawn for a batch, or a row.
        alpha: Negatives are drawn in proportion to ``count ** alpha``; 0 draws all items alike.
        logq: Whether scores are corrected by the log of how often an item is drawn, which takes
            the bias out of popular negatives; for the softmax alone.
        options: Further arguments of the loss: ``regularization``, ``elu``, ``t``.
        in_batch: Whether the targets of all other rows are negatives too (Hidasi et al., ICLR
            2016); their scores are [n, n + num_negatives] for n rows.
        mask_collisions: Whether a negative that equals the row's own target does not count for
            that row; in the authors' program of GRU4Rec it counts.
        shared: Whether all n rows of a batch meet the same draws; ``None``: yes, but for a ranker
            of pairs, whose work grows with every pair. Draws of each row's own hold n N embeddings
            of d numbers, 105 MB for 512 rows, 512 draws and d = 100, and as much in gradients.

    Raises:
        ValueError: If the name is none of these, ``logq`` is asked of another loss, or there are
            no negatives at all.
    """

    name: str = "sampled_softmax"
    num_negatives: int = 256
    alpha: float = 0.75
    logq: bool | None = None
    options: Mapping[str, float] = field(default_factory=dict)
    in_batch: bool = False
    mask_collisions: bool = True
    shared: bool | None = None

    def __post_init__(self) -> None:
        if self.name not in SAMPLED_LOSSES:
            raise ValueError(
                f"A sampled loss is one of {', '.join(SAMPLED_LOSSES)}, got {self.name!r}."
            )
        if self.logq and self.name != "sampled_softmax":
            raise ValueError(f"logq corrects sampled_softmax alone, not {self.name!r}.")
        if self.num_negatives < (0 if self.in_batch else 1):
            raise ValueError(
                f"num_negatives must be at least 1, or 0 with in_batch=True, got "
                f"{self.num_negatives}."
            )

    @property
    def corrects(self) -> bool:
        """``logq`` where it was given, else: yes for the softmax."""
        return self.name == "sampled_softmax" if self.logq is None else self.logq


class Objective:
    """The loss of a batch of session graphs for a model.

    Args:
        loss: ``"cross_entropy"`` (exact, over all items), the name of a sampled loss in its default
            form, or a :class:`SampledLoss`.
        num_items: Items of the model.
        catalog: Training counts, which sampled losses need where ``alpha`` is not 0.
        seed: Seed of the negatives.

    Raises:
        ValueError: If there is no such loss, or it needs counts that are not there.
    """

    def __init__(
        self, loss: str | SampledLoss, num_items: int, catalog: Catalog | None, seed: int
    ) -> None:
        if isinstance(loss, str) and loss != "cross_entropy":
            if loss not in SAMPLED_LOSSES:
                raise ValueError(f"loss is one of {', '.join(LOSSES)}, got {loss!r}.")
            loss = SampledLoss(loss)
        self.loss = loss
        self.num_items = num_items
        self.seed = seed
        self.sampler: NegativeSampler | None = None
        self._log_share: Tensor | None = None  # of each item among the targets, [V]
        if not isinstance(loss, SampledLoss):
            return
        if loss.num_negatives:
            if loss.alpha and catalog is None:
                raise ValueError(
                    "Negatives in proportion to popularity need training counts, and these batches "
                    "come without: pass a split or sessions, or use SampledLoss(alpha=0)."
                )
            counts = num_items if catalog is None or not loss.alpha else catalog.counts
            self.sampler = NegativeSampler(counts, loss.num_negatives, alpha=loss.alpha, seed=seed)
        if loss.in_batch and loss.corrects:
            if catalog is None:
                raise ValueError(
                    "The correction of negatives of the batch needs training counts, and these "
                    "batches come without: pass a split or sessions, or use "
                    "SampledLoss(in_batch=True, logq=False)."
                )
            # Targets come in proportion to clicks: one draw with alpha = 1.
            self._log_share = NegativeSampler(catalog.counts, 1, alpha=1.0).log_q

    def __call__(self, model: SessionModel, batch: Batch, epoch: int, step: int) -> Tensor:
        """The mean loss over the targets of this batch, a scalar.

        Args:
            model: The model.
            batch: Session graphs with ``y``, one target a session or one a click.
            epoch, step: What the negatives depend on, beside the seed.
        """
        if not model.scores_by_table:
            return self._by_score(model, batch, epoch, step)
        generator = step_generator(self.seed, epoch, step)
        vectors, targets = model.training_vectors(batch, generator)  # [n, d], [n]
        known = targets >= 0
        if not bool(known.all()):
            vectors, targets = vectors[known], targets[known]
        if not isinstance(self.loss, SampledLoss):
            weight, bias = model.item_weight(), model.item_bias()
            return losses.full_cross_entropy(vectors, weight, targets, bias)
        if not self._shares(model):
            negatives = self._negatives(targets, epoch, step, rows=targets.numel())  # [n, N]
            candidates = torch.cat([targets.unsqueeze(1), negatives], dim=1)
            return self._of_each(model.score_vectors(vectors, candidates), candidates)
        bias = model.item_bias()
        negatives = self._negatives(targets, epoch, step)  # [N], with the batch's [n + N]
        drawn = torch.cat([targets, negatives])
        rows = model.item_rows(drawn)  # one look-up, so one gradient: [n + N, d]
        offset = None if bias is None else bias[drawn]  # [n + N]
        log_q = self._log_q(drawn, targets.numel())
        if log_q is not None:
            offset = -log_q if offset is None else offset - log_q
        if self.loss.name == "sampled_softmax" and self.loss.mask_collisions:
            own, other = rows[: targets.numel()], rows[targets.numel() :]
            offsets = (None, None) if offset is None else offset.split([len(own), len(other)])
            return shared_sampled_softmax(vectors, own, other, targets, negatives, *offsets)
        return self._sampled(*shared_scores(vectors, rows, targets, negatives, offset))

    def _by_score(self, model: SessionModel, batch: Batch, epoch: int, step: int) -> Tensor:
        """The loss of a model that scores sessions against candidates in a way of its own."""
        targets = batch.y
        known = targets >= 0
        if not isinstance(self.loss, SampledLoss):
            scores = model.score(batch)  # [num_sessions, V]
            return torch.nn.functional.cross_entropy(scores[known], targets[known])
        if not self._shares(model):
            negatives = self._negatives(targets[known], epoch, step, rows=targets.numel())
            candidates = torch.cat([targets.clamp(min=0).unsqueeze(1), negatives], dim=1)
            scores = model.score(batch, candidates)  # [num_sessions, 1 + N]
            return self._of_each(scores[known], candidates[known])
        targets = targets[known]  # [n]
        negatives = self._negatives(targets, epoch, step)  # [N]
        candidates = torch.cat([targets, negatives])
        scores = model.score(batch, candidates)[known]  # [n, n + N]
        log_q = self._log_q(candidates, targets.numel())
        if log_q is not None:
            scores = scores - log_q
        mask = negatives != targets.unsqueeze(1)
        return self._sampled(scores.diagonal(), scores[:, targets.numel() :], mask)

    def _of_each(self, scores: Tensor, candidates: Tensor) -> Tensor:
        """The loss of scores of each row's own candidates, its target first: [n, 1 + N] both."""
        log_q = self._log_q(candidates, len(candidates))
        if log_q is not None:
            scores = scores - log_q
        return self._sampled(scores[:, 0], scores[:, 1:], candidates[:, 1:] != candidates[:, :1])

    def _shares(self, model: SessionModel) -> bool:
        assert isinstance(self.loss, SampledLoss)
        if self.loss.shared is None:
            return model.trained_on != "pairs"
        return self.loss.shared

    def _negatives(self, targets: Tensor, epoch: int, step: int, rows: int | None = None) -> Tensor:
        """Items that rows compete with, the batch's targets first: [n + N], or [rows, n + N]."""
        assert isinstance(self.loss, SampledLoss)
        negatives = targets if self.loss.in_batch else targets[:0]
        if rows is not None:
            negatives = negatives.expand(rows, -1)
        if self.sampler is not None:
            shape = None if rows is None else (rows, self.sampler.num_negatives)
            drawn = self.sampler.sample(epoch, step, shape).to(targets.device)
            negatives = torch.cat([negatives, drawn], dim=-1)
        return negatives

    def _log_q(self, items: Tensor, num_targets: int) -> Tensor | None:
        """Log of the times that one of these rows is expected to meet each item as a negative.

        Of the items asked for alone, so that a step costs the same however many others there are.
        """
        if not isinstance(self.loss, SampledLoss) or not self.loss.corrects:
            return None
        log_q = None if self.sampler is None else self.sampler.log_q.to(items.device)[items]
        if self._log_share is None:
            return log_q
        others = self._log_share.to(items.device)[items] + math.log(max(num_targets - 1, 1))
        return others if log_q is None else torch.logaddexp(log_q, others)

    def _sampled(self, positive: Tensor, negatives: Tensor, mask: Tensor) -> Tensor:
        assert isinstance(self.loss, SampledLoss)
        if not self.loss.mask_collisions:
            mask = torch.ones_like(mask)
            if self.loss.in_batch:
                mask[:, : len(mask)].fill_diagonal_(False)  # a row's own target is none
        options: dict[str, Any] = dict(self.loss.options)
        if self.loss.name == "gbce":
            options.setdefault("num_items", self.num_items)
        return SAMPLED_LOSSES[self.loss.name](positive, negatives, mask, **options)


def step_generator(seed: int, epoch: int, step: int) -> torch.Generator:
    """The random numbers of one training step: a function of seed, epoch and step alone."""
    state = np.random.SeedSequence((seed, epoch, step, 1)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))
