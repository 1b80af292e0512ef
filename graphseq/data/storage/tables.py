"""Frames as Parquet with a checksum in every page, with bounded memory for reading."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq


def write(path: Path, frame: pd.DataFrame, name: str) -> None:
    """Writes a frame as Parquet, without its index.

    Raises:
        ValueError: If a column has a type that Parquet does not support.
        OSError: If the file cannot be written.
    """
    try:
        table = pa.Table.from_pandas(frame.reset_index(drop=True), preserve_index=False)
        # Through a Python file, so that a full disk raises an OSError.
        with path.open("wb") as file:
            pq.write_table(table, file, write_page_checksum=True)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise ValueError(f"{name} cannot be saved as Parquet: {error}.") from error


def read(data: bytes, rows: int, shown: str) -> pd.DataFrame:
    """The frame in the bytes of a Parquet file.

    Args:
        data: The bytes.
        rows: The expected number of rows.
        shown: Name of the file in errors.

    Raises:
        ValueError: If it is damaged or has another number of rows.
    """
    try:
        file = pq.ParquetFile(
            pa.BufferReader(data),
            page_checksum_verification=True,
            thrift_string_size_limit=len(data),
            thrift_container_size_limit=len(data),
        )
        found = file.metadata.num_rows
        frame: pd.DataFrame | None = file.read().to_pandas() if found == rows else None
    except MemoryError:
        raise ValueError(f"{shown} is broken: it asks for more memory than there is.") from None
    except Exception as error:  # Arrow, pandas and the codecs raise many kinds of errors
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise ValueError(f"{shown} is broken: {reason}.") from error
    if frame is None or len(frame) != rows:
        raise ValueError(f"{shown} is broken: it has {found} rows, not {rows}.")
    return frame
