"""Off-policy estimates against simulated truth: unbiased, covering, warned where they must be."""

import warnings

import numpy as np
import pytest

from graphseq.evaluation import doubly_robust, ips, snips

ITEMS = 5
CONTEXTS = 4
RATES = np.random.default_rng(0).uniform(0.05, 0.9, (CONTEXTS, ITEMS))
OLD = np.random.default_rng(1).dirichlet(np.ones(ITEMS) * 3, CONTEXTS)
NEW = np.random.default_rng(2).dirichlet(np.ones(ITEMS) * 3, CONTEXTS)
TRUTH = float((NEW * RATES).sum(1).mean())


def log(seed, num_cases=2000):
    generator = np.random.default_rng(seed)
    context = generator.integers(0, CONTEXTS, num_cases)
    shown = (generator.random(num_cases)[:, None] > OLD[context].cumsum(1)).sum(1)
    shown = np.minimum(shown, ITEMS - 1)
    rewards = (generator.random(num_cases) < RATES[context, shown]).astype(float)
    return context, shown, rewards, OLD[context, shown], NEW[context, shown]


def estimates(seed):
    context, shown, rewards, logged, new = log(seed)
    predicted = RATES + 0.05  # a model that errs by a constant
    expected = (NEW * predicted).sum(1)
    return (
        ips(rewards, logged, new),
        snips(rewards, logged, new),
        doubly_robust(rewards, logged, new, predicted[context, shown], expected[context]),
    )


def test_estimates_are_unbiased_and_cover_the_truth():
    runs = [estimates(seed) for seed in range(120)]
    naive = np.mean([log(seed)[2].mean() for seed in range(120)])
    assert abs(naive - TRUTH) > 0.02  # what the log itself earned is another thing
    for kind in range(3):
        values = np.array([run[kind].value for run in runs])
        error = values.std() / len(values) ** 0.5
        assert abs(values.mean() - TRUTH) < 4 * error
        covered = np.mean([run[kind].low <= TRUTH <= run[kind].high for run in runs])
        assert covered > 0.88
        said = np.mean([run[kind].variance for run in runs])
        assert said == pytest.approx(values.var(), rel=0.4)
    spread = [np.std([run[kind].value for run in runs]) for kind in range(3)]
    assert spread[2] < spread[0]  # a good prediction lowers the variance


@pytest.mark.filterwarnings("ignore:Off-policy")
def test_doubly_robust_is_right_if_either_half_is():
    biases = []
    for seed in range(60):
        context, shown, rewards, logged, new = log(seed)
        wrong = np.full_like(logged, 1 / ITEMS)  # probabilities that are not those of the log
        found = doubly_robust(
            rewards, wrong, new, RATES[context, shown], (NEW * RATES).sum(1)[context]
        )
        biases.append(found.value - TRUTH)
    assert abs(np.mean(biases)) < 4 * np.std(biases) / 60**0.5


@pytest.mark.filterwarnings("ignore:Off-policy")
def test_estimates_by_hand():
    rewards, logged, new = [1.0, 0.0, 1.0], [0.5, 0.5, 0.25], [0.5, 1.0, 0.5]
    # Weights 1, 2, 2.
    found = ips(rewards, logged, new)
    assert found.value == pytest.approx((1 + 0 + 2) / 3)
    assert found.effective_size == pytest.approx(25 / 9)
    assert (found.largest_weight, found.num_cases) == (2.0, 3)
    assert found.mean_weight == pytest.approx(5 / 3)
    assert snips(rewards, logged, new).value == pytest.approx(3 / 5)
    robust = doubly_robust(rewards, logged, new, [0.5, 0.5, 0.5], [0.4, 0.4, 0.4])
    assert robust.value == pytest.approx(0.4 + (0.5 - 1.0 + 1.0) / 3)
    assert ips(rewards, logged, new, clip=1.5).value == pytest.approx((1 + 1.5) / 3)


def test_estimate_of_the_same_policy_is_the_mean_reward():
    rewards = np.random.default_rng(0).random(50)
    chance = np.full(50, 0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = ips(rewards, chance, chance)
    assert found.value == pytest.approx(rewards.mean())
    assert (found.effective_size, found.mean_weight, found.warnings) == (pytest.approx(50), 1.0, ())


def test_estimates_of_clusters_are_wider():
    _, _, rewards, logged, new = log(0)
    cluster = np.arange(len(rewards)) // 4
    twice = [np.repeat(values[::4], 4) for values in (rewards, logged, new)]
    alone, together = ips(*twice), ips(*twice, cluster=cluster)
    assert together.variance == pytest.approx(4 * alone.variance, rel=0.01)


def test_estimates_without_overlap_warn():
    rewards, logged, new = np.ones(100), np.full(100, 0.5), np.zeros(100)
    new[0] = 1.0
    with pytest.warns(UserWarning, match="Off-policy estimate: ") as told:
        found = ips(rewards, logged, new)
    assert len(told) == 3
    assert found.warnings[0] == "the weights amount to 1 of 100 cases: few cases decide"
    assert found.warnings[1] == "one case has 100% of the weight"
    assert "weights are 0.02 on average, not 1" in found.warnings[2]
    new[0] = 0.0
    with pytest.raises(ValueError, match="would show none of the shown items"):
        snips(rewards, logged, new)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([1.0], [0.0], [0.5]), {}, "logged holds probabilities above 0 and up to 1, but 0.0"),
        (([1.0], [0.5], [1.5]), {}, "new holds probabilities from 0 to 1, but 1.5 in case 0"),
        (([1.0, 1.0], [0.5], [0.5]), {}, r"got \[2\], \[1\] and \[1\]"),
        (([], [], []), {}, "one reward and one probability"),
        (([np.nan], [0.5], [0.5]), {}, "rewards holds 1 values that are not finite"),
        (([1.0], [0.5], [0.5]), {"clip": 0.0}, "clip is the largest weight"),
    ],
)
def test_estimates_of_misfits_say_what_is_wrong(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        ips(*arguments, **options)


def test_doubly_robust_of_other_shapes_says_so():
    with pytest.raises(ValueError, match=r"one prediction per case, \[1\], got predicted \[2\]"):
        doubly_robust([1.0], [0.5], [0.5], [1.0, 2.0], [1.0])
