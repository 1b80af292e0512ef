"""How errors name rows of a log."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

MAX_ROWS_NAMED = 5
"""How many offending rows an error message names before it only counts."""


def rows_named(
    mask: NDArray[np.bool_], place: Callable[[int], str] | None = None, unit: str = "row"
) -> str:
    """Counts the rows where ``mask`` is true, and names the first of them.

    Args:
        mask: bool [n].
        place: Function from a row to its place, as ``row 3 of part-0.csv``; ``None``: its number.
        unit: Name of a row.
    """
    rows = np.flatnonzero(mask)
    first = rows[:MAX_ROWS_NAMED].tolist()
    places = [f"row {row}" for row in first] if place is None else [place(row) for row in first]
    named = ", ".join(places)
    if all(place == f"row {row}" for place, row in zip(places, first, strict=True)):
        named = f"{unit} " + ", ".join(map(str, first))
    more = ", ..." if len(rows) > MAX_ROWS_NAMED else ""
    return f"{len(rows)} of its rows ({named}{more}, counted from 0)"


def missing_rows(
    what: str,
    missing: NDArray[np.bool_],
    place: Callable[[int], str] | None = None,
    unit: str = "row",
) -> str:
    """The sentence that counts missing values and names the first rows that have them."""
    return (
        f"The log's {what} is missing in {rows_named(missing, place, unit)}: fill them in or drop "
        "them."
    )
