"""Attention read out of models: equal to a naive recomputation, and nothing of it stays behind."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.models import MODELS, SessionModel, attention_of, gates_of
from graphseq.models.use.attention import FAMILIES
from graphseq.nn.attention import SelfAttention
from graphseq.nn.recording import recorded_weights
from graphseq.testing.examples import NUM_ITEMS, training_sessions

SESSION = [3, 5, 3, 0, 7]
CAUSAL = ("sasrec", "bst", "hstu", "core")


def model_of(name: str, **settings: Any) -> SessionModel:
    torch.manual_seed(0)
    model: SessionModel = MODELS[name](NUM_ITEMS, **settings)
    sessions = training_sessions()
    model.attach(sessions.catalog(), sessions)
    with torch.no_grad():  # far enough from the start that weights differ
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def batch_of(items: list[int]) -> Batch:
    return build_session_graphs(torch.tensor(items), torch.tensor([0, len(items)]))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_of_the_list_tells_its_attention_and_others_are_refused(name: str) -> None:
    found = attention_of(model_of(name), SESSION)
    assert found.layers or found.clicks is not None
    assert found.places[:5].tolist() == SESSION
    for layer in found.layers:
        assert layer.shape[2] == len(found.places)
        if name != "hstu":
            np.testing.assert_allclose(layer.sum(2), 1.0, rtol=1e-5)
    if found.clicks is not None:
        assert found.clicks.shape == (5,)


@pytest.mark.parametrize("name", ["gru4rec", "caser", "hgru4rec", "popularity", "vsknn"])
def test_models_without_attention_say_which_have_it(name: str) -> None:
    with pytest.raises(ValueError, match="has no attention; these families have: sasrec"):
        attention_of(MODELS[name](NUM_ITEMS), SESSION)


@pytest.mark.parametrize("name", CAUSAL)
def test_causal_attention_is_zero_above_the_diagonal_and_of_a_prefix_the_same(name: str) -> None:
    model = model_of(name)
    whole, prefix = attention_of(model, SESSION), attention_of(model, SESSION[:3])
    for long, short in zip(whole.layers, prefix.layers, strict=True):
        assert (np.triu(long[0], 1) == 0).all()
        assert (np.abs(long[0][np.tril_indices(5)]) > 0).all()
        np.testing.assert_allclose(long[:, :3, :3], short, rtol=1e-5, atol=1e-6)


def test_two_sided_attention_sees_later_clicks_and_the_masked_place() -> None:
    found = attention_of(model_of("bert4rec"), SESSION)
    assert found.places.tolist() == [*SESSION, -1]
    assert all((layer > 0).all() for layer in found.layers)
    assert all(layer.shape == (2, 6, 6) for layer in found.layers)


@pytest.mark.parametrize("block", ["pre_norm", "post_norm", "published", "ligr"])
@pytest.mark.parametrize("heads", [1, 2])
def test_attention_of_sasrec_equals_a_naive_softmax(block: str, heads: int) -> None:
    model = model_of("sasrec", block=block, heads=heads, hidden_channels=8, num_layers=1)
    (layer,) = attention_of(model, SESSION).layers
    items = torch.tensor(SESSION)
    x = (model.items.weight[items] + model.positions.weight[:5]).detach()  # type: ignore[operator,index,union-attr]
    inner: Any = model.blocks[0]  # type: ignore[index]
    attention: SelfAttention = inner.attention
    asks = x if block == "post_norm" else inner.norm_attention(x)
    source = x if block in ("post_norm", "published") else asks
    q = attention.lin_query(asks).detach().view(5, heads, -1)
    k = attention.lin_key(source).detach().view(5, heads, -1)
    for head in range(heads):
        for row in range(5):
            logits = [
                float(q[row, head] @ k[column, head]) / math.sqrt(8 / heads)
                for column in range(row + 1)
            ]
            expected = np.exp(logits) / np.exp(logits).sum()
            np.testing.assert_allclose(layer[head, row, : row + 1], expected, rtol=1e-4)


def test_weights_of_the_readout_are_those_that_make_the_session_vector() -> None:
    model = model_of("srgnn", hidden_channels=8, hybrid=False)
    clicks = attention_of(model, SESSION).clicks
    assert clicks is not None
    batch = batch_of(SESSION)
    with torch.no_grad():
        h = model.node_states(batch)[batch.click_index]  # type: ignore[operator]
        vector = (torch.from_numpy(clicks)[:, None] * h).sum(0)
        torch.testing.assert_close(model(batch)[0], vector)


@pytest.mark.parametrize("name", ["core", "srgnn"])
def test_click_weights_with_a_softmax_sum_to_one(name: str) -> None:
    model = model_of(name, **({"readout": "softmax"} if name == "srgnn" else {}))
    clicks = attention_of(model, SESSION).clicks
    assert clicks is not None
    assert clicks.sum() == pytest.approx(1.0, rel=1e-5)
    assert (clicks > 0).all()


def test_weights_of_core_make_its_session_vector() -> None:
    model = model_of("core", hidden_channels=8)
    clicks = attention_of(model, SESSION).clicks
    assert clicks is not None
    with torch.no_grad():
        rows = model.items.weight[torch.tensor(SESSION)]
        vector = model.items.vectors((torch.from_numpy(clicks)[:, None] * rows).sum(0)[None])
        torch.testing.assert_close(model(batch_of(SESSION)), vector, rtol=1e-4, atol=1e-5)


def test_candidate_of_the_ranker_stands_last_and_its_states_give_its_scores() -> None:
    model = model_of("bst_ranker", hidden_channels=8, mlp_channels=(4,))
    found = attention_of(model, SESSION, item=9)
    assert found.places.tolist() == [*SESSION, -2]
    other = attention_of(model, SESSION, item=2)
    assert not np.allclose(found.layers[0], other.layers[0])
    batch, items = batch_of(SESSION), torch.arange(NUM_ITEMS)
    with torch.no_grad():
        states = model.states_in_rows(batch, items)  # type: ignore[operator]
        torch.testing.assert_close(model._logits(states, None), model.score(batch))  # type: ignore[operator]
    with pytest.raises(ValueError, match="knows no item 99"):
        attention_of(model, SESSION, item=99)


def test_recording_ends_with_its_block_and_changes_no_score() -> None:
    model = model_of("bert4rec")
    batch = batch_of(SESSION)
    with torch.no_grad():
        before = model.score(batch)
        with recorded_weights(model) as weights:
            during = model.score(batch)
        count = len(weights)
        after = model.score(batch)
    assert count == 2
    assert len(weights) == count
    assert torch.equal(before, during)
    assert torch.equal(before, after)
    assert not any(layer._forward_pre_hooks for layer in model.modules())


def test_only_the_newest_clicks_that_a_model_sees_are_told() -> None:
    found = attention_of(model_of("sasrec", max_length=3), SESSION)
    assert found.places.tolist() == SESSION[-3:]
    masked = attention_of(model_of("bert4rec", max_length=3), SESSION)
    assert masked.places.tolist() == [*SESSION[-2:], -1]


def test_attention_is_of_one_known_session() -> None:
    model = model_of("sasrec")
    with pytest.raises(ValueError, match="One session is looked at, got 2"):
        attention_of(model, [[1], [2]])
    with pytest.raises(ValueError, match="no item that the model knows"):
        attention_of(model, [77])
    assert attention_of(model, [[3, 5]]).places.tolist() == [3, 5]
    assert attention_of(model, np.array([3, 5])).places.tolist() == [3, 5]


@pytest.mark.parametrize("settings", [{}, {"num_layers": 2}, {"lower_channels": [3]}])
def test_gates_of_gru4rec_carry_its_state_to_where_torch_does(settings: dict[str, Any]) -> None:
    model = model_of("gru4rec", hidden_channels=4, **settings)
    gates = gates_of(model, SESSION)
    assert gates.items.tolist() == SESSION
    layers = len(gates.update)
    assert gates.update.shape == gates.reset.shape == (layers, 5, 4)
    known = gates.update[~np.isnan(gates.update)]
    assert ((known > 0) & (known < 1)).all()
    assert bool(np.isnan(gates.update).any()) == ("lower_channels" in settings)
    # With the update gate known, torch's own states tell what the new content was: in (-1, 1).
    with torch.no_grad():
        states = model.click_states(batch_of(SESSION)).numpy()
    old = np.concatenate([np.zeros((1, 4)), states[:-1]])
    content = (states - gates.update[-1] * old) / (1 - gates.update[-1])
    assert np.abs(content).max() < 1
    # By hand, for the first click: the state before is zero.
    if not settings:
        gru: Any = model.gru
        x = model.items.weight[SESSION[0]].detach()
        bias = (gru.bias_ih_l0 + gru.bias_hh_l0)[4:8].detach()
        z = (gru.weight_ih_l0[4:8].detach() @ x + bias).sigmoid()
        np.testing.assert_allclose(gates.update[0, 0], z, rtol=1e-5)


def test_gates_of_another_family_are_refused() -> None:
    with pytest.raises(ValueError, match="SASRec has no gates; gru4rec has"):
        gates_of(model_of("sasrec"), SESSION)
