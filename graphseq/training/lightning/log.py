"""The log of a training: one CSV file, and TensorBoard's where that is installed."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import TensorBoardLogger

logger = logging.getLogger(__name__)

METRICS = Path("logs") / "metrics.csv"
"""The log, in the folder ``out``."""

EVERY = 10
"""Steps of the optimiser between two rows."""


class MetricsLog:
    """Rows of numbers with a fixed header; a training that goes on cuts off what it repeats.

    A log that cannot be written ends no training: one warning says so.

    Args:
        folder: The folder ``out`` of the training.
        columns: Names of the numbers.
        position: Bytes of the log to keep; 0 starts anew.
        step: The step of the optimiser that comes next.
    """

    def __init__(
        self, folder: Path, columns: Sequence[str], *, position: int = 0, step: int = 0
    ) -> None:
        self.path = folder / METRICS
        self.columns = list(columns)
        self.position = 0
        self.has_warned = False
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()
            with self.path.open("r+b") as file:
                file.seek(0, io.SEEK_END)
                self.position = min(position, file.tell())
                file.truncate(self.position)
            if self.position == 0:
                self._append(self.columns)
        except OSError as error:
            self._warn(error)
        self.tensorboard: TensorBoardLogger | None = None
        try:
            self.tensorboard = TensorBoardLogger(
                folder, name="", version="tensorboard", purge_step=step if position else None
            )
        except ModuleNotFoundError:
            logger.debug("TensorBoard is not installed: the log is CSV alone.")

    def write(self, row: Mapping[str, float]) -> None:
        """Adds a row; it names its ``step``, and what it does not name stays empty."""
        try:
            self._append([row.get(name, "") for name in self.columns])
        except OSError as error:
            self._warn(error)
        if self.tensorboard is not None:
            values = {name: row[name] for name in row if name not in ("step", "epoch")}
            try:
                self.tensorboard.log_metrics(values, int(row["step"]))
            except (OSError, ValueError) as error:  # Lightning takes any failure for a wrong value
                self._give_up(error)

    def close(self) -> None:
        """Writes what waits to be written."""
        if self.tensorboard is not None:
            try:
                self.tensorboard.finalize("success")
            except (OSError, ValueError) as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Goes on without TensorBoard: the thread that writes for it has ended for good."""
        cause = error.__cause__ or error
        logger.warning(
            "The log of TensorBoard could not be written (%s). Training goes on without.", cause
        )
        self.tensorboard = None

    def _append(self, values: Sequence[Any]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(values)
        line = text.getvalue().encode()
        with self.path.open("ab", buffering=0) as file:
            try:
                written = file.write(line)
                if written != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:  # no half of a row stays for the next one to follow
                with contextlib.suppress(OSError):
                    file.truncate(self.position)
                raise
        self.position += len(line)

    def _warn(self, error: OSError) -> None:
        if not self.has_warned:
            self.has_warned = True
            logger.warning(
                "The log %s could not be written (%s). Training goes on.", self.path, error
            )


def line_of(row: Mapping[str, float], max_epochs: int, monitor: str, best_epoch: int) -> str:
    """One epoch in one line.

    Args:
        row: The row of the history.
        max_epochs: Epochs in all.
        monitor: The metric that is watched, if it was measured.
        best_epoch: The best epoch so far.
    """
    parts = [f"epoch {int(row['epoch'])}/{max_epochs}", f"loss {row['loss']:.4f}"]
    if monitor in row:
        best = "best so far" if best_epoch == row["epoch"] else f"best: epoch {best_epoch}"
        parts.append(f"{monitor} {row[monitor]:.4f} ({best})")
    seconds = max(row["seconds"], 1e-9)
    parts.append(f"{row['targets'] / seconds:,.0f} targets/s")
    parts.append(f"{seconds:.1f} s, {row['data_seconds'] / seconds:.1%} of it waiting for data")
    if "validation_seconds" in row:
        parts.append(f"validation {row['validation_seconds']:.1f} s")
    return ", ".join(parts)
