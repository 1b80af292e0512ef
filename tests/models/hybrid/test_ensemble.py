"""Ensembles: weighted sums over models, by places or by scores."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import graphseq as gs
from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.models import MODELS, Ensemble
from graphseq.models.hybrid.ensemble import _reciprocal_places, _standardized

LISTS = [[0, 1, 2], [1, 2, 0], [3, 0], [2, 4, 2], [0, 1], [5, 0, 1, 2]]


def log():
    return gs.Sessions.from_lists(LISTS)


def batch():
    return build_session_graphs(torch.tensor([0, 1, 2, 4]), torch.tensor([0, 2, 4]))


def naive_places(scores):
    """1 / (60 + place); tied items share the mean of their places."""
    return [
        [1 / (60 + sum(b > a for b in row) + (1 + sum(b == a for b in row)) / 2) for a in row]
        for row in scores.tolist()
    ]


def test_places_of_tied_items_are_the_mean_of_theirs():
    inf = float("inf")
    scores = torch.tensor([[1.0, 3.0, 3.0, 0.5], [2.0, 2.0, 2.0, 2.0], [-inf, 1.0, -inf, 5.0]])
    expected = torch.tensor(naive_places(scores), dtype=torch.double)
    torch.testing.assert_close(_reciprocal_places(scores.double()), expected)


def test_standardized_scores_have_mean_zero_and_deviation_one():
    inf = float("inf")
    scores = torch.tensor([[1.0, 3.0, -inf, 0.5], [2.0, 2.0, 2.0, 2.0], [-inf] * 4]).double()
    found = _standardized(scores)
    assert found[0, 2] == found[0, 3]  # what is never recommended has the lowest score
    torch.testing.assert_close(found.mean(1), torch.zeros(3).double())
    torch.testing.assert_close(found[0].square().mean(), torch.tensor(1.0).double())
    assert torch.equal(found[1:], torch.zeros(2, 4).double())


@pytest.mark.parametrize("fusion", ["places", "scores"])
def test_scores_are_weighted_sums_over_the_members(fusion):
    ensemble = Ensemble(6, ["markov", "item_knn"], fusion=fusion, weights=[3, 1])
    gs.fit(ensemble, log())
    part = {"places": _reciprocal_places, "scores": _standardized}[fusion]
    expected = torch.zeros(2, 6).double()
    for name, weight in (("markov", 3), ("item_knn", 1)):
        member = MODELS[name](6)
        gs.fit(member, log())
        expected += weight * part(member.score(batch()).double())
    torch.testing.assert_close(ensemble.score(batch()), expected)
    wanted = torch.tensor([[5, 0], [2, 2]])
    torch.testing.assert_close(ensemble.score(batch(), wanted), expected.gather(1, wanted))


def test_one_member_ranks_as_it_does_alone():
    ensemble, alone = Ensemble(6, ["markov"]), MODELS["markov"](6)
    for model in (ensemble, alone):
        gs.fit(model, log())
    found = [gs.evaluate(model, log(), ks=(1, 3)).metrics for model in (ensemble, alone)]
    assert found[0] == pytest.approx(found[1])


def test_fitted_models_are_joined_as_they_are(tmp_path):
    neural = gs.models.GRU4Rec(6, 4)
    gs.fit(neural, log(), max_epochs=1)
    counting = MODELS["markov"](6)
    gs.fit(counting, log())
    ensemble = Ensemble.from_models([neural, counting], weights=[0.25, 0.75])
    ensemble.save(tmp_path / "model")
    loaded = gs.load(tmp_path / "model")
    assert loaded.weights == [0.25, 0.75]
    assert loaded.recommend([[0, 1]], k=6) == ensemble.recommend([[0, 1]], k=6)


def test_learned_weights_are_the_best_of_the_grid():
    """One member knows the order, the other is popularity: brute force over the same grid."""
    train = gs.generate_sessions(400, 60, pattern=0.8, loops=0.0, seed=0)
    part = gs.generate_sessions(60, 60, pattern=0.8, loops=0.0, seed=1)
    ensemble = Ensemble(60, [{"model": "markov", "arguments": {"order": 2}}, "popularity"])
    gs.fit(ensemble, train)
    assert ensemble.learn_weights(part, steps=4) is ensemble
    chosen = ensemble.weights
    found = {}
    for part_of_first in np.arange(5) / 4:
        ensemble.weights = [part_of_first, 1 - part_of_first]
        found[part_of_first] = gs.evaluate(ensemble, part, ks=(5,)).metrics["mrr"]
    assert found[chosen[0]] == pytest.approx(max(found.values()), abs=1e-6)
    assert max(found.values()) > min(found.values())


def test_ensemble_reads_the_time_of_the_target_where_a_member_does():
    log = gs.Sessions.from_lists(LISTS)
    log = replace(log, time=np.cumsum(np.arange(log.num_clicks) % 7 * 900.0))
    torch.manual_seed(0)
    reader, other = (gs.models.HSTU(6, 8, time=time) for time in ("request", "none"))
    for model in (reader, other):
        model.attach(log.catalog(), log)
    with torch.no_grad():
        for parameter in reader.parameters():
            parameter.add_(torch.randn_like(parameter))
    assert not Ensemble.from_models([other, other]).reads_request_time
    ensemble = Ensemble.from_models([reader.eval(), other.eval()], weights=[1, 0])
    ranks = [gs.evaluate(model, log).ranks for model in (ensemble, reader)]
    assert ranks[0].equals(ranks[1])
    seen = []
    ensemble._parts = lambda batch, parts=ensemble._parts: seen.append(batch) or parts(batch)
    ensemble.learn_weights(log)
    assert all("request_time" in batch for batch in seen)


def test_learned_weights_without_seen_items_are_those_of_that_ranking():
    """Session popularity ranks seen items alone: with them it is best, without them useless."""
    train = gs.generate_sessions(300, 60, pattern=0.0, loops=0.0, repeats=0.6, seed=0)
    part = gs.generate_sessions(60, 60, pattern=0.0, loops=0.0, repeats=0.6, seed=1)
    ensemble = Ensemble(60, ["popularity", "session_popularity"])
    gs.fit(ensemble, train)
    with_seen = list(ensemble.learn_weights(part, steps=4).weights)
    assert with_seen[1] > 0
    ensemble.learn_weights(part, steps=4, exclude_seen=True)
    chosen = ensemble.weights
    found = {}
    for share in np.arange(5) / 4:
        ensemble.weights = [share, 1 - share]
        metrics = gs.evaluate(ensemble, part, ks=(5,), exclude_seen=True).metrics
        found[share] = metrics["mrr"]
    assert found[chosen[0]] == pytest.approx(max(found.values()), abs=1e-6)


def test_an_unfitted_member_that_is_trained_is_named():
    with pytest.raises(ValueError, match=r"GRU4Rec is trained by gradients: fit it first"):
        gs.fit(Ensemble(6, ["gru4rec", "markov"]), log())


def test_members_of_other_items_are_named():
    one, other = MODELS["markov"](6), MODELS["markov"](3)
    gs.fit(one, log())
    gs.fit(other, gs.Sessions.from_lists([[0, 1, 2]]))
    with pytest.raises(ValueError, match="Member 1, a MarkovChain, has other items"):
        Ensemble.from_models([one, other])
    renamed = MODELS["markov"](6)
    gs.fit(renamed, gs.Sessions.from_lists([["a", "b", "c", "d", "e", "f"]]))
    with pytest.raises(ValueError, match="Member 1, a MarkovChain, has other items"):
        Ensemble.from_models([one, renamed])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"members": []}, "at least one member"),
        ({"members": ["nearest"]}, "A member is one of popularity"),
        ({"members": [{"model": "markov", "order": 2}]}, "'model' and 'arguments'"),
        ({"weights": [1.0]}, "2 numbers of at least 0"),
        ({"weights": [1.0, -1.0]}, "2 numbers of at least 0"),
        ({"weights": [1.0, float("nan")]}, "2 numbers of at least 0"),
        ({"weights": ["a", "b"]}, "2 numbers of at least 0"),
        ({"weights": 1.0}, "2 numbers of at least 0"),
        ({"members": [gs.models.Popularity(6)]}, "Popularity is a model, and a member is named"),
        ({"weights": [0.0, 0.0]}, "Not all weights can be 0"),
        ({"fusion": "votes"}, "fusion is"),
        ({"members": [{"model": "markov", "arguments": {"foo": 3}}]}, "which markov does not take"),
        ({"members": [{"model": "markov", "arguments": [3]}]}, "arguments is a mapping"),
    ],
)
def test_bad_arguments_are_named(arguments, said):
    with pytest.raises(ValueError, match=said):
        Ensemble(6, **arguments)


def test_validation_without_a_known_target_is_refused():
    ensemble = Ensemble(6)
    gs.fit(ensemble, log())
    unknown = ensemble.catalog.encode(gs.Sessions.from_lists([[0, "new"], [1, "other"]]))
    with pytest.raises(ValueError, match="no target that is known"):
        ensemble.learn_weights(unknown)


@pytest.mark.parametrize("wrong", [["markov"], [gs.models.IALS], gs.models.Popularity(6), [None]])
def test_what_is_no_model_is_not_joined(wrong):
    with pytest.raises(TypeError, match="An ensemble joins a list of fitted models, got"):
        Ensemble.from_models(wrong)


def test_weights_are_learned_in_the_codes_of_the_ensemble():
    train = gs.generate_sessions(400, 60, pattern=0.8, loops=0.0, seed=0)
    part = gs.generate_sessions(60, 60, pattern=0.8, loops=0.0, seed=1)
    ensemble = Ensemble(60, [{"model": "markov", "arguments": {"order": 2}}, "popularity"])
    gs.fit(ensemble, train)
    expected = list(ensemble.learn_weights(ensemble.catalog.encode(part)).weights)
    own_codes = gs.Sessions.from_lists(part.to_lists())  # codes in the order of first clicks
    assert own_codes.vocabulary != ensemble.catalog.items
    assert ensemble.learn_weights(own_codes).weights == expected
    with pytest.raises(ValueError, match="max_cases must be at least 1"):
        ensemble.learn_weights(part, max_cases=0)
    with pytest.raises(ValueError, match="got Split"):
        ensemble.learn_weights(gs.session_split(train, test_fraction=0.1, seed=0))


def test_an_ensemble_grows_by_its_members():
    neural, counting = gs.models.GRU4Rec(6, 4), MODELS["markov"](6)
    gs.fit(neural, log(), max_epochs=1)
    gs.fit(counting, log())
    for members in ([neural, counting], [counting, neural]):
        ensemble = Ensemble.from_models(members, fusion="scores", weights=[0.25, 0.75])
        more = gs.Sessions.from_lists([*log().to_lists(), [0, "new"]])
        grown = gs.grow(ensemble, more)
        alone = [gs.grow(member, more) for member in members]
        joined = Ensemble.from_models(alone, fusion="scores", weights=[0.25, 0.75])
        assert grown.num_items == 7
        assert grown.weights == [0.25, 0.75]
        assert grown.recommend([[0, 1]], k=7) == joined.recommend([[0, 1]], k=7)
        assert ensemble.num_items == 6


def test_an_ensemble_is_explained_as_any_model():
    neural, counting = gs.models.GRU4Rec(6, 4), MODELS["markov"](6)
    gs.fit(neural, log(), max_epochs=1)
    gs.fit(counting, log())
    ensemble = Ensemble.from_models([neural, counting])
    clicks = gs.explain(ensemble, [0, 1, 2]).to_frame()
    assert np.isfinite(clicks.select_dtypes("number")).all(axis=None)
