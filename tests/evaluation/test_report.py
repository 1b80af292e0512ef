"""Reports: metrics at any k, intervals, comparisons of like with like."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import graphseq as gs
from graphseq.evaluation import (
    Protocol,
    Report,
    audit,
    audit_model,
    mean_interval,
    metric_values,
    paired_bootstrap,
    paired_test,
)


def report_of(better, tied=None, cluster=None, num_items=50):
    better = np.array(better)
    tied = np.zeros_like(better) if tied is None else np.array(tied)
    cluster = np.arange(len(better)) if cluster is None else np.array(cluster)
    ranks = pd.DataFrame(
        {"session": cluster, "position": np.arange(len(better)), "better": better, "tied": tied}
    )
    metrics = {
        name: float(metric_values(name, better, tied, num_items).mean()) for name in ("hr@5", "mrr")
    }
    return Report(metrics, ranks, cluster, num_items, 0, 0, 0, Protocol(), 0.0)


def test_report_at_another_k_follows_from_the_ranks():
    report = report_of([0, 7, 50, 3])
    assert report.values("hr@4").tolist() == [1, 0, 0, 1]
    assert report.values("mrr").tolist() == [1, 1 / 8, 0, 1 / 4]
    assert report.num_cases == 4


def test_report_interval_is_that_of_its_clusters():
    report = report_of([0, 9, 4, 3, 20, 0], cluster=[0, 0, 1, 2, 2, 2])
    expected = mean_interval(report.values("mrr"), report.cluster, level=0.5)
    assert report.confidence_interval("mrr", level=0.5) == expected


def test_report_interval_stays_within_what_a_metric_can_be():
    low, high = report_of([0, 0, 50]).confidence_interval("hr@5")
    assert (low, high) == (0.0, 1.0)


def test_report_interval_of_one_cluster_is_unknown():
    assert np.isnan(report_of([0, 50], cluster=[4, 4]).confidence_interval("hr@5")).all()


@pytest.mark.parametrize("method", ["t", "sign_flip", "bootstrap"])
@pytest.mark.parametrize("options", [{}, {"level": 0.5}, {"seed": 3}])
def test_report_compare_of_two_models_is_the_paired_test(
    method: str, options: dict[str, Any]
) -> None:
    # So many clusters that the p-value depends on the seed.
    first, second = (
        report_of(np.random.default_rng(n).integers(0, 50, 60), cluster=np.arange(60) // 2)
        for n in range(2)
    )
    test = first.compare(second, "mrr", method=method, **options)
    values = first.values("mrr"), second.values("mrr"), first.cluster
    if method == "bootstrap":
        assert test == paired_bootstrap(*values, **options)
    else:
        assert test == paired_test(*values, method=method, **options)
    assert test.difference == pytest.approx(first.metrics["mrr"] - second.metrics["mrr"])


def test_report_compare_of_other_cases_or_rules_says_what_differs():
    report = report_of([0, 1, 2])
    with pytest.raises(ValueError, match="3 and 2 cases that are not the same"):
        report.compare(report_of([0, 1]), "mrr")
    with pytest.raises(ValueError, match="seen is 'keep' here and 'remove' there"):
        report.compare(replace(report, protocol=Protocol(seen="remove")), "mrr")


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_report_as_a_frame_has_a_row_for_each_metric(level: float) -> None:
    report = report_of([0, 9, 4, 3])
    frame = report.to_frame(level)
    assert frame.index.tolist() == ["hr@5", "mrr"]
    assert frame["value"].to_dict() == report.metrics
    low, high = report.confidence_interval("mrr", level)
    assert frame.loc["mrr", ["low", "high"]].tolist() == [low, high]


def test_report_in_one_line_shows_metrics_and_cases():
    assert repr(report_of([0, 50])) == "Report(hr@5=0.5000, mrr=0.5000, num_cases=2)"


def test_report_saved_and_loaded_is_the_same(tmp_path):
    report = replace(
        report_of([0, 9, 4, 3], tied=[0, 2, 0, 1], cluster=[0, 0, 1, 5]),
        protocol=Protocol(seen="remove"),
    )
    path = tmp_path / "report.bin"
    report.save(path)
    loaded = Report.load(path)
    assert loaded.ranks.equals(report.ranks)
    assert loaded.cluster.tolist() == report.cluster.tolist()
    assert loaded.metrics == report.metrics
    assert repr(loaded) == repr(report)
    assert loaded.exclude_seen
    assert loaded.compare(report, "mrr").difference == 0
    assert [file.name for file in tmp_path.iterdir()] == ["report.bin"]


@pytest.mark.parametrize(("column", "most"), [("better", 50), ("tied", 49)])
def test_report_of_places_that_there_are_not_is_refused(
    column: str, most: int, tmp_path: Path
) -> None:
    report = report_of([0, 9, 4, 3], num_items=50)
    report.ranks.loc[0, column] = most
    report.save(tmp_path / "report.bin")
    assert Report.load(tmp_path / "report.bin").ranks.loc[0, column] == most
    report.ranks.loc[0, column] = most + 1
    report.save(tmp_path / "report.bin")
    with pytest.raises(ValueError, match=rf"broken: {column} lies outside 0\.\.{most}"):
        Report.load(tmp_path / "report.bin")


@pytest.mark.parametrize("content", [None, b"PAR1 but no more", b""])
def test_report_of_a_file_that_holds_none_is_refused(tmp_path, content):
    path = tmp_path / "report.bin"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"report\.bin is (missing|not a graphseq\.report file)"):
        Report.load(path)


def test_report_of_another_parquet_file_is_refused(tmp_path):
    path = tmp_path / "report.bin"
    pd.DataFrame({"session": [1]}).to_parquet(path)
    with pytest.raises(ValueError, match=r"report\.bin is (missing|not a graphseq\.report file)"):
        Report.load(path)


def test_report_carries_the_verdict_of_an_audit(tmp_path):
    split = gs.fixed_split(
        gs.Sessions.from_lists([["a", "b", "c"], ["c", "a"]]), gs.Sessions.from_lists([["a", "c"]])
    )
    model = gs.models.Popularity(split.num_items)
    gs.fit(model, split)
    plain = gs.evaluate(model, split.test)
    assert plain.audit is None
    assert "audit" not in repr(plain)
    found = audit(split, model) + audit_model(model, split)
    report = gs.evaluate(model, split.test, audit=found)
    assert report.audit == found.to_dict()
    assert repr(report).endswith("num_cases=1, audit=passed)")
    report.save(tmp_path / "report.bin")
    assert Report.load(tmp_path / "report.bin").audit == report.audit
    faults = {"passed": False, "findings": [{"check": "copies", "verdict": "fault"}]}
    assert repr(replace(report, audit=faults)).endswith("audit=refuted (copies))")
