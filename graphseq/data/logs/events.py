"""Builds the flat arrays of sessions from an event log with one click per row, in any order."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from graphseq.data.logs.door import open_log
from graphseq.data.logs.errors import missing_rows
from graphseq.data.logs.ids import IdRule, id_column
from graphseq.data.logs.rows import by_clicks, place_of_click
from graphseq.data.logs.source import Log, LogOptions
from graphseq.data.logs.times import Duration, duration, instants
from graphseq.data.sessions.item_table import check_columns, take_rows
from graphseq.data.sessions.vocabulary import UNKNOWN, Vocabulary, as_index

logger = logging.getLogger(__name__)


def session_fields(
    log: Log,
    *,
    item: str,
    time: str | None,
    user: str | Sequence[str] | None,
    session: str | None = None,
    gap: Duration | None = None,
    features: Sequence[str] = (),
    item_features: pd.DataFrame | Sequence[str] | None = None,
    options: LogOptions | None = None,
) -> dict[str, Any]:
    """The fields of :class:`~graphseq.data.Sessions`, built from a log.

    Rows are grouped by ``session``, or by ``user`` if that is ``None``. They are then ordered by
    time, with rows of equal time in the log's order, and split at pauses longer than ``gap``.

    Args:
        log: The log, see :data:`~graphseq.data.logs.source.Log`.
        item, time, user, session: Names of its columns. ``user`` may be several columns, of which
            the first one with a value determines the user of a row.
        gap: The longest pause within a session, as ``"30min"`` or in seconds; ``None``: no limit.
        features: Columns that describe the click.
        item_features: Columns that describe the item, or a frame indexed by item id.
        options: How the log is read.

    Raises:
        ValueError: See :meth:`Sessions.from_frame` and :meth:`Sessions.from_events`.
    """
    options = LogOptions() if options is None else options
    if isinstance(features, str) or isinstance(item_features, str):
        raise ValueError("features and item_features are lists of column names, got one string.")
    check_feature_names(features)
    limit = None if gap is None else duration("gap", gap)
    if limit is not None and time is None:
        raise ValueError("gap cuts where time passes: name the column of times with time=.")
    if session is None and user is None:
        raise ValueError("Clicks are grouped by session= or by user=, got neither.")
    described: list[Any] = []
    if isinstance(item_features, pd.DataFrame):
        check_columns(item_features)
    else:
        described = list(dict.fromkeys(item_features or ()))
    visitor: list[str] = []
    if user is not None:
        visitor = list(user) if isinstance(user, (list, tuple)) else [user]  # type: ignore[list-item]
    if len(visitor) > 1 and session is not None:
        raise ValueError(
            f"user is one column where sessions have names, got {visitor}: from_events takes "
            "several, a user or else a cookie."
        )
    user = visitor[0] if len(visitor) == 1 else " or ".join(map(str, visitor)) or None
    named = [c for c in (session, *visitor, item, time) if c is not None]
    ids = [c for c in (session, *visitor, item) if c is not None]
    with open_log(log, options) as source:
        rows_alone = session is not None and not source.has(session, [item])
        if rows_alone and not source.has(item, []):
            source.read(named, ids=ids)  # raises for columns that do not exist
        wanted = [c for c in named if c != session] if rows_alone else named
        frame = source.read([*wanted, *features, *described], ids=ids)
        if len(frame) == 0:
            raise ValueError("The log is empty: it needs at least one click.")
        separator = options.item_separator
        frame, row = by_clicks(frame, item, ids=ids, separator=separator, place=source.place)
        place = source.place if row is None else place_of_click(row, source.place)
        if len(visitor) > 1:
            frame[user] = visitors([frame[name] for name in visitor], options.ids, place)
        if rows_alone:  # then each row is a session, if possible
            if row is None:
                source.read([session], ids=[session])  # states which columns exist
            frame[session] = row
        grouping = session if session is not None else user
        assert grouping is not None

        def codes_of(column: str) -> tuple[Vocabulary, NDArray[np.integer[Any]]]:
            ids = id_column(frame[column], options.ids, place=place)
            return Vocabulary.factorize(ids)

        groups, group = _complete(codes_of(grouping), grouping, place)
        vocabulary, items = _complete(codes_of(item), item, place)
        times = None
        if time is not None:
            times = instants(frame[time], options.time_unit, options.time_format, place=place)
        users = codes_of(user) if user is not None and session is not None else None

    order = sorted_order(group, None if times is None else times.ticks)
    if order is not None:  # groups keep their codes, by which they are sorted
        group, items = group[order], items[order]
        times = None if times is None else times.take(order)
    first = np.empty(len(vocabulary), dtype=np.int64)
    first[items[::-1]] = np.arange(len(items))[::-1]  # of all that write, the first click wins
    if order is not None:  # items count by first appearance in the sessions, not in the log
        appearance = np.argsort(first)
        code = np.empty_like(appearance)
        code[appearance] = np.arange(len(appearance))
        items, first = code[items], first[appearance]
        vocabulary = Vocabulary.from_unique(vocabulary.ids.take(appearance))
    starts = np.append(True, group[1:] != group[:-1])
    whole = np.append(np.flatnonzero(starts), len(group))  # of groups, before they are cut
    if limit is not None and times is not None:
        starts[1:] |= times.gaps_longer(limit)
    ptr = np.append(np.flatnonzero(starts), len(group)) if limit is not None else whole

    fields: dict[str, Any] = {
        "items": items.astype(np.int32),
        "ptr": ptr,
        "vocabulary": vocabulary,
        "time": None if times is None else times.seconds(),
    }
    if session is not None:
        cut = len(ptr) > len(whole)  # then several sessions have one name
        names = groups.ids.take(group[ptr[:-1]]) if cut else groups.ids
        fields["session_ids"] = plain_array(names)
        if users is not None:
            codes = users[1] if order is None else users[1][order]
            of_group = one_user(codes, whole, plain_array(groups.ids), str(user))
            fields["users"] = of_group[group[ptr[:-1]]].astype(np.int32)
            fields["user_vocabulary"] = users[0]
    else:
        fields["users"] = group[ptr[:-1]].astype(np.int32)
        fields["user_vocabulary"] = groups
    fields["click_features"], fields["feature_vocabularies"] = {}, {}
    for name in dict.fromkeys(features):
        column = frame[name] if order is None else frame[name].take(order)
        key = str(name)  # as item features of models, and as fields of graphs
        fields["click_features"][key], ids_behind = _feature(column)
        if ids_behind is not None:
            fields["feature_vocabularies"][key] = ids_behind
    if isinstance(item_features, pd.DataFrame):
        fields["item_features"] = features_by_id(item_features, vocabulary)
    elif described:
        rows = first if order is None else order[first]
        fields["item_features"] = pd.DataFrame(
            {str(name): _floats_of_decimals(frame[name].take(rows)) for name in described},
            index=frame.index.take(rows),
        ).reset_index(drop=True)
    return fields


def visitors(columns: Sequence[pd.Series], rule: IdRule, place: Callable[[int], str]) -> pd.Series:
    """The user of each row, from the first of several columns that has a value.

    Ids of the first column are unchanged. Ids of the others are prefixed with the column name, as
    ``"cookie=7"``, because cookie 7 is not user 7.

    Args:
        columns: As a user and a cookie, [n] each; missing where the row has none.
        rule: What ids are.
        place: Where a row is, for an error.
    """
    read = [id_column(column, rule, place=place) for column in columns]
    found = read[0].astype(object)
    for column in read[1:]:
        fills = found.isna() & column.notna()
        text = f"{column.name}=" + column[fills].astype("str")
        found[fills] = text
    return found


OWN_FIELDS = ("batch", "index", "item", "ptr", "time")
"""What session graphs have as ``click_<name>`` already, so that no click feature has this name."""


def check_feature_names(names: Iterable[Any]) -> None:
    """Raises ValueError if a click feature would take the place of a field of session graphs."""
    for name in names:
        if name in OWN_FIELDS:
            raise ValueError(
                f"A click feature cannot be named {name!r}, since session graphs have a field "
                f"click_{name} of their own: rename the column."
            )


def plain_array(ids: pd.Index) -> Any:
    """Ids as a NumPy array, or as an array in Arrow's memory if they are text."""
    return ids.array if isinstance(ids.dtype, pd.StringDtype) else ids.to_numpy()


def _complete(
    coded: tuple[Vocabulary, NDArray[np.integer[Any]]], column: str, place: Callable[[int], str]
) -> tuple[Vocabulary, NDArray[np.integer[Any]]]:
    if (coded[1] < 0).any():
        raise ValueError(missing_rows(f"column {column!r}", coded[1] < 0, place))
    return coded


def sorted_order(
    group: NDArray[np.integer[Any]], seconds: NDArray[Any] | None
) -> NDArray[np.int64] | None:
    """The stable order by (group, time), or ``None`` if the log is already ordered."""
    order = None
    if (group[1:] < group[:-1]).any():
        order = _group_order(group)
    if seconds is None:
        return order
    # Most logs are ordered by time: then grouping is enough.
    times = seconds if order is None else seconds[order]
    groups = group if order is None else group[order]
    if ((times[1:] >= times[:-1]) | (groups[1:] != groups[:-1])).all():
        return order
    by_time = np.argsort(seconds, kind="stable")
    return by_time[_group_order(group[by_time])]


def _group_order(group: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """The stable order by group; sorting (group, row) as one integer is four times faster."""
    rows = len(group)
    key = group.astype(np.int64) * rows + np.arange(rows)
    key.sort()
    key %= rows
    return key


def one_user(
    codes: NDArray[np.integer[Any]], ptr: NDArray[np.int64], session_ids: Any, column: str
) -> NDArray[np.int64]:
    """The user of each session; -1 if no click has one."""
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
    column = _floats_of_decimals(column.infer_objects())
    if pd.api.types.is_bool_dtype(column) or not pd.api.types.is_numeric_dtype(column):
        column = id_column(column, what=f"feature {column.name!r}")
    if pd.api.types.is_bool_dtype(column) or not pd.api.types.is_numeric_dtype(column):
        vocabulary, codes = Vocabulary.factorize(column)
        return codes.astype(np.int32), vocabulary
    most = np.iinfo(np.int64).max
    if pd.api.types.is_integer_dtype(column) and not column.hasnans and (column <= most).all():
        return column.to_numpy(dtype=np.int64), None
    return column.to_numpy(dtype=np.float64, na_value=np.nan), None


def _floats_of_decimals(column: pd.Series) -> pd.Series:
    decimal = column.dtype == object and pd.api.types.infer_dtype(column) == "decimal"
    return column.astype(np.float64) if decimal else column


def features_by_id(table: pd.DataFrame, vocabulary: Vocabulary) -> pd.DataFrame:
    """Rows of a table indexed by item id, in the order of the vocabulary's codes."""
    index = as_index(table.index)
    if not index.is_unique:
        raise ValueError(
            "item_features needs one row per item, but its index names "
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
    return take_rows(table, rows)
