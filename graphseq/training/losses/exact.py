"""Exact cross-entropy over all items that never holds a matrix of [rows, items]."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from graphseq.arguments import check_fractions, check_sizes

# exp(+-60), times ten million items, is far inside float32: within it no maximum need be known.
SAFE_LOGIT = 60.0
# 32 MB of float32 suit a CPU's last cache, but whole rows of a larger catalog are worth up to
# 128 MB; an accelerator wants fewer and larger products.
BLOCK_ELEMENTS_CPU = 8_000_000
LARGEST_BLOCK_ELEMENTS_CPU = 32_000_000
BLOCK_ELEMENTS_ACCELERATOR = 64_000_000
# The logits of some hundred rows and this many items stay in the second cache of a CPU.
TILE_COLUMNS_CPU = 2048
# Below this many rows a matrix product is slower than computing the logits a second time.
MIN_ROWS = 64
MAX_ROWS_OF_SPLIT_VOCABULARY = 512


def full_cross_entropy(
    vectors: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    reduction: Literal["mean", "sum"] = "mean",
    *,
    label_smoothing: float = 0.0,
    block_elements: int | None = None,
) -> Tensor:
    r"""Exact softmax cross-entropy over the whole catalog.

    .. math::
        L_b = \log \sum_j e^{r_{bj}} - (1 - \varepsilon) r_{b t_b}
            - \frac{\varepsilon}{V} \sum_j r_{bj}, \qquad r_{bj} = s_b^\top w_j + \beta_j

    where :math:`\varepsilon` smooths labels (Szegedy et al., CVPR 2016, section 7); the mean of
    all scores is one product with the mean row of the table. Value and gradients equal
    ``cross_entropy(linear(vectors, weight, bias), targets, label_smoothing=...)``. The logits are
    made block by block, and tile by tile within a block. The share of each in the gradients,
    :math:`\mathrm{softmax} - \mathrm{onehot}`, is added up while it is still in the cache; the
    backward pass only scales it. Where a block of whole rows is too large, the vocabulary is split
    too, with a running log-sum-exp and the logits computed twice. Only first derivatives exist.
    Half precision is computed in float32. A bias of ``-inf`` takes an item out of softmax and
    smoothing; the loss of a row whose target has one is infinite, and no gradient is NaN.

    Args:
        vectors: Session vectors or click states, [B, d].
        weight: Item table, [V, d].
        targets: Item of each row, integers [B]; a negative one (-1 unknown, -100 no target) takes
            its row out of loss and mean.
        bias: Bias of each item, [V].
        reduction: ``"mean"`` over the rows with a target, or ``"sum"``. With no such row the loss
            is 0 and so are its gradients.
        label_smoothing: Share :math:`\varepsilon` of the label that is spread uniformly over all
            items, in 0..1.
        block_elements: Logits held at once; ``None``: 8 million on a CPU, up to 32 million for
            catalogs above 125,000 items, and 64 million elsewhere.

    Returns:
        The loss, a scalar.

    Raises:
        ValueError: If shapes do not fit, a target is not below V, or an option is unknown.
    """
    _check(vectors, weight, targets, bias, reduction, label_smoothing, block_elements)
    dtype = torch.promote_types(torch.promote_types(vectors.dtype, weight.dtype), torch.float32)
    if block_elements is None:
        block_elements = BLOCK_ELEMENTS_ACCELERATOR
        if vectors.device.type == "cpu":
            whole_rows = max(BLOCK_ELEMENTS_CPU, MIN_ROWS * weight.shape[0])
            block_elements = min(whole_rows, LARGEST_BLOCK_ELEMENTS_CPU)
    loss: Tensor = _FullCrossEntropy.apply(
        vectors.to(dtype),
        weight.to(dtype),
        None if bias is None else bias.to(dtype),
        targets,
        reduction == "mean",
        label_smoothing,
        block_elements,
        torch.is_grad_enabled(),
    )
    return loss


class _FullCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        vectors: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        mean: bool,
        smoothing: float,
        block_elements: int,
        grad_enabled: bool,
    ) -> Tensor:
        needs = [grad_enabled and need for need in ctx.needs_input_grad[:3]]
        grad_vectors = torch.zeros_like(vectors) if needs[0] else None
        grad_weight = torch.empty_like(weight) if needs[1] else None
        grad_bias = torch.zeros_like(bias) if bias is not None and needs[2] else None
        ctx.save_for_backward(grad_vectors, grad_weight, grad_bias)

        counted = (targets >= 0).nonzero().view(-1)
        x, t = vectors, targets
        if counted.numel() < targets.numel():
            x, t = vectors[counted], targets[counted]
        num_rows = t.numel()
        share = 1.0 / num_rows if mean and num_rows else 1.0
        loss = x.new_zeros(())
        if num_rows == 0:
            if grad_weight is not None:
                grad_weight.zero_()
            return loss
        own_weight = weight[t]  # [num_rows, d]
        positive = (x * own_weight).sum(1)  # [num_rows]
        if bias is not None:
            positive += bias[t]
        shift = _known_shift(x, weight, bias, positive)
        rows, columns = _block_shape(num_rows, weight.shape[0], block_elements)
        buffer = x.new_empty(rows * columns)
        for row in range(0, num_rows, rows):
            x_block, t_block = x[row : row + rows], t[row : row + rows]
            grad_x = None if grad_vectors is None else torch.zeros_like(x_block)
            given = None if shift is None else shift[row : row + rows]
            top, total, e = _normalizer(x_block, weight, bias, columns, given, buffer, grad_x)
            if shift is None:  # a row in which no item has a finite score
                none = top == -torch.inf
                top, total = top.masked_fill(none, 0), total.masked_fill(none, 1)
            loss += (total.log() + top - positive[row : row + rows]).sum()
            if not any(needs):
                continue
            # softmax = e / total: scaling x and grad_x instead of e saves a pass over the block.
            scale = share / total  # [rows]
            x_scaled = x_block * scale.unsqueeze(1)  # [rows, d]
            if grad_vectors is not None and grad_x is not None:
                label = own_weight[row : row + rows] * (share * (1 - smoothing))
                grad_vectors[counted[row : row + rows]] = grad_x * scale.unsqueeze(1) - label
            if grad_weight is None and grad_bias is None:
                continue
            for part in _parts(weight.shape[0], columns):
                if columns < weight.shape[0]:
                    e = _logits(x_block, weight, bias, part, _view(buffer, len(x_block), part))
                    if bool(top.any()):
                        e.sub_(top.unsqueeze(1))
                    e.exp_()
                inside = (t_block >= part.start) & (t_block < part.stop)
                own = (t_block - part.start).clamp(0, e.shape[1] - 1).unsqueeze(1)  # [rows, 1]
                e.scatter_add_(1, own, (-(1 - smoothing) * total * inside).unsqueeze(1))
                if grad_weight is not None:
                    # The first rows write what later ones are added to.
                    grad_weight[part].addmm_(e.t(), x_scaled, beta=float(row > 0))
                if grad_bias is not None:
                    grad_bias[part].addmv_(e.t(), scale)
        smoothed = _smoothed(weight, bias) if smoothing else None
        if smoothed is not None:
            items, table = smoothed
            w_mean = table.mean(0)  # [d]
            average = x @ w_mean  # of all scores of each row, [num_rows]
            if bias is not None:
                average += bias[items].mean()
            # The loss of a row whose target is impossible is infinite as it is.
            loss += smoothing * (positive - average).masked_fill(positive == -torch.inf, 0).sum()
            each = smoothing * share / len(table)  # of every label, for each item
            if grad_vectors is not None:
                grad_vectors[counted] -= smoothing * share * w_mean
            if grad_weight is not None:
                grad_weight[items] -= each * x.sum(0)
            if grad_bias is not None:
                grad_bias[items] -= each * num_rows
        return loss * share

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        grads: tuple[Tensor | None, ...] = ctx.saved_tensors
        if grad_loss.item() != 1:  # a pass over the table that a loss on its own does not need
            grads = tuple(None if grad is None else grad * grad_loss for grad in grads)
        return (*grads, None, None, None, None, None)


def _normalizer(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    columns: int,
    shift: Tensor | None,
    buffer: Tensor,
    weighted: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Shift and sum of exponentials of each row [rows], and the last part's exponentials.

    The shift is the one given or, where it is ``None``, the largest logit. To ``weighted``
    [rows, d] is added the sum of the items' vectors weighed by the exponentials.
    """
    total = x.new_zeros(x.shape[0])
    top = x.new_full((x.shape[0],), -torch.inf) if shift is None else shift
    lowers = shift is None or bool(shift.any())
    # A part has one largest logit; without need of it, each tile is worked off in the cache.
    tile_columns = TILE_COLUMNS_CPU if x.device.type == "cpu" and shift is not None else columns
    e = buffer
    for part in _parts(weight.shape[0], columns):
        e = _view(buffer, x.shape[0], part)
        for tile in _parts(e.shape[1], tile_columns):
            items = slice(part.start + tile.start, part.start + tile.stop)
            e_tile = _logits(x, weight, bias, items, e[:, tile])
            finite_top = top
            if shift is None:
                new_top = torch.maximum(top, e_tile.amax(1))
                # A row that has met nothing but -inf so far keeps a sum of 0, not nan.
                finite_top = new_top.masked_fill(new_top == -torch.inf, 0)
                shrunk = (top - finite_top).exp_()
                total *= shrunk
                if weighted is not None:
                    weighted *= shrunk.unsqueeze(1)
                top = new_top
            if lowers:
                e_tile.sub_(finite_top.unsqueeze(1))
            total += e_tile.exp_().sum(1)
            if weighted is not None:
                weighted.addmm_(e_tile, weight[items])
    return top, total, e


def _smoothed(weight: Tensor, bias: Tensor | None) -> tuple[Tensor | slice, Tensor] | None:
    """The items that have a share of a smoothed label, and their vectors; ``None``: none.

    All, except items that a bias of -inf takes out.
    """
    if bias is None or bool((bias > -torch.inf).all()):
        return slice(None), weight
    items = (bias > -torch.inf).nonzero().view(-1)
    return (items, weight[items]) if items.numel() else None


def _view(buffer: Tensor, rows: int, part: slice) -> Tensor:
    """The front of the buffer as a block of these items' logits."""
    columns: int = part.stop - part.start
    return buffer[: rows * columns].view(rows, columns)


def _logits(x: Tensor, weight: Tensor, bias: Tensor | None, items: slice, out: Tensor) -> Tensor:
    if bias is None:
        return torch.mm(x, weight[items].t(), out=out)
    return torch.addmm(bias[items], x, weight[items].t(), out=out)


def _known_shift(x: Tensor, weight: Tensor, bias: Tensor | None, positive: Tensor) -> Tensor | None:
    """What each row's logits may be lowered by before any is computed, [rows]; ``None``: unknown.

    By Cauchy-Schwarz no logit exceeds the product of the norms: lowered, none overflows. The
    target's own logit, ``positive``, keeps the sum of exponentials from vanishing.
    """
    bound = x.norm(dim=1) * weight.norm(dim=1).max()
    if bias is not None:
        bound = bound + bias.abs().max()
    shift = (bound - SAFE_LOGIT).clamp(min=0)
    known = bound.isfinite() & (positive - shift >= -SAFE_LOGIT)
    return shift if bool(known.all()) else None


def _block_shape(num_rows: int, num_items: int, block_elements: int) -> tuple[int, int]:
    """Rows and columns of a block: whole rows where enough of them fit."""
    rows = min(num_rows, block_elements // num_items)
    if rows >= min(num_rows, MIN_ROWS):
        num_blocks = math.ceil(num_rows / rows)
        return math.ceil(num_rows / num_blocks), num_items
    rows = min(num_rows, MAX_ROWS_OF_SPLIT_VOCABULARY)
    return rows, min(num_items, max(1, block_elements // rows))


def _parts(num_items: int, columns: int) -> Iterator[slice]:
    for start in range(0, num_items, columns):
        yield slice(start, min(start + columns, num_items))


def _check(
    vectors: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    reduction: str,
    label_smoothing: float,
    block_elements: int | None,
) -> None:
    if vectors.dim() != 2 or weight.dim() != 2 or vectors.shape[1] != weight.shape[1]:
        raise ValueError(
            "full_cross_entropy takes vectors [B, d] and weight [V, d], got "
            f"{list(vectors.shape)} and {list(weight.shape)}."
        )
    num_items = weight.shape[0]
    if targets.shape != vectors.shape[:1] or targets.is_floating_point():
        raise ValueError(
            f"targets must be integers [{vectors.shape[0]}], one for each vector, got "
            f"{targets.dtype} {list(targets.shape)}."
        )
    if bias is not None and bias.shape != (num_items,):
        raise ValueError(f"bias must be [{num_items}], one per item, got {list(bias.shape)}.")
    if targets.numel() and int(targets.max()) >= num_items:
        raise ValueError(
            f"targets lie below the number of items, {num_items}, got {int(targets.max())}: "
            "mark an unknown target with -1."
        )
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction is 'mean' or 'sum', got {reduction!r}.")
    check_fractions(label_smoothing=label_smoothing)
    check_sizes(block_elements=block_elements)
