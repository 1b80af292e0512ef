"""The log of a run: one CSV file, TensorBoard's where that is installed, and a line per epoch."""

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

from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

logger = logging.getLogger(__name__)

METRICS = Path("logs") / "metrics.csv"
"""The log, in the folder ``out``."""

EVERY = 10
"""Updates between two rows."""


class MetricsLog(Logger):
    """Rows of numbers with a fixed header; a resumed run cuts off the rows that it repeats.

    Lightning's ``CSVLogger`` rewrites the whole file where a new column comes, begins another file
    when training resumes, and lets a full disk end the training. Here one warning reports it.

    Args:
        folder: The folder ``out`` of the run.
        columns: Names of the numbers.
        resumes: Whether rows of steps before the first new one stay.
    """

    def __init__(self, folder: Path, columns: Sequence[str], *, resumes: bool = False) -> None:
        super().__init__()
        self.path = folder / METRICS
        self.columns = list(columns)
        self.resumes = resumes
        self.position: int | None = None  # bytes that are written
        self.has_warned = False

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the settings have a file of their own."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Adds a row; what is not named stays empty."""
        row: dict[str, Any] = {**metrics, "step": step}
        if "epoch" in row:
            row["epoch"] = int(row["epoch"]) + 1
        if not set(row) - {"epoch", "step"} & set(self.columns):
            return
        try:
            if self.position is None:
                self._open(step or 0)
            self._append([row.get(name, "") for name in self.columns])
        except OSError as error:
            if not self.has_warned:
                self.has_warned = True
                logger.warning(
                    "The log %s could not be written (%s). Training goes on.", self.path, error
                )

    def _open(self, step: int) -> None:
        """Makes the file, with the rows before this step if it resumes."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = ",".join(self.columns) + "\n"
        if self.resumes and self.path.exists():
            place = self.columns.index("step")
            lines = self.path.read_text().splitlines(keepends=True)[1:]
            steps = [line.split(",")[place : place + 1] for line in lines if line.endswith("\n")]
            earlier = (
                line
                for line, (at,) in zip(lines, steps, strict=False)
                if at.isdigit() and int(at) < step
            )
            kept += "".join(earlier)
        self.path.write_text(kept)
        self.position = self.path.stat().st_size

    def _append(self, values: Sequence[Any]) -> None:
        assert self.position is not None
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


class TolerantTensorBoard(Logger):
    """Lightning's log of TensorBoard, without which training continues where the disk is full.

    Args:
        folder: The folder ``out`` of the run.
        resumes: Whether what a later step has written is to be hidden.

    Raises:
        ModuleNotFoundError: If TensorBoard is not installed.
    """

    def __init__(self, folder: Path, *, resumes: bool = False) -> None:
        super().__init__()
        self.resumes = resumes
        self.folder = folder
        self.inner: TensorBoardLogger | None = TensorBoardLogger(
            folder, name="", version="tensorboard"
        )
        self.is_open = False

    @property
    def name(self) -> str:
        return "tensorboard"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the settings have a file of their own."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Adds numbers of a step."""
        if self.inner is None:
            return
        if self.resumes and not self.is_open:
            self.inner = TensorBoardLogger(
                self.folder, name="", version="tensorboard", purge_step=step
            )
        self.is_open = True
        values = {name: value for name, value in metrics.items() if name != "epoch"}
        try:
            self.inner.log_metrics(values, step)
        except (OSError, ValueError) as error:  # Lightning takes any failure for a wrong value
            self._give_up(error)

    def finalize(self, status: str) -> None:
        """Writes what waits to be written."""
        if self.inner is not None and self.is_open:
            try:
                self.inner.finalize(status)
            except (OSError, ValueError) as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Goes on without: the thread that writes for TensorBoard has ended for good."""
        cause = error.__cause__ or error
        logger.warning(
            "The log of TensorBoard could not be written (%s). Training goes on without.", cause
        )
        self.inner = None


def run_loggers(folder: Path, columns: Sequence[str], *, resumes: bool) -> list[Logger]:
    """The loggers of a run in a folder.

    Args:
        folder: The folder ``out``.
        columns: Names of the numbers, beside ``epoch`` and ``step``.
        resumes: Whether the run resumes from a checkpoint.
    """
    found: list[Logger] = [MetricsLog(folder, ["epoch", "step", *columns], resumes=resumes)]
    try:
        found.append(TolerantTensorBoard(folder, resumes=resumes))
    except ModuleNotFoundError:
        logger.debug("TensorBoard is not installed: the log is CSV alone.")
    return found


def epoch_line(
    row: Mapping[str, float], max_epochs: int | None, monitor: str, best_epoch: int
) -> str:
    """One epoch in one line.

    Args:
        row: The row of the history.
        max_epochs: Epochs in all, if there is a number of them.
        monitor: The metric that is watched, if it was measured.
        best_epoch: The best epoch so far.
    """
    of = f"/{max_epochs}" if max_epochs not in (None, -1) else ""
    parts = [f"epoch {int(row['epoch'])}{of}", f"loss {row['loss']:.4f}"]
    if monitor in row:
        best = "best so far" if best_epoch == row["epoch"] else f"best: epoch {best_epoch}"
        parts.append(f"{monitor} {row[monitor]:.4f} ({best})")
    seconds = max(row["seconds"], 1e-9)
    parts.append(f"{row['targets'] / seconds:,.0f} targets/s")
    parts.append(f"{seconds:.1f} s, {row['data_seconds'] / seconds:.1%} of it waiting for data")
    if "validation_seconds" in row:
        parts.append(f"validation {row['validation_seconds']:.1f} s")
    return ", ".join(parts)
