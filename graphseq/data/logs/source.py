"""An opened log of any kind: names of its columns, and its columns unchanged."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, MutableSequence, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from fractions import Fraction
from types import TracebackType
from typing import Any, Literal, Self

import duckdb
import pandas as pd

from graphseq.data.logs.ids import IdRule
from graphseq.data.logs.times import UNITS

logger = logging.getLogger(__name__)


Log = Any
"""A log: a pandas or polars frame, an Arrow table, a DuckDB relation, any other object with an
Arrow stream, a list of dicts, a dict of columns; a path, a list of paths, a glob or a folder.
"""


@dataclass(frozen=True)
class BadLine:
    """A line of a text file that could not be read.

    Args:
        file: The file.
        line: Its number, counted from 1.
        reason: The reason.
    """

    file: str
    line: int
    reason: str


@dataclass(frozen=True)
class LogOptions:
    """Options for reading a log; all except ``ids`` and ``time_unit`` are for text files.

    Args:
        names: Names of the columns of files without a header line.
        separator: Separator of values; ``None``: detected among comma, semicolon, tab, bar and
            blank.
        encoding: Encoding of text files, by its name in Python.
        quote: Character that encloses values with separators; ``None``: no quotes.
        null_values: Texts that represent a missing value, besides empty text.
        ids: ``"auto"``: integers if every value is written as that integer, else text; ``"text"``:
            always text; ``"integer"``: always integers.
        time_unit: Unit of numeric times: ``"s"``, ``"ms"``, ``"us"``, ``"ns"``, ``"min"``,
            ``"hour"`` or ``"day"``; ``None``: seconds or counters.
        time_format: Format of times that are text but not ISO 8601, with the directives of
            ``strptime``, as ``"%a %b %d %H:%M:%S %z %Y"``; without a zone: UTC.
        bad_lines: Handling of lines with too few or too many values: ``"refuse"``; ``"skip"``, with
            a warning that counts them; or a list, which gets a :class:`BadLine` for each skipped
            line.
        item_separator: Separator of the items in a row that holds a whole session as one text.
            Times and features with as many parts are split in the same way.

    Raises:
        ValueError: If an option is not one of these.
    """

    names: Sequence[str] | None = None
    separator: str | None = None
    encoding: str = "utf-8"
    quote: str | None = '"'
    null_values: Sequence[str] = ()
    ids: IdRule = "auto"
    time_unit: str | None = None
    bad_lines: Literal["refuse", "skip"] | MutableSequence[BadLine] = "refuse"
    item_separator: str | None = None
    time_format: str | None = None

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> LogOptions:
        """Options from their names.

        Raises:
            TypeError: If there is no such option; the message lists the options.
        """
        known = [option.name for option in fields(cls)]
        for name in options:
            if name not in known:
                raise TypeError(
                    f"There is no option {name!r} to read a log; use {', '.join(known)}."
                )
        return cls(**options)

    def __post_init__(self) -> None:
        if self.ids not in ("auto", "integer", "text"):
            raise ValueError(f"ids is 'auto', 'integer' or 'text', got {self.ids!r}.")
        if self.time_unit is not None and self.time_unit not in UNITS:
            known = ", ".join(map(repr, UNITS))
            raise ValueError(f"time_unit is one of {known}, got {self.time_unit!r}.")
        if self.time_format is not None and self.time_unit is not None:
            raise ValueError("Times have a time_unit or a time_format, got both.")
        if isinstance(self.bad_lines, str) and self.bad_lines not in ("refuse", "skip"):
            raise ValueError(
                f"bad_lines is 'refuse', 'skip' or a list to fill, got {self.bad_lines!r}."
            )
        for name in ("names", "null_values"):
            if isinstance(getattr(self, name), str):
                raise ValueError(f"{name} is a list of text, got one text: write [...] around it.")


@dataclass(frozen=True)
class Typed:
    """Columns of a log as SQL.

    Args:
        connection: Connection to run it on; it closes with the log.
        sql: A SELECT of the columns by name, in the log's order. Ids are 64-bit integers, text,
            floats, booleans or timestamps. The time is in ticks, as BIGINT, UBIGINT or DOUBLE.
            Features are BIGINT, DOUBLE, BOOLEAN, text or moments. Missing values are NULL.
        tick: Seconds per tick.
    """

    connection: duckdb.DuckDBPyConnection
    sql: str
    tick: Fraction


class LogSource(ABC):
    """An opened log; close it, or use it in a ``with`` statement.

    Args:
        names: Names of its columns, keys of hive folders last.
        options: How it is read.
    """

    names: list[Any]
    options: LogOptions

    @abstractmethod
    def read(self, columns: Sequence[Any], ids: Collection[Any] = ()) -> pd.DataFrame:
        """These columns, in the log's order, with unchanged values.

        Integers with missing values have a masked type and are never floats. In text files, a
        column is integer if every value is written as that integer.

        Args:
            columns: Names of columns.
            ids: Columns of ids, which never become floats or booleans if they come from text.

        Raises:
            ValueError: If a column does not exist, exists twice, or cannot be read.
        """

    def first_rows(self, columns: Sequence[Any], number: int) -> pd.DataFrame:
        """The first rows of these columns; values of text files are text."""
        return self.read(columns).head(number)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A context that turns any error with a file of the log into one sentence."""
        yield

    def has(self, name: Any, beside: Sequence[Any]) -> bool:
        """Whether this column, or part of a column, exists in a log that also has the others."""
        return split_name(name, self.names)[0] in self.names

    def place(self, row: int) -> str:
        """The place of a row for errors: ``row 3``, or ``row 3 of part-0.csv``."""
        return f"row {row}"

    @abstractmethod
    def typed(
        self, *, ids: Sequence[str], time: str | None = None, features: Sequence[str] = ()
    ) -> Typed:
        """Columns as SQL, by the same rules as in memory; files are not read into memory.

        Args:
            ids: Columns of ids.
            time: The column of times.
            features: Other columns.

        Raises:
            ValueError: If a column is missing, or its values are not what they must be.
        """

    @abstractmethod
    def close(self) -> None:
        """Ends connections and deletes temporary files."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def split_name(name: Any, existing: Collection[Any]) -> tuple[Any, str]:
    """A column and a part of it: ``events.aid`` is the part ``aid`` of a column ``events``.

    Args:
        name: The caller's name for it; if a column has exactly this name, it has no part.
        existing: Names of the columns.
    """
    if name not in existing and isinstance(name, str) and "." in name:
        column, _, part = name.partition(".")
        if column in existing:
            return column, part
    return name, ""


def check_columns(columns: Sequence[Any], existing: Sequence[Any], what: str) -> None:
    """Raises ValueError if a column is missing (existing ones are named) or exists twice."""
    absent = [c for c in columns if c not in existing]
    if absent:
        hint = ""
        if existing and all(isinstance(name, str) for name in existing):
            digits = [name for name in existing if name[:1].isdigit()]
            if digits:
                hint = "; if it has no header line, pass names=[...]"
        raise ValueError(
            f"{what} has no column {', '.join(map(repr, absent))}; it has "
            f"{', '.join(map(repr, existing)) or 'no columns'}{hint}."
        )
    repeated = [c for c in columns if list(existing).count(c) > 1]
    if repeated:
        raise ValueError(f"{what} has several columns named {repeated[0]!r}: rename all but one.")
