"""Strata: every case in its stratum, means and intervals those of its cases alone."""

from dataclasses import replace

import numpy as np
import pytest

import graphseq as gs
from graphseq.evaluation import Report, mean_interval

TRAIN = gs.Sessions.from_lists([["a", "b", "a", "c"], ["a", "b"], ["b", "a"]])  # a 4, b 3, c 1
LISTS = [["a", "b", "a"], ["b", "x"], ["c", "b", "b", "c"], ["a", "c"]]
TIMES = [0.0, 5.0, 70.0, 0.0, 9.0, 0.0, 700.0, 710.0, 715.0, 0.0, 1.0]


@pytest.fixture(scope="module")
def report():
    test = replace(gs.Sessions.from_lists(LISTS), time=np.array(TIMES))
    split = gs.fixed_split(replace(TRAIN, time=np.arange(8.0)), test)
    model = gs.models.MODELS["markov"](num_items=split.num_items)
    gs.fit(model, split)
    return gs.evaluate(model, split.test, ks=[1])


# Cases in order: (0,1) b, (0,2) a, (1,1) x, (2,1) b, (2,2) b, (2,3) c, (3,1) c.
EXPECTED = {
    "length": {"2": [2, 6], "3": [0, 1], "4-5": [3, 4, 5]},
    "position": {"1": [0, 2, 3, 6], "2": [1, 4], "3-4": [5]},
    "popularity": {"0": [2], "1-4": [0, 1, 3, 4, 5, 6]},
    "repeat": {"new to the session": [0, 2, 3, 6], "repeat": [1, 4, 5]},
    "new": {"known item": [0, 1, 3, 4, 5, 6], "new item": [2]},
    "gap": {"0-10": [0, 2, 5, 6], "10-60": [4], "60-600": [1], "600-3600": [3]},
}


@pytest.mark.parametrize("by", EXPECTED)
def test_strata_hold_the_cases_that_are_theirs(report, by):
    frame = report.strata(by, metrics=["hr@1", "mrr"])
    assert frame.index.name == by
    assert frame.index.tolist() == list(EXPECTED[by])
    for stratum, cases in EXPECTED[by].items():
        values, cluster = report.values("mrr")[cases], report.cluster[cases]
        row = frame.loc[stratum]
        assert row["cases"] == len(cases)
        assert row["clusters"] == len(set(cluster.tolist()))
        assert row["mrr"] == pytest.approx(values.mean())
        low, high = mean_interval(values, cluster)
        expected = [max(low, 0), min(high, 1)]
        assert row[["mrr low", "mrr high"]].tolist() == pytest.approx(expected, nan_ok=True)
        assert row["hr@1"] == report.values("hr@1")[cases].mean()


def test_strata_of_own_edges_and_all_metrics(report):
    frame = report.strata("popularity", edges=(0, 2, 4))
    assert frame.index.tolist() == ["0-1", "2-3", "4 or more"]
    assert frame["cases"].tolist() == [3, 3, 1]
    assert {"hr@1", "mrr", "ndcg@1 low"} <= set(frame.columns)


def test_strata_of_a_saved_report_are_the_same(report, tmp_path):
    report.save(tmp_path / "report.bin")
    loaded = Report.load(tmp_path / "report.bin")
    for by in EXPECTED:
        assert loaded.strata(by).equals(report.strata(by))


def test_strata_that_are_none_say_so(report):
    with pytest.raises(ValueError, match=r"Strata are by length, position, .* got 'color'"):
        report.strata("color")
    with pytest.raises(ValueError, match="edges must be ascending numbers"):
        report.strata("length", edges=(3, 1))
    with pytest.raises(ValueError, match="Strata by repeat are two, they have no edges"):
        report.strata("repeat", edges=(1, 2))
    with pytest.raises(ValueError, match="does not know the length of its cases"):
        replace(report, cases=None).strata("length")
    lacking = report.cases.assign(popularity=-1, gap=np.nan)
    with pytest.raises(ValueError, match="the model has no catalog"):
        replace(report, cases=lacking).strata("new")
    with pytest.raises(ValueError, match="no times"):
        replace(report, cases=lacking).strata("gap")
