"""Logs in text files, read as text; the values of a column then determine its type."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import groupby
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from graphseq.data.logs.dialect import Dialect, candidates, dialect, first_lines, plain_copy
from graphseq.data.logs.files import FileLog, literal
from graphseq.data.logs.ids import INTEGER, cast_text, integers_of_text
from graphseq.data.logs.paths import LogFile
from graphseq.data.logs.source import BadLine, LogOptions, check_columns, logger
from graphseq.data.logs.typed import WRITTEN

DIGITS_OF_BIGINT = 18
"""Integers with up to this many characters always fit in 64 bits."""


class TextLog(FileLog):
    """A log in delimited text files.

    Args:
        files: The files, in order.
        options: Options for reading them.

    Raises:
        ValueError: If one is empty, or not in the encoding.
    """

    def __init__(self, files: Sequence[LogFile], options: LogOptions) -> None:
        super().__init__(files, options)
        self._plain: list[LogFile] = []  # as DuckDB reads them
        self._texts: list[str] = []
        self._candidates: dict[int, list[Dialect]] = {}
        try:
            for number, file in enumerate(self.files):
                text, native = first_lines(file, options.encoding)
                if not native:
                    file = self._copy(number)
                self._plain.append(file)
                self._texts.append(text)
        except BaseException:
            self.close()
            raise

    def _copy(self, number: int) -> LogFile:
        path = self.folder / f"{number}.txt"
        return plain_copy(self.files[number], self.options.encoding, path, self.options.quote)

    @property
    def names(self) -> list[Any]:  # type: ignore[override]
        """Names of the columns of the first file, and the keys of its folders."""
        return self._names(0, self._dialect(0, ()))

    def _names(self, number: int, how: Dialect) -> list[str]:
        keys = [name for name, _ in self.files[number].keys if name not in how.names]
        return [*how.names, *keys]

    def _dialect(self, number: int, wanted: Sequence[str]) -> Dialect:
        file = self.files[number]
        keys = [name for name, _ in file.keys]
        if number not in self._candidates:
            self._candidates[number] = candidates(file, self._texts[number], self.options)
        return dialect(file, self._candidates[number], self.options, wanted, keys)

    def has(self, name: Any, beside: Sequence[Any]) -> bool:
        """Whether there is such a column in a log that also has the others."""
        both = self._dialect(0, [name, *beside])
        return name in self._names(0, both) or name in self._names(0, self._dialect(0, beside))

    def as_sql(self, columns: Sequence[str]) -> tuple[str, list[str]]:
        return self.scan(columns, self._dialects(columns)), [WRITTEN] * len(columns)

    def _dialects(self, wanted: Sequence[str]) -> list[Dialect]:
        dialects = [self._dialect(number, wanted) for number in range(len(self.files))]
        for number, how in enumerate(dialects):
            check_columns(wanted, self._names(number, how), str(self.files[number].path))
        return dialects

    def arrow(self, columns: Sequence[str], ids: Collection[str] = ()) -> pa.Table:
        dialects = self._dialects(columns)
        try:
            return self._typed(columns, ids, dialects)
        except duckdb.Error as error:
            # Several kinds of line ends: DuckDB reads one kind.
            if "invalid state" not in str(error):
                raise
            self._plain = [self._copy(number) for number in range(len(self.files))]
            with self.reading():
                return self._typed(columns, ids, dialects)

    def _typed(
        self, columns: Sequence[str], ids: Collection[str], dialects: Sequence[Dialect]
    ) -> pa.Table:
        guesses = {
            name: _guess(name, dialects, self.files, self.options.null_values) for name in columns
        }
        if self.options.ids == "text":
            guesses |= dict.fromkeys(ids, "text")
        select, flags = [], {}
        for place, name in enumerate(columns):
            column = f"v{place}"
            if guesses[name] == "integers":
                whole = f"try_cast({column} AS BIGINT)"
                select += [f"{whole} AS i{place}"]
                flags[name] = len(select)
                select += [
                    f"({column} IS NOT NULL AND ({whole})::VARCHAR IS DISTINCT FROM {column}) "
                    f"AS f{place}"
                ]
            else:
                select += [column]
        found = self._fetch(", ".join(select), columns, dialects)
        made = dict(zip(_places(select), found.columns, strict=True))
        table: dict[str, Any] = {}
        again = [
            name
            for place, name in enumerate(columns)
            if name in flags and pc.any(made[f"f{place}"]).as_py()
        ]
        if again:
            kept = self._fetch(
                ", ".join(f"v{n}" for n in range(len(again))), again, dialects, count=False
            )
            later = dict(zip(again, kept.columns, strict=True))
        for place, name in enumerate(columns):
            if name in flags and name not in again:
                table[name] = made[f"i{place}"]
                continue
            text = later[name] if name in again else made[f"v{place}"]
            certain = guesses[name] == "text" and name in ids
            table[name] = text if certain else typed_text(text, name in ids)
        return pa.table(table)

    def _fetch(
        self,
        select: str,
        columns: Sequence[str],
        dialects: Sequence[Dialect],
        *,
        count: bool = True,
    ) -> pa.Table:
        skip = self.options.bad_lines != "refuse"
        if skip:
            self.connection.execute("DROP TABLE IF EXISTS reject_errors")
            self.connection.execute("DROP TABLE IF EXISTS reject_scans")
        scan = self.scan(columns, dialects)
        try:
            table = self.connection.sql(f"SELECT {select} FROM ({scan})").to_arrow_table()
        except duckdb.Error as error:
            if "invalid state" in str(error):
                raise
            with self.reading():
                raise
        if skip and count:
            self._count_bad_lines()
        return table

    def _count_bad_lines(self) -> None:
        rows = self.connection.sql(
            "SELECT file_path, line, error_message FROM reject_errors JOIN "
            "(SELECT DISTINCT scan_id, file_id, file_path FROM reject_scans) "
            "USING (scan_id, file_id) ORDER BY scan_id, file_id, line"
        ).fetchall()
        if not rows:
            return
        path_of = {str(p.path): str(f.path) for p, f in zip(self._plain, self.files, strict=True)}
        bad = [BadLine(path_of.get(path, path), line, reason) for path, line, reason in rows]
        if not isinstance(self.options.bad_lines, str):
            self.options.bad_lines.extend(bad)
        first = bad[0]
        logger.warning(
            "%d lines were skipped, the first of them line %d of %s: %s",
            len(bad),
            first.line,
            first.file,
            first.reason,
        )

    def scan(self, columns: Sequence[str], dialects: Sequence[Dialect]) -> str:
        """SQL of columns as text, named ``v0``, ``v1``, ..., in the log's order."""
        numbers = range(len(self.files))
        parts = []
        for (how, _, keys), run in groupby(
            numbers,
            key=lambda n: (_form(dialects[n]), self._plain[n].compression, self.files[n].keys),
        ):
            group = list(run)
            paths = [str(self._plain[n].path) for n in group]
            values = []
            for place, name in enumerate(columns):
                if name in how[1]:
                    value = f"c{how[1].index(name)}"
                    if how[3]:
                        value = f"nullif(ltrim({value}, ' '), '')"
                else:
                    value = f"{literal(dict(keys)[name])}::VARCHAR"
                values.append(f"{value} AS v{place}")
            table = self._table(paths, dialects[group[0]], self._plain[group[0]].compression)
            parts.append(f"SELECT {', '.join(values)} FROM {table}")
        return " UNION ALL ".join(parts)

    def _table(self, paths: Sequence[str], how: Dialect, compression: str | None) -> str:
        columns = ", ".join(f"'c{n}': 'VARCHAR'" for n in range(len(how.names)))
        quote = literal(self.options.quote or "")
        settings = {
            "auto_detect": "false",
            "header": str(how.header).lower(),
            "skip": str(how.skip),
            "delim": literal(how.separator),
            "quote": quote,
            "escape": quote,
            "comment": "''",
            "columns": f"{{{columns}}}",
            "nullstr": literal(["", *self.options.null_values]),
            "compression": literal(compression or "none"),
            "hive_partitioning": "false",
        }
        if self.options.bad_lines != "refuse":
            settings["store_rejects"] = "true"
            settings["rejects_limit"] = "0"
        told = ", ".join(f"{name}={value}" for name, value in settings.items())
        return f"read_csv({literal(list(paths))}, {told})"

    def rows_of(self, file: LogFile) -> int:
        number = self.files.index(file)
        plain = self._plain[number]
        table = self._table([str(plain.path)], self._dialect(number, ()), plain.compression)
        with self.reading():
            rows = self.connection.sql(f"SELECT count(*) FROM {table}").fetchall()
        return int(rows[0][0])


def _form(how: Dialect) -> tuple[str, tuple[str, ...], bool, bool, int]:
    return how.separator, how.names, how.header, how.padded, how.skip


def _places(select: Sequence[str]) -> list[str]:
    return [expression.rsplit(" ", 1)[-1] for expression in select]


def _guess(
    name: str, dialects: Sequence[Dialect], files: Sequence[LogFile], nulls: Sequence[str]
) -> str:
    """The type of a column in the first rows: ``"integers"``, ``"text"``, or ``"unknown"``."""
    values: list[str] = []
    for how, file in zip(dialects, files, strict=True):
        if name in how.names:
            place = how.names.index(name)
            values += [row[place] for row in how.sample[:1000] if len(row) > place]
        else:
            values += [v for k, v in file.keys if k == name and v is not None]
        if len(values) > 10_000:
            break
    values = [value.lstrip(" ") if dialects[0].padded else value for value in values]
    there = [value for value in values if value and value not in nulls]
    if not there:
        return "unknown"
    if not pc.all(pc.match_substring_regex(pa.array(there), INTEGER)).as_py():
        return "text"
    return "integers" if max(map(len, there)) <= DIGITS_OF_BIGINT else "unknown"


def typed_text(text: Any, is_id: bool) -> Any:
    """A column of text as integers, or, if it does not hold ids, as floats or booleans, else
    unchanged.

    Args:
        text: Arrow's column of text.
        is_id: Whether it holds ids, which are integers or text.
    """
    if text.null_count == len(text):
        return text
    whole = integers_of_text(text)
    if whole is not None:
        return whole
    if is_id:
        return text
    for part in (text.slice(0, 1000), text):  # the first values of most columns show it
        lower = pc.utf8_lower(part)
        if not pc.all(
            pc.or_(pc.is_in(lower, pa.array(["true", "false"])), pc.is_null(lower))
        ).as_py():
            break
    else:
        return pc.equal(lower, "true")
    numbers = cast_text(text, pa.float64())
    if numbers is None:
        return text
    # 007 is a code, not a number.
    return text if pc.any(pc.match_substring_regex(text, r"^[+-]?0\d")).as_py() else numbers
