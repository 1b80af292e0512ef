"""Logs in memory: frames, tables, relations, lists of dicts and dicts of columns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from fractions import Fraction
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from graphseq.data.logs.ids import id_column, series_of_arrow
from graphseq.data.logs.nested import column_of_arrow, field_of
from graphseq.data.logs.source import LogOptions, LogSource, Typed, check_columns, split_name
from graphseq.data.logs.times import instants
from graphseq.data.logs.typed import quoted

HELD = (
    "a frame of pandas or polars, a table of Arrow, a relation of DuckDB, a list of dicts, a dict "
    "of columns, a path, a list of paths or a glob"
)


class MemoryLog(LogSource):
    """A log in memory; columns are converted when they are read, and only those.

    Args:
        log: The log.
        options: Options for reading it.

    Raises:
        ValueError: If it is not a log.
    """

    def __init__(self, log: Any, options: LogOptions) -> None:
        self.options = options
        self.names, self._read = _opened(log)

    def read(self, columns: Sequence[Any], ids: Collection[Any] = ()) -> pd.DataFrame:
        parts = {name: split_name(name, self.names) for name in columns}
        whole = list(dict.fromkeys(column for column, _ in parts.values()))
        check_columns(whole, self.names, "The log")
        try:
            frame = self._read(whole)
        except (duckdb.Error, pa.ArrowException) as error:
            reason = " ".join(str(error).split("\n")[0].split()).rstrip(".")
            raise ValueError(
                f"The log's columns {', '.join(map(repr, whole))} cannot be read ({reason}): make "
                "them integers, text, floats, booleans or dates first."
            ) from error
        if not any(part for _, part in parts.values()):
            return frame
        return pd.DataFrame(
            {name: _part(frame[column], part, name) for name, (column, part) in parts.items()},
            copy=False,
        )

    def typed(
        self, *, ids: Sequence[str], time: str | None = None, features: Sequence[str] = ()
    ) -> Typed:
        named = list(dict.fromkeys([*ids, *([] if time is None else [time]), *features]))
        frame = self.read(named, ids=ids)
        columns: dict[str, Any] = {}
        tick = Fraction(1)
        for name in named:
            column = frame[name]
            if name in ids:
                column = id_column(column, self.options.ids)
            if name == time:
                times = instants(column, self.options.time_unit, self.options.time_format)
                column, tick = pd.Series(times.ticks), times.tick
            try:
                columns[name] = pa.array(column, from_pandas=True)
            except pa.ArrowException as error:
                raise ValueError(
                    f"Column {name!r} mixes values of several types, which one file of a log "
                    "cannot hold: write one type, or, for ids, pass ids='text'."
                ) from error
        connection = duckdb.connect(":memory:")
        connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        connection.register("held", pa.table(columns))
        return Typed(connection, f"SELECT {', '.join(map(quoted, named))} FROM held", tick)

    def close(self) -> None:
        pass  # the data stays with its owner


def _part(column: pd.Series, part: str, name: str) -> pd.Series:
    if not part:
        return column
    try:
        values = pa.array(column)
    except pa.ArrowException as error:
        raise ValueError(
            f"{name!r} is no part of {column.name!r} in every row: {error}."
        ) from error
    return column_of_arrow(field_of(values, part, name), name)


def _opened(log: Any) -> tuple[list[Any], Callable[[list[Any]], pd.DataFrame]]:
    """Names of columns, and a function that reads some of them."""
    if isinstance(log, np.ndarray) and log.dtype.names:
        log = pd.DataFrame(log)
    if isinstance(log, pd.DataFrame):
        return _of_pandas(log)
    if isinstance(log, Mapping):
        return list(log), lambda names: _columns({name: log[name] for name in names})
    if isinstance(log, (list, tuple)):
        if log and all(isinstance(row, Mapping) for row in log):
            return _of_rows(log)
        if log and all(isinstance(part, pa.RecordBatch) for part in log):
            return _opened(pa.Table.from_batches(log))
        if not log:
            raise ValueError("The log is empty: it needs at least one click.")
        raise _no_log(log, f"a list of {type(log[0]).__name__}")
    table = _arrow(log)
    if table is None:
        raise _no_log(log, type(log).__name__)
    return table


def _no_log(log: Any, what: str) -> ValueError:
    return ValueError(f"A log is {HELD}; {what} is none.")


def _arrow(log: Any) -> tuple[list[Any], Callable[[list[Any]], pd.DataFrame]] | None:
    """Column names and reader of an object with an Arrow stream."""
    if isinstance(log, pa.RecordBatch):
        log = pa.Table.from_batches([log])
    if isinstance(log, pa.RecordBatchReader):  # it can be read only once
        log = log.read_all()
    if isinstance(log, pa.Table):
        table = log
        return table.column_names, lambda names: _of_table(table.select(names))
    kind = f"{type(log).__module__}.{type(log).__name__}"
    if kind.startswith("pyarrow._dataset") and hasattr(log, "to_table"):
        return log.schema.names, lambda names: _of_table(log.to_table(columns=names))
    if kind.endswith(".DuckDBPyRelation"):
        quoted = '"{}"'
        return log.columns, lambda names: _of_table(
            log.project(
                ", ".join(quoted.format(name.replace('"', '""')) for name in names)
            ).to_arrow_table()
        )
    if kind.startswith("polars.") and kind.endswith(".LazyFrame"):
        return log.collect_schema().names(), lambda names: _of_table(
            pa.table(log.select(names).collect())
        )
    if kind.startswith("polars.") and kind.endswith(".DataFrame"):
        return log.columns, lambda names: _of_table(pa.table(log.select(names)))
    if isinstance(log, (pa.ChunkedArray, pa.Array, pd.Series, pd.Index)):
        return None
    if hasattr(log, "__arrow_c_stream__"):
        try:
            return _arrow(pa.RecordBatchReader.from_stream(log))
        except (pa.ArrowException, TypeError):
            return None
    return None


def _of_table(table: pa.Table) -> pd.DataFrame:
    columns = {
        name: column_of_arrow(table.column(place), name)
        for place, name in enumerate(table.column_names)
    }
    return pd.DataFrame(columns, index=pd.RangeIndex(table.num_rows), copy=False)


def _of_pandas(frame: pd.DataFrame) -> tuple[list[Any], Callable[[list[Any]], pd.DataFrame]]:
    names = frame.columns.tolist()
    levels = [name for name in frame.index.names if name is not None and name not in names]

    def read(wanted: list[Any]) -> pd.DataFrame:
        if not any(name in levels for name in wanted):
            # Rows go by place: columns made from some of these must not be aligned by their labels.
            return frame[wanted].reset_index(drop=True)
        index = frame.index
        columns = {
            name: pd.Series(index.get_level_values(name))
            if name in levels
            else frame[name].reset_index(drop=True)
            for name in wanted
        }
        return pd.DataFrame(columns, copy=False)

    return [*names, *levels], read


def _of_rows(rows: Sequence[Mapping[Any, Any]]) -> tuple[list[Any], Any]:
    names = list(dict.fromkeys(name for row in rows for name in row))

    def read(wanted: list[Any]) -> pd.DataFrame:
        return pd.DataFrame(
            {name: pd.Series([row.get(name) for row in rows], dtype=object) for name in wanted}
        )

    return names, read


def _columns(columns: Mapping[Any, Any]) -> pd.DataFrame:
    made = {name: column_of(values, str(name)) for name, values in columns.items()}
    lengths = {name: len(column) for name, column in made.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"The log's columns are of different lengths: {lengths}.")
    return pd.DataFrame(made, copy=False)


def column_of(values: Any, name: str = "values") -> pd.Series:
    """Values of any library as one column, unchanged.

    Args:
        values: An array of NumPy, a tensor, a column of pandas, polars or Arrow, or a list.
        name: Name of the column.

    Raises:
        ValueError: If it has more than one dimension.
    """
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        raise ValueError(f"{name} needs a column of values, got {values!r:.60}.")
    if isinstance(values, pd.Series):
        return values.reset_index(drop=True).rename(name)
    if isinstance(values, (pd.Index, pd.api.extensions.ExtensionArray)):
        return pd.Series(values, name=name)
    if hasattr(values, "detach"):  # a tensor
        values = values.detach().cpu().numpy()
    if isinstance(values, np.ndarray):
        if values.ndim != 1:
            raise ValueError(f"{name} needs one dimension, got the shape {list(values.shape)}.")
        return pd.Series(values, name=name)
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return series_of_arrow(values, name)
    if hasattr(values, "__arrow_c_stream__") or hasattr(values, "__arrow_c_array__"):
        return series_of_arrow(pa.chunked_array(values), name)
    listed = list(values)
    kinds = set(map(type, listed))
    if any(hasattr(kind, "detach") or issubclass(kind, (np.ndarray, pa.Scalar)) for kind in kinds):
        listed = [_plain(value) for value in listed]
    values = np.fromiter(listed, dtype=object, count=len(listed))
    return pd.Series(values, name=name, dtype=object)


def _plain(value: Any) -> Any:
    """A tensor or array without dimensions as its value."""
    if isinstance(value, pa.Scalar):
        return value.as_py()
    holds = (hasattr(value, "detach") or isinstance(value, np.ndarray)) and value.ndim == 0
    if not holds:
        return value
    return value[()] if isinstance(value, np.ndarray) else value.item()
