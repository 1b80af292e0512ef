"""Knowledge graphs of items, and vectors from them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch_geometric.data import HeteroData

import graphseq as gs
from graphseq.training import relation_vectors
from graphseq.training.relational_gcn import Negatives, RelationalGCN


def log(table):
    ids = gs.data.Vocabulary(range(len(table)))
    return replace(gs.Sessions.from_lists([[0, 1], [1, 2]], vocabulary=ids), item_features=table)


TABLE = pd.DataFrame(
    {"brand": ["x", "y", None, "x"], "genres": ["a|b", "", "b", "c"], "price": [1.0, 5.0, 9.0, 2.0]}
)
WANTED = ["brand", {"name": "genres", "kind": "multi_hot", "separator": "|"}]


def graph():
    sessions = log(TABLE)
    specs = gs.data.feature_specs(sessions, item=WANTED)["item_features"]
    return gs.data.knowledge_graph(sessions, specs)


def test_edges_are_the_values_that_items_have():
    made = graph()
    assert made.node_types == ["item", "brand", "genres"]
    assert made["item"].num_nodes == 4
    assert made["item", "has_brand", "brand"].edge_index.tolist() == [[0, 1, 3], [0, 1, 0]]
    assert made["item", "has_genres", "genres"].edge_index.tolist() == [[0, 0, 2, 3], [0, 1, 1, 2]]
    made.validate()


@pytest.mark.parametrize(("method", "epochs"), [("transe", 200), ("rgcn", 60)])
def test_items_with_the_same_values_get_near_vectors_and_an_unrelated_one_zeros(method, epochs):
    table = pd.DataFrame(
        {
            "brand": [f"b{n % 4}" for n in range(40)] + [None],
            "kind": [f"k{n % 4 % 2}" for n in range(40)] + [None],
        }
    )
    sessions = log(table)
    specs = gs.data.feature_specs(sessions, item=["brand", "kind"])["item_features"]
    made = gs.data.knowledge_graph(sessions, specs)
    found = relation_vectors(made, 8, method=method, epochs=epochs, learning_rate=0.05, seed=1)
    assert found.shape == (41, 8)
    assert not found[40].any()
    unit = found[:40] / np.linalg.norm(found[:40], axis=1, keepdims=True)
    near = unit @ unit.T
    same = np.equal.outer(np.arange(40) % 4, np.arange(40) % 4)
    assert near[same].mean() > near[~same].mean() + 0.3


def test_same_seed_same_vectors_and_torchs_own_state_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = relation_vectors(graph(), 4, epochs=2, seed=3)
    assert torch.equal(torch.rand(1), expected)
    assert np.array_equal(first, relation_vectors(graph(), 4, epochs=2, seed=3))
    assert not np.array_equal(first, relation_vectors(graph(), 4, epochs=2, seed=4))


def test_false_edges_have_another_item_or_another_value_of_the_same_feature():
    negatives = Negatives(torch.tensor([10, 13]), torch.tensor([3, 4]), 10)
    head, kind = torch.arange(10).repeat(40), torch.arange(2).repeat(200)
    tail = torch.where(kind == 0, 11, 14)
    u, r, v = negatives.draw(head, kind, tail)
    assert torch.equal(r, kind)
    assert torch.equal(v[:200], tail[:200])
    assert torch.equal(u[200:], head[200:])
    assert set(u[:200].tolist()) == set(range(10))
    assert set(v[200:][kind[200:] == 0].tolist()) == {10, 11, 12}
    assert set(v[200:][kind[200:] == 1].tolist()) == {13, 14, 15, 16}


def test_rgcn_passes_messages_by_hand():
    """One item, one value: each node gets its root part and the mean over the relation."""
    edges, kinds = torch.tensor([[0, 1], [2, 2]]), torch.tensor([0, 0])
    negatives = Negatives(torch.tensor([2]), torch.tensor([1]), 2)
    model = RelationalGCN(negatives, edges, kinds, 3, 1, 2)
    e, first, second = model.node_emb.weight, model.first, model.second

    def layer(conv, h):
        to_value = torch.stack([h[0] * 0, h[0] * 0, (h[0] + h[1]) / 2]) @ conv.weight[0]
        to_items = torch.stack([h[2], h[2], h[2] * 0]) @ conv.weight[1]
        return h @ conv.root + conv.bias + to_value + to_items

    torch.testing.assert_close(model.vectors(), layer(second, layer(first, e).relu()))


@pytest.mark.parametrize("method", ["transe", "rgcn"])
def test_vectors_to_refine_are_where_learning_starts(method):
    random = np.random.default_rng(0)
    drawn = random.normal(size=(4, 6))
    kept, other = (
        relation_vectors(
            graph(), 6, method=method, start=start, epochs=1, learning_rate=1e-9, seed=0
        )
        for start in (drawn, -drawn)
    )
    assert not np.allclose(kept, other)
    if method == "transe":
        unit = drawn[[0, 2, 3]] / np.linalg.norm(drawn[[0, 2, 3]], axis=1, keepdims=True)
        np.testing.assert_allclose(kept[[0, 2, 3]], unit, atol=1e-4)


def test_bad_input_is_named():
    sessions = log(TABLE)
    with pytest.raises(ValueError, match="at least one feature"):
        gs.data.knowledge_graph(sessions, [])
    with pytest.raises(ValueError, match="no feature 'color'"):
        gs.data.knowledge_graph(sessions, [{"name": "color", "kind": "categorical", "size": 2}])
    with pytest.raises(ValueError, match="'price' is no relation"):
        gs.data.knowledge_graph(sessions, [{"name": "price", "kind": "vector", "size": 2}])
    nothing = log(TABLE.assign(brand=None))
    specs = [{"name": "brand", "kind": "categorical", "values": ["x"]}]
    with pytest.raises(ValueError, match="has no edge"):
        relation_vectors(gs.data.knowledge_graph(nothing, specs))
    with pytest.raises(ValueError, match="channels must be at least 1"):
        relation_vectors(graph(), 0)
    with pytest.raises(TypeError, match="takes a HeteroData"):
        relation_vectors({"item": 4})
    with pytest.raises(ValueError, match="method"):
        relation_vectors(graph(), 4, method="gcn")
    with pytest.raises(ValueError, match=r"\[4, 3\], got \[4, 5\]"):
        relation_vectors(graph(), 3, start=np.zeros((4, 5)))
    with pytest.raises(ValueError, match="not finite"):
        relation_vectors(graph(), 3, start=np.full((4, 3), np.nan))


@pytest.mark.parametrize("method", ["transe", "rgcn"])
def test_edges_that_lead_nowhere_are_named(method):
    def built(source, target, edges, sizes):
        graph = HeteroData()
        for name, size in sizes.items():
            graph[name].num_nodes = size
        graph[source, "has", target].edge_index = torch.tensor(edges)
        return graph

    for graph, message in (
        (
            built("item", "b", [[0, 7], [0, 1]], {"item": 3, "b": 2}),
            r"'item' outside 0\.\.2: 0\.\.7",
        ),
        (built("item", "b", [[0, 1], [0, 2]], {"item": 3, "b": 2}), r"'b' outside 0\.\.1: 0\.\.2"),
        (built("item", "b", [[0, -1], [0, 1]], {"item": 3, "b": 2}), r"'item' outside 0\.\.2: -1"),
        (built("b", "item", [[0, 1], [0, 1]], {"item": 3, "b": 2}), "do not start at items"),
        (built("item", "b", [[0, 1], [0, 1]], {"item": 3}), r"set graph\['b'\].num_nodes"),
        (built("item", "b", [0, 1], {"item": 3, "b": 2}), r"\[2, num_edges\], got \[2\]"),
        (built("item", "b", [[0.0], [1.0]], {"item": 3, "b": 2}), "holds whole numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            relation_vectors(graph, 4, method=method, epochs=1)


def test_items_may_be_related_to_items():
    graph = HeteroData()
    graph["item"].num_nodes = 3
    graph["item", "also", "item"].edge_index = torch.tensor([[0], [1]])
    found = relation_vectors(graph, 4, epochs=1)
    assert np.linalg.norm(found, axis=1) == pytest.approx([1, 1, 0])
