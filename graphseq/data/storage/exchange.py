"""Folders that are whole or not there: written to a temporary one, then exchanged in one step."""

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
"""From ``linux/fs.h``: both names stay, and what they name is exchanged in one step."""

MOST_WAIT = 2.0
"""Seconds that a reader waits for the writer between its two renames, where two are needed."""


@contextmanager
def replacing(folder: Path, check: Callable[[Path], None]) -> Iterator[Path]:
    """A new folder next to ``folder`` that takes its name at the end, and is gone after an error.

    Where the system can (Linux), both are exchanged in one step; else in two renames, and
    :func:`recover` mends what a kill between them leaves. A link is followed to the folder that it
    names. Leftovers of writers that died are removed.

    Args:
        folder: The folder to make or to replace; folders above it are made as well.
        check: Raises ValueError if what has the name may not be replaced. Called before and after.

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
            shutil.rmtree(part, ignore_errors=True)  # unfinished, or what was replaced
            os.close(lock)
    except OSError as error:
        raise ValueError(f"{folder} cannot be written: {error}.") from error


def recover(target: Path) -> None:
    """Gives a folder its name back that lost it to a writer killed between two renames.

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
    """A new folder, and the handle by which its lock is held until it is closed or we die."""
    while True:
        part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
        part.mkdir()
        lock = os.open(part, os.O_RDONLY | os.O_DIRECTORY)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        if part.is_dir():  # nobody collected it before it was locked
            return part, lock
        os.close(lock)


def _put(part: Path, target: Path, check: Callable[[Path], None]) -> None:
    """Gives the new folder its name; what had it before has the name of the part."""
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
                check(part)  # what came in between must not be lost
            except ValueError:
                _exchange(part, target)
                raise
            return
        _rename_twice(part, target)
        return


def _exchange(one: Path, other: Path) -> bool:
    """Exchanges two folders in one step; False where this system or file system cannot."""
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
    with _locked(target):  # lets readers wait for the second rename
        os.rename(target, old)
        try:
            os.rename(part, target)
        except OSError:
            os.rename(old, target)
            raise
    os.rename(old, part)


def _collect(target: Path) -> None:
    """Removes what writers of this folder left that are dead."""
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
