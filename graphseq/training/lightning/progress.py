"""How a training is watched: a bar on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar
from rich.console import Console

from graphseq.training.lightning.loop import SessionTraining
from graphseq.training.lightning.shared import Shared

REFRESH_SECONDS = 0.2
"""Time between two looks at the numbers, each of which waits for the device."""


class Bar(RichProgressBar):
    """Lightning's bar of an epoch, with targets a second, loss, best metric and time left."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=5)
        self._looked = -math.inf

    def _get_train_description(self, current_epoch: int) -> str:
        return f"Epoch {current_epoch + 1}/{self.trainer.max_epochs}"

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Moves the bar on, a few times a second."""
        if time.monotonic() - self._looked >= REFRESH_SECONDS:
            self._looked = time.monotonic()
            assert isinstance(pl_module, SessionTraining)
            super().on_train_batch_end(trainer, pl_module, outputs, batch, pl_module.step - 1)

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Any:
        """What stands beside the bar."""
        assert isinstance(pl_module, SessionTraining)
        return shown(pl_module)


def shown(training: SessionTraining) -> dict[str, str]:
    """The numbers beside the bar, as text."""
    found: dict[str, str] = {}
    if training.num_targets:
        found["loss"] = f"{float(training.loss_sum) / training.num_targets:.4f}"
        found["targets/s"] = f"{training.num_targets / max(training.seconds, 1e-9):,.0f}"
    if training.validation is not None and training.history:
        found[f"best {training.settings.monitor}"] = f"{training.best_value:.4f}"
    left = training.seconds_left
    if left is not None:
        minutes, seconds = divmod(round(left), 60)
        found["left"] = f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
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
"""A block in which lines of the package's log appear on standard error where nobody logs them."""
