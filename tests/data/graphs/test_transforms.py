"""Transforms of single graphs and of batches give the same result, and their errors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Batch
from torch_geometric.transforms import Compose

from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.graphs.session_graph import SessionGraph, build_session_graphs
from graphseq.data.graphs.transforms import (
    AddReverseEdges,
    DecayedWeights,
    RemoveSelfLoops,
    Transform,
    transformed,
)
from graphseq.data.sessions.sessions import Sessions

TRANSFORMS = [
    RemoveSelfLoops(),
    AddReverseEdges(),
    DecayedWeights(2.0, unit="clicks"),
    Compose([RemoveSelfLoops(), DecayedWeights(2.0, unit="clicks"), AddReverseEdges()]),
]


def graph_of(*items: int) -> SessionGraph:
    graph: SessionGraph = build_session_graphs(
        torch.tensor(items), torch.tensor([0, len(items)])
    ).get_example(0)
    return graph


def weights(graph: SessionGraph) -> dict[tuple[int, int], float]:
    return {
        (int(graph.x[a]), int(graph.x[b])): float(w)
        for (a, b), w in zip(graph.edge_index.t().tolist(), graph.edge_weight, strict=True)
    }


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
@given(
    sessions=st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=8), min_size=1, max_size=5)
)
def test_batch_equals_transformed_singles(transform: Transform, sessions: list[list[int]]) -> None:
    lengths = torch.tensor([0, *map(len, sessions)])
    batch = build_session_graphs(torch.tensor(sum(sessions, [])), lengths.cumsum(0))
    singles = [transform(graph) for graph in batch.to_data_list()]
    together = transformed(transform, batch)
    expected = Batch.from_data_list(singles)
    for key in ("x", "edge_index", "edge_weight", "click_index", "batch", "ptr"):
        torch.testing.assert_close(together[key], expected[key])
    for one, single in zip(together.to_data_list(), singles, strict=True):
        torch.testing.assert_close(one.edge_index, single.edge_index)
        torch.testing.assert_close(one.edge_weight, single.edge_weight)


def test_remove_self_loops_keeps_other_edges() -> None:
    assert weights(RemoveSelfLoops()(graph_of(1, 1, 2, 2, 1))) == {(1, 2): 1, (2, 1): 1}


def test_add_reverse_edges_adds_weights_of_both_ways_and_keeps_loops() -> None:
    graph = AddReverseEdges()(graph_of(1, 2, 1, 2, 2, 3))
    assert weights(graph) == {(1, 2): 3, (2, 1): 3, (2, 2): 1, (2, 3): 1, (3, 2): 1}


def test_decayed_weights_in_clicks_halve_with_every_half_life() -> None:
    graph = DecayedWeights(1.0, unit="clicks")(graph_of(1, 2, 1, 2))
    assert weights(graph) == {(1, 2): 1 + 0.25, (2, 1): 0.5}


def test_decayed_weights_in_seconds_follow_the_clock() -> None:
    graph = graph_of(1, 2, 3)
    graph.click_time = torch.tensor([0.0, 0.0, 60.0], dtype=torch.float64)
    assert weights(DecayedWeights(30.0)(graph)) == {(1, 2): 0.25, (2, 3): 1.0}


def test_decayed_weights_without_times_say_what_is_missing() -> None:
    with pytest.raises(ValueError, match="click_time"):
        DecayedWeights(30.0)(graph_of(1, 2))


def test_decayed_weights_of_times_that_hold_no_single_seconds_are_refused() -> None:
    graph = graph_of(1, 2, 3)
    graph.click_time = torch.tensor([0.0, 0.0, 60.0]) + 1_700_000_000  # float32: steps of 128 s
    with pytest.raises(ValueError, match=r"click_time of \d+ is rounded to more than a second"):
        DecayedWeights(30.0)(graph)


@pytest.mark.parametrize("half_life", [0, -1.0])
def test_half_life_that_is_not_positive_is_refused(half_life: float) -> None:
    with pytest.raises(ValueError, match="half_life must be positive"):
        DecayedWeights(half_life)


def test_unknown_unit_is_refused() -> None:
    with pytest.raises(ValueError, match="'seconds' or 'clicks'"):
        DecayedWeights(1.0, unit="days")  # type: ignore[arg-type]


def test_any_transform_of_single_graphs_works_on_batches() -> None:
    def mark(graph: SessionGraph) -> SessionGraph:
        graph.seen = torch.tensor([graph.num_clicks])
        return graph

    dataset = SessionGraphDataset(Sessions.from_lists([[1, 2, 3], [4, 5]]), transform=mark)
    assert dataset.batch([0, 1, 2]).seen.tolist() == [1, 2, 1]
    assert dataset[1].seen.tolist() == [2]
