"""Files of a log, from a path, a list of paths, a glob or a folder, with their formats."""

from __future__ import annotations

import bz2
import glob
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import IO, Any, Literal, cast
from urllib.parse import unquote

import pyarrow as pa

PARQUET_SUFFIXES = (".parquet", ".pq")
JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
TEXT_SUFFIXES = (".csv", ".tsv", ".tab", ".txt", ".dat", ".data", ".inter")
COMPRESSIONS = (".gz", ".zst", ".bz2", ".lz4", ".xz", ".zip")
MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bz2",
    b"\x04\x22\x4d\x18": "lz4",
    b"\xfd7zXZ\x00": "xz",
    b"PK\x03\x04": "zip",
}
"""First bytes of files of each compression."""

NO_VALUE = "__HIVE_DEFAULT_PARTITION__"

DAMAGED = (lzma.LZMAError, zipfile.BadZipFile, zlib.error)
"""Exceptions of readers of compressed files, besides OSError."""

Kind = Literal["parquet", "json", "text"]


@dataclass(frozen=True)
class LogFile:
    """A file of a log.

    Args:
        path: Its path.
        kind: Its format.
        compression: Its compression, for text and JSON.
        keys: Values for all its rows from the names of its folders, as in ``day=3/part.csv``.
    """

    path: Path
    kind: Kind
    compression: str | None
    keys: tuple[tuple[str, str | None], ...] = ()


def files_of(paths: Sequence[str | PathLike[str]]) -> list[LogFile]:
    """The files of these paths, in order; files of folders and globs are ordered by their paths.

    Raises:
        ValueError: If a path is not a file, or files have several formats.
    """
    found: list[LogFile] = []
    for each in paths:
        path = Path(fspath(each)).expanduser()
        if path.is_dir():
            found += _of_folder(path)
        elif path.exists():
            found.append(_file(path))
        else:
            matches = sorted(glob.glob(str(path), recursive=True))
            matches = [m for m in matches if not _hidden(Path(m), path.parent)]
            if not matches:
                raise ValueError(f"There is no log at {path}.")
            for match in matches:
                inner = Path(match)
                found += _of_folder(inner) if inner.is_dir() else [_file(inner)]
    kinds = {file.kind: file.path for file in reversed(found)}
    if len(kinds) > 1:
        named = ", ".join(f"{path.name} ({kind})" for kind, path in kinds.items())
        raise ValueError(f"The files of a log are of one format, but there are several: {named}.")
    return found


def _hidden(path: Path, base: Path) -> bool:
    parts = path.relative_to(base).parts if path.is_relative_to(base) else path.parts[-1:]
    return any(part[0] in "._" for part in parts)


def _of_folder(folder: Path) -> list[LogFile]:
    """Files of formats known by their suffixes, without files named ``.*`` or ``_*``."""
    files = []
    for path in sorted(folder.rglob("*")):
        suffixes = [s.lower() for s in path.suffixes]
        if suffixes and suffixes[-1] in COMPRESSIONS:
            suffixes.pop()
        known = (*PARQUET_SUFFIXES, *JSON_SUFFIXES, *TEXT_SUFFIXES)
        if suffixes and suffixes[-1] in known and not _hidden(path, folder) and path.is_file():
            files.append(_file(path, folder))
    if not files:
        raise ValueError(
            f"The folder {folder} holds no Parquet file and no other log: CSV (.csv, .tsv, .txt) "
            "or JSON lines (.json, .jsonl, .ndjson), compressed or not."
        )
    return files


def _file(path: Path, base: Path | None = None) -> LogFile:
    if not path.is_file():
        raise ValueError(f"{path} is not a file: a log is a file or a folder of files.")
    with readable(path), path.open("rb") as file:
        start = file.read(8)
    compression = next((name for magic, name in MAGIC.items() if start.startswith(magic)), None)
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        if compression is None and start:
            raise broken(path, f"it is not compressed as its name states, {suffixes[-1]}")
        suffixes.pop()
    last = suffixes[-1] if suffixes else ""
    kind: Kind = "json" if last in JSON_SUFFIXES else "text"
    if start.startswith(b"PAR1") or last in PARQUET_SUFFIXES:
        kind, compression = "parquet", None
    elif kind == "text":  # some files of JSON lines have no suffix
        with readable(path), open_bytes(LogFile(path, kind, compression)) as text:
            kind = "json" if text.read(64).lstrip().startswith(b'{"') else kind
    if compression == "zip":
        member = _only_member(path).lower()
        if member.endswith(PARQUET_SUFFIXES):
            raise ValueError(f"{path} holds a Parquet file: take it out of the archive.")
        kind = "json" if member.endswith(JSON_SUFFIXES) else "text"
    keys: list[tuple[str, str | None]] = []
    for part in () if base is None else path.relative_to(base).parts[:-1]:
        name, equals, value = part.partition("=")
        if equals:
            keys.append((unquote(name), None if value == NO_VALUE else unquote(value)))
    return LogFile(path, kind, compression, tuple(keys))


def open_bytes(file: LogFile) -> IO[bytes]:
    """The bytes of a file, decompressed."""
    if file.compression == "gzip":
        return cast(IO[bytes], gzip.open(file.path))
    if file.compression == "bz2":
        return cast(IO[bytes], bz2.open(file.path))
    if file.compression == "xz":
        return cast(IO[bytes], lzma.open(file.path))
    if file.compression == "zip":
        return zipfile.ZipFile(file.path).open(_only_member(file.path))
    stream: Any = pa.input_stream(str(file.path), compression=file.compression)
    return cast(IO[bytes], stream)


def _only_member(path: Path) -> str:
    """The name of the one file in an archive."""
    with readable(path), zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
    if len(names) != 1:
        raise ValueError(f"{path} needs one file in it, it holds {names}: take the log out of it.")
    return names[0]


def broken(path: Path | str, reason: object) -> ValueError:
    """The error for an unreadable file, in one sentence."""
    text = " ".join(str(reason).split()).rstrip(".") or type(reason).__name__
    return ValueError(
        f"{path} cannot be read: it is broken, cut off or of another format ({text})."
    )


@contextmanager
def readable(path: Path | str) -> Iterator[None]:
    """A context that turns any reading error into one sentence that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError, EOFError, UnicodeError, *DAMAGED) as error:
        raise broken(path, error) from error
