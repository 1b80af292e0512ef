"""Paired tests of all models over the same cases, corrected for multiple tests."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphseq.evaluation.differences import holm
from graphseq.evaluation.report import Report
from graphseq.evaluation.significance import paired_test
from graphseq.metric_scale import lower_is_better, unit_of

LEVEL = 0.95
"""Level of the intervals."""

CHANCE = 0.05
"""A model beats another if the corrected p-value of their difference is below this."""


def paired_tests(
    reports: Mapping[str, Sequence[Report]],
    metrics: Iterable[str],
    pairs: Iterable[tuple[str, str]] | None = None,
    inside: NDArray[np.bool_] | None = None,
) -> list[dict[str, Any]]:
    """Tests models against each other, clustered, on the mean over seeds per case.

    Args:
        reports: Model -> its reports, one per seed, all on the same cases.
        metrics: Metrics to compare; Holm's correction is applied within each.
        pairs: Which models to compare; pairs without reports are left out. ``None``: every model
            with every other.
        inside: Which cases count, bool [num_cases]; ``None``: all.

    Returns:
        One row per metric, by its full name, and pair: ``difference`` is ``model`` minus
        ``against``.
    """
    wanted = [
        (first, second)
        for first, second in (combinations(reports, 2) if pairs is None else pairs)
        if first in reports and second in reports
    ]
    rows = []
    for metric in metrics:
        tests: list[dict[str, Any]] = []
        for first, second in wanted if inside is None or inside.any() else ():
            one, other = (
                np.mean([report.values(metric) for report in reports[name]], axis=0)
                for name in (first, second)
            )
            cluster = reports[first][0].cluster
            if inside is not None:
                one, other, cluster = one[inside], other[inside], cluster[inside]
            test = paired_test(one, other, cluster, level=LEVEL)
            tests.append(
                {
                    "model": first,
                    "against": second,
                    "metric": reports[first][0].full_name(metric),
                    "difference": test.difference,
                    "low": _plain(test.low),
                    "high": _plain(test.high),
                    "p_value": _plain(test.p_value),
                    "cases": test.num_cases,
                    "clusters": test.num_clusters,
                }
            )
        known = np.array([1.0 if t["p_value"] is None else t["p_value"] for t in tests])
        for test_row, corrected in zip(tests, holm(known), strict=True):
            test_row["p_corrected"] = None if test_row["p_value"] is None else float(corrected)
        rows += tests
    return rows


def sentence(test: Mapping[str, Any]) -> str:
    """A test in words, in percentage points or the metric's unit, the better model first.

    The figures say how much better it is, also where a lower metric is better.
    """
    model, against, metric = test["model"], test["against"], test["metric"]
    difference, low, high = test["difference"], test["low"], test["high"]
    p = test.get("p_corrected", test.get("p_value"))
    if lower_is_better(metric):  # of how much better the first model is
        difference = -difference
        low, high = (None, None) if low is None else (-high, -low)
    if difference < 0:
        model, against = against, model
        difference = -difference
        low, high = (None, None) if low is None else (-high, -low)
    factor, unit = unit_of(metric)
    digits = 1 if factor > 1 else 2
    amount = f"{factor * abs(difference):.{digits}f} {unit}"
    if low is None or p is None:
        return (
            f"{model} is {amount} of {metric} ahead of {against}, and one cluster of cases shows "
            "nothing about chance."
        )
    # Rounded before 0.0 is added, so that no end reads -0.0.
    ends = " to ".join(f"{round(factor * end, digits) + 0.0:.{digits}f}" for end in (low, high))
    figures = f"interval {ends}, {_probability(p)}"
    if p < CHANCE:
        return f"{model} beats {against} by {amount} of {metric}, {figures}."
    return f"{model} and {against} cannot be told apart by {metric}: {amount}, {figures}."


def _probability(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _plain(value: float) -> float | None:
    """The number; ``None`` for NaN, which JSON does not support."""
    return value if math.isfinite(value) else None
