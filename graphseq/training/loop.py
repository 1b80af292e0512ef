"""What Lightning's loop asks of a training of session models, and how its ends are caught."""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, RichProgressBar
from safetensors.torch import save_file
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data.sessions import Sessions
from graphseq.evaluation.evaluate import evaluate
from graphseq.models.base import SessionModel
from graphseq.training.objective import Objective
from graphseq.training.optimizers import RowSparseOptimizer
from graphseq.training.settings import TrainingSettings, ks_of

STEP_EPOCHS, STEP_FACTOR = 3, 0.1
"""The ``"step"`` schedule, that of SR-GNN's program: learning rate x 0.1 every 3 epochs."""


NOT_FINITE_BATCH = "not_finite_batch.safetensors"
"""The batch at which a training ended because its loss was no number, in the folder ``out``."""


class SessionTraining(pl.LightningModule):
    """What Lightning's loop asks: the loss of a batch, the optimiser, the end of an epoch."""

    def __init__(
        self,
        model: SessionModel,
        objective: Objective,
        loader: Callable[[], Iterable[Batch]],
        validation: Sessions | None,
        settings: TrainingSettings,
        folder: Path | None,
    ) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.make_loader = loader
        self.validation = validation
        self.settings = settings
        self.folder = folder
        self.on_epoch: Callable[[Mapping[str, float]], object] | None = None
        self.history: list[dict[str, float]] = []
        self.best_epoch = 0
        self.best_value = -math.inf
        self.best_weights: dict[str, Tensor] | None = None
        self.interrupted = False
        self.row_sparse: RowSparseOptimizer | None = None

    def train_dataloader(self) -> Iterable[Batch]:
        return self.make_loader()

    def configure_optimizers(self) -> Any:
        settings = self.settings
        optimizer = RowSparseOptimizer(
            self.model.parameters(),
            settings.optimizer,
            settings.learning_rate,
            weight_decay=settings.weight_decay,
            max_norm=settings.gradient_clip,
        )
        optimizer.watch(self.model)
        self.row_sparse = optimizer
        if settings.schedule == "step":
            return [optimizer], [
                torch.optim.lr_scheduler.StepLR(optimizer, STEP_EPOCHS, STEP_FACTOR)
            ]
        if settings.schedule == "linear":
            steps = self.trainer.estimated_stepping_batches
            if not math.isfinite(steps):
                raise ValueError(
                    "The linear schedule needs to know the number of steps, but this loader has no "
                    "length: use schedule='constant'."
                )
            scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, int(steps))
            return [optimizer], [{"scheduler": scheduler, "interval": "step"}]
        return optimizer

    def on_train_epoch_start(self) -> None:
        # Dropout then depends on (seed, epoch), not on what ran before: resumed or not is the same.
        torch.manual_seed(self.settings.seed * 1_000_003 + self.current_epoch)
        self.loss_sum = torch.zeros((), device=self.device)
        self.num_steps = 0
        self.epoch_start = time.perf_counter()

    def training_step(self, batch: Batch, step: int) -> Tensor:
        loss = self.objective(self.model, batch, self.current_epoch, step)
        if not bool(loss.isfinite()):  # before the step spoils the weights
            self._stop_at(loss, batch, step)
        self.loss_sum += loss.detach()
        self.num_steps += 1
        self.log("loss", loss, prog_bar=True, batch_size=batch.num_graphs)
        return loss

    def _stop_at(self, loss: Tensor, batch: Batch, step: int) -> None:
        """Ends the training at a loss that is no number, and keeps the batch for a look."""
        rate = self.optimizers().param_groups[0]["lr"]  # type: ignore[union-attr]
        where = ""
        if self.folder is not None:
            tensors = {
                name: value for name, value in batch.to_dict().items() if isinstance(value, Tensor)
            }
            path = self.folder / NOT_FINITE_BATCH
            save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, path)
            where = f" The batch lies in {path}."
        raise ValueError(
            f"The loss is {loss.item()} in epoch {self.current_epoch + 1}, step {step}, at a "
            f"learning rate of {rate:g}: lower learning_rate or set gradient_clip.{where}"
        )

    def on_train_epoch_end(self) -> None:
        assert self.row_sparse is not None
        self.row_sparse.settle()  # validation and checkpoints read whole tables
        row = {
            "epoch": self.current_epoch + 1,
            "loss": float(self.loss_sum) / max(self.num_steps, 1),
            "learning_rate": self.optimizers().param_groups[0]["lr"],  # type: ignore[union-attr]
            "seconds": time.perf_counter() - self.epoch_start,
        }
        value, monitor = float(row["epoch"]), self.settings.monitor
        if self.validation is not None:
            report = evaluate(
                self.model,
                self.validation,
                ks=ks_of(monitor),
                exclude_seen=self.settings.exclude_seen,
            )
            row |= report.metrics
            row["validation_seconds"] = report.seconds
            value = report.metrics[monitor]
            self.log_dict(report.metrics)
            self.log(f"best {monitor}", max(value, self.best_value), prog_bar=True)
        self.history.append(row)
        if value > self.best_value:
            self.best_value, self.best_epoch = value, self.current_epoch + 1
            # Without a validation part the last weights are the best, and the model has them.
            if self.validation is not None:
                self.best_weights = {
                    name: tensor.detach().cpu().clone()
                    for name, tensor in self.model.state_dict().items()
                }
        if self.on_epoch is not None and self.on_epoch(dict(row)):
            self.trainer.should_stop = True

    def restore_best(self) -> None:
        if self.row_sparse is not None:
            self.row_sparse.settle()
            self.row_sparse.unwatch()
        if self.best_weights is not None:
            self.model.load_state_dict(self.best_weights)

    def on_exception(self, exception: BaseException) -> None:
        self.interrupted = isinstance(exception, KeyboardInterrupt)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["graphseq"] = {
            "history": self.history,
            "best_epoch": self.best_epoch,
            "best_value": self.best_value,
            "best_weights": self.best_weights,
            "seed": self.settings.seed,
            "training_state": self.model.training_state(),
            "loss_state": self.objective.training_state(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["graphseq"]
        if state["seed"] != self.settings.seed:
            raise ValueError(
                f"The checkpoint was made with seed {state['seed']}, this training has "
                f"{self.settings.seed}."
            )
        shapes = {name: value.shape for name, value in checkpoint["state_dict"].items()}
        if shapes != {name: value.shape for name, value in self.state_dict().items()}:
            raise ValueError(
                "The checkpoint does not fit this training, its model has other weights: delete it "
                "or train without resume."
            )
        self.history = state["history"]
        self.best_epoch = state["best_epoch"]
        self.best_value = state["best_value"]
        self.best_weights = state["best_weights"]
        self.model.load_training_state(state.get("training_state", {}))
        self.objective.load_training_state(state.get("loss_state", {}))


class Bar(RichProgressBar):
    """Lightning's progress bar without the number of the log."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Any:
        metrics = super().get_metrics(trainer, pl_module)
        return {name: value for name, value in metrics.items() if name != "v_num"}


class Batches:
    """Batches in a list, which Lightning would take for a list of loaders."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Interrupt(Callback):
    """Tells the training which exception ended it."""

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        if isinstance(pl_module, SessionTraining):
            pl_module.on_exception(exception)


def run(trainer: pl.Trainer, training: SessionTraining, checkpoint: Path | None) -> None:
    """Runs the loop, from a checkpoint if one is given; Ctrl-C ends it without leaving Python."""
    main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    trainer.callbacks.append(_Interrupt())  # type: ignore[attr-defined]
    try:
        trainer.fit(training, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:
        # Lightning leaves the program on Ctrl-C; here the caller keeps the best weights so far.
        if not training.interrupted:
            raise
    finally:
        if main_thread and handler is not None:
            signal.signal(signal.SIGINT, handler)


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning's hints about hardware and workers say nothing about a training of ours."""
    names = ("pytorch_lightning", "lightning_fabric", "pytorch_lightning.utilities.rank_zero")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in (
                ".*does not have many workers.*",
                ".*fewer than the logging interval.*",
            ):
                warnings.filterwarnings("ignore", message)
            warnings.filterwarnings("ignore", ".*exists and is not empty.*")
            warnings.filterwarnings("ignore", ".*LeafSpec.*is deprecated.*")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
