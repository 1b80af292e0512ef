"""Checkpoints that survive a full disk, as a file format and a callback of Lightning."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint

from graphseq.data.storage import read_file, write_file
from graphseq.training.lightning.collectives import Collectives
from graphseq.training.lightning.interrupt import StopTraining
from graphseq.training.settings import TrainingSettings

logger = logging.getLogger(__name__)

AGREE_EVERY = 10
"""Updates between two checks of several processes whether the minutes have passed."""

FORMAT, FORMAT_VERSION = "graphseq.training", 3


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes the checkpoint of a run as one whole file or not at all, and reads no code.

    Lightning's own writer lets a full disk end the training, leaves half a file behind a kill, and
    unpickles what it reads. Other files, of a ``ModelCheckpoint`` of your own, are Lightning's.

    Args:
        path: The file; its folder is made.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.has_warned = False

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Replaces a file; where that cannot be done, the last good one stays, and a warning."""
        path = Path(path)
        try:
            if path == self.path:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_file(path, FORMAT, FORMAT_VERSION, checkpoint)
            else:
                super().save_checkpoint(checkpoint, path, storage_options)
        except (OSError, ValueError) as error:
            if not self.has_warned:
                self.has_warned = True
                logger.warning(
                    "The checkpoint %s could not be written (%s). Training goes on; %s.",
                    path,
                    error,
                    "the last one that could be stays" if path.exists() else "there is none",
                )

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return (
            read(Path(path))
            if Path(path) == self.path
            else super().load_checkpoint(path, *args, **kwargs)
        )


def read(path: Path) -> dict[str, Any]:
    """What :class:`DurableCheckpointIO` wrote; no code in the file is ever run.

    Args:
        path: The file.

    Raises:
        ValueError: If the file is cut off, damaged, of another version or no checkpoint.
    """
    return read_file(path, FORMAT, FORMAT_VERSION, "graphseq.fit without resume")


class LastCheckpoint(Checkpoint):
    """Keeps one file up to date: after epochs, at intervals of steps and minutes, and at an error.

    ``ModelCheckpoint`` takes one of steps, minutes and epochs, and writes none where Ctrl-C or an
    error ends the training. This one never writes in the middle of an update.

    Args:
        path: The file.
        settings: ``checkpoint_steps`` and ``checkpoint_minutes``; all settings are saved with it.
        settings_path: Where to, once the checkpoint is known to fit them.
    """

    def __init__(self, path: Path, settings: TrainingSettings, settings_path: Path) -> None:
        self.path = path
        self.settings = settings
        self.settings_path = settings_path
        self.written = time.monotonic()
        self.is_whole = False  # whether training can resume from the current state

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes the settings: a refused checkpoint has ended the run before."""
        if not trainer.is_global_zero:
            return
        try:
            self.settings.save(self.settings_path)
        except OSError as error:
            if trainer.ckpt_path is None:  # what fails now would fail at the end
                raise
            logger.warning("The settings could not be saved in %s (%s).", self.path.parent, error)

    def on_train_batch_start(self, *_: Any) -> None:
        self.is_whole = False

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        # The checkpoint of the epoch follows on its last batch.
        self.is_whole = not trainer.is_last_batch and bool(pl_module.pending == 0)
        if self.is_whole and self._is_due(trainer.global_step, pl_module.collectives):
            self._write(trainer)

    def on_validation_start(self, *_: Any) -> None:
        self.is_whole = False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._write(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        # Of several processes, all write together or none does.
        if self.is_whole and (trainer.world_size == 1 or isinstance(exception, StopTraining)):
            self._write(trainer)

    def _is_due(self, step: int, collectives: Collectives) -> bool:
        steps, minutes = self.settings.checkpoint_steps, self.settings.checkpoint_minutes
        if steps is not None and step % steps == 0:
            return True
        if minutes is None or (collectives.are_several and step % AGREE_EVERY):
            return False
        due = time.monotonic() - self.written >= 60 * minutes
        return collectives.any(due) if collectives.are_several else due

    def _write(self, trainer: pl.Trainer) -> None:
        self.is_whole = False
        self.written = time.monotonic()
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(self.path)
