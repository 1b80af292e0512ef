"""Recommendations in the user's own ids, for any model and for sessions never seen before."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from graphseq.data.vocabulary import Vocabulary
from graphseq.models.base import SessionModel, SessionsLike
from graphseq.models.inference import blocks, inference
from graphseq.models.queries import Ids, ItemLists, Queries, read_ids, read_queries

logger = logging.getLogger(__name__)

MAX_SCORES = 2**24
"""Scores held at once: sessions are taken in blocks of at most this many divided by the items."""


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
            ``session_id``, ``item_id`` and, if it has them, ``time``, ``user_id`` and the model's
            click features, whose sessions are answered in the order in which they first appear.
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
    queries = read_queries(model, sessions, users, vocabulary)
    hidden = None if exclude is None else read_ids(exclude, queries.size, vocabulary, "exclude")
    allowed = None if allow is None else read_ids(allow, queries.size, vocabulary, "allow")
    candidates = None  # ascending, so that column order is code order
    if allowed is not None and allowed.ptr is None:
        candidates = torch.from_numpy(np.unique(allowed.codes))
    num_columns = model.num_items if candidates is None else len(candidates)
    if num_columns == 0 or queries.size == 0:
        return [[] for _ in range(queries.size)]
    rows = max(1, min(batch_size, MAX_SCORES // num_columns))

    found: list[list[tuple[Any, float]]] = []
    with inference(model):
        for part in blocks(np.diff(queries.ptr), rows):
            start, stop = part.start, part.stop
            scores = _scores(model, queries, start, stop, candidates)
            if allowed is not None and allowed.ptr is not None:
                outside = torch.ones_like(scores, dtype=torch.bool)
                outside[allowed.cells(start, stop, candidates)] = False
                scores[outside] = -torch.inf
            if hidden is not None:
                scores[hidden.cells(start, stop, candidates)] = -torch.inf
            if exclude_seen:
                seen = ItemLists(queries.items, queries.ptr)
                scores[seen.cells(start, stop, candidates)] = -torch.inf
            row, column, value = best(scores, k)
            code = column if candidates is None else candidates[column]
            ids = vocabulary.decode(code.numpy())
            pairs = list(zip(ids, value.tolist(), strict=True))
            ends = torch.bincount(row, minlength=stop - start).cumsum(0).tolist()
            found += [pairs[i:j] for i, j in zip([0, *ends[:-1]], ends, strict=True)]
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


def _scores(
    model: SessionModel, queries: Queries, start: int, stop: int, candidates: Tensor | None
) -> Tensor:
    """Scores on the CPU, [stop - start, num_items] or [stop - start, C]; safe to write to."""
    batch, answered = queries.batch(start, stop)
    found: list[Tensor] = []
    if batch is not None:
        device = model.device
        wanted = None if candidates is None else candidates.to(device)
        found.append(model.score(batch.to(device), wanted).cpu())
        if found[0].isnan().any():
            raise ValueError(
                f"{type(model).__name__} gave a score that is not a number: were its weights "
                "trained with too high a learning rate?"
            )
        if len(answered) == stop - start:
            return found[0].clone()
    if model.catalog is None:
        empty = int(np.setdiff1d(np.arange(stop - start), answered)[0]) + start
        raise ValueError(
            f"Session {empty} has no item that the model knows, and the model has no catalog to "
            "tell what is popular: set model.catalog = train.catalog()."
        )
    counts = torch.from_numpy(np.asarray(model.catalog.counts, dtype=np.float64))
    share = counts / counts.sum().clamp(min=1)
    share = share if candidates is None else share[candidates]
    scores = share.to(found[0].dtype if found else share.dtype).repeat(stop - start, 1)
    if found:
        scores[torch.from_numpy(answered)] = found[0]
    return scores
