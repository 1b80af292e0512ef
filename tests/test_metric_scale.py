"""The scale of metrics: which end is better, their unit and their range."""

import numpy as np
import pytest

from graphseq.metric_scale import lower_is_better, name_among, unit_of, within_range


@pytest.mark.parametrize("prefix", ["", "sampled ", "unseen ", "sampled unseen "])
@pytest.mark.parametrize(
    ("metric", "lower", "unit"),
    [
        ("hr@20", False, (100, "points")),
        ("recall@3", False, (100, "points")),
        ("precision@3", False, (100, "points")),
        ("ndcg@5", False, (100, "points")),
        ("mrr", False, (100, "points")),
        ("auc", False, (100, "points")),
        ("mean_rank", True, (1, "places")),
        ("logloss", True, (1, "nats")),
        ("coverage@20", False, (100, "points")),
        ("gini@20", True, (100, "points")),
        ("novelty@20", False, (1, "bits")),
        ("average_popularity@20", True, (1, "clicks")),
        ("miscalibration@20", True, (1, "nats")),
    ],
)
def test_every_metric_has_a_better_end_and_a_unit(prefix, metric, lower, unit):
    assert lower_is_better(prefix + metric) == lower
    assert unit_of(prefix + metric) == unit


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("hr@20", (0, 1)),
        ("unseen ndcg@20", (0, 1)),
        ("precision@4", (0, 0.25)),
        ("auc", (0, 1)),
        ("sampled mean_rank", (1, 51)),
        ("logloss", (0, 99)),
        ("novelty@20", (0, 99)),
        ("average_popularity@20", (0, 99)),
    ],
)
def test_intervals_are_cut_where_no_mean_can_lie(metric, expected):
    assert within_range(metric, (-99, 99), 50) == expected
    inside = (0.5, 0.6) if metric != "precision@4" else (0.1, 0.2)
    if "mean_rank" in metric:
        inside = (2.0, 3.0)
    assert within_range(metric, inside, 50) == inside
    assert np.isnan(within_range(metric, (np.nan, np.nan), 50)).all()


def test_a_name_gets_its_prefix_if_all_tables_have_it():
    drawn, full = {"sampled hr@5": 0.3}, {"hr@5": 0.1}
    assert name_among("hr@5", [drawn, drawn]) == "sampled hr@5"
    assert name_among("sampled hr@5", [drawn]) == "sampled hr@5"
    assert name_among("hr@5", [drawn, full]) == "hr@5"
    assert name_among("hr@5", [drawn | full]) == "hr@5"
    assert name_among("hr@5", []) == "hr@5"
