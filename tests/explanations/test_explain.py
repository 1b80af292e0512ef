"""Explanations: equal to what a naive loop finds, for every family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import graphseq as gs
from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.explanations import gradients
from graphseq.explanations.gradients import integrated_gradients
from graphseq.models import MODELS, SessionModel
from graphseq.models.counting.counting import CountingModel
from graphseq.testing.examples import NUM_ITEMS, training_sessions

SESSION = [3, 5, 3, 0, 7]
COUNTING = ("popularity", "session_popularity", "markov", "sequential_rules", "item_knn", "vsknn")
GRADIENTS = (
    "srgnn",
    "tagnn",
    "gcegnn",
    "sgnnhn",
    "gru4rec",
    "sasrec",
    "hstu",
    "bsarec",
    "core",
    "bert4rec",
    "caser",
    "hgru4rec",
    "with_user",
    "bst",
    "bst_ranker",
)


def model_of(name: str, **settings: Any) -> SessionModel:
    torch.manual_seed(0)
    if name == "bst_ranker":
        settings = {"mlp_channels": (8,), **settings}
    model: SessionModel = MODELS[name](NUM_ITEMS, **settings)
    sessions = training_sessions()
    model.attach(sessions.catalog(), sessions)
    if isinstance(model, CountingModel):
        model.fit_counts(sessions)
        return model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def scores_of(model: SessionModel, items: list[int]) -> np.ndarray:
    batch = build_session_graphs(torch.tensor(items), torch.tensor([0, len(items)]))
    with torch.no_grad():
        return model.score(batch)[0].double().numpy()


def margin(model: SessionModel, items: list[int], item: int) -> float:
    scores = scores_of(model, items)
    return float(scores[item] - scores[np.isfinite(scores)].mean())


@pytest.mark.parametrize("name", [*COUNTING, *GRADIENTS])
def test_leave_one_out_is_what_the_score_loses_for_every_family(name: str) -> None:
    model = model_of(name)
    found = gs.explain(model, SESSION, 4)
    whole = margin(model, SESSION, 4)
    for place in range(5):
        rest = SESSION[:place] + SESSION[place + 1 :]
        assert found.clicks[place] == pytest.approx(whole - margin(model, rest, 4), abs=1e-4)
    assert found.transitions is not None
    for place in range(4):
        swapped = list(SESSION)
        swapped[place : place + 2] = swapped[place + 1], swapped[place]
        expected = whole - margin(model, swapped, 4)
        assert found.transitions[place] == pytest.approx(expected, abs=1e-4)
    scores = scores_of(model, SESSION)
    assert found.score == pytest.approx(scores[4], abs=1e-4)
    assert (found.item, list(found.session)) == (4, SESSION)


def test_item_left_out_is_the_one_recommended_first() -> None:
    model = model_of("sasrec")
    found = gs.explain(model, SESSION)
    assert found.item == model.recommend([SESSION], k=1)[0][0][0]
    assert found.rank == 1
    model.delist([found.item])
    assert gs.explain(model, SESSION).item == model.recommend([SESSION], k=1)[0][0][0]


@pytest.mark.parametrize("name", GRADIENTS)
def test_integrated_gradients_sum_to_what_the_score_gains_from_mean_items(name: str) -> None:
    model = model_of(name)
    session = [3, 5, 3, 0]
    batch = build_session_graphs(torch.tensor(session), torch.tensor([0, 4]))
    effects = integrated_gradients(model, batch, 4, steps=200)
    assert effects.shape == (4,)
    # The same sum at both ends of the way: by hooks that put the mean in the place of the clicks.
    tables = [layer for layer in model.modules() if isinstance(layer, torch.nn.Embedding)]

    def mean(layer: Any, given: Any, output: Any) -> Any:
        index = given[0]
        told = index.dim() == 1 and len(index) >= len(batch.x)
        if not told or not (index[:4].tolist() == session or index.tolist() == batch.x.tolist()):
            return None
        out = output.clone()
        out[: 4 if index[:4].tolist() == session else 3] = layer.weight.mean(0)
        return out

    with torch.no_grad():
        whole = model.score(batch)[0].double()
        hooks = [layer.register_forward_hook(mean) for layer in tables]
        if model.scores_by_table:
            start = model.score(batch)[0].double()
        else:
            start = model.score(batch, torch.arange(NUM_ITEMS))[0].double()
        for hook in hooks:
            hook.remove()
    gained = float((whole[4] - whole.mean()) - (start[4] - start.mean()))
    assert effects.sum() == pytest.approx(gained, rel=0.05, abs=0.01)


@pytest.mark.parametrize("name", ["srgnn", "sasrec", "bst"])
def test_integrated_gradients_of_captum_equal_those_by_hand(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(name)
    used: list[str] = []
    captum = gradients.captum_attr()
    attribute = captum.IntegratedGradients.attribute
    monkeypatch.setattr(
        captum.IntegratedGradients,
        "attribute",
        lambda *a, **k: used.append("captum") or attribute(*a, **k),
    )
    by_captum = gs.explain(model, SESSION, 4, method="integrated_gradients", steps=8).clicks
    assert used == ["captum"]
    monkeypatch.setattr(gradients, "captum_attr", lambda: None)
    by_hand = gs.explain(model, SESSION, 4, method="integrated_gradients", steps=8).clicks
    assert used == ["captum"]
    assert np.abs(by_hand).max() > 1e-3
    np.testing.assert_allclose(by_captum, by_hand, rtol=1e-4, atol=1e-6)


def test_integrated_gradients_of_a_linear_model_are_exact() -> None:
    """With the mean of its clicks as the vector, each click has its own inner product."""
    linear = model_of("core", num_layers=0)
    linear.items.normalize = False
    effects = integrated_gradients(
        linear, build_session_graphs(torch.tensor(SESSION), torch.tensor([0, 5])), 4, steps=3
    )
    weight = linear.items.weight.detach().double()
    away = weight[torch.tensor(SESSION)] - weight.mean(0)
    target = weight[4] - weight.mean(0)
    np.testing.assert_allclose(effects, away @ target / 5, rtol=1e-4, atol=1e-6)


def test_integrated_gradients_leave_model_and_gradients_as_they_were() -> None:
    model = model_of("gru4rec", dropout=0.5).train()
    before = [parameter.clone() for parameter in model.parameters()]
    found = gs.explain(model, SESSION, 4, method="integrated_gradients")
    assert found.transitions is None
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    for parameter, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, old)
    assert not any(layer._forward_hooks for layer in model.modules())
    again = gs.explain(model, SESSION, 4, method="integrated_gradients")
    np.testing.assert_array_equal(found.clicks, again.clicks)


@pytest.mark.parametrize("name", ["srgnn", "tagnn"])
def test_explainer_of_pyg_gives_each_transition_a_mask(name: str) -> None:
    model = model_of(name)
    state = torch.random.get_rng_state()
    found = gs.explain(model, [3, 5, 3, 5, 0], 4, method="gnn_explainer")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert found.transitions is not None
    assert ((found.transitions >= 0) & (found.transitions <= 1)).all()
    assert found.transitions[0] == found.transitions[2]  # 3 -> 5 is one edge
    sums = np.convolve(found.transitions, [0.5, 0.5])
    np.testing.assert_allclose(found.clicks, sums)
    again = gs.explain(model, [3, 5, 3, 5, 0], 4, method="gnn_explainer")
    np.testing.assert_array_equal(found.clicks, again.clicks)


@pytest.mark.parametrize(
    ("name", "method", "message"),
    [
        ("vsknn", "integrated_gradients", "reads no embedding of its clicks"),
        ("vsknn", "gnn_explainer", "VSKNN passes no messages along transitions"),
        ("sasrec", "gnn_explainer", "SASRec passes no messages along transitions"),
        ("gcegnn", "gnn_explainer", "explain srgnn or tagnn"),
        ("sasrec", "guess", "method"),
    ],
)
def test_methods_that_do_not_fit_say_so(name: str, method: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gs.explain(model_of(name), SESSION, 4, method=method)


def test_model_is_as_before_after_an_explainer_that_failed() -> None:
    model = model_of("gcegnn")
    before = gs.explain(model, SESSION, 4).clicks
    with pytest.raises(ValueError, match="explain srgnn or tagnn"):
        gs.explain(model, SESSION, 4, method="gnn_explainer")
    np.testing.assert_array_equal(gs.explain(model, SESSION, 4).clicks, before)


def test_item_without_a_title_is_drawn_with_its_id() -> None:
    sessions = gs.Sessions.from_lists([["a", "b", "c"], ["x", "b", "c"], ["x", "a"]] * 4)
    model = gs.models.MarkovChain(sessions.num_items)
    gs.fit(model, sessions)
    code = int(sessions.vocabulary.encode(["x"])[0])
    ax = gs.explain(model, ["x", "b"], "c").draw(labels={code: "A title"})
    texts = [text.get_text() for text in ax.texts]
    assert "A title" in texts
    assert "b" in texts
    assert ax.get_title() == "MarkovChain: what speaks for c (leave one out)"


def test_what_cannot_be_explained_says_so() -> None:
    model = model_of("sasrec")
    with pytest.raises(ValueError, match="knows no item 99"):
        gs.explain(model, SESSION, 99)
    with pytest.raises(ValueError, match="no item that the model knows"):
        gs.explain(model, [99])
    with pytest.raises(ValueError, match="got 2"):
        gs.explain(model, [[1], [2]])


def test_only_click_is_compared_with_others_in_its_place() -> None:
    model = model_of("sasrec")
    found = gs.explain(model, [3], 4)
    others = [margin(model, [other], 4) for other in range(NUM_ITEMS) if other != 3]
    assert found.clicks == pytest.approx([margin(model, [3], 4) - np.mean(others)], abs=1e-4)
    assert found.transitions is not None
    assert len(found.transitions) == 0
    assert len(found.to_frame()) == 1
    np.testing.assert_allclose(gs.explain(model_of("popularity"), [3], 4).clicks, 0, atol=1e-9)


def test_clicks_that_a_model_does_not_see_are_counted() -> None:
    model = model_of("sasrec", max_length=3)
    found = gs.explain(model, SESSION, 4)
    assert (found.unseen, list(found.session)) == (2, [3, 0, 7])
    masked = gs.explain(model_of("bert4rec", max_length=3), SESSION, 4)
    assert (masked.unseen, list(masked.session)) == (3, [0, 7])


def test_planted_cause_of_a_second_order_rule_is_the_last_two_clicks() -> None:
    """x[t + 1] = x[t] + x[t - 1] mod m: what the generator plants, and order 2 can learn."""
    sessions = gs.generate_sessions(1500, 100, pattern=1.0, loops=0.0, mean_length=8.0, seed=0)
    split = gs.session_split(sessions, test_fraction=0.1, seed=0)
    model = gs.models.MarkovChain(split.num_items, order=2)
    gs.fit(model, split)
    hits = []
    for session in list(split.test[:60]):
        if len(session) < 6:
            continue
        history, target = session[:5], (session[3] + session[4]) % 12
        if model.recommend([history], k=1)[0][0][0] == target:
            order = gs.explain(model, history, target).order()
            hits.append(set(order[:2].tolist()) == {3, 4})
    assert len(hits) >= 10
    assert np.mean(hits) > 0.9


def test_table_has_a_row_per_click_and_transition() -> None:
    found = gs.explain(model_of("srgnn"), SESSION, 4)
    table = found.to_frame()
    assert table["kind"].tolist() == ["click"] * 5 + ["transition"] * 4
    assert table["item"].tolist() == SESSION + SESSION[:-1]
    assert table["next_item"].tolist()[5:] == SESSION[1:]
    np.testing.assert_array_equal(table["effect"][:5], found.clicks)
    for _, rows in table.groupby("kind"):
        assert rows["share"].abs().sum() == pytest.approx(1)
    assert list(found.order()) == sorted(range(5), key=lambda n: -found.clicks[n])


def test_picture_shows_effects_on_the_graph_and_the_item_beside_it(tmp_path: Path) -> None:
    found = gs.explain(model_of("srgnn"), SESSION, 4)
    titles = [f"title {code}" for code in range(NUM_ITEMS)]
    ax = found.draw(labels=titles, path=tmp_path / "why.svg")
    texts = {str(text.get_gid()): text.get_text() for text in ax.texts}
    assert texts["score-0"].startswith(f"#{found.rank} title 4")
    assert ax.get_title() == "SRGNN: what speaks for title 4 (leave one out)"
    value = float(texts["order-0"])
    assert value == pytest.approx(found.clicks[0] + found.clicks[2], abs=0.006)
    assert (tmp_path / "why.svg").exists()
    assert gs.explain(model_of("sasrec"), [3], 4).draw().texts  # one click alone
