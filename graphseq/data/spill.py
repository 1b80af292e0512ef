"""Columns that grow on disk, and ids that are counted over chunks: what does not fit in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import ArrayLike, DTypeLike, NDArray

from graphseq.data.vocabulary import as_index

T = TypeVar("T")

IDS_PENDING = 1 << 21
"""How many ids of chunks a :class:`Unifier` gathers before it makes them distinct."""


class ColumnFiles:
    """Columns of numbers, each a file, appended to piece by piece and read back by places.

    Args:
        folder: Where the files lie.
        kinds: Name -> type of the numbers.
    """

    def __init__(self, folder: Path, kinds: Mapping[str, DTypeLike]) -> None:
        self.folder = folder
        self.kinds = {name: np.dtype(kind) for name, kind in kinds.items()}

    def __enter__(self) -> ColumnFiles:
        """Opens the files to append to."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as files:
            self._files = {
                name: files.enter_context((self.folder / name).open("wb")) for name in self.kinds
            }
            self._open = files.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()
        del self._files, self._open

    def append(self, name: str, values: ArrayLike) -> None:
        """Adds values [n] to a column."""
        array = np.ascontiguousarray(values, dtype=self.kinds[name])
        self._files[name].write(array.data)

    def read(self, name: str, starts: ArrayLike, stops: ArrayLike) -> NDArray[Any]:
        """The values at places ``starts[i]..stops[i] - 1``, one run after the other."""
        kind = self.kinds[name]
        starts, stops = np.asarray(starts), np.asarray(stops)
        out = np.empty(int((stops - starts).sum()), dtype=kind)
        view, size = out.data.cast("B") if len(out) else memoryview(b""), kind.itemsize
        place = 0
        with (self.folder / name).open("rb", buffering=0) as file:
            for start, stop in zip((starts * size).tolist(), (stops * size).tolist(), strict=True):
                file.seek(start)
                while start < stop:  # a read may give less than asked for
                    got = file.readinto(view[place : place + stop - start])
                    if not got:
                        raise OSError(f"{self.folder / name} is cut off")
                    place, start = place + got, start + got
        return out

    def delete(self) -> None:
        """Removes the files."""
        for name in self.kinds:
            (self.folder / name).unlink()


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, the next of which is made in a thread while one is being used."""
    end = object()
    with ThreadPoolExecutor(1) as thread:
        following: Future[Any] = thread.submit(next, items, end)
        while (item := following.result()) is not end:
            following = thread.submit(next, items, end)
            yield item


class Unifier:
    """Ids of a column of which each chunk has counted its own: one code an id over all chunks.

    Codes follow the first appearance. Nothing but distinct ids is held, and a code for each
    distinct id of each chunk.
    """

    def __init__(self) -> None:
        self._ids: pd.Index | None = None
        self._pending: list[pd.Index] = []
        self._codes: list[NDArray[np.int32]] = []
        self._sizes: list[int] = []

    def add(self, ids: pd.Index) -> None:
        """Adds the distinct ids of the next chunk, in order of their codes there."""
        self._pending.append(ids)
        self._sizes.append(len(ids))
        known = 0 if self._ids is None else len(self._ids)
        if sum(map(len, self._pending)) > max(IDS_PENDING, known):
            self._unify()

    def finish(self) -> tuple[pd.Index, NDArray[np.int32], NDArray[np.int64]]:
        """The ids; the code of each id of each chunk, int32 [n]; where each chunk starts in it.

        Returns:
            Ids, codes, and starts int64 [num_chunks].
        """
        self._unify()
        assert self._ids is not None
        sizes = np.array(self._sizes, dtype=np.int64)
        return self._ids, np.concatenate(self._codes), np.cumsum(sizes) - sizes

    def _unify(self) -> None:
        if not self._pending:
            return
        filled = [ids for ids in self._pending if len(ids)] or self._pending[:1]
        parts = filled if self._ids is None or not len(self._ids) else [self._ids, *filled]
        known = len(parts[0]) if parts[0] is self._ids else 0
        codes, ids = pd.factorize(parts[0].append(parts[1:]))
        self._codes.append(codes[known:].astype(np.int32))
        self._ids, self._pending = as_index(ids), []


def local_codes(column: pa.Array) -> tuple[NDArray[np.int32], pd.Index]:
    """Codes of a chunk's values in order of first appearance, -1: missing; and the ids.

    Returns:
        Codes int32 [n], ids [num_distinct].
    """
    if pa.types.is_floating(column.type):  # NaN is a value to Arrow, but missing to us
        codes, ids = pd.factorize(column.to_numpy(zero_copy_only=False))
        return codes.astype(np.int32), as_index(ids)
    if pa.types.is_dictionary(column.type):
        # The dictionary may be of other rows too.
        encoded = column.indices.dictionary_encode()
        distinct = column.dictionary.take(encoded.dictionary)
    else:
        encoded = column.dictionary_encode()
        distinct = encoded.dictionary
    indices = encoded.indices.fill_null(-1) if encoded.null_count else encoded.indices
    codes = indices.to_numpy().astype(np.int32, copy=False)
    return codes, as_index(pd.Index(distinct.to_pandas(date_as_object=False)))


class IdFile:
    """Ids on disk, batch by batch: an Arrow file of one column, as saved sessions have it.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0

    def __enter__(self) -> IdFile:
        """Opens the file to append to."""
        self._file = pa.OSFile(str(self.path), "wb")
        self._writer: Any = None
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if self._writer is not None:
                self._writer.close()
        finally:
            self._file.close()

    def append(self, ids: pa.Array) -> None:
        """Adds ids, at least one, as a batch of their own."""
        if self._writer is None:
            self._writer = pa.ipc.new_file(self._file, pa.schema([("id", ids.type)]))
        self._writer.write_batch(pa.record_batch([ids], names=["id"]))
        self.size += len(ids)

    def batches(self) -> list[pa.Array]:
        """All batches, memory-mapped."""
        with pa.memory_map(str(self.path)) as file:
            reader = pa.ipc.open_file(file)
            return [reader.get_batch(n).column(0) for n in range(reader.num_record_batches)]
