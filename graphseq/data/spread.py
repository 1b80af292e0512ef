"""First pass over a large log: rows are spread over buckets on disk, a session in one of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from graphseq.data.events import to_seconds
from graphseq.data.parquet_log import ParquetLog, RowGroup
from graphseq.data.spill import ColumnFiles, IdFile, Unifier, ahead, local_codes
from graphseq.data.storage import open_ids, write_ids
from graphseq.data.vocabulary import UNKNOWN

CLICKS_A_BUCKET = 1 << 22
"""About how many clicks are sorted in memory at a time."""


@dataclass(frozen=True)
class LogColumns:
    """What the columns of a log are.

    Args:
        group: Column of sessions or, where they are cut by ``gap``, of users.
        item, time, user: Columns, as in :meth:`Sessions.from_frame`.
        gap: Longest pause within a session in seconds, or ``None``.
        features: Columns that describe the click.
        described: Columns that describe the item.
        by_user: Whether ``group`` is the user; with ``user`` too, users get codes before they are
            sorted, so that runs of the log can agree on them.
    """

    group: str
    item: str
    time: str | None = None
    user: str | None = None
    gap: float | None = None
    features: tuple[str, ...] = ()
    described: tuple[str, ...] = ()
    by_user: bool = False

    @property
    def all(self) -> list[str]:
        """Names of all columns to read."""
        named = [self.group, self.item, self.time, self.user, *self.places]
        return list(dict.fromkeys(name for name in named if name is not None))

    @property
    def places(self) -> dict[str, str]:
        """Name of each column that describes -> its name on disk, where not all names can be."""
        names = dict.fromkeys((*self.features, *self.described))
        return {name: f"column_{number}" for number, name in enumerate(names)}

    @property
    def required(self) -> list[str]:
        """Names of those in which no value may be missing."""
        return [name for name in (self.group, self.item, self.time) if name is not None]

    def open(self, paths: Any) -> ParquetLog:
        """The log of these columns."""
        return ParquetLog(paths, self.all, self.required)

    def numbers(self, log: ParquetLog) -> dict[str, str]:
        """Name -> type on disk of the described columns that are numbers; all else gets codes."""
        kinds = {}
        for name in self.places:
            if pa.types.is_integer(log.types[name]):
                kinds[name] = "f8" if log.has_nulls(name) else "i8"
            elif pa.types.is_floating(log.types[name]):
                kinds[name] = "f8"
        return kinds


@dataclass(frozen=True)
class Spread:
    """Rows of a run of row groups, spread over buckets: chunk by chunk, in each bucket by bucket.

    Args:
        folder: Where they lie.
        kinds: Columns of the clicks and their types; ``group`` is a code within chunk and bucket,
            ``item`` and other codes are within the chunk.
        clicks: Clicks of each chunk in each bucket, int64 [num_chunks, num_buckets].
        groups: Groups of each chunk in each bucket, int64 [num_chunks, num_buckets].
        coded: Columns whose values are codes of chunks, and how many ids each has in all.
    """

    folder: Path
    kinds: dict[str, str]
    clicks: NDArray[np.int64]
    groups: NDArray[np.int64]
    coded: dict[str, int]

    @property
    def files(self) -> ColumnFiles:
        """The columns of the clicks."""
        return ColumnFiles(self.folder, self.kinds)

    @property
    def first_rows(self) -> ColumnFiles:
        """The first row in the log of each group of each chunk and bucket."""
        return ColumnFiles(self.folder, {"first_row": "i8"})

    @property
    def group_ids(self) -> IdFile:
        """The ids of the groups, a batch a chunk."""
        return IdFile(self.folder / "group_ids")

    def vocabulary(self, name: str) -> pd.Index:
        """Ids of a column of codes."""
        return open_ids(self.folder / f"{name}.ids", "arrow", self.coded[name])

    def save_codes(self, name: str, codes: NDArray[np.int32]) -> None:
        """Writes the codes that :meth:`chunk_codes` reads, and one more for a missing id."""
        np.save(self.folder / f"{name}.codes.npy", codes)

    def chunk_codes(self, name: str) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Code of each id of each chunk in :meth:`vocabulary`, and where chunks start in it."""
        codes = np.load(self.folder / f"{name}.codes.npy")
        return codes, np.load(self.folder / f"{name}.starts.npy")


def num_buckets(num_rows: int, num_shards: int = 1) -> int:
    """Buckets of each shard, so that one of them fits in memory."""
    return max(1, -(-num_rows // (CLICKS_A_BUCKET * num_shards)))


def buckets_of(ids: pd.Index, num_shards: int, buckets_a_shard: int) -> NDArray[np.integer[Any]]:
    """The bucket of each id, by its hash: shard x buckets + bucket in it, int [n].

    The shard depends on the id and the number of shards alone.
    """
    values = ids.to_numpy(dtype=object) if isinstance(ids.dtype, pd.StringDtype) else ids.to_numpy()
    hashed = pd.util.hash_array(values, categorize=False)
    shard, rest = hashed % num_shards, hashed // num_shards
    bucket = shard * buckets_a_shard + rest % buckets_a_shard
    # In 8 or 16 bits, which NumPy sorts by radix.
    most = num_shards * buckets_a_shard
    return bucket.astype(np.uint8 if most <= 1 << 8 else np.uint16 if most <= 1 << 16 else np.int32)


def spread(
    log: ParquetLog,
    row_groups: Sequence[RowGroup],
    columns: LogColumns,
    numbers: dict[str, str],
    folder: Path,
    num_shards: int,
    buckets_a_shard: int,
) -> Spread:
    """Reads a run of row groups once and spreads its rows over buckets by the hash of their group.

    Args:
        log: The log.
        row_groups: Those to read.
        columns: What its columns are.
        numbers: Types of the described columns that are numbers, see :meth:`LogColumns.numbers`.
        folder: Where to write.
        num_shards, buckets_a_shard: How many buckets there are.

    Raises:
        ValueError: If a file is broken, or a value is missing that must not be.
        OSError: If something cannot be written.
    """
    kinds, coded = _stored(columns, numbers)
    whole = num_shards * buckets_a_shard
    clicks: list[NDArray[np.int64]] = []
    groups: list[NDArray[np.int64]] = []
    unifiers = {name: Unifier() for name in coded}
    folder.mkdir(parents=True)
    none = np.empty((0, whole), dtype=np.int64)
    result = Spread(folder, kinds, none, none, {})
    with result.files as files, result.first_rows as first_rows, result.group_ids as group_ids:
        for row, chunk, coded_chunk in ahead(_chunks(log, row_groups, columns.group, coded)):
            group, ids = coded_chunk["group"]
            of_id = buckets_of(ids, num_shards, buckets_a_shard)
            by_bucket = np.argsort(of_id, kind="stable")  # of the ids
            groups.append(np.bincount(of_id, minlength=whole))
            start = np.cumsum(groups[-1]) - groups[-1]
            place = np.empty(len(ids), dtype=np.int32)  # of an id in its bucket
            place[by_bucket] = np.arange(len(ids)) - np.repeat(start, groups[-1])
            first = np.empty(len(ids), dtype=np.int64)
            first[group[::-1]] = np.arange(len(group))[::-1]  # of all that write, the first row
            first_rows.append("first_row", row + first[by_bucket])
            group_ids.append(pa.array(ids.take(by_bucket)))

            bucket = of_id[group]
            clicks.append(np.bincount(bucket, minlength=whole))
            order = np.argsort(bucket, kind="stable")
            files.append("group", place[group[order]])
            for name, unifier in unifiers.items():
                codes, ids = coded_chunk[name]
                unifier.add(ids)
                files.append(name, codes[order])
            if columns.time is not None:
                times = chunk[columns.time].to_pandas(date_as_object=False)
                files.append("time", to_seconds(times.rename(columns.time))[order])
            for column in numbers:
                values = chunk[column].to_numpy(zero_copy_only=False)
                files.append(columns.places[column], values[order])
    for name, unifier in unifiers.items():
        vocabulary, chunk_codes, chunk_starts = unifier.finish()
        result.coded[name] = len(vocabulary)
        write_ids(folder / f"{name}.ids", vocabulary, coded[name])
        result.save_codes(name, np.append(chunk_codes, UNKNOWN))
        np.save(folder / f"{name}.starts.npy", chunk_starts)
    return replace(result, clicks=np.array(clicks), groups=np.array(groups))


Coded = dict[str, tuple[NDArray[np.int32], pd.Index]]
"""Name on disk -> codes and ids."""


def _chunks(
    log: ParquetLog, row_groups: Sequence[RowGroup], group: str, coded: dict[str, str]
) -> Iterator[tuple[int, dict[str, pa.Array], Coded]]:
    for row, chunk in log.chunks(row_groups):
        named = {"group": group, **coded}
        yield row, chunk, {name: local_codes(chunk[column]) for name, column in named.items()}


def _stored(columns: LogColumns, numbers: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Name on disk -> type, and name on disk -> column of those that get codes."""
    kinds, coded = {"group": "i4", "item": "i4"}, {"item": columns.item}
    if columns.time is not None:
        kinds["time"] = "f8"
    if columns.user is not None:
        kinds["user"], coded["user"] = "i4", columns.user
    for name, place in columns.places.items():
        kinds[place] = numbers.get(name, "i4")
        if name not in numbers:
            coded[place] = name
    return kinds, coded
