"""Columns of ids: every value is kept exactly, or the column raises an error."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from graphseq.data.logs.errors import rows_named

IdRule = Literal["auto", "integer", "text"]
"""Type of ids: as in the log, or always integers, or always text."""

INTEGER = r"^(0|-?[1-9]\d*)$"
"""Pattern of text that is written exactly like its integer."""

FIRST = 1000
"""Number of values checked before all values are."""

PLAIN = (int, np.integer, str, float, np.floating, bool, np.bool_)


def id_column(
    column: pd.Series,
    rule: IdRule = "auto",
    *,
    what: str | None = None,
    place: Callable[[int], str] | None = None,
) -> pd.Series:
    """The ids of a column as integers, text, floats, booleans or dates; missing ids stay missing.

    Integers stay integers of 64 bits, with or without missing values. Floats that are all whole
    become integers, because pandas turns integers with missing values into floats. Decimals without
    a fraction become integers, other decimals and UUIDs text. A column of Python objects keeps
    integers and text apart.

    Args:
        column: The values, [n].
        rule: ``"auto"``: as above. ``"text"``: the text of each id. ``"integer"``: integers, also
            if the log has their text.
        what: How an error names the column.
        place: Where a row is, for an error.

    Raises:
        ValueError: If ids are of a type that cannot be saved, may have lost digits as floats, or
            are not integers although ``rule`` requires it.
    """
    what = f"column {column.name!r}" if what is None else what
    kind = column.dtype
    if isinstance(kind, pd.CategoricalDtype):
        used = np.unique(column.cat.codes.to_numpy())
        categories = pd.Series(column.cat.categories, name=column.name)
        if rule != "auto" or len(used) - (used[:1] < 0).sum() < len(categories):
            return id_column(_plain(column), rule, what=what, place=place)
        ids = id_column(categories, what=what)
        if ids.dtype == categories.dtype:
            return column
        return id_column(_plain(column), what=what, place=place)
    if isinstance(kind, pd.ArrowDtype):
        arrow = column.array.__arrow_array__()
        column = series_of_arrow(arrow, str(column.name)).set_axis(column.index)
        return id_column(column, rule, what=what, place=place)
    if pd.api.types.is_object_dtype(kind):
        column = _of_objects(column, what, place)
        kind = column.dtype
    if pd.api.types.is_float_dtype(kind):
        column = _of_floats(column, what)
        kind = column.dtype
    if isinstance(kind, pd.PeriodDtype | pd.IntervalDtype) or kind.kind in "mcV":
        raise ValueError(
            f"The {what} holds {kind}, which are not ids: integers, text, floats, booleans and "
            "dates are."
        )
    if rule == "text" and not isinstance(kind, pd.StringDtype):
        missing = column.isna()
        return column.astype(object).where(missing, column.astype("str")).astype("str")
    if rule == "integer" and not pd.api.types.is_integer_dtype(kind):
        return _integers(column, what, place)
    return column


def series_of_arrow(values: Any, name: str) -> pd.Series:
    """An Arrow column as a pandas column, with unchanged values.

    Integers with missing values get a masked type, since floats would lose their last digits.

    Raises:
        ValueError: If values are nested.
    """
    if isinstance(values, pa.ChunkedArray):
        if values.num_chunks == 1:
            values = values.chunk(0)
        elif pa.types.is_dictionary(values.type):
            values = values.unify_dictionaries().combine_chunks()
        else:
            values = values.combine_chunks()
    if isinstance(values, pa.ExtensionArray):
        if str(values.type.extension_name) == "arrow.uuid":
            ids = [None if v is None else str(v) for v in values.to_pylist()]
            return pd.Series(ids, name=name, dtype="str")
        values = values.storage
    kind = values.type
    if pa.types.is_dictionary(kind):
        if not _is_text(kind.value_type):
            return series_of_arrow(values.dictionary_decode(), name)
        codes = values.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
        categories = pd.Index(series_of_arrow(values.dictionary, name))
        return pd.Series(pd.Categorical.from_codes(codes, categories), name=name)
    if pa.types.is_nested(kind):
        raise ValueError(
            f"Column {name!r} is nested ({kind}): name a column of plain values, or take its part "
            "out first."
        )
    if pa.types.is_decimal(kind) and kind.scale <= 0:
        for whole in (pa.int64(), pa.uint64()):
            try:
                return series_of_arrow(pc.cast(values, whole), name)
            except pa.ArrowInvalid:
                continue
        return pd.Series(values.to_pylist(), name=name, dtype=object)
    if _is_text(kind):
        return pd.Series(
            pd.array(values.cast(pa.large_string()), dtype=pd.StringDtype(na_value=np.nan)),
            name=name,
        )
    if pa.types.is_null(kind):
        return pd.Series(np.full(len(values), None), name=name, dtype=object)
    if values.null_count and (pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        masked = {pa.bool_(): "boolean"}.get(kind, str(kind).replace("i", "I").replace("uI", "UI"))
        empty = values.is_null().to_numpy(zero_copy_only=False)
        filled = values.fill_null(0 if pa.types.is_integer(kind) else False)
        array: Any = pd.array(filled.to_numpy(zero_copy_only=False), dtype=masked)
        array[empty] = pd.NA
        return pd.Series(array, name=name)
    column: pd.Series = values.to_pandas(date_as_object=False)
    return column.rename(name)


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _plain(column: pd.Series) -> pd.Series:
    """A categorical column as its values."""
    values = column.cat.categories.take(column.cat.codes.to_numpy())
    if (column.cat.codes < 0).any():
        values = pd.Index(
            pd.api.extensions.take(
                column.cat.categories.array, column.cat.codes.to_numpy(), allow_fill=True
            )
        )
    return pd.Series(values, name=column.name)


def exact_up_to(dtype: Any) -> float:
    """The number up to which a type of floats holds every integer."""
    return 2.0 ** {"float16": 11, "float32": 24}.get(str(dtype).lower(), 53)


def _of_floats(column: pd.Series, what: str) -> pd.Series:
    """Floats that are all whole, as integers."""
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    there = values[~np.isnan(values)]
    if not np.isfinite(there).all():
        raise ValueError(f"The {what} holds infinite ids: drop them.")
    if not (there == np.floor(there)).all():
        return pd.Series(values, name=column.name)
    beyond = np.abs(there) > exact_up_to(column.dtype)
    if beyond.any():
        raise ValueError(
            f"The {what} holds ids as floats, and {int(beyond.sum())} of them, the first "
            f"{there[beyond][0]:.0f}, are too large for a float to tell from their neighbors: read "
            "the column as integers or text."
        )
    missing = np.isnan(values)
    whole = np.where(missing, 0, values).astype(np.int64)
    if not missing.any():
        return pd.Series(whole, name=column.name)
    return pd.Series(pd.arrays.IntegerArray(whole, missing), name=column.name)


def _of_objects(column: pd.Series, what: str, place: Callable[[int], str] | None) -> pd.Series:
    kind = pd.api.types.infer_dtype(column, skipna=True)
    if kind == "empty":
        return column
    if kind == "string":
        try:
            return column.astype("str")
        except UnicodeEncodeError as error:
            lone = column.map(lambda v: isinstance(v, str) and not _is_unicode(v)).to_numpy(bool)
            raise ValueError(
                f"The {what} holds text that is not Unicode in {rows_named(lone, place)} "
                f"({error.reason}): decode the log again, or drop these rows."
            ) from error
    if kind == "integer":
        return _of_integers(column)
    if kind in ("floating", "boolean"):
        return (
            column.infer_objects()
            if not column.isna().any()
            else column.astype("Float64" if kind == "floating" else "boolean")
        )
    missing = column.isna().to_numpy()
    values = column.to_numpy()
    there = values[~missing]
    if kind == "mixed-integer-float" and all(float(v).is_integer() for v in there):
        too_large = [v for v in there if isinstance(v, float) and abs(v) > 2**53]
        if not too_large:
            whole = [None if m else int(v) for v, m in zip(values, missing, strict=True)]
            return _of_integers(pd.Series(whole, name=column.name, dtype=object))
    if kind == "decimal":
        if all(v == v.to_integral_value() and v.as_tuple().exponent >= 0 for v in there):
            whole = [None if m else int(v) for v, m in zip(values, missing, strict=True)]
            return _of_integers(pd.Series(whole, name=column.name, dtype=object))
        return column.where(missing, column.map(str, na_action="ignore")).astype("str")
    if kind in ("datetime", "datetime64", "date"):
        return pd.Series(pd.to_datetime(column), name=column.name)
    types = {type(value) for value in there}
    if all(issubclass(t, uuid.UUID) for t in types):
        return column.where(missing, column.map(str, na_action="ignore")).astype("str")
    booleans = [issubclass(t, (bool, np.bool_)) for t in types]
    if any(booleans) and not all(booleans):
        raise ValueError(
            f"The {what} mixes booleans with ids of other types, and True is 1: write one type."
        )
    odd = np.array([not isinstance(v, PLAIN) for v in there])
    if odd.any():
        mask = np.zeros(len(values), dtype=bool)
        mask[np.flatnonzero(~missing)[odd]] = True
        example = values[int(np.argmax(mask))]
        way = (
            "decode them, as with .str.decode('utf-8')"
            if isinstance(example, bytes)
            else ("give each item one id of these")
        )
        raise ValueError(
            f"The {what} holds {type(example).__name__} in {rows_named(mask, place)}, which is no "
            f"id: integers, text, floats, booleans and dates are; {way}."
        )
    return column


def _is_unicode(text: str) -> bool:
    """Whether a text has no lone surrogate."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _of_integers(column: pd.Series) -> pd.Series:
    """Python integers as 64 bits, signed or unsigned; larger ones as text."""
    missing = column.isna().to_numpy()
    values = column.to_numpy()
    there = values[~missing]
    least, most = (min(there), max(there)) if len(there) else (0, 0)
    if least < -(2**63) or most >= 2**64 or (least < 0 and most >= 2**63):
        return column.where(missing, column.map(str, na_action="ignore")).astype("str")
    numbers = np.zeros(len(values), dtype=np.int64 if most < 2**63 else np.uint64)
    numbers[~missing] = there
    if not missing.any():
        return pd.Series(numbers, name=column.name)
    return pd.Series(pd.arrays.IntegerArray(numbers, missing), name=column.name)


def integers_of_text(text: Any) -> Any | None:
    """Arrow text as int64 or uint64 if every value is written as that integer, else ``None``."""
    for part in (text.slice(0, FIRST), text):
        if not pc.all(pc.match_substring_regex(part, INTEGER)).as_py():
            return None
    whole = cast_text(text, pa.int64())
    return cast_text(text, pa.uint64()) if whole is None else whole


def cast_text(text: Any, kind: pa.DataType) -> Any | None:
    """Arrow text as another type, or ``None`` if a value cannot be converted."""
    try:
        pc.cast(text.slice(0, FIRST), kind)  # Arrow raises an error for every value that fails
        found = pc.cast(text, kind)
    except pa.ArrowInvalid:
        return None
    # Arrow reads 0x10 as 16, but in a log it is text.
    hexadecimal = not pa.types.is_temporal(kind) and pc.any(pc.match_substring(text, "x")).as_py()
    return None if hexadecimal else found


def _integers(column: pd.Series, what: str, place: Callable[[int], str] | None) -> pd.Series:
    missing = column.isna().to_numpy()
    text = pa.array(column.astype("str").where(~missing, None), pa.string())
    found = integers_of_text(text)
    if found is not None:
        return series_of_arrow(found, str(column.name))
    fine = np.asarray(pc.match_substring_regex(text, INTEGER).fill_null(True))
    bad = ~fine if not fine.all() else ~missing
    example = column.iloc[int(np.argmax(bad))]
    raise ValueError(
        f"ids='integer' asks for integers of 64 bits, but the {what} holds {example!r}, one of "
        f"{rows_named(bad, place)} that are written otherwise: pass ids='auto' or ids='text'."
    )


__all__ = [
    "INTEGER",
    "IdRule",
    "cast_text",
    "exact_up_to",
    "id_column",
    "integers_of_text",
    "series_of_arrow",
]
