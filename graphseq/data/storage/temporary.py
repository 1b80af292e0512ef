"""Ids in Arrow files that a process writes for itself and reads again at once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa


def write_ids(path: Path, ids: pd.Index, name: str) -> str:
    """Writes ids as one Arrow column; returns how they are kept: "arrow", or mixed ids "json"."""
    values, kind = ids, "arrow"
    if ids.dtype == object:
        odd = [v for v in ids if type(v) not in (int, str, float, bool)]
        if odd:
            raise ValueError(
                f"{name} holds ids of type {type(odd[0]).__name__}, which are not saved: integers, "
                "text, floats, booleans, dates, and mixtures of the first four are."
            )
        values, kind = pd.Index([json.dumps(v) for v in ids], dtype="str"), "json"
    try:
        column = (
            pa.chunked_array([pa.array(values)])
            if len(values)
            else pa.chunked_array([], type=pa.Array.from_pandas(values).type)
        )
        table = pa.table({"id": column})
    except pa.ArrowException as error:
        raise ValueError(f"{name} cannot be saved: {error}.") from error
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return kind


def open_ids(path: Path, kind: str, size: int) -> pd.Index:
    """The ids that :func:`write_ids` wrote, memory-mapped.

    Raises:
        ValueError: If the file is missing, broken, cut off or of other ids.
    """
    try:
        with pa.memory_map(str(path)) as file:
            column = pa.ipc.open_file(file).read_all().column(0)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is missing, broken or cut off: {error}.") from error
    if len(column) != size:
        raise ValueError(f"{path} is of other sessions: it holds {len(column)} ids, not {size}.")
    if kind == "json":
        values = [json.loads(text) for text in column.to_pylist()]
        column = np.fromiter(values, dtype=object, count=len(values))
    else:
        column = column.to_pandas()
    index: pd.Index = pd.Index(column)
    return index
