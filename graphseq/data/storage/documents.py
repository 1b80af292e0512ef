"""Strict JSON, sealed with its own checksum if it must not change."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import stat
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from graphseq.data.storage.checksums import checksum
from graphseq.data.storage.rules import Rule, brief, check_record, text, whole

MOST_BYTES = 64 << 20
"""The largest JSON file that is read."""

MOST_DEPTH = 64
"""Maximum nesting depth of lists and mappings."""


def read_json(path: str | os.PathLike[str]) -> Any:
    """The value in a JSON file: a regular file of bounded size and depth, in strict JSON.

    Raises:
        ValueError: If the file is missing, not a regular file, too large, or not strict JSON (a key
            that occurs twice, NaN, Infinity, nesting beyond all measure).
    """
    return parse_json(read_bytes(path), path)


def parse_json(data: bytes, path: str | os.PathLike[str]) -> Any:
    """The value in the bytes of a JSON file.

    Args:
        data: The bytes.
        path: The file of the bytes, for errors.

    Raises:
        ValueError: If they are not strict JSON.
    """
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except RecursionError:
        raise ValueError(f"{path} is broken: its JSON is nested too deep.") from None
    except ValueError as error:
        raise ValueError(f"{path} is broken: {_first_line(error)}.") from error
    _check_depth(value, path)
    return value


def write_json(content: Any, path: str | os.PathLike[str], *, indent: int = 1) -> None:
    """Replaces a JSON file atomically.

    Raises:
        ValueError: If something in the content is not JSON (NaN and Infinity are not).
        OSError: If the file cannot be written.
    """
    data = (json_text(content, indent=indent) + "\n").encode()
    with replacing_file(path) as file:
        file.write(data)


def json_text(content: Any, *, indent: int | None = None) -> str:
    """A value as strict JSON.

    Raises:
        ValueError: If something in it cannot be written as JSON.
    """
    try:
        return json.dumps(content, indent=indent, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"This cannot be written as JSON: {_first_line(error)}.") from error


def seal(content: Mapping[str, Any], format: str, version: int) -> dict[str, Any]:
    """A document that :func:`unseal` accepts: the content, its format, and a checksum of both.

    Args:
        content: JSON values by name.
        format: Kind of the document, such as ``"graphseq.model"``.
        version: Version of that format.
    """
    fields = {k: v for k, v in content.items() if k not in ("format", "version", "checksum")}
    # As after reading: keys are text, tuples are lists.
    document = json.loads(json_text({"format": format, "version": version, **fields}))
    return {**document, "checksum": _checksum_of(document)}


def unseal(
    document: Any,
    format: str,
    version: int,
    rules: Mapping[str, Rule],
    path: str | os.PathLike[str],
    made_by: str,
) -> dict[str, Any]:
    """A document that was sealed, checked: format, version, fields, checksum.

    Args:
        document: The result of :func:`read_json`.
        format, version: The expected ones.
        rules: Field -> its rule.
        path: The file, for the error.
        made_by: The function that makes such a file, for errors.

    Raises:
        ValueError: If it is of another format or version, a field is missing or breaks its rule, or
            it was changed after it was written.
    """
    if not isinstance(document, dict) or document.get("format") != format:
        raise ValueError(f"{path} is not a {format} file: {made_by} makes one.")
    found = document.get("version", document.get("format_version"))
    if type(found) is not int or found < 1:
        raise ValueError(f"{path} is broken: its version is {brief(found)}, not a whole number.")
    if found > version:
        raise ValueError(
            f"{path} was saved in version {brief(found)} of the format, this graphseq reads "
            f"version {version}: install a newer graphseq."
        )
    if found < version:
        raise ValueError(
            f"{path} was saved in version {found} of the format, by an older graphseq, and this "
            f"one reads version {version}: make it again with {made_by}."
        )
    check_record(document, {"checksum": text(), "version": whole(), **rules}, str(path))
    rest = {name: value for name, value in document.items() if name != "checksum"}
    if _checksum_of(rest) != document["checksum"]:
        raise ValueError(
            f"{path} is broken or was changed after it was written (its checksum differs): restore "
            f"it, or make it again with {made_by}."
        )
    return document


@contextmanager
def replacing_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A new file that replaces another one atomically and durably, once it is written.

    A link is followed to its file. Leftovers of writers that died are removed.

    Args:
        path: The file to create or replace; its folder must exist.

    Raises:
        ValueError: If the path is something other than a file.
        OSError: If the file cannot be written, for example because the disk is full.
    """
    target = Path(os.path.realpath(path))
    if os.path.lexists(target) and not target.is_file():
        raise ValueError(f"{target} is a folder, pipe or device: choose the name of a file.")
    _collect(target)
    part, file = _new_part(target)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    sync(target.parent)


def _new_part(target: Path) -> tuple[Path, BinaryIO]:
    """A new file next to the target; its lock is held until it is closed or this process dies."""
    while True:
        part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
        file = part.open("xb")
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if part.exists():  # no other process removed it before it was locked
            return part, file
        file.close()


def _collect(target: Path) -> None:
    """Removes leftovers of dead writers of this file."""
    name = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.part")
    for left in target.parent.glob(".*.part"):
        if name.fullmatch(left.name) and left.is_file() and not left.is_symlink():
            with contextlib.suppress(OSError), left.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink(missing_ok=True)


def sync(path: str | os.PathLike[str]) -> None:
    """Makes a file, or the names in a folder, survive a power failure."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_bytes(path: str | os.PathLike[str], most: int = MOST_BYTES) -> bytes:
    """The bytes of a regular file of at most this size.

    Raises:
        ValueError: If the file is missing, not a regular file, or larger.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        return read_open(file, path, most)


def read_open(file: BinaryIO, path: str | os.PathLike[str], most: int = MOST_BYTES) -> bytes:
    """The bytes of an open file of at most this size.

    Raises:
        ValueError: If it has more.
    """
    size = os.fstat(file.fileno()).st_size
    if size > most:
        raise ValueError(f"{path} has {size:,} bytes, more than the {most:,} that it may have.")
    return file.read(most)


def open_regular(
    name: str | os.PathLike[str],
    *,
    folder: int | None = None,
    shown: str | os.PathLike[str] | None = None,
) -> int:
    """Opens a regular file to read; pipes, sockets, devices and folders are refused at once.

    Args:
        name: The file.
        folder: Handle of the open folder of the file; a link in it raises an error.
        shown: Name of the file in errors.

    Returns:
        The handle of the file, which the caller closes.

    Raises:
        ValueError: If it is missing or not a regular file, or cannot be opened.
    """
    shown = name if shown is None else shown
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    if folder is not None:
        flags |= os.O_NOFOLLOW
    try:
        handle = os.open(name, flags, dir_fd=folder)
    except FileNotFoundError as error:
        raise ValueError(f"{shown} is missing.") from error
    except (OSError, ValueError) as error:  # a socket, a link that goes in circles
        raise ValueError(f"{shown} cannot be opened as a file: {_reason(error)}.") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError(f"{shown} is a folder, pipe or device where a file is expected.")
    return handle


def _checksum_of(document: Mapping[str, Any]) -> str:
    return checksum(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {twice[:80]!r} occurs twice")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number in strict JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{digits[:40]} is beyond what a number can be")
    return value


def _check_depth(value: Any, path: str | os.PathLike[str]) -> None:
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [
            inner
            for each in level
            if isinstance(each, (dict, list))
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return
    raise ValueError(f"{path} is broken: its JSON is nested deeper than {MOST_DEPTH} levels.")


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or _first_line(error)
