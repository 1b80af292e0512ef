"""Session popularity by hand, against a naive count, and on the published Diginetica."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

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
from graphseq.models.counting.session_popularity import SessionPopularity

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


def test_session_popularity_by_hand_gives_own_clicks_and_a_share_below_one() -> None:
    scores = (
        SessionPopularity(NUM_ITEMS).fit_counts(as_sessions(TRAIN)).score(as_batch([[2, 2, 3]]))
    )
    expected = torch.tensor([[3, 2, 2 + 2 * 9, 1 + 1 * 9, 0]], dtype=torch.double) / 9
    torch.testing.assert_close(scores, expected)


@given(train=lists_of_sessions, queries=lists_of_sessions)
def test_session_popularity_ranks_by_own_clicks_and_then_by_popularity(
    train: list[list[int]], queries: list[list[int]]
) -> None:
    model = SessionPopularity(NUM_ITEMS).fit_counts(as_sessions(train))
    clicks = Counter(item for session in train for item in session)
    for session, row in zip(queries, model.score(as_batch(queries)).tolist(), strict=True):
        keys = [(session.count(item), clicks[item]) for item in range(NUM_ITEMS)]
        for one in range(NUM_ITEMS):
            for other in range(NUM_ITEMS):
                assert (row[one] > row[other]) == (keys[one] > keys[other])


def test_session_popularity_catalog_of_one_popular_item_still_puts_own_clicks_first() -> None:
    model = SessionPopularity(NUM_ITEMS).fit_counts(as_sessions([[0], [0]]))
    scores = model.score(as_batch([[1]]))[0]
    assert scores.argsort(descending=True, stable=True).tolist() == [1, 0, 2, 3, 4]


def test_session_popularity_candidates_equal_columns_of_all_items() -> None:
    model = SessionPopularity(NUM_ITEMS).fit_counts(as_sessions(TRAIN))
    batch = as_batch([[4, 2, 2], [0]])
    everything = model.score(batch)
    shared, each = torch.tensor([4, 0, 2]), torch.tensor([[2, 2], [0, 3]])
    assert torch.equal(model.score(batch, shared), everything[:, shared])
    assert torch.equal(model.score(batch, each), everything.gather(1, each))


def test_session_popularity_empty_batch_gives_no_rows() -> None:
    model = SessionPopularity(NUM_ITEMS).fit_counts(as_sessions(TRAIN))
    assert model.score(as_batch([])).shape == (0, NUM_ITEMS)
    assert model.score(as_batch([]), torch.tensor([1])).shape == (0, 1)


def test_session_popularity_of_2000_clicks_counts_them_all() -> None:
    model = SessionPopularity(NUM_ITEMS).fit_counts(as_sessions(TRAIN))
    scores = model.score(as_batch([[4] * 1999 + [0]]))[0]
    torch.testing.assert_close(scores[4].item(), 1999.0)


def test_session_popularity_before_counting_says_what_to_call() -> None:
    with pytest.raises(ValueError, match="fit_counts"):
        SessionPopularity(NUM_ITEMS).score(as_batch([[0]]))


def test_session_popularity_finds_the_repeats_that_popularity_misses() -> None:
    sessions = gs.generate_sessions(400, 200, pattern=0.0, loops=0.0, repeats=0.8, seed=0)
    split = gs.session_split(sessions, 0.2)
    hits = [
        gs.evaluate(model.fit_counts(split.train), split.test, ks=(5,), progress=False)
        for model in (SessionPopularity(split.num_items), gs.models.Popularity(split.num_items))
    ]
    assert hits[0].metrics["hr@5"] > 2 * hits[1].metrics["hr@5"]


@pytest.mark.data
def test_session_popularity_on_diginetica_gives_the_published_row(data_root: Path) -> None:
    # Wu et al., AAAI 2019, table 2: 21.06 / 13.68; here ties share their places.
    split = gs.load_split("diginetica", data_root)
    model = SessionPopularity(split.num_items).fit_counts(split.train)
    metrics = gs.evaluate(model, split.test, ks=(20,), progress=False).metrics
    assert 100 * metrics["hr@20"] == pytest.approx(21.06, abs=0.05)
    assert 100 * metrics["mrr@20"] == pytest.approx(13.68, abs=0.05)
