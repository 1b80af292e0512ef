"""Sequential rules against pairs by hand, a naive dictionary, the known numbers of three logs."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch

import graphseq as gs
from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.models.counting.popularity import Popularity
from graphseq.models.counting.sequential_rules import SequentialRules, common_multiple

NUM_ITEMS = 6
lists_of_sessions = st.lists(
    st.lists(st.integers(0, NUM_ITEMS - 1), min_size=1, max_size=14), min_size=1, max_size=8
)
WEIGHTS = {
    "reciprocal": lambda gap, window: Fraction(1, gap),
    "linear": lambda gap, window: Fraction(window + 1 - gap, window),
    "constant": lambda gap, window: Fraction(1),
}


def as_sessions(lists: list[list[int]]) -> Sessions:
    return Sessions.from_lists(lists, vocabulary=Vocabulary(np.arange(NUM_ITEMS)))


def as_batch(lists: list[list[int]]) -> Batch:
    ptr = np.concatenate(([0], np.cumsum([len(session) for session in lists], dtype=np.int64)))
    items = torch.tensor([item for session in lists for item in session], dtype=torch.long)
    return build_session_graphs(items, torch.from_numpy(ptr))


def naive_rules(
    train: list[list[int]], session: list[int], model: SequentialRules
) -> list[Fraction]:
    """The evidence for every item, exactly, pair by pair."""
    rules: dict[tuple[int, int], Fraction] = defaultdict(Fraction)
    for one in train:
        for first in range(len(one)):
            for second in range(first + 1, min(first + model.window, len(one) - 1) + 1):
                weight = WEIGHTS[model.weight](second - first, model.window)
                rules[one[first], one[second]] += weight
    scores = [Fraction(0)] * NUM_ITEMS
    for recency, click in enumerate(session[::-1][: model.last_clicks], start=1):
        for item in range(NUM_ITEMS):
            scores[item] += rules[click, item] / recency
    return scores


options = st.fixed_dictionaries(
    {
        "window": st.integers(1, 12),
        "weight": st.sampled_from(["reciprocal", "linear", "constant"]),
        "last_clicks": st.integers(1, 5),
        "backoff": st.sampled_from([0.0, 0.001, 1.0]),
    }
)


@settings(max_examples=80)
@given(train=lists_of_sessions, queries=lists_of_sessions, options=options)
def test_rules_any_sessions_equal_naive_dictionary_ties_included(
    train: list[list[int]], queries: list[list[int]], options: dict[str, object]
) -> None:
    model = SequentialRules(NUM_ITEMS, **options).fit_counts(as_sessions(train))  # type: ignore[arg-type]
    clicks = np.bincount([i for one in train for i in one], minlength=NUM_ITEMS).tolist()
    for session, row in zip(queries, model.score(as_batch(queries)), strict=True):
        exact = naive_rules(train, session, model)
        total = [
            float(weight) + model.backoff * clicks[item] / sum(clicks)
            if weight or model.backoff
            else -np.inf
            for item, weight in enumerate(exact)
        ]
        expected = torch.tensor(total, dtype=torch.double)
        torch.testing.assert_close(row, expected, rtol=1e-12, atol=1e-15)
        for one in range(NUM_ITEMS):
            for other in range(NUM_ITEMS):
                if (exact[one], clicks[one]) == (exact[other], clicks[other]):
                    assert row[one] == row[other]


@settings(max_examples=30)
@given(train=lists_of_sessions, queries=lists_of_sessions, options=options, seed=st.integers(0, 99))
def test_rules_candidates_equal_columns_of_all_items(
    train: list[list[int]], queries: list[list[int]], options: dict[str, object], seed: int
) -> None:
    model = SequentialRules(NUM_ITEMS, **options).fit_counts(as_sessions(train))  # type: ignore[arg-type]
    batch = as_batch(queries)
    everything = model.score(batch)
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randint(NUM_ITEMS, (4,), generator=generator)
    each = torch.randint(NUM_ITEMS, (len(queries), 4), generator=generator)
    assert torch.equal(model.score(batch, shared), everything[:, shared])
    assert torch.equal(model.score(batch, each), everything.gather(1, each))


def test_rules_by_hand_weigh_pairs_by_their_gap() -> None:
    model = SequentialRules(NUM_ITEMS, 2, backoff=0).fit_counts(as_sessions([[0, 1, 2, 3], [0, 2]]))
    inf = torch.inf
    expected = torch.tensor([[-inf, 1, 1.5, -inf, -inf, -inf]], dtype=torch.double)
    torch.testing.assert_close(model.score(as_batch([[5, 0]])), expected)


def test_rules_window_1_equals_counts_of_transitions() -> None:
    train = as_sessions([[0, 1, 0, 1, 1], [0, 0, 2]])
    rules = SequentialRules(NUM_ITEMS, 1, backoff=0.001).fit_counts(train)
    chain = gs.models.MarkovChain(NUM_ITEMS, backoff=0.001).fit_counts(train)
    followers = torch.tensor([[4.001], [2.001]], dtype=torch.double)
    batch = as_batch([[0], [1]])
    torch.testing.assert_close(rules.score(batch), chain.score(batch) * followers)


def test_rules_of_an_item_that_only_came_last_leave_popularity() -> None:
    train = as_sessions([[0, 1, 2], [0, 2]])
    scores = SequentialRules(NUM_ITEMS, backoff=1.0).fit_counts(train).score(as_batch([[2]]))
    torch.testing.assert_close(
        scores, Popularity(NUM_ITEMS).fit_counts(train).score(as_batch([[2]]))
    )
    plain = SequentialRules(NUM_ITEMS, backoff=0).fit_counts(train)
    assert plain.score(as_batch([[2]])).isneginf().all()


def test_rules_do_not_cross_sessions_or_the_window() -> None:
    model = SequentialRules(NUM_ITEMS, 2).fit_counts(as_sessions([[0, 1], [2, 3, 4, 5]]))
    pairs = torch.repeat_interleave(model.rule_ptr.diff()), model.rule_item
    assert list(zip(*(p.tolist() for p in pairs), strict=True)) == [
        (0, 1),
        (2, 3),
        (2, 4),
        (3, 4),
        (3, 5),
        (4, 5),
    ]


def test_rules_of_sessions_of_one_click_leave_popularity_alone() -> None:
    model = SequentialRules(NUM_ITEMS).fit_counts(as_sessions([[0], [1], [1]]))
    assert model.rule_item.numel() == 0
    assert model.score(as_batch([[0]])).argmax() == 1


def test_rules_sum_the_last_clicks_by_recency() -> None:
    # A ring: each click is followed by the next item; the last click weighs 1, the one before 1/2.
    model = SequentialRules(NUM_ITEMS, 1, last_clicks=2, backoff=0)
    model.fit_counts(as_sessions([[0, 1], [2, 3], [4, 5]]))
    scores = model.score(as_batch([[4, 0, 2]]))[0]
    assert scores.tolist() == [-np.inf, 0.5, -np.inf, 1.0, -np.inf, -np.inf]


def test_rules_empty_batch_gives_no_rows() -> None:
    model = SequentialRules(NUM_ITEMS).fit_counts(as_sessions([[0, 1]]))
    assert model.score(as_batch([])).shape == (0, NUM_ITEMS)
    assert model.score(as_batch([]), torch.tensor([0])).shape == (0, 1)


def test_rules_of_a_session_of_2000_clicks_equal_those_of_its_end() -> None:
    generator = torch.Generator().manual_seed(0)
    long = torch.randint(NUM_ITEMS, (2000,), generator=generator).tolist()
    model = SequentialRules(NUM_ITEMS, last_clicks=10).fit_counts(as_sessions([long]))
    assert torch.equal(model.score(as_batch([long])), model.score(as_batch([long[-10:]])))


def test_rules_are_sparse_for_a_million_items() -> None:
    num_items = 1_000_000
    items = np.arange(0, num_items, 1000).astype(np.int32)
    ptr = np.arange(0, len(items) + 1, 10)
    vocabulary = Vocabulary(pd.RangeIndex(num_items))
    model = SequentialRules(num_items).fit_counts(Sessions(items, ptr, vocabulary))
    state = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    assert model.rule_item.numel() == 100 * 45
    assert state < 20 * num_items
    scores = model.score(as_batch([[0]]), torch.tensor([1000, 2000, 5]))
    assert scores[0, 0] > scores[0, 1] > scores[0, 2] == 0


def test_rules_find_the_planted_pattern_that_popularity_misses() -> None:
    sessions = gs.generate_sessions(3000, 200, pattern=0.0, loops=0.0, repeats=0.0, seed=3)
    split = gs.session_split(sessions, 0.2)
    rules = SequentialRules(split.num_items).fit_counts(split.train)
    popular = Popularity(split.num_items).fit_counts(split.train)
    hits = [
        gs.evaluate(model, split.test, ks=(20,), progress=False).metrics["hr@20"]
        for model in (rules, popular)
    ]
    assert hits[0] > 1.5 * hits[1]  # the category of a session tells more than popularity


@pytest.mark.parametrize(("number", "multiple"), [(1, 1), (10, 2520), (3, 6)])
def test_common_multiple_by_hand(number: int, multiple: int) -> None:
    assert common_multiple(number) == multiple


def test_rules_of_a_window_beyond_any_common_multiple_are_near_the_naive_ones() -> None:
    train = [list(range(NUM_ITEMS)) * 20]
    model = SequentialRules(NUM_ITEMS, 100, backoff=0).fit_counts(as_sessions(train))
    expected = [float(weight) for weight in naive_rules(train, [3], model)]
    torch.testing.assert_close(
        model.score(as_batch([[3]]))[0].tolist(), expected, rtol=1e-12, atol=0
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 0}, "window must be at least 1 click, got 0"),
        ({"last_clicks": 0}, "last_clicks must be at least 1 click, got 0"),
        (
            {"weight": "quadratic"},
            "weight is 'reciprocal', 'linear' or 'constant', got 'quadratic'",
        ),
        ({"backoff": -1.0}, "backoff must be a finite number of at least 0, got -1"),
    ],
)
def test_rules_argument_out_of_range_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SequentialRules(NUM_ITEMS, **arguments)  # type: ignore[arg-type]


def test_rules_before_counting_say_what_to_call() -> None:
    with pytest.raises(ValueError, match="fit_counts"):
        SequentialRules(NUM_ITEMS).score(as_batch([[0]]))


def test_rules_survive_a_cast_of_the_module_to_half() -> None:
    model = SequentialRules(NUM_ITEMS).fit_counts(as_sessions([[0, 1, 2, 3, 4]] * 3))
    before = model.score(as_batch([[0]]))
    assert torch.equal(model.half().score(as_batch([[0]])), before)


def test_rules_repr_names_its_settings() -> None:
    expected = "SequentialRules(6, window=10, weight='reciprocal', last_clicks=1, backoff=0.001)"
    assert repr(SequentialRules(NUM_ITEMS)) == expected


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "backoff", "hit_rate", "mrr"),
    [
        ("yoochoose1_64", 0.0, 67.11, 30.20),
        ("yoochoose1_64", 0.001, 67.18, 30.20),
        ("diginetica", 0.0, 40.40, 14.15),
        ("diginetica", 0.001, 40.50, 14.09),
    ],
)
def test_rules_on_published_logs_give_the_counted_rows(
    data_root: Path, name: str, backoff: float, hit_rate: float, mrr: float
) -> None:
    split = gs.load_split(name, data_root)
    model = SequentialRules(split.num_items, backoff=backoff).fit_counts(split.train)
    metrics = gs.evaluate(model, split.test, ks=(20,), progress=False).metrics
    assert 100 * metrics["hr@20"] == pytest.approx(hit_rate, abs=0.006)
    assert 100 * metrics["mrr@20"] == pytest.approx(mrr, abs=0.006)


@pytest.mark.data
def test_rules_on_beauty_histories_give_the_counted_row(data_root: Path) -> None:
    # Neither the last click nor the one before is counted.
    split = gs.load_split("beauty", data_root, validation=1)
    model = SequentialRules(split.num_items, last_clicks=10).fit_counts(split.train)
    metrics = gs.evaluate(model, split.test, ks=(10,), exclude_seen=True, progress=False).metrics
    assert metrics["hr@10"] == pytest.approx(0.0804, abs=0.0002)
    assert metrics["ndcg@10"] == pytest.approx(0.0497, abs=0.0001)
