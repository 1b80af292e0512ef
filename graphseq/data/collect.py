"""Second pass over a large log: buckets are sorted one by one, then joined range by range."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from graphseq.data.events import one_user, sorted_order
from graphseq.data.ragged import window_clicks
from graphseq.data.spill import ColumnFiles, IdFile, ahead
from graphseq.data.spread import CLICKS_A_BUCKET, LogColumns, Spread
from graphseq.data.vocabulary import UNKNOWN, as_index

ROWS_A_BIN = 1 << 12
"""Rows of the log in which the clicks of the groups that begin there are counted together."""

SESSION_KINDS = {"first_row": "i8", "length": "i8", "group": "i8", "user": "i4"}


@dataclass(frozen=True)
class SortedBuckets:
    """Sessions of some buckets, in each in the order of their group's first row.

    Args:
        folder: Where they lie.
        kinds: Columns of the clicks and their types.
        starts: First click, session and group of each bucket, and the ends, int64 [num_buckets + 1,
            3].
        clicks_of_bin: Clicks of the groups that begin in each bin of rows, int64 [num_bins].
    """

    folder: Path
    kinds: dict[str, str]
    starts: NDArray[np.int64]
    clicks_of_bin: NDArray[np.int64]

    @property
    def num_clicks(self) -> int:
        return int(self.starts[-1, 0])

    @property
    def num_sessions(self) -> int:
        return int(self.starts[-1, 1])

    @property
    def files(self) -> ColumnFiles:
        """The columns of the clicks."""
        return ColumnFiles(self.folder, self.kinds)

    @property
    def session_files(self) -> ColumnFiles:
        """The columns of the sessions; ``group`` counts groups within the bucket."""
        return ColumnFiles(self.folder / "sessions", SESSION_KINDS)

    @property
    def group_ids(self) -> IdFile:
        """Ids of the groups, a batch a bucket."""
        return IdFile(self.folder / "group_ids")

    def ranges(self) -> Iterator[tuple[int, int]]:
        """First rows that groups may have, cut so that one range of them fits in memory."""
        start, clicks = 0, 0
        for place, more in enumerate(self.clicks_of_bin.tolist()):
            if clicks and clicks + more > CLICKS_A_BUCKET:
                yield start * ROWS_A_BIN, place * ROWS_A_BIN
                start, clicks = place, 0
            clicks += more
        yield start * ROWS_A_BIN, len(self.clicks_of_bin) * ROWS_A_BIN


@dataclass(frozen=True)
class Joined:
    """Sessions that follow on one another in the order of their group's first row.

    Args:
        clicks: Name -> value of each click.
        lengths: Clicks of each session, int64 [num_sessions].
        users: Code of the user of each session, int32 [num_sessions].
        groups: Place in ``group_ids`` of the group of each session, int64 [num_sessions].
        group_ids: Ids of the groups, in order.
    """

    clicks: dict[str, NDArray[Any]]
    lengths: NDArray[np.int64]
    users: NDArray[np.int32]
    groups: NDArray[np.int64]
    group_ids: pa.Array


def sort_buckets(
    spreads: Sequence[Spread],
    buckets: range,
    columns: LogColumns,
    num_rows: int,
    folder: Path,
) -> SortedBuckets:
    """Sorts the clicks of these buckets by group and time, and cuts groups into sessions.

    Args:
        spreads: The log, spread run by run, in order.
        buckets: Those to sort.
        columns: What the log's columns are.
        num_rows: Rows of the log.
        folder: Where to write.

    Raises:
        ValueError: If a session has two users.
        OSError: If something cannot be written.
    """
    kinds = {name: kind for name, kind in spreads[0].kinds.items() if name not in ("group", "user")}
    sizes = [(0, 0, 0)]
    clicks_of_bin = np.zeros(-(-num_rows // ROWS_A_BIN), dtype=np.int64)
    result = SortedBuckets(folder, kinds, np.empty((0, 3), dtype=np.int64), clicks_of_bin)
    folder.mkdir(parents=True)
    with result.files as files, result.session_files as session_files, result.group_ids as id_file:
        for bucket in ahead(_sorted(spreads, buckets, columns, list(kinds))):
            for name, values in bucket.clicks.items():
                files.append(name, values)
            for name, values in bucket.sessions.items():
                session_files.append(name, values)
            id_file.append(pa.array(bucket.group_ids))
            lengths = bucket.sessions["length"]
            np.add.at(clicks_of_bin, bucket.sessions["first_row"] // ROWS_A_BIN, lengths)
            sizes.append((int(lengths.sum()), len(lengths), len(bucket.group_ids)))
    return replace(result, starts=np.cumsum(sizes, axis=0))


@dataclass(frozen=True)
class _Bucket:
    clicks: dict[str, NDArray[Any]]
    sessions: dict[str, NDArray[Any]]
    group_ids: pd.Index


def _sorted(
    spreads: Sequence[Spread], buckets: range, columns: LogColumns, kinds: Sequence[str]
) -> Iterator[_Bucket]:
    """The buckets that are not empty, sorted."""
    inputs = [_BucketReader(each) for each in spreads]

    def read(name: str, bucket: int, order: NDArray[np.int64] | None) -> NDArray[Any]:
        values = np.concatenate([each.read(name, bucket) for each in inputs])
        return values if order is None else values[order]

    for bucket in buckets:
        group, ids, first_row = _groups(inputs, bucket)
        if not len(group):
            continue
        seconds = None if columns.time is None else read("time", bucket, None)
        order = sorted_order(group, seconds)
        if order is not None:
            group = group[order]
            seconds = None if seconds is None else seconds[order]
        begins = np.append(True, group[1:] != group[:-1])
        if columns.gap is not None and seconds is not None:
            begins[1:] |= np.diff(seconds) > columns.gap
        ptr = np.append(np.flatnonzero(begins), len(group))
        of_session = group[ptr[:-1]]
        users = np.full(len(of_session), UNKNOWN)
        if columns.user is not None:
            users = one_user(read("user", bucket, order), ptr, ids, columns.user)
        sessions = {
            "first_row": first_row[of_session],
            "length": np.diff(ptr),
            "group": of_session,
            "user": users,
        }
        clicks = {} if seconds is None else {"time": seconds}
        clicks |= {name: read(name, bucket, order) for name in kinds if name != "time"}
        yield _Bucket(clicks, sessions, ids)


def join_buckets(buckets: SortedBuckets) -> Iterator[Joined]:
    """All sessions in the order of their group's first row, range by range.

    Args:
        buckets: Sorted buckets.
    """
    num_buckets = len(buckets.starts) - 1
    ids = buckets.group_ids.batches()
    first_rows = np.memmap(buckets.session_files.folder / "first_row", dtype=np.int64, mode="r")
    clicks, sessions = (buckets.starts[:-1, column].copy() for column in (0, 1))  # read so far
    for _, stop in buckets.ranges():
        ends = np.empty_like(sessions)
        for bucket in range(num_buckets):
            rows = first_rows[sessions[bucket] : buckets.starts[bucket + 1, 1]]
            ends[bucket] = sessions[bucket] + np.searchsorted(rows, stop)
        part = {name: buckets.session_files.read(name, sessions, ends) for name in SESSION_KINDS}
        of_bucket = np.repeat(np.arange(num_buckets), ends - sessions)
        click_ends = clicks + np.bincount(
            of_bucket, weights=part["length"], minlength=num_buckets
        ).astype(np.int64)
        # Sessions of one group have one first row, and stay together in their order.
        order = np.argsort(part["first_row"], kind="stable")
        ptr = np.append(0, np.cumsum(part["length"]))
        lengths = part["length"][order]
        _, index = window_clicks(ptr, order, np.zeros_like(lengths), lengths)
        values = {
            name: buckets.files.read(name, clicks, click_ends)[index] for name in buckets.kinds
        }
        groups, group_ids = _joined_groups(part["group"], of_bucket, order, ids)
        yield Joined(values, lengths, part["user"][order], groups, group_ids)
        clicks, sessions = click_ends, ends


def _joined_groups(
    group: NDArray[np.int64],
    of_bucket: NDArray[np.int64],
    order: NDArray[np.int64],
    ids: list[pa.Array],
) -> tuple[NDArray[np.int64], pa.Array]:
    """The groups of sessions in their new order: the place of each among them, and their ids."""
    if not len(order):
        return order, ids[0].slice(0, 0)
    new = np.append(True, (group[1:] != group[:-1]) | (of_bucket[1:] != of_bucket[:-1]))
    first, bucket = group[new], of_bucket[new]
    held = [
        ids[b].slice(first[low], first[high - 1] + 1 - first[low]) for b, low, high in _runs(bucket)
    ]
    place = (np.cumsum(new) - 1)[order]  # in the order of the buckets
    begins = np.append(True, place[1:] != place[:-1])
    joined = pa.concat_arrays(held).take(pa.array(place[begins]))
    return np.cumsum(begins) - 1, joined


def _runs(values: NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
    """Each run of equal values: the value, its start, its stop."""
    starts = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
    stops = np.append(starts[1:], len(values))
    yield from zip(values[starts].tolist(), starts.tolist(), stops.tolist(), strict=True)


class _BucketReader:
    """The rows of one bucket out of a spread, codes of chunks turned to those of the log."""

    def __init__(self, spread: Spread) -> None:
        self.clicks, self.groups = spread.clicks, spread.groups
        self._files, self._first_rows = spread.files, spread.first_rows
        self._ids = spread.group_ids.batches()
        self._codes = {name: spread.chunk_codes(name) for name in spread.coded}
        self._click_stops = np.cumsum(spread.clicks.ravel()).reshape(spread.clicks.shape)
        self._group_stops = np.cumsum(spread.groups.ravel()).reshape(spread.groups.shape)
        self._group_base = np.append(0, self._group_stops[:-1, -1])  # of each chunk

    def read(self, name: str, bucket: int) -> NDArray[Any]:
        stops, sizes = self._click_stops[:, bucket], self.clicks[:, bucket]
        values = self._files.read(name, stops - sizes, stops)
        if name not in self._codes:
            return values
        codes, starts = self._codes[name]
        index = values + np.repeat(starts, sizes)
        unified = np.asarray(codes).take(index, mode="clip")
        return np.where(values < 0, values, unified) if name != "item" else unified

    def group_codes(self, bucket: int) -> NDArray[np.int64]:
        """The group of each click, counted over the chunks: an id may have several."""
        sizes = self.groups[:, bucket]
        local = self.read("group", bucket)
        return local + np.repeat(np.cumsum(sizes) - sizes, self.clicks[:, bucket])

    def group_ids(self, bucket: int) -> list[pa.Array]:
        stops, sizes = self._group_stops[:, bucket], self.groups[:, bucket]
        starts = stops - sizes - self._group_base
        return [
            batch.slice(start, size)
            for batch, start, size in zip(self._ids, starts.tolist(), sizes.tolist(), strict=True)
            if size
        ]

    def first_rows(self, bucket: int) -> NDArray[np.int64]:
        stops, sizes = self._group_stops[:, bucket], self.groups[:, bucket]
        return self._first_rows.read("first_row", stops - sizes, stops)


def _groups(
    inputs: Sequence[_BucketReader], bucket: int
) -> tuple[NDArray[np.int64], pd.Index, NDArray[np.int64]]:
    """Of a bucket: the group of each click, by first appearance; the groups' ids, first rows."""
    ids = [array for each in inputs for array in each.group_ids(bucket)]
    if not ids:
        return np.empty(0, dtype=np.int64), pd.Index([]), np.empty(0, dtype=np.int64)
    listed = pa.chunked_array(ids).to_pandas()
    codes, distinct = pd.factorize(listed)
    rows = np.concatenate([each.first_rows(bucket) for each in inputs])
    first_row = np.empty(len(distinct), dtype=np.int64)
    first_row[codes[::-1]] = rows[::-1]  # of all that write, the first one wins
    group, base = [], 0
    for each in inputs:
        group.append(each.group_codes(bucket) + base)
        base += int(each.groups[:, bucket].sum())
    return codes[np.concatenate(group)], as_index(distinct), first_row
