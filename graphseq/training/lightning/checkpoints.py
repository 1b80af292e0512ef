"""Where a training stands, in one file that is whole or not there: tensors and plain values."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from graphseq.data.storage import read_file, write_file
from graphseq.training.settings import TrainingSettings

logger = logging.getLogger(__name__)

FORMAT, FORMAT_VERSION = "graphseq.training", 2

FREE = ("max_epochs", "patience", "checkpoint_steps", "checkpoint_minutes")
"""Settings that may be others when a training goes on; ``max_epochs`` not with every schedule."""


class Checkpoints:
    """The file from which a training goes on, replaced every so often.

    A file that cannot be written (a full disk, for one) ends no training: the last good one stays,
    and one warning says so.

    Args:
        path: The file; its folder is made.
        steps: Steps of the optimiser between two files; ``None``: as many as there are.
        minutes: Minutes between two files; ``None``: as many as it takes.
    """

    def __init__(self, path: Path, *, steps: int | None, minutes: float | None) -> None:
        self.path = path
        self.steps = steps
        self.minutes = minutes
        self.written = time.monotonic()
        self.has_warned = False

    def is_due(self, updates: int) -> bool:
        """Whether a file is to be written after so many steps of the optimiser."""
        if self.steps is not None and updates % self.steps == 0:
            return True
        return self.minutes is not None and time.monotonic() - self.written >= 60 * self.minutes

    def write(self, content: dict[str, Any]) -> bool:
        """Replaces the file; returns whether that could be done."""
        self.written = time.monotonic()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_file(self.path, FORMAT, FORMAT_VERSION, content)
        except OSError as error:
            if not self.has_warned:
                self.has_warned = True
                logger.warning(
                    "The checkpoint %s could not be written (%s). Training goes on; %s.",
                    self.path,
                    error,
                    "the last one that could be stays" if self.path.exists() else "there is none",
                )
            return False
        return True


def read(path: Path) -> dict[str, Any]:
    """What :meth:`Checkpoints.write` wrote; no code in the file is ever run.

    Args:
        path: The file.

    Raises:
        ValueError: If the file is cut off, damaged, of another version or no checkpoint.
    """
    return read_file(path, FORMAT, FORMAT_VERSION, "graphseq.fit without resume")


def check_settings(saved: dict[str, Any], settings: TrainingSettings) -> None:
    """Refuses to go on with settings that would have made another training.

    Args:
        saved: The settings of the checkpoint, as :meth:`TrainingSettings.to_dict` gave them.
        settings: Those of the training that is to go on.

    Raises:
        ValueError: If one differs that matters.
    """
    free = set(FREE)
    share = isinstance(settings.warmup, float) and settings.warmup > 0
    if settings.schedule in ("linear", "cosine") or share:
        free.discard("max_epochs")  # learning rates depend on it from the first step on
    for name, value in settings.to_dict().items():
        if name not in free and saved.get(name) != value:
            raise ValueError(
                f"The checkpoint was made with {name} {saved.get(name)}, this training has {value}:"
                f" give it the same, or train without resume. {', '.join(sorted(free))} may differ."
            )
