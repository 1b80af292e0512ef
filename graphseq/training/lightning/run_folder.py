"""The folder of a run: one run at a time, and every file of it can be written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".lock"
"""The file that a run holds while it lasts, in the folder ``out``."""


@contextmanager
def only_run(folder: Path, files: Iterable[str | Path] = ()) -> Iterator[None]:
    """A block in which this is the only run in a folder; the folder is made.

    The system releases the lock when the process ends, however it ends.

    Args:
        folder: The folder ``out``.
        files: What the run will write in it.

    Raises:
        OSError: If it cannot be written to.
        ValueError: If another run, of this process or another, is in it, or something other than a
            file has the name of one.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in (folder / name for name in (LOCK, *files)):
            if path.parent.exists() and not path.parent.is_dir():
                raise ValueError(
                    f"{path.parent} is a file, and this run makes a folder there: move it away, or "
                    "choose another out."
                )
            if path.exists() and not path.is_file():
                raise ValueError(
                    f"{path} is a folder, pipe or device, and this run writes a file there: move "
                    "it away, or choose another out."
                )
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
        lock = FileLock(folder / LOCK, blocking=False)
        lock.acquire()
    except Timeout as error:
        raise ValueError(
            f"Another fit is writing to {folder}: wait until it has ended, or choose another out."
        ) from error
    except OSError as error:
        raise OSError(f"The output folder {folder} cannot be written to: {error}.") from error
    try:
        yield
    finally:
        with suppress(OSError):
            (folder / LOCK).unlink()  # while it is held: who has opened it finds that it is gone
        lock.release()


def has_checkpoint(path: Path) -> bool:
    """Whether there is a checkpoint, or a link to one.

    A link that leads nowhere is not a fresh start: reading it says so.

    Args:
        path: The file.

    Raises:
        ValueError: If its folder is a link that leads nowhere.
    """
    if os.path.lexists(path.parent) and not path.parent.exists():
        raise ValueError(
            f"{path.parent} is a link that leads nowhere: put the checkpoints back, or remove it."
        )
    return os.path.lexists(path)
