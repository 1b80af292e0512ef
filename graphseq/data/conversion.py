"""Sessions of a log larger than memory: read once, spread, sorted and joined on disk."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from graphseq.data.collect import SortedBuckets, join_buckets, sort_buckets
from graphseq.data.events import features_by_id, gap_seconds
from graphseq.data.parquet_log import Paths
from graphseq.data.sessions import Sessions
from graphseq.data.spill import ahead
from graphseq.data.spread import LogColumns, num_buckets, spread
from graphseq.data.storage import (
    SESSIONS,
    FolderWriter,
    check_replaceable,
    describe_sessions,
    open_sessions,
    write_folder,
)
from graphseq.data.vocabulary import UNKNOWN, Vocabulary

logger = logging.getLogger(__name__)

NOT_SEEN = -2
"""What stands for a code that has not appeared yet."""

BUILD = "build"
"""Folder of what is needed while sessions are built, within the one that they are built in."""


def convert(
    log: Paths,
    out: str | PathLike[str],
    *,
    session: str | None = "session_id",
    item: str = "item_id",
    time: str | None = None,
    user: str | None = None,
    gap: str | float | None = None,
    features: Sequence[str] = (),
    item_features: pd.DataFrame | Sequence[str] | None = None,
) -> Sessions:
    """Sessions of a Parquet log larger than memory, built in a folder and memory-mapped.

    What comes out is what :meth:`Sessions.from_frame` (with ``session=None``:
    :meth:`Sessions.from_events`) makes of the whole log, but that integers of any width become
    int64. The log is read once: a chunk of rows at a time is spread over buckets on disk by the
    hash of its sessions; each bucket is sorted in memory; sessions are joined in the order in which
    they begin in the log. Memory holds a chunk, a bucket or a range of about four million clicks,
    the distinct ids of items, users and features, and a code for each distinct id of each chunk.
    The folder is whole or not there.

    Args:
        log: A Parquet file; a folder of such, with folders in it (``day=3/`` is a column ``day``),
            in the order of their paths; or several of either, in the order given.
        out: The folder to make, as :meth:`Sessions.save` does; what is needed meanwhile, about 40
            bytes a click and more with features, lies in a hidden folder beside it.
        session: Column of sessions, or ``None``: the log of each user, cut by ``gap``.
        item, time, user, features, item_features: As in :meth:`Sessions.from_frame`.
        gap: Longest pause within a session, as ``"30min"`` or in seconds; ``None``: no cut.

    Raises:
        ValueError: If the log is empty or broken, a column is missing (those that exist are
            listed), a value is missing (file and rows are named), a session has two users, or the
            folder holds something else or cannot be written, as when the disk is full.
    """
    folder = Path(fspath(out))
    check_replaceable(folder, SESSIONS)
    described = () if isinstance(item_features, pd.DataFrame) else item_features or ()
    columns = log_columns(session, item, time, user, gap, features, described)
    opened = columns.open(log)
    numbers = columns.numbers(opened)
    buckets = num_buckets(opened.num_rows)
    with write_folder(folder, SESSIONS) as part:
        work = part.path / BUILD
        rows = spread(opened, opened.row_groups, columns, numbers, work / "spread", 1, buckets)
        ordered = sort_buckets([rows], range(buckets), columns, opened.num_rows, work / "sorted")
        rows.files.delete()
        vocabularies = {name: rows.vocabulary(name) for name in rows.coded}
        write_sessions(part, ordered, columns, vocabularies, item_features)
        shutil.rmtree(work)
    return open_sessions(folder)


def log_columns(
    session: str | None,
    item: str,
    time: str | None,
    user: str | None,
    gap: str | float | None,
    features: Sequence[str],
    described: Sequence[str],
) -> LogColumns:
    """The columns of a log, checked.

    Raises:
        ValueError: If they do not go together.
    """
    if isinstance(features, str) or isinstance(described, str):
        raise ValueError("features and item_features are lists of column names, got one string.")
    group = session if session is not None else user
    if group is None:
        raise ValueError("Sessions are named by session=, or cut from the log of each user=.")
    if gap is not None and (session is not None or time is None):
        raise ValueError("gap cuts the log of each user by time: pass session=None and time=.")
    return LogColumns(
        group,
        item,
        time,
        None if session is None else user,
        None if gap is None else gap_seconds(gap),
        tuple(dict.fromkeys(features)),
        tuple(dict.fromkeys(described)),
        by_user=session is None,
    )


def write_sessions(
    folder: FolderWriter,
    buckets: SortedBuckets,
    columns: LogColumns,
    vocabularies: dict[str, pd.Index],
    item_features: pd.DataFrame | Sequence[str] | None = None,
    *,
    renumber: bool = True,
) -> None:
    """Writes sorted buckets as saved sessions, in the order in which their groups begin in the log.

    Args:
        folder: A new folder of saved sessions.
        buckets: The sessions.
        columns: What the log's columns are.
        vocabularies: Ids behind the codes in the buckets' columns, and ``user``.
        item_features: As in :meth:`Sessions.from_parquet`.
        renumber: Whether ids get codes by their first appearance in these sessions, or keep those
            that they have.

    Raises:
        OSError: If something cannot be written.
        ValueError: If ids are of a type that is not saved, or item features do not fit.
    """
    places = columns.places
    places = columns.places
    arrays = {"item": "items", "time": "time"}  # name in buckets -> name in saved sessions
    arrays |= {places[name]: f"click_{number}" for number, name in enumerate(columns.features)}
    arrays = {name: target for name, target in arrays.items() if name in buckets.kinds}
    kinds = {"ptr": "i8", **{target: buckets.kinds[name] for name, target in arrays.items()}}
    if columns.user is not None or columns.by_user:
        kinds["users"] = "i4"
    codes = {
        name: Renumbering(ids)
        for name, ids in vocabularies.items()
        if renumber and name in buckets.kinds
    }
    described: list[dict[str, NDArray[Any]]] = []
    groups_are_users = columns.by_user and columns.user is None
    named_by_groups = "user_ids" if groups_are_users else "session_ids"
    num_clicks = 0
    with ExitStack() as stack:
        keeps_groups = groups_are_users or not columns.by_user
        groups = stack.enter_context(folder.ids_file(named_by_groups)) if keeps_groups else None
        files = {
            name: stack.enter_context(folder.array_file(name, kind)) for name, kind in kinds.items()
        }
        files["ptr"].append(np.zeros(1))
        for joined in ahead(join_buckets(buckets)):
            values = joined.clicks
            for name, renumbering in codes.items():
                values[name], first = renumbering(values[name])
                if name == "item":
                    first_clicks = first
            described.append({n: values[places[n]][first_clicks] for n in columns.described})
            for name, target in arrays.items():
                files[target].append(values[name])
            files["ptr"].append(num_clicks + np.cumsum(joined.lengths))
            if "users" in kinds:
                users = joined.users
                if groups is not None and groups_are_users:
                    users = (groups.size + joined.groups).astype(np.int32)
                files["users"].append(users)
            if groups is not None:
                groups.append(joined.group_ids)
            num_clicks += int(joined.lengths.sum())

    ids = {name: codes[name].ids() if name in codes else v for name, v in vocabularies.items()}
    targets = {"item": "item_ids", "user": "user_ids"}
    targets |= {places[name]: f"click_{n}_ids" for n, name in enumerate(columns.features)}
    for name, target in targets.items():
        if name in ids:
            folder.write_ids(target, ids[name])

    table = None
    if isinstance(item_features, pd.DataFrame):
        table = features_by_id(item_features, Vocabulary.from_unique(ids["item"]))
    elif columns.described:
        table = _described(columns, described, ids)
    describe_sessions(folder, columns.features, table)


class Renumbering:
    """Codes by first appearance, in place of others.

    Args:
        ids: The ids behind the codes as they are.
    """

    def __init__(self, ids: pd.Index) -> None:
        self._ids = ids
        self._table = np.full(len(ids) + 1, NOT_SEEN, dtype=np.int32)
        self._table[UNKNOWN] = UNKNOWN  # a missing value stays one
        self._order: list[NDArray[np.int32]] = []
        self._seen = 0

    def __call__(self, codes: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The new codes int32 [n], and the places at which a code appears for the first time."""
        unseen = np.flatnonzero(self._table[codes] == NOT_SEEN)
        first = unseen[np.unique(codes[unseen], return_index=True)[1]]
        first.sort()
        self._table[codes[first]] = self._seen + np.arange(len(first))
        self._order.append(codes[first])
        self._seen += len(first)
        return self._table[codes], first

    def ids(self) -> pd.Index:
        """The ids behind the new codes."""
        return self._ids.take(np.concatenate(self._order))


def _described(
    columns: LogColumns, parts: list[dict[str, NDArray[Any]]], ids: dict[str, pd.Index]
) -> pd.DataFrame:
    """Item features of the first click on each item; text as a categorical column."""
    table: dict[str, Any] = {}
    for name in columns.described:
        place = columns.places[name]
        values = np.concatenate([part[name] for part in parts])
        if place not in ids:
            table[name] = values
        elif isinstance(ids[place].dtype, pd.StringDtype):
            table[name] = pd.Categorical.from_codes(values, ids[place])
        else:
            table[name] = Vocabulary.from_unique(ids[place]).column(values)
    return pd.DataFrame(table)
