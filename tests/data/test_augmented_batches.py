"""Augmented samples: their targets and fields, and what they depend on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch
from torch_geometric.transforms import Compose

from graphseq.data.graphs.augment import (
    ClickDropout,
    CropToPrefix,
    RaggedClicks,
    RandomCrop,
    SegmentReorder,
)
from graphseq.data.graphs.dataset import NO_TARGET, Samples, SessionGraphDataset
from graphseq.data.graphs.views import augmented_view, session_streams
from graphseq.data.loading.loader import SessionGraphLoader
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary

CHANGE = Compose([RandomCrop(0.7), ClickDropout(0.3), SegmentReorder(0.9)])
Graph = tuple[tuple[int, ...], tuple[int, ...]]


def make(samples: Samples = "prefixes") -> SessionGraphDataset:
    generator = np.random.default_rng(0)
    lists = [generator.integers(0, 9, size=n).tolist() for n in generator.integers(2, 9, size=30)]
    sessions = Sessions.from_lists(lists, vocabulary=Vocabulary(np.arange(9)))
    time = np.arange(sessions.num_clicks, dtype=float)
    users = np.arange(sessions.num_sessions, dtype=np.int32)
    features = {"place": np.arange(sessions.num_clicks)}
    sessions = replace(sessions, time=time, users=users, click_features=features)
    return SessionGraphDataset(sessions, samples, request_time=True)


def graphs(batch: Batch) -> list[Graph]:
    return [
        (tuple(graph.click_item.tolist()), tuple(graph.y.tolist()))
        for graph in batch.to_data_list()
    ]


def as_it_is(clicks: RaggedClicks) -> RaggedClicks:
    return clicks


@pytest.mark.parametrize("samples", ["prefixes", "sessions"])
def test_augmented_batch_without_a_change_equals_the_batch(samples: Samples) -> None:
    dataset = make(samples)
    index = [3, 0, len(dataset) - 1, 7]
    expected, found = dataset.batch(index), dataset.augmented_batch(index, as_it_is)
    assert set(expected.keys()) == set(found.keys())
    for name, value in expected.to_dict().items():
        assert torch.equal(found[name], value), name
    for one, other in zip(expected.to_data_list(), found.to_data_list(), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one.to_dict())


def test_augmented_sample_is_asked_for_at_the_time_of_its_target() -> None:
    sessions = replace(Sessions.from_lists([list(range(8))] * 30), time=np.arange(240.0) % 8)
    dataset = SessionGraphDataset(sessions, "sessions", request_time=True)
    batch = dataset.augmented_batch(range(30), RandomCrop(0.5))  # whose items are their times
    assert batch.request_time.tolist() == batch.y[batch.click_ptr[1:] - 1].tolist()


def test_augmented_batch_without_a_change_equals_the_batch_with_unknown_clicks() -> None:
    items = np.array([0, -1, 2, 3, 1, 0, 2, -1], dtype=np.int32)
    sessions = Sessions.from_ragged(items, np.array([0, 4, 8]), vocabulary=Vocabulary(np.arange(4)))
    dataset = SessionGraphDataset(sessions)
    everything = range(len(dataset))
    assert graphs(dataset.augmented_batch(everything, as_it_is)) == graphs(
        dataset.batch(everything)
    )


def test_cropped_sample_predicts_the_click_that_followed_its_last_one() -> None:
    dataset = SessionGraphDataset(Sessions.from_lists([list(range(8))] * 50), "sessions")
    batch = dataset.augmented_batch(range(50), RandomCrop(0.5))
    assert batch.y.equal(batch.click_item + 1)
    assert set(batch.click_ptr.diff().tolist()) == {3}  # four clicks, one of them the target
    last = SessionGraphDataset(Sessions.from_lists([list(range(8))] * 50))
    prefixes = last.augmented_batch(range(300), CropToPrefix())
    for graph in prefixes.to_data_list():
        assert graph.click_item.tolist() == list(range(graph.num_clicks))
        assert graph.y.tolist() == [graph.num_clicks]


@pytest.mark.parametrize("samples", ["prefixes", "sessions"])
def test_augmented_targets_before_the_first_one_are_none(samples: Samples) -> None:
    sessions = Sessions.from_lists([list(range(8))] * 40)
    sessions = replace(sessions, first_target=np.full(40, 5))
    dataset = SessionGraphDataset(sessions, samples)
    batch = dataset.augmented_batch(range(len(dataset)), RandomCrop(0.6))
    assert set(batch.y.tolist()) <= {NO_TARGET, 5, 6, 7}
    assert (batch.y == NO_TARGET).any()
    assert (batch.y > 0).any()


def test_augmented_clicks_keep_features_and_times_in_order_and_sessions_their_user() -> None:
    dataset = make()
    sessions = dataset.sessions
    batch = dataset.augmented_batch(range(len(dataset)), CHANGE)
    place = batch.click_place.numpy()  # its number in the log
    assert sessions.items[place].tolist() == batch.click_item.tolist()
    assert sessions.session_index[place].tolist() == batch.user[batch.click_batch].tolist()
    assert not (np.diff(place) > 0)[np.diff(batch.click_batch.numpy()) == 0].all()
    for graph in batch.to_data_list():
        assert graph.click_time.tolist() == sorted(graph.click_place.tolist())
    whole = SessionGraphDataset(sessions, "sessions", target_fields=["time"])
    for graph in whole.augmented_batch(range(30), SegmentReorder(1.0)).to_data_list():
        assert graph.y_time.tolist() == (graph.click_time + 1).tolist()


def test_augmented_sample_depends_on_seed_epoch_and_its_number_alone() -> None:
    dataset = make()
    everything = graphs(dataset.augmented_batch(range(len(dataset)), CHANGE, seed=1, epoch=2))
    some = [9, 4, 31, 4]
    assert graphs(dataset.augmented_batch(some, CHANGE, seed=1, epoch=2)) == [
        everything[i] for i in some
    ]
    chosen = dataset[torch.tensor([5, 9])]
    assert graphs(chosen.augmented_batch([1], CHANGE, seed=1, epoch=2)) == [everything[9]]
    for other in ({"seed": 1, "epoch": 3}, {"seed": 2, "epoch": 2}):
        assert graphs(dataset.augmented_batch(range(len(dataset)), CHANGE, **other)) != everything


@pytest.mark.parametrize("options", [{}, {"max_clicks": 40}, {"bucket": True}])
def test_loader_augments_anew_every_epoch_and_the_same_with_workers_or_from_a_position(
    options: dict[str, int],
) -> None:
    def loader(**further: int) -> SessionGraphLoader:
        return SessionGraphLoader(
            make(), 16, shuffle=True, seed=5, augmentation=CHANGE, **options, **further
        )

    first = loader()
    epochs = [[graphs(batch) for batch in first] for _ in range(2)]
    helped = loader(num_workers=2)
    assert [[graphs(batch) for batch in helped] for _ in range(2)] == epochs
    position = loader()
    position.load_state_dict({"seed": 5, "epoch": 1, "step": 3})
    assert [graphs(batch) for batch in position] == epochs[1][3:]
    flat = [sorted(graph for batch in epoch for graph in batch) for epoch in epochs]
    assert flat[0] != flat[1]


def test_view_of_a_session_depends_on_its_clicks_and_the_key_alone() -> None:
    dataset = make()
    batch = dataset.batch(range(60))
    view = augmented_view(batch, CHANGE, 1, 2)
    assert view.num_graphs == 60
    assert "y" not in view
    items = [graph.click_item.tolist() for graph in view.to_data_list()]
    some = augmented_view(dataset.batch([40, 3]), CHANGE, 1, 2).to_data_list()
    assert [graph.click_item.tolist() for graph in some] == [items[40], items[3]]
    other = augmented_view(batch, CHANGE, 1, 3).to_data_list()
    assert [graph.click_item.tolist() for graph in other] != items


def test_view_brings_fields_of_clicks_and_sessions_along() -> None:
    dataset = make()
    batch = dataset.batch(range(60))
    view = augmented_view(batch, CHANGE, 0)
    assert view.user.equal(batch.user)
    place = view.click_place.numpy()
    assert dataset.sessions.items[place].tolist() == view.click_item.tolist()
    assert dataset.sessions.session_index[place].tolist() == view.user[view.click_batch].tolist()
    for graph in view.to_data_list():
        assert graph.click_time.tolist() == sorted(graph.click_place.tolist())


def test_session_streams_tell_sessions_apart_by_items_and_order() -> None:
    items, ptr = np.array([1, 2, 2, 1, 1, 2, 1]), np.array([0, 2, 4, 6, 7, 7])
    streams = session_streams(items, ptr, np.uint64(5))
    assert streams[0] == streams[2]
    assert len(set(streams.tolist())) == 4
    assert session_streams(items[4:], ptr[2:] - 4, np.uint64(5)).tolist() == streams[2:].tolist()
    assert not set(session_streams(items, ptr, np.uint64(6)).tolist()) & set(streams.tolist())
