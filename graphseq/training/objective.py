"""The loss of one batch: what is compared with what, for every loss by name."""

from __future__ import annotations

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
    """A loss over negatives that all rows of a batch share, or, for a model that scores candidates
    in a way of its own, over negatives of each row's own.

    A negative that equals the row's own target does not count for that row; the authors' program
    of GRU4Rec counts it.

    Args:
        name: ``"sampled_softmax"``, ``"bpr"``, ``"top1"``, ``"bpr_max"``, ``"top1_max"``, ``"bce"``
            or ``"gbce"``.
        num_negatives: Negatives a batch, or a row.
        alpha: Negatives are drawn in proportion to ``count ** alpha``; 0 draws all items alike.
        logq: Whether scores are corrected by the log of how often an item is drawn, which takes
            the bias out of popular negatives; for the softmax alone.
        options: Further arguments of the loss: ``regularization``, ``elu``, ``t``.

    Raises:
        ValueError: If the name is none of these, or ``logq`` is asked of another loss.
    """

    name: str = "sampled_softmax"
    num_negatives: int = 256
    alpha: float = 0.75
    logq: bool | None = None
    options: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in SAMPLED_LOSSES:
            raise ValueError(
                f"A sampled loss is one of {', '.join(SAMPLED_LOSSES)}, got {self.name!r}."
            )
        if self.logq and self.name != "sampled_softmax":
            raise ValueError(f"logq corrects sampled_softmax alone, not {self.name!r}.")

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
        if isinstance(loss, SampledLoss):
            if loss.alpha and catalog is None:
                raise ValueError(
                    "Negatives in proportion to popularity need training counts, and these batches "
                    "come without: pass a split or sessions, or use SampledLoss(alpha=0)."
                )
            counts = num_items if catalog is None or not loss.alpha else catalog.counts
            self.sampler = NegativeSampler(counts, loss.num_negatives, alpha=loss.alpha, seed=seed)

    def __call__(self, model: SessionModel, batch: Batch, epoch: int, step: int) -> Tensor:
        """The mean loss over the targets of this batch, a scalar.

        Args:
            model: The model.
            batch: Session graphs with ``y``, one target a session or one a click.
            epoch, step: What the negatives depend on, beside the seed.
        """
        if not scores_by_table(model):
            return self._by_score(model, batch, epoch, step)
        generator = step_generator(self.seed, epoch, step)
        vectors, targets = model.training_vectors(batch, generator)  # [n, d], [n]
        known = targets >= 0
        if not bool(known.all()):
            vectors, targets = vectors[known], targets[known]
        weight, bias = model.item_weight(), model.item_bias()
        if self.sampler is None or not isinstance(self.loss, SampledLoss):
            return losses.full_cross_entropy(vectors, weight, targets, bias)
        negatives = self.sampler.sample(epoch, step).to(targets.device)  # [N]
        positive, negative, mask = shared_scores(
            vectors, weight, bias, targets, negatives, log_q=self._log_q(targets.device)
        )
        return self._sampled(positive, negative, mask)

    def _by_score(self, model: SessionModel, batch: Batch, epoch: int, step: int) -> Tensor:
        """The loss of a model that scores sessions against candidates in a way of its own."""
        targets = batch.y
        known = targets >= 0
        if self.sampler is None:
            scores = model.score(batch)  # [num_sessions, V]
            return torch.nn.functional.cross_entropy(scores[known], targets[known])
        size = (targets.numel(), self.sampler.num_negatives)
        negatives = self.sampler.sample(epoch, step, size).to(targets.device)  # [num_sessions, N]
        candidates = torch.cat([targets.clamp(min=0).unsqueeze(1), negatives], dim=1)
        scores = model.score(batch, candidates)  # [num_sessions, 1 + N]
        log_q = self._log_q(targets.device)
        if log_q is not None:
            scores = scores - log_q[candidates]
        mask = negatives != targets.unsqueeze(1)
        return self._sampled(scores[known, 0], scores[known, 1:], mask[known])

    def _log_q(self, device: torch.device) -> Tensor | None:
        if self.sampler is None or not isinstance(self.loss, SampledLoss) or not self.loss.corrects:
            return None
        return self.sampler.log_q.to(device)  # [V]

    def _sampled(self, positive: Tensor, negatives: Tensor, mask: Tensor) -> Tensor:
        assert isinstance(self.loss, SampledLoss)
        options: dict[str, Any] = dict(self.loss.options)
        if self.loss.name == "gbce":
            options.setdefault("num_items", self.num_items)
        return SAMPLED_LOSSES[self.loss.name](positive, negatives, mask, **options)


def step_generator(seed: int, epoch: int, step: int) -> torch.Generator:
    """The random numbers of one training step: a function of seed, epoch and step alone."""
    state = np.random.SeedSequence((seed, epoch, step, 1)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def scores_by_table(model: SessionModel) -> bool:
    """Whether scores are inner products with an item table, so that none need be kept for all."""
    return (
        type(model).item_weight is not SessionModel.item_weight
        and type(model).score is SessionModel.score
        and type(model).score_vectors is SessionModel.score_vectors
    )
