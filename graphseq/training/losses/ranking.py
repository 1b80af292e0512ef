r"""Losses on scores of one positive and several negatives per row, and the exact one of all items.

The functions defined here take ``positive`` [B], ``negatives`` [B, N] and
``mask``, bool [B, N], which is ``True`` where a negative counts. A negative that equals the row's
target must not count (in the authors' code of GRU4Rec it does). What is masked weighs exactly
nothing, whatever its score, and gets no gradient: the loss equals the loss of the row without that
column. A row in which no negative counts adds 0; where that holds for all rows, there is nothing to
learn from, and a ``ValueError`` is raised. ``"mean"`` divides by B, whatever is masked; no rows: 0.

A negative of ``-inf`` counts, and its term has the limit for falling scores. This is 0 in the
softmax, wherever negatives are weighed by their softmax, in BPR and in the binary losses. It is 1
in TOP1, where the second part pulls scores to zero. A target of ``-inf`` has an infinite loss in
the softmax and the binary losses. None of these is NaN, nor is a gradient.

The two losses of distillation compare a student's scores with a teacher's, and have no mask.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import elu as exponential_linear
from torch.nn.functional import logsigmoid, softplus

from graphseq.arguments import check_fractions
from graphseq.nn.precision import in_32_bits
from graphseq.training.losses.distillation import kl_distillation, ranking_distillation
from graphseq.training.losses.exact import full_cross_entropy

__all__ = [
    "bce",
    "bpr",
    "bpr_max",
    "full_cross_entropy",
    "gbce",
    "kl_distillation",
    "ranking_distillation",
    "sampled_softmax",
    "top1",
    "top1_max",
]

Reduction = Literal["mean", "sum"]

LOG_EPSILON = math.log(1e-24)
"""Of the 1e-24 that GRU4Rec's code adds inside the logarithm of BPR-max."""


def sampled_softmax(
    positive: Tensor,
    negatives: Tensor,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
    *,
    label_smoothing: float = 0.0,
) -> Tensor:
    r"""Cross-entropy against sampled negatives (Jean et al., ACL 2015).

    .. math::
        L = \log\Big(e^{r_i} + \sum_j e^{r_j}\Big) - (1 - \varepsilon) r_i
            - \frac{\varepsilon}{N + 1} \Big(r_i + \sum_j r_j\Big)

    Smoothing (:math:`\varepsilon`; Szegedy et al., CVPR 2016) spreads over the row's own target and
    its N negatives that count. It covers what was drawn, not all items.

    For negatives that were not drawn uniformly subtract the logarithm of their expected count from
    the scores first. For negatives that all rows share,
    :func:`graphseq.training.losses.shared_negatives.shared_sampled_softmax` gives the same and is
    faster.

    Args:
        positive: Scores of the targets, [B].
        negatives: Scores of the negatives, [B, N].
        mask: Which negatives count, bool [B, N].
        reduction: ``"mean"`` over rows or ``"sum"``.
        label_smoothing: The share :math:`\varepsilon`, in 0..1.

    Returns:
        The loss, a scalar.

    Raises:
        ValueError: If shapes do not fit, no negative counts, ``reduction`` is unknown or
            ``label_smoothing`` lies outside 0..1.
    """
    check_fractions(label_smoothing=label_smoothing)
    scores, _, counted = _masked(positive, negatives, mask, -torch.inf)
    impossible = positive == -torch.inf
    own = positive.masked_fill(impossible, 0)
    row = torch.cat([own.unsqueeze(1), scores], dim=1).logsumexp(1) - own
    if label_smoothing:
        kept = scores > -torch.inf
        total = own + scores.masked_fill(~kept, 0).sum(1)
        row = row + label_smoothing * (own - total / (kept.sum(1) + 1))
    return _reduce(row.masked_fill(impossible, torch.inf), counted, reduction)


def bpr(
    positive: Tensor, negatives: Tensor, mask: Tensor | None = None, reduction: Reduction = "mean"
) -> Tensor:
    r"""Bayesian personalised ranking (Rendle et al., UAI 2009; Hidasi et al., ICLR 2016).

    .. math::
        L = -\frac{1}{N} \sum_j \log \sigma(r_i - r_j)

    Args:
        positive: Scores of the targets, [B].
        negatives: Scores of the negatives, [B, N].
        mask: Which negatives count, bool [B, N]; N above is their number in the row.
        reduction: ``"mean"`` over rows or ``"sum"``.

    Returns:
        The loss, a scalar.

    Raises:
        ValueError: If shapes do not fit, no negative counts or ``reduction`` is unknown.
    """
    scores, weight, counted = _masked(positive, negatives, mask, 0.0)
    lowest = scores == -torch.inf
    scores = scores.masked_fill(lowest, 0)
    pair = softplus(scores - positive.unsqueeze(1)).masked_fill(lowest, 0)  # [B, N]
    return _reduce((weight * pair).sum(1) / counted.clamp(min=1), counted, reduction)


def top1(
    positive: Tensor, negatives: Tensor, mask: Tensor | None = None, reduction: Reduction = "mean"
) -> Tensor:
    r"""TOP1 (Hidasi et al., ICLR 2016).

    .. math::
        L = \frac{1}{N} \sum_j \sigma(r_j - r_i) + \sigma(r_j^2)

    Args:
        positive: Scores of the targets, [B].
        negatives: Scores of the negatives, [B, N].
        mask: Which negatives count, bool [B, N]; N above is their number in the row.
        reduction: ``"mean"`` over rows or ``"sum"``.

    Returns:
        The loss, a scalar.

    Raises:
        ValueError: If shapes do not fit, no negative counts or ``reduction`` is unknown.
    """
    scores, weight, counted = _masked(positive, negatives, mask, 0.0)
    lowest = scores == -torch.inf
    pair = _top1(positive, scores.masked_fill(lowest, 0)).masked_fill(lowest, 1)  # [B, N]
    return _reduce((weight * pair).sum(1) / counted.clamp(min=1), counted, reduction)


def bpr_max(
    positive: Tensor,
    negatives: Tensor,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
    *,
    regularization: float = 0.0,
    elu: float = 0.0,
) -> Tensor:
    r"""BPR-max (Hidasi & Karatzoglou, CIKM 2018), weighing negatives by their softmax.

    .. math::
        L = -\log\Big(\sum_j s_j \sigma(r_i - r_j) + 10^{-24}\Big) + \lambda \sum_j s_j r_j^2,
        \qquad s = \mathrm{softmax}(r_j)

    As in the authors' code, the softmax is over negatives alone and the small number keeps the
    logarithm finite.

    Args:
        positive: Scores of the targets, [B].
        negatives: Scores of the negatives, [B, N].
        mask: Which negatives count, bool [B, N].
        reduction: ``"mean"`` over rows or ``"sum"``.
        regularization: The weight :math:`\lambda` of the squared scores (the authors' code's
        ``bpreg``).
        elu: Where above 0, all scores first go through an exponential linear unit with this slope
            (the authors' code's ``elu_param``).

    Returns:
        The loss, a scalar; of scores of half precision in float32.

    Raises:
        ValueError: If shapes do not fit, no negative counts, ``reduction`` is unknown or a weight
            is negative.
    """
    for name, value in (("regularization", regularization), ("elu", elu)):
        if value < 0:
            raise ValueError(f"{name} of bpr_max must not be negative, got {value}.")
    # The square of a score of 300 is beyond float16.
    positive, negatives = in_32_bits(positive), in_32_bits(negatives)
    scores, _, _ = _masked(positive, negatives, mask, 0.0)
    if elu > 0:
        positive, scores = exponential_linear(positive, elu), exponential_linear(scores, elu)
    scores, log_s, weighed = _weighed(scores, mask)  # [B, N], [B, N], [B]
    impossible = positive == -torch.inf
    own = positive.masked_fill(impossible, 0).unsqueeze(1)  # [B, 1]
    agreement = (log_s + logsigmoid(own - scores)).logsumexp(1)  # [B]
    agreement = agreement.masked_fill(impossible, -torch.inf)
    row = -torch.logaddexp(agreement, agreement.new_tensor(LOG_EPSILON))
    if regularization > 0:
        row = row + regularization * (log_s.exp() * scores.square()).sum(1)
    return _reduce(row, weighed, reduction)


def top1_max(
    positive: Tensor, negatives: Tensor, mask: Tensor | None = None, reduction: Reduction = "mean"
) -> Tensor:
    r"""TOP1-max (Hidasi & Karatzoglou, CIKM 2018): TOP1 with negatives weighed by their softmax.

    .. math::
        L = \sum_j s_j \big(\sigma(r_j - r_i) + \sigma(r_j^2)\big), \qquad s = \mathrm{softmax}(r_j)

    Args:
        positive: Scores of the targets, [B].
        negatives: Scores of the negatives, [B, N].
        mask: Which negatives count, bool [B, N].
        reduction: ``"mean"`` over rows or ``"sum"``.

    Returns:
        The loss, a scalar.

    Raises:
        ValueError: If shapes do not fit, no negative counts or ``reduction`` is unknown.
    """
    scores, log_s, weighed = _weighed(_masked(positive, negatives, mask, 0.0)[0], mask)  # [B, N]
    return _reduce((log_s.exp() * _top1(positive, scores)).sum(1), weighed, reduction)


def bce(
    positive: Tensor, negatives: Tensor, mask: Tensor | None = None, reduction: Reduction = "mean"
) -> Tensor:
    r"""Binary cross-entropy (SASRec: Kang & McAuley, ICDM 2018, section III-F).

    .. math::
        L = -\log \sigma(r_i) - \sum_j \log(1 - \sigma(r_j))

    The paper and code draw one negative; more of them are added up.

    Args:
        positive: Scores of the targets, [B].
        negatives: Scores of the negatives, [B, N].
        mask: Which negatives count, bool [B, N].
        reduction: ``"mean"`` over rows or ``"sum"``.

    Returns:
        The loss, a scalar.

    Raises:
        ValueError: If shapes do not fit, no negative counts or ``reduction`` is unknown.
    """
    scores, weight, counted = _masked(positive, negatives, mask, 0.0)
    row = softplus(-positive) + (weight * softplus(scores)).sum(1)
    return _reduce(row, counted, reduction)


def gbce(
    positive: Tensor,
    negatives: Tensor,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
    *,
    num_items: int,
    t: float = 0.75,
) -> Tensor:
    r"""Generalized binary cross-entropy (gSASRec: Petrov & Macdonald, RecSys 2023).

    .. math::
        L = -\beta \log \sigma(r_i) - \sum_j \log(1 - \sigma(r_j)), \qquad
        \beta = \alpha \Big(t \big(1 - \tfrac{1}{\alpha}\big) + \tfrac{1}{\alpha}\Big), \qquad
        \alpha = \frac{k}{V - 1}

    Here k is the number of negatives of the row that count, where the paper takes all that were
    drawn, so that a masked column equals a missing one. The paper divides by k + 1; here, as in
    :func:`bce`, to which this is equal for t = 0, the terms are added.

    Args:
        positive: Scores of the targets, [B].
        negatives: Scores of the negatives, [B, N].
        mask: Which negatives count, bool [B, N].
        reduction: ``"mean"`` over rows or ``"sum"``.
        num_items: Items V of the catalog, at least 2.
        t: Calibration in 0..1; 1 removes the overconfidence that sampling causes.

    Returns:
        The loss, a scalar.

    Raises:
        ValueError: If shapes do not fit, no negative counts, ``reduction`` is unknown,
            ``num_items`` is below 2 or ``t`` outside 0..1.
    """
    if num_items < 2:
        raise ValueError(f"gbce needs num_items of at least 2, got {num_items}.")
    check_fractions(**{"t of gbce": t})
    scores, weight, counted = _masked(positive, negatives, mask, 0.0)
    alpha = counted.to(positive.dtype) / (num_items - 1)  # [B]
    beta = 1 - t * (1 - alpha)  # the paper's, multiplied out
    row = beta * softplus(-positive) + (weight * softplus(scores)).sum(1)
    return _reduce(row, counted, reduction)


def _masked(
    positive: Tensor, negatives: Tensor, mask: Tensor | None, fill: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores [B, N] with ``fill`` where masked, 0/1 weights [B, N], number that count [B]."""
    _check(positive, negatives, mask)
    if mask is None:
        counted = torch.full_like(positive, negatives.shape[1], dtype=torch.long)
        weight = positive.new_ones(())
    else:
        counted, weight = mask.sum(1), mask.to(positive.dtype)
        negatives = negatives.masked_fill(~mask, fill)
    if counted.numel() and not bool(counted.any()):
        raise ValueError(
            f"No negative counts in any of the {counted.numel()} rows, so that there is nothing to "
            f"compare targets with: pass negatives [B, N], got {list(negatives.shape)}, and a mask "
            "that is True for some of them."
        )
    return negatives, weight, counted


def _weighed(negatives: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Scores without -inf [B, N], log of their softmax [B, N], number that weigh something [B]."""
    some = negatives > -torch.inf
    if mask is not None:
        some &= mask
    weighed = some.sum(1)
    scores = negatives.masked_fill(~some, 0)
    # A row in which none weighs anything keeps finite scores: its loss is zeroed, not NaN.
    out = ~some & (weighed > 0).unsqueeze(1)
    return scores, scores.masked_fill(out, -torch.inf).log_softmax(1), weighed


def _top1(positive: Tensor, scores: Tensor) -> Tensor:
    """Each pair's part of TOP1, [B, N]."""
    return (scores - positive.unsqueeze(1)).sigmoid() + scores.square().sigmoid()


def _reduce(row: Tensor, counted: Tensor, reduction: str) -> Tensor:
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction is 'mean' or 'sum', got {reduction!r}.")
    total = row.masked_fill(counted == 0, 0).sum()
    return total / max(row.numel(), 1) if reduction == "mean" else total


def _check(positive: Tensor, negatives: Tensor, mask: Tensor | None) -> None:
    if positive.dim() != 1 or negatives.dim() != 2 or len(positive) != len(negatives):
        raise ValueError(
            "A loss takes positive [B] and negatives [B, N], got "
            f"{list(positive.shape)} and {list(negatives.shape)}."
        )
    if mask is not None and (mask.shape != negatives.shape or mask.dtype != torch.bool):
        raise ValueError(
            f"mask must be bool {list(negatives.shape)}, as the negatives, got {mask.dtype} "
            f"{list(mask.shape)}."
        )
