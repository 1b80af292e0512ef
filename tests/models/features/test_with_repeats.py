"""A bonus for earlier items: who gets it, how it is chosen, and that training does not see it."""

from __future__ import annotations

import copy
import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import Batch

import graphseq as gs
from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.models import MODELS, WithRepeats

NUM_ITEMS = 7
LISTS = [[0, 1, 0, 3], [2, 1, 2], [4, 5, 4, 5], [6, 0], [3, 3, 1], [5, 6, 5]]


def graphs_of(sessions: list[list[int]]) -> Batch:
    ptr = torch.tensor([0, *np.cumsum([len(session) for session in sessions])])
    return build_session_graphs(torch.tensor([i for s in sessions for i in s]), ptr)


def model_of(
    bonus: float = 1.0, base: str = "srgnn", count_bonus: float = 0.0, **arguments: object
) -> WithRepeats:
    torch.manual_seed(0)
    arguments = {"hidden_channels": 8, **arguments}
    model = WithRepeats(NUM_ITEMS, base, bonus, count_bonus=count_bonus, arguments=arguments)
    log = gs.Sessions.from_lists(LISTS, vocabulary=gs.data.Vocabulary(range(NUM_ITEMS)))
    model.attach(log.catalog(), log)
    return model.eval()


def naive(model: WithRepeats, session: list[int]) -> Tensor:
    """The base's scores of one session, and the bonuses item by item."""
    scores: Tensor = model.inner.score(graphs_of([session]))[0].clone()
    seen = session if model.max_length is None else session[-model.max_length :]
    for item in set(seen):
        scores[item] += model.bonus * (item != seen[-1])
        scores[item] += model.count_bonus * math.log(seen.count(item))
    return scores


sessions = st.lists(
    st.lists(st.integers(0, NUM_ITEMS - 1), min_size=1, max_size=9), min_size=1, max_size=5
)


@settings(max_examples=20)
@given(sessions, st.sampled_from(["srgnn", "gcegnn", "sasrec", "gru4rec"]), st.data())
@torch.no_grad()
def test_scores_are_those_of_the_base_and_the_bonus_of_earlier_items(lists, base, data):
    cut = {} if base == "gru4rec" else {"max_length": 4}
    model = model_of(0.75, base, 1.25, **cut)
    expected = torch.stack([naive(model, session) for session in lists])
    batch = graphs_of(lists)
    torch.testing.assert_close(model.score(batch), expected)
    shared = torch.tensor(data.draw(st.lists(st.integers(0, NUM_ITEMS - 1), min_size=1)))
    torch.testing.assert_close(model.score(batch, shared), expected[:, shared])
    each = torch.randint(NUM_ITEMS, (len(lists), 3), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model.score(batch, each), expected.gather(1, each))


@torch.no_grad()
def test_bonus_of_zero_leaves_the_base() -> None:
    model, batch = model_of(0.0), graphs_of(LISTS)
    assert torch.equal(model.score(batch), model.inner.score(batch))


@pytest.mark.parametrize("loss", ["cross_entropy", gs.SampledLoss("bpr", num_negatives=3)])
def test_training_is_that_of_the_base_alone(loss: object) -> None:
    log = gs.Sessions.from_lists(LISTS)
    around = model_of(3.0)
    alone = copy.deepcopy(around.inner)
    for model in (around, alone):
        gs.fit(model, log, loss=loss, max_epochs=2, batch_size=4, seed=1, progress=False)
    for name, value in alone.state_dict().items():
        assert torch.equal(around.inner.state_dict()[name], value), name


@pytest.mark.parametrize("remove", [False, True])
def test_evaluate_has_the_places_of_dense_scores(remove: bool) -> None:
    generator = np.random.default_rng(0)
    lists = [generator.integers(0, 40, n).tolist() for n in generator.integers(2, 9, 60)]
    log = gs.Sessions.from_lists(lists, vocabulary=gs.data.Vocabulary(range(40)))
    arguments = {"hidden_channels": 8, "max_length": 4}
    model = WithRepeats(40, "srgnn", 0.05, count_bonus=0.02, arguments=arguments)
    model.attach(log.catalog(), log)
    with torch.no_grad():
        model.inner.items.weight[20:] = model.inner.items.weight[:20]  # ties but for the bonus
    report = gs.evaluate(model, log, exclude_seen=remove)
    expected = []
    for session in lists:
        for end in range(1, len(session)):
            scores = naive(model, session[:end])
            if remove:
                scores[session[:end]] = -torch.inf
            own = scores[session[end]]
            better, tied = (
                int((scores > own + 1e-6).sum()),
                int(((scores - own).abs() < 1e-6).sum()),
            )
            expected.append((40, 0) if own == -torch.inf else (better, tied - 1))
    assert list(report.ranks[["better", "tied"]].itertuples(index=False, name=None)) == expected
    assert any(tied for _, tied in expected)
    if not remove:  # the logloss needs all scores
        whole = gs.evaluate(model, log, logloss=True)
        assert whole.metrics.items() > report.metrics.items()


def test_evaluate_ranks_with_the_bonus() -> None:
    log = gs.Sessions.from_lists(LISTS, vocabulary=gs.data.Vocabulary(range(NUM_ITEMS)))
    model = model_of(2.5)
    report = gs.evaluate(model, log, ks=3)
    places = []
    for session in LISTS:
        for end in range(1, len(session)):
            scores = naive(model, session[:end])
            own = scores[session[end]]
            places.append(1 + int((scores > own + 1e-5).sum()))
    assert report.metrics["mrr"] == pytest.approx(np.mean([1 / place for place in places]))
    assert report.metrics["mrr"] != gs.evaluate(model.inner, log, ks=3).metrics["mrr"]


@pytest.mark.filterwarnings("ignore:The best count_bonus is the smallest")
def test_bonuses_with_the_best_mrr_are_learned() -> None:
    log = gs.Sessions.from_lists(LISTS, vocabulary=gs.data.Vocabulary(range(NUM_ITEMS)))
    model = model_of()
    tried = {"bonuses": [-3.0, 0.0, 0.5, 4.0], "count_bonuses": [0.0, 2.0, -1.0]}
    mrr = {}
    for pair in itertools.product(*tried.values()):
        model.bonus, model.count_bonus = pair
        mrr[pair] = gs.evaluate(model, log, ks=3).metrics["mrr"]
    best = max(mrr.values())
    assert min(mrr.values()) < best
    for batch_size in (1, 5, 256):
        model.learn_bonus(log, **tried, batch_size=batch_size)
        assert (model.bonus, model.count_bonus) == max(mrr, key=lambda pair: mrr[pair])
    one = model_of().learn_bonus(log, bonuses=[4.0, 4.0], count_bonuses=[1.5], max_cases=1)
    assert (one.bonus, one.count_bonus) == (4.0, 1.5)


def test_best_bonus_at_an_end_of_what_was_tried_is_said() -> None:
    back = gs.Sessions.from_lists([[1, 2, 3, 1], [2, 3, 0, 2]])  # each session comes back
    away = gs.Sessions.from_lists([[1, 2, 3, 0], [2, 3, 0, 1]])  # none does
    zero = {"count_bonuses": [0.0]}
    with pytest.warns(UserWarning, match="best bonus is the largest that was tried, 9: try larger"):
        model_of().learn_bonus(back, bonuses=[0.0, 9.0], **zero)
    with pytest.warns(UserWarning, match="best bonus is the smallest that was tried, -9: try sma"):
        model_of().learn_bonus(away, bonuses=[-9.0, 0.0], **zero)
    often = gs.Sessions.from_lists([[1, 1, 1, 2, 3, 1], [2, 2, 2, 3, 0, 2]])
    with pytest.warns(UserWarning, match="best count_bonus is the largest .* 9: try larger count"):
        model_of().learn_bonus(often, bonuses=[0.0], count_bonuses=[0.0, 9.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model_of().learn_bonus(back, bonuses=[-9.0, 0.0], **zero)  # none is no end of a scale
        model_of().learn_bonus(back, bonuses=[9.0], **zero)  # nothing to choose
        model_of().learn_bonus(away, bonuses=[0.0, 9.0], **zero)


@pytest.mark.parametrize("farthest", [1, 5, 1000])
def test_places_under_all_bonuses_are_those_of_evaluate(farthest, monkeypatch) -> None:
    monkeypatch.setattr("graphseq.models.features.with_repeats.FARTHEST", farthest)
    generator = np.random.default_rng(1)
    lists = [generator.integers(0, 30, n).tolist() for n in generator.integers(2, 12, 40)]
    log = gs.Sessions.from_lists(lists, vocabulary=gs.data.Vocabulary(range(30)))
    model = WithRepeats(30, "sasrec", arguments={"hidden_channels": 8, "max_length": 5})
    model.attach(log.catalog(), log)
    tried = [(0.0, 0.0), (1.0, 0.0), (0.05, 0.02), (-0.1, 0.3)]
    dataset = gs.SessionGraphDataset(log, samples="prefixes")
    with torch.no_grad():
        places = model.eval()._places(dataset.batch(np.arange(len(dataset))), tried)
    for column, (bonus, count_bonus) in enumerate(tried):
        model.bonus, model.count_bonus = bonus, count_bonus
        ranks = gs.evaluate(model, log).ranks
        expected = 1 + ranks["better"].to_numpy() + ranks["tied"].to_numpy() / 2
        found = places[:, column].numpy()
        near = expected <= farthest
        np.testing.assert_allclose(found[near], expected[near])
        assert (found[~near] > farthest).all()


def test_index_of_the_base_and_the_whole_model_after_it_recommend_as_it_does() -> None:
    model = model_of(2.0)
    made = gs.serving.Recommender(model.inner, index="exact", reranker=model, candidates=NUM_ITEMS)
    for found, expected in zip(
        made.recommend(LISTS, k=3), model.recommend(LISTS, k=3), strict=True
    ):
        assert [item for item, _ in found] == [item for item, _ in expected]


def test_learned_bonus_is_saved_and_grows_with_the_catalog(tmp_path) -> None:
    log = gs.Sessions.from_lists(LISTS)
    model = model_of().learn_bonus(log, bonuses=[1.75], count_bonuses=[0.5])
    model.save(tmp_path / "model")
    loaded = gs.load(tmp_path / "model")
    assert (loaded.bonus, loaded.count_bonus) == (1.75, 0.5)
    grown = gs.grow(model, gs.Sessions.from_lists([[0, 9]]))
    assert (grown.bonus, grown.num_items) == (1.75, NUM_ITEMS + 1)


def test_model_around_a_trained_one_scores_as_it_does() -> None:
    base = model_of().inner
    base.catalog = model_of().catalog
    made = WithRepeats.from_model(base, bonus=0.0)
    assert torch.equal(made.score(graphs_of(LISTS)), base.score(graphs_of(LISTS)))
    assert made.settings["base"] == "srgnn"
    assert not made.training
    with torch.no_grad():
        made.inner.items.weight.zero_()
    assert base.items.weight.any()  # a copy


@pytest.mark.parametrize("bonus", [float("nan"), float("inf"), "1", True, None])
def test_bonus_that_is_no_number_is_refused(bonus: object) -> None:
    with pytest.raises((ValueError, TypeError), match="bonus"):
        WithRepeats(NUM_ITEMS, bonus=bonus)  # type: ignore[arg-type]
    with pytest.raises((ValueError, TypeError), match="count_bonus"):
        WithRepeats(NUM_ITEMS, count_bonus=bonus)  # type: ignore[arg-type]


def test_wrong_bases_and_parts_are_refused() -> None:
    for base in ("markov", "tagnn", "with_repeats", "nothing"):
        with pytest.raises(ValueError, match="base is one of"):
            WithRepeats(NUM_ITEMS, base)
    for bonuses in ([], 3):
        with pytest.raises(ValueError, match="bonuses are one number at least"):
            model_of().learn_bonus(gs.Sessions.from_lists(LISTS), bonuses=bonuses)
        with pytest.raises(ValueError, match="count_bonuses are one number at least"):
            model_of().learn_bonus(gs.Sessions.from_lists(LISTS), count_bonuses=bonuses)
    with pytest.raises(ValueError, match="no target that is known"):
        model_of().learn_bonus(gs.Sessions.from_lists([[0, 99]]))
    assert "with_repeats" in MODELS
