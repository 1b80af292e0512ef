"""A session model as Lightning trains it: the loss of a batch, the rank of each target."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, LambdaCallback
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer
from torch_geometric.data import Batch

from graphseq.data.sessions.sessions import Sessions
from graphseq.evaluation.evaluate import evaluate
from graphseq.evaluation.metrics import metric_names
from graphseq.models.base import SessionModel
from graphseq.training.lightning import resume
from graphseq.training.lightning.chance import asks_torch, callers_state, draws_of, seed_step
from graphseq.training.lightning.collectives import SINGLE_PROCESS, Collectives
from graphseq.training.lightning.data_module import SessionDataModule
from graphseq.training.lightning.distributed import check_strategy
from graphseq.training.lightning.loggers import epoch_line
from graphseq.training.lightning.precision import PRECISIONS, compiled_readers
from graphseq.training.objectives.auxiliary import Auxiliary, auxiliary_names, auxiliary_sums
from graphseq.training.objectives.loss_choice import SampledLoss
from graphseq.training.objectives.objective import Objective
from graphseq.training.optim.factory import make_optimizer, make_schedule
from graphseq.training.optim.optimizers import (
    RowSparseOptimizer,
    clip_gradients,
    sparse_tables,
)
from graphseq.training.optim.weight_average import WeightAverage
from graphseq.training.settings import TrainingSettings, ks_of

logger = logging.getLogger(__name__)

NOT_FINITE_BATCH = "not_finite_batch.safetensors"
"""The batch whose loss was NaN or infinite, in the folder ``out``."""

DIVERGED = 10
"""A loss that is this many times the loss of the first epoch is reported as divergence."""


class SessionModule(pl.LightningModule):
    """A model with its loss, optimizer and exact validation, for ``pytorch_lightning.Trainer``.

    :func:`~graphseq.training.fit.fit` is the short way. This is the long one, with a trainer of
    your own::

        module = gs.SessionModule(model, settings)
        pl.Trainer(max_epochs=2).fit(module, datamodule=gs.SessionDataModule(split, model))

    Epochs, devices and precision are the trainer's. ``gradient_clip`` and ``accumulate`` of the
    settings apply where the trainer leaves its own option out. The best weights are in the model
    when training has ended.

    An update takes in the gradients of ``accumulate_grad_batches`` batches of all processes, each
    weighed by its number of targets, as one batch of them all would be. Lightning takes the mean
    over batches whatever their size, so ``training_step`` returns the sum over targets there, and
    the gradient is divided before the optimizer's step.

    Args:
        model: A neural model; it is trained in place.
        settings: Loss, optimizer, schedule, seed, metric; ``None``: all defaults.
        auxiliary: Further losses on the same vectors.

    Attributes:
        history: One row per finished epoch, as in :class:`~graphseq.training.FitResult`.
        best_epoch: The epoch whose weights are kept, from 1; 0 before the first.
    """

    sums: Tensor  # of the losses over targets: what is trained, and each loss that is a part of it
    num_targets: int
    num_without_negatives: int  # batches in which nothing is compared

    def __init__(
        self,
        model: SessionModel,
        settings: TrainingSettings | None = None,
        *,
        auxiliary: Sequence[Auxiliary] = (),
    ) -> None:
        super().__init__()
        self.model = model
        self.settings = settings or TrainingSettings()
        self.further = list(auxiliary)
        self.auxiliary = torch.nn.ModuleList(auxiliary)
        further = [each.name for each in auxiliary]
        self.part_names = ["next_item", *further] if further else []
        self.folder: Path | None = None  # where a batch without a finite loss is kept
        self.on_epoch: Callable[[Mapping[str, float]], object] | None = None
        self.history: list[dict[str, float]] = []
        self.best_epoch = 0
        self.best_value = -math.inf
        self.best_weights: dict[str, Tensor] | None = None
        self.collectives = SINGLE_PROCESS
        self.average: WeightAverage | None = None
        self.optimizer: Optimizer | None = None
        self.early_stopping: EarlyStopping | None = None
        self.run: dict[str, Any] = {}  # what decides the updates besides the settings
        self.loaded: dict[str, Any] | None = None  # a checkpoint's part that needs the optimizer
        self.measured: dict[str, float] = {}  # by the last validation of this epoch
        self._training, self._validation = ExitStack(), ExitStack()  # temporary changes
        self._start_epoch()

    # -- before the first step -------------------------------------------------------------------

    def configure_callbacks(self) -> list[Callback]:
        """Early stopping by the settings, unless the trainer has one."""
        trainer: Any = self.trainer
        if trainer.state.fn == "fit":
            self._agree_with(trainer)
        # Lightning calls no teardown where an error ends a training.
        callbacks: list[Callback] = [LambdaCallback(on_exception=lambda *_: self.release())]
        patience = self.settings.patience
        given = any(isinstance(each, EarlyStopping) for each in trainer.callbacks)
        if patience is not None and not given:
            self.early_stopping = EarlyStopping(
                self.settings.monitor, patience=patience, mode="max", strict=False
            )
            callbacks.append(self.early_stopping)
        return callbacks

    def setup(self, stage: str) -> None:
        settings, trainer = self.settings, self.trainer
        self.collectives = Collectives() if trainer.world_size > 1 else SINGLE_PROCESS
        if stage != "fit":
            return
        self.objective = Objective(
            settings.loss,
            self.model.num_items,
            self.model.catalog,
            settings.seed,
            self.further,
        )
        self.objective.collectives = self.collectives
        self.objective.check(self.model)
        sampled = isinstance(self.objective.loss, SampledLoss)
        data = trainer.datamodule  # type: ignore[attr-defined]
        self.from_torch = settings.compile or asks_torch([self.model, self.auxiliary])
        foreign = not isinstance(data, SessionDataModule) or data.draws_from_torch
        begin = self._training.enter_context
        if self.from_torch or foreign or self.device.type != "cpu":
            begin(callers_state())
        begin(sparse_tables(self.model, sampled and isinstance(settings.optimizer, str)))
        if settings.compile:
            self.objective.readers = begin(compiled_readers(self.model, self.device.type))

    def _agree_with(self, trainer: Any) -> None:
        """Reconciles options that trainer and settings both have.

        Raises:
            ValueError: If they contradict each other, or the trainer has an option that a training
                by targets cannot have.
        """
        settings = self.settings
        precision = "32-true" if settings.precision == "32" else settings.precision
        for name, value, option, unset in (
            ("accumulate", settings.accumulate, "accumulate_grad_batches", 1),
            ("gradient_clip", settings.gradient_clip, "gradient_clip_val", None),
            ("precision", precision, "precision", "32-true"),
        ):
            theirs = getattr(trainer, option)
            applies = theirs == unset and name != "precision"  # where the trainer leaves it out
            if value not in (unset, theirs) and not applies:
                raise ValueError(
                    f"The settings have {name}={value!r}, the trainer {option}={theirs!r}: "
                    f"leave one out, or pass {option}={value!r} to the trainer."
                )
        if settings.accumulate != 1:
            trainer.accumulate_grad_batches = settings.accumulate
        if trainer.precision not in PRECISIONS:
            raise ValueError(
                f"The weights of a session model have 32 bits, got precision={trainer.precision!r} "
                f"of the trainer: use one of {', '.join(PRECISIONS)}."
            )
        check_strategy(trainer.strategy)
        if trainer.overfit_batches:
            raise ValueError(
                "overfit_batches replaces the sampler, which the order of this training comes "
                "from: use limit_train_batches."
            )

    def on_fit_start(self) -> None:
        self.train()  # Lightning leaves modules as they are, and fit leaves models in evaluation
        for module in (self.model, self.auxiliary):
            self.collectives.from_first([*module.parameters(), *module.buffers()])

    @property
    def trained(self) -> list[torch.nn.Parameter]:
        """What the optimizer changes: the weights of the model, then the weights of further
        losses."""
        return [*self.model.parameters(), *self.auxiliary.parameters()]

    def configure_optimizers(self) -> Any:
        settings = self.settings
        self.run = resume.run_of(self)
        self.optimizer = make_optimizer(self.trained, settings)
        if settings.ema is not None:
            self.average = WeightAverage(self.trained, settings.ema)
        if isinstance(self.optimizer, RowSparseOptimizer):
            self.optimizer.average = self.average
            self.optimizer.watch(self.model)
            self._training.callback(self.optimizer.unwatch)
        schedule = make_schedule(self.optimizer, settings, self._epoch_of_update, self.num_updates)
        return {"optimizer": self.optimizer, "lr_scheduler": schedule}

    def _epoch_of_update(self, update: int) -> int:
        """The epoch of the next update; after the last batch, the next epoch."""
        ended = update > 0 and self.trainer.is_last_batch
        return self.current_epoch + int(ended)

    def num_updates(self) -> int | None:
        """Updates of the whole training; ``None`` where the loader has no length."""
        trainer = self.trainer
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, SessionDataModule):
            estimated = trainer.estimated_stepping_batches
            return None if math.isinf(estimated) else int(estimated)
        batches, limit = data.num_batches, trainer.limit_train_batches
        if isinstance(limit, int):
            batches = limit if batches is None else min(batches, limit)
        elif batches is not None and limit is not None:
            batches = int(batches * limit)
        most = math.inf if trainer.max_steps == -1 else trainer.max_steps
        if batches is not None and trainer.max_epochs not in (None, -1):
            updates = -(-batches // trainer.accumulate_grad_batches)
            most = min(most, updates * trainer.max_epochs)
        return None if math.isinf(most) else int(most)

    def on_train_start(self) -> None:
        resume.load_rest(self)
        self.sums = self.sums.to(self.device)
        self.started = self._since = time.perf_counter()
        stopping = self.early_stopping
        if stopping is not None:
            assert self.settings.patience is not None
            stopping.patience = self.settings.patience  # a checkpoint may have another
            if stopping.wait_count >= stopping.patience:
                self.trainer.should_stop = True

    # -- a step ----------------------------------------------------------------------------------

    def on_train_epoch_start(self) -> None:
        self._start_epoch()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        self.data_seconds += time.perf_counter() - self._since

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch: the mean over its targets, or their sum where batches add up."""
        settings, step = self.settings, self.step
        # Dropout depends on nothing that ran before, or runs at the same time.
        seed = seed_step(settings.seed, self.current_epoch, step, self.collectives.rank)
        with draws_of(seed, self.device, from_torch=self.from_torch):
            loss = self.objective(self.model, batch, self.current_epoch, step)
        own = self.objective.num_targets
        sums = torch.zeros(1 + len(self.part_names), dtype=torch.double, device=self.device)
        if own:
            parts = [self.objective.parts[name] for name in self.part_names]
            sums = torch.stack([loss, *parts]).detach().double() * own
        sums = self.collectives.summed(torch.cat([sums, sums.new_full((1,), own)]))  # of all
        total, *_, count = sums.tolist()
        if not math.isfinite(total):  # before the step spoils the weights
            self._stop_at(float(loss), total, batch, step)
        self.sums += sums[:-1]
        self.num_targets += int(count)
        self.pending_targets += int(count)
        self.num_without_negatives += not self.objective.compares
        self.pending += 1
        self.step += 1
        self._mean = total / max(count, 1)
        if not loss.requires_grad:  # a process may have no session of a small batch
            return torch.zeros((), device=self.device, requires_grad=True)
        return loss * (own * self.collectives.size) if self._adds_up else loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        trainer: Any = self.trainer
        if trainer.loggers and self.global_step % trainer.log_every_n_steps == 0:
            row = {"loss": self._mean, "learning_rate": self.learning_rate}
            self._log(row, self.global_step)
        if self._adds_up:  # the sum over targets becomes the mean, now that their number is known
            share = self.trainer.accumulate_grad_batches / max(self.pending_targets, 1)
            for parameter in self.trained:
                if parameter.grad is not None:
                    parameter.grad.mul_(share)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips row-sparse gradients too, which Lightning and torch cannot."""
        most = self.most_gradient(gradient_clip_val)
        if most:
            clip_gradients(self.trained, most, by_value=gradient_clip_algorithm == "value")

    def most_gradient(self, gradient_clip_val: int | float | None) -> int | float | None:
        """What gradients are clipped to: by the trainer, or by the settings where it says none."""
        return self.settings.gradient_clip if gradient_clip_val is None else gradient_clip_val

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.average is not None and not isinstance(self.optimizer, RowSparseOptimizer):
            self.average.update({}, {})
        self.pending = self.pending_targets = 0

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        self._since = time.perf_counter()

    # -- validation ------------------------------------------------------------------------------

    def on_validation_start(self) -> None:
        self._validation_started = time.perf_counter()
        self._settle()
        if self.average is not None:
            self._validation.enter_context(self.average.in_place())
        self.metrics = metric_names(ks_of(self.settings.monitor))
        # Of each metric and each further loss: its sum over targets, and their number.
        self.measures = torch.zeros(2, len(self._measured_names), dtype=torch.double)

    @property
    def _measured_names(self) -> list[str]:
        return [*self.metrics, *auxiliary_names(self.further)]

    def validation_step(self, part: Sessions, batch_idx: int) -> None:
        """Ranks all items for every target of some sessions."""
        if not part.num_targets:
            return
        settings = self.settings
        with torch.autocast(self.device.type, enabled=False):
            ks = ks_of(settings.monitor)
            report = evaluate(self.model, part, ks=ks, exclude_seen=settings.exclude_seen)
            means = torch.tensor([report.metrics[n] for n in self.metrics], dtype=torch.double)
            ranks = torch.stack([means, torch.ones_like(means)]) * report.num_cases
            further = auxiliary_sums(self.model, self.further, part)
            self.measures += torch.cat([ranks, further], dim=1)

    def on_validation_epoch_end(self) -> None:
        sums, counts = self.collectives.summed(self.measures.to(self.device)).cpu()
        values = (sums / counts.clamp(min=1)).tolist()
        metrics = dict(zip(self._measured_names, values, strict=True))
        if not self.trainer.sanity_checking:
            fits = self.trainer.state.fn == "fit"
            # What Trainer.validate returns; in a training, the row of the epoch has it.
            self.log_dict(metrics, logger=not fits, sync_dist=self.collectives.are_several)
            if fits:
                self._keep_if_best(metrics)
        self._validation.close()  # before callbacks save checkpoints at the end of validation

    def _keep_if_best(self, metrics: dict[str, float]) -> None:
        self.measured = metrics
        if not self.trainer.is_last_batch:  # the row of the epoch has the last validation's
            self._log(metrics, self.global_step - 1)
        # As Lightning rounds what early stopping compares.
        value = float(torch.tensor(metrics[self.settings.monitor], dtype=torch.float32))
        if value > self.best_value:
            self.best_value, self.best_epoch = value, self.current_epoch + 1
            self.best_weights = {
                name: tensor.detach().cpu().clone()
                for name, tensor in self.model.state_dict().items()
            }

    def on_validation_end(self) -> None:
        self.validation_seconds += time.perf_counter() - self._validation_started
        self._since = time.perf_counter()

    # -- the end of an epoch ---------------------------------------------------------------------

    def on_train_epoch_end(self) -> None:
        self._check_negatives()
        self._settle()
        losses = ["loss", *(f"{name}_loss" for name in self.part_names)]
        means = (self.sums / max(self.num_targets, 1)).tolist()
        row = {
            "epoch": self.current_epoch + 1,
            **dict(zip(losses, means, strict=True)),
            "learning_rate": self.learning_rate,
            "targets": self.num_targets,
            "seconds": self.seconds,
            "data_seconds": self.data_seconds,
            **self.measured,
        }
        if self.measured:
            row["validation_seconds"] = self.validation_seconds
        self._warn_of_divergence(row["loss"])
        self.history.append(row)
        if self.best_weights is None:  # nothing is measured: the last weights are the best
            self.best_epoch = self.current_epoch + 1
        named = {name: row[name] for name in row if "seconds" not in name and name != "epoch"}
        values = {"epoch_loss" if name == "loss" else name: float(named[name]) for name in named}
        self.log_dict(values, logger=False, sync_dist=self.collectives.are_several)
        self._log(values, self.global_step - 1)
        epochs = self.trainer.max_epochs
        logger.info(epoch_line(row, epochs, self.settings.monitor, self.best_epoch))
        self._start_epoch()  # what a checkpoint holds now is the beginning of the next one
        ended = False
        if self.on_epoch is not None and self.collectives.rank == 0:
            ended = bool(self.on_epoch(dict(row)))
        if self.collectives.any(ended):
            self.trainer.should_stop = True

    def on_train_end(self) -> None:
        self.restore_best()

    def teardown(self, stage: str) -> None:
        self.release()

    def release(self) -> None:
        """Undoes the temporary changes of training and validation."""
        self._validation.close()
        self._training.close()

    def restore_best(self) -> None:
        """Gives the model its best weights."""
        if self.optimizer is not None:  # of a resumed training that was over, none ran
            resume.load_rest(self)
        if isinstance(self.optimizer, RowSparseOptimizer):
            self.optimizer.settle()
        if self.best_weights is not None:
            self.model.load_state_dict(self.best_weights)
        elif self.average is not None:
            pairs = zip(self.average.parameters, self.average.averages, strict=True)
            for parameter, average in pairs:
                parameter.data.copy_(average)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[resume.STATE] = resume.state_of(self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        resume.load_state(self, checkpoint)

    # -- parts of a step and of an epoch ---------------------------------------------------------

    def _start_epoch(self) -> None:
        self.step = self.pending = self.pending_targets = 0  # batches of this epoch, of this update
        self.sums = torch.zeros(1 + len(self.part_names), dtype=torch.double, device=self.device)
        self.num_targets = 0
        self.num_without_negatives = 0
        self.measured = {}
        self.earlier_seconds = self.data_seconds = self.validation_seconds = 0.0
        self.started = self._since = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Training time in this epoch, without validation."""
        passed = time.perf_counter() - self.started - self.validation_seconds
        return self.earlier_seconds + passed

    @property
    def learning_rate(self) -> float:
        """The learning rate of the update that comes next."""
        assert self.optimizer is not None
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def _adds_up(self) -> bool:
        """Whether an update takes in several batches, or several parts of one."""
        return self.trainer.accumulate_grad_batches > 1 or self.collectives.are_several

    def _log(self, values: Mapping[str, float], step: int) -> None:
        """Hands numbers to all loggers. Lightning's ``log`` rounds them to 32 bits, and writes
        the row of an epoch after its checkpoint: a kill between the two would lose the row."""
        for each in self.trainer.loggers:
            each.log_metrics({**values, "epoch": self.current_epoch}, step)

    def _settle(self) -> None:
        """Rows of tables catch up with the updates that they missed."""
        if isinstance(self.optimizer, RowSparseOptimizer):
            self.optimizer.settle()
            # Rows that caught up at other times on other processes differ in their last digits.
            self.collectives.from_first(self.optimizer.row_sparse_tensors())

    def _stop_at(self, loss: float, total: float, batch: Batch, step: int) -> None:
        """Stops at a loss that is NaN or infinite, and saves the batch for inspection."""
        own, where = not math.isfinite(loss), ""
        flags = self.collectives.numbers(int(own), self.device)
        guilty = flags.index(1) if any(flags) else 0  # the process whose batch is kept
        if self.folder is not None:
            path = self.folder / NOT_FINITE_BATCH
            of = f" of process {guilty}" if self.collectives.are_several else ""
            where = f" The batch{of} lies in {path}."
            if guilty == self.collectives.rank:
                where = _kept(batch, path) or where
            self.collectives.any(own)  # nobody ends before it is written
        raise ValueError(
            f"The loss is {loss if own else total} in epoch {self.current_epoch + 1}, step {step}, "
            f"at a learning rate of {self.learning_rate:g}: lower learning_rate or set "
            f"gradient_clip.{where}"
        )

    def _check_negatives(self) -> None:
        """Says how many batches taught nothing because none of their negatives counted.

        Raises:
            ValueError: If all batches of an epoch taught nothing.
        """
        without, steps, epoch = self.num_without_negatives, self.step, self.current_epoch + 1
        if not self.collectives.any(without < steps or not steps):
            raise ValueError(
                f"In none of the {steps} batches of epoch {epoch} was there a negative that "
                "counts, so that nothing was learned: raise num_negatives or batch_size, or leave "
                "exclude_session out."
            )
        sampled = isinstance(self.objective.loss, SampledLoss)
        if without and sampled and not self.collectives.are_several:
            logger.warning(
                "In %d of %d batches of epoch %d no negative counted: they taught nothing.",
                without,
                steps,
                epoch,
            )

    def _warn_of_divergence(self, loss: float) -> None:
        """Warns when the loss is far above that of the first epoch, though it is finite."""
        if not self.history or self.collectives.rank:
            return
        first = self.history[0]["loss"]
        if loss > DIVERGED * max(first, 1.0):
            warnings.warn(
                f"The loss rose from {first:.3g} in the first epoch to {loss:.3g} in epoch "
                f"{self.current_epoch + 1}: training diverges; lower learning_rate or set "
                "gradient_clip.",
                stacklevel=2,
            )


def _kept(batch: Batch, path: Path) -> str:
    """Writes the tensors of a batch; reports why, if that cannot be done."""
    tensors = {name: value for name, value in batch.to_dict().items() if isinstance(value, Tensor)}
    try:
        save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, path)
    except (OSError, SafetensorError) as error:
        return f" The batch could not be written in {path} ({error})."
    return ""
