"""What Lightning's loop asks of a training of session models: one step, one epoch."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data.sessions.sessions import Sessions
from graphseq.evaluation.evaluate import evaluate
from graphseq.evaluation.metrics import metric_names
from graphseq.models.base import SessionModel
from graphseq.training.lightning.chance import asks_torch, draws_of, seed_step
from graphseq.training.lightning.collectives import ALONE, Ranks, share_of
from graphseq.training.lightning.log import EVERY, MetricsLog, line_of
from graphseq.training.lightning.resumable_loader import Feed
from graphseq.training.objectives.auxiliary import measure_auxiliary
from graphseq.training.objectives.loss_choice import SampledLoss
from graphseq.training.objectives.objective import Objective
from graphseq.training.optim.optimizers import RowSparseOptimizer
from graphseq.training.optim.schedules import share_of_rate, steps_of
from graphseq.training.optim.weight_average import WeightAverage
from graphseq.training.settings import TrainingSettings, ks_of

logger = logging.getLogger(__name__)

NOT_FINITE_BATCH = "not_finite_batch.safetensors"
"""The batch at which a training ended because its loss was no number, in the folder ``out``."""

DIVERGED = 10
"""How many times the loss of the first epoch a later one is taken for the sign of divergence."""


class SessionTraining(pl.LightningModule):
    """What Lightning's loop asks: the loss of a batch, the optimiser, the end of an epoch.

    An update is a step of the optimiser: it takes in the gradients of ``accumulate`` batches, each
    weighed by its number of targets, so that it is that of one batch of them all.

    Attributes:
        epoch, step: The batch that comes next, from 0.
        updates: Steps of the optimiser so far.
        history: One row for each epoch that is over.
        waits: Whether no batch is in work and no gradient waits for others: only then do weights,
            optimiser and position belong together.
    """

    def __init__(
        self,
        model: SessionModel,
        objective: Objective,
        loader: Callable[[Ranks], Iterable[Batch]],
        validation: Sessions | None,
        settings: TrainingSettings,
        folder: Path | None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False  # the groups of batches are ours
        self.model = model
        self.objective = objective
        self.auxiliary = torch.nn.ModuleList(objective.auxiliary)
        further = [each.name for each in objective.auxiliary]
        self.part_names = ["next_item", *further] if further else []
        self.make_loader = loader
        self.validation = validation
        self.settings = settings
        self.folder = folder
        self.on_epoch: Callable[[Mapping[str, float]], object] | None = None
        self.history: list[dict[str, float]] = []
        self.best_epoch = 0
        self.best_value = -math.inf
        self.best_weights: dict[str, Tensor] | None = None
        self.several = False  # whether other processes train with this one
        self.ranks = ALONE
        self.interrupted = False
        self.metrics_log: MetricsLog | None = None
        self.identity: dict[str, Any] = {}  # what a checkpoint must be of
        self.resumed: dict[str, Any] | None = None  # the state that it goes on from
        self.optimizer: RowSparseOptimizer | None = None
        self.feed: Feed | None = None
        self.num_steps: int | None = None  # batches of an epoch
        self.epoch = self.step = self.updates = 0
        self.waits = True
        self.from_torch = settings.compile or asks_torch([model, self.auxiliary])
        self.loss_sum = torch.zeros((), dtype=torch.double)
        self.part_sums = torch.zeros(len(self.part_names), dtype=torch.double)
        self._start_epoch()

    # -- what Lightning asks for -----------------------------------------------------------------

    def setup(self, stage: str) -> None:
        if self.several:
            self.ranks = self.objective.ranks = Ranks()

    def on_fit_start(self) -> None:
        for module in (self.model, self.auxiliary):
            self.ranks.from_first([*module.parameters(), *module.buffers()])

    def train_dataloader(self) -> Feed:
        loader = self.make_loader(self.ranks)
        self.feed = Feed(loader, self.settings.seed, lambda: (self.epoch, self.step))
        return self.feed

    @property
    def trained(self) -> list[torch.nn.Parameter]:
        """What the optimiser changes: the weights of the model, then those of further losses."""
        return [*self.model.parameters(), *self.auxiliary.parameters()]

    def configure_optimizers(self) -> RowSparseOptimizer:
        settings = self.settings
        optimizer = RowSparseOptimizer(
            self.trained,
            settings.optimizer,
            settings.learning_rate,
            weight_decay=settings.weight_decay,
            max_norm=settings.gradient_clip,
        )
        if settings.ema is not None:
            optimizer.average = WeightAverage(self.trained, settings.ema)
        optimizer.watch(self.model)
        self.optimizer = optimizer
        return optimizer

    def count_steps(self) -> None:
        """Finds out how long an epoch and the whole training are, once the loader is there."""
        assert self.feed is not None
        self.num_steps = self.feed.num_steps
        self.loss_sum = self.loss_sum.to(self.device)
        self.part_sums = self.part_sums.to(self.device)
        group = self.settings.accumulate
        updates = None if self.num_steps is None else -(-self.num_steps // group)
        self.warmup, self.num_updates = steps_of(
            self.settings.schedule,
            self.settings.warmup,
            None if updates is None else updates * self.settings.max_epochs,
        )

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        self.waits = False

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        settings, step = self.settings, self.step
        # Dropout depends on nothing that ran before, or runs beside.
        seed = seed_step(settings.seed, self.epoch, step, self.ranks.rank)
        with (
            draws_of(seed, self.device, from_torch=self.from_torch),
            torch.autocast(self.device.type, enabled=False),  # reading_in says what is halved
        ):
            loss = self.objective(self.model, batch, self.epoch, step)
        own = self.objective.num_targets
        self.num_without_negatives += not self.objective.compares
        total, count = self._of_all(loss.detach().double() * own, own)
        if not bool(total.isfinite()):  # before the step spoils the weights
            self._stop_at(loss, total, batch, step)
        self.loss_sum += total
        if self.part_names:
            self.part_sums = self.part_sums + self._parts_of_all(own)
        self.num_targets += count
        if loss.requires_grad:  # a process may have no session of a small batch
            # Of several batches the sum over targets: it is divided when their number is known.
            self.manual_backward(loss * own if self._adds_up else loss)
        self.step += 1
        self.pending += 1
        self.pending_targets += count
        if self.pending == settings.accumulate or self.step == self.num_steps:
            if self.metrics_log is not None and self.updates % EVERY == 0:
                self._log({"loss": float(total) / max(count, 1)})
            self._update()
        self.waits = self.pending == 0

    def on_train_epoch_end(self) -> None:
        self.waits = False
        if self.pending:  # of a loader that did not say which batch would be its last
            self._update()
        assert self.optimizer is not None
        self._check_negatives()
        self.optimizer.settle()  # validation reads whole tables
        # Rows that caught up at other times on other processes differ in their last digits.
        self.ranks.from_first(self.optimizer.row_sparse_tensors())
        row = {
            "epoch": self.epoch + 1,
            "loss": float(self.loss_sum) / max(self.num_targets, 1),
            **{
                f"{name}_loss": total / max(self.num_targets, 1)
                for name, total in zip(self.part_names, self.part_sums.tolist(), strict=True)
            },
            "learning_rate": self._rate(self.epoch + 1),
            "targets": self.num_targets,
            "seconds": self.seconds,
            "data_seconds": self.data_seconds,
        }
        self._warn_of_divergence(row["loss"])
        value = float(row["epoch"])
        if self.validation is not None:
            value = self._validate(row)
        self.history.append(row)
        named = {name: row[name] for name in row if "seconds" not in name and name != "epoch"}
        self._log({"epoch_loss" if name == "loss" else name: named[name] for name in named})
        if value > self.best_value:
            self.best_value, self.best_epoch = value, self.epoch + 1
            # Without a validation part the last weights are the best, and the model has them.
            if self.validation is not None:
                with self._averaged():
                    self.best_weights = {
                        name: tensor.detach().cpu().clone()
                        for name, tensor in self.model.state_dict().items()
                    }
        logger.info(line_of(row, self.settings.max_epochs, self.settings.monitor, self.best_epoch))
        self.epoch, self.step = self.epoch + 1, 0
        self._start_epoch()
        self.waits = True
        ended = False
        if self.on_epoch is not None and self.ranks.rank == 0:
            ended = bool(self.on_epoch(dict(row)))
        if self.ranks.any(ended) or self.is_over:
            self.trainer.should_stop = True

    # -- parts of a step and of an epoch ---------------------------------------------------------

    def _start_epoch(self) -> None:
        self.loss_sum = torch.zeros((), dtype=torch.double, device=self.device)
        self.part_sums = torch.zeros(len(self.part_names), dtype=torch.double, device=self.device)
        self.num_targets = 0
        self.num_without_negatives = 0  # batches in which nothing is compared
        self.pending = self.pending_targets = 0
        self.earlier_seconds = self.earlier_data_seconds = 0.0  # before this run went on
        self.started = time.perf_counter()
        self.waited = 0.0 if self.feed is None else self.feed.seconds

    @property
    def seconds(self) -> float:
        """Training time in this epoch."""
        return self.earlier_seconds + time.perf_counter() - self.started

    @property
    def data_seconds(self) -> float:
        """The part of it that was spent waiting for batches."""
        waited = 0.0 if self.feed is None else self.feed.seconds - self.waited
        return self.earlier_data_seconds + waited

    @property
    def is_over(self) -> bool:
        """Whether all epochs are run, or the metric has not risen for as long as is waited for."""
        settings = self.settings
        if len(self.history) >= settings.max_epochs:
            return True
        if self.validation is None or settings.patience is None or not self.history:
            return False
        return len(self.history) - self.best_epoch >= settings.patience

    @property
    def seconds_left(self) -> float | None:
        """Training time until the last epoch is run, at the speed of this epoch."""
        if self.num_steps is None or not self.step:
            return None
        steps = (self.settings.max_epochs - self.epoch) * self.num_steps - self.step
        return self.seconds / self.step * steps

    def _rate(self, epoch: int) -> float:
        """The learning rate of the update that comes next."""
        settings = self.settings
        return settings.learning_rate * share_of_rate(
            settings.schedule, self.updates, epoch, warmup=self.warmup, total=self.num_updates
        )

    def _update(self) -> None:
        assert self.optimizer is not None
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(self.epoch)
        if self.ranks.are_several:
            self.ranks.add_gradients([p for p in self.trained if p.requires_grad])
        if self._adds_up:
            for parameter in self.trained:
                if parameter.grad is not None:
                    parameter.grad.div_(max(self.pending_targets, 1))
        optimizer = self.optimizers()
        optimizer.step()  # type: ignore[union-attr]
        optimizer.zero_grad()  # type: ignore[union-attr]
        self.pending = self.pending_targets = 0
        self.updates += 1

    def _log(self, values: dict[str, float]) -> None:
        if self.metrics_log is not None:
            rate = self._rate(self.epoch)
            self.metrics_log.write(
                {"epoch": self.epoch + 1, "step": self.updates, "learning_rate": rate} | values
            )

    @property
    def _adds_up(self) -> bool:
        """Whether an update takes in several batches, or several parts of one."""
        return self.settings.accumulate > 1 or self.ranks.are_several

    def _of_all(self, total: Tensor, count: int) -> tuple[Tensor, int]:
        """The sum of the losses, and the number, of the targets of all processes."""
        if not self.ranks.are_several:
            return total, count
        total, number = self.ranks.summed(torch.stack([total, total.new_tensor(count)]))
        return total, int(number)

    def _parts_of_all(self, own: int) -> Tensor:
        """The sum of each loss that is added up, over the targets of all processes."""
        sums = torch.zeros_like(self.part_sums)
        if own:
            sums = torch.stack([self.objective.parts[name] for name in self.part_names])
            sums = sums.double() * own
        return self.ranks.summed(sums)

    def _validate(self, row: dict[str, float]) -> float:
        assert self.validation is not None
        settings, start = self.settings, time.perf_counter()
        names = metric_names(ks_of(settings.monitor))
        # Each process ranks its own sessions.
        part = share_of(self.validation, self.ranks)
        sums = torch.zeros(len(names) + 1, dtype=torch.double)
        if part.num_targets:
            with self._averaged():
                report = evaluate(
                    self.model,
                    part,
                    ks=ks_of(settings.monitor),
                    exclude_seen=settings.exclude_seen,
                )
            means = torch.tensor([report.metrics[name] for name in names], dtype=torch.double)
            sums = torch.cat([means * report.num_cases, sums.new_tensor([report.num_cases])])
        with self._averaged():
            further = measure_auxiliary(self.model, self.objective.auxiliary, part, self.ranks)
        if self.ranks.are_several:
            sums = self.ranks.summed(sums.to(self.device)).cpu()
            means = sums[:-1] / sums[-1]
        row |= dict(zip(names, means.tolist(), strict=True)) | further
        row["validation_seconds"] = time.perf_counter() - start
        return row[settings.monitor]

    def _averaged(self) -> Any:
        """The moving average in the place of the weights, where there is one."""
        average = None if self.optimizer is None else self.optimizer.average
        return nullcontext() if average is None else average.in_place()

    def _stop_at(self, loss: Tensor, total: Tensor, batch: Batch, step: int) -> None:
        """Ends the training at a loss that is no number, and keeps the batch for a look."""
        where = ""
        own = not bool(loss.isfinite())
        flags = self.ranks.numbers(int(own), loss.device)
        guilty = flags.index(1) if any(flags) else 0  # its batch alone is worth a look
        if self.folder is not None:
            path = self.folder / NOT_FINITE_BATCH
            where = f" The batch lies in {path}."
            if self.ranks.are_several:
                where = f" The batch of process {guilty} lies in {path}."
            if guilty == self.ranks.rank:
                where = _kept(batch, path) or where
            self.ranks.any(own)  # nobody ends before it is written
        loss = loss if own else total
        raise ValueError(
            f"The loss is {loss.item()} in epoch {self.epoch + 1}, step {step}, at a learning rate "
            f"of {self._rate(self.epoch):g}: lower learning_rate or set gradient_clip.{where}"
        )

    def _check_negatives(self) -> None:
        """Says how many batches taught nothing because none of their negatives counted.

        Raises:
            ValueError: If that is so of all batches of an epoch.
        """
        without, steps = self.num_without_negatives, self.step
        if not self.ranks.any(without < steps):
            raise ValueError(
                f"In none of the {steps} batches of epoch {self.epoch + 1} was there a negative "
                "that counts, so that nothing was learnt: raise num_negatives or batch_size, or "
                "leave exclude_session out."
            )
        if without and isinstance(self.objective.loss, SampledLoss) and not self.several:
            logger.warning(
                "In %d of %d batches of epoch %d no negative counted: they taught nothing.",
                without,
                steps,
                self.epoch + 1,
            )

    def _warn_of_divergence(self, loss: float) -> None:
        """Says so when the loss is far above that of the first epoch, though it is a number."""
        if not self.history or self.ranks.rank:
            return
        first = self.history[0]["loss"]
        if loss > DIVERGED * max(first, 1.0):
            warnings.warn(
                f"The loss rose from {first:.3g} in the first epoch to {loss:.3g} in epoch "
                f"{self.epoch + 1}: training diverges; lower learning_rate or set gradient_clip.",
                stacklevel=2,
            )

    def end_workers(self) -> None:
        """Ends the processes that build batches."""
        if self.feed is not None:
            self.feed.close()

    def restore_best(self) -> None:
        """Leaves the model with the weights that it is to keep."""
        if self.optimizer is not None:
            self.optimizer.settle()
            self.optimizer.unwatch()
        if self.best_weights is not None:
            self.model.load_state_dict(self.best_weights)
        elif self.optimizer is not None and self.optimizer.average is not None:
            for parameter, average in zip(
                self.optimizer.average.parameters, self.optimizer.average.averages, strict=True
            ):
                parameter.data.copy_(average)


def _kept(batch: Batch, path: Path) -> str:
    """Writes the tensors of a batch; says why, if that cannot be done."""
    tensors = {name: value for name, value in batch.to_dict().items() if isinstance(value, Tensor)}
    try:
        save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, path)
    except (OSError, SafetensorError) as error:
        return f" The batch could not be written in {path} ({error})."
    return ""
