"""Columns of lists and structs, which stay in Arrow's memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from graphseq.data.logs.ids import series_of_arrow


def column_of_arrow(values: Any, name: str) -> pd.Series:
    """An Arrow column as a pandas column; nested values stay in Arrow's memory."""
    if pa.types.is_nested(values.type):
        return pd.Series(pd.arrays.ArrowExtensionArray(values), name=name)
    return series_of_arrow(values, name)


def field_of(values: Any, part: str, name: str) -> Any:
    """A field of structs, or of structs in lists, as an Arrow array or lists.

    Args:
        values: Arrow's column.
        part: Names of a field and of fields in it, with dots between; empty: the column itself.
        name: The caller's name for it, for errors.

    Raises:
        ValueError: If there is no such part.
    """
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks() if values.num_chunks != 1 else values.chunk(0)
    for field in part.split(".") if part else ():
        values = _one_field(values, field, name)
    return values


def _one_field(values: Any, field: str, name: str) -> Any:
    if is_list(values.type):
        lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy()
        offsets = pa.array(np.append(0, np.cumsum(lengths, dtype=np.int64)))
        inner = _one_field(values.flatten(), field, name)
        return pa.LargeListArray.from_arrays(offsets, inner, mask=values.is_null())
    fields = [f.name for f in values.type] if pa.types.is_struct(values.type) else []
    if field not in fields:
        raise ValueError(
            f"There is no {name!r}: {values.type} has no field {field!r}, but "
            f"{', '.join(map(repr, fields)) or 'none'}."
        )
    return pc.struct_field(values, field)


def is_list(kind: Any) -> bool:
    """Whether an Arrow type is a list type."""
    return bool(
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )
