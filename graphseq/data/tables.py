"""Event logs from Parquet and CSV: only the columns asked for, in chunks, text as codes."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

Log = pd.DataFrame | str | PathLike[str]
"""An event log: a frame, or the path of a Parquet or CSV file."""

CODES = pa.dictionary(pa.int32(), pa.string())
"""Text as Arrow reads it here: each distinct value once, and a code a row."""

MISFIT = re.compile(r"In CSV column #(\d+): (?:Row #\d+: )?CSV conversion error")
"""How Arrow says that a value does not fit the type of its column."""

ROWS_A_CHUNK = 1 << 20
BYTES_A_CHUNK = 1 << 24
PARQUET_SUFFIXES = (".parquet", ".pq")


def read_log(
    log: Log, columns: Sequence[str], *, ids: Collection[str] = (), separator: str = ","
) -> pd.DataFrame:
    """These columns of a log; text comes as a categorical column.

    Args:
        log: A frame; a Parquet file (``.parquet``, ``.pq``) or a folder of such; anything else is
            CSV with a header line, compressed or not (``.gz``, ``.bz2``, ``.zst``, ``.lz4``).
        columns: Names of the columns.
        ids: Those of them that hold ids: read as 64-bit integers if all values are such, else as
            the text that the file has.
        separator: Between the values of a line of CSV.

    Raises:
        ValueError: If a column does not exist (those that do are listed), exists twice, or the file
            is missing, broken or cut off.
    """
    columns = list(dict.fromkeys(columns))
    if isinstance(log, pd.DataFrame):
        check_columns(columns, log.columns.tolist(), "The log")
        return log[columns]
    path = Path(fspath(log))
    if not path.exists():
        raise ValueError(f"There is no log at {path}.")
    with readable(path):
        if path.is_dir() or path.suffix.lower() in PARQUET_SUFFIXES:
            table = _read_parquet(path, columns)
        else:
            table = read_csv(path, columns, ids=ids, separator=separator)
    frame: pd.DataFrame = table.unify_dictionaries().to_pandas(
        date_as_object=False, split_blocks=True, self_destruct=True
    )
    return frame


@contextmanager
def readable(path: Path | str) -> Iterator[None]:
    """Whatever goes wrong while reading a file becomes one sentence that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise ValueError(
            f"{path} cannot be read: it is broken, cut off or of another format ({reason})."
        ) from error


def read_csv(
    source: Path | Any,
    columns: Sequence[str] | None,
    *,
    ids: Collection[str] = (),
    separator: str = ",",
    quoted: bool = True,
    types: dict[str, pa.DataType] | None = None,
    names: Sequence[str] | None = None,
) -> pa.Table:
    """Columns of a CSV file, block by block; text as dictionary columns.

    The first block decides on the type of a column. Where a later one does not fit, the file is
    read again with that column as floats (if it was integers and no ids) or as text.

    Args:
        source: Path, or a function that opens the file anew.
        columns: Those to read; ``None``: all.
        ids: Columns of ids: integers or text, nothing else.
        separator: Between values.
        quoted: Whether ``"`` encloses values.
        types: Types known beforehand.
        names: Names of the columns of a file without a header line.
    """

    def opened() -> Any:
        return (
            pa.input_stream(source, compression="detect") if isinstance(source, Path) else source()
        )

    def reader(include: Sequence[str], column_types: dict[str, pa.DataType]) -> Any:
        return pa_csv.open_csv(
            opened(),
            read_options=pa_csv.ReadOptions(block_size=BYTES_A_CHUNK, column_names=names),
            parse_options=pa_csv.ParseOptions(
                delimiter=separator, quote_char='"' if quoted else False
            ),
            convert_options=pa_csv.ConvertOptions(
                include_columns=include,
                column_types=column_types,
                strings_can_be_null=True,
                auto_dict_encode=True,
                auto_dict_max_cardinality=2**31 - 1,
            ),
        )

    with reader([], types or {}) as first:
        schema = first.schema
    wanted = list(schema.names if columns is None else columns)
    check_columns(wanted, schema.names, str(source) if isinstance(source, Path) else "The file")
    known = dict(types or {})
    for name in wanted:
        inferred = schema.field(name).type
        if name not in known:
            fits = inferred == pa.int64() or (name not in ids and not pa.types.is_null(inferred))
            known[name] = inferred if fits else CODES
    while True:
        try:
            with reader(wanted, known) as chunks:
                return chunks.read_all()
        except pa.ArrowInvalid as error:
            failed = MISFIT.search(str(error))
            name = schema.names[int(failed[1])] if failed else None
            if name is None or name in (types or {}) or known[name] == CODES:
                raise
            widened = known[name] == pa.int64() and name not in ids
            known[name] = pa.float64() if widened else CODES


def _read_parquet(path: Path, columns: Sequence[str]) -> pa.Table:
    paths = [path]
    if path.is_dir():
        paths = sorted(p for suffix in PARQUET_SUFFIXES for p in path.glob(f"*{suffix}"))
        if not paths:
            raise ValueError(f"The folder {path} holds no Parquet file.")
    chunks: list[pa.RecordBatch] = []
    for part in paths:
        with pq.ParquetFile(part) as file:
            schema = file.schema_arrow
            check_columns(columns, schema.names, str(part))
            text = [c for c in columns if _is_text(schema.field(c).type)]
        with pq.ParquetFile(part, read_dictionary=text) as file:
            chunks += file.iter_batches(batch_size=ROWS_A_CHUNK, columns=list(columns))
            schema = pa.schema([file.schema_arrow.field(c) for c in columns])
    if not chunks:
        return schema.empty_table()
    return pa.Table.from_batches(chunks).select(list(columns))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def check_columns(columns: Sequence[str], existing: Sequence[str], what: str) -> None:
    """Raises ValueError if a column is missing (naming those that exist) or is there twice."""
    absent = [c for c in columns if c not in existing]
    if absent:
        raise ValueError(
            f"{what} has no column {', '.join(map(repr, absent))}; it has "
            f"{', '.join(map(repr, existing))}."
        )
    repeated = [c for c in columns if list(existing).count(c) > 1]
    if repeated:
        raise ValueError(f"{what} has several columns named {repeated[0]!r}: rename all but one.")
