"""Intervals and tests for means over dependent cases.

Prefixes of one session, and sessions of one user, are correlated. Treating them as independent
makes intervals too narrow. Cases are therefore grouped into clusters, and only clusters are treated
as independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit  # Student's t; scipy.stats loads slowly

from graphseq.arguments import whole
from graphseq.metric_scale import within_range
from graphseq.random import stream
from graphseq.typing import Ints

SIGNS_AT_ONCE = 2**22
"""Random signs held in memory at once by the sign-flip test."""

ROUNDING = 1e-12
"""Differences of at most this share of their terms are rounding: they count as zero."""


@dataclass(frozen=True)
class PairedTest:
    """A mean difference over paired cases, its interval, and its p-value.

    Args:
        difference: Mean of ``first - second``.
        low, high: Cluster-robust interval of the difference at ``level``.
        p_value: Two-sided p-value for the hypothesis of no difference.
        level: Level of the interval.
        num_cases, num_clusters: Sizes of the sample.
    """

    difference: float
    low: float
    high: float
    p_value: float
    level: float
    num_cases: int
    num_clusters: int


def mean_interval(
    values: ArrayLike, cluster: ArrayLike, *, level: float = 0.95
) -> tuple[float, float]:
    r"""A cluster-robust confidence interval of a mean (Liang & Zeger, Biometrika 1986).

    .. math::
        \widehat{\mathrm{Var}}(\bar v) = \frac{G}{G - 1} \frac{1}{n^2}
            \sum_g \Big( \sum_{i \in g} (v_i - \bar v) \Big)^2

    with quantiles of Student's t with G - 1 degrees of freedom, where G is the number of clusters.
    If all values are equal, the interval has zero width.

    Args:
        values: One value per case, [num_cases].
        cluster: The cluster of each case, integers [num_cases].
        level: Coverage probability of the interval, between 0 and 1.

    Returns:
        Lower and upper end; both are NaN if there is only one cluster.

    Raises:
        ValueError: If there is no case, shapes differ, a value is not finite, a case has no
            cluster, or ``level`` is not between 0 and 1.
    """
    values = np.asarray(values, dtype=np.float64)
    check_finite(values)
    mean, error, num_clusters = _mean_and_error(values, cluster)
    reach = _quantile(level, num_clusters) * error
    return mean - reach, mean + reach


def metric_interval(
    metric: str, values: ArrayLike, cluster: ArrayLike, level: float, num_items: int
) -> tuple[float, float]:
    """:func:`mean_interval` within the range of a metric.

    Args:
        metric: Its name.
        values, cluster, level: As in :func:`mean_interval`.
        num_items: Number of ranked items.

    Returns:
        Lower and upper end; NaN where an infinite ``logloss`` has no spread.
    """
    if np.isinf(values).any():
        check_level(level)
        return float("nan"), float("nan")
    return within_range(metric, mean_interval(values, cluster, level=level), num_items)


def paired_test(
    first: ArrayLike,
    second: ArrayLike,
    cluster: ArrayLike,
    *,
    method: Literal["t", "sign_flip"] = "t",
    level: float = 0.95,
    num_permutations: int = 9_999,
    seed: int = 0,
) -> PairedTest:
    """Tests whether two models differ in the mean of a metric over the same cases.

    ``"t"`` divides the mean difference by its cluster-robust standard error. ``"sign_flip"`` flips
    the signs of the clusters' summed differences at random, since both signs are equally likely if
    the models are equal. It is also valid for few clusters. A difference that is rounding alone
    counts as zero.

    Args:
        first, second: The metric of each model per case, [num_cases].
        cluster: The cluster of each case, integers [num_cases].
        method: ``"t"`` or ``"sign_flip"``; both give the same interval.
        level: Level of the interval.
        num_permutations: Number of random sign flips for ``"sign_flip"``.
        seed: Seed of those flips.

    Raises:
        ValueError: If there is no case, shapes differ, a value is not finite, a case has no
            cluster, or an option is out of range.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(
            f"A paired test needs the same cases twice, got {first.shape} and {second.shape}."
        )
    if method not in ("t", "sign_flip"):
        raise ValueError(f"method is 't' or 'sign_flip', got {method!r}.")
    num_permutations = whole("num_permutations", num_permutations)
    seed = whole("seed", seed, at_least=0)
    check_finite(first, second)
    difference, size = first - second, abs(first) + abs(second)
    mean, error, num_clusters = _mean_and_error(difference, cluster, size)
    reach = _quantile(level, num_clusters) * error
    if method == "sign_flip":
        sums = _cluster_sums(difference, cluster)
        slack = ROUNDING * float(size.sum())
        p_value = _sign_flip(sums, slack, num_permutations, stream("sign_flip", seed))
    elif error > 0:
        p_value = float(2 * stdtr(num_clusters - 1, -abs(mean) / error))
    else:  # no spread: the difference is zero, or the same in every case
        p_value = float("nan") if num_clusters < 2 else float(mean == 0)
    return PairedTest(
        mean, mean - reach, mean + reach, p_value, level, difference.size, num_clusters
    )


def _mean_and_error(
    values: ArrayLike, cluster: ArrayLike, size: NDArray[np.float64] | None = None
) -> tuple[float, float, int]:
    """Mean, cluster-robust standard error (NaN for one cluster), number of clusters.

    Args:
        values, cluster: As in :func:`mean_interval`.
        size: The size of the terms of each value, [num_cases]; ``None``: that of the values. A mean
            or error far below it is rounding, and zero.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or np.shape(cluster) != values.shape:
        raise ValueError(
            "An interval needs one or more cases and the cluster of each, got values of shape "
            f"{values.shape} and clusters of shape {np.shape(cluster)}."
        )
    mean = float(values.mean())
    rounding = ROUNDING * float(np.mean(abs(values) if size is None else size))
    mean = 0.0 if abs(mean) < rounding else mean  # of infinite values, neither is below
    sums = _cluster_sums(values - mean, cluster)
    if sums.size < 2:
        return mean, float("nan"), sums.size
    variance = sums.size / (sums.size - 1) * float(sums @ sums) / values.size**2
    error = variance**0.5
    return mean, 0.0 if error < rounding else error, sums.size


def _cluster_sums(values: NDArray[np.float64], cluster: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(np.bincount(cluster_numbers(cluster), weights=values), dtype=np.float64)


def cluster_numbers(cluster: ArrayLike) -> Ints:
    """The clusters of the cases, numbered from 0, int64 [num_cases].

    Raises:
        ValueError: If a case has none.
    """
    groups = np.asarray(cluster)
    unknown = np.asarray(pd.isna(groups))
    if unknown.any():
        raise ValueError(
            f"{int(unknown.sum())} of {unknown.size} cases have no cluster (NaN or None), the "
            f"first is case {int(np.argmax(unknown))}: give each of them a cluster of its own."
        )
    return np.unique(groups, return_inverse=True)[1]


def mean_error(values: ArrayLike, cluster: ArrayLike) -> tuple[float, int]:
    """The cluster-robust standard error of a mean, NaN for one cluster, and their number.

    Args:
        values: One value per case, [num_cases].
        cluster: The cluster of each case, integers [num_cases].
    """
    _, error, num_clusters = _mean_and_error(values, cluster)
    return error, num_clusters


def check_finite(*values: NDArray[np.float64]) -> None:
    """Raises if a value is NaN or infinite: no test means anything with it.

    Raises:
        ValueError: If one is.
    """
    for each in values:
        number = int((~np.isfinite(each)).sum())
        if number:
            raise ValueError(
                f"{number} of {each.size} values are not finite numbers: leave out the cases where "
                "the metric is not defined, for both models."
            )


def check_level(level: float, name: str = "level") -> None:
    """Raises unless the level is a number strictly between 0 and 1.

    Raises:
        ValueError: If it is not.
    """
    if not isinstance(level, Real) or not 0 < level < 1:
        raise ValueError(f"{name} must lie between 0 and 1, as 0.95 does, got {level!r}.")


def _quantile(level: float, num_clusters: int) -> float:
    check_level(level)
    if num_clusters < 2:
        return float("nan")
    return float(stdtrit(num_clusters - 1, 0.5 + level / 2))


def _sign_flip(
    sums: NDArray[np.float64],
    slack: float,
    num_permutations: int,
    generator: np.random.Generator,
) -> float:
    """Fraction of sign flips, including the observed signs, whose sum is at least as far from 0.

    Args:
        sums: Summed differences of each cluster, [num_clusters].
        slack: Sums that differ by less are equal: the order of the terms changes the last digits.
        num_permutations: Number of random sign flips.
        generator: Draws them.
    """
    sums = sums[sums != 0]  # their sign makes no difference
    observed = abs(sums.sum()) - slack
    at_once = max(1, SIGNS_AT_ONCE // max(1, sums.size))
    extreme = 1
    for start in range(0, num_permutations, at_once):
        rows = min(at_once, num_permutations - start)
        bits: NDArray[Any] = np.unpackbits(
            generator.integers(0, 256, (rows, -(-sums.size // 8)), dtype=np.uint8), axis=1
        )
        # sum of +-s = 2 * (sum of those with a plus) - sum of all
        flipped = 2 * (bits[:, : sums.size] @ sums) - sums.sum()
        extreme += int((abs(flipped) >= observed).sum())
    return extreme / (num_permutations + 1)
