"""Builds sessions of a log larger than memory: DuckDB groups and sorts it on disk."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from graphseq.data.logs.coded_log import CodedLog, LogColumns, code_log, database, must_be_held
from graphseq.data.logs.door import open_log
from graphseq.data.logs.events import check_feature_names, features_by_id, session_fields
from graphseq.data.logs.memory import MemoryLog
from graphseq.data.logs.source import LogOptions
from graphseq.data.logs.times import Duration, Instants, duration
from graphseq.data.sessions.item_table import check_columns
from graphseq.data.sessions.vocabulary import UNKNOWN, Vocabulary
from graphseq.data.storage import (
    SESSIONS,
    ArrayFile,
    FolderWriter,
    check_replaceable,
    describe_sessions,
    save_sessions,
    write_folder,
)

logger = logging.getLogger(__name__)

BUILD = "build"
"""Folder for temporary files while sessions are built, inside the folder of the sessions."""

NOT_SEEN = -2
"""Placeholder for a code that has not appeared yet."""


def convert(
    log: Any,
    out: str | PathLike[str],
    *,
    session: Any = "session_id",
    item: Any = "item_id",
    time: Any = None,
    user: Any = None,
    gap: Duration | None = None,
    features: Sequence[Any] = (),
    item_features: pd.DataFrame | Sequence[Any] | None = None,
    options: LogOptions | None = None,
) -> None:
    """Builds sessions of a log larger than memory in a folder, for :meth:`Sessions.open`.

    The result equals what :meth:`Sessions.from_frame` (with ``session=None``:
    :meth:`Sessions.from_events`) makes of the whole log in memory. The conversion needs about two
    gigabytes of memory plus the distinct ids of items, users and features. The folder is created
    atomically.

    Args:
        log: Any log that :meth:`Sessions.from_frame` reads.
        out: The folder to create, as in :meth:`Sessions.save`. Temporary files, about 50 bytes per
            click and more with features, are in a hidden folder next to it.
        session: Column of sessions, or ``None``: the log of each user, split by ``gap``.
        item, time, user, features, item_features: As in :meth:`Sessions.from_frame`.
        gap: Longest pause within a session, as in :meth:`Sessions.from_events`; ``None``: no limit.
        options: How the log is read.

    Raises:
        ValueError: If the log is empty or damaged, or a column is missing (existing ones are
            listed). Also if a value is missing (file and rows are named), or a session has two
            users. Also if the folder holds something else or cannot be written.
    """
    if isinstance(user, (list, tuple)):
        raise ValueError(
            f"out= takes one column of users, got {list(user)}: make it with DuckDB first, as in "
            "SELECT coalesce(user_id, 'cookie=' || cookie) AS visitor, and pass the relation."
        )
    check_replaceable(out, SESSIONS)
    columns = log_columns(session, item, time, user, gap, features, item_features)
    with open_log(log, options) as source:
        if isinstance(source, MemoryLog) or must_be_held(source, columns):
            logger.info(
                "The log is read in memory: it lies there, rows are not clicks, or times are text."
            )
            fields = session_fields(
                source,
                session=session,
                item=item,
                time=time,
                user=user,
                gap=gap,
                features=features,
                item_features=item_features,
                options=options,
            )
            save_sessions(fields, out)
        else:
            with write_folder(out, SESSIONS) as folder:
                coded = code_log(source, columns, folder.path / BUILD)
                write_sessions(folder, coded, item_features)
                shutil.rmtree(coded.folder)


def log_columns(
    session: Any,
    item: Any,
    time: Any,
    user: Any,
    gap: Duration | None,
    features: Sequence[Any],
    item_features: pd.DataFrame | Sequence[Any] | None,
) -> LogColumns:
    """The columns of a log, checked.

    Raises:
        ValueError: If they contradict each other.
    """
    if isinstance(features, str) or isinstance(item_features, str):
        raise ValueError("features and item_features are lists of column names, got one string.")
    described: Sequence[Any] = ()
    if isinstance(item_features, pd.DataFrame):
        check_columns(item_features)
    else:
        described = item_features or ()
    check_feature_names(features)
    if "" in (session, item, time, user, *features, *described):
        raise ValueError("out= reads columns by name, and one has none: pass names=[...].")
    group = session if session is not None else user
    if group is None:
        raise ValueError("Sessions are named by session=, or cut from the log of each user=.")
    if gap is not None and time is None:
        raise ValueError("gap cuts where time passes: name the column of times with time=.")
    return LogColumns(
        group,
        item,
        time,
        None if session is None else user,
        None if gap is None else duration("gap", gap),
        tuple(dict.fromkeys(features)),
        tuple(dict.fromkeys(described)),
        by_user=session is None,
    )


def write_sessions(
    folder: FolderWriter,
    log: CodedLog,
    item_features: pd.DataFrame | Sequence[Any] | None = None,
    shard: int | None = None,
) -> None:
    """Writes saved sessions, ordered by the first row of their groups in the log.

    Args:
        folder: A new folder of saved sessions.
        log: The log.
        item_features: As in :meth:`Sessions.from_frame`.
        shard: Number of the part, whose ids keep the codes of the whole log; ``None``: the whole
            log, whose ids get codes by their first appearance in the sessions.

    Raises:
        OSError: If something cannot be written.
        ValueError: If ids are of a type that cannot be saved, or item features do not match.
    """
    columns = log.columns
    with database(
        log.folder
    ):  # one for all, since opening it takes longer than reading a small log
        ids = {name: log.ids(name) for name, kind in log.kinds.items() if kind == "i4"}
        codes = {name: Renumbering(ids[name]) for name in ids} if shard is None else {}
        first_rows = _write_clicks(folder, log, codes, shard)
        ids |= {name: renumbering.ids() for name, renumbering in codes.items()}
        folder.write_ids("item_ids", ids["item"])
        for number, name in enumerate(columns.features):
            if columns.places[name] in ids:
                folder.write_ids(f"click_{number}_ids", ids[columns.places[name]])
        if columns.by_user:
            _write_users(folder, log)
        else:
            _write_names(folder, log, shard)
        table = None
        if isinstance(item_features, pd.DataFrame):
            table = features_by_id(item_features, Vocabulary.from_unique(ids["item"]))
        elif columns.described:
            table = log.described(first_rows)
        describe_sessions(folder, columns.features, table)


class Renumbering:
    """Replaces codes by codes in order of first appearance.

    Args:
        ids: The ids behind the old codes.
    """

    def __init__(self, ids: pd.Index) -> None:
        self._ids = ids
        self._table = np.full(len(ids) + 1, NOT_SEEN, dtype=np.int32)
        self._table[UNKNOWN] = UNKNOWN  # a missing value stays missing
        self._order = [np.empty(0, dtype=np.int32)]
        self._seen = 0

    def __call__(self, codes: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The new codes int32 [n], and the positions at which a code appears for the first time."""
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


def _write_clicks(
    folder: FolderWriter, log: CodedLog, codes: dict[str, Renumbering], shard: int | None
) -> NDArray[np.int64]:
    """Writes the fields of each click, and where sessions begin.

    Returns:
        The row in the log of the first click on each renumbered item, int64 [num_items].
    """
    columns = log.columns
    arrays = {
        columns.places[name]: f"click_{number}" for number, name in enumerate(columns.features)
    }
    arrays = {"item": "items", **arrays}  # name in the log -> name in saved sessions
    first_rows = [np.empty(0, dtype=np.int64)]
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(folder.array_file(target, log.kinds[name]))
            for name, target in arrays.items()
        }
        ptr = stack.enter_context(folder.array_file("ptr", "i8"))
        time = None
        if columns.time is not None:
            time = stack.enter_context(folder.array_file("time", "f8"))
        of_session = stack.enter_context(
            folder.array_file("users", "i4")
            if columns.by_user
            else ArrayFile(_groups_of_sessions(log, shard), "i8")
        )
        for clicks, begins in _cut(log.clicks(shard), log):
            ptr.append(files["item"].size + begins)
            of_session.append(clicks["grp"][begins])
            if time is not None:
                time.append(Instants(clicks["tick"], log.tick).seconds())
            for name, renumbering in codes.items():
                clicks[name], first = renumbering(clicks[name])
                if name == "item":
                    first_rows.append(clicks["row"][first])
            for name, file in files.items():
                file.append(clicks[name])
        ptr.append(np.array([files["item"].size]))
        logger.info("%d clicks in %d sessions written.", files["item"].size, of_session.size)
    return np.concatenate(first_rows)


def _cut(
    batches: Iterable[dict[str, NDArray[Any]]], log: CodedLog
) -> Iterator[tuple[dict[str, NDArray[Any]], NDArray[np.int64]]]:
    """The clicks batch by batch, and the positions at which a session begins."""
    group, ticks = np.full(1, NOT_SEEN), None
    for clicks in batches:
        group = np.append(group[-1:], clicks["grp"])
        begins = group[1:] != group[:-1]
        if log.columns.gap is not None:
            ticks = np.append(clicks["tick"][:1] if ticks is None else ticks[-1:], clicks["tick"])
            begins |= Instants(ticks, log.tick).gaps_longer(log.columns.gap)
        yield clicks, np.flatnonzero(begins)


def _write_users(folder: FolderWriter, log: CodedLog) -> None:
    """Writes all users of a log in parts, since codes refer to the whole log."""
    with folder.ids_file("user_ids") as ids:
        for names, _, _ in log.groups():
            ids.append(names)


def _write_names(folder: FolderWriter, log: CodedLog, shard: int | None) -> None:
    """Writes the name and the user of each session."""
    of_session = np.load(_groups_of_sessions(log, shard), mmap_mode="r")
    with ExitStack() as stack:
        ids = stack.enter_context(folder.ids_file("session_ids"))
        users = None
        if log.columns.user is not None:
            users = stack.enter_context(folder.array_file("users", "i4"))
            folder.write_ids("user_ids", log.ids("usr"))
        done = 0
        for names, codes, of_user in log.groups(shard):
            stop = int(np.searchsorted(of_session, codes[-1], side="right"))
            group = np.searchsorted(codes, of_session[done:stop])
            ids.append(names.take(group))
            if users is not None:
                users.append(of_user[group])
            done = stop


def _groups_of_sessions(log: CodedLog, shard: int | None) -> Path:
    return log.folder / f"groups-{shard}.npy"
