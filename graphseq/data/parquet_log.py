"""An event log in any number of Parquet files, read chunk by chunk and never whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from graphseq.data.events import MAX_ROWS_NAMED
from graphseq.data.tables import CODES, PARQUET_SUFFIXES, ROWS_A_CHUNK, check_columns, readable

StrPath = str | PathLike[str]

Paths = StrPath | Iterable[StrPath]
"""A Parquet file, a folder of such, or several of either."""


@dataclass(frozen=True)
class RowGroup:
    """A row group of a file of the log.

    Args:
        path: The file.
        number: Which row group of its file it is.
        num_rows: How many rows it has.
        row: Its first row, counted in the whole log.
        row_in_file: Its first row, counted in its file.
        keys: What the names of its folders say of all its rows, as in ``day=3/part.parquet``.
    """

    path: str
    number: int
    num_rows: int
    row: int
    row_in_file: int
    keys: tuple[tuple[str, Any], ...]


class ParquetLog:
    """Columns of a log in Parquet files, in the order of the files and of the rows in them.

    Args:
        paths: A file, a folder (files in it and in its folders, in the order of their paths), or
            several of either in the order given.
        columns: Names of the columns to read; keys of folders, as in ``day=3/``, count as columns.
        required: Those of them in which no value may be missing.

    Raises:
        ValueError: If there is no file, one cannot be read or lacks a column, or the types of a
            column do not go together.
    """

    def __init__(self, paths: Paths, columns: Sequence[str], required: Sequence[str] = ()) -> None:
        self.columns = list(dict.fromkeys(columns))
        self.required = list(dict.fromkeys(required))
        self.row_groups: list[RowGroup] = []
        self.num_rows = 0
        schemas: dict[str, pa.Schema] = {}
        for files, base in _files(paths):
            with readable(files[0]):
                log = ds.dataset(
                    [str(file) for file in files],
                    format="parquet",
                    partitioning="hive",
                    partition_base_dir=str(base),
                )
                fragments = list(log.get_fragments())
            for fragment in fragments:
                with readable(fragment.path):
                    schemas[fragment.path] = self._add(fragment, log.schema)
        self.types = _common_types(schemas)
        if self.num_rows == 0:
            raise ValueError("The log is empty: it needs at least one click.")

    def _add(self, fragment: Any, log_schema: pa.Schema) -> pa.Schema:
        schema = fragment.physical_schema
        keys = ds.get_partition_keys(fragment.partition_expression)
        keys = {name: value for name, value in keys.items() if name not in schema.names}
        check_columns(self.columns, [*schema.names, *keys], fragment.path)
        row_in_file = 0
        for group in fragment.row_groups:
            self.row_groups.append(
                RowGroup(
                    fragment.path,
                    group.id,
                    group.num_rows,
                    self.num_rows,
                    row_in_file,
                    tuple((name, keys[name]) for name in self.columns if name in keys),
                )
            )
            self.num_rows += group.num_rows
            row_in_file += group.num_rows
        return pa.schema(
            [(log_schema if name in keys else schema).field(name) for name in self.columns]
        )

    def shares(self, number: int) -> list[list[RowGroup]]:
        """The log in at most ``number`` runs of row groups, with about as many rows each."""
        places = np.array([group.row + group.num_rows / 2 for group in self.row_groups])
        share = (places * number / self.num_rows).astype(np.int64).tolist()
        runs = groupby(zip(share, self.row_groups, strict=True), key=lambda pair: pair[0])
        return [[group for _, group in run] for _, run in runs]

    def has_nulls(self, column: str) -> bool:
        """Whether a value of this column is missing; read from the files' own counts, if any."""
        for path in dict.fromkeys(group.path for group in self.row_groups):
            with readable(path), pq.ParquetFile(path) as file:
                metadata = file.metadata
                for number in range(metadata.num_row_groups):
                    row_group = metadata.row_group(number)
                    for place in range(row_group.num_columns):
                        values = row_group.column(place)
                        if values.path_in_schema != column:
                            continue
                        counted = values.statistics is not None and values.statistics.has_null_count
                        if counted and values.statistics.null_count:
                            return True
                        if not counted and _missing(file.read_row_group(number, [column])[0]).any():
                            return True
        return False

    def chunks(self, row_groups: Sequence[RowGroup]) -> Iterator[tuple[int, dict[str, pa.Array]]]:
        """Rows of these row groups, which follow on one another, in chunks of about a million.

        Args:
            row_groups: A run of row groups, in order.

        Yields:
            The chunk's first row, counted in the whole log, and its columns; text comes with each
            distinct value once and a code a row.

        Raises:
            ValueError: If a file is broken, or a required value is missing.
        """
        held: list[dict[str, pa.Array]] = []
        row, size = (row_groups[0].row if row_groups else 0), 0
        for columns in self._batches(row_groups):
            held.append(columns)
            size += len(columns[self.columns[0]])
            if size >= ROWS_A_CHUNK:
                yield row, {name: _combined([c[name] for c in held]) for name in self.columns}
                row, held, size = row + size, [], 0
        if size:
            yield row, {name: _combined([c[name] for c in held]) for name in self.columns}

    def _batches(self, row_groups: Sequence[RowGroup]) -> Iterator[dict[str, pa.Array]]:
        for path, run in groupby(row_groups, key=lambda group: group.path):
            groups = list(run)
            keys = dict(groups[0].keys)
            names = [name for name in self.columns if name not in keys]
            text = [name for name in names if self.types[name] == CODES]
            row = groups[0].row_in_file
            with (
                readable(path),
                pq.ParquetFile(path, memory_map=True, read_dictionary=text) as file,
            ):
                for batch in file.iter_batches(
                    ROWS_A_CHUNK,
                    row_groups=[group.number for group in groups],
                    columns=names,
                ):
                    columns = {}
                    for name, kind in self.types.items():
                        column = (
                            pa.repeat(pa.scalar(keys[name]), len(batch))
                            if name in keys
                            else batch.column(name)
                        )
                        columns[name] = column if column.type == kind else column.cast(kind)
                    self._check(columns, path, row)
                    row += len(batch)
                    yield columns

    def _check(self, columns: dict[str, pa.Array], path: str, row: int) -> None:
        for name in self.required:
            missing = _missing(columns[name])
            if missing.any():
                rows = np.flatnonzero(missing)
                named = ", ".join(map(str, (rows[:MAX_ROWS_NAMED] + row).tolist()))
                more = ", ..." if len(rows) > MAX_ROWS_NAMED else ""
                raise ValueError(
                    f"Column {name!r} of {path} has rows without a value ({len(rows)} so far: row "
                    f"{named}{more}, counted from 0): fill them in or drop them."
                )


def _files(paths: Paths) -> Iterator[tuple[list[Path], Path]]:
    """Runs of files, and the folder from which on names of folders are keys."""
    given = [paths] if isinstance(paths, (str, PathLike)) else list(paths)
    if not given:
        raise ValueError("There is no log: the list of paths is empty.")
    for each in given:
        path = Path(fspath(each))
        if path.is_dir():
            inner = (p for p in path.rglob("*") if p.suffix.lower() in PARQUET_SUFFIXES)
            files = sorted(
                p
                for p in inner
                if p.is_file() and not any(n[0] in "._" for n in p.relative_to(path).parts)
            )
            if not files:
                raise ValueError(f"The folder {path} holds no Parquet file.")
            yield files, path
        elif not path.exists():
            raise ValueError(f"There is no log at {path}.")
        else:
            yield [path], path.parent


def _common_types(schemas: dict[str, pa.Schema]) -> dict[str, pa.DataType]:
    """The type of each column that holds the values of all files; text as codes."""
    common: pa.Schema | None = None
    for path, schema in schemas.items():
        schema = pa.schema([pa.field(f.name, _plain(f.type)) for f in schema])
        try:
            common = (
                schema
                if common is None
                else pa.unify_schemas([common, schema], promote_options="permissive")
            )
        except pa.ArrowException as error:
            raise ValueError(
                f"The columns of {path} are of other types than those of the files before it "
                f"({error}): write them with the same types."
            ) from error
    assert common is not None
    return {f.name: CODES if f.type == pa.string() else f.type for f in common}


def _plain(kind: pa.DataType) -> pa.DataType:
    """One type for all integers and one for all text, whatever width they were written in."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_integer(kind):
        return pa.int64()
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return pa.string() if text or pa.types.is_string_view(kind) else kind


def _missing(column: pa.Array | pa.ChunkedArray) -> Any:
    """Which values are null or NaN, bool [n]."""
    if column.null_count == 0 and not pa.types.is_floating(column.type):
        return np.zeros(1, dtype=bool)
    return np.asarray(pc.is_null(column, nan_is_null=True))


def _combined(arrays: list[pa.Array]) -> pa.Array:
    if len(arrays) == 1:
        return arrays[0]
    whole = pa.chunked_array(arrays)
    if pa.types.is_dictionary(whole.type):
        whole = whole.unify_dictionaries()
    return whole.combine_chunks()
