"""Strata: every case in its stratum, means and intervals those of its cases alone."""

from dataclasses import replace

import numpy as np
import pytest

import graphseq as gs
from graphseq.evaluation import Protocol, Report, mean_interval

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


@pytest.mark.parametrize(
    ("by", "edges", "strata"),
    [
        ("popularity", (1000, 2000), {"below 1000": 7}),
        ("popularity", (2, 4), {"below 2": 3, "2-3": 3, "4 or more": 1}),
        ("length", (2.5, 3.5), {"below 3": 2, "3": 2, "4 or more": 3}),
        ("gap", (1_000_000, 1_000_001), {"below 1000000": 7}),
        ("gap", (-1_000_001, -1_000_000, 650), {"-1000000-650": 6, "650 or more": 1}),
    ],
)
def test_strata_hold_every_case(report, by, edges, strata):
    frame = report.strata(by, edges=edges, metrics="mrr")
    assert frame["cases"].to_dict() == strata
    assert (frame["cases"] * frame["mrr"]).sum() == pytest.approx(report.values("mrr").sum())


def test_cases_without_a_gap_are_a_stratum(report):
    gap = report.cases["gap"].where([True, False, True, True, False, True, True])
    frame = replace(report, cases=report.cases.assign(gap=gap)).strata("gap", metrics="hr@1")
    assert frame["cases"].to_dict() == {"0-10": 4, "600-3600": 1, "unknown": 2}
    assert frame.loc["unknown", "hr@1"] == report.values("hr@1")[[1, 4]].mean()


def test_intervals_of_strata_are_cut_at_the_range_of_the_metric(report):
    loss = np.array([2.0, 9.0, 4.0, 1.0, 7.0, 0.5, 3.0])
    losses = replace(report, ranks=report.ranks.assign(logloss=loss))
    frame = losses.strata("repeat", metrics=["logloss", "mean_rank", "precision@2"])
    cases = EXPECTED["repeat"]["repeat"]
    low, high = mean_interval(loss[cases], report.cluster[cases])
    row = frame.loc["repeat"]
    assert row["logloss"] == pytest.approx(loss[cases].mean())
    assert high > 1
    assert low < 0
    assert row[["logloss low", "logloss high"]].tolist() == pytest.approx([0, high])
    places = report.values("mean_rank")[cases]
    low, high = mean_interval(places, report.cluster[cases])
    assert high > report.num_items + 1
    assert row["mean_rank low"] == pytest.approx(max(low, 1))
    assert row["mean_rank high"] == report.num_items + 1
    assert (frame["precision@2 high"] <= 0.5).all()


def test_strata_of_drawn_candidates_say_sampled(report):
    drawn = replace(report, protocol=Protocol(candidates=2), num_items=3)
    for metrics in ("hr@1", ["hr@1"], ("sampled hr@1",)):
        frame = drawn.strata("repeat", metrics=metrics)
        named = ["sampled hr@1", "sampled hr@1 low", "sampled hr@1 high"]
        assert list(frame.columns) == ["cases", "clusters", *named]


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
    for edges in ("abc", "123", (1, np.nan), (1, np.inf), 5, [], [[1, 2]], (1, None), object()):
        with pytest.raises(ValueError, match="edges must be ascending numbers, as"):
            report.strata("length", edges=edges)
    with pytest.raises(ValueError, match="metrics holds names, such as 'hr@20', got 5"):
        report.strata("length", metrics=[5])
    with pytest.raises(ValueError, match=r"Strata are by .* got \['length'\]"):
        report.strata(["length"])
    with pytest.raises(ValueError, match=r"level must lie between 0 and 1, .* got 'x'"):
        report.strata("length", level="x")
    with pytest.raises(ValueError, match="Strata by repeat are two, they have no edges"):
        report.strata("repeat", edges=(1, 2))
    with pytest.raises(ValueError, match="does not know the length of its cases"):
        replace(report, cases=None).strata("length")
    lacking = report.cases.assign(popularity=-1, gap=np.nan)
    with pytest.raises(ValueError, match="the model has no catalog"):
        replace(report, cases=lacking).strata("new")
    with pytest.raises(ValueError, match="no times"):
        replace(report, cases=lacking).strata("gap")
