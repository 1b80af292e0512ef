"""Lanes against a naive walk lane by lane, as in the authors' code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphseq.data.graphs.dataset import NO_TARGET, UNKNOWN_TARGET, SessionGraphDataset
from graphseq.data.loading.session_parallel import (
    SessionParallelLoader,
    SessionParallelSampler,
    lane_schedule,
)
from graphseq.data.sessions.sessions import Sessions

Row = tuple[int, bool, int, int]  # lane, starts_session, item, target

any_lengths = st.lists(st.integers(1, 7), min_size=1, max_size=40)


@pytest.fixture
def dataset() -> SessionGraphDataset:
    generator = np.random.default_rng(0)
    lists = [generator.integers(0, 20, size=n).tolist() for n in generator.integers(2, 9, size=40)]
    return SessionGraphDataset(Sessions.from_lists(lists), "sessions")


def walk(lists: list[list[int]], num_lanes: int) -> list[list[Row]]:
    """Each lane has a list of remaining clicks; an empty lane takes the next session in order."""
    waiting = [list(session) for session in lists]
    lanes: list[list[int]] = [[] for _ in range(num_lanes)]
    steps = []
    while True:
        rows = []
        for number, clicks in enumerate(lanes):
            starts = len(clicks) < 2
            if starts and waiting:
                clicks[:] = waiting.pop(0)
            if len(clicks) > 1:
                rows.append((number, starts, clicks.pop(0), clicks[0]))
        if not rows:
            return steps
        steps.append(rows)


def rows_of(loader: SessionParallelLoader) -> list[list[Row]]:
    return [
        list(
            zip(
                batch.lane.tolist(),
                batch.starts_session.tolist(),
                batch.click_item.tolist(),
                batch.y.tolist(),
                strict=True,
            )
        )
        for batch in loader
    ]


@given(any_lengths, st.integers(1, 9))
def test_loader_equals_lanes_walked_one_by_one(lengths: list[int], num_lanes: int) -> None:
    first = np.cumsum([0, *lengths]) + np.arange(len(lengths) + 1)
    lists = [list(range(first[i], first[i] + n + 1)) for i, n in enumerate(lengths)]
    sessions = SessionGraphDataset(Sessions.from_lists(lists), "sessions")
    loader = SessionParallelLoader(sessions, num_lanes)
    expected = walk(lists, num_lanes)
    assert rows_of(loader) == expected
    assert len(loader) == len(expected)


def test_lane_schedule_by_hand_gives_the_next_session_to_the_lane_free_first() -> None:
    start, lane = lane_schedule(np.array([3, 1, 2, 1, 1, 2]), 2)
    assert start.tolist() == [0, 0, 1, 3, 3, 4]
    assert lane.tolist() == [0, 1, 1, 0, 1, 0]


def test_lane_schedule_with_fewer_sessions_than_lanes_gives_each_its_own() -> None:
    start, lane = lane_schedule(np.array([3, 1]), 5)
    assert (start.tolist(), lane.tolist()) == ([0, 0], [0, 1])


@given(any_lengths, st.integers(1, 6), st.integers(1, 3), st.integers(0, 3), st.booleans())
def test_sampler_ranks_take_every_click_once_and_in_order(
    lengths: list[int], num_lanes: int, world_size: int, epoch: int, shuffle: bool
) -> None:
    seen: dict[int, list[tuple[int, int, int]]] = {}
    steps = set()
    for rank in range(world_size):
        sampler = SessionParallelSampler(
            np.array(lengths), num_lanes, shuffle=shuffle, seed=3, rank=rank, world_size=world_size
        )
        sampler.set_epoch(epoch)
        steps.add(len(sampler))
        batches = list(sampler)
        assert len(batches) == len(sampler)
        for step, (samples, positions, lanes) in enumerate(batches):
            assert len(set(lanes)) == len(lanes) <= num_lanes
            for sample, position, lane in zip(samples, positions, lanes, strict=True):
                seen.setdefault(sample, []).append((step, position, rank * 100 + lane))
    assert len(steps) == 1
    assert seen.keys() == set(range(len(lengths)))
    for sample, clicks in seen.items():
        at, positions, lanes = zip(*clicks, strict=True)
        assert positions == tuple(range(lengths[sample]))
        assert at == tuple(range(at[0], at[0] + lengths[sample]))
        assert len(set(lanes)) == 1


def test_loader_order_depends_on_seed_and_epoch_alone(dataset: SessionGraphDataset) -> None:
    first = SessionParallelLoader(dataset, 8, shuffle=True, seed=1)
    epochs = [rows_of(first), rows_of(first)]
    assert epochs[0] != epochs[1]
    assert len(epochs[0]) == len(epochs[1])
    pairs = [sorted(row[2:] for rows in epoch for row in rows) for epoch in epochs]
    assert pairs[0] == pairs[1]
    second = SessionParallelLoader(dataset, 8, shuffle=True, seed=1)
    assert [rows_of(second), rows_of(second)] == epochs
    assert rows_of(SessionParallelLoader(dataset, 8, shuffle=True, seed=2)) != epochs[0]


def test_loader_workers_change_nothing(dataset: SessionGraphDataset) -> None:
    alone = SessionParallelLoader(dataset, 8, shuffle=True)
    helped = SessionParallelLoader(dataset, 8, shuffle=True, num_workers=1)
    assert rows_of(alone) == rows_of(helped)


@pytest.mark.parametrize("step", [1, 3, 20])
@pytest.mark.parametrize("shuffle", [True, False])
def test_loader_restored_position_goes_on_with_the_next_batch(
    dataset: SessionGraphDataset, shuffle: bool, step: int
) -> None:
    whole = SessionParallelLoader(dataset, 8, shuffle=shuffle, seed=1)
    rows_of(whole)
    expected = rows_of(whole)
    halfway = SessionParallelLoader(dataset, 8, shuffle=shuffle, seed=1)
    rows_of(halfway)
    for _, _batch in zip(range(step), halfway, strict=False):
        pass
    state = halfway.state_dict()
    assert state == {"seed": 1, "epoch": 1, "step": step}
    restored = SessionParallelLoader(dataset, 8, shuffle=shuffle, seed=1)
    restored.load_state_dict(state)
    assert rows_of(restored) == expected[step:]
    assert restored.state_dict() == {"seed": 1, "epoch": 2, "step": 0}


def test_loader_views_come_apart_into_graphs_of_one_click(dataset: SessionGraphDataset) -> None:
    for batch in SessionParallelLoader(dataset, 8):
        assert batch.click_ptr.tolist() == list(range(batch.num_graphs + 1))
        for row, graph in enumerate(batch.to_data_list()):
            assert graph.x.tolist() == [batch.click_item[row]]
            assert graph.click_index.tolist() == [0]
            assert graph.edge_index.shape == (2, 0)
            assert graph.edge_weight.shape == (0,)
            for name in ("y", "lane", "starts_session"):
                assert graph[name].tolist() == [batch[name][row]]


def test_loader_skips_unknown_clicks_and_walks_through_those_without_a_target() -> None:
    vocabulary = Sessions.from_lists([[0, 1, 2, 3]]).vocabulary
    sessions = Sessions.from_lists([[9, 0, 9, 1, 2, 9], [3, 2, 1, 1]], vocabulary=vocabulary)
    sessions = replace(sessions, first_target=np.array([1, 2]))
    loader = SessionParallelLoader(SessionGraphDataset(sessions, "sessions"), 2)
    assert rows_of(loader) == [
        [(0, True, 0, UNKNOWN_TARGET), (1, True, 3, NO_TARGET)],
        [(0, False, 1, 2), (1, False, 2, 1)],
        [(0, False, 2, UNKNOWN_TARGET), (1, False, 1, 1)],
    ]


def test_loader_views_hold_the_fields_of_their_click() -> None:
    frame = pd.DataFrame(
        {
            "session": [0, 0, 0, 1, 1],
            "user": ["a", "a", "a", "b", "b"],
            "item": [0, 1, 2, 1, 0],
            "time": [10, 20, 30, 40, 50],
            "price": [1.0, 2.0, 3.0, 4.0, 5.0],
        }
    )
    sessions = Sessions.from_frame(
        frame, session="session", item="item", time="time", user="user", features=["price"]
    )
    first, second = SessionParallelLoader(SessionGraphDataset(sessions, "sessions"), 2)
    assert first.click_price.tolist() == [1.0, 4.0]
    assert second.click_price.tolist() == [2.0]
    assert first.click_time.diff().tolist() == [30]
    assert (first.user.tolist(), second.user.tolist()) == ([0, 1], [0])


def test_loader_of_chosen_sessions_walks_through_these_alone(dataset: SessionGraphDataset) -> None:
    chosen = dataset[[3, 30, 7]]
    rows = [row for rows in rows_of(SessionParallelLoader(chosen, 1)) for row in rows]
    expected = [(c, t) for g in chosen for c, t in zip(g.click_item, g.y, strict=True)]
    assert [row[2:] for row in rows] == expected


def test_loader_of_prefixes_is_refused(dataset: SessionGraphDataset) -> None:
    prefixes = SessionGraphDataset(dataset.sessions)
    with pytest.raises(ValueError, match="samples='sessions', not 'prefixes'"):
        SessionParallelLoader(prefixes)
    with pytest.raises(ValueError, match="this dataset has 'prefixes'"):
        prefixes.click_views([0], np.array([0]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_lanes": 0}, "num_lanes must be at least 1, got 0"),
        ({"num_lanes": 4, "rank": 2, "world_size": 2}, r"rank must lie in 0\.\.1"),
    ],
)
def test_sampler_wrong_arguments_are_named(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SessionParallelSampler(np.array([1, 2]), **arguments)
