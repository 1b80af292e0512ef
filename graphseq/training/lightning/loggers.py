"""The log of a run: one CSV file, TensorBoard's where that is installed, and a line per epoch."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

logger = logging.getLogger(__name__)

METRICS = Path("logs") / "metrics.csv"
"""The log, in the folder ``out``."""

EVERY = 10
"""Updates between two rows."""


@contextmanager
def _training_goes_on(log: MetricsLog | TensorBoardLog, name: str) -> Iterator[None]:
    """A block in which a full disk ends no training: one warning says that the log lacks rows."""
    try:
        yield
    except (OSError, ValueError) as error:  # Lightning takes any failure for a wrong value
        if not log.has_warned:
            log.has_warned = True
            cause = error.__cause__ or error
            text = "The log of %s could not be written (%s). Training goes on without."
            logger.warning(text, name, cause)


class MetricsLog(Logger):
    """Rows of numbers with a fixed header; a resumed run cuts off the rows that it repeats.

    Lightning's ``CSVLogger`` rewrites the whole file where a new column comes, and begins another
    file when training resumes.

    Args:
        folder: The folder ``out`` of the run.
        columns: Names of the numbers.
        resumes: Whether rows of steps before the first new one stay.
    """

    name, version = "metrics", ""
    has_warned = False

    def __init__(self, folder: Path, columns: Sequence[str], *, resumes: bool = False) -> None:
        super().__init__()
        self.path = folder / METRICS
        self.columns = list(columns)
        self.resumes = resumes
        self.position: int | None = None  # bytes that are written

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Nothing: the settings have a file of their own."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Adds a row; what is not named stays empty."""
        row: dict[str, Any] = {**metrics, "step": step}
        if "epoch" in row:
            row["epoch"] = int(row["epoch"]) + 1
        if (set(row) - {"epoch", "step"}) & set(self.columns):
            line = ",".join(str(row.get(name, "")) for name in self.columns) + "\n"
            with _training_goes_on(self, str(self.path)):
                self._append(line, step or 0)

    def _append(self, line: str, step: int) -> None:
        if self.position is None:
            kept = ",".join(self.columns) + "\n"
            if self.resumes and self.path.exists():
                place = self.columns.index("step")
                for row in self.path.read_text().splitlines(keepends=True)[1:]:
                    # A kill may have left half of a row at the end.
                    if row.endswith("\n") and int(row.split(",")[place]) < step:
                        kept += row
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(kept)
            self.position = self.path.stat().st_size
        with self.path.open("ab", buffering=0) as file:
            try:
                if file.write(line.encode()) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self.position += len(line)
            finally:
                file.truncate(self.position)  # no half of a row stays for the next one to follow


class TensorBoardLog(TensorBoardLogger):
    """Lightning's log of TensorBoard; a resumed run hides the rows that it repeats.

    Args:
        folder: The folder ``out`` of the run.
        resumes: Whether what later steps have written is to be hidden.

    Raises:
        ModuleNotFoundError: If TensorBoard is not installed.
    """

    has_warned = False

    def __init__(self, folder: Path, *, resumes: bool = False, **options: Any) -> None:
        super().__init__(folder, name="", version="tensorboard", **options)
        self.folder, self.resumes = folder, resumes

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Adds numbers of a step."""
        if self.has_warned:  # the thread that writes for TensorBoard has ended for good
            return
        if self.resumes:
            TensorBoardLog.__init__(self, self.folder, purge_step=step)
        values = {name: value for name, value in metrics.items() if name != "epoch"}
        with _training_goes_on(self, "TensorBoard"):
            super().log_metrics(values, step)

    def save(self) -> None:
        """Nothing: Lightning would begin a file before it is known that the training begins."""

    def finalize(self, status: str) -> None:
        """Writes what waits to be written."""
        with _training_goes_on(self, "TensorBoard"):
            super().finalize(status)


def run_loggers(folder: Path, columns: Sequence[str], *, resumes: bool) -> list[Logger]:
    """The loggers of a run in a folder.

    Args:
        folder: The folder ``out``.
        columns: Names of the numbers, besides ``epoch`` and ``step``.
        resumes: Whether the run resumes from a checkpoint.
    """
    found: list[Logger] = [MetricsLog(folder, ["epoch", "step", *columns], resumes=resumes)]
    try:
        found.append(TensorBoardLog(folder, resumes=resumes))
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
