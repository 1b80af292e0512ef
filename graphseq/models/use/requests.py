"""The requests of recommend: a caller's sessions and users, in a model's codes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch_geometric.data import Batch

from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.data.logs.door import open_log
from graphseq.data.logs.ids import id_column
from graphseq.data.logs.lists import read_lists
from graphseq.data.logs.memory import column_of
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.models.base import SessionModel
from graphseq.models.recommender import SessionsLike
from graphseq.ragged import ptr_of

logger = logging.getLogger(__name__)

MAX_IDS_NAMED = 5
"""Number of unknown ids that a warning lists."""


@dataclass(frozen=True)
class Queries:
    """Known clicks of the requested sessions; a session may have none.

    ``names`` are the caller's names of the sessions, or their numbers, [num_sessions]. If they are
    only numbers, ``told`` has the user and the times of each session, one row per session.
    ``request_time`` is when each session asks, for models that read it; ``None``: at its last
    click.
    """

    items: NDArray[np.int64]
    ptr: NDArray[np.int64]
    click_fields: dict[str, NDArray[Any]]
    users: NDArray[np.int64] | None
    names: NDArray[Any] | pd.api.extensions.ExtensionArray
    told: pd.DataFrame | None = None
    request_time: NDArray[Any] | None = None

    @property
    def size(self) -> int:
        return len(self.ptr) - 1

    def batch(self, start: int, stop: int) -> tuple[Batch | None, NDArray[np.int64]]:
        """Graphs of the sessions ``start..stop-1`` that have clicks, and the numbers of these
        sessions."""
        lengths = np.diff(self.ptr[start : stop + 1])
        answered = np.flatnonzero(lengths)
        if answered.size == 0:
            return None, answered
        clicks = slice(self.ptr[start], self.ptr[stop])
        ptr = ptr_of(lengths[answered])
        # Copied, since torch warns about read-only memory-mapped arrays.
        fields = {k: torch.from_numpy(np.array(v[clicks])) for k, v in self.click_fields.items()}
        of_session = {"user": self.users, "request_time": self.request_time}
        batch = build_session_graphs(
            torch.from_numpy(self.items[clicks]),
            torch.from_numpy(ptr),
            click_fields=fields,
            session_fields={
                name: torch.from_numpy(values[start + answered])
                for name, values in of_session.items()
                if values is not None
            },
        )
        return batch, answered


def read_queries(
    model: SessionModel,
    sessions: SessionsLike,
    users: Sequence[Any] | None,
    vocabulary: Vocabulary,
    columns: Mapping[str, str | None] | None = None,
    times: Sequence[Sequence[float]] | None = None,
) -> Queries:
    """Sessions in any form, in the codes of a model; unknown items are dropped, and a warning
    counts them.

    Args:
        model: The model; its catalog, if it has one, has the users.
        sessions, users: As in :func:`graphseq.models.use.recommend.recommend`.
        vocabulary: The items of the model.
        columns: Names of a log's columns ``session``, ``item``, ``time`` and ``user``; ``None``:
            the usual ones.
        times: The time of each click of sessions that come as lists.

    Raises:
        ValueError: If the sessions cannot be read, or ``users`` or ``times`` do not match them.
    """
    named = {name: value for name, value in (columns or {}).items() if value is not None}
    if isinstance(sessions, Iterator) and not hasattr(sessions, "__arrow_c_stream__"):
        sessions = list(sessions)  # an iterator can be read only once, a list more often
    user_vocabulary = None if model.catalog is None else model.catalog.users
    if not isinstance(sessions, Sessions) and (named or _is_log(sessions)):
        sessions = _sessions_of_log(model, sessions, named)
    codes_of_users: NDArray[np.int64] | None = None
    names: Any = None
    told: pd.DataFrame | None = None
    fields: dict[str, NDArray[Any]] = {}
    if isinstance(sessions, Sessions):
        if times is not None:
            raise ValueError("times goes with lists of items: these sessions have their own.")
        recoded = replace(sessions, item_features=None)
        if model.catalog is not None:
            recoded = model.catalog.encode(recoded)
        else:
            recoded = recoded.with_vocabulary(vocabulary)
        codes, ptr = recoded.items.astype(np.int64), np.asarray(sessions.ptr)
        unknown = np.flatnonzero(codes < 0)
        own = np.asarray(sessions.items)[unknown]
        named_unknown = sessions.vocabulary.decode(own[own >= 0][:MAX_IDS_NAMED])
        fields = {f"click_{name}": np.asarray(v) for name, v in recoded.click_features.items()}
        names = sessions.session_ids
        if names is None and sessions.users is not None:
            table = sessions.session_table()
            told = table[[name for name in ("user_id", "start", "end") if name in table]]
        if sessions.time is not None:
            fields["click_time"] = np.asarray(sessions.time)
        if users is None and user_vocabulary is not None and recoded.users is not None:
            codes_of_users = recoded.users.astype(np.int64)
    else:
        flat, ptr = read_lists(sessions, empty=True)
        found = vocabulary.encode(flat, what="items of these sessions")
        codes = np.asarray(found, dtype=np.int64)
        unknown = np.flatnonzero(codes < 0)
        named_unknown = flat.iloc[unknown[:MAX_IDS_NAMED]].tolist()
        if times is not None:
            fields["click_time"] = _times(times, np.asarray(ptr))
    if unknown.size:
        _warn("clicks on unknown items in sessions", len(unknown), named_unknown)
        known = codes >= 0
        ptr = ptr_of(known)[ptr]
        codes, fields = codes[known], {name: v[known] for name, v in fields.items()}
    num_sessions = len(ptr) - 1
    if users is not None:
        codes_of_users = _users(users, num_sessions, user_vocabulary)
    elif codes_of_users is None and user_vocabulary is not None:
        codes_of_users = np.full(num_sessions, -1, dtype=np.int64)
    names = np.arange(num_sessions) if names is None else names
    return Queries(codes, ptr, fields, codes_of_users, names, told)


def _times(times: Sequence[Sequence[float]], ptr: NDArray[np.int64]) -> NDArray[np.float64]:
    """Times of clicks, as those of sessions."""
    try:
        lengths = [len(each) for each in times]
        flat = np.array([time for each in times for time in each], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"times has a list of numbers per session, got {times!r:.60}.") from error
    wanted = np.diff(ptr).tolist()
    if lengths != wanted:
        raise ValueError(
            f"times has one number per click: sessions of {wanted!s:.60} clicks have "
            f"{lengths!s:.60} times."
        )
    falling = np.diff(flat) < 0
    falling[ptr[1:-1][(ptr[1:-1] > 0) & (ptr[1:-1] < len(flat))] - 1] = False  # of two sessions
    if not np.isfinite(flat).all() or falling.any():
        raise ValueError("times of a session are finite numbers, the oldest click first.")
    return flat


def _users(
    users: Sequence[Any], num_sessions: int, vocabulary: Vocabulary | None
) -> NDArray[np.int64]:
    if vocabulary is None:
        raise ValueError("users= needs a model whose catalog has users: its training log has none.")
    named = id_column(column_of(users, "users"))
    codes = np.asarray(vocabulary.encode(named, what="users"), dtype=np.int64)
    if len(codes) != num_sessions:
        raise ValueError(
            f"users= needs one user per session: {num_sessions} sessions, {len(codes)} users."
        )
    unknown = np.flatnonzero(codes < 0)
    if unknown.size:
        _warn("unknown users", len(unknown), named.iloc[unknown[:MAX_IDS_NAMED]].tolist())
    return codes


def _is_log(sessions: Any) -> bool:
    """Whether these are clicks, one per row, and not sessions, one per list."""
    if isinstance(sessions, str):
        return Path(sessions).exists()
    if isinstance(sessions, (PathLike, Mapping, pd.DataFrame, pa.RecordBatch)):
        return True
    if isinstance(sessions, (list, tuple)):
        kinds = {type(session) for session in sessions}
        return bool(kinds) and all(issubclass(kind, (Mapping, PathLike)) for kind in kinds)
    # The schema of a lazy frame is not read: it is expensive, and polars warns.
    tables = ("collect_schema", "read_all", "to_table", "columns")
    return any(hasattr(sessions, name) for name in tables)


def _sessions_of_log(model: SessionModel, log: Any, named: dict[str, str]) -> Sessions:
    """Sessions of a log, with times, users and features if it has them."""
    if isinstance(log, pa.RecordBatchReader):  # read once, used twice
        log = log.read_all()
    with open_log(log) as source:
        existing = list(source.names)
    names = {"session": "session_id", "item": "item_id", **named}
    absent = [name for name in names.values() if name not in existing]
    if absent:
        raise ValueError(
            f"The log to recommend for has no column {', '.join(map(repr, absent))}; it has "
            f"{', '.join(map(repr, existing)) or 'no columns'}: name them with session= and item=, "
            "or pass lists of item ids."
        )
    usual = {"time": "time", "user": "user_id"}
    names |= {k: v for k, v in usual.items() if k not in named and v in existing}
    described = [spec["name"] for spec in model.click_features or ()]
    features = [name for name in described if name in existing]
    return Sessions.from_frame(log, features=features, **names)


def _warn(what: str, count: int, first: list[Any]) -> None:
    if not first:  # sessions that were encoded elsewhere no longer have their unknown ids
        logger.warning("recommend skipped %d %s.", count, what)
        return
    named = ", ".join(map(repr, first)) + (", ..." if count > len(first) else "")
    logger.warning("recommend skipped %d %s: %s", count, what, named)
