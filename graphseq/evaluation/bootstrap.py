"""Bootstrap intervals and tests that resample clusters of cases (Efron & Tibshirani, 1993)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from graphseq.arguments import whole
from graphseq.evaluation.significance import (
    ROUNDING,
    PairedTest,
    check_finite,
    check_level,
    cluster_numbers,
)
from graphseq.random import stream
from graphseq.typing import Floats

DRAWS_AT_ONCE = 2**22
"""Cluster draws held in memory at once."""


def bootstrap_interval(
    values: ArrayLike,
    cluster: ArrayLike,
    *,
    level: float = 0.95,
    num_samples: int = 2_000,
    seed: int = 0,
) -> tuple[float, float]:
    r"""The percentile interval of a mean over cases, with clusters resampled with replacement.

    .. math::
        \bar v^* = \frac{\sum_{g \in G^*} \sum_{i \in g} v_i}{\sum_{g \in G^*} |g|}

    A cluster, which is a session or a user, is drawn with all of its cases. With several seeds the
    runs are drawn too, so that the interval covers both kinds of randomness.

    Args:
        values: One value per case, [num_cases], or per seed and case, [num_seeds, num_cases].
        cluster: The cluster of each case, integers [num_cases].
        level: Fraction of the drawn means inside the interval.
        num_samples: Number of bootstrap samples.
        seed: Seed of the samples.

    Returns:
        Lower and upper end; both are NaN if there is only one cluster.

    Raises:
        ValueError: If there is no case, shapes differ, a value is not finite, a case has no
            cluster, or an option is out of range.
    """
    check_level(level)
    seed = whole("seed", seed, at_least=0)
    means = _drawn_means(values, cluster, whole("num_samples", num_samples), seed)
    if means is None:
        return float("nan"), float("nan")
    low, high = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def paired_bootstrap(
    first: ArrayLike,
    second: ArrayLike,
    cluster: ArrayLike,
    *,
    level: float = 0.95,
    num_samples: int = 2_000,
    seed: int = 0,
) -> PairedTest:
    """Tests whether two models differ in a mean over the same cases, by resampling clusters.

    Both models are averaged over the same drawn clusters; with several seeds, each draws its own
    runs. The p-value is twice the share of drawn differences on the other side of zero.

    Args:
        first, second: The metric of each model, [num_cases], or [num_seeds, num_cases].
        cluster: The cluster of each case, integers [num_cases].
        level, num_samples, seed: As in :func:`bootstrap_interval`.

    Returns:
        The test of ``first - second``, with the percentile interval.

    Raises:
        ValueError: If there is no case, shapes differ, a value is not finite, a case has no
            cluster, or an option is out of range.
    """
    check_level(level)
    num_samples = whole("num_samples", num_samples)
    seed = whole("seed", seed, at_least=0)
    one, other = np.atleast_2d(first).astype(np.float64), np.atleast_2d(second).astype(np.float64)
    if one.shape[1] != other.shape[1]:
        raise ValueError(
            f"A paired test needs the same cases twice, got {one.shape[1]} and {other.shape[1]}."
        )
    rounding = ROUNDING * float(abs(one).mean() + abs(other).mean())
    difference = float(one.mean() - other.mean())
    difference = 0.0 if abs(difference) <= rounding else difference
    mine = _drawn_means(one, cluster, num_samples, seed)
    theirs = _drawn_means(other, cluster, num_samples, seed, second=True)
    if mine is None or theirs is None:
        low = high = p_value = float("nan")
    else:
        drawn = mine - theirs
        drawn[abs(drawn) <= rounding] = 0.0
        low, high = map(float, np.quantile(drawn, [0.5 - level / 2, 0.5 + level / 2]))
        beyond = 1 + min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
        p_value = min(1.0, 2 * beyond / (num_samples + 1))
    num_clusters = len(np.unique(cluster_numbers(cluster)))
    return PairedTest(difference, low, high, p_value, level, one.shape[1], num_clusters)


def _drawn_means(
    values: ArrayLike, cluster: ArrayLike, num_samples: int, seed: int, *, second: bool = False
) -> Floats | None:
    """Means over drawn clusters, float64 [num_samples]; ``None`` if there is one cluster.

    The drawn clusters depend only on the seed; the drawn runs also on ``second``.
    """
    table = np.atleast_2d(values).astype(np.float64)  # [num_seeds, num_cases]
    if table.ndim != 2 or table.size == 0 or np.shape(cluster) != table.shape[1:]:
        raise ValueError(
            "A bootstrap needs one or more cases and the cluster of each, got values of shape "
            f"{np.shape(values)} and clusters of shape {np.shape(cluster)}."
        )
    check_finite(table)
    number = cluster_numbers(cluster)
    size = np.bincount(number).astype(np.float64)  # [num_clusters]
    if len(size) < 2:
        return None
    sums = np.stack([np.bincount(number, weights=row) for row in table])
    clusters, runs = stream("bootstrap", seed), stream("bootstrap_runs", seed, int(second))
    means = np.empty(num_samples)
    step = max(1, DRAWS_AT_ONCE // len(size))
    for start in range(0, num_samples, step):
        rows = min(step, num_samples - start)
        drawn = clusters.integers(0, len(size), (rows, len(size)))
        run = runs.integers(0, len(sums), (rows, len(sums)))
        average = sums.mean(0) if len(sums) == 1 else sums[run].mean(1)  # [rows, num_clusters]
        total = np.take_along_axis(np.broadcast_to(average, drawn.shape), drawn, axis=1).sum(1)
        means[start : start + rows] = total / size[drawn].sum(1)
    return means
