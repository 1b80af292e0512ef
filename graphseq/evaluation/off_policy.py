r"""Off-policy evaluation: estimates the reward of a new policy from the log of an old one.

A log holds the item that was shown in each case, the probability with which the old policy showed
it, and the reward: a click, a sale. The new policy gives a probability for each item in each case.
The weight of a case is :math:`w_i = \pi(a_i \mid x_i) / \mu(a_i \mid x_i)`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphseq.arguments import check_not_negative
from graphseq.evaluation.report import Report
from graphseq.evaluation.significance import cluster_numbers, mean_error, mean_interval
from graphseq.typing import Floats

FEW = 0.1
"""Share of effective cases below which an estimate depends on too few of them."""


@dataclass(frozen=True)
class OffPolicyEstimate:
    r"""The estimated reward of a policy per case.

    Args:
        value: The estimate of the mean reward.
        low, high: Its cluster-robust interval.
        variance: Squared standard error of the estimate.
        effective_size: Effective number of cases, :math:`(\sum w)^2 / \sum w^2` (Kish).
        largest_weight: The largest weight of a case.
        mean_weight: Mean weight before clipping; 1 if the old policy can show everything that the
            new one would.
        clipped: Share of the weight that clipping took.
        num_cases: Cases of the log.
        warnings: Reasons to doubt the estimate; empty if none were found.
    """

    value: float
    low: float
    high: float
    variance: float
    effective_size: float
    largest_weight: float
    mean_weight: float
    num_cases: int
    warnings: tuple[str, ...] = ()
    clipped: float = 0.0


def ips(
    rewards: ArrayLike,
    logged: ArrayLike,
    new: ArrayLike,
    *,
    clip: float | None = None,
    cluster: ArrayLike | None = None,
    level: float = 0.95,
) -> OffPolicyEstimate:
    r"""Inverse propensity scoring (Horvitz & Thompson, JASA 1952).

    .. math::
        \hat V = \frac1n \sum_i w_i r_i

    Unbiased if the old policy can show everything that the new one would. Its variance grows with
    the weights.

    Args:
        rewards: Reward of the shown item, [num_cases].
        logged: Probability with which the old policy showed it, above 0, [num_cases].
        new: Probability with which the new policy would show it, [num_cases].
        clip: Largest weight, to reduce the variance; ``None``: no clipping.
        cluster: The cluster of each case, integers [num_cases]; ``None``: all cases are
            independent.
        level: Level of the interval.

    Raises:
        ValueError: If shapes differ, there is no case, or a probability is out of range.
    """
    reward, raw, weight, groups = _read(rewards, logged, new, clip, cluster)
    return _estimate(weight * reward, weight, groups, level, raw)


def snips(
    rewards: ArrayLike,
    logged: ArrayLike,
    new: ArrayLike,
    *,
    clip: float | None = None,
    cluster: ArrayLike | None = None,
    level: float = 0.95,
) -> OffPolicyEstimate:
    r"""Self-normalized inverse propensity scoring (Swaminathan & Joachims, NeurIPS 2015).

    .. math::
        \hat V = \frac{\sum_i w_i r_i}{\sum_i w_i}

    Slightly biased, with much less variance than :func:`ips`, and always within the range of the
    rewards. The variance of the ratio comes from the delta method.

    Args:
        rewards, logged, new, clip, cluster, level: As in :func:`ips`.

    Raises:
        ValueError: As :func:`ips`, or if the new policy shows none of the shown items.
    """
    reward, raw, weight, groups = _read(rewards, logged, new, clip, cluster)
    total = weight.sum()
    if total == 0:
        raise ValueError(
            "The new policy would show none of the shown items: this log gives no evidence of it."
        )
    value = float((weight * reward).sum() / total)
    # The estimate is the mean of its linear form.
    linear = value + weight * (reward - value) * len(weight) / total
    return _estimate(linear, weight, groups, level, raw)


def doubly_robust(
    rewards: ArrayLike,
    logged: ArrayLike,
    new: ArrayLike,
    predicted: ArrayLike,
    predicted_new: ArrayLike,
    *,
    clip: float | None = None,
    cluster: ArrayLike | None = None,
    level: float = 0.95,
) -> OffPolicyEstimate:
    r"""The doubly robust estimate (Dudík et al., ICML 2011).

    .. math::
        \hat V = \frac1n \sum_i \Big( \sum_a \pi(a \mid x_i) \, \hat r(x_i, a)
            + w_i \big( r_i - \hat r(x_i, a_i) \big) \Big)

    Unbiased if either the log's probabilities or the predicted rewards are right. Better
    predictions give lower variance.

    Args:
        rewards, logged, new, clip, cluster, level: As in :func:`ips`.
        predicted: Predicted reward of the shown item, [num_cases].
        predicted_new: Predicted reward of the new policy, averaged over all items, [num_cases].

    Raises:
        ValueError: As :func:`ips`.
    """
    reward, raw, weight, groups = _read(rewards, logged, new, clip, cluster)
    shown, expected = _numbers("predicted", predicted), _numbers("predicted_new", predicted_new)
    if shown.shape != reward.shape or expected.shape != reward.shape:
        raise ValueError(
            f"There is one prediction per case, [{len(reward)}], got predicted {list(shown.shape)} "
            f"and predicted_new {list(expected.shape)}."
        )
    return _estimate(expected + weight * (reward - shown), weight, groups, level, raw)


def uplift(
    rewards: ArrayLike,
    treated: ArrayLike,
    propensity: ArrayLike,
    predicted_treated: ArrayLike = 0.0,
    predicted_control: ArrayLike = 0.0,
    *,
    cluster: ArrayLike | None = None,
    level: float = 0.95,
) -> OffPolicyEstimate:
    r"""What a recommendation adds: the mean reward if all had been shown it, minus if none had.

    The doubly robust estimate (Robins et al., JASA 1994),

    .. math::
        \hat\Delta = \frac1n \sum_i \Big( m_1(x_i) - m_0(x_i)
            + \frac{t_i}{e_i} \big(r_i - m_1(x_i)\big)
            - \frac{1 - t_i}{1 - e_i} \big(r_i - m_0(x_i)\big) \Big)

    Unbiased if either the propensities or both predictions are right.

    Args:
        rewards: Reward of each case, [num_cases].
        treated: Whether it was shown, 0 or 1, [num_cases].
        propensity: Probability with which it was shown, strictly between 0 and 1, [num_cases].
        predicted_treated, predicted_control: Predicted reward with it and without it: numbers, or
            [num_cases].
        cluster, level: As of :func:`ips`.

    Raises:
        ValueError: If shapes differ, there is no case with it or none without it, or a number is
            out of range.
    """
    shown = _numbers("treated", treated)
    if not np.isin(shown, (0.0, 1.0)).all():
        raise ValueError("treated holds 0 or 1 per case: whether the item was shown.")
    chance = _numbers("propensity", propensity)
    if ((chance <= 0) | (chance >= 1)).any():
        bad = int(np.argmax((chance <= 0) | (chance >= 1)))
        raise ValueError(
            f"propensity lies strictly between 0 and 1, but is {chance.ravel()[bad]} in case "
            f"{bad}: where only one of the two can happen, nothing can be compared."
        )
    reward, _, _, groups = _read(rewards, np.ones_like(chance), np.ones_like(shown), None, cluster)
    if not reward.shape == shown.shape == chance.shape:
        raise ValueError(
            "There is one reward, one choice and one propensity per case, got "
            f"{list(reward.shape)}, {list(shown.shape)} and {list(chance.shape)}."
        )
    if (shown == shown[0]).all():
        always = "in every case" if shown[0] else "in no case"
        raise ValueError(
            f"The item was shown {always}: a comparison needs cases with it and without it."
        )
    one, none = (
        _numbers("predicted_treated", predicted_treated),
        _numbers("predicted_control", predicted_control),
    )
    for predicted in (one, none):
        if predicted.shape not in ((), reward.shape):
            raise ValueError(
                f"There is one prediction per case, [{len(reward)}], got {list(predicted.shape)}."
            )
    weight = shown / chance + (1 - shown) / (1 - chance)
    terms = one - none + weight * np.where(shown == 1, reward - one, none - reward)
    return _estimate(terms, weight / 2, groups, level, weight / 2)


def debiased(
    report: Report, metric: str, *, exponent: float = 0.5, level: float = 0.95
) -> OffPolicyEstimate:
    r"""A metric as it would be if all items were seen as often: self-normalized inverse propensity.

    .. math::
        \hat M = \frac{\sum_i m_i / p_i}{\sum_i 1 / p_i}, \qquad p_i = c_{y_i}^{\,\tau}

    with :math:`m_i` the metric of case i and :math:`c_{y_i}` the training clicks of its target
    (Schnabel et al., ICML 2016; Yang et al., RecSys 2018). That popularity to the power
    :math:`\tau` is the chance of being seen is an assumption: say so beside the figure.

    Args:
        report: Of a model that has a catalog.
        metric: Its name, as ``"hr@20"``.
        exponent: :math:`\tau`; 0 gives the metric as it is.
        level: Level of the interval, clustered as that of the report.

    Raises:
        ValueError: If the report does not know the popularity of its targets, or a target has no
            training click, so that its propensity is zero.
    """
    check_not_negative(exponent=exponent)
    if report.cases is None or (report.cases["popularity"] < 0).any():
        raise ValueError(
            "This report does not know how popular its targets are: evaluate a model that has the "
            "catalog of its training, as fit attaches it."
        )
    clicks = report.cases["popularity"].to_numpy().astype(np.float64)
    if (clicks == 0).any():
        raise ValueError(
            f"{int((clicks == 0).sum())} of {len(clicks)} targets have no training click, so that "
            "their propensity is zero: evaluate on targets that training knows."
        )
    values = report.values(metric)
    with np.errstate(divide="ignore", over="ignore"):
        weight = (clicks / clicks.max()) ** -exponent
    if not np.isfinite(weight).all():
        raise ValueError(
            f"exponent={exponent!r} gives the rarest target a weight that is not finite: an "
            "exponent is 0, no weights, to about 1."
        )
    value = float((weight * values).sum() / weight.sum())
    linear = value + weight * (values - value) * len(weight) / weight.sum()
    weight = weight / weight.mean()
    return _estimate(linear, weight, report.cluster, level, weight)


def _read(
    rewards: ArrayLike,
    logged: ArrayLike,
    new: ArrayLike,
    clip: float | None,
    cluster: ArrayLike | None,
) -> tuple[Floats, Floats, Floats, NDArray[Any]]:
    """Rewards, weights before and after clipping, and clusters."""
    reward, old, wanted = (
        _numbers(name, values)
        for name, values in (("rewards", rewards), ("logged", logged), ("new", new))
    )
    if (
        reward.ndim != 1
        or reward.size == 0
        or old.shape != reward.shape
        or wanted.shape != old.shape
    ):
        raise ValueError(
            "There is one reward and one probability of either policy per case, [num_cases], got "
            f"{list(reward.shape)}, {list(old.shape)} and {list(wanted.shape)}."
        )
    if (old <= 0).any() or (old > 1).any():
        bad = int(np.argmax((old <= 0) | (old > 1)))
        raise ValueError(
            f"logged holds probabilities above 0 and up to 1, but {old[bad]} in case {bad}: what "
            "was shown had a chance."
        )
    if (wanted < 0).any() or (wanted > 1).any():
        bad = int(np.argmax((wanted < 0) | (wanted > 1)))
        raise ValueError(f"new holds probabilities from 0 to 1, but {wanted[bad]} in case {bad}.")
    if clip is not None and not (_is_number(clip) and clip > 0):
        raise ValueError(f"clip is the largest weight, a number above 0, or None, got {clip!r}.")
    groups = np.arange(len(reward)) if cluster is None else cluster_numbers(cluster)
    weight = wanted / old
    return reward, weight, weight if clip is None else np.minimum(weight, clip), groups


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, (bool, np.bool_))


def _numbers(name: str, values: ArrayLike) -> Floats:
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} holds one number per case, got {values!r:.60}.") from error
    if not np.isfinite(found).all():
        raise ValueError(
            f"{name} holds {int((~np.isfinite(found)).sum())} values that are not finite."
        )
    return found


def _estimate(
    terms: Floats, weight: Floats, groups: NDArray[Any], level: float, raw: Floats
) -> OffPolicyEstimate:
    """The mean of the terms, and reasons to doubt it.

    Args:
        terms: What the estimate is the mean of, [num_cases].
        weight, raw: Weights after and before clipping, [num_cases].
        groups, level: Of the interval.
    """
    low, high = mean_interval(terms, groups, level=level)
    error, _ = mean_error(terms, groups)
    squares = float(weight @ weight)
    effective = float(weight.sum()) ** 2 / squares if squares > 0 else 0.0
    mean, total = float(raw.mean()), float(raw.sum())
    clipped = 1 - float(weight.sum()) / total if total > 0 else 0.0
    found = []
    if effective < FEW * len(weight):
        found.append(
            f"the weights amount to {effective:,.0f} of {len(weight):,} cases: few cases decide"
        )
    largest = float(weight.max())
    if squares > 0 and largest > FEW * weight.sum():
        found.append(f"one case has {largest / weight.sum():.0%} of the weight")
    if clipped > FEW:
        found.append(
            f"clipping took {clipped:.1%} of the weight, which biases the estimate: choose a "
            "larger clip"
        )
    # If both policies can show the same items, weights are 1 on average.
    spread, _ = mean_error(raw, groups)
    if abs(mean - 1) > max(0.05, 4 * (spread if spread == spread else 0.0)):
        found.append(
            f"weights are {mean:.2f} on average, not 1: the log lacks what the new policy shows, "
            "or its probabilities are wrong"
        )
    for said in found:
        warnings.warn(f"Off-policy estimate: {said}.", stacklevel=3)
    return OffPolicyEstimate(
        value=float(terms.mean()),
        low=low,
        high=high,
        variance=error**2,
        effective_size=effective,
        largest_weight=largest,
        mean_weight=mean,
        num_cases=len(weight),
        warnings=tuple(found),
        clipped=clipped,
    )
