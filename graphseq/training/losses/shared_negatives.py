"""Sampled softmax over negatives that a batch shares, without keeping a matrix of scores."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from graphseq.arguments import check_fractions

BLOCK_ELEMENTS = 1_000_000
"""Scores held at once: 4 MB of float32, which a CPU's cache keeps between the passes over them."""


def shared_sampled_softmax(
    vectors: Tensor,
    own: Tensor,
    other: Tensor,
    targets: Tensor,
    negatives: Tensor,
    own_offset: Tensor | None = None,
    other_offset: Tensor | None = None,
    *,
    hidden: tuple[Tensor, Tensor] | None = None,
    label_smoothing: float = 0.0,
    reduction: Literal["mean", "sum"] = "mean",
) -> Tensor:
    r"""Cross-entropy of each row's target against negatives that all rows share.

    .. math::
        L_b = \log\Big(e^{s_b^\top w_{t_b} + o_{t_b}} + \sum_{j : n_j \ne t_b} e^{s_b^\top w_{n_j} +
        o_{n_j}}\Big) - s_b^\top w_{t_b} - o_{t_b}

    Equal to :func:`graphseq.training.losses.sampled_softmax` on
    :func:`graphseq.training.negatives.sampler.shared_scores`, value and gradients; but scores are
    made
    block by block and used up while they are in the cache. Only first derivatives exist.

    Args:
        vectors: Session vectors or click states ``s``, [B, d].
        own: Table rows of the targets, [B, d].
        other: Table rows of the negatives, [N, d].
        targets: Item of each row, int64 [B].
        negatives: Items drawn, int64 [N]; one that equals a row's target does not count there.
        own_offset: Added to the targets' scores, [B]: bias, or minus log q, or both.
        other_offset: The same of the negatives, [N].
        hidden: Rows, ascending, and columns of the cells that do not count, int64 [n] each, every
            cell once; ``None``: where a negative is the row's own target (:func:`collisions`).
        label_smoothing: As in :func:`graphseq.training.losses.sampled_softmax`.
        reduction: ``"mean"`` over rows or ``"sum"``.

    Returns:
        The loss, a scalar; 0 for no rows. Scores of ``-inf`` are taken as there.

    Raises:
        ValueError: If shapes do not fit, no negative counts or an option is out of range.
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction is 'mean' or 'sum', got {reduction!r}.")
    check_fractions(label_smoothing=label_smoothing)
    rows, columns, channels = len(targets), len(negatives), vectors.shape[-1]
    for name, tensor, shape in (
        ("vectors", vectors, (rows, channels)),
        ("own", own, (rows, channels)),
        ("other", other, (columns, channels)),
        ("own_offset", own_offset, (rows,)),
        ("other_offset", other_offset, (columns,)),
    ):
        if tensor is not None and tensor.shape != shape:
            raise ValueError(f"{name} must be {list(shape)}, got {list(tensor.shape)}.")
    own_offset = vectors.new_zeros(rows) if own_offset is None else own_offset.to(vectors.dtype)
    other_offset = vectors.new_zeros(columns) if other_offset is None else other_offset
    other_offset = other_offset.to(vectors.dtype)
    hidden = collisions(targets, negatives) if hidden is None else hidden
    if rows and len(hidden[0]) == rows * columns:
        raise ValueError(
            f"No negative counts in any of the {rows} rows, so that there is nothing to compare "
            f"targets with: {columns} negatives were given, of which {len(hidden[0])} pairs with a "
            "row are hidden."
        )
    scored = vectors, own, other, own_offset, other_offset, *hidden
    share = 1.0 / max(rows, 1) if reduction == "mean" else 1.0
    loss: Tensor = _SharedSampledSoftmax.apply(*scored, share, torch.is_grad_enabled())
    return loss + label_smoothing * share * _above_average(*scored) if label_smoothing else loss


def _above_average(
    vectors: Tensor,
    own: Tensor,
    other: Tensor,
    own_offset: Tensor,
    other_offset: Tensor,
    hit_row: Tensor,
    hit_column: Tensor,
) -> Tensor:
    """The sum over rows of the target's score minus the mean of all scores that count there.

    That mean takes one product with the sum of all negatives; what does not count is taken off it,
    and what has a score of -inf is left out.
    """
    finite = other_offset > -torch.inf
    if not bool(finite.all()):
        kept = finite[hit_column]
        place = finite.cumsum(0) - 1
        hit_row, hit_column = hit_row[kept], place[hit_column[kept]]
        other, other_offset = other[finite], other_offset[finite]
    possible = own_offset > -torch.inf  # the loss of the other rows is infinite as it is
    positive = (vectors * own).sum(1) + own_offset.masked_fill(~possible, 0)  # [B]
    total = positive + vectors @ other.sum(0) + other_offset.sum()  # [B]
    hit = (vectors[hit_row] * other[hit_column]).sum(1) + other_offset[hit_column]  # [n]
    total = total.index_add(0, hit_row, -hit)
    counted = len(other) + 1 - torch.bincount(hit_row, minlength=len(vectors))
    return (positive - total / counted).masked_fill(~possible, 0).sum()


def collisions(targets: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
    """Where a negative is the row's own target.

    Args:
        targets: int64 [B].
        negatives: int64 [N].

    Returns:
        Rows, ascending, and columns of all such cells, int64 [n] each.
    """
    ordered, column = negatives.sort()
    first = torch.searchsorted(ordered, targets)
    count = torch.searchsorted(ordered, targets, right=True) - first  # [B]
    row = torch.repeat_interleave(count)  # [n]
    before = count.cumsum(0) - count
    place = torch.arange(row.numel(), device=row.device) - before[row] + first[row]
    return row, column[place]


class _SharedSampledSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        vectors: Tensor,
        own: Tensor,
        other: Tensor,
        own_offset: Tensor,
        other_offset: Tensor,
        hit_row: Tensor,
        hit_column: Tensor,
        share: float,
        grad_enabled: bool,
    ) -> Tensor:
        num_rows, num_columns = vectors.shape[0], other.shape[0]
        learns = grad_enabled and any(ctx.needs_input_grad)
        loss = vectors.new_zeros(())
        positive = (vectors * own).sum(1) + own_offset  # [B]
        grad_vectors, grad_other = torch.empty_like(vectors), torch.zeros_like(other)
        grad_positive, grad_offset = torch.empty_like(positive), torch.zeros_like(other_offset)
        rows = max(1, BLOCK_ELEMENTS // max(num_columns, 1))
        starts = range(0, num_rows, rows)
        # Collisions come row by row: the collisions of a block lie together.
        ends = torch.searchsorted(
            hit_row, torch.tensor([*starts, num_rows], device=hit_row.device)
        ).tolist()
        buffer = vectors.new_empty(min(rows, num_rows), num_columns)
        for number, start in enumerate(starts):
            block = slice(start, min(start + rows, num_rows))
            x, r = vectors[block], positive[block]  # [n, d], [n]
            e = torch.addmm(other_offset, x, other.t(), out=buffer[: len(x)])  # [n, N]
            hits = slice(ends[number], ends[number + 1])
            e[hit_row[hits] - start, hit_column[hits]] = -torch.inf
            top = torch.maximum(e.amax(1), r) if num_columns else r  # [n]
            top = top.clamp(min=torch.finfo(top.dtype).min)  # a row of -inf alone gives no NaN
            e.sub_(top.unsqueeze(1)).exp_()
            r = r - top
            e_own = r.exp()
            total = (e.sum(1) + e_own).clamp_(min=1)  # of any other row it is: [n]
            loss += (total.log() - r).sum()
            if not learns:
                continue
            scale = share / total  # softmax = e / total
            torch.mm(e, other, out=grad_vectors[block])
            grad_vectors[block] *= scale.unsqueeze(1)
            grad_other.addmm_(e.t(), x * scale.unsqueeze(1))
            grad_offset.addmv_(e.t(), scale)
            grad_positive[block] = e_own * scale - share
        if learns:
            grad_vectors.addcmul_(grad_positive.unsqueeze(1), own)
            grad_own = grad_positive.unsqueeze(1) * vectors
            ctx.save_for_backward(grad_vectors, grad_own, grad_other, grad_positive, grad_offset)
        return loss * share

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return (*(each * grad for each in ctx.saved_tensors), None, None, None, None)
