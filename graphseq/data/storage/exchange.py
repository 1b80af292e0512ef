"""Atomic folders: written to a temporary folder, then exchanged in one step."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import logging
import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from graphseq.data.storage.documents import sync

logger = logging.getLogger(__name__)

RENAME_EXCHANGE = 2
"""From ``linux/fs.h``: exchanges the contents of two names in one step."""

MOST_WAIT = 2.0
"""Seconds that a reader waits for a writer between its two renames, if two are needed."""


@contextmanager
def replacing(folder: Path, check: Callable[[Path], None]) -> Iterator[Path]:
    """A new folder next to ``folder`` that replaces it at the end, and is removed after an error.

    On Linux, both are exchanged in one step; elsewhere in two renames, and :func:`recover` repairs
    the state after a kill between them. A link is followed to its folder. Leftovers of writers that
    died are removed.

    Args:
        folder: The folder to create or replace; parent folders are created.
        check: Raises ValueError if the existing path may not be replaced. Called before and after.

    Raises:
        ValueError: If something cannot be written, or ``check`` raises it.
    """
    target = Path(os.path.realpath(folder))
    try:
        recover(target)
        if os.path.lexists(target):
            check(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        _collect(target)
        part, lock = _make_part(target)
        try:
            yield part
            _put(part, target, check)
            sync(target.parent)
        finally:
            shutil.rmtree(part, ignore_errors=True)  # unfinished, or replaced
            os.close(lock)
    except OSError as error:
        raise ValueError(f"{folder} cannot be written: {error}.") from error


def recover(target: Path) -> None:
    """Restores the name of a folder whose writer was killed between two renames.

    Args:
        target: The folder's path, without links.
    """
    stop = time.monotonic() + MOST_WAIT
    while not os.path.lexists(target):
        left = _left_by_writers(target, "old")
        if not left:
            return
        for old in left:
            with _locked(old) as is_mine:
                if is_mine and not os.path.lexists(target):  # its writer is dead
                    with contextlib.suppress(OSError):
                        os.rename(old, target)
                        logger.warning("%s was left without its name, which is mended.", target)
        if time.monotonic() > stop:
            return
        time.sleep(0.001)


def _make_part(target: Path) -> tuple[Path, int]:
    """A new folder and the handle of its lock, held until it is closed or the process dies."""
    while True:
        part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
        part.mkdir()
        lock = os.open(part, os.O_RDONLY | os.O_DIRECTORY)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        if part.is_dir():  # no other process removed it before it was locked
            return part, lock
        os.close(lock)


def _put(part: Path, target: Path, check: Callable[[Path], None]) -> None:
    """Gives the new folder its name; the old folder gets the name of the part."""
    while True:
        if not os.path.lexists(target):
            try:
                os.rename(part, target)
                return
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
        check(target)
        if _exchange(part, target):
            try:
                check(part)  # a folder created in between must not be lost
            except ValueError:
                _exchange(part, target)
                raise
            return
        _rename_twice(part, target)
        return


def _exchange(one: Path, other: Path) -> bool:
    """Exchanges two folders in one step; False if the system or file system does not support it."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None or not sys.platform.startswith("linux"):
        return False
    here = -100  # AT_FDCWD
    if renameat2(here, os.fsencode(one), here, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(other))


def _rename_twice(part: Path, target: Path) -> None:
    old = part.with_suffix(".old")
    with _locked(target):  # makes readers wait for the second rename
        os.rename(target, old)
        try:
            os.rename(part, target)
        except OSError:
            os.rename(old, target)
            raise
    os.rename(old, part)


def _collect(target: Path) -> None:
    """Removes leftovers of dead writers of this folder."""
    for ending in ("part", "old"):
        for left in _left_by_writers(target, ending):
            with _locked(left) as is_mine:
                if is_mine:
                    shutil.rmtree(left, ignore_errors=True)


def _left_by_writers(target: Path, ending: str) -> list[Path]:
    name = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.{ending}")
    try:
        with os.scandir(target.parent) as entries:
            return [
                Path(entry.path)
                for entry in entries
                if name.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
            ]
    except OSError:
        return []


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Takes the lock of a folder, if no living process holds it; yields whether it did."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)
