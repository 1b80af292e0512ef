"""Weights with which lists of several retrievers are merged, learned on validation sessions."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphseq.arguments import whole
from graphseq.data.sessions.sessions import Sessions
from graphseq.evaluation.inputs import read_inputs, require_model
from graphseq.evaluation.metrics import metric_values
from graphseq.evaluation.targets import Targets
from graphseq.models.base import SessionModel
from graphseq.models.use.recommend import item_vocabulary
from graphseq.models.use.requests import Queries
from graphseq.ragged import ptr_of, ragged_arange
from graphseq.random import stream
from graphseq.serving.candidates import Candidates, fuse
from graphseq.serving.queries import Asked
from graphseq.serving.retrieval import score_all

STEPS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
"""What the weight of a retriever is tried at, beside a weight of 1 of the others."""

ROUNDS = 2
"""How often each weight is tried, the others being as they were found last."""


def fusion_weights(
    models: Sequence[SessionModel],
    sessions: Sessions | Iterable[Iterable[Any]],
    *,
    metric: str = "ndcg@20",
    candidates: int = 200,
    max_cases: int = 2_000,
    seed: int = 0,
) -> list[float]:
    """Learns the weights of reciprocal rank fusion: those whose merged lists find most targets.

    One weight after the other is tried at a few values, twice; all equal is where it starts, and
    where it stays if nothing is better. Take a validation part: of test sessions, the figures that
    follow would know their targets.

    Args:
        models: The model of a :class:`~graphseq.serving.Recommender` and its retrievers, in order.
        sessions: Sessions with targets, as ``evaluate`` takes them.
        metric: What is to be high: ``"hr@k"``, ``"mrr@k"`` or ``"ndcg@k"``.
        candidates: Items per list.
        max_cases: Targets looked at; where there are more, so many are drawn.
        seed: Seed of that draw.

    Returns:
        One weight per model, for ``Recommender(weights=...)``.

    Raises:
        ValueError: If there are fewer than two models, their items differ, or there is no target.
    """
    models = list(models)
    if len(models) < 2:
        raise ValueError(f"There is nothing to merge: give at least 2 models, got {len(models)}.")
    for number, model in enumerate(models):
        require_model(model, name=f"model {number}")
        if item_vocabulary(model) != item_vocabulary(models[0]):
            raise ValueError(
                f"Model {number} has other items than the first one: fit all on the same split."
            )
    whole("candidates", candidates)
    asked, target = _cases(models[0], sessions, whole("max_cases", max_cases), seed)
    lists = [score_all(model, asked, candidates) for model in models]
    size = models[0].num_items

    def quality(weights: Sequence[float]) -> float:
        merged = fuse(lists, weights, candidates)
        return float(_values(metric, merged, target, size).mean())

    weights = [1.0] * len(models)
    best = quality(weights)
    for _, place in itertools.product(range(ROUNDS), range(len(models))):
        for step in STEPS:
            tried = [*weights[:place], step, *weights[place + 1 :]]
            if any(tried) and (found := quality(tried)) > best:
                best, weights = found, tried
    return weights


def _cases(
    model: SessionModel, sessions: Any, max_cases: int, seed: int
) -> tuple[Asked, NDArray[np.int64]]:
    """What precedes each target, and the targets."""
    _, recoded = read_inputs(model, sessions)
    cases = Targets(recoded)
    drawn = np.arange(len(cases.target))
    if len(drawn) > max_cases:
        draw = stream("fusion_cases", seed).choice(len(drawn), max_cases, replace=False)
        drawn = np.sort(draw)
    start = np.asarray(recoded.ptr)[cases.session[drawn]]
    lengths = cases.position[drawn]
    clicks = ragged_arange(start, lengths)
    known = np.asarray(recoded.items)[clicks] >= 0
    ptr, clicks = ptr_of(known)[ptr_of(lengths)], clicks[known]
    # Models rank by what they read when they serve: times, features and users too.
    fields = {f"click_{name}": np.asarray(v)[clicks] for name, v in recoded.click_features.items()}
    if recoded.time is not None:
        fields["click_time"] = np.asarray(recoded.time)[clicks]
    users = None
    if model.catalog is not None and model.catalog.users is not None:
        users = np.full(len(drawn), -1, dtype=np.int64)
        if recoded.users is not None:
            users = np.asarray(recoded.users)[cases.session[drawn]].astype(np.int64)
    items = np.asarray(recoded.items)[clicks].astype(np.int64)
    queries = Queries(items, ptr, fields, users, np.arange(len(drawn)))
    return Asked(queries, None, None, False), cases.target[drawn]


def _values(
    metric: str, found: Candidates, target: NDArray[np.int64], size: int
) -> NDArray[np.float64]:
    hit = found.items == target[:, None]
    place = np.where(hit.any(1) & (target >= 0), hit.argmax(1), size)
    return metric_values(metric, place, np.zeros_like(place), size)
