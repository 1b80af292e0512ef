"""Logs in files, read by DuckDB without network access or leftover files."""

from __future__ import annotations

import re
import shutil
import tempfile
from abc import abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from graphseq.data.logs.nested import column_of_arrow
from graphseq.data.logs.paths import LogFile, broken
from graphseq.data.logs.source import LogOptions, LogSource, Typed
from graphseq.data.logs.typed import typed_columns
from graphseq.ragged import ptr_of


class FileLog(LogSource):
    """A log in one or more files of one format.

    Args:
        files: The files, in order.
        options: How they are read.
    """

    def __init__(self, files: Sequence[LogFile], options: LogOptions) -> None:
        self.options = options
        self.files = list(files)
        self.folder = Path(tempfile.mkdtemp(prefix="graphseq-"))
        self.connection = duckdb.connect(
            ":memory:",
            config={
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "temp_directory": str(self.folder / "spilled"),
            },
        )
        self.connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        # DuckDB would conclude from a Parquet file's minimum and maximum, which ignore NaN, that
        # isnan(...) is always false.
        self.connection.execute("SET disabled_optimizers = 'statistics_propagation'")
        self._starts: list[int] | None = None

    def read(self, columns: Sequence[Any], ids: Collection[Any] = ()) -> pd.DataFrame:
        table = self.arrow(list(dict.fromkeys(columns)), ids)
        series = {}
        for place, name in enumerate(table.column_names):
            series[name] = column_of_arrow(table.column(place), name)
        return pd.DataFrame(series, index=pd.RangeIndex(table.num_rows), copy=False)

    def first_rows(self, columns: Sequence[Any], number: int) -> pd.DataFrame:
        with self.reading():
            scan, _ = self.as_sql(list(columns))
            table = self.connection.sql(f"SELECT * FROM ({scan}) LIMIT {number}").to_arrow_table()
        named = zip(columns, table.columns, strict=True)
        return pd.DataFrame({name: column_of_arrow(values, name) for name, values in named})

    @abstractmethod
    def arrow(self, columns: Sequence[str], ids: Collection[str] = ()) -> pa.Table:
        """These columns as Arrow columns, in the log's order; see :meth:`read`."""

    @abstractmethod
    def as_sql(self, columns: Sequence[str]) -> tuple[str, list[str]]:
        """A SELECT of columns, called ``v0``, ``v1``, ..., in the log's order, and their types.

        Text files have the type ``WRITTEN`` of :mod:`graphseq.data.logs.typed`.
        """

    @abstractmethod
    def rows_of(self, file: LogFile) -> int:
        """The number of rows of a file."""

    def place(self, row: int) -> str:
        if len(self.files) == 1:
            return f"row {row}"
        if self._starts is None:
            sizes = [self.rows_of(file) for file in self.files]
            self._starts = ptr_of(sizes).tolist()
        file = int(np.searchsorted(self._starts, row, side="right")) - 1
        return f"row {row - self._starts[file]} of {self.files[file].path}"

    def typed(
        self, *, ids: Sequence[str], time: str | None = None, features: Sequence[str] = ()
    ) -> Typed:
        return typed_columns(self, ids, time, features)

    def close(self) -> None:
        self.connection.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A context that turns DuckDB's errors into one sentence that names the file."""
        try:
            yield
        except duckdb.Error as error:
            raise refusal(error, self.blamed(error)) from error

    def blamed(self, error: duckdb.Error) -> Sequence[LogFile]:
        """The files that an error may refer to."""
        return self.files


def refusal(error: duckdb.Error, files: Sequence[LogFile]) -> ValueError:
    """DuckDB's error about a file, in one sentence."""
    text = str(error)
    named = [str(file.path) for file in files if str(file.path) in text]
    path = max(named, key=len) if named else str(files[0].path)
    line = re.search(r"CSV Error on Line: (\d+)", text)
    if "Invalid unicode" in text or "not utf-8" in text:
        where = f", line {line[1]}," if line else ""
        return ValueError(
            f"{path}{where} is not written in UTF-8: pass encoding=, as 'latin-1' or 'cp1252'."
        )
    if line:
        if "unterminated quote" in text or "quote" in text.split("Possible fixes")[0].lower():
            return ValueError(
                f"{path}, line {line[1]}, cannot be read: a quote opens and does not close; pass "
                "quote=None where quotes are plain characters."
            )
        found = re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", text)
        reason = f"it has {found[2]} values where {found[1]} are expected" if found else ""
        if not reason:
            lines = [part.strip(" .") for part in text.splitlines() if part.strip()]
            after = [n for n, part in enumerate(lines) if part.startswith("Original Line")]
            reason = lines[after[0] + 1] if after and len(lines) > after[0] + 1 else lines[0]
            reason = reason[:1].lower() + reason[1:]
        return ValueError(
            f"{path}, line {line[1]}, cannot be read: {reason}; mend the line, or pass "
            "bad_lines='skip'."
        )
    first = text.split("\n\n")[0].split("\n  file =")[0]
    return broken(path, re.sub(r"^[\w ]*Error: ", "", first))


def literal(value: object) -> str:
    """Text in SQL, ``NULL`` for ``None``, or a list of texts."""
    if value is None:
        return "NULL"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(literal, value)) + "]"
    return "'" + str(value).replace("'", "''") + "'"
