"""Logs in JSON lines, with each number and text as in the file."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from graphseq.data.logs.dialect import first_lines, plain_copy
from graphseq.data.logs.files import FileLog, literal
from graphseq.data.logs.ids import integers_of_text
from graphseq.data.logs.paths import LogFile
from graphseq.data.logs.source import BadLine, LogOptions, check_columns, logger, split_name
from graphseq.data.logs.text import typed_text
from graphseq.data.logs.typed import WRITTEN

OBJECTS_LOOKED_AT = 1000
"""Number of first objects that determine the columns."""

BYTES_AN_OBJECT = 1 << 28
"""Maximum length of an object."""


class JsonLog(FileLog):
    """A log in JSON files: one object per line, or a list of objects.

    Args:
        files: The files, in order.
        options: How they are read.

    Raises:
        ValueError: If one is damaged, truncated, or not in the encoding.
    """

    def __init__(self, files: Sequence[LogFile], options: LogOptions) -> None:
        super().__init__(files, options)
        self._plain: list[LogFile] = []  # as DuckDB reads them
        try:
            for number, file in enumerate(self.files):
                _, native = first_lines(file, options.encoding)
                path = self.folder / f"{number}.json"
                self._plain.append(file if native else plain_copy(file, options.encoding, path))
        except BaseException:
            self.close()
            raise

    @property
    def names(self) -> list[Any]:  # type: ignore[override]
        """Names in the first objects, and the keys of folders."""
        objects = self._objects(self._plain)
        with self.reading():
            keys = self.connection.sql(
                f"SELECT json_keys(j) FROM {objects} LIMIT {OBJECTS_LOOKED_AT}"
            ).fetchall()
        names = dict.fromkeys(name for (named,) in keys for name in named or ())
        return list(names | dict.fromkeys(key for key, _ in self.files[0].keys))

    def arrow(self, columns: Sequence[str], ids: Collection[str] = ()) -> pa.Table:
        parts = {name: self._split(name) for name in columns}
        whole = list(dict.fromkeys(column for column, _ in parts.values()))
        with self.reading():
            self.connection.execute(f"CREATE OR REPLACE TEMP TABLE raw AS {self.scan(whole)}")
        self._count_bad_lines()
        rows = self.connection.sql("SELECT count(*) FROM raw").fetchall()[0][0]
        made: dict[str, Any] = {}
        for name, (column, part) in parts.items():
            place = whole.index(column)
            if name in dict(self.files[0].keys):
                text = self.connection.sql(f"SELECT v{place} FROM raw").to_arrow_table().column(0)
                made[name] = typed_text(text, name in ids)
            else:
                made[name] = self._column(f"v{place}", name, name in ids, part)
            if rows and made[name].null_count == rows:  # is it a key that no object has?
                check_columns([column], self.names, str(self.files[0].path))
        return pa.table(made)

    def as_sql(self, columns: Sequence[str]) -> tuple[str, list[str]]:
        scan = self.scan(columns)
        keys = dict(self.files[0].keys)
        own = [place for place, name in enumerate(columns) if name not in keys]
        kinds = ", ".join(f"list(DISTINCT json_type(v{place})) AS v{place}" for place in own)
        whole = ", ".join(
            f"bool_and(regexp_full_match(v{place} ->> '$', '-?[0-9]+'))" for place in own
        )
        types = [WRITTEN] * len(columns)
        if not own:
            return f"SELECT * FROM ({scan})", types
        with self.reading():
            found = self.connection.sql(f"SELECT {kinds}, {whole} FROM ({scan})").fetchall()[0]
        for place, kind, integers in zip(own, found[: len(own)], found[len(own) :], strict=True):
            there = set(kind or ()) - {"NULL", None}
            numbers = there <= {"BIGINT", "UBIGINT", "DOUBLE"}
            if not there or not (numbers or len(there) == 1) or there & {"OBJECT", "ARRAY"}:
                self.arrow([columns[place]])  # which states what is wrong
            if there in ({"VARCHAR"}, {"BOOLEAN"}):
                types[place] = there.pop()
            elif numbers and not integers:
                types[place] = "DOUBLE"
        values = ", ".join(
            f"CAST(v{place} ->> '$' AS {types[place].replace(WRITTEN, 'VARCHAR')}) AS v{place}"
            if place in own
            else f"v{place}"
            for place in range(len(columns))
        )
        return f"SELECT {values} FROM ({scan})", types

    def _split(self, name: str) -> tuple[str, str]:
        """A key of the objects, and a part of its value."""
        return split_name(name, self.names) if "." in name else (name, "")

    def _lists(self, column: str, name: str, is_id: bool, part: str) -> Any:
        """A column of JSON arrays as lists of their values, or of a part of each value."""
        path = _path(*part.split("."))[1:]
        held = f"json_extract({column}, {literal('$[*]' + path)})" if part else f"{column}::JSON[]"
        with self.reading():
            lengths = self.connection.sql(
                f"SELECT json_array_length({column})::BIGINT, len({held})::BIGINT FROM raw"
            ).to_arrow_table()
            if lengths.column(0) != lengths.column(1):  # if some objects lack the part
                found = f"json_extract(u, {literal('$' + path)})"
                held = f"list_transform({column}::JSON[], lambda u: {found})"
            self.connection.execute(
                f"CREATE OR REPLACE TEMP TABLE parts AS SELECT unnest({held}) AS e FROM raw"
            )
        values = self._column("e", name, is_id, table="parts")
        self.connection.execute("DROP TABLE parts")
        values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
        ends = np.cumsum(pc.fill_null(lengths.column(0), 0).to_numpy(), dtype=np.int64)
        missing = np.asarray(lengths.column(0).is_null())
        return pa.LargeListArray.from_arrays(
            pa.array(np.append(0, ends)), values, mask=pa.array(missing)
        )

    def _column(
        self, column: str, name: str, is_id: bool, part: str = "", table: str = "raw"
    ) -> Any:
        """A column of JSON values, or of a part of each, with one type for all of them."""
        kinds = {
            kind
            for (kind,) in self.connection.sql(
                f"SELECT DISTINCT json_type({column}) FROM {table} "
                f"WHERE json_type({column}) != 'NULL'"
            ).fetchall()
        }
        if kinds == {"ARRAY"} and table == "raw":
            return self._lists(column, name, is_id, part)
        if part and kinds == {"OBJECT"}:
            inner = f"json_extract({column}, {literal(_path(*part.split('.')))})"
            return self._column(inner, name, is_id, table=table)
        kinds = {"NUMBER" if k in ("BIGINT", "UBIGINT", "DOUBLE") else k for k in kinds}
        nested = kinds & {"OBJECT", "ARRAY"}
        if nested:
            raise ValueError(
                f"Column {name!r} is nested in {self.files[0].path} (it holds "
                f"{'objects' if 'OBJECT' in nested else 'lists'}): name a column of plain values."
            )
        if len(kinds) > 1 and not (is_id and self.options.ids == "text"):
            raise ValueError(
                f"Column {name!r} of {self.files[0].path} mixes {' and '.join(sorted(kinds))} "
                "values: write one type, or, for ids, pass ids='text'."
            )
        # Numbers are read as text from the file: DOUBLE would lose the last digits of integers.
        text = (
            self.connection.sql(f"SELECT {column} ->> '$' FROM {table}").to_arrow_table().column(0)
        )
        if kinds == {"BOOLEAN"}:
            return pc.equal(text, "true")
        if kinds == {"NUMBER"}:
            whole = integers_of_text(text)
            if whole is not None:
                return whole
            integers = pc.match_substring_regex(text, r"^-?\d+$")
            return text if pc.all(integers).as_py() else pc.cast(text, pa.float64())
        return text

    def scan(self, columns: Sequence[str]) -> str:
        """SQL of columns as JSON, named ``v0``, ``v1``, ..., in the log's order."""
        parts = []
        for file, plain in zip(self.files, self._plain, strict=True):
            keys = dict(file.keys)
            values = [
                f"{literal(keys[name])}::VARCHAR AS v{place}"
                if name in keys
                else f"json_extract(j, {literal(_path(name))}) AS v{place}"
                for place, name in enumerate(columns)
            ]
            parts.append(
                f"SELECT {', '.join(values)} FROM {self._objects([plain])} WHERE j IS NOT NULL"
            )
        return " UNION ALL ".join(parts)

    def _objects(self, files: Sequence[LogFile]) -> str:
        """SQL of a table whose column ``j`` holds one object per row."""
        skip = str(self.options.bad_lines != "refuse").lower()
        compression = literal(files[0].compression or "none")
        return (
            f"read_json({literal([str(file.path) for file in files])}, columns={{'j': 'JSON'}}, "
            f"records=false, format='auto', ignore_errors={skip}, compression={compression}, "
            f"maximum_object_size={BYTES_AN_OBJECT}, hive_partitioning=false)"
        )

    def _count_bad_lines(self) -> None:
        if self.options.bad_lines == "refuse":
            return
        bad = []
        for file, plain in zip(self.files, self._plain, strict=True):
            rows = self.connection.sql(
                f"SELECT n FROM (SELECT row_number() OVER () AS n, j FROM "
                f"{self._objects([plain])}) WHERE j IS NULL"
            ).fetchall()
            bad += [BadLine(str(file.path), n, "it is not a JSON object") for (n,) in rows]
        if bad and not isinstance(self.options.bad_lines, str):
            self.options.bad_lines.extend(bad)
        if bad:
            logger.warning(
                "%d lines were skipped, the first of them line %d of %s: %s",
                len(bad),
                bad[0].line,
                bad[0].file,
                bad[0].reason,
            )

    def rows_of(self, file: LogFile) -> int:
        plain = self._plain[self.files.index(file)]
        with self.reading():
            found = self.connection.sql(f"SELECT count(j) FROM {self._objects([plain])}").fetchall()
        return int(found[0][0])


def _path(*names: str) -> str:
    """The JSON path of a key with any name, or of a key of the object at it."""
    quoted = [name.replace("\\", "\\\\").replace('"', '\\"') for name in names]
    return "$" + "".join(f'."{name}"' for name in quoted)
