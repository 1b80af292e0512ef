"""Learned weights of merged lists: better on the sessions that they are learned on, or equal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphseq as gs
from graphseq.evaluation.metrics import metric_values
from graphseq.serving import Recommender, fusion_weights
from graphseq.training import fit


def mean_ndcg(recommender: Recommender, lists: list[list[str]]) -> float:
    """The naive way: every prefix of every session, one after another."""
    places = []
    for session in lists:
        prefixes = [session[:n] for n in range(1, len(session))]
        for target, found in zip(session[1:], recommender.recommend(prefixes, 20), strict=True):
            items = [item for item, _ in found]
            places.append(items.index(target) if target in items else 640)
    values = metric_values("ndcg@20", np.array(places), np.zeros(len(places), np.int64), 640)
    return float(values.mean())


def test_a_retriever_that_knows_nothing_loses_weight_and_lists_become_better(world: Any) -> None:
    models = [world.neural, world.counting]  # of random weights; fitted to these sessions
    lists = [session for session in world.lists if len(session) > 1][:40]
    weights = fusion_weights(models, lists, candidates=50)
    assert weights[0] < weights[1]

    def merged(weights: list[float]) -> Recommender:
        return Recommender(models[0], retrievers=models[1:], weights=weights, candidates=50)

    assert mean_ndcg(merged(weights), lists) > 1.2 * mean_ndcg(merged([1.0, 1.0]), lists)


def test_weights_stay_equal_where_all_lists_are_the_same(world: Any) -> None:
    assert fusion_weights([world.counting] * 3, world.lists[:20]) == [1.0, 1.0, 1.0]


def test_many_targets_are_drawn_by_seed(world: Any) -> None:
    models = [world.neural, world.counting]
    found = [fusion_weights(models, world.lists, max_cases=30, seed=seed) for seed in (0, 0, 1)]
    assert found[0] == found[1]
    assert all(weights[0] < weights[1] for weights in found)


def test_wrong_arguments_are_named(world: Any) -> None:
    with pytest.raises(ValueError, match="give at least 2 models, got 1"):
        fusion_weights([world.counting], world.lists)
    other = gs.models.MODELS["popularity"](2)
    fit(other, gs.Sessions.from_lists([["a", "b"]]))
    with pytest.raises(ValueError, match="Model 1 has other items than the first one"):
        fusion_weights([world.counting, other], world.lists)
    with pytest.raises(ValueError, match="There is nothing to evaluate"):
        fusion_weights([world.counting, world.neural], [["i1"]])
