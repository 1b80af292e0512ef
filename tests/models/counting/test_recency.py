"""Recency by hand and against the order of a naive list."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Batch

import graphseq as gs
from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.models.counting.recency import Recency

NUM_ITEMS = 5
TRAIN = [[0, 1, 0], [1, 0, 2, 2], [3]]  # clicks: 3, 2, 2, 1, 0
lists_of_sessions = st.lists(
    st.lists(st.integers(0, NUM_ITEMS - 1), min_size=1, max_size=8), min_size=1, max_size=6
)


def as_sessions(lists: list[list[int]]) -> Sessions:
    return Sessions.from_lists(lists, vocabulary=Vocabulary(np.arange(NUM_ITEMS)))


def as_batch(lists: list[list[int]]) -> Batch:
    ptr = np.concatenate(([0], np.cumsum([len(session) for session in lists], dtype=np.int64)))
    items = torch.tensor([item for session in lists for item in session], dtype=torch.long)
    return build_session_graphs(items, torch.from_numpy(ptr))


def test_recency_by_hand_gives_last_clicks_then_shares() -> None:
    scores = Recency(NUM_ITEMS).fit_counts(as_sessions(TRAIN)).score(as_batch([[2, 4, 2, 3]]))
    expected = torch.tensor([[3 / 8, 2 / 8, 1 + 1 / 2, 2, 1 + 1 / 3]], dtype=torch.double)
    torch.testing.assert_close(scores, expected)


@given(train=lists_of_sessions, queries=lists_of_sessions)
def test_recency_ranks_newest_first_and_then_by_popularity(
    train: list[list[int]], queries: list[list[int]]
) -> None:
    model = Recency(NUM_ITEMS).fit_counts(as_sessions(train))
    clicks = Counter(item for session in train for item in session)
    for session, row in zip(queries, model.score(as_batch(queries)).tolist(), strict=True):
        newest = [max((p for p, i in enumerate(session) if i == j), default=-1) for j in range(5)]
        keys = [(newest[j], clicks[j] if newest[j] < 0 else 0) for j in range(NUM_ITEMS)]
        for one in range(NUM_ITEMS):
            for other in range(NUM_ITEMS):
                assert (row[one] > row[other]) == (keys[one] > keys[other])


def test_recency_candidates_equal_columns_of_all_items() -> None:
    model = Recency(NUM_ITEMS).fit_counts(as_sessions(TRAIN))
    batch = as_batch([[4, 2, 2], [0]])
    everything = model.score(batch)
    shared, each = torch.tensor([4, 0, 2]), torch.tensor([[2, 2], [0, 3]])
    assert torch.equal(model.score(batch, shared), everything[:, shared])
    assert torch.equal(model.score(batch, each), everything.gather(1, each))


def test_recency_of_2000_clicks_keeps_their_order() -> None:
    model = Recency(2000).fit_counts(Sessions.from_lists([list(range(2000)) + [7] * 5000]))
    order = torch.randperm(2000, generator=torch.Generator().manual_seed(0))
    scores = model.score(as_batch([order.tolist()]))[0]
    assert torch.equal(scores.argsort(descending=True), order.flip(0))


def test_recency_finds_the_repeats_that_popularity_misses() -> None:
    sessions = gs.generate_sessions(400, 200, pattern=0.0, loops=0.0, repeats=0.8, seed=0)
    split = gs.session_split(sessions, 0.2)
    hits = [
        gs.evaluate(model.fit_counts(split.train), split.test, ks=(5,), progress=False)
        for model in (Recency(split.num_items), gs.models.Popularity(split.num_items))
    ]
    assert hits[0].metrics["hr@5"] > 2 * hits[1].metrics["hr@5"]


def test_recency_empty_batch_gives_no_rows() -> None:
    model = Recency(NUM_ITEMS).fit_counts(as_sessions(TRAIN))
    assert model.score(as_batch([])).shape == (0, NUM_ITEMS)


def test_recency_before_counting_says_what_to_call() -> None:
    with pytest.raises(ValueError, match="fit_counts"):
        Recency(NUM_ITEMS).score(as_batch([[0]]))
