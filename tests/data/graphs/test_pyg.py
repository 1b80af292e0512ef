"""PyG's own tools on session graphs: transforms, copies, selections, loaders."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch_geometric.transforms as T
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data, InMemoryDataset
from torch_geometric.loader import DataLoader
from torch_geometric.utils import to_undirected

from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.graphs.session_graph import (
    SessionGraph,
    build_session_graphs,
    join_session_graphs,
    with_edges,
)
from graphseq.data.graphs.transforms import transformed
from graphseq.data.loading.loader import SessionGraphLoader
from graphseq.data.sessions.sessions import Sessions

# As many nodes, edges, clicks or users in one session as of another kind: sizes tell nothing.
LISTS = [[3], [3, 3], [3, 4], [3, 4, 3, 4], [1, 2, 3], [5, 5, 5], [1, 2, 1, 2, 3], [0, 1, 2, 0]]
UNTOUCHED = ("y", "user", "click_index", "click_kind", "country")

raw_sessions = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=6), min_size=1, max_size=5)


def graphs_of(lists: list[list[int]]) -> Batch:
    """Session graphs with every kind of field, with ``country`` as a custom session field."""
    ptr = torch.tensor([0, *map(len, lists)]).cumsum(0)
    size = int(ptr[-1])
    return build_session_graphs(
        torch.tensor([item for items in lists for item in items]),
        ptr,
        y=torch.arange(size) + 7,
        y_ptr=ptr,
        click_fields={"click_kind": torch.arange(size) + 40},
        session_fields={"user": torch.arange(len(lists)), "country": torch.arange(len(lists)) + 90},
    )


def same(one: Any, other: Any) -> None:
    assert set(one.keys()) == set(other.keys())
    for key in other.keys():  # noqa: SIM118 (PyG's Data is no mapping)
        assert one[key].dtype == other[key].dtype, key
        assert torch.equal(one[key], other[key]), key


# -- what this package writes into PyG's own objects -------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 5])
def test_batch_made_at_once_holds_all_that_pyg_notes_in_its_own(count: int) -> None:
    ours = graphs_of(LISTS[:count])
    theirs = Batch.from_data_list(ours.to_data_list())
    assert type(ours) is type(theirs)
    assert vars(ours).keys() == vars(theirs).keys()
    mine, pygs = vars(ours.stores[0]), vars(theirs.stores[0])
    assert mine.keys() - {"_cached_attr"} == pygs.keys() - {"_cached_attr"}
    assert mine["_num_graphs"] == pygs["_num_graphs"] == count
    assert mine["_session_fields"] == pygs["_session_fields"] == {"user", "country"}
    assert mine["_parent"]() is ours
    same(ours, theirs)
    for noted in ("_slice_dict", "_inc_dict"):
        assert mine[noted].keys() == pygs[noted].keys()
        for key, value in pygs[noted].items():
            assert torch.equal(mine[noted][key], value), (noted, key)


def test_joined_batches_hold_all_that_pyg_notes_in_its_own() -> None:
    joined = join_session_graphs([graphs_of(LISTS[:3]), graphs_of(LISTS[3:])])
    theirs = Batch.from_data_list(joined.to_data_list())
    same(joined, theirs)
    mine, pygs = vars(joined.stores[0]), vars(theirs.stores[0])
    assert mine["_session_fields"] == pygs["_session_fields"]
    for noted in ("_slice_dict", "_inc_dict"):
        for key, value in pygs[noted].items():
            assert torch.equal(mine[noted][key], value), (noted, key)


def test_private_attributes_of_pyg_are_written_in_one_file_alone(repository: Path) -> None:
    private = re.compile(
        r"""\b(_store|_mapping|_slice_dict|_inc_dict|_num_graphs|_data_list)["']?\]?\s*=[^=]|"""
        r"type\.__call__"
    )
    found = {
        path.relative_to(repository).as_posix()
        for path in (repository / "graphseq").rglob("*.py")
        if private.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"graphseq/data/graphs/session_graph.py"}


# -- transforms of PyG -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "transform",
    [
        T.ToUndirected(),
        T.VirtualNode(),
        T.AddSelfLoops(),
        T.AddRemainingSelfLoops(),
        T.RemoveSelfLoops(),
        T.RemoveDuplicatedEdges(),
        T.LargestConnectedComponents(),
        T.GCNNorm(add_self_loops=False),
        T.ToDevice("cpu"),
        T.Compose([T.ToUndirected(), T.AddSelfLoops(), T.VirtualNode()]),
    ],
    ids=repr,
)
def test_transform_of_pyg_leaves_clicks_targets_users_and_session_fields(
    transform: Callable[[Data], Data],
) -> None:
    for items, graph in zip(LISTS, graphs_of(LISTS).to_data_list(), strict=True):
        new = transform(graph)
        for name in UNTOUCHED:
            assert torch.equal(new[name], graph[name]), (items, name)
        assert new.click_item.tolist() == items
        assert len(new.edge_weight) == new.edge_index.size(1), items
        assert new.num_nodes == len(new.x)


def test_virtual_node_adds_one_node_and_its_edges_to_each_size_of_session() -> None:
    for graph in graphs_of(LISTS).to_data_list():
        new, nodes = T.VirtualNode()(graph), graph.num_nodes
        assert new.x[:-1].tolist() == graph.x.tolist()
        assert new.num_nodes == nodes + 1
        assert new.num_edges == graph.num_edges + 2 * nodes
        assert new.edge_weight.tolist() == [*graph.edge_weight.tolist(), *[1.0] * 2 * nodes]


def test_to_undirected_adds_up_the_weights_of_both_ways() -> None:
    for graph in graphs_of(LISTS).to_data_list():
        edge_index, weight = to_undirected(graph.edge_index, graph.edge_weight)
        new = T.ToUndirected()(graph)
        assert torch.equal(new.edge_index, edge_index)
        assert torch.equal(new.edge_weight, weight)


@given(raw_sessions)
def test_coalesced_graph_keeps_each_weight_at_its_edge(lists: list[list[int]]) -> None:
    for graph in graphs_of(lists).to_data_list():
        before = dict(
            zip(map(tuple, graph.edge_index.t().tolist()), graph.edge_weight, strict=True)
        )
        new = copy.copy(graph).coalesce()
        assert new.is_coalesced()
        after = dict(zip(map(tuple, new.edge_index.t().tolist()), new.edge_weight, strict=True))
        assert after == before


def dataset_with(transform: Any, lists: list[list[int]] | None = None) -> SessionGraphDataset:
    return SessionGraphDataset(
        Sessions.from_lists(lists or [[1, 2, 1], [2, 3]]), transform=transform
    )


def test_dataset_with_a_transform_of_pyg_gives_the_same_singly_and_in_batches() -> None:
    dataset = dataset_with(T.Compose([T.ToUndirected(), T.AddSelfLoops()]))
    single = [dataset[i] for i in range(len(dataset))]
    same(dataset.batch(range(len(dataset))), Batch.from_data_list(single))
    assert all(graph.num_edges > graph.num_nodes for graph in single[1:2])


def drop_a_node(graph: SessionGraph) -> SessionGraph:
    graph.x = graph.x[1:]
    return graph


def swap_nodes(graph: SessionGraph) -> SessionGraph:
    graph.x = graph.x.flip(0)
    return graph


def far_edge(graph: SessionGraph) -> SessionGraph:
    return with_edges(graph, torch.tensor([[0], [9]]), torch.ones(1))


def edges_alone(graph: SessionGraph) -> SessionGraph:
    graph.edge_index = torch.zeros(2, 9, dtype=torch.long)
    return graph


def two_users(graph: SessionGraph) -> SessionGraph:
    graph.user = torch.tensor([1, 2])
    return graph


def five_targets(graph: SessionGraph) -> SessionGraph:
    graph.y = torch.arange(5)
    return graph


def longer_feature(graph: SessionGraph) -> SessionGraph:
    graph.click_kind = torch.arange(7)
    return graph


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (T.RemoveIsolatedNodes(), r"RemoveIsolatedNodes\(\) took nodes away or renumbered them"),
        (drop_a_node, "drop_a_node took nodes away or renumbered them.*graph.subgraph"),
        (swap_nodes, "swap_nodes took nodes away or renumbered them"),
        (far_edge, r"far_edge made an edge to node 9, but nodes are 0\.\.1"),
        (edges_alone, "edges_alone left edge_weight with 1 values, 9 are wanted"),
        (two_users, "two_users left user with 2 values, 1 are wanted"),
        (five_targets, "five_targets left 5 targets y for 2 clicks"),
        (longer_feature, "longer_feature left click_kind with 7 values, 2 are wanted"),
        (lambda graph: None, "gave NoneType: .* returns the SessionGraph that it was given"),
        (lambda graph: Data(x=graph.x), "gave Data: "),
        (T.RandomLinkSplit(0.1, 0.1), "gave tuple: "),
        (T.OneHotDegree(5), r"made x torch.int64 \[2, 7\], .* another name, as node_degree"),
        (T.Constant(), r"made x torch.int64 \[2, 2\]"),
        (T.ToSparseTensor(), "took edge_index away"),
    ],
)
def test_transform_that_breaks_a_session_graph_is_refused_by_a_sentence(
    transform: Any, message: str
) -> None:
    lists = [[1, 1]] if isinstance(transform, T.RemoveIsolatedNodes) else [[1, 2, 3]]
    dataset = dataset_with(transform, lists)
    with pytest.raises(ValueError, match=message):
        dataset[len(dataset) - 1]
    with pytest.raises(ValueError, match=message):
        dataset.batch([len(dataset) - 1])


def test_transform_that_replaces_items_is_obeyed() -> None:
    def all_zero(graph: SessionGraph) -> SessionGraph:
        graph.x = torch.zeros_like(graph.x)
        return graph

    assert dataset_with(all_zero).batch([0, 1]).click_item.tolist() == [0, 0, 0]


def test_transform_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got \[ToUndirected\(\)\]: several go into .*Compose"):
        dataset_with([T.ToUndirected()])


# -- Data: one graph is a batch of one ---------------------------------------------------------


def test_single_graph_has_the_batch_fields_of_a_batch_of_one() -> None:
    graph = graphs_of([[3, 4, 3]]).to_data_list()[0]
    batch = Batch.from_data_list([graph])
    assert graph.num_graphs == batch.num_graphs == 1
    for name in ("batch", "ptr", "click_batch", "click_ptr", "click_item"):
        assert torch.equal(getattr(graph, name), getattr(batch, name)), name
    assert "batch" not in graph
    assert "ptr" not in graph


@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        lambda data: pickle.loads(pickle.dumps(data)),
        lambda data: data.clone(),
        lambda data: data.to("cpu"),
        lambda data: data.contiguous(),
    ],
)
@pytest.mark.parametrize("single", [True, False])
def test_copy_of_a_graph_is_the_same_and_still_tells_fields_by_name(
    copied: Callable[[Any], Any], single: bool
) -> None:
    data = graphs_of(LISTS)
    data = data.to_data_list()[0] if single else data
    again = copied(data)
    assert type(again) is type(data)
    same(again, data)
    assert not again.is_node_attr("country")
    assert not again.is_edge_attr("user")
    assert again.is_node_attr("x")
    assert again.is_edge_attr("edge_weight")
    if not single:
        for one, other in zip(again.to_data_list(), data.to_data_list(), strict=True):
            same(one, other)


def test_dictionary_of_a_graph_makes_the_graph_again() -> None:
    for graph in graphs_of(LISTS).to_data_list():
        same(SessionGraph(**graph.to_dict()), graph)
        same(SessionGraph.from_dict(graph.to_dict()), graph)
        assert graph.validate()
        assert set(graph.to_namedtuple()._fields) == set(graph.keys())


def test_selected_graphs_of_a_batch_are_the_single_ones() -> None:
    batch = graphs_of(LISTS)
    singles = batch.to_data_list()
    mask = torch.arange(len(LISTS)) % 2 == 0
    for selected, expected in (
        (batch[1:3], singles[1:3]),
        (batch[mask], singles[::2]),
        (batch.index_select([4, 0]), [singles[4], singles[0]]),
        ([batch[2]], [singles[2]]),
    ):
        for one, other in zip(selected, expected, strict=True):
            same(one, other)


@given(raw_sessions, st.integers(0, 4))
def test_subgraph_keeps_the_clicks_on_its_nodes_with_their_fields(
    lists: list[list[int]], without: int
) -> None:
    for items, graph in zip(lists, graphs_of(lists).to_data_list(), strict=True):
        nodes = (graph.x != without).nonzero().view(-1).flip(0)
        kept = [place for place, item in enumerate(items) if item != without]
        if not kept:
            with pytest.raises(ValueError, match="at least one click"):
                graph.subgraph(nodes)
            continue
        new = graph.subgraph(nodes)
        assert new.x.tolist() == graph.x[nodes].tolist()
        assert new.click_item.tolist() == [items[place] for place in kept]
        assert new.click_kind.tolist() == graph.click_kind[kept].tolist()
        assert new.y.tolist() == graph.y[kept].tolist()
        assert new.user.tolist() == graph.user.tolist()
        edges = {(int(graph.x[a]), int(graph.x[b])) for a, b in graph.edge_index.t().tolist()}
        left = {(int(new.x[a]), int(new.x[b])) for a, b in new.edge_index.t().tolist()}
        assert left == {(a, b) for a, b in edges if without not in (a, b)}
        same(graph.subgraph(graph.x != without), graph.subgraph(nodes.flip(0)))


def test_subgraph_of_a_prefix_keeps_its_one_target() -> None:
    graph = dataset_with(None, [[1, 2, 3, 4]])[2]
    assert graph.subgraph(torch.tensor([0, 1])).y.tolist() == graph.y.tolist()


def test_subgraph_of_a_batch_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"take it apart by batch\.to_data_list"):
        graphs_of(LISTS).subgraph(torch.tensor([0]))


def test_graphs_saved_as_an_in_memory_dataset_come_back(tmp_path: Path) -> None:
    singles = graphs_of(LISTS).to_data_list()

    class Kept(InMemoryDataset):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(None)
            self.load(str(tmp_path / "graphs.pt"), data_cls=SessionGraph)

    InMemoryDataset.save(singles, str(tmp_path / "graphs.pt"))
    for one, other in zip(Kept(), singles, strict=True):
        assert type(one) is SessionGraph
        same(one, other)


# -- the dataset, and loaders of PyG -----------------------------------------------------------


@pytest.fixture
def dataset() -> SessionGraphDataset:
    generator = np.random.default_rng(0)
    lists = [generator.integers(0, 20, size=n).tolist() for n in generator.integers(2, 9, size=40)]
    return SessionGraphDataset(Sessions.from_lists(lists))


def test_numbers_of_a_dataset_are_told_without_a_look_at_its_samples(
    dataset: SessionGraphDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(self: object, idx: int) -> None:
        raise AssertionError(f"sample {idx} was read")

    classes = max(int(graph.y) for graph in dataset) + 1
    monkeypatch.setattr(SessionGraphDataset, "get", read)
    assert dataset.num_classes == dataset.sessions.num_items == classes == 20
    assert dataset.num_features == dataset.num_node_features == 1


def test_selection_of_samples_is_the_same_by_all_of_pygs_ways(
    dataset: SessionGraphDataset,
) -> None:
    mask = torch.zeros(len(dataset), dtype=torch.bool)
    mask[[3, 7, 11]] = True
    wanted = dataset.batch([3, 7, 11])
    for part in (
        dataset[mask],
        dataset[mask.numpy()],
        dataset[[3, 7, 11]],
        dataset[torch.tensor([3, 7, 11])],
        dataset[3:12:4],
        dataset.index_select((3, 7, 11)),
        copy.deepcopy(dataset)[[3, 7, 11]],
        pickle.loads(pickle.dumps(dataset[mask])),
    ):
        assert len(part) == 3
        same(part.batch([0, 1, 2]), wanted)
        same(Batch.from_data_list(list(part)), wanted)
        assert part.num_classes == dataset.num_classes


def test_shuffled_dataset_has_each_sample_once_in_the_order_it_tells(
    dataset: SessionGraphDataset,
) -> None:
    shuffled, order = dataset.shuffle(return_perm=True)
    assert sorted(order.tolist()) == list(range(len(dataset)))
    same(shuffled.batch(range(len(dataset))), dataset.batch(order))


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"follow_batch": ["click_index", "y"]},
        {"exclude_keys": ["edge_weight", "y"]},
        {"follow_batch": ["click_index", "edge_index"], "exclude_keys": ["click_index"]},
    ],
)
@pytest.mark.parametrize("transform", [None, T.VirtualNode()])
def test_loader_gives_the_batches_of_pygs_own(
    dataset: SessionGraphDataset, keys: dict[str, list[str]], transform: Any
) -> None:
    dataset.transform = transform
    ours, theirs = SessionGraphLoader(dataset, 16, **keys), DataLoader(dataset, 16, **keys)
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        same(one, other)
        for mine, pygs in zip(one.to_data_list(), other.to_data_list(), strict=True):
            same(mine, pygs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"follow_batch": ["x_s"]}, "follow_batch names 'x_s', .* they have x, edge_index,"),
        ({"exclude_keys": ["click_tiem"]}, "exclude_keys names 'click_tiem'"),
        ({"exclude_keys": "y"}, r"exclude_keys is a list of names, got 'y': pass \['y'\]"),
        ({"collate_fn": list}, "builds whole batches"),
        ({"batch_sampler": [[0]]}, "builds whole batches"),
    ],
)
def test_wrong_options_of_the_loader_are_named(
    dataset: SessionGraphDataset, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        next(iter(SessionGraphLoader(dataset, 16, **options)))


def test_every_transform_of_pyg_without_arguments_works_or_is_refused_by_a_sentence() -> None:
    tried = 0
    for name in T.__all__:
        kind = getattr(T, name)
        parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
        if any(p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters):
            continue
        for lists in ([[3]], [[3, 3]], [[3, 4, 3]]):
            graph = graphs_of(lists).to_data_list()[0]
            try:
                plain = kind()(graph)
            except Exception:  # PyG itself has it that the graph lacks positions, faces, ...
                continue
            if not isinstance(plain, SessionGraph):
                continue
            tried += 1
            nodes = range(len(plain.x))
            clicked = [plain.x[node].tolist() for node in plain.click_index if node in nodes]
            if clicked == lists[0] and all(
                torch.equal(plain[key], graph[key]) for key in UNTOUCHED
            ):
                continue
            again = graphs_of(lists).to_data_list()[0]
            with pytest.raises(ValueError, match=f"The transform {name}"):
                transformed(kind(), again)
    assert tried > 20
