"""The bootstrap: whole clusters, pairs and seeds are drawn; coverage by simulation."""

import numpy as np
import pytest

from graphseq.evaluation import bootstrap_interval, mean_interval, paired_bootstrap, paired_test

GENERATOR = np.random.default_rng(2)
CLUSTER = np.repeat(np.arange(60), GENERATOR.integers(1, 6, 60))
OF_CLUSTER = GENERATOR.normal(0.5, 0.3, 60)[CLUSTER]
VALUES = OF_CLUSTER + GENERATOR.normal(0, 0.1, len(CLUSTER))


def test_bootstrap_interval_is_near_the_cluster_robust_one():
    low, high = bootstrap_interval(VALUES, CLUSTER, num_samples=4000)
    robust = mean_interval(VALUES, CLUSTER)
    width = robust[1] - robust[0]
    assert low == pytest.approx(robust[0], abs=0.1 * width)
    assert high == pytest.approx(robust[1], abs=0.1 * width)
    alone = bootstrap_interval(VALUES, np.arange(len(VALUES)), num_samples=4000)
    assert alone[1] - alone[0] < 0.8 * width  # cases of a cluster are not independent


def test_bootstrap_of_two_clusters_by_hand():
    # Means of the draws: both the first 1/4 of the time (0), both the second (1), one each: 3/4.
    values, cluster = [0.0, 1.0, 1.0, 1.0], [7, 3, 3, 3]
    assert bootstrap_interval(values, cluster, level=0.4) == (0.75, 0.75)
    assert bootstrap_interval(values, cluster, level=0.9) == (0.0, 1.0)


def test_bootstrap_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(0)
    cluster = np.repeat(np.arange(40), 3)
    covered = 0
    for seed in range(200):
        values = np.repeat(generator.normal(0.3, 1, 40), 3) + generator.normal(0, 0.5, 120)
        low, high = bootstrap_interval(values, cluster, level=0.9, num_samples=200, seed=seed)
        covered += low <= 0.3 <= high
    assert 165 <= covered <= 193  # 180 wanted


def test_bootstrap_of_the_same_seed_is_the_same_and_of_another_is_not():
    one, other, again = (bootstrap_interval(VALUES, CLUSTER, seed=seed) for seed in (0, 1, 0))
    assert one == again != other


def test_bootstrap_draws_runs_too():
    runs = VALUES + np.array([[-0.2], [0.0], [0.2]])
    narrow = bootstrap_interval(runs.mean(0), CLUSTER)
    wide = bootstrap_interval(runs, CLUSTER)
    assert wide[1] - wide[0] > 1.2 * (narrow[1] - narrow[0])
    test = paired_bootstrap(runs, runs, CLUSTER)
    assert test.difference == 0
    assert test.high - test.low > 0.2  # each draws its own runs, though they are the same


def test_bootstrap_draws_other_runs_by_another_seed() -> None:
    runs = np.array([[0.0] * 4, [1.0] * 4, [5.0] * 4])  # clusters alone do not spread
    found = {bootstrap_interval(runs, [0, 1, 2, 3], num_samples=5, seed=seed) for seed in range(9)}
    assert len(found) > 1


def test_paired_bootstrap_draws_the_same_clusters_for_both():
    # A difference that is the same in every case has no spread, whatever is drawn.
    test = paired_bootstrap(VALUES + 0.01, VALUES, CLUSTER, num_samples=999)
    assert (test.low, test.high) == (pytest.approx(0.01), pytest.approx(0.01))
    assert test.p_value == 2 / 1000
    assert (test.num_cases, test.num_clusters) == (len(CLUSTER), 60)


def test_paired_bootstrap_agrees_with_the_t_test():
    other = VALUES + 0.05 + np.random.default_rng(1).normal(0, 0.2, 60)[CLUSTER]
    drawn, robust = paired_bootstrap(VALUES, other, CLUSTER), paired_test(VALUES, other, CLUSTER)
    assert drawn.difference == pytest.approx(robust.difference)
    assert drawn.p_value == pytest.approx(robust.p_value, abs=0.03)
    assert drawn.low == pytest.approx(robust.low, abs=0.01)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.99])
def test_paired_bootstrap_interval_is_of_its_level(level: float) -> None:
    other = VALUES + np.random.default_rng(1).normal(0, 0.2, 60)[CLUSTER]
    robust = paired_test(VALUES, other, CLUSTER, level=level)
    test = paired_bootstrap(VALUES, other, CLUSTER, level=level, num_samples=9999)
    assert test.level == level
    assert test.high - test.low == pytest.approx(robust.high - robust.low, rel=0.1)


def test_bootstrap_of_one_cluster_is_unknown():
    assert np.isnan(bootstrap_interval([0.1, 0.2], [5, 5])).all()
    assert np.isnan(paired_bootstrap([0.1, 0.2], [0.1, 0.3], [5, 5]).p_value)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([], []), {}, "A bootstrap needs one or more cases"),
        (([1.0], [1, 2]), {}, r"values of shape \(1,\) and clusters of shape \(2,\)"),
        (([1.0], [1]), {"level": 1.0}, "level must lie between 0 and 1"),
        (([1.0], [1]), {"num_samples": 0}, "num_samples must be at least 1"),
    ],
)
def test_bootstrap_of_misfits_says_what_is_wrong(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(*arguments, **options)
    with pytest.raises(ValueError, match="needs the same cases twice, got 2 and 1"):
        paired_bootstrap([1.0, 2.0], [1.0], [0, 1])


@pytest.mark.parametrize("seed", ["a", -1, 0.5, None])
def test_bootstrap_seeds_are_whole_numbers(seed):
    with pytest.raises(ValueError, match="seed must be"):
        bootstrap_interval([0.0, 1.0], [0, 1], seed=seed)
    with pytest.raises(ValueError, match="seed must be"):
        paired_bootstrap([0.0, 1.0], [1.0, 1.0], [0, 1], seed=seed)
