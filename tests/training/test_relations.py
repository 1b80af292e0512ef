"""Knowledge graphs of items, and vectors from them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import graphseq as gs
from graphseq.training import relation_vectors


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


def test_items_with_the_same_values_get_near_vectors_and_an_unrelated_one_zeros():
    table = pd.DataFrame(
        {
            "brand": [f"b{n % 4}" for n in range(40)] + [None],
            "kind": [f"k{n % 4 % 2}" for n in range(40)] + [None],
        }
    )
    sessions = log(table)
    specs = gs.data.feature_specs(sessions, item=["brand", "kind"])["item_features"]
    made = gs.data.knowledge_graph(sessions, specs)
    found = relation_vectors(made, 8, epochs=300, learning_rate=0.05, seed=1)
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
