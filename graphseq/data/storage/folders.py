"""Writes and reads folders with a header that lists every file, its size and its checksum."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from graphseq.data.storage import tables
from graphseq.data.storage.arrays import (
    ArrayFile,
    dtype_named,
    map_array,
    npy_start,
    num_bytes,
    savable,
)
from graphseq.data.storage.checksums import bytes_of, checksum_of_file
from graphseq.data.storage.documents import (
    json_text,
    open_regular,
    parse_json,
    read_open,
    seal,
    sync,
    unseal,
)
from graphseq.data.storage.exchange import recover, replacing
from graphseq.data.storage.ids import (
    KINDS,
    PARTS,
    check_distinct,
    ids_from_arrays,
    ids_to_arrays,
)
from graphseq.data.storage.rules import (
    Rule,
    absent_or,
    list_of,
    mapping_of,
    one_of,
    record,
    text,
    whole,
)

MOST_TRIES = 200
"""How often opening is retried if a folder is replaced meanwhile."""


MOST_DIMENSIONS = 8

_known: set[tuple[Any, ...]] = set()
"""States of folders (files, sizes, times, checksum) that this process has fully verified."""


@dataclass(frozen=True)
class FolderKind:
    """A kind of folder that graphseq writes.

    Args:
        format: Its name in the header, as ``"graphseq.sessions"``.
        version: Version of the format; no other is read.
        header: Name of the header file.
        holds: Its content, for errors, such as ``"saved sessions"``.
        made_by: The function that makes it, for errors, such as ``"Sessions.save"``.
        rules: Field of the header besides its files -> rule.
        within: The kind of folders inside it, or kinds with different headers.
    """

    format: str
    version: int
    header: str
    holds: str
    made_by: str
    rules: Mapping[str, Rule]
    within: FolderKind | tuple[FolderKind, ...] = ()


def _file_name(value: Any, where: str) -> None:
    plain = isinstance(value, str) and 0 < len(value) <= 255 and value.isprintable()
    if not plain or value.startswith(".") or any(sign in value for sign in "/\\:\0"):
        raise ValueError(f"{where} must be a plain file name, got {value!r:.60}.")


def _dtype(value: Any, where: str) -> None:
    dtype_named(value, where)


def shape(value: Any, where: str) -> None:
    """The rule for the shape of an array."""
    list_of(whole(0, 1 << 48))(value, where)
    if len(value) > MOST_DIMENSIONS:
        raise ValueError(f"{where} must have at most {MOST_DIMENSIONS} numbers, got {len(value)}.")


PARTS_OF_A_HEADER: dict[str, Rule] = {
    "files": mapping_of(record({"bytes": whole(0), "checksum": text()})),
    "folders": mapping_of(text()),
    "arrays": mapping_of(record({"dtype": _dtype, "shape": shape})),
    "ids": mapping_of(
        record({"kind": one_of(*KINDS), "size": whole(0, 1 << 48), "zone": absent_or(text())})
    ),
    "tables": mapping_of(record({"rows": whole(0, 1 << 48)})),
}
"""Fields that every header has."""


# -- writing -------------------------------------------------------------------------------------


class FolderWriter:
    """The parts of a new folder, which does not have its name yet; from :func:`write_folder`.

    Attributes:
        path: The folder, for files that other libraries write; :meth:`add_file` lists them.
        content: Fields of the header besides its files; filled by the caller.
    """

    def __init__(self, path: Path, kind: FolderKind) -> None:
        self.path, self.kind = path, kind
        self.content: dict[str, Any] = {}
        self._parts: dict[str, dict[str, Any]] = {
            name: {} for name in ("arrays", "ids", "tables", "files", "folders")
        }

    def write_array(self, name: str, array: NDArray[Any]) -> None:
        """Writes an array of numbers, of any shape."""
        array = savable(np.asarray(array), name)
        with (self.path / f"{name}.npy").open("wb") as file:
            file.write(npy_start(array.dtype, array.shape))
            file.write(bytes_of(array))
        self.list_array(name, array.dtype, array.shape)

    @contextmanager
    def array_file(self, name: str, dtype: DTypeLike) -> Iterator[ArrayFile]:
        """A one-dimensional array to append to, listed when it is closed."""
        with ArrayFile(self.path / f"{name}.npy", dtype) as file:
            yield file
        self.list_array(name, file.dtype, (file.size,))

    def write_ids(self, name: str, ids: pd.Index | Any) -> None:
        """Writes ids of any kind that :func:`check_ids_can_be_saved` accepts."""
        about, arrays = ids_to_arrays(ids, name)
        for part, array in arrays.items():
            self.write_array(part, array)
        self._parts["ids"][name] = about

    @contextmanager
    def ids_file(self, name: str) -> Iterator[IdsFile]:
        """Ids to append to, one batch at a time, listed when they are closed."""
        file = IdsFile(self, name)
        try:
            yield file
        except BaseException:
            file.close()
            raise
        self._parts["ids"][name] = file.finish()

    def write_table(self, name: str, frame: pd.DataFrame) -> None:
        """Writes a frame as Parquet, without its index."""
        tables.write(self.path / f"{name}.parquet", frame, name)
        self._parts["tables"][name] = {"rows": len(frame)}
        self.add_file(f"{name}.parquet")

    def add_folder(self, name: str, kind: FolderKind) -> None:
        """Lists a folder within this one that :func:`fill_folder` filled."""
        _file_name(name, "A folder")
        with open_folder(self.path / name, kind, verify=False) as folder:
            self._parts["folders"][name] = folder.header["checksum"]

    def add_file(self, name: str) -> None:
        """Lists a file in :attr:`path`, with its size and checksum; it gets the umask's mode."""
        path = self.path / name
        _file_name(name, "A file")
        os.chmod(path, self._mode())
        with path.open("rb") as file:
            about = {"bytes": path.stat().st_size, "checksum": checksum_of_file(file.fileno())}
        self._parts["files"][name] = about

    def finish(self) -> str:
        """Writes the header, last of all files; returns its checksum."""
        document = seal({**self.content, **self._parts}, self.kind.format, self.kind.version)
        header = self.path / self.kind.header
        header.write_text(json_text(document, indent=1) + "\n", encoding="utf-8")
        for name in (*self._parts["files"], header.name):
            sync(self.path / name)
        sync(self.path)
        return str(document["checksum"])

    def list_array(self, name: str, dtype: np.dtype[Any], shape: Sequence[int]) -> None:
        """Lists ``<name>.npy``, an array in :attr:`path` written by other code."""
        self._parts["arrays"][name] = {"dtype": dtype.str, "shape": list(shape)}
        self.add_file(f"{name}.npy")

    def _mode(self) -> int:
        """The mode 0666 without the umask, which cannot be read without changing it."""
        if not hasattr(self, "_mode_of_files"):
            probe = self.path / ".mode"
            with probe.open("xb") as file:
                self._mode_of_files = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            probe.unlink()
        return self._mode_of_files


class IdsFile:
    """Ids of one type, written batch by batch; from :meth:`FolderWriter.ids_file`."""

    def __init__(self, writer: FolderWriter, name: str) -> None:
        self._writer, self._name = writer, name
        self._about: dict[str, Any] | None = None
        self._files: dict[str, ArrayFile] = {}
        self._closing = ExitStack()
        self.size = 0

    def append(self, ids: Any) -> None:
        """Adds ids: an index, or an array of NumPy, pandas or Arrow.

        Raises:
            ValueError: If their type cannot be saved, or differs from the first ids.
        """
        if isinstance(ids, (pa.Array, pa.ChunkedArray)):
            ids = pd.Index(ids.to_pandas())
        about, arrays = ids_to_arrays(ids, self._name)
        number = about.pop("size")
        if self._about is None:
            self._about = about
            for part, array in arrays.items():
                file = ArrayFile(self._writer.path / f"{part}.npy", array.dtype)
                self._files[part] = self._closing.enter_context(file)
                if part.endswith(".offsets"):
                    file.append(np.zeros(1, array.dtype))
        types = {part: array.dtype for part, array in arrays.items()}
        if about != self._about or types != {p: file.dtype for p, file in self._files.items()}:
            raise ValueError(f"{self._name} cannot be saved: ids are of several types.")
        if (offsets := arrays.get(f"{self._name}.offsets")) is not None:
            before = self._files[f"{self._name}.text"].size
            arrays[f"{self._name}.offsets"] = offsets[1:] + before
        for part, array in arrays.items():
            self._files[part].append(array)
        self.size += number

    def finish(self) -> dict[str, Any]:
        """Closes and lists the arrays; returns the header's entry about the ids."""
        if self._about is None:
            self.append(np.zeros(0, np.int64))
        self.close()
        for part, file in self._files.items():
            self._writer.list_array(part, file.dtype, (file.size,))
        return {**(self._about or {}), "size": self.size}

    def close(self) -> None:
        """Closes the files."""
        self._closing.close()


@contextmanager
def write_folder(path: str | PathLike[str], kind: FolderKind) -> Iterator[FolderWriter]:
    """A new folder that replaces another one atomically, once it is completely written.

    Args:
        path: The folder to create, or to replace if it holds only this kind of content.
        kind: The kind of folder.

    Raises:
        ValueError: If the path is something else, or something cannot be written.
    """
    with replacing(Path(fspath(path)), lambda there: check_replaceable(there, kind)) as part:
        writer = FolderWriter(part, kind)
        yield writer
        writer.finish()


@contextmanager
def fill_folder(path: Path, kind: FolderKind) -> Iterator[FolderWriter]:
    """The same inside a folder that is being written, without a separate exchange."""
    path.mkdir()
    writer = FolderWriter(path, kind)
    yield writer
    writer.finish()


def check_replaceable(path: str | PathLike[str], kind: FolderKind) -> None:
    """Raises ValueError unless a path is free, an empty folder, or holds only one kind of content.

    Args:
        path: The folder to create or replace.
        kind: The kind that may be replaced: only folders with its undamaged header.
    """
    path = Path(os.path.realpath(path))
    if not os.path.lexists(path):
        return
    if not path.is_dir():
        raise ValueError(f"{path} is a file: choose the name of a folder.")
    present = {entry.name: entry.is_dir(follow_symlinks=False) for entry in os.scandir(path)}
    if not present:
        return
    choose = f"it is left as it is: choose another folder than {path}"
    if kind.header not in present:
        raise ValueError(
            f"{path} holds something other than {kind.holds} ({_some(present)}), and {choose}."
        )
    try:
        header = _read_header(path / kind.header, None, kind)
    except ValueError as error:
        raise ValueError(f"{str(error).rstrip('.')}; {choose}, or delete it.") from error
    kinds = kind.within if isinstance(kind.within, tuple) else (kind.within,)
    folders = header["folders"] if kinds else {}
    foreign = [
        name
        for name, is_folder in present.items()
        if name not in (folders if is_folder else {kind.header, *header["files"]})
    ]
    if foreign:
        raise ValueError(
            f"{path} holds {_some(foreign)} besides {kind.holds}, and {choose}, or move them away."
        )
    for name in folders:
        if name in present:
            held = [each for each in kinds if (path / name / each.header).exists()]
            check_replaceable(path / name, (held or kinds)[0])


# -- reading -------------------------------------------------------------------------------------


class Folder:
    """A folder opened by :func:`open_folder`: a consistent snapshot.

    A context manager: files that are not memory-mapped are closed at its end.

    Attributes:
        path: Its name, for errors.
        header: The header, checked.
        verify: Whether values must still be verified: verification was requested, and this process
            has not done it since the folder was written.
    """

    def __init__(
        self, path: Path, handle: int, kind: FolderKind, verify: bool, expected: str | None
    ) -> None:
        self.path, self.kind = path, kind
        self._close = ExitStack()
        try:
            self.header = _read_header(path / kind.header, handle, kind)
            if expected not in (None, self.header["checksum"]):
                raise ValueError(
                    f"{path} belongs to another build than its folder: open that folder again."
                )
            _check_parts(self.header, path / kind.header)
            self._handles = {name: self._open(name, handle) for name in self.header["files"]}
            self._state = self._state_of_files()
            self.verify = verify and self._state not in _known
            if self.verify:
                self._compare_checksums()
        except BaseException:
            self._close.close()
            raise

    def __enter__(self) -> Folder:
        """The folder itself."""
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self._close.close()
        if error is None and self.verify:
            _known.add(self._state)

    def has_array(self, name: str) -> bool:
        """Whether there is an array of this name."""
        return name in self.header["arrays"]

    def array(self, name: str, dtype: DTypeLike | None = None, ndim: int = 1) -> NDArray[Any]:
        """An array, memory-mapped and read only.

        Args:
            name: The array.
            dtype: The expected type; ``None``: any type that can be saved.
            ndim: The expected number of dimensions.

        Raises:
            ValueError: If there is none, or it has another type.
        """
        about = self.header["arrays"].get(name)
        if about is None:
            raise ValueError(f"{self.path / self.kind.header} lacks the array {name}.")
        kind, shape = np.dtype(about["dtype"]), about["shape"]
        if len(shape) != ndim or (dtype is not None and kind != np.dtype(dtype)):
            wanted = "numbers" if dtype is None else np.dtype(dtype)
            raise ValueError(
                f"{self.path / name}.npy holds {kind} {shape}, not {wanted} in {ndim} dimensions."
            )
        return map_array(self._handles[f"{name}.npy"], kind, shape, f"{self.path / name}.npy")

    def ids(self, name: str, *, distinct: bool = True) -> pd.Index:
        """Ids; their text stays memory-mapped.

        Args:
            name: The ids.
            distinct: Whether each id must occur only once.

        Raises:
            ValueError: If there are none of this name, or they are broken.
        """
        about = self.header["ids"].get(name)
        if about is None:
            raise ValueError(f"{self.path / self.kind.header} lacks the ids {name}.")
        arrays = {name + end: self.array(name + end) for end in PARTS[about["kind"]]}
        ids = ids_from_arrays(about, arrays, name, self.path, verify=self.verify)
        if distinct and self.verify:
            check_distinct(ids, f"{self.path / name}")
        return ids

    def table(self, name: str) -> pd.DataFrame:
        """A frame, in memory.

        Raises:
            ValueError: If there is none of this name, or it is broken.
        """
        about = self.header["tables"].get(name)
        if about is None:
            raise ValueError(f"{self.path / self.kind.header} lacks the table {name}.")
        shown = f"{self.path / name}.parquet"
        with os.fdopen(os.dup(self._handles[f"{name}.parquet"]), "rb") as file:
            file.seek(0)
            return tables.read(file.read(), about["rows"], shown)

    def file(self, name: str) -> str:
        """A path from which another library can read a file, as long as the folder is open.

        Raises:
            ValueError: If the header does not name it.
        """
        if name not in self._handles:
            raise ValueError(f"{self.path / self.kind.header} lacks the file {name}.")
        return f"/dev/fd/{self._handles[name]}"

    def _open(self, name: str, folder: int) -> int:
        handle = open_regular(name, folder=folder, shown=self.path / name)
        self._close.callback(os.close, handle)
        size, expected = os.fstat(handle).st_size, self.header["files"][name]["bytes"]
        if size != expected:
            raise ValueError(self._broken(name, f"it has {size:,} bytes, not {expected:,}"))
        return handle

    def _compare_checksums(self) -> None:
        for name, about in self.header["files"].items():
            try:
                found = checksum_of_file(self._handles[name])
            except OSError as error:
                raise ValueError(f"{self.path / name} cannot be read: {error}.") from error
            if found != about["checksum"]:
                raise ValueError(self._broken(name, "its checksum differs"))

    def _broken(self, name: str, why: str) -> str:
        return (
            f"{self.path / name} is broken, cut off or of another folder: {why}; restore it, or "
            f"make the folder again with {self.kind.made_by}."
        )

    def _state_of_files(self) -> tuple[Any, ...]:
        stats = [os.fstat(handle) for handle in self._handles.values()]
        files = [(each.st_dev, each.st_ino, each.st_size, each.st_mtime_ns) for each in stats]
        return (self.header["checksum"], *files)


def open_folder(
    path: str | PathLike[str],
    kind: FolderKind,
    *,
    verify: bool = True,
    expected: str | None = None,
) -> Folder:
    """Opens a folder written by :func:`write_folder`: the old or the new one, never a mixture.

    Args:
        path: The folder.
        kind: The expected kind.
        verify: Whether checksums of all files are compared, unless this process has done so since
            they were written.
        expected: Checksum of the header, if the enclosing folder states one.

    Raises:
        ValueError: If there is no such folder, or it holds something else or is damaged.
    """
    path = Path(fspath(path))
    for left in reversed(range(MOST_TRIES)):
        handle = _open_directory(path, kind)
        try:
            return Folder(path, handle, kind, verify, expected)
        except ValueError:
            if left == 0 or _is_still_there(path, handle):
                raise
        finally:
            os.close(handle)
    raise AssertionError


def _open_directory(path: Path, kind: FolderKind) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            recover(Path(os.path.realpath(path)))
            return os.open(path, flags)
    except FileNotFoundError as error:
        raise ValueError(f"There is no folder {path}.") from error
    except NotADirectoryError as error:
        raise ValueError(
            f"{path} is not a folder, so it holds no {kind.holds}: {kind.made_by} makes one."
        ) from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be opened: {error}.") from error


def _is_still_there(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except OSError:
        return False


def _read_header(path: Path, folder: int | None, kind: FolderKind) -> dict[str, Any]:
    name = path if folder is None else path.name
    try:
        handle = open_regular(name, folder=folder, shown=path)
    except ValueError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise ValueError(
                f"{path} is missing, so this folder holds no {kind.holds}: give one that "
                f"{kind.made_by} wrote, with all of its files."
            ) from error
        raise
    with os.fdopen(handle, "rb") as file:
        document = parse_json(read_open(file, path), path)
    rules = {**PARTS_OF_A_HEADER, **kind.rules}
    return unseal(document, kind.format, kind.version, rules, path, kind.made_by)


def _check_parts(header: Mapping[str, Any], path: Path) -> None:
    """Whether arrays, ids and tables match the files that the header names."""
    files, arrays = header["files"], header["arrays"]
    for name in (*files, *header["folders"]):
        _file_name(name, f"A file of {path}")
    for name, about in arrays.items():
        size = num_bytes(np.dtype(about["dtype"]), about["shape"])
        if files.get(f"{name}.npy", {}).get("bytes") != size:
            raise ValueError(f"{path} is broken: {name}.npy must have {size:,} bytes.")
    for name in header["tables"]:
        if f"{name}.parquet" not in files:
            raise ValueError(f"{path} is broken: it lacks the file {name}.parquet.")


def _some(names: Any) -> str:
    listed = sorted(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")
