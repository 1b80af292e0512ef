"""The graph of all items: counted as a naive loop does, drawn, and written for other programs."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.patches import FancyArrowPatch
from torch_geometric.loader import RandomNodeLoader
from torch_geometric.nn import GraphConv

from graphseq.data import SessionGraphDataset, Sessions, generate_sessions, transition_graph
from graphseq.visualization import draw_transition_graph, export_graph, transition_network

SHOP = [["a", "b", "a", "b"], ["b", "c"], ["c", "c", "a"], ["d"]]
SHOP_LOG = Sessions.from_lists(SHOP)


@given(st.lists(st.lists(st.integers(-1, 5), min_size=1, max_size=8), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_transition_graph_counts_as_a_loop_does(lists: list[list[int]]) -> None:
    items = np.array([item for each in lists for item in each], dtype=np.int32)
    ptr = np.cumsum([0, *map(len, lists)])
    sessions = Sessions.from_ragged(np.arange(6), [0, 6])
    sessions = Sessions(items, ptr.astype(np.int64), sessions.vocabulary)
    expected = Counter(
        pair for each in lists for pair in itertools.pairwise(each) if min(pair) >= 0
    )
    graph = transition_graph(sessions)
    pairs = [tuple(edge) for edge in graph.edge_index.t().tolist()]
    assert dict(zip(pairs, graph.edge_weight.tolist(), strict=True)) == expected
    assert pairs == sorted(pairs)
    assert graph.clicks.tolist() == [int((items == item).sum()) for item in range(6)]


def test_transition_graph_leaves_out_what_is_rare() -> None:
    graph = transition_graph(Sessions.from_lists(SHOP), min_count=2)
    assert graph.edge_index.tolist() == [[0], [1]]
    with pytest.raises(ValueError, match="min_count"):
        transition_graph(Sessions.from_lists(SHOP), min_count=0)
    with pytest.raises(ValueError, match="sessions"):
        transition_graph(SHOP)  # type: ignore[arg-type]


def test_transition_graph_goes_through_layers_and_samplers_of_pyg() -> None:
    graph = transition_graph(generate_sessions(200, 60, seed=1))
    graph.validate()
    out = GraphConv(3, 4)(torch.randn(60, 3), graph.edge_index, graph.edge_weight)
    assert out.shape == (60, 4)
    seen = []
    for part in RandomNodeLoader(graph, num_parts=4):
        seen += part.x.tolist()
        inside = torch.isin(graph.edge_index, part.x).all(0)
        assert part.edge_weight.sum() == graph.edge_weight[inside].sum()
        assert torch.equal(part.clicks, graph.clicks[part.x])
    assert sorted(seen) == list(range(60))


def test_network_of_the_top_items_and_of_those_around_one() -> None:
    sessions = Sessions.from_lists(SHOP)
    graph = transition_network(sessions, top=2)
    assert {graph.nodes[n]["label"] for n in graph} == {"a", "b"}  # three clicks each, as c has
    assert graph.nodes[0]["clicks"] == 3
    assert graph.edges[0, 1]["weight"] == 2.0
    around = transition_network(sessions, around="c", top=2)
    assert {around.nodes[n]["label"] for n in around} == {"c", "a"} or {
        around.nodes[n]["label"] for n in around
    } == {"c", "b"}
    near = transition_network(sessions, around="c")
    assert {near.nodes[n]["label"] for n in near} == {"a", "b", "c"}  # d is no neighbor
    same = transition_network(transition_graph(sessions), around=2, labels=["a", "b", "c", "d"])
    assert nx.utils.graphs_equal(near, same)
    with pytest.raises(ValueError, match="around is one of the 4 items"):
        transition_network(sessions, around="z")


def test_drawing_has_a_node_per_item_and_an_arrow_per_frequent_transition() -> None:
    sessions = generate_sessions(500, 80, seed=0)
    ax = draw_transition_graph(sessions, top=12)
    nodes = next(c for c in ax.collections if c.get_gid() == "nodes")
    assert len(nodes.get_offsets()) == 12
    graph = transition_network(sessions, top=12)
    weights = sorted((w for a, b, w in graph.edges(data="weight") if a != b), reverse=True)[:36]
    arrows = [p for p in ax.patches if isinstance(p, FancyArrowPatch)]
    assert len(arrows) == len(weights)
    widths = [arrow.get_linewidth() for arrow in arrows]
    assert widths == sorted(widths, reverse=True)
    texts = [t.get_text() for t in ax.texts]
    assert sorted(texts) == sorted(graph.nodes[n]["label"] for n in graph)
    assert ax.get_title() == "Transitions between the 12 most clicked items"


def test_communities_have_colors_unless_categories_do() -> None:
    two = [["a", "b", "c", "a"]] * 5 + [["x", "y", "z", "x"]] * 5
    ax = draw_transition_graph(Sessions.from_lists(two))
    nodes = next(c for c in ax.collections if c.get_gid() == "nodes")
    colors = [tuple(c) for c in nodes.get_facecolors()]
    assert len(set(colors[:3])) == len(set(colors[3:])) == 1
    assert colors[0] != colors[3]
    by_kind = draw_transition_graph(Sessions.from_lists(two), categories=["p", "q"] * 3)
    legend = by_kind.get_legend()
    assert legend is not None
    assert [t.get_text() for t in legend.get_texts()][:2] == ["p", "q"]
    network = transition_network(Sessions.from_lists(two), categories=[0, 1, 1, 0, 300, np.nan])
    kinds = [kind for _, kind in network.nodes(data="category")]
    assert kinds == ["0", "1", "1", "0", "300", "unknown"]


def test_drawing_is_the_same_every_time_and_of_one_item_too() -> None:
    sessions = Sessions.from_lists(SHOP)
    first, second = (draw_transition_graph(sessions) for _ in range(2))
    spots = [np.asarray(ax.collections[0].get_offsets()) for ax in (first, second)]
    np.testing.assert_array_equal(*spots)
    assert len(np.unique(spots[0], axis=0)) == 4
    alone = draw_transition_graph(Sessions.from_lists([["a"]]))
    assert [t.get_text() for t in alone.texts] == ["a"]


@pytest.mark.parametrize("suffix", [".graphml", ".gexf", ".json"])
def test_exported_graph_reads_back_equal(tmp_path: Path, suffix: str) -> None:
    labels = ["plain", "böse <&> \x07 title", "c", None]
    graph = transition_network(Sessions.from_lists(SHOP), labels=labels)
    path = export_graph(graph, tmp_path / "deep" / f"graph{suffix}")
    if suffix == ".json":
        read = nx.node_link_graph(json.loads(path.read_text(encoding="utf-8")), edges="edges")
    else:
        read = (nx.read_graphml if suffix == ".graphml" else nx.read_gexf)(path)
    read = nx.relabel_nodes(read, int)
    assert set(read.nodes) == set(graph.nodes)
    assert {edge: read.edges[edge]["weight"] for edge in read.edges} == {
        edge: graph.edges[edge]["weight"] for edge in graph.edges
    }
    assert read.nodes[1]["label"] == "böse <&>  title"
    assert read.nodes[0]["clicks"] == 3
    assert [file.name for file in path.parent.iterdir()] == [f"graph{suffix}"]


def test_export_of_another_kind_or_place_is_refused(tmp_path: Path) -> None:
    graph = transition_network(Sessions.from_lists(SHOP))
    with pytest.raises(ValueError, match=r"name it like a\.graphml"):
        export_graph(graph, tmp_path / "a.txt")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="could not be written"):
        export_graph(graph, tmp_path / "file" / "a.json")
    with pytest.raises(ValueError, match="graph of networkx is written, got Data"):
        export_graph(transition_graph(Sessions.from_lists(SHOP)), tmp_path / "a.json")


@pytest.mark.parametrize("given", [[["a", "b"]], None, SessionGraphDataset(SHOP_LOG)[0]])
def test_transitions_of_something_else_say_what_is_needed(given: Any) -> None:
    with pytest.raises(ValueError, match=r"Sessions or the graph of .* are needed, got"):
        draw_transition_graph(given)


def test_items_without_a_title_carry_their_id() -> None:
    code = int(SHOP_LOG.vocabulary.encode([SHOP[0][0]])[0])
    graph = transition_network(SHOP_LOG, labels={code: "A title"})
    ids = SHOP_LOG.vocabulary.ids
    named = {node: graph.nodes[node]["label"] for node in graph}
    assert named == {node: "A title" if node == code else str(ids[node]) for node in graph}
