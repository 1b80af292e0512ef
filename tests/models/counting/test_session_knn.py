"""Session-kNN against a naive dictionary of sessions, ties, times and samples included."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from graphseq.models.counting.popularity import Popularity
from graphseq.models.counting.session_knn import SessionKNN
from graphseq.models.counting.vsknn import VSKNN
from graphseq.models.counting.vstan import VSTAN

NUM_ITEMS = 6
lists_of_sessions = st.lists(
    st.lists(st.integers(0, NUM_ITEMS - 1), min_size=1, max_size=7), min_size=1, max_size=12
)

# name -> (weight of an item of age a in a session of L clicks, weight of a match of age a)
DECAYS: dict[str, tuple[Callable[[int, int], float], Callable[[int], float]]] = {
    "same": (lambda a, n: 1.0, lambda a: 1.0),
    "linear": (lambda a, n: max(0.0, 1 - 0.1 * (a - 1)), lambda a: max(0.0, 1 - 0.1 * a)),
    "div": (lambda a, n: (n - a + 1) / n, lambda a: 1 / a),
    "log": (lambda a, n: 1 / math.log10(a - 1 + 1.7), lambda a: 1 / math.log10(a + 1.7)),
    "quadratic": (lambda a, n: ((n - a + 1) / n) ** 2, lambda a: (1 / a) ** 2),
}


def as_sessions(lists: list[list[int]], times: list[float] | None = None) -> Sessions:
    """Sessions whose last clicks come at these times."""
    sessions = Sessions.from_lists(lists, vocabulary=Vocabulary(np.arange(NUM_ITEMS)))
    if times is None:
        return sessions
    return replace(sessions, time=np.repeat(np.array(times, dtype=np.float64), sessions.lengths))


def as_batch(lists: list[list[int]], times: list[float] | None = None) -> Batch:
    lengths = [len(session) for session in lists]
    ptr = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    items = torch.tensor([item for session in lists for item in session], dtype=torch.long)
    fields = None
    if times is not None:
        fields = {"click_time": torch.tensor(np.repeat(times, lengths), dtype=torch.double)}
    return build_session_graphs(items, torch.from_numpy(ptr), click_fields=fields)


def exponential(distance: int, scale: float | None) -> float:
    return 1.0 if scale is None else math.exp(-distance / scale)


def naive(
    model: VSKNN | VSTAN,
    train: list[list[int]],
    times: list[float] | None,
    session: list[int],
    now: float | None,
) -> list[float]:
    """The scores of every item, read off the definition, session by session."""
    window = model.last_clicks or len(session)
    age = {item: session[::-1].index(item) + 1 for item in dict.fromkeys(session)}
    age = {item: a for item, a in age.items() if a <= window}
    length = min(len(session), window)
    vsknn = isinstance(model, VSKNN)
    if isinstance(model, VSKNN):
        weight = {item: DECAYS[model.decay][0](a, length) for item, a in age.items()}
    else:
        weight = {item: exponential(a - 1, model.click_decay) for item, a in age.items()}

    end = [0.0] * len(train) if times is None else times
    newest_first = sorted(range(len(train)), key=lambda n: (end[n], n), reverse=True)
    heavy = {item for item, w in weight.items() if w > 0}
    sample = [n for n in newest_first if heavy & set(train[n])][: model.sample_size]
    passed = {n: float(newest_first.index(n)) for n in sample}
    if times is not None:
        passed = {n: max(0.0, (max(times) if now is None else now) - times[n]) for n in sample}
    similarity = {}
    for n in sample:
        common = 0.0
        for item in weight:
            if item in train[n]:
                common += weight[item]
        if vsknn:
            similarity[n] = common / len(weight)
        else:
            squares = sum(w * w for w in weight.values())
            similarity[n] = common / math.sqrt(squares * len(set(train[n])))
        if model.half_life is not None:
            similarity[n] *= 2.0 ** ((min(passed.values()) - passed[n]) / model.half_life)
    neighbors = sorted(sample, key=lambda n: -similarity[n])[: model.k]

    clicks = [item for one in train for item in one]
    scores = [model.backoff * clicks.count(item) / len(clicks) for item in range(NUM_ITEMS)]
    for n in neighbors:
        newest = min(age[item] for item in age if item in train[n])
        last_place = max(p for p, item in enumerate(train[n]) if item in age)
        for item in set(train[n]):
            value = similarity[n]
            if isinstance(model, VSKNN):
                value *= DECAYS[model.match_decay][1](newest)
            else:
                value *= exponential(newest - 1, model.match_decay)
                place = max(p for p, other in enumerate(train[n]) if other == item)
                value *= exponential(abs(place - last_place), model.place_decay)
            with_item = sum(item in one for one in train)
            value *= 1 + model.idf_weight * math.log(len(train) / with_item)
            scores[item] += value
    if model.backoff == 0:
        return [score if score > 0 else -math.inf for score in scores]
    return scores


shared_options = {
    "k": st.integers(1, 5),
    "sample_size": st.integers(1, 8),
    "half_life": st.sampled_from([None, 1.0, 3.5]),
    "idf_weight": st.sampled_from([0.0, 1.0]),
    "last_clicks": st.sampled_from([None, 1, 3]),
    "backoff": st.sampled_from([0.0, 0.001]),
}
scales = st.sampled_from([None, 1.0, 3.0])
models = st.one_of(
    st.builds(
        VSKNN,
        st.just(NUM_ITEMS),
        decay=st.sampled_from(list(DECAYS)),
        match_decay=st.sampled_from(list(DECAYS)),
        **shared_options,
    ),
    st.builds(
        VSTAN,
        st.just(NUM_ITEMS),
        click_decay=scales,
        match_decay=scales,
        place_decay=scales,
        **shared_options,
    ),
)


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[list[int]], list[float] | None]:
    """Sessions, and the times of their ends, in any order and with ties, or none."""
    lists = draw(lists_of_sessions)
    times = st.lists(st.integers(0, 5).map(float), min_size=len(lists), max_size=len(lists))
    return lists, draw(st.none() | times)


@settings(max_examples=200)
@given(model=models, log=logs(), queries=lists_of_sessions, now=st.none() | st.integers(2, 8))
def test_session_knn_any_log_equals_naive_dictionary_ties_included(
    model: VSKNN | VSTAN,
    log: tuple[list[list[int]], list[float] | None],
    queries: list[list[int]],
    now: int | None,
) -> None:
    train, times = log
    moments = None if now is None else [float(now + n) for n in range(len(queries))]
    scores = model.fit_counts(as_sessions(train, times)).score(as_batch(queries, moments))
    expected = [
        naive(model, train, times, session, None if moments is None else moments[n])
        for n, session in enumerate(queries)
    ]
    torch.testing.assert_close(
        scores, torch.tensor(expected, dtype=torch.double), rtol=1e-12, atol=1e-15
    )


@settings(max_examples=40)
@given(model=models, log=logs(), queries=lists_of_sessions, seed=st.integers(0, 99))
def test_session_knn_candidates_equal_columns_and_batch_mates_change_nothing(
    model: VSKNN | VSTAN,
    log: tuple[list[list[int]], list[float] | None],
    queries: list[list[int]],
    seed: int,
) -> None:
    model.fit_counts(as_sessions(*log))
    batch = as_batch(queries)
    everything = model.score(batch)
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randint(NUM_ITEMS, (4,), generator=generator)
    each = torch.randint(NUM_ITEMS, (len(queries), 4), generator=generator)
    assert torch.equal(model.score(batch, shared), everything[:, shared])
    assert torch.equal(model.score(batch, each), everything.gather(1, each))
    alone = torch.cat([model.score(as_batch([session])) for session in queries])
    assert torch.equal(alone, everything)


FAMILIES = pytest.mark.parametrize("family", [VSKNN, VSTAN])


@FAMILIES
def test_session_knn_equally_similar_sessions_go_by_recency(family: type[SessionKNN]) -> None:
    train = as_sessions([[0, 1], [0, 2], [0, 3]])
    _, session, *_ = family(NUM_ITEMS, 2).fit_counts(train).neighbors(as_batch([[0]]))  # type: ignore[call-arg]
    assert session.tolist() == [0, 1]  # the newest and the one before
    scores = family(NUM_ITEMS, 2, backoff=0).fit_counts(train).score(as_batch([[0]]))[0]  # type: ignore[call-arg]
    assert scores.isfinite().nonzero().view(-1).tolist() == [0, 2, 3]


@FAMILIES
def test_session_knn_times_decide_recency_where_the_log_has_them(family: type[SessionKNN]) -> None:
    train = as_sessions([[0, 1], [0, 2], [0, 3]], [9.0, 5.0, 7.0])
    scores = family(NUM_ITEMS, 2, backoff=0).fit_counts(train).score(as_batch([[0]]))[0]  # type: ignore[call-arg]
    assert scores.isfinite().nonzero().view(-1).tolist() == [0, 1, 3]


@FAMILIES
def test_session_knn_only_the_newest_candidates_are_compared(family: type[SessionKNN]) -> None:
    # The oldest session is the most similar one, but lies beyond the sample.
    train = as_sessions([[0, 1, 2], [0, 4], [1, 5]])
    model = family(NUM_ITEMS, sample_size=2, backoff=0).fit_counts(train)  # type: ignore[call-arg]
    scores = model.score(as_batch([[0, 1]]))[0]
    assert scores.isfinite().nonzero().view(-1).tolist() == [0, 1, 4, 5]


def test_vsknn_session_that_shares_only_what_weighs_nothing_is_no_candidate() -> None:
    # Of eleven clicks the oldest one has no weight, linearly.
    query = [0, *[1] * 10]
    train = as_sessions([[0, 2, 1], [0, 3], [0, 4]])
    model = VSKNN(NUM_ITEMS, sample_size=1, decay="linear", match_decay="same").fit_counts(train)
    _, session, similarity, age, place = model.neighbors(as_batch([query]))
    assert (session.tolist(), similarity.tolist()) == ([2], [0.5])
    assert (age.tolist(), place.tolist()) == ([1], [3])
    assert model.score(as_batch([[5] * 10 + [0], query]))[1, 2] > 0.5


MONTH = 30 * 86_400.0
PLAIN: dict[type[SessionKNN], dict[str, Any]] = {
    VSKNN: {"decay": "same", "match_decay": "same", "idf_weight": 0.0, "backoff": 0.0},
    VSTAN: {"click_decay": None, "match_decay": None, "place_decay": None}
    | {"idf_weight": 0.0, "backoff": 0.0},
}
"""Settings with which a neighbor of [0] that holds two items is worth the same as any other."""


@FAMILIES
@pytest.mark.parametrize(
    ("now", "ratio"),
    [
        (20.0, 2.0**-1),  # the sessions end 10 seconds from each other, one half-life
        (30.0, 2.0**-1),
        (20.0 + MONTH, 2.0**-1),
        (20.0 + 1e12, 2.0**-1),
        (15.0, 2.0**-0.5),  # what came later is as new as can be
        (10.0, 1.0),
        (-MONTH, 1.0),
    ],
)
def test_session_knn_decays_from_the_newest_candidate_whatever_the_current_time(
    family: type[SessionKNN], now: float, ratio: float
) -> None:
    train = as_sessions([[0, 1], [0, 2]], [10.0, 20.0])
    scores = [
        family(NUM_ITEMS, half_life=half_life, **PLAIN[family])  # type: ignore[call-arg]
        .fit_counts(train)
        .score(as_batch([[0]], [now]))[0]
        for half_life in (10.0, None)
    ]
    assert scores[0][2] == scores[1][2]  # the newest one counts as if there were no decay
    assert scores[0][1] / scores[0][2] == pytest.approx(ratio, abs=1e-12)


@FAMILIES
def test_session_knn_month_later_gives_the_same_scores_and_never_popularity(
    family: type[SessionKNN],
) -> None:
    lists = [[0, 1], [0, 2], [0, 1, 3], *[[4, 5]] * 20]
    day = 86_400.0
    # The log went on for a month without any candidate, and the session comes a month later.
    times = [1.6e9, 1.6e9 + day, 1.6e9 + 2 * day, *[1.6e9 + MONTH] * 20]
    model = family(NUM_ITEMS, half_life=day).fit_counts(as_sessions(lists, times))  # type: ignore[call-arg]
    at_once, later = model.score(as_batch([[0], [0]], [times[2], times[-1] + MONTH]))
    assert torch.equal(at_once, later)
    assert set(later.topk(4).indices.tolist()) == {0, 1, 2, 3}
    without_time = model.score(as_batch([[0]]))[0]
    assert torch.equal(without_time, later)


@FAMILIES
def test_session_knn_ages_beyond_all_decay_leave_the_newest_candidate(
    family: type[SessionKNN],
) -> None:
    train = as_sessions([[0, 1], [0, 2], [0, 3]], [0.0, 1e9, 1e9])
    options = PLAIN[family] | {"half_life": 1.0}
    model = family(NUM_ITEMS, **options).fit_counts(train)  # type: ignore[call-arg]
    scores = model.score(as_batch([[0]], [2e9]))[0]
    assert scores.isneginf().tolist() == [False, True, False, False, True, True]
    assert scores[2] == scores[3] == scores[0] / 2 > 0.5


@FAMILIES
def test_session_knn_without_times_ages_from_the_newest_candidate(
    family: type[SessionKNN],
) -> None:
    options = PLAIN[family] | {"half_life": 1.0}
    log = [[0, 1], [0, 2], *[[4]] * 2000]
    scores = family(NUM_ITEMS, **options).fit_counts(as_sessions(log)).score(as_batch([[0]]))[0]  # type: ignore[call-arg]
    assert scores[1] / scores[2] == 0.5
    assert scores[2] > 0.5


@pytest.mark.parametrize(("decay", "match"), [("same", "div"), ("log", "same")])
def test_vsknn_items_of_equal_evidence_in_any_order_get_equal_scores_to_the_last_bit(
    decay: Any, match: Any
) -> None:
    # Items 4 and 5 have the same clicks: in sessions of the same similarity, met in other orders.
    model = VSKNN(NUM_ITEMS, decay=decay, match_decay=match)
    log = [[0, 4], [1, 4], [2, 4], [2, 5], [0, 5], [1, 5], [0, 1, 3]]
    scores = model.fit_counts(as_sessions(log)).score(as_batch([[0, 1, 2], [2, 1, 0, 1]]))
    assert torch.equal(scores[:, 4], scores[:, 5])


@FAMILIES
def test_session_knn_without_times_ages_by_sessions(family: type[SessionKNN]) -> None:
    model = family(NUM_ITEMS, half_life=1.0, backoff=0)  # type: ignore[call-arg]
    scores = model.fit_counts(as_sessions([[0, 1], [0, 2], [0, 3]])).score(as_batch([[0]]))[0]
    torch.testing.assert_close(scores[1:4] / scores[3], torch.tensor([0.25, 0.5, 1.0]).double())


@FAMILIES
def test_session_knn_without_a_neighbor_leaves_popularity(family: type[SessionKNN]) -> None:
    train, batch = as_sessions([[0, 1], [1, 2]]), as_batch([[5]])
    scores = family(NUM_ITEMS, backoff=1.0).fit_counts(train).score(batch)  # type: ignore[call-arg]
    torch.testing.assert_close(scores, Popularity(NUM_ITEMS).fit_counts(train).score(batch))
    assert family(NUM_ITEMS, backoff=0).fit_counts(train).score(batch).isneginf().all()  # type: ignore[call-arg]


@FAMILIES
def test_session_knn_session_of_unknown_clicks_is_no_session(family: type[SessionKNN]) -> None:
    vocabulary = Vocabulary(["a", "b"])
    lists = [["a", "x", "b"], ["x"], ["a", "b"]]
    whole = Sessions.from_lists(lists, vocabulary=vocabulary)
    known = Sessions.from_lists([["a", "b"], ["a", "b"]], vocabulary=vocabulary)
    state, expected = (
        family(2, idf_weight=1.0).fit_counts(s).state_dict()  # type: ignore[call-arg]
        for s in (whole, known)
    )
    for name, value in state.items():
        assert torch.equal(value, expected[name]), name


@FAMILIES
def test_session_knn_empty_batch_gives_no_rows(family: type[SessionKNN]) -> None:
    model = family(NUM_ITEMS).fit_counts(as_sessions([[0, 1]]))  # type: ignore[call-arg]
    assert model.score(as_batch([])).shape == (0, NUM_ITEMS)
    assert model.score(as_batch([]), torch.tensor([0])).shape == (0, 1)


@FAMILIES
def test_session_knn_of_2000_clicks_equals_naive_dictionary(family: type[SessionKNN]) -> None:
    generator = torch.Generator().manual_seed(0)
    train = torch.randint(NUM_ITEMS, (30, 5), generator=generator).tolist()
    session = torch.randint(NUM_ITEMS, (2000,), generator=generator).tolist()
    model = family(NUM_ITEMS, 7, 20)  # type: ignore[call-arg]
    model.fit_counts(as_sessions(train))
    expected = naive(model, train, None, session, None)  # type: ignore[arg-type]
    torch.testing.assert_close(model.score(as_batch([session]))[0].tolist(), expected)


@FAMILIES
def test_session_knn_second_fit_without_times_forgets_those_of_the_first(
    family: type[SessionKNN],
) -> None:
    model = family(NUM_ITEMS, half_life=1.0).fit_counts(as_sessions([[0], [1]], [3.0, 4.0]))  # type: ignore[call-arg]
    model.fit_counts(as_sessions([[0, 1]]))
    assert model.session_time.numel() == 0


@FAMILIES
def test_session_knn_with_times_saved_and_loaded_gives_the_same_scores(
    family: type[SessionKNN], tmp_path: Path
) -> None:
    model = family(NUM_ITEMS, half_life=2.0)  # type: ignore[call-arg]
    model.fit_counts(as_sessions([[0, 1], [0, 2]], [1.6e9 + 1, 1.6e9]))
    model.save(tmp_path / "model")
    loaded = gs.load(tmp_path / "model")
    batch = as_batch([[0]], [1.6e9 + 2])
    assert torch.equal(loaded.score(batch), model.score(batch))
    assert torch.equal(loaded.half().score(batch), model.score(batch))


@FAMILIES
def test_session_knn_finds_the_categories_that_popularity_misses(family: type[SessionKNN]) -> None:
    sessions = gs.generate_sessions(1500, 200, pattern=0.0, loops=0.0, repeats=0.0, seed=3)
    split = gs.session_split(sessions, 0.2)
    hits = [
        gs.evaluate(model.fit_counts(split.train), split.test, ks=(20,), progress=False)
        for model in (family(split.num_items), Popularity(split.num_items))  # type: ignore[call-arg]
    ]
    assert hits[0].metrics["hr@20"] > 1.3 * hits[1].metrics["hr@20"]


@FAMILIES
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k must be at least 1 session, got 0"),
        ({"sample_size": 0}, "sample_size must be at least 1 session, got 0"),
        ({"half_life": 0.0}, "half_life must be positive and finite, or None, got 0.0"),
        ({"idf_weight": -1.0}, "idf_weight must be a finite number of at least 0, got -1.0"),
        ({"last_clicks": 0}, "last_clicks must be at least 1 click, or None, got 0"),
        ({"backoff": math.inf}, "backoff must be a finite number of at least 0, got inf"),
    ],
)
def test_session_knn_argument_out_of_range_is_refused(
    family: type[SessionKNN], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        family(NUM_ITEMS, **arguments)


@FAMILIES
def test_session_knn_before_counting_says_what_to_call(family: type[SessionKNN]) -> None:
    with pytest.raises(ValueError, match="fit_counts"):
        family(NUM_ITEMS).score(as_batch([[0]]))  # type: ignore[call-arg]
