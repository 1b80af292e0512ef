"""From an event log, one click a row in any order, to the flat arrays of sessions."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from graphseq.data.tables import Log, read_log
from graphseq.data.vocabulary import UNKNOWN, Vocabulary, as_index

logger = logging.getLogger(__name__)

MAX_ROWS_NAMED = 5
"""How many offending rows an error message names before it only counts."""


def session_fields(
    log: Log,
    *,
    item: str,
    time: str | None,
    user: str | None,
    session: str | None = None,
    gap: str | float | None = None,
    features: Sequence[str] = (),
    item_features: pd.DataFrame | Sequence[str] | None = None,
    separator: str = ",",
) -> dict[str, Any]:
    """The fields of :class:`~graphseq.data.sessions.Sessions` that a log makes.

    Rows are grouped by ``session``, or, where that is ``None``, by ``user``; then ordered by time,
    rows of equal time in the log's order; then cut wherever the pause is longer than ``gap``.

    Args:
        log: A frame, or the path of a Parquet or CSV file.
        item, time, user, session: Names of its columns.
        gap: The longest pause within a session, as ``"30min"`` or in seconds; ``None``: no cut.
        features: Columns that describe the click.
        item_features: Columns that describe the item, or a frame indexed by item id.
        separator: Of a CSV file.

    Raises:
        ValueError: See :meth:`Sessions.from_frame` and :meth:`Sessions.from_events`.
    """
    if isinstance(features, str) or isinstance(item_features, str):
        raise ValueError("features and item_features are lists of column names, got one string.")
    described = [] if isinstance(item_features, pd.DataFrame) else list(item_features or ())
    named = [c for c in (session, user, item, time) if c is not None]
    ids = [c for c in (session, user, item) if c is not None]
    frame = read_log(log, [*named, *features, *described], ids=ids, separator=separator)
    if len(frame) == 0:
        raise ValueError("The log is empty: it needs at least one click.")

    grouping = session if session is not None else user
    assert grouping is not None
    groups, group = _codes(frame[grouping])
    vocabulary, items = _codes(frame[item])
    seconds = None if time is None else to_seconds(frame[time])
    limit = None if gap is None else gap_seconds(gap)

    order = sorted_order(group, seconds)
    if order is not None:  # groups keep their codes: they are sorted by them
        group, items = group[order], items[order]
        seconds = None if seconds is None else seconds[order]
    first = np.empty(len(vocabulary), dtype=np.int64)
    first[items[::-1]] = np.arange(len(items))[::-1]  # of all that write, the first click wins
    if order is not None:  # items count by first appearance in the sessions, not in the log
        appearance = np.argsort(first)
        code = np.empty_like(appearance)
        code[appearance] = np.arange(len(appearance))
        items, first = code[items], first[appearance]
        vocabulary = Vocabulary.from_unique(vocabulary.ids.take(appearance))
    starts = np.append(True, group[1:] != group[:-1])
    if limit is not None and seconds is not None:
        starts[1:] |= np.diff(seconds) > limit
    ptr = np.append(np.flatnonzero(starts), len(group))

    fields: dict[str, Any] = {
        "items": items.astype(np.int32),
        "ptr": ptr,
        "vocabulary": vocabulary,
        "time": seconds,
    }
    if session is not None:
        fields["session_ids"] = plain_array(groups.ids)
        if user is not None:
            users, codes = Vocabulary.factorize(frame[user])
            codes = codes if order is None else codes[order]
            fields["users"] = one_user(codes, ptr, fields["session_ids"], user).astype(np.int32)
            fields["user_vocabulary"] = users
    else:
        fields["users"] = group[ptr[:-1]].astype(np.int32)
        fields["user_vocabulary"] = groups
    fields["click_features"], fields["feature_vocabularies"] = {}, {}
    for name in dict.fromkeys(features):
        column = frame[name] if order is None else frame[name].take(order)
        fields["click_features"][name], ids_behind = _feature(column)
        if ids_behind is not None:
            fields["feature_vocabularies"][name] = ids_behind
    if isinstance(item_features, pd.DataFrame):
        fields["item_features"] = features_by_id(item_features, vocabulary)
    elif item_features is not None:
        rows = first if order is None else order[first]
        fields["item_features"] = frame[described].take(rows).reset_index(drop=True)
    return fields


def missing_rows(what: str, missing: NDArray[np.bool_], unit: str = "row") -> str:
    """The sentence that counts missing values and names the first rows that have them."""
    rows = np.flatnonzero(missing)
    named = ", ".join(map(str, rows[:MAX_ROWS_NAMED].tolist()))
    more = ", ..." if len(rows) > MAX_ROWS_NAMED else ""
    return (
        f"The log's {what} is missing in {len(rows)} of its rows ({unit} {named}{more}, counted "
        "from 0): fill them in or drop them."
    )


def to_seconds(column: pd.Series) -> NDArray[np.float64]:
    """A column of dates (without a zone: UTC), durations or numbers as seconds, float64 [n].

    Raises:
        ValueError: If a value is neither, missing or infinite.
    """
    what = f"time column {column.name!r}"
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes = column.cat.codes.to_numpy()
        if (codes < 0).any():
            raise ValueError(missing_rows(what, codes < 0))
        categories = pd.Series(column.cat.categories, name=column.name)
        return to_seconds(categories)[codes]
    column = column.infer_objects()
    missing = column.isna().to_numpy()
    if missing.any():
        raise ValueError(missing_rows(what, missing))
    if pd.api.types.is_numeric_dtype(column):
        seconds = column.to_numpy(dtype=np.float64)
    elif pd.api.types.is_timedelta64_dtype(column):
        seconds = column.dt.total_seconds().to_numpy(dtype=np.float64)
    else:
        dates = _dates(column, what)
        if dates.isna().any():
            raise ValueError(missing_rows(what, dates.isna().to_numpy()))
        ticks = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}[dates.dt.unit]
        seconds = dates.astype(np.int64).to_numpy() / ticks
    if not np.isfinite(seconds).all():
        raise ValueError(missing_rows(f"{what} (infinite counts as such)", ~np.isfinite(seconds)))
    return seconds


def _dates(column: pd.Series, what: str) -> pd.Series:
    try:
        # Of text, ISO 8601 only: in 09.05.2016, pandas would take the month for the day unasked.
        return pd.to_datetime(column, utc=True, format="ISO8601")
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"The {what} holds neither numbers nor dates, nor all text as 2016-05-09T10:00:00, but "
            f"{column.iloc[0]!r}: convert it first, with pandas.to_datetime(..., format=...)."
        ) from error


def plain_array(ids: pd.Index) -> Any:
    """Ids as a NumPy array, or, if they are text, as an array in Arrow's memory."""
    return ids.array if isinstance(ids.dtype, pd.StringDtype) else ids.to_numpy()


def _codes(column: pd.Series) -> tuple[Vocabulary, NDArray[np.integer[Any]]]:
    vocabulary, codes = Vocabulary.factorize(column)
    if (codes < 0).any():
        raise ValueError(missing_rows(f"column {column.name!r}", codes < 0))
    return vocabulary, codes


def gap_seconds(gap: str | float) -> float:
    """A pause such as ``"30min"`` in seconds; ValueError if it is none."""
    try:
        seconds = pd.Timedelta(gap).total_seconds() if isinstance(gap, str) else float(gap)
    except ValueError as error:
        raise ValueError(
            f"gap is a number of seconds or a text as '30min', got {gap!r}."
        ) from error
    if not seconds > 0:
        raise ValueError(f"gap must be positive, got {gap!r}: None keeps a user's log whole.")
    return seconds


def sorted_order(
    group: NDArray[np.integer[Any]], seconds: NDArray[np.float64] | None
) -> NDArray[np.int64] | None:
    """The stable order by (group, time), or ``None`` where the log is in order already."""
    order = None
    if (group[1:] < group[:-1]).any():
        order = _group_order(group)
    if seconds is None:
        return order
    # Most logs are written in time: then grouping is all there is to do.
    times = seconds if order is None else seconds[order]
    groups = group if order is None else group[order]
    if ((times[1:] >= times[:-1]) | (groups[1:] != groups[:-1])).all():
        return order
    by_time = np.argsort(seconds, kind="stable")
    return by_time[_group_order(group[by_time])]


def _group_order(group: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """The stable order by group: (group, row) as one integer, sorted, is four times faster."""
    rows = len(group)
    key = group.astype(np.int64) * rows + np.arange(rows)
    key.sort()
    key %= rows
    return key


def one_user(
    codes: NDArray[np.integer[Any]], ptr: NDArray[np.int64], session_ids: Any, column: str
) -> NDArray[np.int64]:
    """The user of each session; -1 where no click names one."""
    users = np.maximum.reduceat(codes, ptr[:-1])
    other = (codes != np.repeat(users, np.diff(ptr))) & (codes != UNKNOWN)
    if other.any():
        sessions = np.unique(np.searchsorted(ptr, np.flatnonzero(other), side="right") - 1)
        raise ValueError(
            f"A session belongs to one user, but column {column!r} names several in "
            f"{len(sessions)} sessions, the first of them {session_ids[sessions[0]]!r}."
        )
    return users


def _feature(column: pd.Series) -> tuple[NDArray[Any], Vocabulary | None]:
    if pd.api.types.is_bool_dtype(column) or not pd.api.types.is_numeric_dtype(column):
        vocabulary, codes = Vocabulary.factorize(column)
        return codes.astype(np.int32), vocabulary
    if pd.api.types.is_integer_dtype(column) and not column.hasnans:
        return column.to_numpy(dtype=np.int64), None
    return column.to_numpy(dtype=np.float64, na_value=np.nan), None


def features_by_id(table: pd.DataFrame, vocabulary: Vocabulary) -> pd.DataFrame:
    """Rows of a table indexed by item id, in the order of the vocabulary's codes."""
    index = as_index(table.index)
    if not index.is_unique:
        raise ValueError(
            "item_features needs one row an item, but its index names "
            f"{index[index.duplicated()][0]!r} twice."
        )
    rows = Vocabulary.from_unique(index).encode(vocabulary.ids)
    known = rows >= 0
    if not known.any():
        raise ValueError(
            "item_features describes no item of the log: its index must hold item ids, but starts "
            f"with {index[:3].tolist()}, where the log has {vocabulary.ids[:3].tolist()}."
        )
    if not known.all():
        logger.info("%d of %d items have no row in item_features.", (~known).sum(), len(known))
        return table.reset_index(drop=True).reindex(rows).reset_index(drop=True)
    return table.take(rows).reset_index(drop=True)
