"""The scale of every metric: its better end, its range, its unit, and its full name."""

from __future__ import annotations

from collections.abc import Container, Iterable

import numpy as np

SAMPLED, UNSEEN = "sampled ", "unseen "
"""Prefix of the name of a metric over sampled candidates, or without seen items."""

LOWER_IS_BETTER = frozenset(
    {"mean_rank", "logloss", "average_popularity", "gini", "miscalibration"}
)
"""Metrics of which a small value is good."""

UNITS = {
    "mean_rank": "places",
    "logloss": "nats",
    "average_popularity": "clicks",
    "novelty": "bits",
    "miscalibration": "nats",
}
"""The units of metrics that are no fractions."""


def lower_is_better(metric: str) -> bool:
    """Whether a lower value of a metric is better.

    >>> lower_is_better("sampled mean_rank"), lower_is_better("hr@20")
    (True, False)

    Args:
        metric: Its name, with or without the protocol's prefix and the cut-off.
    """
    return _kind(metric) in LOWER_IS_BETTER


def unit_of(metric: str) -> tuple[float, str]:
    """What a difference of a metric is multiplied by for a reader, and the unit it then has.

    >>> unit_of("hr@20"), unit_of("mean_rank")
    ((100.0, 'points'), (1.0, 'places'))

    Args:
        metric: As in :func:`lower_is_better`. A fraction is read in points of per cent.
    """
    unit = UNITS.get(_kind(metric))
    return (100.0, "points") if unit is None else (1.0, unit)


def within_range(metric: str, interval: tuple[float, float], num_items: int) -> tuple[float, float]:
    """An interval of the mean of a metric over cases, cut where no mean can lie.

    >>> within_range("hr@20", (-0.1, 0.3), num_items=50)
    (0.0, 0.3)

    Args:
        metric: As in :func:`lower_is_better`.
        interval: Both ends; NaN remains NaN.
        num_items: Number of ranked items: a miss has the place after them.
    """
    kind, least, most = _kind(metric), 0.0, 1.0
    if kind == "mean_rank":
        least, most = 1.0, num_items + 1.0
    elif kind in UNITS:
        most = np.inf
    elif kind == "precision":  # of one target
        most = 1.0 / int(metric.rpartition("@")[2])
    low, high = interval
    return max(low, least), min(high, most)  # in this order, so that NaN remains NaN


def name_among(metric: str, tables: Iterable[Container[str]]) -> str:
    """The full name of a metric in tables, where ``"sampled "`` may be left out.

    >>> name_among("hr@20", [{"sampled hr@20": 0.3}])
    'sampled hr@20'

    Args:
        metric: Its name.
        tables: What each table holds by the names of metrics.

    Returns:
        The name with ``"sampled "`` if all tables hold that and not the name as it is; else the
        name as it is.
    """
    held = list(tables)
    full = f"{SAMPLED}{metric}"
    if held and all(full in table and metric not in table for table in held):
        return full
    return metric


def _kind(metric: str) -> str:
    return metric.removeprefix(SAMPLED).removeprefix(UNSEEN).partition("@")[0]
