"""Tables with one row per item: takes rows by number, and joins tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from graphseq.data.sessions.vocabulary import Vocabulary


def check_columns(table: pd.DataFrame) -> None:
    """Refuses a table of items whose columns no file and no feature of a model could name.

    Raises:
        ValueError: If the name of a column is no text, or names two columns.
    """
    names = list(table.columns)
    odd = [name for name in names if not isinstance(name, str)]
    if odd:
        raise ValueError(
            f"The columns of item_features have names that are text, got {odd[0]!r}: name them, "
            "as table.rename(columns=str) does."
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"item_features has two columns {twice!r}: rename one.")


def take_rows(table: pd.DataFrame, row: NDArray[np.integer[Any]]) -> pd.DataFrame:
    """Rows of a table, numbered from 0; -1: a row of missing values.

    Args:
        table: The rows.
        row: Their numbers, [n].
    """
    table = table.reset_index(drop=True)
    absent = row < 0
    rows = table.reindex(np.where(absent, len(table), row)) if absent.any() else table.take(row)
    return rows.reset_index(drop=True)


def join_tables(
    items: Vocabulary, tables: Iterable[tuple[Vocabulary, pd.DataFrame | None]]
) -> pd.DataFrame | None:
    """The features of all items; each item takes the row of the first table that has one.

    Args:
        items: The items in the order of the new rows; an item without a row gets missing values.
        tables: Items and their rows; ``None``: there is no table for these items.

    Returns:
        One row per item, or ``None`` if there is no table at all.
    """
    given = [(known, table) for known, table in tables if table is not None]
    if not given:
        return None
    if given[0][0] is items:
        return given[0][1].reset_index(drop=True)
    row = np.full(len(items), -1, dtype=np.int64)
    start = 0
    for known, table in given:
        code = known.encode(items.ids)
        row = np.where((row < 0) & (code >= 0), start + code, row)
        start += len(table)
    return take_rows(pd.concat([table for _, table in given], ignore_index=True), row)
