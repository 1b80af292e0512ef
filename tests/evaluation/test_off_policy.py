"""Off-policy estimates against simulated truth: unbiased, covering, warned where they must be."""

import warnings

import numpy as np
import pytest

import graphseq as gs
from graphseq.evaluation import debiased, doubly_robust, ips, mean_interval, snips, uplift

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


@pytest.mark.parametrize("level", [0.5, 0.99])
def test_interval_of_an_estimate_is_of_its_level_and_clusters(level: float) -> None:
    rewards, cluster = np.random.default_rng(0).random(60), np.arange(60) // 3
    chance = np.full(60, 0.3)
    found = ips(rewards, chance, chance, cluster=cluster, level=level)
    expected = mean_interval(rewards, cluster, level=level)
    assert (found.low, found.high) == pytest.approx(expected)


def test_weights_of_few_clusters_may_miss_one_by_chance() -> None:
    new = np.repeat(np.where(np.arange(20) < 9, 0.25, 0.95), 100)
    rewards, logged = np.ones(2000), np.full(2000, 0.5)
    assert ips(rewards, logged, new, cluster=np.arange(2000) // 100).warnings == ()
    with pytest.warns(UserWarning, match=r"weights are 1\.27 on average, not 1"):
        ips(rewards, logged, new)


def test_weights_that_miss_one_by_a_little_are_no_reason_to_doubt() -> None:
    assert ips([1.0, 0.0] * 20, [0.5] * 40, [0.515] * 40).warnings == ()


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
        (([1.0], [0.5], [0.5]), {"clip": "a"}, "a number above 0, or None, got 'a'"),
        (([1.0], [0.5], [0.5]), {"clip": True}, "a number above 0, or None, got True"),
        (([1.0], [0.5], [0.5]), {"clip": float("nan")}, "a number above 0, or None, got nan"),
        (([1.0] * 2, [0.5] * 2, [0.5] * 2), {"cluster": [0, None]}, "the first is case 1"),
        (
            ([1.0] * 4, [0.5] * 4, [0.5] * 4),
            {"cluster": [0, np.nan, np.nan, 1]},
            r"2 of 4 cases have no cluster \(NaN or None\), the first is case 1",
        ),
    ],
)
def test_estimates_of_misfits_say_what_is_wrong(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        ips(*arguments, **options)


def test_clipping_hides_neither_lost_weight_nor_missing_overlap():
    rewards, logged, new = np.tile([1.0, 0.0], 20), np.full(40, 0.01), np.ones(40)
    with pytest.warns(UserWarning, match="Off-policy estimate: "):
        found = ips(rewards, logged, new, clip=1e-3)
    assert found.value == pytest.approx(0.0005)
    assert found.largest_weight == pytest.approx(0.001)
    assert found.mean_weight == pytest.approx(100)
    assert found.clipped == pytest.approx(1 - 1e-5)
    assert found.warnings[0].startswith("clipping took 100.0% of the weight")
    assert found.warnings[1].startswith("weights are 100.00 on average, not 1: the log lacks")
    with pytest.warns(UserWarning, match="the log lacks what the new policy shows"):
        found = ips(rewards, np.full(40, 0.5), np.zeros(40), clip=2.0)
    assert (found.mean_weight, found.clipped) == (0, 0)
    # Weights of 1.9 and 0.1: clipping at 1.8 takes a twentieth, which is no reason to doubt.
    new = np.tile([0.95, 0.05], 20)
    found = ips(rewards, np.full(40, 0.5), new, clip=1.8)
    assert found.clipped == pytest.approx(0.05)
    assert found.warnings == ()


def test_doubly_robust_of_other_shapes_says_so():
    with pytest.raises(ValueError, match=r"one prediction per case, \[1\], got predicted \[2\]"):
        doubly_robust([1.0], [0.5], [0.5], [1.0, 2.0], [1.0])


def trial(seed, num_cases=4000):
    """A log in which those who are shown an item click more anyway; what it adds is 0.2."""
    random = np.random.default_rng(seed)
    eager = random.random(num_cases) < 0.5
    propensity = np.where(eager, 0.8, 0.3)
    shown = random.random(num_cases) < propensity
    odds = 0.1 + 0.4 * eager + 0.2 * shown
    return eager, propensity, shown.astype(float), (random.random(num_cases) < odds).astype(float)


def test_uplift_recovers_a_planted_effect_that_the_plain_difference_misses():
    inside = 0
    for seed in range(40):
        _, propensity, shown, reward = trial(seed)
        found = uplift(reward, shown, propensity)
        inside += found.low <= 0.2 <= found.high
        plain = reward[shown == 1].mean() - reward[shown == 0].mean()
        assert plain > 0.3
    assert inside >= 34


def test_uplift_with_right_predictions_forgives_wrong_propensities_and_is_sharper():
    eager, propensity, shown, reward = trial(0)
    with_it, without = 0.3 + 0.4 * eager, 0.1 + 0.4 * eager
    wrong = uplift(reward, shown, np.full_like(propensity, 0.5), with_it, without)
    assert wrong.low <= 0.2 <= wrong.high
    right = uplift(reward, shown, propensity, with_it, without)
    assert right.variance < uplift(reward, shown, propensity).variance


def test_weights_of_a_trial_are_one_on_average() -> None:
    _, propensity, shown, reward = trial(0)
    found = uplift(reward, shown, propensity)
    assert found.mean_weight == pytest.approx(1, abs=0.05)
    assert found.warnings == ()


def test_uplift_by_hand():
    found = uplift([1, 0, 1, 0], [1, 1, 0, 0], [0.5, 0.25, 0.5, 0.75], 0.5, 0.25)
    terms = [
        0.25 + (1 - 0.5) / 0.5,
        0.25 + (0 - 0.5) / 0.25,
        0.25 - (1 - 0.25) / 0.5,
        0.25 - (0 - 0.25) / 0.25,
    ]
    assert found.value == pytest.approx(np.mean(terms))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([1, 0], [1, 2], [0.5, 0.5]), "0 or 1 per case"),
        (([1, 0], [1, 0], [0.5, 0.0]), "but is 0.0 in case 1"),
        (([1, 0], [1, 0], [1.0, 0.5]), "but is 1.0 in case 0"),
        (([1, 0], [1], [0.5, 0.5]), "There is one reward"),
        (([1, 0], [1, 1], [0.5, 0.5], 0.5, 0.5), "shown in every case: a comparison needs"),
        (([1, 0], [0, 0], [0.5, 0.5]), "shown in no case"),
        (([1, 0], [1, 0], [0.5, 0.5], [1, 2, 3]), "one prediction per case"),
    ],
)
def test_uplift_of_misfits_says_what_is_wrong(arguments, said):
    with pytest.raises(ValueError, match=said):
        uplift(*arguments)


def biased_log(seed=0):
    """Every item is liked equally by its half of the sessions, and popular ones are seen more."""
    random = np.random.default_rng(seed)
    seen = np.arange(1, 21) ** 2.0
    items = random.choice(20, 6000, p=seen / seen.sum())
    return gs.Sessions.from_lists(
        [[20 + item % 2, item] for item in items.tolist()], vocabulary=gs.data.Vocabulary(range(22))
    )


def test_debiased_metric_is_the_mean_over_items_as_if_all_were_seen_as_often():
    model = gs.models.Popularity(22)
    gs.fit(model, biased_log())
    report = gs.evaluate(model, biased_log(1), ks=(5,))
    target = biased_log(1).items[1::2]
    hits = report.values("hr@5")
    per_item = [hits[target == item].mean() for item in np.unique(target)]
    plain = report.metrics["hr@5"]
    even = debiased(report, "hr@5", exponent=1.0)
    assert even.low <= np.mean(per_item) <= even.high
    assert even.mean_weight == pytest.approx(1)
    assert abs(even.value - np.mean(per_item)) < 0.1 < plain - np.mean(per_item)
    assert debiased(report, "hr@5", exponent=0).value == pytest.approx(plain)


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_debiased_metric_with_exponent_zero_has_the_interval_of_the_report(level: float) -> None:
    model = gs.models.Popularity(22)
    gs.fit(model, biased_log())
    items = biased_log(1).items[1::2][:600].reshape(-1, 3)
    several = gs.Sessions.from_lists(  # of three cases each, so that the clusters matter
        [[20, *row] for row in items.tolist()], vocabulary=gs.data.Vocabulary(range(22))
    )
    report = gs.evaluate(model, several, ks=(5,))
    found = debiased(report, "hr@5", exponent=0, level=level)
    assert (found.low, found.high) == pytest.approx(report.confidence_interval("hr@5", level))


def test_debiased_metric_by_hand():
    model = gs.models.Popularity(3)
    gs.fit(model, gs.Sessions.from_lists([[0, 0, 0, 0, 1], [2]]))  # 4, 1 and 1 clicks
    report = gs.evaluate(model, gs.Sessions.from_lists([[1, 0], [0, 1]]), ks=(1,))
    assert report.values("hr@1").tolist() == [1.0, 0.0]
    found = debiased(report, "hr@1", exponent=0.5)
    assert found.value == pytest.approx((1 / 2) / (1 / 2 + 1))


@pytest.mark.parametrize("exponent", ["a", -1, None, float("nan")])
def test_debiased_metric_with_an_exponent_that_is_none_is_refused(exponent):
    with pytest.raises(ValueError, match="exponent must be a finite number of at least 0, got"):
        debiased(None, "hr@5", exponent=exponent)


def test_debiased_metric_with_weights_beyond_floats_is_refused():
    model = gs.models.Popularity(3)
    gs.fit(model, gs.Sessions.from_lists([[0, 0, 0, 0, 1], [2]]))
    report = gs.evaluate(model, gs.Sessions.from_lists([[1, 0], [0, 1]]), ks=(1,))
    with pytest.raises(ValueError, match=r"exponent=1000\.0 gives the rarest target a weight that"):
        debiased(report, "hr@1", exponent=1000.0)


def test_debiased_metric_of_targets_without_a_click_is_refused():
    model = gs.models.Popularity(3)
    ids = gs.data.Vocabulary(range(3))
    gs.fit(model, gs.Sessions.from_lists([[0, 1]], vocabulary=ids))
    report = gs.evaluate(model, gs.Sessions.from_lists([[0, 2], [0, 1]], vocabulary=ids))
    with pytest.raises(ValueError, match="1 of 2 targets have no training click"):
        debiased(report, "mrr")
    with pytest.raises(ValueError, match="exponent must be"):
        debiased(report, "mrr", exponent=-1.0)
    with pytest.raises(ValueError, match="exponent must be a finite number of at least 0, got 'a'"):
        debiased(report, "mrr", exponent="a")
