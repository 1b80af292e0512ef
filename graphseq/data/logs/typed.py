"""A log's columns as SQL, typed by the same rules as in memory, for logs larger than memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NoReturn, Protocol

import duckdb
import pandas as pd
from duckdb.func import FunctionNullHandling, PythonUDFType

from graphseq.data.logs.ids import exact_up_to, id_column, series_of_arrow
from graphseq.data.logs.source import LogOptions, Typed
from graphseq.data.logs.times import UNITS, instants, moments_of_text

WRITTEN = "written"
"""Type of the values of a text file, which is not yet known."""

ROWS_LOOKED_AT = 100_000
"""Number of first times that decide whether numbers can be seconds."""

INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")
FLOATS = ("FLOAT", "DOUBLE")
TICKS = {
    "DATE": ("epoch_us", "us"),
    "TIMESTAMP_S": ("epoch_us", "us"),
    "TIMESTAMP_MS": ("epoch_us", "us"),
    "TIMESTAMP": ("epoch_us", "us"),
    "TIMESTAMP WITH TIME ZONE": ("epoch_us", "us"),
    "TIMESTAMP_NS": ("epoch_ns", "ns"),
    "TIMESTAMPTZ_NS": ("epoch_ns", "ns"),
}
"""Types of timestamps, with the function and the unit of their ticks."""


NO_VALUES = ("BLOB", "BIT", "TIME", "TIME WITH TIME ZONE", "INTERVAL")
"""Types that are not numbers and get no codes."""


class SqlLog(Protocol):
    """The interface of a log in files that is needed to type its columns."""

    connection: duckdb.DuckDBPyConnection
    options: LogOptions

    def as_sql(self, columns: Sequence[str]) -> tuple[str, list[str]]: ...
    def read(self, columns: Sequence[str], ids: Collection[str] = ()) -> pd.DataFrame: ...
    def place(self, row: int) -> str: ...
    def reading(self) -> AbstractContextManager[None]: ...


def typed_columns(
    source: SqlLog, ids: Sequence[str], time: str | None, features: Sequence[str]
) -> Typed:
    """Columns of a log in files as SQL; see :meth:`LogSource.typed`."""
    named = list(dict.fromkeys([*ids, *([] if time is None else [time]), *features]))
    scan, kinds = source.as_sql(named)
    columns = [
        _Column(source, name, f"v{place}", kind, scan, name in ids, name == time)
        for place, (name, kind) in enumerate(zip(named, kinds, strict=True))
    ]
    questions = {
        f"q{place}_{fact}": question
        for place, column in enumerate(columns)
        for fact, question in column.questions().items()
    }
    if questions:
        asked = ", ".join(f"{question} AS {name}" for name, question in questions.items())
        with source.reading():
            found = source.connection.sql(f"SELECT {asked} FROM ({scan})").fetchall()[0]
        for name, answer in zip(questions, found, strict=True):
            place, fact = name[1:].split("_", 1)
            columns[int(place)].facts[fact] = bool(answer)
    tick = Fraction(1)
    values = []
    for column in columns:
        if column.is_time:
            value, tick = column.ticks()
        else:
            value = column.id() if column.is_id else column.feature()
        values.append(f"{value} AS {quoted(column.name)}")
    return Typed(source.connection, f"SELECT {', '.join(values)} FROM ({scan})", tick)


def quoted(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', '""') + '"'


@dataclass
class _Column:
    """A column of files, and the SQL of its values once facts about all of them are known."""

    source: SqlLog
    name: str
    value: str
    kind: str
    scan: str
    is_id: bool
    is_time: bool

    def __post_init__(self) -> None:
        self.facts: dict[str, bool] = {}

    @property
    def is_text(self) -> bool:
        return self.kind in (WRITTEN, "VARCHAR")

    def questions(self) -> dict[str, str]:
        """The facts about all values that determine their type: name of the fact -> SQL."""
        v, asked = self.value, {}
        there = f"FILTER ({v} IS NOT NULL)"
        to_integers = self.is_time or self.source.options.ids == "integer"
        if self.kind == WRITTEN or (self.is_text and to_integers):
            asked["some"] = f"count({v}) > 0"
            for fact, kind in (("integers", "BIGINT"), ("unsigned", "UBIGINT")):
                asked[fact] = (
                    f"bool_and(coalesce(try_cast({v} AS {kind})::VARCHAR = {v}, false)) {there}"
                )
            if not self.is_id:
                number = f"try_cast({v} AS DOUBLE) IS NOT NULL AND NOT regexp_matches({v}, '[_xX]')"
                asked["floats"] = f"bool_and({number}) {there}"
                asked["codes"] = f"bool_or(regexp_matches({v}, '^[+-]?0[0-9]'))"
                asked["booleans"] = f"bool_and(lower({v}) IN ('true', 'false')) {there}"
        if self.is_time and (self.is_text or self.kind in FLOATS):
            asked["infinite"] = f"bool_or(isinf(try_cast({v} AS DOUBLE)))"
        if self.is_time and self.kind == "FLOAT":
            asked["coarse"] = f"bool_or(abs({v}) > {exact_up_to('float32'):.0f} AND isfinite({v}))"
        if self.is_text and self.is_time:
            asked["fine"] = f"bool_or(regexp_matches({v}, '[.][0-9]{{7,}}'))"
        if self.is_id and self.kind in FLOATS:
            most = 2**24 if self.kind == "FLOAT" else 2**53
            asked["whole"] = f"bool_and(isnan({v}) OR {v} = floor({v}))"
            asked["finite"] = f"coalesce(bool_and(NOT isinf({v})), true)"
            asked["exact"] = f"coalesce(bool_and(isnan({v}) OR abs({v}) <= {most}), true)"
        if self.is_id and self.kind.startswith("DECIMAL") and self.kind.endswith(",0)"):
            for fact, kind in (("integers", "BIGINT"), ("unsigned", "UBIGINT")):
                asked[fact] = f"bool_and(try_cast({v} AS {kind}) IS NOT NULL) {there}"
        return asked

    def _integers(self) -> str | None:
        """The values as integers, or ``None`` if one has another form."""
        if self.facts.get("some", True) and self.facts.get("integers"):
            return f"CAST({self.value} AS BIGINT)"
        if self.facts.get("some", True) and self.facts.get("unsigned"):
            return f"CAST({self.value} AS UBIGINT)"
        return None

    def id(self) -> str:
        rule, v = self.source.options.ids, self.value
        if self.kind in INTEGERS:
            whole: str | None = f"CAST({v} AS BIGINT)"
        elif self.kind == "UBIGINT":
            whole = v
        elif self.kind in FLOATS:
            whole = self._whole_floats()
            v = f"CASE WHEN isnan({v}) THEN NULL ELSE CAST({v} AS DOUBLE) END"
        elif self.is_text or self.kind.startswith("DECIMAL"):
            whole = self._integers()
            if whole is None and not self.is_text:
                v = f"CAST({v} AS VARCHAR)"
        elif self.kind == "UUID":
            whole, v = None, f"CAST({v} AS VARCHAR)"
        elif self.kind == "BOOLEAN" and rule == "text":  # in Python's notation
            return f"CASE WHEN {v} THEN 'True' WHEN NOT {v} THEN 'False' END"
        elif self.kind == "BOOLEAN" or self.kind in TICKS or self.kind == '"NULL"':
            whole = None
        else:
            self._refuse()
        if rule == "text":
            return v if self.is_text else f"CAST({whole or v} AS VARCHAR)"
        if rule == "integer" and whole is None:
            self._refuse()
        return v if whole is None else whole

    def _whole_floats(self) -> str | None:
        if not self.facts["finite"] or (self.facts["whole"] and not self.facts["exact"]):
            self._refuse()
        if not self.facts["whole"]:
            return None
        return f"CASE WHEN isnan({self.value}) THEN NULL ELSE CAST({self.value} AS BIGINT) END"

    def feature(self) -> str:
        v = self.value
        if self.kind in NO_VALUES:
            self._refuse()
        if self.kind in INTEGERS:
            return f"CAST({v} AS BIGINT)"
        if self.kind in FLOATS or self.kind.startswith("DECIMAL"):
            return f"CAST({v} AS DOUBLE)"
        if self.kind == WRITTEN and self.facts["some"]:
            if self.facts["integers"]:
                return f"CAST({v} AS BIGINT)"
            if self.facts["unsigned"]:
                return f"CAST({v} AS UBIGINT)"
            if self.facts["floats"] and not self.facts["codes"]:
                return f"CAST({v} AS DOUBLE)"
            if self.facts["booleans"]:
                return f"CAST({v} AS BOOLEAN)"
        return v

    def ticks(self) -> tuple[str, Fraction]:
        """SQL of ticks, and seconds per tick; raises if numbers are unlikely to be seconds."""
        v, unit = self.value, self.source.options.time_unit
        if self.kind in TICKS:
            function, unit = TICKS[self.kind]
            moment = (
                f"CAST({v} AS TIMESTAMP)"
                if self.kind != "DATE" and unit == "us" and ("ZONE" not in self.kind)
                else v
            )
            return f"{function}({moment})", UNITS[unit]
        form = self.source.options.time_format
        whole = self._integers() if self.is_text and form is None else None
        if self.kind in INTEGERS:
            whole = f"CAST({v} AS BIGINT)"
        elif self.kind == "UBIGINT":
            whole = v
        elif (
            self.kind in FLOATS
            or self.kind.startswith("DECIMAL")
            or (form is None and whole is None and self.is_text and self.facts.get("floats"))
        ):
            whole = f"CAST({v} AS DOUBLE)"
            whole = f"CASE WHEN isnan({whole}) THEN NULL ELSE {whole} END"
        if whole is not None:
            if self.facts.get("infinite") or self.facts.get("coarse"):
                self._refuse()
            self._check(f"SELECT {v} AS v FROM ({self.scan}) LIMIT {ROWS_LOOKED_AT}")
            return whole, Fraction(1) if unit is None else UNITS[unit]
        if not self.is_text:
            self._refuse()
        unit = "ns" if self.facts["fine"] else "us"
        function = f"ticks_{unit}"

        def ticks_of(text: Any) -> Any:  # DuckDB counts the parameters
            return moments_of_text(text, unit, form)

        with suppress(duckdb.NotImplementedException):  # it exists already
            self.source.connection.create_function(
                function,
                ticks_of,
                ["VARCHAR"],
                "BIGINT",
                type=PythonUDFType.ARROW,
                null_handling=FunctionNullHandling.SPECIAL,
            )
        ticks = f"{function}({v})"
        with self.source.reading():
            bad = self.source.connection.sql(
                f"SELECT count(*) FROM ({self.scan}) WHERE {v} IS NOT NULL AND {ticks} IS NULL"
            ).fetchall()[0][0]
        if bad:
            self._refuse()
        return ticks, UNITS[unit]

    def _check(self, query: str) -> None:
        with self.source.reading():
            values = self.source.connection.sql(query).to_arrow_table().column(0)
        column = series_of_arrow(values, self.name)
        instants(column.dropna(), self.source.options.time_unit)

    def _refuse(self) -> NoReturn:
        """Raises the same error as the same column in memory, with its rows."""
        frame = self.source.read([self.name], ids=[self.name] if self.is_id else [])
        column = frame[self.name]
        if self.is_id:
            id_column(column, self.source.options.ids, place=self.source.place)
        elif not self.is_time:
            id_column(column, what=f"feature {self.name!r}", place=self.source.place)
        else:
            options = self.source.options
            instants(column, options.time_unit, options.time_format, place=self.source.place)
        raise ValueError(f"Column {self.name!r} cannot be read as {self.kind}.")
