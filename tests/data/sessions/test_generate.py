"""Generated sessions: counting recovers the planted structure, and only where it was planted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphseq.data.sessions.generate import MAX_LENGTH, STRENGTH, generate_sessions, zipf_ranks
from graphseq.data.sessions.sessions import Sessions


def roles(sessions: Sessions) -> np.ndarray:
    """The role of every item."""
    return sessions.item_features["role"].astype(str).to_numpy()


def steps(sessions: Sessions, order: int) -> np.ndarray:
    """Runs of ``order + 1`` clicks within one session, [n, order + 1]."""
    index = sessions.session_index
    within = index[order:] == index[: len(index) - order]
    runs = [sessions.items[k : len(index) - order + k] for k in range(order + 1)]
    return np.stack(runs, axis=1)[within]


def most_likely_share(context: np.ndarray, following: np.ndarray) -> float:
    """How often the most frequent next item of a context is the next item."""
    pairs, counts = np.unique(np.column_stack([context, following]), axis=0, return_counts=True)
    _, first = np.unique(pairs[:, :-1], axis=0, return_index=True)
    return float(np.maximum.reduceat(counts, first).sum() / counts.sum())


# -- the order-2 pattern -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def walks() -> Sessions:
    return generate_sessions(8_000, 400, pattern=1.0, loops=0.0, seed=3)


def test_pattern_given_the_last_click_alone_is_flat(walks):
    pairs = steps(walks, 1)
    counts = np.zeros((16, 16))
    np.add.at(counts, (pairs[:, 0], pairs[:, 1]), 1)
    expected = counts.sum(axis=1, keepdims=True) / 16
    chi_squared = float(((counts - expected) ** 2 / expected).sum())  # 16 x 15 degrees of freedom
    assert chi_squared < 240 + 5 * np.sqrt(2 * 240)
    assert most_likely_share(pairs[:, :1], pairs[:, 1]) < 0.08


def test_pattern_given_the_last_two_clicks_is_known(walks):
    runs = steps(walks, 2)
    expected = STRENGTH + (1 - STRENGTH) / 16
    assert most_likely_share(runs[:, :2], runs[:, 2]) == pytest.approx(expected, abs=0.01)
    holds = (runs[:, 0] + runs[:, 1]) % 16 == runs[:, 2]
    assert holds.mean() == pytest.approx(expected, abs=0.01)


def test_pattern_stays_among_its_own_items(walks):
    assert set(roles(walks)[walks.items]) == {"pattern"}


# -- the loop that needs the graph -------------------------------------------------------------


@pytest.fixture(scope="module")
def loops() -> Sessions:
    return generate_sessions(2_400, 400, pattern=0.0, loops=1.0, mean_length=14.0, seed=4)


def test_loop_next_click_is_the_node_with_most_transitions_into_it(loops):
    role = roles(loops)
    hits, starts = [], []
    for session in (loops.items[a:b] for a, b in zip(loops.ptr[:-1], loops.ptr[1:], strict=True)):
        returns = np.flatnonzero(role[session] == "return")
        for position in returns[returns + 1 < len(session)]:
            into = session[1 : position + 1]
            into = into[role[into] != "return"]
            nodes, counts = np.unique(into, return_counts=True)
            if len(counts) and counts.max() >= 2 and (counts == counts.max()).sum() == 1:
                hits.append(nodes[counts.argmax()] == session[position + 1])
                starts.append(session[0] == session[position + 1])
    assert len(hits) > 1_000
    assert np.mean(hits) > 0.8
    assert np.mean(starts) < 0.4  # nor is it simply the first click


@pytest.mark.parametrize("order", [1, 2])
def test_loop_next_click_is_not_known_from_the_last_clicks(loops, order):
    train, test = loops.select(np.arange(1_200)), loops.select(np.arange(1_200, 2_400))
    role = roles(loops)
    following: dict[tuple[int, ...], dict[int, int]] = {}
    for *context, item in steps(train, order).tolist():
        counts = following.setdefault(tuple(context), {})
        counts[item] = counts.get(item, 0) + 1
    best = {context: max(counts, key=counts.__getitem__) for context, counts in following.items()}
    runs = steps(test, order)
    after_return = runs[role[runs[:, -2]] == "return"].tolist()
    hits = [best.get(tuple(context)) == item for *context, item in after_return]
    assert len(hits) > 1_000
    assert np.mean(hits) < 0.35


def test_loop_return_items_are_few_and_the_same_in_all_sessions(loops):
    returned = np.unique(loops.items[roles(loops)[loops.items] == "return"])
    assert len(returned) == 8
    assert len(np.unique(loops.items[loops.ptr[:-1]])) > 100


# -- browsing ----------------------------------------------------------------------------------


def test_browsing_popularity_follows_zipf():
    sessions = generate_sessions(
        30_000, 50, num_categories=1, drift=0.0, repeats=0.0, pattern=0.0, loops=0.0, skew=0.8
    )
    shares = sessions.catalog().counts / sessions.num_clicks
    edges = np.arange(1, 52) ** 0.2
    expected = np.diff(edges) / (edges[-1] - edges[0])
    np.testing.assert_allclose(shares, expected, atol=0.004)


def test_browsing_stays_mostly_in_one_category():
    sessions = generate_sessions(3_000, 500, skew=0.0, repeats=0.0, pattern=0.0, loops=0.0)
    category = sessions.click_features["category"]
    within = np.diff(sessions.session_index) == 0
    same = (category[1:] == category[:-1])[within].mean()
    # Both clicks stay, or at least one strays and meets the other by chance (ten categories).
    assert same == pytest.approx(0.8**2 + (1 - 0.8**2) / 10, abs=0.02)


def test_browsing_repeats_only_where_asked_for():
    settings_ = {"pattern": 0.0, "loops": 0.0, "skew": 0.0, "num_categories": 1}
    without = generate_sessions(2_000, 100_000, repeats=0.0, **settings_)
    with_repeats = generate_sessions(2_000, 100_000, repeats=0.3, **settings_)

    def repeated(sessions: Sessions) -> float:
        pairs = sessions.session_index * sessions.num_items + sessions.items
        later = sessions.num_clicks - sessions.num_sessions
        return (sessions.num_clicks - np.unique(pairs).size) / later

    assert repeated(without) < 0.001
    assert repeated(with_repeats) == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(("drift", "expected"), [(0.0, 0), (0.5, 50)])
def test_browsing_head_of_the_popularity_moves_by_drift(drift, expected):
    sessions = generate_sessions(
        40_000, 100, num_categories=1, drift=drift, repeats=0.0, pattern=0.0, loops=0.0, skew=2.0
    )
    newest = sessions.select(np.arange(39_500, 40_000)).catalog().counts.argmax()
    oldest = sessions.select(np.arange(500)).catalog().counts.argmax()
    assert oldest in (0, 1)
    assert abs(newest - expected) <= 1


# -- what all have -----------------------------------------------------------------------------


def test_generate_sessions_kinds_have_their_shares():
    sessions = generate_sessions(10_000, 400, pattern=0.3, loops=0.5, mean_length=40.0)
    role = roles(sessions)[sessions.items]
    starts = sessions.ptr[:-1]
    walking = np.logical_and.reduceat(role == "pattern", starts).mean()
    looping = np.logical_or.reduceat(role == "return", starts).mean()
    assert walking == pytest.approx(0.3, abs=0.02)
    assert looping == pytest.approx(0.5, abs=0.03)  # a short one may end before it returns
    assert set(role) == {"pattern", "return", "browse"}


def test_generate_sessions_features_of_clicks_are_those_of_their_items():
    sessions = generate_sessions(200, 100)
    features = sessions.item_features.iloc[sessions.items]
    names = sessions.feature_vocabularies["category"].decode(sessions.click_features["category"])
    assert names == features["category"].tolist()
    np.testing.assert_array_equal(sessions.click_features["price"], features["price"])
    assert (sessions.click_features["price"] > 0).all()


@pytest.mark.parametrize("num_categories", [10, 200, 8_000])
def test_generate_sessions_prices_rise_with_the_category_and_stay_finite(num_categories):
    sessions = generate_sessions(10, 16_000, num_categories=num_categories, pattern=0.0, loops=0.0)
    category = np.arange(16_000) % num_categories
    away = np.log(sessions.item_features["price"]) - (3.0 + 0.1 * (category % 200))
    assert away.mean() == pytest.approx(0.0, abs=0.02)
    assert away.std() == pytest.approx(0.5, abs=0.02)
    assert np.isfinite(sessions.click_features["price"].astype(np.float32)).all()


def test_generate_sessions_prices_of_few_categories_are_those_of_earlier_versions():
    sessions = generate_sessions(10, 14, num_categories=3, pattern=0.0, loops=0.0)
    prices = [19.87, 22.59, 16.91, 10.56, 45.2, 30.75, 16.66]
    assert sessions.item_features["price"].tolist()[:7] == prices


def test_generate_sessions_start_in_order_within_the_days_asked_for():
    sessions = generate_sessions(500, 100, days=2.0)
    starts = sessions.time[sessions.ptr[:-1]]
    assert (np.diff(starts) >= 0).all()
    assert 0 <= starts[0] - 1_577_836_800 < starts[-1] - 1_577_836_800 <= 2 * 86_400
    within = np.diff(sessions.session_index) == 0
    pauses = np.diff(sessions.time)[within]
    assert pauses.min() >= 0
    assert pauses.mean() == pytest.approx(30.0, rel=0.1)


def test_generate_sessions_length_has_the_mean_asked_for_and_a_limit():
    sessions = generate_sessions(20_000, 100, mean_length=5.0)
    assert sessions.lengths.mean() == pytest.approx(5.0, abs=0.1)
    assert sessions.lengths.min() == 2
    assert generate_sessions(200, 100, mean_length=500.0).lengths.max() == MAX_LENGTH


def test_generate_sessions_same_seed_same_data_other_seed_other_data():
    assert generate_sessions(50, 60).fingerprint() == generate_sessions(50, 60).fingerprint()
    assert (
        generate_sessions(50, 60).fingerprint() != generate_sessions(50, 60, seed=1).fingerprint()
    )


@settings(max_examples=25)
@given(
    num_sessions=st.integers(1, 30),
    num_items=st.integers(20, 80),
    num_categories=st.integers(1, 8),
    skew=st.sampled_from([0.0, 0.5, 1.0, 1.7]),
    pattern=st.sampled_from([0.0, 0.4, 1.0]),
    drift=st.floats(0, 1),
    seed=st.integers(0, 1_000),
)
def test_generate_sessions_any_settings_give_whole_sessions(
    num_sessions, num_items, num_categories, skew, pattern, drift, seed
):
    sessions = generate_sessions(
        num_sessions,
        num_items,
        num_categories=num_categories,
        skew=skew,
        drift=drift,
        pattern=pattern,
        loops=(1.0 - pattern) / 2,
        seed=seed,
    )
    assert sessions.num_sessions == num_sessions
    assert sessions.num_items == num_items == len(sessions.item_features)
    assert 0 <= sessions.items.min() <= sessions.items.max() < num_items
    assert sessions.lengths.min() >= 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_sessions": 0}, "num_sessions must be at least 1, got 0"),
        ({"mean_length": 1.5}, "mean_length must be at least 2, got 1.5"),
        ({"repeats": 1.5}, "repeats is a share between 0 and 1, got 1.5"),
        ({"pattern": 0.6, "loops": 0.6}, r"pattern \+ loops is a share"),
        ({"num_items": 12}, "num_items must be at least 13 for 10 categories.*got 12"),
    ],
)
def test_generate_sessions_impossible_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        generate_sessions(**{"num_items": 100, **arguments})


@pytest.mark.parametrize("skew", [0.0, 0.5, 1.0, 2.0])
def test_zipf_ranks_reach_every_rank_and_no_other(skew):
    uniform = np.append(np.linspace(0, 1, 10_001)[:-1], np.nextafter(1.0, 0.0))
    ranks = zipf_ranks(uniform, 7, skew)
    assert set(ranks) == set(range(7))
    sizes = np.arange(1, 10_002) % 7 + 1
    own = zipf_ranks(uniform, sizes, skew)
    assert (own >= 0).all()
    assert (own < sizes).all()
