"""Learned weights of merged lists: better on the sessions that they are learned on, or equal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import graphseq as gs
from graphseq.evaluation.metrics import metric_values
from graphseq.models.use.recommend import item_vocabulary
from graphseq.models.use.requests import read_queries
from graphseq.serving import Recommender, fusion, fusion_weights
from graphseq.serving.retrieval import score_all
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


@pytest.mark.parametrize("place", [0, 1])
def test_a_list_of_weight_zero_fills_no_place(world: Any, place: int) -> None:
    models, weights = [world.neural, world.neural], [0.0, 0.0]
    models[place], weights[place] = world.only_seen, 1.0
    merged = Recommender(models[0], retrievers=models[1:], weights=weights)
    for found, session in zip(merged.recommend(world.lists[:5], 20), world.lists, strict=False):
        assert {item for item, _ in found} == set(session)


def test_weights_stay_equal_where_all_lists_are_the_same(world: Any) -> None:
    assert fusion_weights([world.counting] * 3, world.lists[:20]) == [1.0, 1.0, 1.0]


def test_many_targets_are_drawn_by_seed(world: Any) -> None:
    models = [world.neural, world.counting]
    found = [fusion_weights(models, world.lists, max_cases=30, seed=seed) for seed in (0, 0, 1)]
    assert found[0] == found[1]
    assert all(weights[0] < weights[1] for weights in found)


def test_models_read_the_same_of_a_history_as_when_they_recommend(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clicks = pd.DataFrame(
        {
            "session_id": list("aaabbb"),
            "item_id": ["x", "y", "z", "y", "x", "z"],
            "user_id": ["u"] * 3 + ["v"] * 3,
            "time": [7_200, 7_300, 7_400, 90, 91, 92],
            "shelf": ["up", "down", "up", "up", "up", "down"],
        }
    )
    log = gs.Sessions.from_frame(clicks, time="time", user="user_id", features=["shelf"])
    models = [gs.models.MODELS["trending"](3, hourly=True), gs.models.Popularity(3)]
    for model in models:
        fit(model, log)
    read: list[Any] = []

    def reading(model: Any, asked: Any, k: int) -> Any:
        read.append(asked.queries)
        return score_all(model, asked, k)

    monkeypatch.setattr(fusion, "score_all", reading)
    fusion_weights(models, log)
    places = [0, 0, 1, 3, 3, 4]  # histories of the targets: x, x y, y, y x
    wanted = clicks.iloc[places].assign(session_id=[0, 1, 1, 2, 3, 3])
    queries = read_queries(
        models[0],
        gs.Sessions.from_frame(wanted, time="time", user="user_id", features=["shelf"]),
        None,
        item_vocabulary(models[0]),
    )
    for found in read:
        assert found.items.tolist() == queries.items.tolist()
        assert found.ptr.tolist() == queries.ptr.tolist()
        assert found.users.tolist() == queries.users.tolist()
        assert found.click_fields.keys() == queries.click_fields.keys()
        for name, values in queries.click_fields.items():
            assert found.click_fields[name].tolist() == values.tolist()


def test_wrong_arguments_are_named(world: Any) -> None:
    with pytest.raises(ValueError, match="give at least 2 models, got 1"):
        fusion_weights([world.counting], world.lists)
    other = gs.models.MODELS["popularity"](2)
    fit(other, gs.Sessions.from_lists([["a", "b"]]))
    with pytest.raises(ValueError, match="Model 1 has other items than the first one"):
        fusion_weights([world.counting, other], world.lists)
    with pytest.raises(ValueError, match="There is nothing to evaluate"):
        fusion_weights([world.counting, world.neural], [["i1"]])
