"""A bonus for earlier items: who gets it, how it is chosen, and that training does not see it."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from itertools import product

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
from graphseq.models.features.with_repeats import LARGEST, STEPS, _highest

NUM_ITEMS = 7
LISTS = [[0, 1, 0, 3], [2, 1, 2], [4, 5, 4, 5], [6, 0], [3, 3, 1], [5, 6, 5]]


def graphs_of(sessions: list[list[int]]) -> Batch:
    ptr = torch.tensor([0, *np.cumsum([len(session) for session in sessions])])
    return build_session_graphs(torch.tensor([i for s in sessions for i in s]), ptr)


def model_of(
    bonus: float = 1.0,
    base: str = "srgnn",
    *,
    last_bonus: float = 0.0,
    count_bonus: float = 0.0,
    **arguments: object,
) -> WithRepeats:
    torch.manual_seed(0)
    bonuses = {"last_bonus": last_bonus, "count_bonus": count_bonus}
    arguments = {"hidden_channels": 8, **arguments}
    model = WithRepeats(NUM_ITEMS, base, bonus, **bonuses, arguments=arguments)
    log = gs.Sessions.from_lists(LISTS, vocabulary=gs.data.Vocabulary(range(NUM_ITEMS)))
    model.attach(log.catalog(), log)
    return model.eval()


def naive(model: WithRepeats, session: list[int]) -> Tensor:
    """The base's scores of one session, and the bonuses item by item."""
    scores: Tensor = model.inner.score(graphs_of([session]))[0].clone()
    seen = session if model.max_length is None else session[-model.max_length :]
    for item in set(seen):
        scores[item] += model.last_bonus if item == seen[-1] else model.bonus
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
    model = model_of(0.75, base, last_bonus=-0.5, count_bonus=1.25, **cut)
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
    bonuses = {"bonus": 0.05, "last_bonus": -0.03, "count_bonus": 0.02}
    model = WithRepeats(40, "srgnn", **bonuses, arguments=arguments)
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


def test_no_step_from_the_learned_bonuses_has_a_higher_mrr() -> None:
    generator = np.random.default_rng(2)
    lists = [generator.integers(0, NUM_ITEMS, n).tolist() for n in generator.integers(2, 9, 40)]
    log = gs.Sessions.from_lists(lists, vocabulary=gs.data.Vocabulary(range(NUM_ITEMS)))

    def mrr(bonuses: tuple[float, ...]) -> float:
        own = model_of()
        own.bonus, own.last_bonus, own.count_bonus = bonuses
        return gs.evaluate(own, log, ks=3).metrics["mrr"]

    for batch_size in (1, 5, 256):
        model = model_of(3.0, last_bonus=2.0).learn_bonus(log, batch_size=batch_size)
        learned = (model.bonus, model.last_bonus, model.count_bonus)
        best = mrr(learned)
        assert best > mrr((0.0, 0.0, 0.0))
        for axis in range(3):
            for step in (*STEPS, *(-step for step in STEPS)):
                near = list(learned)
                near[axis] += step
                assert mrr(tuple(near)) <= best + 1e-12


def test_bonuses_of_a_base_that_reads_the_time_of_the_target_are_chosen_with_it() -> None:
    generator = np.random.default_rng(2)
    lists = [generator.integers(0, NUM_ITEMS, n).tolist() for n in generator.integers(2, 9, 40)]
    log = gs.Sessions.from_lists(lists, vocabulary=gs.data.Vocabulary(range(NUM_ITEMS)))
    log = replace(log, time=np.cumsum(10.0 ** generator.uniform(0, 6, log.num_clicks)))
    model = model_of(base="hstu", time="request")
    model.attach(log.catalog(), log)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    model.learn_bonus(log)
    best = gs.evaluate(model, log, ks=3).metrics["mrr"]
    learned = (model.bonus, model.last_bonus, model.count_bonus)
    for axis, step in product(range(3), (STEPS[-1], -STEPS[-1])):
        near = list(learned)
        near[axis] += step
        model.bonus, model.last_bonus, model.count_bonus = near
        assert gs.evaluate(model, log, ks=3).metrics["mrr"] <= best + 1e-12


@pytest.mark.parametrize(
    ("lists", "name", "sign"),
    [
        ([[1, 2, 3, 1], [2, 3, 0, 2]], "bonus", 1),  # each session comes back
        ([[1, 2, 3, 0], [2, 3, 0, 1]], "bonus", -1),  # none does
        ([[1, 1, 1, 1], [2, 2, 2, 2]], "last_bonus", 1),
        ([[1, 2, 3, 0], [2, 3, 0, 1]], "last_bonus", -1),
    ],
)
def test_learned_bonus_has_the_sign_of_what_sessions_do(lists, name, sign) -> None:
    torch.manual_seed(3)
    model = model_of()
    with torch.no_grad():  # the session's items lead, or come last, but for the bonus
        model.inner.items.weight.normal_()
    log = gs.Sessions.from_lists(lists * 2, vocabulary=gs.data.Vocabulary(range(NUM_ITEMS)))
    assert sign * getattr(model.learn_bonus(log), name) > 0


def test_bonuses_that_change_nothing_stay_at_zero_and_none_runs_away() -> None:
    assert _highest(lambda bonuses: 1.0, (0.0, 0.0)) == (0.0, 0.0)
    assert _highest(sum, (0.0, 0.0)) == (LARGEST, LARGEST)
    peak = (3.359375, -0.5)
    assert _highest(lambda at: -abs(at[0] - peak[0]) - abs(at[1] - peak[1]), (0.0, 0.0)) == peak


@pytest.mark.parametrize("seed", range(20))
def test_no_step_of_any_size_leads_higher_from_what_the_search_finds(seed: int) -> None:
    slopes, places = np.random.default_rng(seed).normal(size=(2, 12, 2))

    def value(at: tuple[float, ...]) -> float:  # with many local maxima
        return float(np.cos(3 * (slopes @ np.array(at)) + places[:, 0]).round(1).sum())

    best = _highest(value, (0.0, 0.0))
    assert value(best) >= value((0.0, 0.0))
    for axis, step, sign in product(range(2), STEPS, (1, -1)):
        near = list(best)
        near[axis] += sign * step
        assert abs(near[axis]) > LARGEST or value(tuple(near)) <= value(best)


@pytest.mark.parametrize("farthest", [1, 5, 1000])
def test_places_under_all_bonuses_are_those_of_evaluate(farthest, monkeypatch) -> None:
    monkeypatch.setattr("graphseq.models.features.with_repeats.FARTHEST", farthest)
    generator = np.random.default_rng(1)
    lists = [generator.integers(0, 30, n).tolist() for n in generator.integers(2, 12, 40)]
    log = gs.Sessions.from_lists(lists, vocabulary=gs.data.Vocabulary(range(30)))
    model = WithRepeats(30, "sasrec", arguments={"hidden_channels": 8, "max_length": 5})
    model.attach(log.catalog(), log)
    tried = [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.05, -0.04, 0.02), (-0.1, 0.0, 0.3)]
    dataset = gs.SessionGraphDataset(log, samples="prefixes")
    with torch.no_grad():
        returns = model.eval()._returns(dataset.batch(np.arange(len(dataset))))
    for bonuses in tried:
        model.bonus, model.last_bonus, model.count_bonus = bonuses
        ranks = gs.evaluate(model, log).ranks
        expected = 1 + ranks["better"].to_numpy() + ranks["tied"].to_numpy() / 2
        found = returns.places(bonuses).numpy()
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
    model = model_of().learn_bonus(log)
    learned = (model.bonus, model.last_bonus, model.count_bonus)
    assert any(learned)
    model.save(tmp_path / "model")
    loaded = gs.load(tmp_path / "model")
    assert (loaded.bonus, loaded.last_bonus, loaded.count_bonus) == learned
    grown = gs.grow(model, gs.Sessions.from_lists([[0, 9]]))
    assert (grown.bonus, grown.last_bonus, grown.count_bonus) == learned
    assert grown.num_items == NUM_ITEMS + 1


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
    for name in ("last_bonus", "count_bonus"):
        with pytest.raises((ValueError, TypeError), match=name):
            WithRepeats(NUM_ITEMS, **{name: bonus})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["with_features", "with_repeats", "with_user"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([1], r"^arguments is a mapping of arguments of sasrec by name, got \[1\]\.$"),
        ({"num_items": 3}, "^arguments has 'num_items', which sasrec does not take"),
        ({"foo": 3}, "^arguments has 'foo', .* it takes hidden_channels, num_layers, heads,"),
        ({1: 3}, "^arguments has 1, which sasrec does not take"),
    ],
)
def test_arguments_that_no_base_takes_are_refused(
    name: str, arguments: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        MODELS[name](NUM_ITEMS, base="sasrec", arguments=arguments)


def test_wrong_bases_and_parts_are_refused() -> None:
    for base in ("markov", "tagnn", "with_repeats", "nothing"):
        with pytest.raises(ValueError, match="base is one of"):
            WithRepeats(NUM_ITEMS, base)
    with pytest.raises(ValueError, match="no target that is known"):
        model_of().learn_bonus(gs.Sessions.from_lists([[0, 99]]))
    assert "with_repeats" in MODELS
