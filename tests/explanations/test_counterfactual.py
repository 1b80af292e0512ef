"""Counterfactuals: no smaller change does it, and the change does."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch

import graphseq as gs
from graphseq.models import MODELS, SessionModel
from graphseq.testing.examples import NUM_ITEMS, training_sessions

SESSION = [3, 5, 1, 0, 7, 2]


def model_of(name: str, seed: int = 0) -> SessionModel:
    torch.manual_seed(seed)
    model: SessionModel = MODELS[name](NUM_ITEMS)
    sessions = training_sessions()
    model.attach(sessions.catalog(), sessions)
    if name == "vsknn":
        model.fit_counts(sessions)  # type: ignore[operator]
        return model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    return model


def rank_of(model: SessionModel, session: list[Any], item: Any) -> int:
    return [found for found, _ in model.recommend([session], k=NUM_ITEMS)[0]].index(item) + 1


@pytest.mark.parametrize("name", ["sasrec", "srgnn", "gru4rec"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_change_is_the_smallest_that_brute_force_finds(name: str, seed: int) -> None:
    model = model_of(name, seed)
    found = gs.counterfactual(model, SESSION, k=2)
    assert found.item == model.recommend([SESSION], k=1)[0][0][0]
    assert found.proven
    by_size = {
        number: {
            gone: rank_of(model, [x for n, x in enumerate(SESSION) if n not in gone], found.item)
            for gone in combinations(range(6), number)
        }
        for number in range(1, 6)
    }
    sizes = [n for n, ranks in by_size.items() if max(ranks.values()) > 2]
    assert found.found == bool(sizes)
    if sizes:
        assert len(found.removed) == sizes[0]
        assert found.rank_after == max(by_size[sizes[0]].values())
        assert by_size[sizes[0]][found.removed] == found.rank_after
        assert found.items == tuple(SESSION[place] for place in found.removed)


def test_greedy_search_still_finds_a_change_and_claims_no_proof_that_it_lacks() -> None:
    found_any = False
    for seed in range(6):
        model = model_of("sasrec", seed)
        best = gs.counterfactual(model, SESSION, k=1)
        greedy = gs.counterfactual(model, SESSION, k=1, max_tries=1)
        if greedy.found:
            rest = [x for n, x in enumerate(SESSION) if n not in greedy.removed]
            assert rank_of(model, rest, greedy.item) == greedy.rank_after > 1
            assert len(greedy.removed) >= len(best.removed)
            assert not greedy.proven or len(greedy.removed) == len(best.removed)
            found_any = True
    assert found_any


def test_item_that_no_change_removes_is_said_to_stay() -> None:
    model = model_of("sasrec")
    found = gs.counterfactual(model, SESSION, k=NUM_ITEMS)
    assert (found.removed, found.found, found.proven) == ((), False, True)
    alone = gs.counterfactual(model, [3], k=2)
    assert (alone.removed, alone.found) == ((), False)
    assert alone.rank == alone.rank_after == 1


def test_item_that_is_not_recommended_has_nothing_to_undo() -> None:
    model = model_of("vsknn")
    worst = model.recommend([SESSION], k=NUM_ITEMS)[0][-1][0]
    with pytest.raises(ValueError, match="not among the best 3: there is nothing to undo"):
        gs.counterfactual(model, SESSION, worst, k=3)
    with pytest.raises(ValueError, match="k"):
        gs.counterfactual(model, SESSION, k=0)


def test_only_clicks_that_the_model_sees_are_counted() -> None:
    torch.manual_seed(0)
    model = MODELS["sasrec"](NUM_ITEMS, max_length=2)
    found = gs.counterfactual(model, np.array(SESSION), k=1)
    assert all(place < 2 for place in found.removed)
    assert all(item in SESSION[-2:] for item in found.items)
