"""Losses by which a small model learns from the scores of a larger one."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from graphseq.arguments import check_positive

Reduction = Literal["mean", "sum"]


def kl_distillation(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Divergence of a student's distribution from its teacher's (Hinton et al., 2015).

    .. math::
        L = T^2 \sum_j p_j \log \frac{p_j}{q_j}, \qquad
        p = \mathrm{softmax}(\hat r / T), \quad q = \mathrm{softmax}(r / T)

    with the teacher's scores :math:`\hat r` and the student's :math:`r`. The factor keeps gradients
    of one size whatever the temperature (section 2). The authors minimize the cross-entropy, which
    differs by the teacher's entropy, a constant.

    Args:
        student: Scores of all items, or of candidates that are the same for both, [B, C].
        teacher: The teacher's scores of the same, [B, C]; they get no gradient. One of ``-inf`` has
            no probability.
        temperature: T, above 0; a higher one gives more weight to items that score low.
        reduction: ``"mean"`` over rows or ``"sum"``.

    Returns:
        The loss, a scalar; 0 for no rows.

    Raises:
        ValueError: If shapes differ or an option is out of range.
    """
    if student.dim() != 2 or student.shape != teacher.shape:
        raise ValueError(
            "kl_distillation takes student and teacher [B, C], got "
            f"{list(student.shape)} and {list(teacher.shape)}."
        )
    check_positive(temperature=temperature)
    log_p = (teacher.detach() / temperature).log_softmax(1)  # [B, C]
    log_q = (student / temperature).log_softmax(1)
    some = log_p > -torch.inf
    # A row in which the teacher finds nothing possible teaches nothing, and is not NaN.
    term = log_p.masked_fill(~some, -torch.inf).exp() * (log_p - log_q).masked_fill(~some, 0)
    return _reduce(temperature**2 * term.sum(1), reduction)


def ranking_distillation(
    student: Tensor,
    ranks: Tensor | None = None,
    reduction: Reduction = "mean",
    *,
    decay: float = 1.0,
    slope: float = 0.1,
) -> Tensor:
    r"""Ranking distillation (Tang & Wang, KDD 2018): the teacher's best items, as positives.

    .. math::
        L = -\sum_{k=1}^{K} w_k \log \sigma(r_{\pi_k}), \qquad
        w_k \propto e^{-k / \lambda} \cdot \tanh\big(\max(\mu (\hat k - k), 0)\big)

    over the teacher's ranking :math:`\pi_1, \dots, \pi_K`, weights summing to 1. The second factor,
    the discrepancy with the student's own rank :math:`\hat k` of the item, applies only with
    ``ranks``. Items that the student already ranks as high need no push; where that holds for all
    K, the row adds 0. The paper estimates :math:`\hat k` from a few items drawn at random and adds
    the loss to that of the data, with a weight.

    Args:
        student: Scores of the teacher's K best items, best first, [B, K].
        ranks: The student's rank of each, from 1, [B, K]; they get no gradient.
        reduction: ``"mean"`` over rows or ``"sum"``.
        decay: :math:`\lambda`, in ranks: the smaller, the more the first places weigh.
        slope: :math:`\mu`, by each rank of discrepancy.

    Returns:
        The loss, a scalar; 0 for no rows.

    Raises:
        ValueError: If shapes do not fit or an option is out of range.
    """
    if student.dim() != 2 or (ranks is not None and ranks.shape != student.shape):
        raise ValueError(
            "ranking_distillation takes student and ranks of the same shape [B, K], got "
            f"{list(student.shape)} and {None if ranks is None else list(ranks.shape)}."
        )
    for name, value in (("decay", decay), ("slope", slope)):
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}.")
    k = torch.arange(1, student.shape[1] + 1, device=student.device, dtype=student.dtype)
    w = (-k / decay).softmax(0).expand_as(student)  # [B, K]
    if ranks is not None:
        w = w * (slope * (ranks.detach().to(student.dtype) - k)).clamp(min=0).tanh()
        w = w / w.sum(1, keepdim=True).clamp(min=torch.finfo(w.dtype).tiny)
    return _reduce(-(w * logsigmoid(student)).masked_fill(w == 0, 0).sum(1), reduction)


def _reduce(row: Tensor, reduction: str) -> Tensor:
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction is 'mean' or 'sum', got {reduction!r}.")
    return row.sum() / max(row.numel(), 1) if reduction == "mean" else row.sum()
