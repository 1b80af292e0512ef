"""A second stage trained on the first one's candidates, and the weight of their places."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import graphseq as gs
from graphseq.evaluation import evaluate, evaluate_reranker
from graphseq.models import GRU4Rec, Popularity, SequentialRules
from graphseq.serving import AnswerCache, Recommender, fit_reranker
from graphseq.serving.reranking import with_places


@pytest.fixture(scope="module")
def log() -> gs.Sessions:
    """Sessions that walk a ring of 30 items in steps of one, from anywhere."""
    rng = np.random.default_rng(0)
    return gs.Sessions.from_lists(
        [[(start + step) % 30 for step in range(4)] for start in rng.integers(30, size=200)]
    )


@pytest.fixture(scope="module")
def retriever(log: gs.Sessions) -> Popularity:
    model = Popularity(log.num_items)
    gs.fit(model, log)
    return model


def small(log: gs.Sessions, seed: int = 0) -> GRU4Rec:
    torch.manual_seed(seed)
    model = GRU4Rec(log.num_items, 16, dropout=0.1).eval()
    model.attach(log.catalog())
    return model


def test_second_stage_finds_among_candidates_what_the_first_cannot_tell(
    log: gs.Sessions, retriever: Popularity
) -> None:
    options: dict[str, Any] = {"num_candidates": 30, "max_epochs": 12, "learning_rate": 0.02}
    first, second = small(log), small(log)
    weight = fit_reranker(first, retriever, log, **options)
    assert not first.training
    torch.rand(3)  # other draws change nothing
    assert fit_reranker(second, retriever, log, **options) == weight
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
    assert 0 <= weight < 1  # popularity tells nothing here
    both = evaluate_reranker(
        first, retriever, log, num_candidates=30, place_weight=weight, ks=1
    ).metrics["hr@1"]
    assert both > 0.95 > 0.2 > evaluate(retriever, log, ks=1).metrics["hr@1"]


def test_second_stage_is_trained_on_the_time_of_the_target_where_it_reads_it(
    log: gs.Sessions, retriever: Popularity, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = replace(log, time=np.arange(log.num_clicks, dtype=np.float64))
    model = gs.models.HSTU(log.num_items, 8, time="request")
    model.attach(timed.catalog(), timed)
    read = []
    real = model.score
    monkeypatch.setattr(
        model, "score", lambda batch, *rest: read.append(batch) or real(batch, *rest)
    )
    fit_reranker(model, retriever, timed, num_candidates=30, max_epochs=1)
    assert read
    assert all("request_time" in batch for batch in read)


def test_places_decide_where_their_weight_is_large_and_nothing_where_it_is_zero(
    log: gs.Sessions,
) -> None:
    rules = SequentialRules(log.num_items)
    gs.fit(rules, log)
    model = small(log)
    asked = [[0, 1], [7], [22, 21]]
    alone = rules.recommend(asked, 6)
    by_place = Recommender(rules, reranker=model, place_weight=1e6, candidates=20)
    listed = by_place.recommend(asked, 6)
    assert [[i for i, _ in each] for each in listed] == [[i for i, _ in each] for each in alone]
    plain = Recommender(rules, reranker=model, candidates=30).recommend(asked, 6)
    assert [[i for i, _ in each] for each in plain] == [
        [i for i, _ in each] for each in model.recommend(asked, 6)
    ]
    one = evaluate(rules, log, ks=(1, 3)).metrics
    other = evaluate_reranker(
        model, rules, log, num_candidates=10, place_weight=1e6, ks=(1, 3)
    ).metrics
    assert other["hr@1"] == pytest.approx(one["hr@1"], abs=1e-9)


def test_weight_of_places_is_by_hand_saved_and_part_of_what_is_cached(
    log: gs.Sessions, tmp_path: Path
) -> None:
    scores = with_places(torch.tensor([[1.0, 2.0, 3.0]]), 2.0)
    wanted = [1.0, 2.0 - 2 * np.log(2), 3.0 - 2 * np.log(3)]
    assert scores[0].tolist() == pytest.approx(wanted, rel=1e-6)
    model, first = small(log), small(log, 1)
    made = Recommender(first, reranker=model, place_weight=0.7, cache=AnswerCache(9))
    before = made.recommend([3, 4], 5)
    made.save(tmp_path / "r")
    loaded = gs.load(tmp_path / "r")
    assert loaded.place_weight == 0.7
    assert loaded.recommend([3, 4], 5) == before
    made.place_weight = 0.0
    assert made.recommend([3, 4], 5) != before


def test_what_cannot_be_a_second_stage_is_refused(log: gs.Sessions, retriever: Popularity) -> None:
    model = small(log)
    with pytest.raises(ValueError, match="Popularity has no weights to train"):
        fit_reranker(retriever, retriever, log)
    other = GRU4Rec(30, 4)
    other.attach(gs.Sessions.from_lists([list(range(100, 130))]).catalog())
    with pytest.raises(ValueError, match="reranker has other items than the retriever"):
        fit_reranker(other, retriever, log)
    for name in ("num_candidates", "max_cases", "max_epochs", "batch_size"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1"):
            fit_reranker(model, retriever, log, **{name: 0})
    with pytest.raises(ValueError, match="learning_rate must be positive, got 0"):
        fit_reranker(model, retriever, log, learning_rate=0)
    rare = int(np.argmin(log.catalog().counts))
    hidden = log.vocabulary.ids[rare]
    seen = next(i for i in log.vocabulary.ids if i != hidden)
    with pytest.raises(ValueError, match="The retriever finds no target among its candidates"):
        fit_reranker(model, retriever, gs.Sessions.from_lists([[seen, hidden]]), num_candidates=1)
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="place_weight must be a finite number"):
            Recommender(retriever, reranker=model, place_weight=weight)
