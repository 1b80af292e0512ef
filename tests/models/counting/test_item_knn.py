"""Item-kNN against cosines by hand and a naive double loop over items."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch

import graphseq as gs
from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.models.counting import item_knn
from graphseq.models.counting.item_knn import ItemKNN

NUM_ITEMS = 6
lists_of_sessions = st.lists(
    st.lists(st.integers(0, NUM_ITEMS - 1), min_size=1, max_size=8), min_size=1, max_size=10
)


def as_sessions(lists: list[list[int]]) -> Sessions:
    return Sessions.from_lists(lists, vocabulary=Vocabulary(np.arange(NUM_ITEMS)))


def as_batch(lists: list[list[int]]) -> Batch:
    ptr = np.concatenate(([0], np.cumsum([len(session) for session in lists], dtype=np.int64)))
    items = torch.tensor([item for session in lists for item in session], dtype=torch.long)
    return build_session_graphs(items, torch.from_numpy(ptr))


def naive(train: list[list[int]], session: list[int], model: ItemKNN) -> list[float]:
    sets = [{n for n, one in enumerate(train) if item in one} for item in range(NUM_ITEMS)]
    flat = [item for one in train for item in one]
    last = [max((p for p, i in enumerate(flat) if i == j), default=-1) for j in range(NUM_ITEMS)]
    scores = [model.backoff * flat.count(item) / len(flat) for item in range(NUM_ITEMS)]
    evident = set()
    for item in dict.fromkeys(session[-model.last_clicks :] if model.last_clicks else session):
        cosine = {}
        for other in range(NUM_ITEMS):
            both = len(sets[item] & sets[other])
            if other != item and both:
                sizes = [len(sets[j]) + model.regularization for j in (item, other)]
                cosine[other] = both / math.sqrt(sizes[0] * sizes[1])
        ranked = sorted(cosine, key=lambda j: (round(cosine[j], 12), last[j]), reverse=True)
        for other in ranked[: model.k]:
            scores[other] += cosine[other]
            evident.add(other)
    if model.backoff == 0:
        return [scores[j] if j in evident else -math.inf for j in range(NUM_ITEMS)]
    return scores


options = st.fixed_dictionaries(
    {
        "k": st.integers(1, 6),
        "regularization": st.sampled_from([0.0, 1.0, 20.0]),
        "last_clicks": st.sampled_from([None, 1, 2, 3]),
        "backoff": st.sampled_from([0.0, 0.001]),
    }
)


@settings(max_examples=80)
@given(train=lists_of_sessions, queries=lists_of_sessions, options=options)
def test_item_knn_any_sessions_equal_naive_cosines_ties_included(
    train: list[list[int]], queries: list[list[int]], options: dict[str, object]
) -> None:
    model = ItemKNN(NUM_ITEMS, **options).fit_counts(as_sessions(train))  # type: ignore[arg-type]
    expected = [naive(train, session, model) for session in queries]
    torch.testing.assert_close(
        model.score(as_batch(queries)),
        torch.tensor(expected, dtype=torch.double),
        rtol=1e-12,
        atol=1e-15,
    )


@settings(max_examples=30)
@given(train=lists_of_sessions, queries=lists_of_sessions, options=options, seed=st.integers(0, 99))
def test_item_knn_candidates_equal_columns_of_all_items(
    train: list[list[int]], queries: list[list[int]], options: dict[str, object], seed: int
) -> None:
    model = ItemKNN(NUM_ITEMS, **options).fit_counts(as_sessions(train))  # type: ignore[arg-type]
    batch = as_batch(queries)
    everything = model.score(batch)
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randint(NUM_ITEMS, (4,), generator=generator)
    each = torch.randint(NUM_ITEMS, (len(queries), 4), generator=generator)
    assert torch.equal(model.score(batch, shared), everything[:, shared])
    assert torch.equal(model.score(batch, each), everything.gather(1, each))


def test_item_knn_by_hand_gives_cosines() -> None:
    train = as_sessions([[0, 1, 1], [0, 1], [0, 2], [0, 3, 0]])
    model = ItemKNN(NUM_ITEMS, regularization=0, backoff=0).fit_counts(train)
    inf = torch.inf
    expected = torch.tensor([[-inf, 2 / 8**0.5, 0.5, 0.5, -inf, -inf]], dtype=torch.double)
    torch.testing.assert_close(model.score(as_batch([[0]])), expected)


def test_item_knn_regularization_makes_rare_items_less_similar() -> None:
    train = as_sessions([[0, 1], [2, 3], [2, 3], [2, 3], [2, 3]])
    for regularization, equal in ((0.0, True), (1.0, False)):
        model = ItemKNN(NUM_ITEMS, regularization=regularization, backoff=0).fit_counts(train)
        scores = model.score(as_batch([[0], [2]]))
        assert (scores[0, 1] == scores[1, 3]) == equal
        assert scores[0, 1] <= scores[1, 3]


def test_item_knn_equally_near_items_keep_those_clicked_later() -> None:
    model = ItemKNN(NUM_ITEMS, 2, backoff=0).fit_counts(as_sessions([[0, 4], [0, 2], [0, 3]]))
    assert model.score(as_batch([[0]]))[0].isfinite().nonzero().view(-1).tolist() == [2, 3]


def test_item_knn_blocks_of_items_give_the_same_neighbors(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    train = as_sessions(torch.randint(NUM_ITEMS, (30, 4), generator=generator).tolist())
    whole = ItemKNN(NUM_ITEMS, 3).fit_counts(train).state_dict()
    monkeypatch.setattr(item_knn, "MOST_PRODUCTS", 50)
    for name, value in ItemKNN(NUM_ITEMS, 3).fit_counts(train).state_dict().items():
        assert torch.equal(value, whole[name]), name


def test_item_knn_item_never_clicked_has_no_neighbors() -> None:
    model = ItemKNN(NUM_ITEMS, backoff=0).fit_counts(as_sessions([[0, 1]]))
    assert model.score(as_batch([[5]])).isneginf().all()


def test_item_knn_sessions_of_one_item_leave_popularity_alone() -> None:
    model = ItemKNN(NUM_ITEMS).fit_counts(as_sessions([[0], [1], [1, 1]]))
    assert model.neighbor_item.numel() == 0
    assert model.score(as_batch([[0]])).argmax() == 1


def test_item_knn_unknown_click_is_no_neighbor() -> None:
    lists = [["a", "x", "b"], ["x"], ["b"]]
    train = Sessions.from_lists(lists, vocabulary=Vocabulary(["a", "b"]))
    model = ItemKNN(2, regularization=0, backoff=0).fit_counts(train)
    torch.testing.assert_close(model.score(as_batch([[0]]))[0, 1].item(), 1 / 2**0.5)


def test_item_knn_finds_the_categories_that_popularity_misses() -> None:
    sessions = gs.generate_sessions(3000, 200, pattern=0.0, loops=0.0, repeats=0.0, seed=3)
    split = gs.session_split(sessions, 0.2)
    models = [ItemKNN(split.num_items), gs.models.Popularity(split.num_items)]
    hits = [
        gs.evaluate(model.fit_counts(split.train), split.test, ks=(20,), progress=False)
        for model in models
    ]
    assert hits[0].metrics["hr@20"] > 1.3 * hits[1].metrics["hr@20"]


def test_item_knn_empty_batch_gives_no_rows() -> None:
    model = ItemKNN(NUM_ITEMS).fit_counts(as_sessions([[0, 1]]))
    assert model.score(as_batch([])).shape == (0, NUM_ITEMS)
    assert model.score(as_batch([]), torch.tensor([0])).shape == (0, 1)


def test_item_knn_of_2000_clicks_with_repeats_counts_each_item_once() -> None:
    model = ItemKNN(NUM_ITEMS, last_clicks=None).fit_counts(as_sessions([[0, 1, 2], [1, 3]]))
    long = model.score(as_batch([[1] * 1000 + [0] * 1000]))
    torch.testing.assert_close(long, model.score(as_batch([[0, 1]])))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k must be at least 1 neighbor, got 0"),
        ({"last_clicks": 0}, "last_clicks must be at least 1 click, or None, got 0"),
        ({"regularization": -1.0}, "regularization must be a finite number of at least 0, got -1"),
        ({"backoff": math.nan}, "backoff must be a finite number of at least 0, got nan"),
    ],
)
def test_item_knn_argument_out_of_range_is_refused(
    arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ItemKNN(NUM_ITEMS, **arguments)  # type: ignore[arg-type]


def test_item_knn_repr_names_its_settings() -> None:
    expected = "ItemKNN(6, k=100, regularization=20.0, last_clicks=1, backoff=0.001)"
    assert repr(ItemKNN(NUM_ITEMS)) == expected


@pytest.mark.data
def test_item_knn_on_diginetica_gives_its_row(data_root: Path) -> None:
    # Published with other details: 35.75 / 11.57 (Wu et al., AAAI 2019, table 2).
    split = gs.load_split("diginetica", data_root)
    model = ItemKNN(split.num_items).fit_counts(split.train)
    metrics = gs.evaluate(model, split.test, ks=(20,), progress=False).metrics
    assert 100 * metrics["hr@20"] == pytest.approx(37.29, abs=0.006)
    assert 100 * metrics["mrr@20"] == pytest.approx(11.99, abs=0.006)
