"""Logs in Parquet files: the requested columns, with the types of the files."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from graphseq.data.logs.files import FileLog, literal
from graphseq.data.logs.nested import field_of
from graphseq.data.logs.paths import LogFile, readable
from graphseq.data.logs.source import LogOptions, check_columns, split_name
from graphseq.data.logs.text import typed_text
from graphseq.data.logs.typed import WRITTEN, quoted


class ParquetLog(FileLog):
    """A log in Parquet files, in the order of the files and of the rows in them.

    Args:
        files: The files, in order.
        options: How they are read.

    Raises:
        ValueError: If one is damaged or truncated.
    """

    def __init__(self, files: Sequence[LogFile], options: LogOptions) -> None:
        super().__init__(files, options)
        self.schemas: list[pa.Schema] = []
        try:
            for file in self.files:
                with readable(file.path):
                    self.schemas.append(pq.read_schema(file.path))
        except BaseException:
            self.close()
            raise

    @property
    def names(self) -> list[Any]:  # type: ignore[override]
        """Names of the columns of the first file, and the keys of its folders."""
        return self._names(0)

    def _names(self, number: int) -> list[str]:
        names = self.schemas[number].names
        return [*names, *(key for key, _ in self.files[number].keys if key not in names)]

    def arrow(self, columns: Sequence[str], ids: Collection[str] = ()) -> pa.Table:
        parts = {name: split_name(name, self._names(0)) for name in columns}
        whole = list(dict.fromkeys(column for column, _ in parts.values()))
        for number, file in enumerate(self.files):
            check_columns(whole, self._names(number), str(file.path))
        kinds = {name: self._kind(name) for name in whole}
        with self.reading():
            table = self.connection.sql(self.scan(whole)).to_arrow_table()
        made = {}
        for name, (column, part) in parts.items():
            kind, values = kinds[column], table.column(whole.index(column))
            if kind is None:
                text = name in ids or self.options.ids == "text"
                made[name] = typed_text(values, text)
            elif pa.types.is_duration(kind):  # DuckDB reads the number behind it
                made[name] = values.cast(pa.int64()).cast(kind)
            else:
                made[name] = field_of(values, part, name) if part else values
        return pa.table(made)

    def scan(self, columns: Sequence[str]) -> str:
        """SQL of columns, called ``v0``, ``v1``, ..., in the log's order."""
        paths = literal([str(file.path) for file in self.files])
        if any(schema.names != self.schemas[0].names for schema in self.schemas[1:]):
            union = "true"
        else:
            union = (
                "true" if any(s.types != self.schemas[0].types for s in self.schemas) else "false"
            )
        keys = [key for key, _ in self.files[0].keys if key not in self.schemas[0].names]
        hive = "true, hive_types_autocast=false" if keys else "false"
        table = f"read_parquet({paths}, union_by_name={union}, hive_partitioning={hive})"
        # DuckDB ignores case in names, and calls the second of two "id_1".
        own = self.schemas[0].names
        theirs = dict(zip(own, self._called(table), strict=False)) | {key: key for key in keys}
        values = [f"{quoted(theirs[name])} AS v{place}" for place, name in enumerate(columns)]
        return f"SELECT {', '.join(values)} FROM {table}"

    def as_sql(self, columns: Sequence[str]) -> tuple[str, list[str]]:
        for number, file in enumerate(self.files):
            check_columns(columns, self._names(number), str(file.path))
        kinds = [self._kind(name) for name in columns]
        scan = self.scan(columns)
        with self.reading():
            types = [str(kind) for kind in self.connection.sql(f"{scan} LIMIT 0").types]
        for place, kind in enumerate(kinds):
            if kind is None:
                types[place] = WRITTEN
            elif pa.types.is_duration(kind):
                raise ValueError(
                    f"Column {columns[place]!r} holds durations: read the log without out=."
                )
        return scan, types

    def _called(self, table: str) -> list[str]:
        with self.reading():
            return self.connection.sql(f"FROM {table} LIMIT 0").columns

    def _kind(self, name: str) -> pa.DataType | None:
        """The type of a column in all files; ``None``: a key of folders, which is text."""
        common: pa.DataType | None = None
        for schema, file in zip(self.schemas, self.files, strict=True):
            if name not in schema.names:
                continue
            kind = _plain(schema.field(name).type)
            if common is not None and common != kind:
                pair = {common, kind}
                if all(pa.types.is_integer(k) for k in pair):
                    kind = pa.int64()
                elif all(pa.types.is_timestamp(k) for k in pair):
                    pass
                else:
                    raise ValueError(
                        f"Column {name!r} of {file.path} is of type {kind}, but {common} in the "
                        "files before it: write the files with the same types."
                    )
            common = kind
        if common is not None and pa.types.is_decimal(common) and common.precision > 38:
            raise ValueError(
                f"Column {name!r} holds {common}, more digits than can be kept: write it as text."
            )
        return common

    def blamed(self, error: duckdb.Error) -> Sequence[LogFile]:
        """If DuckDB names no file, the first one that it cannot read to the end."""
        if len(self.files) > 1 and not any(str(file.path) in str(error) for file in self.files):
            for file in self.files:
                values = f"max(hash(COLUMNS(*))) FROM read_parquet({literal(str(file.path))})"
                try:
                    self.connection.execute(f"SELECT {values}")
                except duckdb.Error:
                    return [file]
        return self.files

    def rows_of(self, file: LogFile) -> int:
        with readable(file.path):
            return int(pq.read_metadata(file.path).num_rows)


def _plain(kind: pa.DataType) -> pa.DataType:
    """One type for all kinds of text, and one for signed integers."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    return pa.int64() if pa.types.is_signed_integer(kind) else kind
