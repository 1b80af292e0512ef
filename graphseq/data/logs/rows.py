"""Logs with one session per row: lists of items, times and features become one click per row."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import chain
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from graphseq.data.formats.id_lines import split_tokens
from graphseq.data.logs.errors import rows_named
from graphseq.data.logs.ids import series_of_arrow
from graphseq.data.logs.nested import field_of, is_list
from graphseq.data.logs.text import typed_text

logger = logging.getLogger(__name__)

Place = Callable[[int], str]


@dataclass(frozen=True)
class Lists:
    """A column of lists.

    Args:
        values: What all lists hold, one after the other, [n].
        lengths: How much each of them holds, 0 where it is missing, int64 [num_rows].
    """

    values: pd.Series
    lengths: NDArray[np.int64]


def by_clicks(
    frame: pd.DataFrame,
    item: Any,
    *,
    ids: Collection[Any],
    separator: str | None,
    place: Place,
) -> tuple[pd.DataFrame, NDArray[np.int64] | None]:
    """The log with one click per row, where its items are lists; else as it is.

    Columns of lists are taken apart together; other columns of a row hold for each of its clicks.
    Rows with an empty or a missing list are not sessions: they are counted and reported.

    Args:
        frame: The log.
        item: Its column of items.
        ids: Columns of ids.
        separator: Between the items of a row where they are one text; times and features of as
            many parts are taken apart with them.
        place: Where a row is, for errors.

    Returns:
        The log, and the row that each of its clicks was in, int64 [num_clicks]; ``None``: the items
        are not lists.

    Raises:
        ValueError: If lists of a row differ in length, hold lists themselves, or are all empty; or
            if another column holds lists and the items are none.
    """
    lists = {}
    for name, column in frame.items():
        found = _of_lists(column, str(name), name in ids, place)
        if found is not None:
            lists[name] = found
    if item not in lists:
        found = _of_list_text(frame[item], item in ids, place)
        if found is None and separator is not None:
            found = _of_text(frame[item], item in ids, separator, place)
        if found is not None:
            lists[item] = found
    if item not in lists:
        for name in lists:
            raise ValueError(
                f"Column {name!r} holds lists: name a column of plain values, or, with one session "
                f"per row, a column of lists as item=, where {item!r} holds none."
            )
        return frame, None
    for name in frame.columns.difference(list(lists), sort=False):
        found = _of_list_text(frame[name], name in ids, place)
        if found is None and separator is not None and _text(frame[name]) is not None:
            found = _with_as_many(frame[name], lists[item].lengths, name in ids, separator, place)
        if found is not None:
            lists[name] = found
    lengths = lists[item].lengths
    for name, other in lists.items():
        bad = other.lengths != lengths
        if bad.any():
            first = int(np.argmax(bad))
            raise ValueError(
                f"The lists of a row belong together, but {item!r} and {name!r} differ in length "
                f"in {rows_named(bad, place)}, the first with {lengths[first]} and "
                f"{other.lengths[first]} values: mend or drop these rows."
            )
    _report_empty(lengths, item, place)
    row = np.repeat(np.arange(len(frame)), lengths)
    clicks = {
        name: lists[name].values if name in lists else column.iloc[row].reset_index(drop=True)
        for name, column in frame.items()
    }
    return pd.DataFrame(clicks, copy=False), row


def place_of_click(row: NDArray[np.int64], place: Place) -> Place:
    """Where a click is, for errors, by the row of each."""
    return lambda click: (
        f"{place(int(row[click]))}, value {click - int(np.searchsorted(row, row[click]))}"
    )


def _report_empty(lengths: NDArray[np.int64], item: Any, place: Place) -> None:
    empty = lengths == 0
    if empty.all():
        raise ValueError(f"The log is empty: no row has an item in {item!r}.")
    if empty.any():
        logger.warning(
            "%r is empty or missing in %s: these rows make no session.",
            item,
            rows_named(empty, place),
        )


# -- columns of lists ----------------------------------------------------------------------------


def _of_lists(column: pd.Series, name: str, is_id: bool, place: Place) -> Lists | None:
    """A column of lists, of Arrow's or of Python's; ``None``: it is none."""
    if isinstance(column.dtype, pd.ArrowDtype) and pa.types.is_nested(column.dtype.pyarrow_dtype):
        values = field_of(column.array.__arrow_array__(), "", name)
        if not is_list(values.type):
            raise ValueError(
                f"Column {name!r} is nested ({values.type}): name a part of it, as '{name}.part'."
            )
        lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy().astype(np.int64)
        inner = values.flatten()
        if pa.types.is_nested(inner.type):
            raise ValueError(
                f"Column {name!r} holds lists of {inner.type}: name a part of them, as "
                f"'{name}.part'."
            )
        return Lists(series_of_arrow(inner, name), lengths)
    first = _first(column)
    if isinstance(first, (set, frozenset)):
        raise ValueError(f"Column {name!r} holds sets, which have no order: write lists.")
    if not _is_sequence(first):
        return None
    there = column.notna().to_numpy()  # a list counts as there, whatever it holds
    values = column.to_numpy()
    odd = there & ~np.fromiter(map(_is_sequence, values), dtype=bool, count=len(values))
    if odd.any():
        raise ValueError(
            f"Column {name!r} holds lists, but {values[int(np.argmax(odd))]!r} in "
            f"{rows_named(odd, place)}: write a list in every row."
        )
    lengths = np.zeros(len(values), dtype=np.int64)
    lengths[there] = np.fromiter(map(len, values[there]), np.int64, count=int(there.sum()))
    if all(type(v) is np.ndarray and v.dtype == first.dtype for v in values[there]):
        joined = np.concatenate(list(values[there]))
        if joined.ndim == 1:
            return Lists(pd.Series(joined, name=name), lengths)
    listed = list(chain.from_iterable(map(_as_list, values[there])))
    if any(_is_sequence(v) or isinstance(v, dict) for v in listed):
        raise ValueError(f"Column {name!r} holds lists of lists or of objects: write plain values.")
    objects = np.fromiter(listed, dtype=object, count=len(listed))
    flat = pd.Series(objects, name=name)  # of ids, a missing one would turn integers to floats
    return Lists(flat if is_id else flat.infer_objects(), lengths)


def _is_sequence(value: Any) -> bool:
    """Whether a value is a list, an array, a tensor or a column of another library."""
    if isinstance(value, (list, tuple)):
        return True
    listed = hasattr(value, "tolist") or hasattr(value, "to_list")
    return listed and hasattr(value, "__len__") and not isinstance(value, str)


def _as_list(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return value
    return value.tolist() if hasattr(value, "tolist") else value.to_list()


LIST_TEXT = r"^\s*\[[\s\S]*\]\s*$"
"""How pandas, JSON and NumPy write a list into text: ``[1, 2]``, ``['a', 'b']``, ``[1 2]``."""


def _of_list_text(column: pd.Series, is_id: bool, place: Place) -> Lists | None:
    """Lists in brackets, as ``to_csv`` writes them; ``None``: the column holds no such texts."""
    first = _first(column)
    if not isinstance(first, str) or not first.lstrip().startswith("["):
        return None
    text = _text(column)
    if text is None or not pc.all(pc.match_substring_regex(text, LIST_TEXT)).as_py():
        return None
    inner = pc.replace_substring_regex(text, r"^\s*\[\s*|\s*\]\s*$", "")
    if not pc.any(pc.match_substring(inner, ",")).as_py():  # blanks between values: NumPy's way
        lossy = np.asarray(pc.fill_null(pc.match_substring_regex(inner, r"""\.\.\.|['"]"""), False))
        several = np.asarray(pc.fill_null(pc.match_substring_regex(inner, r"\s"), False))
        if (lossy & several).any():
            raise ValueError(
                f"Column {column.name!r} holds arrays as NumPy prints them, which cannot be read "
                f"back in {rows_named(lossy & several, place)}: write lists, as [1, 2]."
            )
        inner = pc.replace_substring_regex(inner, r"\s+", ",")
    with duckdb.connect() as connection:
        table = connection.from_arrow(pa.table({"v": inner}))
        found = table.project("('[' || v || ']')::VARCHAR[]").to_arrow_table()
    lists = field_of(found.column(0), "", "")
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
    return Lists(series_of_arrow(typed_text(lists.flatten(), is_id), str(column.name)), lengths)


def _of_text(column: pd.Series, is_id: bool, separator: str, place: Place) -> Lists:
    """Texts of several values, or integers where every row has one."""
    text = _text(column)
    if text is None:
        if not pd.api.types.is_integer_dtype(column.dtype):
            raise ValueError(
                f"item_separator takes texts apart, but column {column.name!r} holds "
                f"{column.dtype}: leave it out, or name a column of text."
            )
        text = pa.array(column.astype("str").where(column.notna()), pa.large_string())
    tokens, lengths = split_tokens(pc.fill_null(text, ""), separator)
    if (lengths < 0).any():
        raise ValueError(
            f"Column {column.name!r} has an empty value between separators in "
            f"{rows_named(lengths < 0, place)}: write one there."
        )
    return Lists(series_of_arrow(typed_text(tokens, is_id), str(column.name)), lengths)


def _with_as_many(
    column: pd.Series, items: NDArray[np.int64], is_id: bool, separator: str, place: Place
) -> Lists | None:
    """Texts with as many parts as a row has items, in most rows of several; else ``None``."""
    _, lengths = split_tokens(pc.fill_null(_text(column), ""), separator)
    several = items > 1
    if not several.any() or (lengths == items)[several].mean() <= 0.5:
        return None
    return _of_text(column, is_id, separator, place)


def _first(column: pd.Series) -> Any:
    """The first value of a column of objects or of text that is not missing."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = pd.Series(column.cat.categories)
    if column.dtype != object and not isinstance(column.dtype, pd.StringDtype):
        return None
    values = column.array
    return next((v for v in values if not (v is None or v is pd.NA or isinstance(v, float))), None)


def _text(column: pd.Series) -> Any | None:
    """A column of text as Arrow's; ``None``: it holds something else."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        if not isinstance(column.cat.categories.dtype, pd.StringDtype):
            return None
        column = column.astype("str")
    if column.dtype == object and pd.api.types.infer_dtype(column, skipna=True) == "string":
        column = column.astype("str")
    if not isinstance(column.dtype, pd.StringDtype):
        return None
    text = pa.array(column, pa.large_string())
    return text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text
