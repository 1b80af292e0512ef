"""Recommendations in the user's own ids, for any model and for sessions never seen before."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data.arguments import whole
from graphseq.data.vocabulary import Vocabulary
from graphseq.models.base import SessionModel, SessionsLike
from graphseq.models.inference import blocks, inference
from graphseq.models.queries import Ids, ItemLists, Queries, read_ids, read_queries
from graphseq.models.ties import TableTies, Tolerance, leaders

logger = logging.getLogger(__name__)

MAX_SCORES = 2**24
"""Scores held at once: sessions are taken in blocks of at most this many divided by the items."""


def recommend(
    model: SessionModel,
    sessions: SessionsLike,
    k: int = 10,
    *,
    users: Sequence[Any] | None = None,
    session: str | None = None,
    item: str | None = None,
    time: str | None = None,
    user: str | None = None,
    exclude: Ids | None = None,
    allow: Ids | None = None,
    exclude_seen: bool = False,
    batch_size: int = 512,
) -> list[list[tuple[Any, float]]]:
    """The ``k`` best items of every session, best first, in the user's own ids.

    Ids go through ``model.catalog``; a model without one speaks integers ``0..num_items-1``. Items
    and users that it does not know are skipped, and a warning says how many. A session without any
    known item, also an empty list, gets the most popular items, with their share of training
    clicks as the score. Items that tie by the rule of :mod:`graphseq.models.ties` have one score
    and come in the order of their codes; those of score ``-inf`` are not recommended, so that a
    list may be shorter than ``k``.

    Args:
        model: Any model.
        sessions: Lists, arrays or tensors of item ids, oldest click first; :class:`Sessions`; or
            whatever log :meth:`Sessions.from_frame` takes, with its model's click features if it
            has them, whose sessions are answered in the order in which they first appear.
        k: Items to recommend. Where the catalogue or ``allow`` has fewer, all of them come.
        users: The user of each session, by id, [num_sessions].
        session, item, time, user: Names of the log's columns; ``None``: ``session_id``,
            ``item_id`` and, where it has them, ``time`` and ``user_id``.
        exclude: Ids never to recommend: alike for all sessions, or one list a session.
        allow: Ids to choose from: alike for all sessions, or one list a session.
        exclude_seen: Whether the items of the session itself are left out.
        batch_size: Sessions scored at once, at most.

    Returns:
        One list a session of ``(item id, score)``.

    Raises:
        ValueError: If an argument is out of range or does not fit the sessions, a session has no
            known item and the model no catalog to fall back on, or a score is NaN.
        TypeError: If the model is none.
    """
    if not isinstance(model, SessionModel):
        raise TypeError(
            "recommend takes the model first, then the sessions, got "
            f"{type(model).__name__} and {type(sessions).__name__}."
        )
    k, batch_size = whole("k", k), whole("batch_size", batch_size)
    if k > model.num_items:
        logger.warning(
            "k=%d is larger than the catalogue: all of its %d items are ranked.", k, model.num_items
        )
    vocabulary = item_vocabulary(model)
    queries = read_queries(
        model,
        sessions,
        users,
        vocabulary,
        {"session": session, "item": item, "time": time, "user": user},
    )
    hidden = None if exclude is None else read_ids(exclude, queries.size, vocabulary, "exclude")
    allowed = None if allow is None else read_ids(allow, queries.size, vocabulary, "allow")
    candidates = None  # ascending, so that column order is code order
    if allowed is not None and allowed.ptr is None:
        candidates = torch.from_numpy(np.unique(allowed.codes))
    num_columns = model.num_items if candidates is None else len(candidates)
    if num_columns == 0 or queries.size == 0:
        return [[] for _ in range(queries.size)]
    rows = max(1, min(batch_size, MAX_SCORES // num_columns))

    def hide(scores: Tensor, start: int, stop: int) -> None:
        if allowed is not None and allowed.ptr is not None:
            outside = torch.ones_like(scores, dtype=torch.bool)
            outside[allowed.cells(start, stop, candidates)] = False
            scores[outside] = -torch.inf
        if hidden is not None:
            scores[hidden.cells(start, stop, candidates)] = -torch.inf
        if exclude_seen:
            seen = ItemLists(queries.items, queries.ptr)
            scores[seen.cells(start, stop, candidates)] = -torch.inf

    found: list[list[tuple[Any, float]]] = [[] for _ in range(queries.size)]
    with inference(model):
        for part in blocks(np.diff(queries.ptr), rows):
            for place, scores, ties in _scored(model, queries, part, candidates):
                hide(scores, part.start, part.stop)
                row, column, value = best(scores[place], k, **ties)
                code = column if candidates is None else candidates[column]
                pairs = list(zip(vocabulary.decode(code.numpy()), value.tolist(), strict=True))
                ends = torch.bincount(row, minlength=len(place)).cumsum(0).tolist()
                starts = [0, *ends[:-1]]
                for number, i, j in zip(place.tolist(), starts, ends, strict=True):
                    found[part.start + number] = pairs[i:j]
    return found


def best(
    scores: Tensor,
    k: int,
    *,
    tolerance: Tolerance | None = None,
    share: Callable[[Tensor, Tensor, Tensor], bool] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The ``k`` highest scores of every row, ties in the order of columns, ``-inf`` left out.

    Args:
        scores: [n, C]; ``share`` writes to them.
        k: At least 1.
        tolerance: How far apart equal scores lie; ``None``: they are the same to the last bit.
        share: Gives equal items one score, in place, and returns whether it changed any; of all
            scores, the best ones [n, k], descending, and their columns.

    Returns:
        Row, column and score of what was chosen, best first within each row, [at most n * k] each;
        the score of a tie is its highest.
    """
    k = min(k, scores.shape[1])
    values, column = scores.topk(k)  # [n, k]
    if share is not None and share(scores, values, column):
        values, column = scores.topk(k)
    exact = torch.zeros_like
    lead = leaders(values, exact(values) if tolerance is None else tolerance(values, scores))
    last = lead[:, -1:]
    reach = exact(last) if tolerance is None else tolerance(last, scores)

    # Of the tie that holds the last place all items are looked at, also those beyond the place.
    level = (scores >= last - reach) & (scores <= last) & (scores > -torch.inf)  # [n, C]
    before = (lead > last).sum(1, keepdim=True)
    room = k - before
    crowded = (level.sum(1, keepdim=True) > room).view(-1).nonzero().view(-1)
    if crowded.numel():
        level[crowded] &= level[crowded].cumsum(1, dtype=torch.int32) <= room[crowded]
    rank = torch.nn.functional.pad((lead[:, 1:] != lead[:, :-1]).cumsum(1), (1, 0))
    if bool((rank[:, -1] < k - 1).any()) or crowded.numel():
        row, tied = level.nonzero(as_tuple=True)
        turn = torch.arange(len(row), device=row.device)
        first = torch.searchsorted(row, torch.arange(len(scores), device=row.device))
        column[row, before.view(-1)[row] + turn - first[row]] = tied
        column = (rank * scores.shape[1] + column).sort(1).values % scores.shape[1]
    row, place = (lead > -torch.inf).nonzero(as_tuple=True)
    return row, column[row, place], lead[row, place]


def item_vocabulary(model: SessionModel) -> Vocabulary:
    """The ids a model speaks: those of its catalog, or integers ``0..num_items-1``."""
    if model.catalog is None:
        return Vocabulary(pd.RangeIndex(model.num_items))
    return model.catalog.items


def _scored(
    model: SessionModel, queries: Queries, part: slice, candidates: Tensor | None
) -> Iterator[tuple[Tensor, Tensor, dict[str, Any]]]:
    """Scores of some sessions on the CPU, and of those without a known item what is popular.

    Yields:
        Which of the sessions, int64 [n]; scores of all of them, [stop - start, C], safe to write
        to, of which those rows count; and how :func:`best` tells their ties.
    """
    size = part.stop - part.start
    batch, answered = queries.batch(part.start, part.stop)
    place = torch.from_numpy(answered)
    if batch is not None:
        given, ties = _of_model(model, batch, candidates)
        if given.isnan().any():
            raise ValueError(
                f"{type(model).__name__} gave a score that is not a number: were its weights "
                "trained with too high a learning rate?"
            )
        scores = given.clone()
        if len(place) < size:
            scores = given.new_zeros(size, given.size(1)).index_copy_(0, place, given)
        yield place, scores, ties
    empty = np.setdiff1d(np.arange(size), answered)
    if len(empty) == 0:
        return
    if model.catalog is None:
        raise ValueError(
            f"Session {part.start + int(empty[0])} has no item that the model knows, and the model "
            "has no catalog to tell what is popular: set model.catalog = train.catalog()."
        )
    counts = torch.from_numpy(np.asarray(model.catalog.counts, dtype=np.float64))
    share = counts / counts.sum().clamp(min=1)
    share = share if candidates is None else share[candidates]
    yield torch.from_numpy(empty), share.repeat(size, 1), {}


def _of_model(
    model: SessionModel, batch: Batch, candidates: Tensor | None
) -> tuple[Tensor, dict[str, Any]]:
    """Scores of session graphs, [num_sessions, C], and how :func:`best` tells their ties."""
    device = model.device
    batch = batch.to(device)
    wanted = None if candidates is None else candidates.to(device)
    if not model.scores_by_table:
        given = model.score(batch, wanted)
        columns = model.num_items if candidates is None else len(candidates)
        if list(given.shape) != [batch.num_graphs, columns]:
            raise ValueError(
                f"{type(model).__name__}.score must give shape {[batch.num_graphs, columns]} here, "
                f"got {list(given.shape)}."
            )
        return given.cpu(), {"tolerance": model.score_tolerance}
    vectors = model(batch)

    def rows(columns: Tensor) -> tuple[Tensor, Tensor | None]:
        items = columns.to(device) if wanted is None else wanted[columns.to(device)]
        bias = model.item_bias()
        return model.item_rows(items), None if bias is None else bias[items]

    return model.score_vectors(vectors, wanted).cpu(), {"share": TableTies(vectors, rows).share}
