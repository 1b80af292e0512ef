"""Recommendations in the user's own ids, for any model and for sessions never seen before."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data.session_graph import build_session_graphs
from graphseq.data.sessions import Sessions
from graphseq.data.vocabulary import Vocabulary, as_ids
from graphseq.models.base import SessionModel, SessionsLike

logger = logging.getLogger(__name__)

MAX_SCORES = 2**24
"""Scores held at once: sessions are taken in blocks of at most this many divided by the items."""

MAX_IDS_NAMED = 5
"""How many unknown ids a warning names."""

Ids = Iterable[Any] | Sequence[Iterable[Any]]
"""Ids alike for all sessions, or one collection of ids a session."""


def recommend(
    model: SessionModel,
    sessions: SessionsLike,
    k: int = 10,
    *,
    users: Sequence[Any] | None = None,
    exclude: Ids | None = None,
    allow: Ids | None = None,
    exclude_seen: bool = False,
    batch_size: int = 512,
) -> list[list[tuple[Any, float]]]:
    """The ``k`` best items of every session, best first, in the user's own ids.

    Ids go through ``model.catalog``; a model without one speaks integers ``0..num_items-1``. Items
    and users that it does not know are skipped, and a warning says how many. A session without any
    known item, also an empty list, gets the most popular items, with their share of training
    clicks as the score. Items of equal score come in the order of their codes; those of score
    ``-inf`` are not recommended, so that a list may be shorter than ``k``.

    Args:
        model: Any model.
        sessions: Lists of item ids, oldest click first; :class:`Sessions`; or a frame with columns
            ``session_id``, ``item_id`` and, if it has them, ``time`` and ``user_id``, whose
            sessions are answered in the order in which they first appear.
        k: Items to recommend. Where the catalogue or ``allow`` has fewer, all of them come.
        users: The user of each session, by id, [num_sessions].
        exclude: Ids never to recommend: alike for all sessions, or one list a session.
        allow: Ids to choose from: alike for all sessions, or one list a session.
        exclude_seen: Whether the items of the session itself are left out.
        batch_size: Sessions scored at once, at most.

    Returns:
        One list a session of ``(item id, score)``.

    Raises:
        ValueError: If an argument is out of range or does not fit the sessions, a session has no
            known item and the model no catalog to fall back on, or a score is NaN.
    """
    if k < 1 or batch_size < 1:
        raise ValueError(f"k and batch_size must be at least 1, got {k} and {batch_size}.")
    if k > model.num_items:
        logger.warning(
            "k=%d is larger than the catalogue: all of its %d items are ranked.", k, model.num_items
        )
    vocabulary = item_vocabulary(model)
    queries = _queries(model, sessions, users, vocabulary)
    hidden = None if exclude is None else _id_lists(exclude, queries.size, vocabulary, "exclude")
    allowed = None if allow is None else _id_lists(allow, queries.size, vocabulary, "allow")
    candidates = None  # ascending, so that column order is code order
    if allowed is not None and allowed.ptr is None:
        candidates = torch.from_numpy(np.unique(allowed.codes))
    num_columns = model.num_items if candidates is None else len(candidates)
    if num_columns == 0 or queries.size == 0:
        return [[] for _ in range(queries.size)]
    rows = max(1, min(batch_size, MAX_SCORES // num_columns))

    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    found: list[list[tuple[Any, float]]] = []
    try:
        for start in range(0, queries.size, rows):
            stop = min(start + rows, queries.size)
            scores = _scores(model, queries, start, stop, candidates)
            if allowed is not None and allowed.ptr is not None:
                outside = torch.ones_like(scores, dtype=torch.bool)
                outside[allowed.cells(start, stop, candidates)] = False
                scores[outside] = -torch.inf
            if hidden is not None:
                scores[hidden.cells(start, stop, candidates)] = -torch.inf
            if exclude_seen:
                seen = _Lists(queries.items, queries.ptr)
                scores[seen.cells(start, stop, candidates)] = -torch.inf
            row, column, value = best(scores, k)
            code = column if candidates is None else candidates[column]
            ids = vocabulary.decode(code.numpy())
            pairs = list(zip(ids, value.tolist(), strict=True))
            ends = torch.bincount(row, minlength=stop - start).cumsum(0).tolist()
            found += [pairs[i:j] for i, j in zip([0, *ends[:-1]], ends, strict=True)]
    finally:
        for module, training in modes:
            module.training = training
    return found


def best(scores: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The ``k`` highest scores of every row, ties in the order of columns, ``-inf`` left out.

    Args:
        scores: [n, C].
        k: At least 1.

    Returns:
        Row, column and score of what was chosen, best first within each row, [at most n * k] each.
    """
    k = min(k, scores.shape[1])
    worst = scores.topk(k).values[:, -1:]  # [n, 1], the k-th highest
    chosen = scores > worst
    level = (scores == worst) & (worst > -torch.inf)
    room = k - chosen.sum(1, keepdim=True)
    crowded = (level.sum(1, keepdim=True) > room).view(-1).nonzero().view(-1)
    if crowded.numel():
        place = level[crowded].cumsum(1, dtype=torch.int32)
        level[crowded] &= place <= room[crowded]
    row, column = (chosen | level).nonzero(as_tuple=True)
    value = scores[row, column]
    order = value.argsort(descending=True, stable=True)
    order = order[row[order].argsort(stable=True)]
    return row[order], column[order], value[order]


def item_vocabulary(model: SessionModel) -> Vocabulary:
    """The ids a model speaks: those of its catalog, or integers ``0..num_items-1``."""
    if model.catalog is None:
        return Vocabulary(pd.RangeIndex(model.num_items))
    return model.catalog.items


@dataclass(frozen=True)
class _Lists:
    """Item codes, alike for all sessions or, with ``ptr`` [num_sessions + 1], a list for each."""

    codes: NDArray[np.int64]
    ptr: NDArray[np.int64] | None

    def cells(self, start: int, stop: int, candidates: Tensor | None) -> tuple[Any, Tensor]:
        """Index of these items in the scores of sessions ``start..stop-1``."""
        if self.ptr is None:
            row: Any = slice(None)
            code = torch.from_numpy(self.codes)
        else:
            lengths = torch.from_numpy(np.diff(self.ptr[start : stop + 1]))
            row = torch.repeat_interleave(lengths)
            code = torch.from_numpy(self.codes[self.ptr[start] : self.ptr[stop]])
        if candidates is None:
            return row, code
        place = torch.searchsorted(candidates, code).clamp(max=len(candidates) - 1)
        present = candidates[place] == code
        return (row if self.ptr is None else row[present]), place[present]


@dataclass(frozen=True)
class _Queries:
    """Known clicks of the sessions to answer; a session may have none."""

    items: NDArray[np.int64]
    ptr: NDArray[np.int64]
    click_fields: dict[str, NDArray[Any]]
    users: NDArray[np.int64] | None

    @property
    def size(self) -> int:
        return len(self.ptr) - 1

    def batch(self, start: int, stop: int) -> tuple[Batch | None, NDArray[np.int64]]:
        """Graphs of the sessions ``start..stop-1`` that have clicks, and which these are."""
        lengths = np.diff(self.ptr[start : stop + 1])
        answered = np.flatnonzero(lengths)
        if answered.size == 0:
            return None, answered
        clicks = slice(self.ptr[start], self.ptr[stop])
        ptr = np.concatenate(([0], np.cumsum(lengths[answered])))
        # Copies: torch would warn of arrays that are mapped from a file and read only.
        fields = {k: torch.from_numpy(np.array(v[clicks])) for k, v in self.click_fields.items()}
        user = None
        if self.users is not None:
            user = {"user": torch.from_numpy(self.users[start + answered])}
        batch = build_session_graphs(
            torch.from_numpy(self.items[clicks]),
            torch.from_numpy(ptr),
            click_fields=fields,
            session_fields=user,
        )
        return batch, answered


def _scores(
    model: SessionModel, queries: _Queries, start: int, stop: int, candidates: Tensor | None
) -> Tensor:
    """Scores on the CPU, [stop - start, num_items] or [stop - start, C]; safe to write to."""
    batch, answered = queries.batch(start, stop)
    blocks: list[Tensor] = []
    if batch is not None:
        device = model.device
        with torch.no_grad():
            wanted = None if candidates is None else candidates.to(device)
            blocks.append(model.score(batch.to(device), wanted).cpu())
        if blocks[0].isnan().any():
            raise ValueError(
                f"{type(model).__name__} gave a score that is not a number: were its weights "
                "trained with too high a learning rate?"
            )
        if len(answered) == stop - start:
            return blocks[0].clone()
    if model.catalog is None:
        empty = int(np.setdiff1d(np.arange(stop - start), answered)[0]) + start
        raise ValueError(
            f"Session {empty} has no item that the model knows, and the model has no catalog to "
            "tell what is popular: set model.catalog = train.catalog()."
        )
    counts = torch.from_numpy(np.asarray(model.catalog.counts, dtype=np.float64))
    share = counts / counts.sum().clamp(min=1)
    share = share if candidates is None else share[candidates]
    scores = share.to(blocks[0].dtype if blocks else share.dtype).repeat(stop - start, 1)
    if blocks:
        scores[torch.from_numpy(answered)] = blocks[0]
    return scores


def _queries(
    model: SessionModel,
    sessions: SessionsLike,
    users: Sequence[Any] | None,
    vocabulary: Vocabulary,
) -> _Queries:
    user_vocabulary = None if model.catalog is None else model.catalog.users
    if isinstance(sessions, pd.DataFrame):
        optional = {"time": "time", "user": "user_id"}
        named = {k: v for k, v in optional.items() if v in sessions.columns}
        sessions = Sessions.from_frame(sessions, **named)
    codes_of_users: NDArray[np.int64] | None = None
    fields: dict[str, NDArray[Any]] = {}
    if isinstance(sessions, Sessions):
        unknown_ids = sessions.vocabulary.ids
        own = np.asarray(sessions.items)
        table = np.append(vocabulary.encode(unknown_ids), -1)
        codes, ptr = table[own], np.asarray(sessions.ptr)
        unknown = np.flatnonzero(codes < 0)
        named_unknown = unknown_ids.take(own[unknown][own[unknown] >= 0][:MAX_IDS_NAMED]).tolist()
        fields = {f"click_{name}": np.asarray(v) for name, v in sessions.click_features.items()}
        if sessions.time is not None:
            fields["click_time"] = np.asarray(sessions.time)
        if users is None and user_vocabulary is not None:
            told = sessions.with_user_vocabulary(user_vocabulary).users
            codes_of_users = None if told is None else told.astype(np.int64)
    else:
        lists = [_checked(session, number) for number, session in enumerate(sessions)]
        flat = as_ids([item for session in lists for item in session])
        ptr = np.concatenate(([0], np.cumsum([len(s) for s in lists], dtype=np.int64)))
        codes = vocabulary.encode(flat)
        unknown = np.flatnonzero(codes < 0)
        named_unknown = flat[unknown[:MAX_IDS_NAMED]].tolist()
    if unknown.size:
        _warn("clicks on unknown items in sessions", len(unknown), named_unknown)
        known = codes >= 0
        ptr = np.concatenate(([0], np.cumsum(known)))[ptr]
        codes, fields = codes[known], {name: v[known] for name, v in fields.items()}
    num_sessions = len(ptr) - 1
    if users is not None:
        codes_of_users = _users(users, num_sessions, user_vocabulary)
    elif codes_of_users is None and user_vocabulary is not None:
        codes_of_users = np.full(num_sessions, -1, dtype=np.int64)
    return _Queries(codes, ptr, fields, codes_of_users)


def _users(
    users: Sequence[Any], num_sessions: int, vocabulary: Vocabulary | None
) -> NDArray[np.int64]:
    if vocabulary is None:
        raise ValueError("users= needs a model whose catalog has users: its training log has none.")
    codes = np.asarray(vocabulary.encode(users), dtype=np.int64)
    if len(codes) != num_sessions:
        raise ValueError(
            f"users= needs one user a session: {num_sessions} sessions, {len(codes)} users."
        )
    unknown = np.flatnonzero(codes < 0)
    if unknown.size:
        _warn("unknown users", len(unknown), [users[i] for i in unknown[:MAX_IDS_NAMED].tolist()])
    return codes


def _id_lists(ids: Ids, num_sessions: int, vocabulary: Vocabulary, what: str) -> _Lists:
    """``exclude`` or ``allow`` as codes; unknown ids are dropped with a warning."""
    if isinstance(ids, (str, bytes)):
        raise ValueError(f"{what} is a collection of ids, got {ids!r}: write [{ids!r}].")
    entries = list(ids)
    ptr = None
    if any(map(_is_collection, entries)):
        if not all(map(_is_collection, entries)) or len(entries) != num_sessions:
            raise ValueError(
                f"{what} is one collection of ids, or one for each of the {num_sessions} sessions; "
                f"got {len(entries)} entries, {sum(map(_is_collection, entries))} of them "
                "collections."
            )
        lists = [list(entry) for entry in entries]
        ptr = np.concatenate(([0], np.cumsum([len(entry) for entry in lists], dtype=np.int64)))
        entries = [value for entry in lists for value in entry]
    flat = as_ids(entries)
    codes = np.asarray(vocabulary.encode(flat), dtype=np.int64)
    unknown = np.flatnonzero(codes < 0)
    if unknown.size:
        _warn(f"unknown ids in {what}", len(unknown), flat[unknown[:MAX_IDS_NAMED]].tolist())
        known = codes >= 0
        codes = codes[known]
        ptr = None if ptr is None else np.concatenate(([0], np.cumsum(known)))[ptr]
    return _Lists(codes, ptr)


def _checked(session: Any, number: int) -> list[Any]:
    if not _is_collection(session):
        raise ValueError(
            f"sessions is a list of sessions, each a list of item ids, but session {number} is "
            f"{session!r}: write [[...]] for one session."
        )
    return list(session)


def _is_collection(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes))


def _warn(what: str, count: int, first: list[Any]) -> None:
    named = ", ".join(map(repr, first)) + (", ..." if count > len(first) else "")
    logger.warning("recommend skipped %d %s: %s", count, what, named)
