"""The loss of one batch: what is compared with what, for every loss by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data.sessions.catalog import Catalog
from graphseq.models.base import SessionModel
from graphseq.nn.precision import in_32_bits
from graphseq.random import StepGenerator, seed_of
from graphseq.training import losses
from graphseq.training.lightning.collectives import SINGLE_PROCESS
from graphseq.training.losses.shared_negatives import collisions, shared_sampled_softmax
from graphseq.training.negatives.hard_negatives import (
    ITEM_INDEXES,
    IndexNegatives,
    hardest,
    hardest_of_pool,
)
from graphseq.training.negatives.sampler import NegativeSampler, shared_scores
from graphseq.training.negatives.session_items import SeenItems
from graphseq.training.objectives.auxiliary import (
    Auxiliary,
    Step,
    check_auxiliary,
    is_aligned,
    read_step,
)
from graphseq.training.objectives.loss_choice import (
    SAMPLED_LOSSES,
    CrossEntropy,
    SampledLoss,
    as_loss,
)


class Objective:
    """The loss of a batch of session graphs for a model.

    Args:
        loss: ``"cross_entropy"`` (exact, over all items), the name of a sampled loss in its default
            form, a :class:`~graphseq.training.CrossEntropy` or a
            :class:`~graphseq.training.SampledLoss`, or either as a mapping.
        num_items: Items of the model.
        catalog: Training counts, which sampled losses need where ``alpha`` is not 0.
        seed: Seed of the negatives.
        auxiliary: Further losses, added with their weights.

    Attributes:
        parts: The loss of the next item and each further one, without its weight, of the last
            batch; nothing without further ones.
        num_targets: Targets that the last loss is the mean over.
        compares: Whether the last loss compared some target with another item. A batch of one row
            with only in-batch negatives compares none, and has a loss of 0 without gradient.
        collectives: The processes that train together.
        readers: Compiled methods of the model, by name, that are called instead of the plain ones.

    Raises:
        ValueError: If the loss is unknown, or it needs counts that are missing.
    """

    def __init__(
        self,
        loss: str | Mapping[str, Any] | CrossEntropy | SampledLoss,
        num_items: int,
        catalog: Catalog | None,
        seed: int,
        auxiliary: Sequence[Auxiliary] = (),
    ) -> None:
        check_auxiliary(auxiliary)
        self.auxiliary = auxiliary
        self.parts: dict[str, Tensor] = {}
        self.loss = loss = as_loss(loss)
        self.num_items = num_items
        self.seed = seed
        self.num_targets = self._num_rows = 0
        self.compares = True
        self.sampler: NegativeSampler | None = None
        self.from_index: IndexNegatives | None = None
        self.collectives = SINGLE_PROCESS
        self.readers: dict[str, Callable[..., Any]] = {}
        self._num_before = self._num_in_step = 0  # targets of other processes first, and of all
        self._log_share: Tensor | None = None  # of each item among the targets, [V]
        self._exposure: Tensor | None = None  # added to the score of each item, [V]
        if not isinstance(loss, SampledLoss):
            if loss.exposure:
                if catalog is None:
                    raise ValueError(
                        "CrossEntropy(exposure=...) needs training counts, and these batches come "
                        "without: pass a split or sessions."
                    )
                clicks = torch.from_numpy(catalog.counts).double() + 1
                self._exposure = (loss.exposure * (clicks / clicks.sum()).log()).float()
            return
        if loss.num_negatives:
            if loss.alpha and catalog is None:
                raise ValueError(
                    "Negatives in proportion to popularity need training counts, and these batches "
                    "come without: pass a split or sessions, or use SampledLoss(alpha=0)."
                )
            counts = num_items if catalog is None or not loss.alpha else catalog.counts
            self.sampler = NegativeSampler(
                counts,
                loss.num_negatives,
                alpha=loss.alpha,
                uniform_share=loss.uniform_share,
                seed=seed,
            )
        if loss.from_index:
            self.from_index = IndexNegatives(
                loss.from_index, loss.refresh, ITEM_INDEXES[loss.index]()
            )
        if loss.in_batch and loss.corrects:
            if catalog is None:
                raise ValueError(
                    "The correction of negatives of the batch needs training counts, and these "
                    "batches come without: pass a split or sessions, or use "
                    "SampledLoss(in_batch=True, logq=False)."
                )
            # Targets come in proportion to clicks: one draw with alpha = 1.
            self._log_share = NegativeSampler(catalog.counts, 1, alpha=1.0).log_q

    def check(self, model: SessionModel) -> None:
        """Refuses a model that this loss cannot be taken of; ``fit`` calls it before training.

        Raises:
            ValueError: If negatives of an index are asked for, and there is no table to search.
        """
        check_table(self.loss, model)

    def __call__(self, model: SessionModel, batch: Batch, epoch: int, step: int) -> Tensor:
        """The mean loss over the targets of this batch, a scalar.

        Where several processes train together (``collectives``), each calls this with its part of
        the batch of the step. What is drawn is the part of what one process would draw for all:
        masks and negatives of a row's own by its number among all rows, negatives of the batch from
        the targets of all.

        Under autocast, sessions are read in half precision. The loss itself has 32 bits, which its
        own kernels and row-sparse gradients need.

        Args:
            model: The model.
            batch: Session graphs with ``y``, one target per session or per click.
            epoch, step: What the negatives depend on, besides the seed.
        """
        generator = step_generator(self.seed, epoch, step)
        generator.first_session = self.collectives.before(batch.num_graphs, batch.y.device)
        self.compares = True
        if batch.num_graphs == 0:
            return self._of_no_session(model, batch.y)
        read: Step | None = None
        if model.trains_by_table:
            read, session = self._read(model, batch, generator, epoch)
        else:
            loss = self._by_score(model, batch, epoch, step)
        with torch.autocast(batch.y.device.type, enabled=False):
            if read is not None:
                loss = self._by_table(read, session, epoch, step)
            if not self.auxiliary:
                return loss
            read = read or read_step(model, batch, (self.seed, epoch))
            self.parts = {"next_item": loss.detach()}
            for each in self.auxiliary:
                part = each(read)
                self.parts[each.name] = part.detach()
                loss = loss + each.weight * part
            return loss

    def _read(
        self, model: SessionModel, batch: Batch, generator: StepGenerator, epoch: int
    ) -> tuple[Step, Tensor | None]:
        """The rows of a batch that have a target, and their sessions where they are asked for."""
        session: Tensor | None
        vectors, targets, session = self._reader(model, "training_rows")(batch, generator)
        if not (isinstance(self.loss, SampledLoss) and self.loss.exclude_session):
            session = None
        vectors = in_32_bits(vectors)  # [n, d], and targets [n]
        all_targets = targets.numel()
        known = (targets >= 0).nonzero().view(-1)
        aligned = bool(self.auxiliary) and is_aligned(model, batch, targets)
        if known.numel() < targets.numel():
            vectors, targets = vectors[known], targets[known]
            session = None if session is None else session[known]
        self.num_targets, self._num_rows = targets.numel(), all_targets
        return Step(model, batch, vectors, targets, known, aligned, (self.seed, epoch)), session

    def _reader(self, model: SessionModel, name: str) -> Callable[..., Any]:
        """A method of the model, compiled if it is to be."""
        found: Callable[..., Any] = self.readers.get(name) or getattr(model, name)
        return found

    def _by_table(self, read: Step, session: Tensor | None, epoch: int, step: int) -> Tensor:
        """The loss of a model whose scores are inner products."""
        model, vectors, targets = read.model, read.vectors, read.targets
        bias: Tensor | None = model.items.bias
        if not isinstance(self.loss, SampledLoss):
            if self._exposure is not None:
                seen_by = self._exposure.to(vectors)
                bias = seen_by if bias is None else bias + seen_by
            return losses.full_cross_entropy(
                vectors,
                model.items.rows(),
                targets,
                bias,
                label_smoothing=self.loss.label_smoothing,
            )
        seen = None if session is None else SeenItems(read.batch, session, targets, self.num_items)
        if self._shares(model):
            negatives = self._negatives(targets, epoch, step)  # [N], with the batch's [n + N]
            drawn = torch.cat([targets, negatives])
            rows = model.items.rows(drawn)  # one look-up, so one gradient: [n + N, d]
            offset = None if bias is None else bias[drawn]  # [n + N]
            log_q = self._log_q(drawn)
            if log_q is not None:
                offset = -log_q if offset is None else offset - log_q
            own, other = rows[: targets.numel()], rows[targets.numel() :]
            offsets = (None, None) if offset is None else offset.split([len(own), len(other)])
            if self._is_fused or self.loss.hardest is not None:
                hidden = collisions(targets, negatives) if seen is None else seen.cells(negatives)
            if self._is_fused:
                if len(hidden[0]) == len(own) * len(other):
                    return self._of_no_negative(vectors)
                return shared_sampled_softmax(
                    vectors,
                    own,
                    other,
                    targets,
                    negatives,
                    *offsets,
                    hidden=hidden,
                    label_smoothing=self.loss.label_smoothing,
                )
            if self.loss.hardest is not None:
                positive = (vectors * own).sum(1)  # [n]
                positive = positive if offsets[0] is None else positive + offsets[0]
                scores, mask = hardest_of_pool(
                    vectors, other, offsets[1], hidden, self.loss.hardest
                )
            else:
                positive, scores, _ = shared_scores(vectors, rows, targets, negatives, offset)
                scores, mask = self._that_count(scores, negatives, targets, seen)
        else:
            number = read.known + self._rows_before(model, self._num_rows, targets)
            negatives = self._negatives(targets, epoch, step, number)  # [n, N]
            candidates = torch.cat([targets.unsqueeze(1), negatives], dim=1)
            scores = self._corrected(model.items.scores(vectors, candidates), candidates)
            positive, scores = scores[:, 0], scores[:, 1:]
            scores, mask = self._that_count(scores, negatives, targets, seen)
        if self.from_index is not None:
            found = self.from_index.find(vectors, targets, model.items.rows, bias, step)
            scores = torch.cat([scores, model.items.scores(vectors, found)], dim=1)
            # What a session holds was not asked for by the search, and does not count here.
            more = torch.ones_like(found, dtype=torch.bool) if seen is None else ~seen.among(found)
            mask = torch.cat([mask, more], dim=1)
        return self._sampled(positive, scores, mask)

    def _by_score(self, model: SessionModel, batch: Batch, epoch: int, step: int) -> Tensor:
        """The loss of a model that scores sessions against candidates in its own way."""
        known = (batch.y >= 0).nonzero().view(-1)
        targets = batch.y[known]  # [n]
        score = self._reader(model, "score")
        self.num_targets = targets.numel()
        if not isinstance(self.loss, SampledLoss):
            scores = in_32_bits(score(batch))[known]  # [n, V]
            if self._exposure is not None:
                scores = scores + self._exposure.to(scores)
            smoothing = self.loss.label_smoothing
            return torch.nn.functional.cross_entropy(scores, targets, label_smoothing=smoothing)
        self.check(model)
        seen = (
            SeenItems(batch, known, targets, self.num_items) if self.loss.exclude_session else None
        )
        if self._shares(model):
            negatives = self._negatives(targets, epoch, step)  # [N]
            candidates = torch.cat([targets, negatives])
            scores = self._corrected(in_32_bits(score(batch, candidates))[known], candidates)
            positive, scores = scores.diagonal(), scores[:, targets.numel() :]
        else:
            number = known + self._rows_before(model, batch.y.numel(), targets)
            negatives = self._negatives(targets, epoch, step, number)  # [n, N]
            candidates = batch.y.clamp(min=0).unsqueeze(1).repeat(1, 1 + negatives.shape[1])
            candidates[known, 1:] = negatives  # of sessions without a target: anything
            scores = in_32_bits(score(batch, candidates))[known]  # [n, 1 + N]
            scores = self._corrected(scores, candidates[known])
            positive, scores = scores[:, 0], scores[:, 1:]
        return self._sampled(positive, *self._that_count(scores, negatives, targets, seen))

    def _of_no_negative(self, vectors: Tensor) -> Tensor:
        """The loss of a batch in which no target has an item to be compared with."""
        self.compares = False
        return vectors.new_zeros(())

    def _of_no_session(self, model: SessionModel, targets: Tensor) -> Tensor:
        """What a process without a session in a step has to do with the others; its loss is 0."""
        self.num_targets, self.parts, self.compares = 0, {}, False
        if isinstance(self.loss, SampledLoss):
            self._rows_before(model, 0, targets)
            if self.loss.in_batch:
                self._in_batch(targets)
        return torch.zeros((), device=targets.device)

    def _rows_before(self, model: SessionModel, rows: int, targets: Tensor) -> int:
        """Rows of the processes before this one, where draws depend on the number of a row."""
        return 0 if self._shares(model) else self.collectives.before(rows, targets.device)

    def _in_batch(self, targets: Tensor) -> Tensor:
        """The targets of all processes; notes which of them belong to this one."""
        self._num_before = self.collectives.before(targets.numel(), targets.device)
        everyone = self.collectives.gathered(targets)
        self._num_in_step = everyone.numel()
        return everyone

    @property
    def _is_fused(self) -> bool:
        """Whether no matrix of scores is kept."""
        loss = self.loss
        assert isinstance(loss, SampledLoss)
        return loss.name == "sampled_softmax" and loss.mask_collisions and not loss.is_hard

    def _shares(self, model: SessionModel) -> bool:
        assert isinstance(self.loss, SampledLoss)
        if self.loss.shared is None:
            return model.samples != "pairs"
        return self.loss.shared

    def _negatives(
        self, targets: Tensor, epoch: int, step: int, rows: Tensor | None = None
    ) -> Tensor:
        """Items that rows compete with, the batch's targets first: [n + N], or [n, n + N]."""
        assert isinstance(self.loss, SampledLoss)
        negatives = self._in_batch(targets) if self.loss.in_batch else targets[:0]
        if rows is not None:
            negatives = negatives.expand(rows.numel(), -1)
        if self.sampler is not None:
            drawn = self.sampler.sample(epoch, step, rows).to(targets.device)
            negatives = torch.cat([negatives, drawn], dim=-1)
        return negatives

    def _log_q(self, items: Tensor) -> Tensor | None:
        """Log of the times that one of these rows is expected to meet each item as a negative.

        Of the items asked for alone, so that a step costs the same however many others there are.
        """
        if not isinstance(self.loss, SampledLoss) or not self.loss.corrects:
            return None
        log_q = None if self.sampler is None else self.sampler.log_q.to(items.device)[items]
        if self._log_share is None:
            return log_q
        others = self._log_share.to(items.device)[items] + math.log(max(self._num_in_step - 1, 1))
        return others if log_q is None else torch.logaddexp(log_q, others)

    def _corrected(self, scores: Tensor, candidates: Tensor) -> Tensor:
        log_q = self._log_q(candidates)
        return scores if log_q is None else scores - log_q

    def _that_count(
        self, scores: Tensor, negatives: Tensor, targets: Tensor, seen: SeenItems | None
    ) -> tuple[Tensor, Tensor]:
        """Scores of negatives, [n, N], and which of them count; with ``hardest`` fewer of them.

        Args:
            scores: [n, N].
            negatives: int64 [N] or [n, N].
            targets: int64 [n].
            seen: What sessions hold, where that does not count.
        """
        assert isinstance(self.loss, SampledLoss)
        if not self.loss.mask_collisions:
            mask = torch.ones_like(scores, dtype=torch.bool)
            if self.loss.in_batch:
                own = mask[:, self._num_before : self._num_before + len(mask)]
                own.fill_diagonal_(False)  # a row's own target is not a negative
        elif seen is None:
            mask = negatives != targets.unsqueeze(1)
        elif negatives.dim() == 1:
            mask = torch.ones_like(scores, dtype=torch.bool)
            mask[seen.cells(negatives)] = False
        else:
            mask = ~seen.among(negatives)
        return (
            (scores, mask)
            if self.loss.hardest is None
            else hardest(scores, mask, self.loss.hardest)
        )

    def _sampled(self, positive: Tensor, negatives: Tensor, mask: Tensor) -> Tensor:
        assert isinstance(self.loss, SampledLoss)
        if not bool(mask.any()):
            return self._of_no_negative(positive)
        options: dict[str, Any] = dict(self.loss.options)
        if self.loss.name == "gbce":
            options.setdefault("num_items", self.num_items)
        if self.loss.label_smoothing:
            options["label_smoothing"] = self.loss.label_smoothing
        return SAMPLED_LOSSES[self.loss.name](positive, negatives, mask, **options)

    def training_state(self) -> dict[str, Tensor]:
        """What the loss carries from step to step; a checkpoint keeps it."""
        return {} if self.from_index is None else self.from_index.training_state()

    def load_training_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores what :meth:`training_state` gave."""
        if self.from_index is not None:
            self.from_index.load_training_state(state)


def check_table(loss: CrossEntropy | SampledLoss, model: SessionModel) -> None:
    """Refuses negatives of an index for a model that has no item table to search.

    Raises:
        ValueError: If the loss asks for them.
    """
    if isinstance(loss, SampledLoss) and loss.from_index and not model.trains_by_table:
        raise ValueError(
            f"from_index searches an item table, and {type(model).__name__} scores in a way of "
            "its own: use hardest, which asks its scores."
        )


def step_generator(seed: int, epoch: int, step: int) -> StepGenerator:
    """The random numbers of one training step: a function of seed, epoch and step alone."""
    generator = StepGenerator()
    generator.manual_seed(seed_of("step", seed, epoch, step))
    return generator
