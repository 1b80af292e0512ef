"""Markov chains against counts by hand, a naive dictionary, and the known numbers of two logs."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import Batch

import graphseq as gs
from graphseq.data.formats.readers import read_session_lines
from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.data.splits.splits import fixed_split
from graphseq.evaluation import evaluate
from graphseq.models.counting.markov import MarkovChain
from graphseq.models.use.persistence import load

NUM_ITEMS = 6
lists_of_sessions = st.lists(
    st.lists(st.integers(0, NUM_ITEMS - 1), min_size=1, max_size=8), min_size=1, max_size=12
)


def as_sessions(lists: list[list[int]]) -> Sessions:
    return Sessions.from_lists(lists, vocabulary=Vocabulary(np.arange(NUM_ITEMS)))


def as_batch(lists: list[list[int]]) -> Batch:
    ptr = np.concatenate(([0], np.cumsum([len(session) for session in lists])))
    items = torch.tensor([item for session in lists for item in session])
    return build_session_graphs(items, torch.from_numpy(ptr))


def naive(
    train: list[list[int]],
    session: list[int],
    order: int,
    backoff: float,
    smoothing: float,
    ages: list[list[float]] | None = None,
) -> list[float]:
    """P_k of every item, read off the definition; with ages of all clicks in half-lives."""
    clicks = Counter(item for one in train for item in one)
    total = sum(clicks.values()) + smoothing * NUM_ITEMS
    scores = [(clicks[item] + smoothing) / total for item in range(NUM_ITEMS)]
    longest = min(order, len(session))
    for k in range(1, longest + 1):
        found = [
            (one[end], 0 if ages is None else ages[number][end])
            for number, one in enumerate(train)
            for end in range(k, len(one))
            if one[end - k : end] == session[-k:]
        ]
        followers: dict[int, float] = defaultdict(float)
        for item, age in found:
            followers[item] += 2.0 ** (min(other for _, other in found) - age)
        n = sum(followers.values())
        if backoff > 0:
            scores = [
                (followers[item] + backoff * scores[item]) / (n + backoff)
                for item in range(NUM_ITEMS)
            ]
        elif k == longest:
            scores = [
                followers[item] / n if followers[item] else -np.inf for item in range(NUM_ITEMS)
            ]
    return scores


@settings(max_examples=60)
@given(
    train=lists_of_sessions,
    queries=lists_of_sessions,
    order=st.integers(1, 3),
    backoff=st.sampled_from([0.0, 0.001, 1.0]),
    smoothing=st.sampled_from([0.0, 0.5]),
)
def test_markov_any_sessions_equals_naive_dictionary(
    train: list[list[int]],
    queries: list[list[int]],
    order: int,
    backoff: float,
    smoothing: float,
) -> None:
    model = MarkovChain(NUM_ITEMS, order, backoff=backoff, smoothing=smoothing)
    scores = model.fit_counts(as_sessions(train)).score(as_batch(queries))
    expected = [naive(train, session, order, backoff, smoothing) for session in queries]
    torch.testing.assert_close(
        scores, torch.tensor(expected, dtype=torch.double), rtol=1e-12, atol=1e-15
    )
    if backoff > 0:
        torch.testing.assert_close(scores.sum(1), torch.ones(len(queries), dtype=torch.double))


@settings(max_examples=30)
@given(
    train=lists_of_sessions,
    queries=lists_of_sessions,
    order=st.integers(1, 3),
    backoff=st.sampled_from([0.0, 0.001]),
    seed=st.integers(0, 2**20),
)
def test_markov_candidates_equal_columns_of_all_items(
    train: list[list[int]], queries: list[list[int]], order: int, backoff: float, seed: int
) -> None:
    model = MarkovChain(NUM_ITEMS, order, backoff=backoff).fit_counts(as_sessions(train))
    batch = as_batch(queries)
    everything = model.score(batch)
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randint(NUM_ITEMS, (4,), generator=generator)
    each = torch.randint(NUM_ITEMS, (len(queries), 4), generator=generator)
    assert torch.equal(model.score(batch, shared), everything[:, shared])
    assert torch.equal(model.score(batch, each), everything.gather(1, each))


@settings(max_examples=40)
@given(
    train=lists_of_sessions,
    queries=lists_of_sessions,
    order=st.integers(1, 3),
    backoff=st.sampled_from([0.0, 0.001]),
    half_life=st.sampled_from([0.5, 3.0, 100.0]),
    seed=st.none() | st.integers(0, 99),
)
def test_markov_half_life_any_sessions_equal_naive_dictionary_of_weights(
    train: list[list[int]],
    queries: list[list[int]],
    order: int,
    backoff: float,
    half_life: float,
    seed: int | None,
) -> None:
    sessions = as_sessions(train)
    if seed is None:  # ages in transitions
        last = list(range(sum(len(one) - 1 for one in train)))
        ages = [[np.nan] + [last.pop() / half_life for _ in one[1:]] for one in train]
    else:
        time = np.random.default_rng(seed).integers(0, 20, sessions.num_clicks).astype(np.float64)
        sessions = replace(sessions, time=time)
        flat = iter(((time.max() - time) / half_life).tolist())
        ages = [[next(flat) for _ in one] for one in train]
    model = MarkovChain(NUM_ITEMS, order, backoff=backoff, half_life=half_life)
    scores = model.fit_counts(sessions).score(as_batch(queries))
    expected = [naive(train, session, order, backoff, 0.0, ages) for session in queries]
    torch.testing.assert_close(
        scores, torch.tensor(expected, dtype=torch.double), rtol=1e-9, atol=1e-15
    )


def test_markov_half_life_lets_new_transitions_outweigh_old_ones() -> None:
    train = as_sessions([[0, 1], [0, 1], [0, 1], [0, 2]])
    assert scores_of(MarkovChain(NUM_ITEMS).fit_counts(train), [0]).argmax() == 1
    assert scores_of(MarkovChain(NUM_ITEMS, half_life=1.0).fit_counts(train), [0]).argmax() == 2


def test_markov_half_life_transitions_beyond_all_decay_are_forgotten() -> None:
    sessions = replace(as_sessions([[0, 1], [0, 3]]), time=np.array([0.0, 0.0, 1e9, 1e9]))
    model = MarkovChain(NUM_ITEMS, backoff=0, half_life=1.0).fit_counts(sessions)
    expected = torch.tensor([[-np.inf, -np.inf, -np.inf, 1.0, -np.inf, -np.inf]]).double()
    torch.testing.assert_close(scores_of(model, [0]), expected)


@pytest.mark.parametrize("order", [1, 2])
def test_markov_half_life_clicks_elsewhere_a_month_later_change_no_context(order: int) -> None:
    lists, time = [[0, 1, 2], [0, 1, 3]], [0.0, 1.0, 2.0, 5.0, 6.0, 7.0]
    before = replace(as_sessions(lists), time=np.array(time))
    month = 30 * 86_400.0
    after = replace(as_sessions([*lists, [4, 5]]), time=np.array([*time, month, month]))
    models = [
        MarkovChain(NUM_ITEMS, order, backoff=0, half_life=5.0).fit_counts(log)
        for log in (before, after)
    ]
    for model in models:  # one half-life lies between the two sessions
        scores = scores_of(model, [0, 1])[0]
        torch.testing.assert_close(scores[2:4], torch.tensor([1 / 3, 2 / 3]).double())
    filled = MarkovChain(NUM_ITEMS, order, half_life=5.0).fit_counts(after)
    assert scores_of(filled, [0, 1]).argmax() == 3  # not what is popular


def test_markov_half_life_saved_and_loaded_keeps_weights(tmp_path: Path) -> None:
    # One context of each order: the weights have the shape of an empty model's counts.
    model = MarkovChain(NUM_ITEMS, half_life=0.7).fit_counts(as_sessions([[0, 1], [0, 2]]))
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert torch.equal(loaded.score(as_batch([[0]])), model.score(as_batch([[0]])))
    assert torch.equal(model.half().score(as_batch([[0]])), loaded.score(as_batch([[0]])))


def test_markov_predict_next_gives_the_textbook_estimate_in_the_users_ids() -> None:
    model = MarkovChain(3).fit_counts(Sessions.from_lists([["a", "b", "a", "b"], ["a", "a", "c"]]))
    # a was followed four times: by b twice, by a and by c once.
    answer = model.predict_next([["c", "a"], ["b"], ["c"]], backoff=0)
    assert answer == [[("b", 0.5), ("a", 0.25), ("c", 0.25)], [("a", 1.0)], []]
    assert model.backoff == 0.001


def test_markov_predict_next_with_backoff_sums_to_one_over_all_items() -> None:
    model = MarkovChain(3).fit_counts(Sessions.from_lists([["a", "b", "a"], ["c"]]))
    for session in (["a"], ["c"], []):
        (answer,) = model.predict_next([session], k=3)
        assert len(answer) == 3
        assert sum(probability for _, probability in answer) == pytest.approx(1.0)
    assert model.predict_next([["a"]]) == model.recommend([["a"]])


def test_markov_predict_next_passes_options_on() -> None:
    model = MarkovChain(3).fit_counts(Sessions.from_lists([["a", "b", "a", "c"]]))
    assert model.predict_next([["a"]], backoff=0, exclude=["b"]) == [[("c", 0.5)]]
    with pytest.raises(ValueError, match="backoff must be a finite number of at least 0, got -1"):
        model.predict_next([["a"]], backoff=-1)


def test_markov_order_2_finds_the_planted_steps_that_order_1_misses() -> None:
    # Given the last click alone every item is as likely; given two, the next is known.
    sessions = gs.generate_sessions(400, 100, pattern=1.0, loops=0.0, seed=0)
    split = gs.session_split(sessions, 0.2)
    hits = []
    for order in (1, 2):
        model = MarkovChain(split.num_items, order).fit_counts(split.train)
        hits.append(evaluate(model, split.test, ks=(1,), progress=False).metrics["hr@1"])
    assert hits[0] < 0.25
    assert hits[1] > 0.6


@pytest.fixture
def train() -> Sessions:
    # 0 -> 1 twice, 0 -> 0 once, 0 -> 2 once; 1 -> 0 once; 2 only ever comes last.
    return as_sessions([[0, 1, 0, 1], [0, 0, 2], [3]])


def scores_of(model: MarkovChain, *sessions: list[int]) -> Tensor:
    return model.score(as_batch(list(sessions)))


def test_markov_order_1_by_hand_gives_shares_of_followers(train: Sessions) -> None:
    plain = MarkovChain(NUM_ITEMS, backoff=0).fit_counts(train)
    inf = torch.inf
    expected = torch.tensor([[0.25, 0.5, 0.25, -inf, -inf, -inf]], dtype=torch.double)
    torch.testing.assert_close(scores_of(plain, [3, 0]), expected)


def test_markov_popularity_fill_ranks_by_count_plus_a_thousandth_of_share(train: Sessions) -> None:
    filled = scores_of(MarkovChain(NUM_ITEMS).fit_counts(train), [0])[0]
    count = torch.tensor([1, 2, 1, 0, 0, 0], dtype=torch.double)
    share = torch.tensor([4, 2, 1, 1, 0, 0], dtype=torch.double) / 8
    torch.testing.assert_close(filled, (count + 0.001 * share) / 4.001)
    assert filled.argsort(descending=True, stable=True).tolist() == [1, 0, 2, 3, 4, 5]


def test_markov_order_2_by_hand_backs_off_to_order_1(train: Sessions) -> None:
    model = MarkovChain(NUM_ITEMS, 2, backoff=1.0).fit_counts(train)
    share = np.array([4, 2, 1, 1, 0, 0]) / 8
    first = (np.array([1, 2, 1, 0, 0, 0]) + share) / 5
    second = (np.array([0, 1, 0, 0, 0, 0]) + first) / 2  # 1, 0 was followed by 1, once
    torch.testing.assert_close(scores_of(model, [1, 0])[0], torch.from_numpy(second))
    torch.testing.assert_close(scores_of(model, [2, 0])[0], torch.from_numpy(first))


def test_markov_item_that_only_came_last_falls_back_to_popularity(train: Sessions) -> None:
    share = torch.tensor([4, 2, 1, 1, 0, 0], dtype=torch.double) / 8
    filled = MarkovChain(NUM_ITEMS).fit_counts(train)
    torch.testing.assert_close(scores_of(filled, [2])[0], share)
    plain = MarkovChain(NUM_ITEMS, backoff=0).fit_counts(train)
    assert scores_of(plain, [2]).isneginf().all()


def test_markov_unknown_click_is_skipped_and_its_neighbors_become_adjacent() -> None:
    lists = [["a", "x", "b"], ["b", "a"]]
    sessions = Sessions.from_lists(lists, vocabulary=Vocabulary(["a", "b"]))
    scores = MarkovChain(2, backoff=0).fit_counts(sessions).score(as_batch([[0], [1]]))
    assert scores.tolist() == [[-np.inf, 1.0], [1.0, -np.inf]]


def test_markov_transitions_do_not_cross_sessions() -> None:
    model = MarkovChain(NUM_ITEMS, 3, backoff=0).fit_counts(as_sessions([[0, 1], [2, 3], [4]]))
    assert model.transition_key_1.tolist() == [0 * NUM_ITEMS + 1, 2 * NUM_ITEMS + 3]
    assert model.transition_key_2.numel() == model.transition_key_3.numel() == 0


def test_markov_sessions_of_one_click_score_as_popularity() -> None:
    model = MarkovChain(NUM_ITEMS, 2).fit_counts(as_sessions([[0], [1], [1]]))
    share = torch.tensor([1, 2, 0, 0, 0, 0], dtype=torch.double) / 3
    torch.testing.assert_close(scores_of(model, [0, 1])[0], share)


def test_markov_empty_batch_has_no_rows(train: Sessions) -> None:
    batch = build_session_graphs(torch.empty(0, dtype=torch.long), torch.tensor([0]))
    for order in (1, 2):
        model = MarkovChain(NUM_ITEMS, order).fit_counts(train)
        assert model.score(batch).shape == (0, NUM_ITEMS)


def test_markov_clicks_before_first_target_are_counted_too() -> None:
    whole = as_sessions([[0, 1, 2]])
    late = replace(whole, first_target=np.array([2]))
    one = MarkovChain(NUM_ITEMS).fit_counts(whole)
    other = MarkovChain(NUM_ITEMS).fit_counts(late)
    assert torch.equal(one.transition_key_1, other.transition_key_1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"order": 0}, "order must be at least 1, got 0"),
        ({"backoff": -1.0}, "backoff must be a finite number of at least 0, got -1"),
        ({"smoothing": float("nan")}, "smoothing must be a finite number"),
        ({"half_life": 0.0}, "half_life must be positive and finite, or None, got 0.0"),
    ],
)
def test_markov_argument_out_of_range_is_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MarkovChain(NUM_ITEMS, **arguments)  # type: ignore[arg-type]


def test_markov_half_life_as_text_is_that_in_seconds() -> None:
    assert MarkovChain(NUM_ITEMS, half_life="1 day").settings["half_life"] == 86_400.0


@pytest.mark.parametrize("family", ["markov", "vsknn", "vstan"])
def test_half_life_as_any_duration_is_saved_as_seconds(family: str) -> None:
    model = gs.models.MODELS[family](NUM_ITEMS, half_life=pd.Timedelta("1 day"))
    assert model.settings["half_life"] == 86_400.0


def test_markov_repr_names_its_settings() -> None:
    expected = "MarkovChain(6, order=2, backoff=0.001, smoothing=0.0)"
    assert repr(MarkovChain(NUM_ITEMS, 2)) == expected
    assert repr(MarkovChain(NUM_ITEMS, half_life=9.0)).endswith("smoothing=0.0, half_life=9.0)")


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "backoff", "hit_rate", "mrr"),
    [
        ("yoochoose1_64", 0.0, 64.93, 29.77),
        ("yoochoose1_64", 0.001, 65.22, 29.76),
        ("diginetica", 0.0, 34.07, 12.91),
        ("diginetica", 0.001, 34.76, 12.96),
    ],
)
def test_markov_on_published_logs_gives_the_counted_rows(
    data_root: Path, name: str, backoff: float, hit_rate: float, mrr: float
) -> None:
    parts = [
        read_session_lines(data_root / name / f"{p}_sessions.txt.gz") for p in ("train", "test")
    ]
    split = fixed_split(*parts)
    model = MarkovChain(split.num_items, backoff=backoff).fit_counts(split.train)
    metrics = evaluate(model, split.test, ks=(20,)).metrics
    assert round(100 * metrics["hr@20"], 2) == hit_rate
    assert round(100 * metrics["mrr@20"], 2) == mrr
