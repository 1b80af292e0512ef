"""The first stage: candidates of a model, through an index or by scoring all items."""

from __future__ import annotations

import numpy as np
import torch

from graphseq.models.base import SessionModel
from graphseq.models.use.inference import blocks, inference
from graphseq.models.use.recommend import ranked
from graphseq.serving.candidates import Candidates
from graphseq.serving.indexes import Index
from graphseq.serving.indexes.base import refuse_foreign
from graphseq.serving.item_vectors import Floats, query_vectors
from graphseq.serving.queries import Asked

SESSIONS_AT_ONCE = 512

MOST_HIDDEN = 1_000
"""Where a session hides more items than this, all items are scored instead of asking the index."""


def score_all(
    model: SessionModel, asked: Asked, k: int, vectors: Floats | None = None
) -> Candidates:
    """The ``k`` best items of every session by the scores of all items; popularity without any.

    Args:
        model: Any model; with vectors, one whose scores are inner products with one item table.
        asked: The sessions.
        k: Items per session.
        vectors: Session vectors [num_sessions, hidden_channels], if they are known already.
    """
    session, item, score = ranked(
        model,
        asked.queries,
        k,
        asked.hidden,
        asked.allowed,
        asked.exclude_seen,
        SESSIONS_AT_ONCE,
        vectors,
    )
    return Candidates.of_pairs(session, item, score, asked.queries.size)


def check_scores(model: SessionModel, scores: torch.Tensor) -> None:
    """Refuses NaN, which no order has a place for.

    Raises:
        ValueError: If a score is NaN.
    """
    if bool(scores.isnan().any()):
        raise ValueError(
            f"{type(model).__name__} gave a score that is not a number: were its weights trained "
            "with too high a learning rate?"
        )


def _of_empty(model: SessionModel, asked: Asked, found: Candidates, k: int) -> Candidates:
    """The same with popular items for sessions without a known item."""
    empty = np.flatnonzero(asked.empty)
    if len(empty) == 0:
        return found
    return _replaced(found, empty, score_all(model, asked.rows(empty), k), k)


def through_index(
    model: SessionModel, index: Index, asked: Asked, k: int, vectors: Floats | None = None
) -> Candidates:
    """The ``k`` best items that an index finds, with the model's own scores of them.

    Sessions without a known item, and those of which filters leave fewer than ``k`` of what the
    index found, are answered by the scores of all items of the index.

    Args:
        model: The model of the index.
        index: Of the version of the model.
        asked: The sessions.
        k: Items per session.
        vectors: Session vectors [num_sessions, hidden_channels], if they are known already.
    """
    n = asked.queries.size
    held = index.holds(model.num_items)  # scores know items that left the index
    depth = k + asked.most_hidden
    if asked.allowed is not None or asked.most_hidden > MOST_HIDDEN:
        # What is allowed may be rare: then nothing that the index finds would be left.
        share = 1.0 if asked.allowed is None else _share(asked, model.num_items)
        if asked.most_hidden > MOST_HIDDEN or share * model.num_items < 8 * k:
            return score_all(model, asked.within(held), k, vectors)
        depth = int(min(len(index), np.ceil(2 * depth / share)))
    if index.rounds:  # the best by the model's own scores may be a little further down
        depth *= 2
    depth = max(1, min(depth, len(index)))
    parts = []
    with inference(model):
        for part in blocks(np.diff(asked.queries.ptr), SESSIONS_AT_ONCE):
            rows = np.arange(part.start, part.stop)
            parts.append(
                _found(
                    model,
                    index,
                    asked.rows(rows),
                    depth,
                    None if vectors is None else vectors[rows],
                )
            )
    found = _stacked(parts, n)
    found = found.without(asked.hides(found.items, model.num_items)).best(k)
    found = _of_empty(model, asked.within(held), found, k)
    short = np.flatnonzero((found.counts < min(k, len(index))) & ~asked.empty)
    if len(short) == 0:
        return found
    left = asked.rows(short).within(held)
    others = score_all(model, left, k, None if vectors is None else vectors[short])
    return _replaced(found, short, others, k)


def _found(
    model: SessionModel, index: Index, asked: Asked, depth: int, vectors: Floats | None
) -> Candidates:
    """What the index finds, in the order of the model's own scores."""
    n = asked.queries.size
    items = np.full((n, depth), -1, dtype=np.int64)
    scores = np.full((n, depth), -np.inf)
    if vectors is not None:
        answered, states = np.arange(n), torch.from_numpy(np.ascontiguousarray(vectors))
    else:
        batch, answered = asked.queries.batch(0, n)
        if batch is None:
            return Candidates(items, scores)
        states = model(batch.to(model.device))
    items[answered], _ = index.search(query_vectors(states, index.has_bias), depth)
    refuse_foreign(items, model.num_items)
    wanted = torch.from_numpy(items[answered]).clamp(min=0).to(states.device)
    found = model.items.scores(states, wanted).cpu()
    check_scores(model, found)
    lowest = index.lowest_equal(model)
    if lowest is not None:
        found = _shared(found, lowest[wanted.cpu()])
    scores[answered] = found.double().numpy()
    return Candidates(items, scores).rescored()


def _shared(scores: torch.Tensor, lowest: torch.Tensor) -> torch.Tensor:
    """One score for equal items of a session, whatever rounding made of each: [n, C] all."""
    row = torch.arange(len(scores)).unsqueeze(1)
    _, pair = (
        torch.stack([row.expand_as(lowest), lowest]).flatten(1).unique(dim=1, return_inverse=True)
    )
    best = torch.full((len(pair),), -torch.inf, dtype=scores.dtype)
    return best.scatter_reduce(0, pair, scores.flatten(), "amax")[pair].view_as(scores)


def _share(asked: Asked, num_items: int) -> float:
    assert asked.allowed is not None
    ptr = asked.allowed.ptr
    least = len(asked.allowed.codes) if ptr is None else int(np.diff(ptr).min(initial=num_items))
    return least / num_items


def _stacked(parts: list[Candidates], n: int) -> Candidates:
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return Candidates(np.empty((n, 0), dtype=np.int64), np.empty((n, 0)))
    return Candidates(
        np.concatenate([part.items for part in parts]),
        np.concatenate([part.scores for part in parts]),
    )


def _replaced(found: Candidates, rows: np.ndarray, others: Candidates, k: int) -> Candidates:
    """The same with some rows replaced by those of others."""
    width = max(found.items.shape[1], others.items.shape[1])
    items = np.full((len(found.items), width), -1, dtype=np.int64)
    scores = np.full(items.shape, -np.inf)
    items[:, : found.items.shape[1]] = found.items
    scores[:, : found.items.shape[1]] = found.scores
    items[rows], scores[rows] = -1, -np.inf
    items[rows, : others.items.shape[1]] = others.items
    scores[rows, : others.items.shape[1]] = others.scores
    return Candidates(items, scores).best(k)
