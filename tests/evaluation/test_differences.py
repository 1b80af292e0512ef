"""Which models differ: matrix, correction, power, and ranks over data sets."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from graphseq.evaluation import (
    Protocol,
    Report,
    critical_difference,
    differences,
    holm,
    paired_test,
    smallest_difference,
)
from graphseq.evaluation.significance import mean_error

SIZE = 400


def report_of(better):
    cluster = np.arange(len(better)) // 2
    ranks = pd.DataFrame(
        {
            "session": cluster,
            "position": np.arange(len(better)) % 2 + 1,
            "better": np.asarray(better),
            "tied": 0,
        }
    )
    return Report({}, ranks, cluster, 50, 0, 0, 0, Protocol(), 0.0)


def drawn(seed, share):
    return np.where(np.random.default_rng(seed).random(SIZE) < share, 0, 49)


REPORTS = {
    "weak": report_of(drawn(0, 0.3)),
    "strong": report_of(drawn(1, 0.8)),
    "twin": report_of(drawn(2, 0.8)),
}


@pytest.mark.parametrize("method", ["t", "sign_flip", "bootstrap"])
def test_differences_name_the_real_ones(method):
    found = differences(REPORTS, "hr@1", method=method)
    assert set(found.mean.index[:2]) == {"strong", "twin"}
    assert found.mean.index[2] == "weak"
    assert found.mean.tolist() == sorted(found.mean, reverse=True)
    assert found.real.loc["strong", "weak"]
    assert found.real.loc["weak", "twin"]
    assert not found.real.loc["strong", "twin"]
    assert not np.diag(found.real).any()
    assert repr(found) == "Differences(hr@1: 2 of 3 pairs differ)"
    matrix = found.difference
    assert matrix.to_numpy() == pytest.approx(-matrix.to_numpy().T)
    one, other = (REPORTS[name].values("hr@1") for name in ("strong", "weak"))
    assert matrix.loc["strong", "weak"] == pytest.approx(one.mean() - other.mean())


def test_differences_are_corrected_by_holm_over_all_pairs():
    found = differences(REPORTS, "mrr")
    pairs = [("strong", "twin"), ("strong", "weak"), ("twin", "weak")]
    cluster = REPORTS["weak"].cluster
    plain = np.array(
        [
            paired_test(REPORTS[a].values("mrr"), REPORTS[b].values("mrr"), cluster).p_value
            for a, b in pairs
        ]
    )
    assert [found.p_value.loc[pair] for pair in pairs] == pytest.approx(holm(plain).tolist())


def test_differences_of_several_seeds_are_those_of_their_means():
    seeds = [report_of(drawn(seed, 0.5)) for seed in (5, 6)]
    found = differences({"runs": seeds, "weak": REPORTS["weak"]}, "hr@1")
    mean = np.mean([report.values("hr@1") for report in seeds], axis=0)
    assert found.mean["runs"] == pytest.approx(mean.mean())
    test = paired_test(mean, REPORTS["weak"].values("hr@1"), REPORTS["weak"].cluster)
    assert found.p_value.loc["runs", "weak"] == pytest.approx(test.p_value)


@pytest.mark.parametrize("method", ["sign_flip", "bootstrap"])
def test_differences_by_another_seed_are_drawn_anew(method: str) -> None:
    near = {"a": report_of(drawn(1, 0.5)), "b": report_of(drawn(2, 0.55))}
    found = {
        differences(near, "mrr", method=method, seed=seed).p_value.loc["a", "b"]
        for seed in range(4)
    }
    assert len(found) > 1


def test_differences_of_one_cluster_are_not_real() -> None:
    lone = np.zeros(SIZE, dtype=np.int64)
    alone = {name: replace(report, cluster=lone) for name, report in REPORTS.items()}
    assert (differences(alone, "mrr").p_value == 1).all(axis=None)


def test_differences_of_mean_ranks_put_the_lowest_first():
    assert differences(REPORTS, "mean_rank").mean.index[-1] == "weak"


def with_losses(name, loss):
    report = REPORTS[name]
    return replace(report, ranks=report.ranks.assign(logloss=loss))


def test_differences_of_losses_put_the_lowest_first():
    noise = np.random.default_rng(0).random(SIZE)
    found = differences({"a": with_losses("weak", 2.5 + noise),
                         "b": with_losses("weak", 2.4 + noise)}, "logloss")  # fmt: skip
    assert found.mean.index.tolist() == ["b", "a"]
    assert found.difference.loc["b", "a"] == pytest.approx(-0.1)


@pytest.mark.parametrize("method", ["t", "sign_flip", "bootstrap"])
def test_the_same_seeds_in_another_order_do_not_differ(method):
    seeds = [report_of(np.random.default_rng(s).integers(0, 50, SIZE)) for s in range(3)]
    found = differences({"a": seeds, "b": seeds[1:] + seeds[:1]}, "mrr", method=method)
    assert not found.real.to_numpy().any()
    if method != "bootstrap":  # which draws the runs of each
        assert (found.p_value == 1).all(axis=None)
    assert (found.difference == 0).all(axis=None)


def test_smallest_difference_of_cases_that_cancel_in_every_cluster_is_zero():
    first, second = (report_of(np.tile(places, 100)) for places in ([1, 5, 6], [6, 1, 5]))
    whole = np.arange(300) // 3
    first, second = replace(first, cluster=whole), replace(second, cluster=whole)
    second = replace(second, ranks=first.ranks.assign(better=second.ranks["better"]))
    assert smallest_difference(first, second, metric="mrr") == 0


@pytest.mark.parametrize("name", ["hr@1", "sampled hr@1"])
def test_differences_of_drawn_candidates_say_sampled(name):
    drawn = {
        model: replace(REPORTS[model], protocol=Protocol(candidates=49))
        for model in ("weak", "strong")
    }
    found = differences(drawn, name)
    assert found.metric == found.mean.name == "sampled hr@1"
    assert found.difference.columns.name == found.p_value.columns.name == "sampled hr@1"
    assert found.real.columns.name == "sampled hr@1"
    assert "sampled hr@1" in repr(found)
    assert found.mean["weak"] == REPORTS["weak"].values("hr@1").mean()
    unseen = replace(REPORTS["weak"], protocol=Protocol(candidates=49, seen="both"))
    assert unseen.full_name("unseen hr@1") == "sampled unseen hr@1"
    assert REPORTS["weak"].full_name("mrr") == "mrr"
    assert REPORTS["weak"].full_name("logloss") == "logloss"
    for wrong in ("mrs", 5):
        with pytest.raises(ValueError, match="A metric is hr@k, ndcg@k or mrr@k"):
            REPORTS["weak"].full_name(wrong)


def test_differences_of_other_cases_or_protocols_are_refused():
    with pytest.raises(ValueError, match="400 and 2 cases that are not the same"):
        differences({**REPORTS, "short": report_of([0, 1])}, "mrr")
    other = replace(REPORTS["weak"], protocol=Protocol(candidates=9))
    with pytest.raises(ValueError, match="candidates is 'all' here and 9 there"):
        differences({**REPORTS, "sampled": other}, "mrr")
    other = replace(REPORTS["weak"], fingerprint="b")
    with pytest.raises(ValueError, match="cases that are not the same"):
        differences({"a": replace(REPORTS["weak"], fingerprint="a"), "b": other}, "mrr")
    with pytest.raises(ValueError, match="Differences need at least two models, got reports of 1"):
        differences({"weak": REPORTS["weak"]}, "mrr")


def test_smallest_difference_is_found_as_often_as_it_says():
    generator = np.random.default_rng(3)
    cluster = np.arange(SIZE) // 2
    first = report_of(generator.integers(0, 2, SIZE) * 49)
    second = report_of(generator.integers(0, 2, SIZE) * 49)
    size = smallest_difference(first, second, metric="hr@1")
    noise = first.values("hr@1") - second.values("hr@1")
    noise -= noise.mean()
    found = 0
    for _ in range(300):
        signs = generator.choice([-1.0, 1.0], SIZE // 2)[cluster]
        found += paired_test(noise * signs + size, np.zeros(SIZE), cluster).p_value < 0.05
    assert 0.72 < found / 300 < 0.88
    alone = smallest_difference(first, metric="hr@1")
    assert alone == pytest.approx(size, rel=0.25)  # the two are independent here
    assert smallest_difference(first, second, metric="hr@1", power=0.9) > size


@pytest.mark.parametrize(("level", "power"), [(0.95, 0.8), (0.99, 0.8), (0.9, 0.5)])
def test_smallest_difference_is_that_of_its_formula(level: float, power: float) -> None:
    first, second = REPORTS["weak"], REPORTS["strong"]
    values = first.values("mrr") - second.values("mrr")
    error, clusters = mean_error(values, first.cluster)
    reach = stats.t.ppf([(1 + level) / 2, power], clusters - 1).sum()
    found = smallest_difference(first, second, metric="mrr", level=level, power=power)
    assert found == pytest.approx(reach * error)


def test_smallest_difference_of_misfits():
    report = REPORTS["weak"]
    one = replace(report, cluster=np.zeros(SIZE, dtype=np.int64))
    assert np.isnan(smallest_difference(one, metric="mrr"))
    with pytest.raises(ValueError, match="power must lie between 0 and 1"):
        smallest_difference(report, metric="mrr", power=1.0)
    for power in (0.001, 0.025, 0.05):
        with pytest.raises(ValueError, match=r"power must lie above 1 - level, 0\.05,"):
            smallest_difference(report, metric="mrr", power=power)
    assert smallest_difference(report, metric="mrr", power=0.051) > 0
    with pytest.raises(ValueError, match=r"of a report of gs.evaluate, or of two, got dict"):
        smallest_difference({}, metric="mrr")
    with pytest.raises(ValueError, match=r"compared with another report .* got dict"):
        smallest_difference(report, {}, metric="mrr")
    with pytest.raises(ValueError, match=r"power must lie between 0 and 1, .* got 'x'"):
        smallest_difference(report, metric="mrr", power="x")
    with pytest.raises(ValueError, match=r"level must lie between 0 and 1, .* got 'x'"):
        report.confidence_interval("mrr", level="x")
    with pytest.raises(ValueError, match="not the same"):
        smallest_difference(report, report_of([0, 1]), metric="mrr")


# Demšar (JMLR 2006), table 6: AUC of C4.5 and its variants on 14 data sets.
DEMSAR = pd.DataFrame(
    {
        "C4.5": [0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1.0, 0.940, 0.619,
                 0.972, 0.957],
        "C4.5+m": [0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1.0, 0.962,
                   0.666, 0.981, 0.978],
        "C4.5+cf": [0.771, 0.590, 0.968, 0.654, 0.886, 0.916, 0.609, 0.563, 0.866, 1.0, 0.965,
                    0.614, 0.9751, 0.946],
        "C4.5+m+cf": [0.798, 0.569, 0.967, 0.657, 0.898, 0.931, 0.685, 0.625, 0.875, 1.0, 0.962,
                      0.669, 0.975, 0.970],
    }
)  # fmt: skip


def test_critical_difference_is_that_of_demsar():
    found = critical_difference(DEMSAR)
    assert found.ranks["C4.5"] == pytest.approx(3.143, abs=1e-3)
    assert found.ranks["C4.5+m"] == pytest.approx(2.0, abs=1e-3)
    assert found.ranks["C4.5+m+cf"] == pytest.approx(1.964, abs=1e-3)
    expected = stats.friedmanchisquare(*DEMSAR.to_numpy().T).pvalue
    assert found.p_value == pytest.approx(expected)
    assert expected < 0.05
    assert found.num_datasets == 14
    assert found.groups == [["C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5"]] or len(found.groups) == 2


@pytest.mark.parametrize(("level", "quantile"), [(0.9, 2.291), (0.95, 2.569)])
def test_critical_difference_is_of_its_level(level: float, quantile: float) -> None:
    # The quantiles of table 5 (a) for 4 models; the distance at 0.95 is 1.25.
    expected = quantile * (4 * 5 / (6 * 14)) ** 0.5
    assert critical_difference(DEMSAR, level=level).distance == pytest.approx(expected, abs=2e-3)


def test_critical_difference_groups_are_what_cannot_be_told_apart():
    apart = pd.DataFrame({"a": range(3, 43), "b": range(2, 42), "c": range(1, 41)})
    found = critical_difference(apart)
    assert found.ranks.tolist() == [1, 2, 3]
    assert found.groups == []
    same = pd.DataFrame({"a": [1.0, 1.0], "b": [1.0, 1.0]})
    assert critical_difference(same).p_value == 1.0
    assert critical_difference(same).groups == [["a", "b"]]


def test_critical_difference_of_a_metric_where_less_is_better_ranks_the_lowest_first():
    losses = pd.DataFrame({"a": [2.5, 1.0, 9.0], "b": [2.4, 0.9, 7.0], "c": [3.0, 0.95, 8.0]})
    found = critical_difference(losses, metric="logloss")
    assert found.ranks.to_dict() == pytest.approx({"b": 1, "c": 7 / 3, "a": 8 / 3})
    assert found.ranks.name == "logloss"
    turned = critical_difference(-losses, metric="sampled hr@5")
    assert turned.ranks.to_dict() == found.ranks.to_dict()
    assert turned.ranks.name == "sampled hr@5"
    assert critical_difference(losses).ranks["a"] == pytest.approx(4 / 3)


def test_critical_difference_ranks_are_those_of_pandas_and_rounding_ties():
    scores = pd.DataFrame(np.random.default_rng(0).integers(0, 4, (30, 5)) / 7)
    expected = scores.rank(axis=1, ascending=False).mean().sort_values(kind="stable")
    assert critical_difference(scores).ranks.to_dict() == pytest.approx(expected.to_dict())
    rounded = pd.DataFrame({"a": [0.3, 0.3], "b": [0.1 + 0.2, 0.1 + 0.2]})
    assert critical_difference(rounded).ranks.tolist() == [1.5, 1.5]
    endless = pd.DataFrame({"a": [np.inf, 1.0], "b": [np.inf, 2.0]})
    assert critical_difference(endless).ranks.to_dict() == {"b": 1.25, "a": 1.75}


def test_critical_difference_of_gaps_is_refused():
    with pytest.raises(ValueError, match="got 2 data sets, 2 models and 1 scores missing"):
        critical_difference(pd.DataFrame({"a": [1.0, np.nan], "b": [1.0, 2.0]}))
