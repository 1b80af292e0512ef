"""Clustered intervals and paired tests: against loops, SciPy and simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from graphseq.evaluation import mean_interval, paired_bootstrap, paired_test


def naive_error(values, cluster):
    mean = sum(values) / len(values)
    names = set(cluster)
    total = 0.0
    for name in names:
        total += sum(v - mean for v, c in zip(values, cluster, strict=True) if c == name) ** 2
    return (len(names) / (len(names) - 1) * total) ** 0.5 / len(values)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-3, 3), st.integers(-4, 4)), min_size=2, max_size=20).filter(
        lambda rows: len({cluster for _, cluster in rows}) > 1
    ),
    st.sampled_from([0.5, 0.95]),
)
def test_mean_interval_of_any_clusters_equals_a_naive_loop(rows, level):
    values, cluster = (list(column) for column in zip(*rows, strict=True))
    reach = stats.t.ppf(0.5 + level / 2, len(set(cluster)) - 1) * naive_error(values, cluster)
    low, high = mean_interval(values, cluster, level=level)
    assert low == pytest.approx(np.mean(values) - reach, abs=1e-9)
    assert high == pytest.approx(np.mean(values) + reach, abs=1e-9)


def test_mean_interval_with_every_case_its_own_cluster_is_students():
    values = np.random.default_rng(0).normal(size=30)
    error = values.std(ddof=1) / 30**0.5
    expected = stats.t.interval(0.9, 29, values.mean(), error)
    assert mean_interval(values, np.arange(30), level=0.9) == pytest.approx(expected)


def test_mean_interval_of_repeated_cases_is_no_narrower_for_the_repeats():
    values = np.random.default_rng(0).normal(size=30)
    once = mean_interval(values, np.arange(30))
    assert mean_interval(np.repeat(values, 9), np.repeat(np.arange(30), 9)) == pytest.approx(once)


def test_mean_interval_of_values_that_are_not_finite_is_refused():
    with pytest.raises(ValueError, match="1 of 2 values are not finite numbers"):
        mean_interval([1.0, np.nan], [0, 1])
    with pytest.raises(
        ValueError, match=r"1 of 2 cases have no cluster \(NaN or None\), the first is case 1"
    ):
        mean_interval([1.0, 2.0], [0, np.nan])


def test_mean_interval_of_one_cluster_is_unknown():
    assert np.isnan(mean_interval([0.0, 1.0], [3, 3])).all()


def test_mean_interval_of_clustered_data_covers_at_its_level():
    generator = np.random.default_rng(7)
    covered = naive_covered = 0
    trials, num_clusters = 600, 60
    for _ in range(trials):
        size = generator.integers(1, 9, num_clusters)
        cluster = np.repeat(np.arange(num_clusters), size)
        values = (
            0.3 + generator.normal(size=num_clusters)[cluster] + generator.normal(size=size.sum())
        )
        low, high = mean_interval(values, cluster, level=0.9)
        covered += low <= 0.3 <= high
        low, high = mean_interval(values, np.arange(len(values)), level=0.9)
        naive_covered += low <= 0.3 <= high
    assert 0.86 < covered / trials < 0.94  # 0.9 +- 0.012 of one standard error
    assert naive_covered / trials < 0.75  # what taking cases as independent would do


def test_paired_test_by_t_with_lone_cases_is_scipys():
    generator = np.random.default_rng(1)
    first, second = generator.random(40), generator.random(40)
    test = paired_test(first, second, np.arange(40))
    expected = stats.ttest_rel(first, second)
    assert test.p_value == pytest.approx(expected.pvalue)
    assert (test.low, test.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert test.difference == pytest.approx((first - second).mean())
    assert (test.num_cases, test.num_clusters) == (40, 40)


def test_paired_test_by_sign_flip_is_near_the_exact_permutation_test():
    generator = np.random.default_rng(2)
    first, second = generator.random(27) + 0.25, generator.random(27)
    cluster = np.arange(27) // 3
    sums = np.add.reduceat(first - second, np.arange(0, 27, 3))
    exact = stats.permutation_test(
        (sums,), np.sum, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    test = paired_test(first, second, cluster, method="sign_flip", num_permutations=40_000)
    assert 0.001 < exact < 0.5
    assert test.p_value == pytest.approx(exact, abs=0.008)
    assert test == paired_test(first, second, cluster, method="sign_flip", num_permutations=40_000)


def test_paired_test_by_another_seed_flips_other_signs() -> None:
    generator = np.random.default_rng(2)
    first, second = generator.random(40), generator.random(40)
    found = {
        paired_test(
            first, second, range(40), method="sign_flip", num_permutations=99, seed=seed
        ).p_value
        for seed in range(9)
    }
    assert len(found) > 1


@pytest.mark.parametrize("values", [[0.2, 1.0, 0.0], [0.0, 0.0, 0.0]])
@pytest.mark.parametrize("method", ["t", "sign_flip"])
def test_paired_test_of_equal_models_finds_no_difference(method: str, values: list[float]) -> None:
    # Without a hit nothing is allowed for rounding: all flips are as far as what was observed.
    test = paired_test(values, values, [0, 1, 1], method=method)
    assert (test.difference, test.low, test.high, test.p_value) == (0, 0, 0, 1)


THIRDS = np.array([0.1 + 0.2, 0.7, 0.1])
SEEDS = [THIRDS * factor for factor in (1 / 3, 1 / 7, 1.1)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([0.3] * 6, [0.1 + 0.2] * 6),
        # Seeds in another order: their means differ in the last digits.
        (np.tile(np.mean(SEEDS, 0), 9), np.tile(np.mean(SEEDS[1:] + SEEDS[:1], 0), 9)),
        (1e6 * np.full(8, 0.3), 1e6 * np.full(8, 0.1 + 0.2)),
    ],
)
@pytest.mark.parametrize("method", ["t", "sign_flip"])
def test_rounding_is_no_difference(first, second, method):
    test = paired_test(first, second, np.arange(len(first)), method=method)
    assert (test.difference, test.low, test.high, test.p_value) == (0, 0, 0, 1)
    test = paired_bootstrap(first, second, np.arange(len(first)), num_samples=200)
    assert (test.difference, test.low, test.high, test.p_value) == (0, 0, 0, 1)


@pytest.mark.parametrize("method", ["t", "sign_flip"])
def test_differences_that_cancel_but_for_rounding_are_none(method):
    places = np.array([2, 6, 7])
    first, second = np.tile(1 / places, 20), np.tile(1 / np.roll(places, 1), 20)
    assert (first - second).mean() != 0
    test = paired_test(first, second, np.arange(60) // 3, method=method)
    assert (test.difference, test.p_value) == (0, 1)
    assert test.low == test.high == 0


@pytest.mark.parametrize("method", ["t", "sign_flip"])
def test_differences_far_above_rounding_count_however_small(method):
    generator = np.random.default_rng(3)
    first = generator.random(50)
    second = first - 1e-9 * (1 + generator.random(50))
    test = paired_test(first, second, np.arange(50), method=method)
    assert test.difference == pytest.approx((first - second).mean())
    assert 0 < test.low < test.high
    assert test.p_value < 0.001


def test_mean_interval_of_equal_values_has_no_width():
    assert mean_interval([0.1] * 7, range(7)) == pytest.approx((0.1, 0.1), abs=1e-15)
    low, high = mean_interval([0.1] * 7, range(7))
    assert high == low


@pytest.mark.parametrize("method", ["t", "sign_flip"])
def test_paired_test_of_models_that_do_not_differ_errs_at_its_level(method):
    generator = np.random.default_rng(5)
    cluster = np.repeat(np.arange(40), 4)
    trials, refused = 400, 0
    for _ in range(trials):
        difference = generator.normal(size=40)[cluster] + generator.normal(size=160)
        test = paired_test(difference, 0 * difference, cluster, method=method, num_permutations=299)
        refused += test.p_value < 0.1
    assert 0.055 < refused / trials < 0.145  # 0.1 +- 0.015 of one standard error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"second": [0.0]}, "needs the same cases twice"),
        ({"first": [], "second": [], "cluster": []}, "one or more cases"),
        ({"cluster": [0]}, r"clusters of shape \(1,\)"),
        ({"method": "z"}, "method is 't' or 'sign_flip', got 'z'"),
        ({"level": 1.0}, "level must lie between 0 and 1"),
        ({"level": "x"}, "level must lie between 0 and 1, as 0.95 does, got 'x'"),
        ({"level": None}, "level must lie between 0 and 1"),
        ({"seed": "a"}, "seed must be a whole number"),
        ({"num_permutations": 0}, "num_permutations must be at least 1"),
    ],
)
def test_paired_test_of_misfits_says_what_is_wrong(change, message):
    arguments = {"first": [0.0, 1.0], "second": [1.0, 1.0], "cluster": [0, 1]} | change
    with pytest.raises(ValueError, match=message):
        paired_test(**arguments)
