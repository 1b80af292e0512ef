"""Paired tests between models: equal to the report's own test, Holm by hand, and the sentences."""

from __future__ import annotations

import numpy as np
import pytest

import graphseq as gs
from graphseq.comparison.verdicts import paired_tests, sentence
from graphseq.evaluation import holm


def test_holm_is_that_of_the_textbook() -> None:
    found = holm(np.array([0.01, 0.04, 0.03, 0.005]))
    np.testing.assert_allclose(found, [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1.0, 1.0])
    assert holm(np.array([])).tolist() == []


def test_paired_tests_are_those_of_the_reports_of_one_seed(ring: gs.Split) -> None:
    reports = {}
    for name in ("markov", "popularity", "item_knn"):
        model = gs.models.MODELS[name](ring.num_items)
        gs.fit(model, ring)
        reports[name] = [gs.evaluate(model, ring.test)]
    rows = paired_tests(reports, ["hr@2", "mrr"])
    assert [(r["model"], r["against"]) for r in rows[:3]] == [
        ("markov", "popularity"),
        ("markov", "item_knn"),
        ("popularity", "item_knn"),
    ]
    for row in rows:
        expected = reports[row["model"]][0].compare(reports[row["against"]][0], row["metric"])
        assert row["difference"] == expected.difference
        assert (row["low"], row["high"]) == (expected.low, expected.high)
        assert row["p_value"] == expected.p_value
        assert (row["cases"], row["clusters"]) == (expected.num_cases, expected.num_clusters)
    for metric in ("hr@2", "mrr"):
        family = [row for row in rows if row["metric"] == metric]
        corrected = holm(np.array([row["p_value"] for row in family]))
        assert [row["p_corrected"] for row in family] == corrected.tolist()


def test_paired_tests_of_drawn_candidates_say_sampled(ring: gs.Split) -> None:
    reports = {}
    for name in ("markov", "popularity"):
        model = gs.models.MODELS[name](ring.num_items)
        gs.fit(model, ring)
        reports[name] = [gs.evaluate(model, ring.test, protocol=gs.evaluation.Protocol(
            candidates=4))]  # fmt: skip
    rows = paired_tests(reports, ["hr@2", "sampled mrr"])
    assert [row["metric"] for row in rows] == ["sampled hr@2", "sampled mrr"]


def test_paired_tests_of_several_seeds_compare_their_means(ring: gs.Split) -> None:
    reports = []
    for _ in range(2):
        model = gs.models.SASRec(ring.num_items, 4)
        reports.append(gs.evaluate(model, ring.test))
    popularity = gs.models.Popularity(ring.num_items)
    gs.fit(popularity, ring)
    other = gs.evaluate(popularity, ring.test)
    (row,) = paired_tests({"drawn": reports, "popularity": [other]}, ["mrr"])
    mean = np.mean([report.metrics["mrr"] for report in reports])
    assert row["difference"] == pytest.approx(mean - other.metrics["mrr"])


BEATS = {
    "model": "srgnn",
    "against": "markov",
    "metric": "hr@20",
    "difference": 0.013,
    "low": 0.009,
    "high": 0.017,
    "p_value": 1e-9,
    "p_corrected": 1e-8,
}


def test_sentence_names_the_better_model_first() -> None:
    said = "srgnn beats markov by 1.3 points of hr@20, interval 0.9 to 1.7, p < 0.001."
    assert sentence(BEATS) == said
    turned = BEATS | {"model": "markov", "against": "srgnn"}
    turned |= {"difference": -0.013, "low": -0.017, "high": -0.009}
    assert sentence(turned) == said


@pytest.mark.parametrize(("metric", "unit"), [("mean_rank", "places"), ("logloss", "nats")])
def test_sentence_of_a_metric_where_less_is_better_names_the_lower_first(
    metric: str, unit: str
) -> None:
    lower = {"metric": metric, "difference": -0.885, "low": -1.2, "high": -0.57}
    said = f"srgnn beats markov by 0.89 {unit} of {metric}, interval 0.57 to 1.20, p < 0.001."
    assert sentence(BEATS | lower) == said
    turned = {"model": "markov", "against": "srgnn", "difference": 0.885, "low": 0.57, "high": 1.2}
    assert sentence(BEATS | lower | turned) == said
    lone = {"low": None, "high": None, "p_value": None, "p_corrected": None}
    assert sentence(BEATS | lower | lone).startswith(f"srgnn is 0.89 {unit} of {metric} ahead of m")


def test_sentence_tells_what_chance_may_have_done() -> None:
    unsure = BEATS | {"difference": 0.001, "low": -0.003, "high": 0.005, "p_corrected": 0.6201}
    assert sentence(unsure) == (
        "srgnn and markov cannot be told apart by hr@20: 0.1 points, interval -0.3 to 0.5, "
        "p = 0.620."
    )
    for p, told in ((1e-4, "p < 0.001"), (0.001, "p = 0.001"), (0.005, "p = 0.005")):
        assert sentence(BEATS | {"p_corrected": p}).endswith(f", {told}.")
    equal = {"metric": "mean_rank", "difference": 0.0, "low": -0.1, "high": 0.1, "p_corrected": 1}
    assert sentence(BEATS | equal) == (
        "srgnn and markov cannot be told apart by mean_rank: 0.00 places, interval -0.10 to 0.10, "
        "p = 1.000."
    )
    hardly = unsure | {"low": -0.0004, "high": 0.0004}
    assert "interval 0.0 to 0.0, p" in sentence(hardly)
    assert "beats" in sentence(BEATS | {"p_corrected": 0.0499})
    assert "cannot be told apart" in sentence(BEATS | {"p_corrected": 0.05})
    lone = BEATS | {"low": None, "high": None, "p_value": None, "p_corrected": None}
    assert "1.3 points of hr@20 ahead of markov" in sentence(lone)
