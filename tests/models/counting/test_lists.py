"""Sums of lists against double loops, in blocks of any size, within their memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch_geometric.data import Batch

from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.models.base import SessionModel
from graphseq.models.counting.counting import CountingModel
from graphseq.models.counting.item_knn import ItemKNN
from graphseq.models.counting.lists import entries_of, highest, weighted_sums
from graphseq.models.counting.markov import MarkovChain
from graphseq.models.counting.sequential_rules import SequentialRules
from graphseq.models.counting.vsknn import VSKNN
from graphseq.models.counting.vstan import VSTAN
from graphseq.models.use import inference

NUM_ITEMS = 40
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 1e-9)


def pointer(lengths: list[int]) -> NDArray[np.int64]:
    return np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))


def test_entries_of_lists_come_in_the_order_asked_for() -> None:
    entry, ptr = entries_of(np.array([0, 2, 2, 5]), np.array([2, 1, 0, 2]))
    assert entry.tolist() == [2, 3, 4, 0, 1, 2, 3, 4]
    assert ptr.tolist() == [0, 3, 3, 5, 8]


lists_of_columns = st.lists(st.sets(st.integers(0, 8), max_size=5), min_size=1, max_size=6)


@settings(max_examples=60)
@given(columns=lists_of_columns, data=st.data(), most=st.integers(1, 40))
def test_weighted_sums_any_lists_equal_a_double_loop_to_the_last_bit(
    columns: list[set[int]], data: st.DataObject, most: int
) -> None:
    number = st.lists(st.integers(0, len(columns) - 1), max_size=6)
    rows = data.draw(st.lists(number, max_size=6))
    weights = data.draw(
        st.lists(st.sampled_from(WEIGHTS), min_size=sum(map(len, rows)), max_size=50)
    )
    list_ptr = pointer([len(one) for one in columns])
    column = np.array([c for one in columns for c in one], dtype=np.int32)
    value = np.random.default_rng(0).random(len(column))
    read = []

    def entries(entry: NDArray[Any], of: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        assert all(list_ptr[n] <= e < list_ptr[n + 1] for e, n in zip(entry, of, strict=True))
        read.append(len(entry))
        return column[entry], value[entry]

    expected, weight = np.zeros((len(rows), 9)), iter(weights)
    for row, numbers in enumerate(rows):
        for n in numbers:
            w = next(weight)
            for e in range(list_ptr[n], list_ptr[n + 1]):
                expected[row, column[e]] += w * value[e]
    ptr, flat = pointer([len(one) for one in rows]), np.array([n for one in rows for n in one], int)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "MOST_ENTRIES", most)
        blocks = list(weighted_sums(ptr, flat, np.array(weights), list_ptr, entries, 9))
    assert [r for rows, _ in blocks for r in range(rows.start, rows.stop)] == list(range(len(rows)))
    found = np.concatenate([np.zeros((0, 9)), *(sums.toarray() for _, sums in blocks)])
    np.testing.assert_array_equal(found, expected)
    work = [sum(len(columns[n]) for n in numbers) for numbers in rows]
    assert max(read, default=0) <= max([most, *work])


@settings(max_examples=100)
@given(
    rows=st.lists(
        st.lists(st.sampled_from((0.0, 0.5, 0.5 + 1e-9, 0.5 - 1e-9, 1e-30, 3.0)), max_size=6),
        max_size=5,
    ),
    k=st.integers(1, 4),
    seed=st.none() | st.integers(0, 99),
)
def test_highest_of_any_rows_equal_a_sort_ties_included(
    rows: list[list[float]], k: int, seed: int | None
) -> None:
    row = np.repeat(np.arange(len(rows)) * 3, [len(one) for one in rows])
    value = np.array([v for one in rows for v in one])
    tie = None if seed is None else np.random.default_rng(seed).integers(0, 3, len(value))
    expected = np.zeros(len(value), dtype=bool)
    for number in range(len(rows)):
        own = np.flatnonzero(row == number * 3)
        order = sorted(own, key=lambda e: (-value[e], 0 if tie is None else tie[e], e))
        expected[order[:k]] = True
    np.testing.assert_array_equal(highest(row, value, k, tie), expected)


FAMILIES: dict[str, Callable[[], CountingModel]] = {
    "item_knn": lambda: ItemKNN(NUM_ITEMS, 9, last_clicks=None),
    "markov": lambda: MarkovChain(NUM_ITEMS, 2),
    "sequential_rules": lambda: SequentialRules(NUM_ITEMS, last_clicks=20),
    "vsknn": lambda: VSKNN(NUM_ITEMS, 20, 90),
    "vsknn, log": lambda: VSKNN(NUM_ITEMS, 20, 90, decay="linear", half_life=7.0),
    "vstan": lambda: VSTAN(NUM_ITEMS, 30, 60, half_life=9.0, backoff=0),
}
BY_FAMILY = pytest.mark.parametrize("build", FAMILIES.values(), ids=FAMILIES)


def random_lists(number: int, longest: int, num_items: int, seed: int) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, longest + 1, number)
    return [generator.integers(0, num_items, n).tolist() for n in lengths]


def as_batch(lists: list[list[int]]) -> Batch:
    items = torch.tensor([item for one in lists for item in one], dtype=torch.long)
    return build_session_graphs(items, torch.from_numpy(pointer([len(one) for one in lists])))


def fitted(model: CountingModel, log: list[list[int]]) -> CountingModel:
    vocabulary = Vocabulary(np.arange(model.num_items))
    return model.fit_counts(Sessions.from_lists(log, vocabulary=vocabulary))


@BY_FAMILY
@pytest.mark.parametrize("most", [1, 50, 1000])
def test_scores_are_the_same_to_the_last_bit_however_the_batch_is_cut(
    build: Callable[[], CountingModel], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fitted(build(), random_lists(150, 12, NUM_ITEMS, seed=0))
    queries = random_lists(25, 30, NUM_ITEMS, seed=1)
    batch = as_batch(queries)
    shared, each = torch.tensor([3, 3, 39, 0]), torch.randint(NUM_ITEMS, (25, 5))
    wanted = [model.score(batch, items) for items in (None, shared, each)]
    alone = torch.cat([model.score(as_batch([one])) for one in queries])
    monkeypatch.setattr(inference, "MOST_ENTRIES", most)
    for items, expected in zip((None, shared, each), wanted, strict=True):
        assert torch.equal(model.score(batch, items), expected)
    assert torch.equal(alone, wanted[0])


@BY_FAMILY
def test_lists_stay_in_main_memory_on_whatever_device_the_scores_are(
    build: Callable[[], CountingModel],
) -> None:
    model = fitted(build(), [[0, 1, 2], [0, 2]])
    score = model.score(as_batch([[0, 1]]))
    counts = model.item_counts.clone()
    model.to("meta")
    assert model.device.type == "meta"
    model.item_counts = counts
    if not isinstance(model, MarkovChain):  # reads its counts where the scores are
        assert torch.equal(model.score(as_batch([[0, 1]])), score)


@pytest.mark.parametrize("build", [ItemKNN, VSKNN, VSTAN], ids=["item_knn", "vsknn", "vstan"])
def test_memory_of_scoring_does_not_grow_with_the_sessions(
    build: Callable[..., SessionModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"last_clicks": None} if build is ItemKNN else {}
    model = fitted(build(500, 50, **options), random_lists(600, 60, 500, seed=0))  # type: ignore[arg-type]
    monkeypatch.setattr(inference, "MOST_ENTRIES", 10_000)

    def peak(number: int) -> int:
        batch = as_batch([random_lists(1, 300, 500, seed=2)[0] for _ in range(number)])
        tracemalloc.start()  # sees NumPy's arrays, not the scores that were asked for
        model.score(batch)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    few = peak(4)
    assert few > 1e5
    assert peak(64) < 2 * few
