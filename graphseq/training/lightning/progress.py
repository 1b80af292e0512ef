"""Progress of a training: a bar on a terminal, a line per epoch elsewhere."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar
from rich.console import Console

from graphseq.training.lightning.module import SessionModule
from graphseq.training.lightning.shared import Shared

REFRESH_SECONDS = 0.2
"""Time between two looks at the numbers, each of which waits for the device."""


HINTS = (
    ".*does not have many workers.*",
    ".*LeafSpec.*is deprecated.*",
    ".*Total length of `list` across ranks is zero.*",
    ".*is smaller than the logging interval.*",
    ".*in eval mode at the start of training.*",
    ".*lr_scheduler.step.*before.*optimizer.step.*",
)
"""Warnings of Lightning and torch that never apply here."""


class EpochBar(RichProgressBar):
    """Lightning's bar of an epoch, with targets per second, loss, best metric and time left.

    Lightning's own numbers cover logged steps, and each waits for the device.
    """

    def __init__(self) -> None:
        super().__init__(refresh_rate=5)
        self._looked = -math.inf

    def _get_train_description(self, current_epoch: int) -> str:
        return f"Epoch {current_epoch + 1}/{self.trainer.max_epochs}"

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *rest: Any) -> None:
        """Moves the bar on, a few times per second."""
        if time.monotonic() - self._looked >= REFRESH_SECONDS:
            self._looked = time.monotonic()
            super().on_train_batch_end(trainer, pl_module, *rest)

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Any:
        """The text next to the bar."""
        assert isinstance(pl_module, SessionModule)
        found: dict[str, str] = {}
        module, seconds = pl_module, max(pl_module.seconds, 1e-9)
        if module.num_targets:
            found["loss"] = f"{float(module.sums[0]) / module.num_targets:.4f}"
            found["targets/s"] = f"{module.num_targets / seconds:,.0f}"
        if module.best_weights is not None:
            found[f"best {module.settings.monitor}"] = f"{module.best_value:.4f}"
        batches, epochs = trainer.num_training_batches, trainer.max_epochs
        if module.step and math.isfinite(batches) and epochs not in (None, -1):
            left = (epochs - trainer.current_epoch) * batches - module.step
            minutes, rest = divmod(round(seconds / module.step * left), 60)
            found["left"] = f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
        return found


def is_interactive() -> bool:
    """Whether a bar can be drawn: on a terminal or in a notebook."""
    console = Console()
    return console.is_terminal or console.is_jupyter


@contextmanager
def _lines_shown() -> Iterator[None]:
    package = logging.getLogger("graphseq")
    if logging.getLogger().handlers or package.handlers:
        yield
        return
    handler, level = logging.StreamHandler(), package.level
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(level)


lines_shown = Shared(_lines_shown)
"""A block in which the package's log appears on standard error where logging is not set up."""


@contextmanager
def _lightning_silent() -> Iterator[None]:
    """Hides Lightning's hints about hardware and workers."""
    levels = {
        "pytorch_lightning": logging.WARNING,
        "lightning_fabric": logging.WARNING,
        "pytorch_lightning.utilities.rank_zero": logging.WARNING,
        "pytorch_lightning.profilers": logging.INFO,  # which somebody has asked for
    }
    before = {name: logging.getLogger(name).level for name in levels}
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    try:
        with warnings.catch_warnings():
            for message in HINTS:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


silence_lightning = Shared(_lightning_silent)
"""A block in which Lightning says nothing of hardware and workers."""
