"""Datasets of session graphs: their samples, and batches equal to their single graphs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader
from torch_geometric.utils import to_networkx

from graphseq.data.graphs.dataset import NO_TARGET, UNKNOWN_TARGET, SessionGraphDataset
from graphseq.data.graphs.session_graph import SessionGraph
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary

UNKNOWN_ITEM = 5

raw_sessions = st.lists(
    st.tuples(
        st.lists(st.integers(0, UNKNOWN_ITEM), min_size=1, max_size=9),
        st.integers(1, 9),
    ),
    min_size=1,
    max_size=6,
)


def sessions_with_unknown(raw: list[tuple[list[int], int]]) -> Sessions:
    sessions = Sessions.from_lists(
        [items for items, _ in raw], vocabulary=Vocabulary(range(UNKNOWN_ITEM))
    )
    return replace(sessions, first_target=np.array([first for _, first in raw]))


def naive_prefixes(raw: list[tuple[list[int], int]]) -> list[tuple[list[int], int]]:
    """(known clicks before the target, target) of every target that has any."""
    samples = []
    for items, first in raw:
        for position in range(first, len(items)):
            before = [item for item in items[:position] if item != UNKNOWN_ITEM]
            target = items[position]
            if before:
                samples.append((before, UNKNOWN_TARGET if target == UNKNOWN_ITEM else target))
    return samples


def clicks_of(graph: SessionGraph) -> list[int]:
    return graph.click_item.tolist()


@given(raw_sessions)
def test_prefixes_are_known_clicks_before_each_target(raw: list[tuple[list[int], int]]) -> None:
    expected = naive_prefixes(raw)
    assume(expected)
    dataset = SessionGraphDataset(sessions_with_unknown(raw))
    assert [(clicks_of(graph), int(graph.y)) for graph in dataset] == expected
    assert dataset.num_clicks().tolist() == [len(clicks) for clicks, _ in expected]
    targets = sum(max(len(items) - first, 0) for items, first in raw)
    assert len(dataset) + dataset.num_without_history == targets


@given(raw_sessions)
def test_sessions_samples_align_targets_with_clicks(raw: list[tuple[list[int], int]]) -> None:
    expected = []
    for items, first in raw:
        clicks, targets = [], []
        for position, item in enumerate(items[:-1]):
            if item == UNKNOWN_ITEM:
                continue
            clicks.append(item)
            follower = items[position + 1]
            known = UNKNOWN_TARGET if follower == UNKNOWN_ITEM else follower
            targets.append(known if position + 1 >= first else NO_TARGET)
        has_target = any(items[p] != UNKNOWN_ITEM for p in range(len(items) - 1))
        if clicks and has_target and naive_prefixes([(items, first)]):
            expected.append((clicks, targets))
    assume(expected)
    dataset = SessionGraphDataset(sessions_with_unknown(raw), samples="sessions")
    found = [(clicks_of(graph), graph.y.tolist()) for graph in dataset]
    assert [clicks for clicks, _ in found] == [clicks for clicks, _ in expected]
    for (_, ours), (_, theirs) in zip(found, expected, strict=True):
        # Where an unknown click stands between, the target before it is the unknown one.
        assert ours == theirs


@pytest.mark.parametrize("samples", ["prefixes", "sessions"])
@given(raw=raw_sessions)
def test_batch_equals_batched_singles(
    samples: Literal["prefixes", "sessions"], raw: list[tuple[list[int], int]]
) -> None:
    assume(naive_prefixes(raw))
    dataset = SessionGraphDataset(sessions_with_unknown(raw), samples)
    index = list(range(len(dataset)))[::-1]
    ours, theirs = dataset.batch(index), Batch.from_data_list([dataset[i] for i in index])
    assert set(ours.keys()) == set(theirs.keys())
    for key in theirs.keys():  # noqa: SIM118 (PyG's Data is no mapping)
        assert torch.equal(ours[key], theirs[key]), key


@given(raw_sessions, st.integers(1, 4))
def test_max_length_keeps_the_newest_known_clicks(
    raw: list[tuple[list[int], int]], max_length: int
) -> None:
    expected = [(clicks[-max_length:], target) for clicks, target in naive_prefixes(raw)]
    assume(expected)
    dataset = SessionGraphDataset(sessions_with_unknown(raw), max_length=max_length)
    assert [(clicks_of(graph), int(graph.y)) for graph in dataset] == expected
    assert dataset.num_clicks().tolist() == [len(clicks) for clicks, _ in expected]


def test_max_length_of_whole_sessions_is_refused(sessions: Sessions) -> None:
    with pytest.raises(ValueError, match="cuts prefixes alone"):
        SessionGraphDataset(sessions, "sessions", max_length=3)


@pytest.fixture
def sessions() -> Sessions:
    return Sessions(
        items=np.array([0, 1, 2, 0, 3, 3, 1], dtype=np.int32),
        ptr=np.array([0, 4, 7]),
        vocabulary=Vocabulary(["a", "b", "c", "d"]),
        time=np.arange(7.0),
        users=np.array([1, 0], dtype=np.int32),
        user_vocabulary=Vocabulary(["u", "v"]),
        click_features={"price": np.arange(7) * 0.5},
    )


def test_fields_of_clicks_and_sessions_come_along(sessions: Sessions) -> None:
    graph = SessionGraphDataset(sessions)[4]  # [d, d] -> b
    assert clicks_of(graph) == [3, 3]
    assert graph.y.tolist() == [1]
    assert graph.click_time.tolist() == [4, 5]
    assert graph.click_price.tolist() == [2.0, 2.5]
    assert graph.user.tolist() == [0]


def test_slices_lists_and_masks_choose_samples(sessions: Sessions) -> None:
    dataset = SessionGraphDataset(sessions)
    assert len(dataset) == 5
    assert [clicks_of(graph) for graph in dataset[1:3]] == [[0, 1], [0, 1, 2]]
    assert [int(graph.y) for graph in dataset[[4, 0]]] == [1, 1]
    assert dataset[1:3].batch([0, 1]).y.tolist() == [2, 0]
    assert int(dataset[-1].y) == int(dataset.batch([-1]).y)
    assert dataset[1:3].num_clicks().tolist() == [2, 3]


def test_samples_beyond_the_end_are_refused(sessions: Sessions) -> None:
    with pytest.raises(IndexError, match=r"0\.\.4"):
        SessionGraphDataset(sessions).batch([5])


def test_pyg_loader_gives_the_same_batches(sessions: Sessions) -> None:
    dataset = SessionGraphDataset(sessions)
    batch = next(iter(DataLoader(dataset, batch_size=5)))
    ours = dataset.batch(range(5))
    for key in ours.keys():  # noqa: SIM118 (PyG's Data is no mapping)
        assert torch.equal(ours[key], batch[key]), key
    assert torch.equal(ours.click_item, batch.click_item)


def test_sample_converts_to_networkx(sessions: Sessions) -> None:
    graph = to_networkx(SessionGraphDataset(sessions)[2])
    assert isinstance(graph, nx.DiGraph)
    assert set(graph.edges) == {(0, 1), (1, 2)}


def test_dataset_holds_under_24_bytes_a_click() -> None:
    lengths = np.full(1000, 10)
    sessions = Sessions(
        np.zeros(10_000, dtype=np.int32),
        np.concatenate(([0], np.cumsum(lengths))),
        Vocabulary(["a"]),
    )
    dataset = SessionGraphDataset(sessions)
    held = [sessions.items, sessions.ptr, *dataset.arrays()]
    assert len(held) > 2
    assert sum(array.nbytes for array in held) < 24 * sessions.num_clicks


def test_no_target_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="No session has a target"):
        SessionGraphDataset(Sessions.from_lists([["a"], ["b"]]))


def test_unknown_kind_of_samples_is_refused(sessions: Sessions) -> None:
    with pytest.raises(ValueError, match="'prefixes' or 'sessions'"):
        SessionGraphDataset(sessions, "windows")  # type: ignore[arg-type]


@given(raw_sessions)
def test_batches_of_a_log_too_large_to_index_are_the_same(
    raw: list[tuple[list[int], int]],
) -> None:
    assume(naive_prefixes(raw))
    sessions = sessions_with_unknown(raw)
    indexed = SessionGraphDataset(sessions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("graphseq.data.graphs.dataset.INDEXED_CLICKS", 0)
        lean = SessionGraphDataset(sessions)
    assert sum(a.nbytes for a in lean.arrays()) < sum(a.nbytes for a in indexed.arrays())
    every = np.arange(len(indexed))
    expected, got = indexed.batch(every), lean.batch(every)
    assert sorted(expected.keys()) == sorted(got.keys())
    assert all(torch.equal(expected[key], got[key]) for key in expected.keys())  # noqa: SIM118


@given(raw_sessions, st.sampled_from(["prefixes", "sessions"]))
def test_request_time_is_when_the_last_target_was_clicked(
    raw: list[tuple[list[int], int]], samples: Literal["prefixes", "sessions"]
) -> None:
    sessions = sessions_with_unknown(raw)
    sessions = replace(sessions, time=np.arange(sessions.num_clicks) ** 2.0)
    assume(naive_prefixes(raw))
    dataset = SessionGraphDataset(sessions, samples, request_time=True)
    batch = dataset.batch(np.arange(len(dataset)))
    graphs = [dataset[number] for number in range(len(dataset))]
    plain = SessionGraphDataset(sessions, samples, target_fields=["time"])
    # What is told of each target, of which a graph's last one is the one asked for.
    told = [plain[number].y_time[-1].item() for number in range(len(plain))]
    assert batch.request_time.tolist() == told
    assert [graph.request_time.item() for graph in graphs] == told
    assert "request_time" not in plain[0]


def test_request_time_of_sessions_without_times_is_refused() -> None:
    sessions = Sessions.from_lists([[0, 1, 2]])
    with pytest.raises(ValueError, match="these sessions have no times: read the log with time="):
        SessionGraphDataset(sessions, request_time=True)
    with pytest.raises(ValueError, match="request_time must be True or False, got 'yes'"):
        SessionGraphDataset(sessions, request_time="yes")  # type: ignore[arg-type]


@pytest.mark.parametrize("index", [np.array([True, False]), [0.0, 1.0], torch.tensor([False])])
def test_batch_of_a_mask_or_of_floats_is_refused(index: Any) -> None:
    dataset = SessionGraphDataset(Sessions.from_lists([["a", "b", "c"]]))
    with pytest.raises(ValueError, match=r"by their numbers, int \[n\], got (bool|float64)"):
        dataset.batch(index)
    assert dataset.batch([]).num_graphs == 0


@pytest.mark.parametrize("max_length", [0, 1.5, True, "2"])
def test_max_length_that_is_no_number_of_clicks_is_refused(max_length: Any) -> None:
    with pytest.raises(ValueError, match=r"max_length must be .*at least 1, got"):
        SessionGraphDataset(Sessions.from_lists([["a", "b"]]), max_length=max_length)
