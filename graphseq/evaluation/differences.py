"""Tests many models: all pairs, many data sets, and the smallest detectable difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from graphseq.arguments import check_choice
from graphseq.evaluation.bootstrap import paired_bootstrap
from graphseq.evaluation.report import METHODS, Report
from graphseq.evaluation.significance import (
    ROUNDING,
    check_level,
    mean_error,
    paired_test,
)
from graphseq.metric_scale import lower_is_better

CHANCE = 0.05
"""A difference is significant if its corrected p-value is below this."""


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """P-values corrected for multiple tests (Holm, Scandinavian Journal of Statistics 1979).

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]

    Args:
        p_values: P-values of all tests of one family, [n].

    Returns:
        [n], each at most 1. They control the probability of one or more false rejections.

    Raises:
        ValueError: If they are not numbers from 0 to 1, [n].
    """
    given = np.asarray(p_values, dtype=np.float64)
    if given.ndim != 1 or not ((given >= 0) & (given <= 1)).all():
        raise ValueError(f"P-values are numbers from 0 to 1, [n], got {p_values!r:.60}.")
    n = len(given)
    order = np.argsort(given, kind="stable")
    corrected = np.maximum.accumulate(given[order] * (n - np.arange(n)))
    found = np.empty(n)
    found[order] = np.minimum(corrected, 1.0)
    return found


@dataclass(frozen=True, eq=False)
class Differences:
    """Significance of the differences between all pairs of models, best model first.

    Args:
        metric: The full name of the metric that is compared, such as ``"sampled hr@20"``; it is
            also the name of the mean, and of the columns of both tables.
        mean: Mean of each model over its seeds, as a Series.
        difference: Metric of the row's model minus metric of the column's model, models by models.
        p_value: Corrected by Holm over all pairs, models by models; 1 on the diagonal.
    """

    metric: str
    mean: pd.Series
    difference: pd.DataFrame
    p_value: pd.DataFrame

    @property
    def real(self) -> pd.DataFrame:
        """Whether each difference is significant: its corrected p-value is below 0.05."""
        return self.p_value < CHANCE

    def __repr__(self) -> str:
        pairs = len(self.mean) * (len(self.mean) - 1) // 2
        real = int(self.real.to_numpy().sum()) // 2
        return f"{type(self).__name__}({self.metric}: {real} of {pairs} pairs differ)"


def differences(
    reports: Mapping[str, Report | Sequence[Report]],
    metric: str,
    *,
    method: Literal["t", "sign_flip", "bootstrap"] = "t",
    seed: int = 0,
) -> Differences:
    """Tests every model against every other on the same cases, clustered, corrected by Holm.

    Args:
        reports: Model -> its report, or one report per seed.
        metric: As in :meth:`Report.values`.
        method: As in :func:`~graphseq.evaluation.paired_test`; ``"bootstrap"`` resamples the seeds
            too.
        seed: Seed of random tests.

    Raises:
        ValueError: If there are fewer than two models, their cases, protocols or clusters differ,
            or there is no such method.
    """
    check_choice("method", method, METHODS)
    if not isinstance(reports, Mapping):
        raise ValueError(
            "reports is a mapping of a model's name to its report, or to one report per seed, got "
            f"{type(reports).__name__}."
        )
    groups = {
        name: list(given) if isinstance(given, Sequence) else [given]
        for name, given in reports.items()
    }
    if len(groups) < 2:
        raise ValueError(f"Differences need at least two models, got reports of {len(groups)}.")
    for name, group in groups.items():
        if not group or not all(isinstance(report, Report) for report in group):
            raise ValueError(
                f"{name!r} needs at least one report of gs.evaluate, got {group!r:.60}."
            )
    leader = next(iter(groups.values()))[0]
    for group in groups.values():
        for report in group:
            leader.require_same_cases(report)
    values = {
        name: np.stack([report.values(metric) for report in group])
        for name, group in groups.items()
    }
    metric = leader.full_name(metric)
    mean = pd.Series({name: float(table.mean()) for name, table in values.items()}, name=metric)
    mean = mean.sort_values(ascending=lower_is_better(metric), kind="stable")
    pairs = list(combinations(mean.index, 2))
    found = [
        paired_bootstrap(values[one], values[other], leader.cluster, seed=seed)
        if method == "bootstrap"
        else paired_test(
            values[one].mean(0), values[other].mean(0), leader.cluster, method=method, seed=seed
        )
        for one, other in pairs
    ]
    p_values = np.array([test.p_value for test in found])
    corrected = holm(np.where(np.isnan(p_values), 1.0, p_values))
    difference = pd.DataFrame(0.0, mean.index, mean.index)
    p_value = pd.DataFrame(1.0, mean.index, mean.index)
    for (one, other), test, p in zip(pairs, found, corrected, strict=True):
        difference.loc[one, other], difference.loc[other, one] = test.difference, -test.difference
        p_value.loc[one, other] = p_value.loc[other, one] = p
    tables = (table.rename_axis(columns=metric) for table in (difference, p_value))
    return Differences(metric, mean, *tables)


def smallest_difference(
    first: Report,
    second: Report | None = None,
    *,
    metric: str = "mrr@20",
    level: float = 0.95,
    power: float = 0.8,
) -> float:
    r"""The smallest difference between two models that a test part of this size can detect.

    .. math::
        \delta = (t_{G - 1, 1 - \alpha / 2} + t_{G - 1, \mathrm{power}}) \, \mathrm{SE}

    with the cluster-robust standard error of the paired difference. A true difference of this size
    is detected with probability ``power``, a smaller one less often.

    Args:
        first: The report of a model on the test part.
        second: The report of another model on the same cases. ``None``: a model with independent
            results, for which the detectable difference is the largest.
        metric: The metric that is compared.
        level: :math:`1 - \alpha`.
        power: Probability of detecting the difference, above :math:`\alpha`: with that probability
            a test finds a difference where there is none.

    Returns:
        The difference in units of the metric; NaN if there is only one cluster.

    Raises:
        ValueError: If the reports are of different cases, a probability is not between 0 and 1, or
            the power is not above that of chance.
    """
    if not isinstance(first, Report):
        raise ValueError(
            "A smallest difference is of a report of gs.evaluate, or of two, got "
            f"{type(first).__name__}."
        )
    check_level(level)
    check_level(power, "power")
    if power <= 1 - level:
        raise ValueError(
            f"power must lie above 1 - level, {1 - level:.3g}, the share of tests that find a "
            f"difference where there is none, got {power}."
        )
    values = first.values(metric)
    if second is not None:
        first.require_same_cases(second)
        values = values - second.values(metric)
    error, clusters = mean_error(values, first.cluster)
    if clusters < 2:
        return float("nan")
    error *= 2**0.5 if second is None else 1.0
    reach = stdtrit(clusters - 1, 0.5 + level / 2) + stdtrit(clusters - 1, power)
    return float(reach * error)


@dataclass(frozen=True, eq=False)
class CriticalDifference:
    """Mean ranks of models over data sets, and the distance below which they do not differ.

    Args:
        ranks: Mean rank of each model, best first, as a Series named by the metric; 1 is best on
            all data sets.
        distance: Models whose mean ranks are closer than this do not differ significantly.
        p_value: P-value of Friedman's test of the hypothesis that all models are equal.
        num_datasets: Number of data sets.
    """

    ranks: pd.Series
    distance: float
    p_value: float
    num_datasets: int

    @property
    def groups(self) -> list[list[str]]:
        """Maximal runs of models that do not differ significantly."""
        names, ranks = list(self.ranks.index), self.ranks.to_numpy()
        found: list[list[str]] = []
        reached = 0
        for start, rank in enumerate(ranks):
            stop = int(np.searchsorted(ranks, rank + self.distance, side="right"))
            if stop - start > 1 and stop > reached:
                found.append(names[start:stop])
                reached = stop
        return found


def critical_difference(
    scores: pd.DataFrame, *, metric: str = "", level: float = 0.95
) -> CriticalDifference:
    r"""Compares models over many data sets by their ranks (Demšar, JMLR 2006).

    .. math::
        \mathrm{CD} = q_\alpha \sqrt{\frac{k (k + 1)}{6 N}}

    with k models on N data sets and Nemenyi's :math:`q_\alpha`. Scores that are equal but for
    rounding share the mean of their ranks.

    Args:
        scores: A metric, data sets by models, without missing values.
        metric: Its full name, such as ``"sampled hr@20"``, for the plot; of ``mean_rank`` and
            ``logloss`` the lowest score is the best. Without a name the highest is.
        level: :math:`1 - \alpha`.

    Raises:
        ValueError: If there are fewer than two models or data sets, or a score is missing or not a
            number.
    """
    from scipy import stats  # loads slowly

    check_level(level)
    if not isinstance(scores, pd.DataFrame) or not all(
        pd.api.types.is_numeric_dtype(kind) for kind in scores.dtypes
    ):
        raise ValueError(
            "scores is a DataFrame of numbers, data sets by models, got "
            f"{type(scores).__name__}: pd.DataFrame(values, columns=models) makes one."
        )
    num_datasets, num_models = scores.shape
    if num_models < 2 or num_datasets < 2 or scores.isna().to_numpy().any():
        raise ValueError(
            "A critical difference needs at least two models, two data sets and every score, "
            f"got {num_datasets} data sets, {num_models} models and "
            f"{int(scores.isna().to_numpy().sum())} scores missing."
        )
    ranks = _ranks(scores, lower_is_better(metric))
    mean = ranks.mean().sort_values(kind="stable").rename(metric or None)
    # Friedman's statistic, corrected for ties.
    spread = ((ranks - (num_models + 1) / 2) ** 2).to_numpy().sum()
    expected = num_datasets * (num_models + 1) / 2
    between = ((ranks.sum() - expected) ** 2).sum()
    statistic = (num_models - 1) * between / spread if spread > 0 else 0.0
    p_value = float(stats.chi2.sf(statistic, num_models - 1))
    quantile = float(stats.studentized_range.ppf(level, num_models, np.inf)) / 2**0.5
    distance = quantile * (num_models * (num_models + 1) / (6 * num_datasets)) ** 0.5
    return CriticalDifference(mean, distance, p_value, num_datasets)


def _ranks(scores: pd.DataFrame, lower: bool) -> pd.DataFrame:
    """Ranks of the models on each data set, 1: best, mean ranks for ties up to rounding."""
    value = scores.to_numpy(dtype=np.float64)
    one, other = value[:, :, None], value[:, None, :]
    same = np.isclose(one, other, rtol=ROUNDING, atol=0.0)
    ahead = ((other < one) if lower else (other > one)) & ~same
    ranks = 1 + ahead.sum(2) + (same.sum(2) - 1) / 2
    return pd.DataFrame(ranks, scores.index, scores.columns)
