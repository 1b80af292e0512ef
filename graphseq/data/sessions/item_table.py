"""Tables with one row per item: takes rows by number, and joins tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from graphseq.data.sessions.vocabulary import Vocabulary


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
