"""A log in a DuckDB file, which groups and sorts it on disk, with codes instead of ids."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from graphseq.data.logs.errors import missing_rows
from graphseq.data.logs.ids import series_of_arrow
from graphseq.data.logs.rows import by_clicks
from graphseq.data.logs.source import LogSource
from graphseq.data.sessions.vocabulary import UNKNOWN, as_index

logger = logging.getLogger(__name__)

MEMORY = "1.5GB"
"""Memory limit of DuckDB; beyond it DuckDB spills to disk."""

THREADS = min(8, os.cpu_count() or 1)
"""Number of threads; each has its own buffers in that memory."""

ROWS_PER_BATCH = 1 << 20
"""Number of rows per batch from DuckDB."""

INTEGERS = [f"{sign}{size}INT" for sign in ("", "U") for size in ("TINY", "SMALL", "BIG")]
INTEGERS += ["INTEGER", "UINTEGER"]

ROWS_LOOKED_AT = 1000
"""Number of first rows that decide whether rows are clicks."""

TICKS = {"BIGINT": "i8", "UBIGINT": "u8", "DOUBLE": "f8"}
"""Types of times in DuckDB and in NumPy."""


@dataclass(frozen=True)
class LogColumns:
    """The roles of the columns of a log.

    Args:
        group: Column of sessions, or of users if ``by_user``.
        item, time, user: Columns, as in :meth:`Sessions.from_frame`.
        gap: Longest pause within a session in seconds, or ``None``.
        features: Columns that describe the click.
        described: Columns that describe the item.
        by_user: Whether groups are users, whose clicks are split by ``gap``.
    """

    group: Any
    item: Any
    time: Any = None
    user: Any = None
    gap: Fraction | None = None
    features: tuple[Any, ...] = ()
    described: tuple[Any, ...] = ()
    by_user: bool = False

    @property
    def places(self) -> dict[Any, str]:
        """Name of each column that describes -> its name in the database."""
        names = dict.fromkeys((*self.features, *self.described))
        return {name: f"column_{number}" for number, name in enumerate(names)}

    @property
    def sources(self) -> dict[str, Any]:
        """Name in the database -> name in the log."""
        named = {"grp": self.group, "item": self.item, "tick": self.time, "usr": self.user}
        placed = {place: name for name, place in self.places.items()}
        return {place: name for place, name in named.items() if name is not None} | placed


@dataclass(frozen=True)
class CodedLog:
    """A log in a database: table ``log`` in its order, and next to it codes of its ids and groups.

    Codes follow the first appearance in the log.

    Args:
        folder: Folder of the database.
        columns: The roles of the log's columns.
        tick: Seconds per tick of its times.
        kinds: Field of each click -> its NumPy type; ``i4`` fields are codes, with -1 for missing.
    """

    folder: Path
    columns: LogColumns
    tick: Fraction
    kinds: dict[str, str]

    def clicks(self, shard: int | None = None) -> Iterator[dict[str, NDArray[Any]]]:
        """The clicks in the order of their group's first row, of time, and of rows.

        Args:
            shard: The part; ``None``: the whole log.

        Yields:
            Name -> value of each click, and ``grp``, the code of its group; ``row``, in the log.
        """
        source = "clicks"
        if shard is not None:
            folder = glob.escape(str(self.folder / "shards" / f"shard={shard}"))
            source = f"read_parquet({_text(f'{folder}/*.parquet')}, hive_partitioning=false)"
        order = "grp, tick, row" if "tick" in self.kinds else "grp, row"
        query = f"SELECT grp, row, {', '.join(self.kinds)} FROM {source} ORDER BY {order}"
        for batch in self._batches(query):
            yield {
                name: column.to_numpy(zero_copy_only=False)
                for name, column in zip(batch.schema.names, batch.columns, strict=True)
            }

    def groups(
        self, shard: int | None = None
    ) -> Iterator[tuple[pd.Index, NDArray[np.int64], NDArray[np.int32]]]:
        """The groups in order, batch by batch: their ids, codes, and the codes of their users."""
        where = "" if shard is None else f"WHERE shard = {shard}"
        query = f"SELECT id, code, usr FROM groups {where} ORDER BY code"
        for batch in self._batches(query):
            ids, codes, users = batch.columns
            yield _index(ids), codes.to_numpy(), users.to_numpy()

    def ids(self, place: str) -> pd.Index:
        """The ids behind the codes of a column."""
        with database(self.folder) as connection:
            query = f"SELECT id FROM ids_{place} ORDER BY code"
            return _index(connection.sql(query).to_arrow_table().column(0))

    def described(self, rows: NDArray[np.int64]) -> pd.DataFrame:
        """The item features in these rows of the log."""
        places = [self.columns.places[name] for name in self.columns.described]
        with database(self.folder) as connection:
            connection.register("chosen", pa.table({"row": rows, "place": np.arange(len(rows))}))
            table = connection.sql(
                f"SELECT {', '.join(places)} FROM log JOIN chosen ON log.rowid = chosen.row "
                "ORDER BY place"
            ).to_arrow_table()
        named = zip(self.columns.described, table.columns, strict=True)
        return pd.DataFrame({name: series_of_arrow(column, str(name)) for name, column in named})

    def counts(self) -> NDArray[np.int64]:
        """Clicks of each item, int64 [num_items]."""
        with database(self.folder) as connection:
            query = "SELECT rows FROM ids_item ORDER BY code"
            return np.asarray(connection.sql(query).fetchnumpy()["rows"], dtype=np.int64)

    def _batches(self, query: str) -> Iterator[pa.RecordBatch]:
        """The rows of a query; DuckDB runs in a thread, so that Ctrl-C is handled meanwhile."""
        with database(self.folder) as connection, ThreadPoolExecutor(1) as thread:
            relation = connection.sql(query)
            try:
                reader = thread.submit(relation.to_arrow_reader, ROWS_PER_BATCH).result()
                following = thread.submit(next, reader, None)
                while (batch := following.result()) is not None:
                    following = thread.submit(next, reader, None)
                    for start in range(
                        0, len(batch), ROWS_PER_BATCH
                    ):  # DuckDB's batches may be larger
                        yield batch.slice(start, ROWS_PER_BATCH)
            except BaseException:
                connection.interrupt()
                raise


def code_log(source: LogSource, columns: LogColumns, folder: Path, num_shards: int = 0) -> CodedLog:
    """Reads a log once into a database, and gives codes to its ids.

    Args:
        source: The log.
        columns: The roles of its columns.
        folder: Folder for the database.
        num_shards: Number of parts for the clicks; 0: no parts.

    Raises:
        ValueError: If the log is empty or cannot be read, a value is missing that must not be, a
            session has two users, or a shard would have no session.
        OSError: If something cannot be written, for example because the disk is full.
    """
    if "?" in str(folder):  # DuckDB would misread the text after it
        raise ValueError(f"The path of a folder made from a log holds no '?', got {folder.parent}.")
    folder.mkdir()
    tick = _read(source, columns, folder)
    with database(folder, read_only=False) as connection:
        _refuse_missing(connection, source, columns)
        kinds = _kinds(connection, columns)
        coded = [name for name, kind in kinds.items() if kind == "i4"]
        for place in (*coded, "usr"):
            _add_ids(connection, place)
        _add_groups(connection, columns, num_shards)
        _add_clicks(connection, kinds, coded)
        if num_shards:
            _cut(connection, folder, num_shards)
    return CodedLog(folder, columns, tick, kinds)


def must_be_held(source: LogSource, columns: LogColumns) -> bool:
    """Whether a log can only be read in memory: its rows are sessions, or its times have another
    format."""
    named = list(dict.fromkeys(columns.sources.values()))
    options = source.options
    if options.time_format is not None or options.item_separator is not None:
        return True
    if any(name not in source.names for name in named):  # parts of columns, or an error
        return True
    rows = source.first_rows(named, ROWS_LOOKED_AT)
    if [*columns.sources.values()].count(columns.time) > 1:  # the dates of the log, not their ticks
        times = pd.to_numeric(rows[columns.time].astype("str"), errors="coerce")
        if times.isna().any():
            return True
    try:
        _, row = by_clicks(rows, columns.item, ids=[], separator=None, place=source.place)
    except ValueError:
        return True
    return row is not None


@contextmanager
def database(folder: Path, *, read_only: bool = True) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to the database in a folder, which any number of processes may read.

    Raises:
        OSError: If something cannot be written, for example because the disk is full.
    """
    config: dict[str, Any] = {
        "memory_limit": MEMORY,
        "threads": THREADS,
        "temp_directory": str(folder / f"spilled-{os.getpid()}"),
    }
    with writing(folder):
        path = folder / "log.duckdb"
        with duckdb.connect(path, read_only=read_only, config=config) as connection:
            connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
            yield connection


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """What DuckDB cannot write to a folder becomes an OSError, and Ctrl-C what it is."""
    try:
        yield
    except RuntimeError as error:
        if "interrupted" in str(error):
            raise KeyboardInterrupt from error
        raise
    except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
        if isinstance(error, duckdb.IOException) and str(folder) not in str(error):
            raise  # it is about the log
        raise OSError(" ".join(str(error).split()).rstrip(".")) from error


def _read(source: LogSource, columns: LogColumns, folder: Path) -> Fraction:
    """Makes the table ``log``, in which DuckDB's number of a row is its number in the log."""
    ids = [columns.sources[place] for place in ("grp", "item", "usr") if place in columns.sources]
    typed = source.typed(ids=ids, time=columns.time, features=list(columns.places))
    selected = [f"{_name(name)} AS {place}" for place, name in columns.sources.items()]
    if columns.user is None:
        selected.append("CAST(NULL AS INTEGER) AS usr")
    typed.connection.execute(f"SET memory_limit = '{MEMORY}'; SET threads = {THREADS}")
    with source.reading(), writing(folder):
        typed.connection.execute(f"ATTACH {_text(folder / 'log.duckdb')} AS work")
        typed.connection.execute(
            f"CREATE TABLE work.log AS SELECT {', '.join(selected)} FROM ({typed.sql})"
        )
        typed.connection.execute("DETACH work")
    return typed.tick


def _refuse_missing(
    connection: duckdb.DuckDBPyConnection, source: LogSource, columns: LogColumns
) -> None:
    required = [place for place in ("grp", "item", "tick") if place in columns.sources]
    counted = ", ".join(f"count({place})" for place in required)
    rows, *present = connection.sql(f"SELECT count(*), {counted} FROM log").fetchall()[0]
    if rows == 0:
        raise ValueError("The log is empty: it needs at least one click.")
    for place, number in zip(required, present, strict=True):
        if number < rows:
            query = f"SELECT {place} IS NULL AS missing FROM log ORDER BY rowid"
            missing = np.asarray(connection.sql(query).fetchnumpy()["missing"])
            what = "time column" if place == "tick" else "column"
            raise ValueError(
                missing_rows(f"{what} {columns.sources[place]!r}", missing, source.place)
            )
    logger.info("%d clicks read.", rows)


def _kinds(connection: duckdb.DuckDBPyConnection, columns: LogColumns) -> dict[str, str]:
    """What is kept of each click, and its type in NumPy: ids and all but numbers as codes."""
    log = connection.table("log")
    types = dict(zip(log.columns, map(str, log.types), strict=True))
    kinds = {"item": "i4"}
    if "tick" in types:
        kinds["tick"] = TICKS[types["tick"]]
    for place in (columns.places[name] for name in columns.features):
        kinds[place] = {**dict.fromkeys(INTEGERS, "i8"), "FLOAT": "f8", "DOUBLE": "f8"}.get(
            types[place], "i4"
        )
        if kinds[place] == "i8":  # with missing values, or beyond 63 bits, they are floats
            query = f"SELECT count({place}) = count(*) AND max({place}) < {1 << 63} FROM log"
            kinds[place] = "i8" if connection.sql(query).fetchall()[0][0] else "f8"
    return kinds


def _add_ids(connection: duckdb.DuckDBPyConnection, place: str) -> None:
    """The distinct values of a column, the code of each, and how many rows it has."""
    connection.execute(
        f"""
        CREATE TABLE ids_{place} AS
        SELECT id, CAST(row_number() OVER (ORDER BY first) - 1 AS INTEGER) AS code, rows
        FROM (
            SELECT {place} AS id, min(rowid) AS first, count(*) AS rows
            FROM log WHERE {place} IS NOT NULL GROUP BY {place}
        )
        """
    )


def _add_groups(
    connection: duckdb.DuckDBPyConnection, columns: LogColumns, num_shards: int
) -> None:
    """The groups, the code of each and of its user, and the shard that it goes to."""
    # MD5 of the id as text is the same on every machine and in every version.
    shard = f"CAST('0x' || md5(CAST(found.id AS VARCHAR))[1:15] AS BIGINT) % {num_shards or 1}"
    connection.execute(
        f"""
        CREATE TABLE groups AS
        SELECT found.id, row_number() OVER (ORDER BY first) - 1 AS code,
            coalesce(ids_usr.code, {UNKNOWN}) AS usr, least < most AS several, {shard} AS shard
        FROM (
            SELECT grp AS id, min(rowid) AS first, min(usr) AS least, max(usr) AS most
            FROM log GROUP BY grp
        ) AS found LEFT JOIN ids_usr ON ids_usr.id = least
        """
    )
    number, of_several, session = connection.sql(
        "SELECT count(*), count_if(several), arg_min(id, code) FILTER (several) FROM groups"
    ).fetchall()[0]
    if of_several:
        raise ValueError(
            f"A session belongs to one user, but column {columns.user!r} names several in "
            f"{of_several} sessions, the first of them {session!r}."
        )
    logger.info("%d %s found.", number, "users" if columns.by_user else "sessions")


def _add_clicks(
    connection: duckdb.DuckDBPyConnection, kinds: dict[str, str], coded: list[str]
) -> None:
    """The clicks with codes, as a view."""
    values = {
        "i4": f"coalesce(ids_{{0}}.code, {UNKNOWN})",
        "i8": "CAST(log.{0} AS BIGINT)",
        "f8": "coalesce(CAST(log.{0} AS DOUBLE), CAST('nan' AS DOUBLE))",
    }
    selected = [f"{values.get(k, 'log.{0}').format(name)} AS {name}" for name, k in kinds.items()]
    joined = [f"LEFT JOIN ids_{name} ON ids_{name}.id = log.{name}" for name in coded]
    connection.execute(
        f"""
        CREATE VIEW clicks AS
        SELECT groups.shard, groups.code AS grp, log.rowid AS row, {", ".join(selected)}
        FROM log JOIN groups ON groups.id = log.grp {" ".join(joined)}
        """
    )


def _cut(connection: duckdb.DuckDBPyConnection, folder: Path, num_shards: int) -> None:
    """Writes the clicks of each shard to separate files."""
    filled = {row[0] for row in connection.sql("SELECT DISTINCT shard FROM groups").fetchall()}
    empty = [shard for shard in range(num_shards) if shard not in filled]
    if empty:
        raise ValueError(f"Shard {empty[0]} would have no session: build fewer shards.")
    target = _text(folder / "shards")
    connection.execute(f"COPY clicks TO {target} (FORMAT parquet, PARTITION_BY (shard))")


def _index(ids: Any) -> pd.Index:
    return as_index(pd.Index(series_of_arrow(ids, "id")))


def _name(name: Any) -> str:
    return '"' + str(name).replace('"', '""') + '"'


def _text(value: object) -> str:
    return "'" + str(value).replace("'", "''") + "'"
