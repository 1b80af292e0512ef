"""Whole-batch graphs against a naive dictionary and against PyG's own batching."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import Batch
from torch_geometric.utils import to_networkx

from graphseq.data.graphs.session_graph import SessionGraph, build_session_graphs, newest_clicks

sessions_of_items = st.lists(
    st.lists(st.integers(0, 6), min_size=1, max_size=12), min_size=1, max_size=8
)


def flat(sessions: list[list[int]]) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([0, *(len(session) for session in sessions)])
    return torch.tensor([item for session in sessions for item in session]), lengths.cumsum(0)


def naive(session: list[int]) -> SessionGraph:
    nodes: dict[int, int] = {}
    for item in session:
        nodes.setdefault(item, len(nodes))
    edges: dict[tuple[int, int], int] = {}
    for a, b in itertools.pairwise(session):
        edge = (nodes[a], nodes[b])
        edges[edge] = edges.get(edge, 0) + 1
    return SessionGraph(
        x=torch.tensor(list(nodes)),
        edge_index=torch.tensor(list(edges), dtype=torch.long).view(-1, 2).t(),
        edge_weight=torch.tensor(list(edges.values()), dtype=torch.float),
        click_index=torch.tensor([nodes[item] for item in session]),
    )


def assert_same(ours: SessionGraph | Batch, theirs: SessionGraph | Batch) -> None:
    assert set(ours.keys()) == set(theirs.keys())
    for key in theirs.keys():  # noqa: SIM118 (PyG's Data is no mapping)
        assert ours[key].dtype == theirs[key].dtype, key
        assert torch.equal(ours[key], theirs[key]), key


@given(sessions_of_items)
def test_batch_equals_naive_graphs_batched_by_pyg(sessions: list[list[int]]) -> None:
    ours = build_session_graphs(*flat(sessions))
    singles = [naive(session) for session in sessions]
    theirs = Batch.from_data_list(singles)
    assert_same(ours, theirs)
    assert ours.num_graphs == theirs.num_graphs == len(sessions)
    assert set(ours._slice_dict) == set(theirs._slice_dict)
    for key, slices in theirs._slice_dict.items():
        assert torch.equal(ours._slice_dict[key], slices)
        assert torch.equal(ours._inc_dict[key], theirs._inc_dict[key].view(-1))
    for one, single in zip(ours.to_data_list(), singles, strict=True):
        assert type(one) is SessionGraph
        assert_same(one, single)


@given(sessions_of_items)
def test_batch_batched_again_by_pyg_is_itself(sessions: list[list[int]]) -> None:
    batch = build_session_graphs(*flat(sessions))
    assert_same(batch, Batch.from_data_list(batch.to_data_list()))


@given(sessions_of_items)
def test_click_helpers_give_back_the_sessions(sessions: list[list[int]]) -> None:
    items, ptr = flat(sessions)
    batch = build_session_graphs(items, ptr)
    assert torch.equal(batch.click_item, items)
    assert torch.equal(batch.click_ptr, ptr)
    assert torch.equal(batch.click_batch, torch.arange(len(sessions)).repeat_interleave(ptr.diff()))
    assert batch.num_clicks == len(items)


def test_graph_of_abcbd_by_hand() -> None:
    a, b, c, d = 7, 3, 9, 1
    graph = build_session_graphs(torch.tensor([a, b, c, b, d]), torch.tensor([0, 5])).get_example(0)
    assert graph.x.tolist() == [a, b, c, d]
    assert graph.edge_index.tolist() == [[0, 1, 2, 1], [1, 2, 1, 3]]
    assert graph.edge_weight.tolist() == [1, 1, 1, 1]
    assert graph.click_index.tolist() == [0, 1, 2, 1, 3]


def test_one_click_has_one_node_and_no_edge() -> None:
    graph = build_session_graphs(torch.tensor([4]), torch.tensor([0, 1])).get_example(0)
    assert graph.x.tolist() == [4]
    assert graph.edge_index.shape == (2, 0)
    assert graph.edge_weight.shape == (0,)
    assert graph.click_index.tolist() == [0]


def test_one_item_repeated_is_a_loop_with_its_count() -> None:
    graph = build_session_graphs(torch.tensor([4] * 6), torch.tensor([0, 6])).get_example(0)
    assert graph.x.tolist() == [4]
    assert graph.edge_index.tolist() == [[0], [0]]
    assert graph.edge_weight.tolist() == [5]


def test_two_thousand_clicks_equal_the_naive_graph() -> None:
    items = torch.randint(0, 40, (2000,), generator=torch.Generator().manual_seed(0))
    graph = build_session_graphs(items, torch.tensor([0, 2000])).get_example(0)
    assert_same(graph, naive(items.tolist()))
    assert graph.edge_weight.sum() == 1999


def test_no_session_is_an_empty_batch() -> None:
    batch = build_session_graphs(torch.empty(0, dtype=torch.long), torch.tensor([0]))
    assert batch.num_graphs == 0
    assert batch.x.shape == (0,)
    assert batch.edge_index.shape == (2, 0)


def test_codes_of_ten_million_items_do_not_collide() -> None:
    sessions = [[9_999_999, 0, 9_999_999, 0], [0, 9_999_999, 0, 9_999_999]]
    assert_same(
        build_session_graphs(*flat(sessions)), Batch.from_data_list([naive(s) for s in sessions])
    )


def test_int32_items_give_int64_graphs() -> None:
    items, ptr = flat([[1, 2, 1]])
    assert_same(build_session_graphs(items.int(), ptr.int()), build_session_graphs(items, ptr))


def test_feature_called_batch_index_is_not_shifted() -> None:
    items, ptr = flat([[1, 2], [3]])
    feature = torch.tensor([5, 6, 7])
    batch = build_session_graphs(items, ptr, click_fields={"click_batch_index": feature})
    again = Batch.from_data_list(batch.to_data_list())
    assert torch.equal(again["click_batch_index"], feature)


@given(sessions_of_items, st.integers(1, 5))
def test_newest_clicks_are_the_graphs_of_cut_sessions(
    sessions: list[list[int]], max_length: int
) -> None:
    cut = newest_clicks(build_session_graphs(*flat(sessions)), max_length)
    assert_same(cut, build_session_graphs(*flat([s[-max_length:] for s in sessions])))


def test_newest_clicks_keep_the_features_of_their_clicks_and_sessions() -> None:
    items, ptr = flat([[1, 2, 1], [3]])
    batch = build_session_graphs(
        items,
        ptr,
        click_fields={"click_time": torch.tensor([5.0, 6.0, 8.0, 1.0])},
        session_fields={"user": torch.tensor([7, 4])},
    )
    cut = newest_clicks(batch, 2)
    assert cut.click_time.tolist() == [6.0, 8.0, 1.0]
    assert cut.user.tolist() == [7, 4]


def test_networkx_has_the_weights_of_the_graph() -> None:
    graph = build_session_graphs(torch.tensor([1, 2, 1, 2]), torch.tensor([0, 4])).get_example(0)
    drawn = to_networkx(graph, edge_attrs=["edge_weight"])
    assert {(a, b): w for a, b, w in drawn.edges(data="edge_weight")} == {(0, 1): 2, (1, 0): 1}


@pytest.mark.parametrize(
    ("items", "ptr", "message"),
    [
        (torch.tensor([1.0]), torch.tensor([0, 1]), "items must be a tensor of integers"),
        (torch.tensor([True]), torch.tensor([0, 1]), "items must be a tensor of integers"),
        (torch.tensor([[1]]), torch.tensor([0, 1]), "items must be a tensor of integers"),
        (torch.tensor([1]), torch.tensor([0.0, 1.0]), "ptr must be a tensor of integers"),
        (torch.tensor([1, 2]), torch.tensor([0, 1]), "ptr must run from 0"),
        (torch.tensor([1, 2]), torch.tensor([1, 2]), "ptr must run from 0"),
        (torch.tensor([1, 2]), torch.tensor([0, 2, 2]), "session 1 spans clicks 2..2"),
        (torch.tensor([1, 2]), torch.tensor([0, 3, 1, 2]), "session 1 spans clicks 3..1"),
        (torch.tensor([1, -1]), torch.tensor([0, 2]), "negative"),
        (torch.tensor([], dtype=torch.long), torch.tensor([], dtype=torch.long), "ptr must run"),
        (torch.tensor([1j]), torch.tensor([0, 1]), "items must be a tensor of integers"),
        ([1], torch.tensor([0, 1]), "items must be a tensor of integers .* got list"),
    ],
)
def test_wrong_input_is_named(items: Tensor, ptr: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_session_graphs(items, ptr)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"y": torch.tensor([1])},
            r"y must have one value per session, 2 of them, got shape \[1\]",
        ),
        ({"y": torch.tensor(1)}, r"got shape \[\]"),
        ({"y": torch.tensor([1]), "y_ptr": torch.tensor([0, 2])}, "targets, 1, got 0..2"),
        ({"y": torch.tensor([1]), "y_ptr": torch.tensor([0, 1])}, "3 of them, got 2"),
        ({"y": torch.tensor([1]), "y_ptr": torch.tensor([0, 2, 1])}, "y_ptr must never fall"),
        (
            {"click_fields": {"click_time": torch.ones(2)}},
            "click_time must have one value per click",
        ),
        ({"session_fields": {"user": torch.ones(3)}}, "user must have one value per session, 2 of"),
    ],
)
def test_fields_of_the_wrong_size_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_session_graphs(torch.tensor([1, 2, 1]), torch.tensor([0, 2, 3]), **fields)


@settings(max_examples=30)
@given(
    sessions_of_items,
    st.lists(st.integers(2**59, 2**63 - 1), min_size=7, max_size=7, unique=True),
)
def test_items_whose_keys_would_overflow_give_the_graphs_of_their_ranks(
    sessions: list[list[int]], codes: list[int]
) -> None:
    items, ptr = flat(sessions)
    names = torch.tensor(codes)
    batch, large = build_session_graphs(items, ptr), build_session_graphs(names[items], ptr)
    assert torch.equal(names[batch.x], large.x)
    for key in ("edge_index", "edge_weight", "click_index", "batch", "ptr"):
        assert torch.equal(batch[key], large[key])


@settings(max_examples=20)
@given(sessions_of_items, st.permutations(range(7)))
def test_renumbered_items_change_x_alone(sessions: list[list[int]], new: list[int]) -> None:
    items, ptr = flat(sessions)
    names = torch.tensor(new)
    batch, renamed = build_session_graphs(items, ptr), build_session_graphs(names[items], ptr)
    assert torch.equal(names[batch.x], renamed.x)
    for key in ("edge_index", "edge_weight", "click_index", "batch", "ptr"):
        assert torch.equal(batch[key], renamed[key])
