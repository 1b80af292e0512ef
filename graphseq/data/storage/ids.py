"""Ids as arrays of numbers: text as bytes with offsets, mixtures as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from graphseq.data.sessions.vocabulary import as_index

SAVED = "integers, text, floats, booleans, dates, and mixtures of the first four are"
"""The types of ids that can be saved, for errors."""

KINDS = ("numbers", "dates", "times", "text", "mixed")
"""Formats of ids: unchanged; days; dates in a time zone; bytes; JSON in bytes."""

PARTS = {
    **dict.fromkeys(("numbers", "dates", "times"), ("",)),
    **dict.fromkeys(("text", "mixed"), (".text", ".offsets")),
}
"""Endings of the names of the arrays that each kind is kept in.

The texts of ``.text``, uint8, lie one after the other: text ``n`` is ``text[offsets[n]:offsets[n +
1]]``, with ``.offsets`` int64 of one more than there are texts.
"""

VALUES_PER_STEP = 1 << 22
"""Number of offsets checked at once."""


def check_ids_can_be_saved(ids: pd.Index | Any, name: str = "ids") -> None:
    """Raises ValueError if ids have a type or values that no folder of graphseq can hold.

    Args:
        ids: The ids, ``vocabulary.ids`` for one.
        name: Name of the ids, for errors.
    """
    ids = _index(ids)
    kind = _kind_of(ids, name)
    if kind in ("text", "mixed"):
        _as_text(ids, kind, name)


def ids_to_arrays(
    ids: pd.Index | Any, name: str = "ids"
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The format of ids, for a header, and the arrays that hold them.

    Args:
        ids: The ids.
        name: Name of the ids, for errors and as prefix of the arrays' names.

    Raises:
        ValueError: If one is missing, or their type cannot be saved.
    """
    ids = _index(ids)
    kind = _kind_of(ids, name)
    about: dict[str, Any] = {"kind": kind, "size": len(ids)}
    if kind == "times":
        times = pd.DatetimeIndex(ids)
        about["zone"] = str(times.tz)
        return about, {name: times.tz_convert("UTC").tz_localize(None).to_numpy()}
    if kind == "dates":
        return about, {name: np.array(ids.to_list(), dtype="datetime64[D]")}
    if kind == "numbers":
        return about, {name: ids.to_numpy()}
    text = _as_text(ids, kind, name)
    if len(text) == 0:
        return about, {f"{name}.text": np.zeros(0, np.uint8), f"{name}.offsets": np.zeros(1, "<i8")}
    _, offsets, data = text.buffers()
    offsets = np.frombuffer(offsets, np.int64, len(text) + 1, 8 * text.offset)
    held = np.frombuffer(data or b"", np.uint8)[offsets[0] : offsets[-1]]
    return about, {f"{name}.text": held, f"{name}.offsets": offsets - offsets[0]}


def ids_from_arrays(
    about: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    name: str,
    folder: Path,
    *,
    verify: bool = True,
) -> pd.Index:
    """Rebuilds ids from the arrays of :func:`ids_to_arrays`, without copying text and numbers.

    Args:
        about: The format from the header, already checked by its rules.
        arrays: Their arrays, which may be damaged.
        name: What they are.
        folder: Their folder, for errors.
        verify: Whether every value is checked, or only what is necessary for memory safety.

    Raises:
        ValueError: If the arrays do not match, text is not UTF-8, or a value is missing.
    """
    kind, size, where = about["kind"], about["size"], folder / name
    try:
        if kind in ("text", "mixed"):
            values: Any = _text(arrays[f"{name}.text"], arrays[f"{name}.offsets"], verify)
            if kind == "mixed":
                listed = [_one_of_a_mixture(each) for each in values.to_pylist()]
                values = np.fromiter(listed, dtype=object, count=len(listed))
            else:
                values = pd.array(values, dtype="str")
            index = pd.Index(values)
        else:
            index = _numbers(kind, arrays[name], about.get("zone"))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, pa.ArrowException) as e:
        raise ValueError(f"{where} is broken: {str(e).rstrip('.') or type(e).__name__}.") from e
    if len(index) != size:
        raise ValueError(f"{where} is broken: it holds {len(index)} ids, not {size}.")
    if verify and index.hasnans:
        raise ValueError(f"{where} is broken: an id is missing.")
    return index


def check_distinct(ids: pd.Index, name: str) -> None:
    """Raises ValueError if an id occurs twice."""
    if ids.dtype == object:
        distinct = len(set(ids))
    elif isinstance(ids.dtype, pd.StringDtype):
        distinct = pc.count_distinct(pa.array(ids.array)).as_py()
    else:
        distinct = len(pd.unique(ids))
    if distinct != len(ids):
        raise ValueError(f"{name} is broken: of {len(ids)} ids only {distinct} are distinct.")


def _index(ids: Any) -> pd.Index:
    index = as_index(ids)
    if index.dtype == object and pd.api.types.infer_dtype(index, skipna=False) == "datetime":
        return pd.DatetimeIndex(index)
    return index


def _kind_of(ids: pd.Index, name: str) -> str:
    if ids.hasnans:
        raise ValueError(
            f"{name} cannot be saved: the id at position {int(ids.isna().argmax())} is missing."
        )
    dtype: Any = ids.dtype
    if isinstance(dtype, pd.StringDtype):
        return "text"
    if isinstance(dtype, pd.DatetimeTZDtype):
        try:
            if pd.DatetimeTZDtype(dtype.unit, str(dtype.tz)) == dtype:
                return "times"
        except (KeyError, ValueError, TypeError):
            pass
        raise ValueError(f"{name} cannot be saved: the time zone {dtype.tz} has no name.")
    if ids.dtype == object:
        odd = [v for v in ids if type(v) not in (int, str, float, bool)]
        if not odd:
            return "mixed"
        if pd.api.types.infer_dtype(ids, skipna=False) == "date":
            return "dates"
        raise ValueError(
            f"{name} holds ids of type {type(odd[0]).__name__}, as {odd[0]!r:.60}, which are not "
            f"saved: {SAVED}."
        )
    if isinstance(dtype, np.dtype) and dtype.kind in "iufbM":
        return "numbers"
    raise ValueError(f"{name} holds ids of type {dtype}, which are not saved: {SAVED}.")


def _as_text(ids: pd.Index, kind: str, name: str) -> pa.LargeStringArray:
    values: Any = ids.array
    try:
        if kind == "mixed":
            values = [json.dumps(value, allow_nan=False) for value in ids]
        column = pa.array(values, type=pa.large_string())
    except (pa.ArrowException, ValueError) as error:  # half of a surrogate pair, for one
        raise ValueError(f"{name} cannot be saved as text: {error}.") from error
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _text(data: NDArray[Any], offsets: NDArray[Any], verify: bool) -> pa.LargeStringArray:
    """Text ids from arrays; checked first, because Arrow trusts offsets."""
    if data.dtype != np.uint8 or offsets.dtype != np.int64 or len(offsets) == 0:
        raise ValueError("its arrays are of other types")
    steps = (
        offsets[at : at + VALUES_PER_STEP + 1] for at in range(0, len(offsets), VALUES_PER_STEP)
    )
    if offsets[0] != 0 or offsets[-1] != len(data) or any((np.diff(s) < 0).any() for s in steps):
        raise ValueError("its texts do not lie one after the other")
    # The arrays stay referenced by the buffers, so that mapped bytes live as long as the ids.
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    text = pa.Array.from_buffers(pa.large_string(), len(offsets) - 1, buffers)
    if verify:
        text.validate(full=True)  # UTF-8, too
    return text


def _one_of_a_mixture(text: str) -> Any:
    value = json.loads(text)
    if type(value) not in (int, str, float, bool):
        raise ValueError(f"{text!r:.60} is not an id")
    return value


def _numbers(kind: str, values: NDArray[Any], zone: str | None) -> pd.Index:
    if kind == "dates":
        days: list[Any] = values.astype("datetime64[D]").astype(object).tolist()
        return pd.Index(np.fromiter(days, dtype=object, count=len(days)))
    if kind == "times":
        return pd.DatetimeIndex(values).tz_localize("UTC").tz_convert(zone)
    return pd.Index(values)
