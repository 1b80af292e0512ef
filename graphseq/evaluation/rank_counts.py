"""The exact place of a target among all items: numbers of better and tied items."""

from __future__ import annotations

import torch
from torch import Tensor

CACHE_BYTES = 2**21
"""Scores compared at once on a CPU: a block that fits the cache is read from memory only once."""

DEVICE_BYTES = 2**28
"""Scores compared at once on an accelerator, which bounds the memory that comparing takes."""

EXACT_IN_FLOAT32 = 2**24
"""Largest count that float32 holds exactly."""


def rank_counts(
    scores: Tensor,
    targets: Tensor,
    *,
    excluded: tuple[Tensor, Tensor] | None = None,
    tolerance: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""How many items score higher than the target, and how many others score the same.

    The target's place is anywhere in ``better + 1 .. better + 1 + tied``. Metrics average over
    these places, so that neither item numbers nor sorting matter. Without a tolerance scores are
    only compared, so that counts are exact in every floating-point type.

    A target that cannot be found gets ``better = num_items`` and ``tied = 0``, which every metric
    counts as a miss. This holds for an unknown target (-1), a target with score ``-inf``, and an
    excluded target.

    Args:
        scores: [B, num_items]; not modified.
        targets: Item codes, int64 [B]; -1: unknown.
        excluded: Items removed from the ranking, as row numbers and item codes, both int64 [n];
            each pair at most once.
        tolerance: Maximum distance from the target's score at which items tie with it, [B];
            ``None``: scores must be bit-equal. :mod:`graphseq.models.use.ties` defines the rule of
            ``evaluate``.

    Returns:
        ``better`` and ``tied``, both int64 [B]; ``tied`` does not count the target itself.

    Raises:
        ValueError: If shapes do not match, a target is not an item, a tolerance is not a number of
            at least 0, or a score is NaN.
    """
    if not isinstance(scores, Tensor) or not isinstance(targets, Tensor):
        raise ValueError(
            "rank_counts needs tensors of torch, got "
            f"{type(scores).__name__} and {type(targets).__name__}: torch.as_tensor makes them."
        )
    if scores.dim() != 2 or targets.shape != scores.shape[:1] or scores.size(1) == 0:
        raise ValueError(
            "rank_counts needs scores [B, num_items] and targets [B], got shapes "
            f"{list(scores.shape)} and {list(targets.shape)}."
        )
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise ValueError(f"Targets must be whole numbers, item codes, got {targets.dtype}.")
    if scores.is_complex():
        raise ValueError(f"Scores must be real numbers, got {scores.dtype}.")
    if tolerance is not None and tolerance.shape != targets.shape:
        raise ValueError(
            f"tolerance must have one value per target, {list(targets.shape)}, got "
            f"{list(tolerance.shape)}."
        )
    if tolerance is not None and not bool((tolerance >= 0).all()):
        wrong = int((~(tolerance >= 0)).nonzero()[0])
        raise ValueError(
            "tolerance must be a number of at least 0 per target, but is "
            f"{tolerance[wrong].item()} in row {wrong}."
        )
    if excluded is not None:
        _check_excluded(*excluded, scores.shape)
    num_rows, num_items = scores.shape
    better = torch.empty(num_rows, dtype=torch.long, device=scores.device)
    tied = torch.empty_like(better)
    if num_rows == 0:
        return better, tied
    targets = targets.to(scores.device, torch.long)
    if not -1 <= int(targets.min()) <= int(targets.max()) < num_items:
        raise ValueError(
            f"Targets must be item codes in 0..{num_items - 1}, or -1 where unknown, got "
            f"{int(targets.min())}..{int(targets.max())}."
        )
    column = targets.clamp(min=0).unsqueeze(1)
    own = scores.gather(1, column)  # [B, 1]
    low = high = own
    if tolerance is not None:
        low, high = own - tolerance.unsqueeze(1), own + tolerance.unsqueeze(1)

    # Flags are floats of the scores' type: summing or converting booleans costs several times more
    # than comparing.
    flag_type = scores.dtype if scores.dtype in (torch.float32, torch.float64) else torch.float32
    if num_items > EXACT_IN_FLOAT32:
        flag_type = torch.float64
    room = CACHE_BYTES if scores.device.type == "cpu" else DEVICE_BYTES
    step = min(max(1, room // (num_items * scores.element_size())), num_rows)
    flags = torch.empty(step, num_items, dtype=flag_type, device=scores.device)
    for start in range(0, num_rows, step):
        rows = slice(start, min(start + step, num_rows))
        block = scores[rows]
        flag = flags[: len(block)]
        better[rows] = torch.gt(block, high[rows], out=flag).sum(1)
        tied[rows] = torch.ge(block, low[rows], out=flag).sum(1)
        refuse_nan(block, start)
    tied -= better + 1

    missed = (targets < 0) | (own.squeeze(1) == -torch.inf)
    if excluded is not None:
        row, item = excluded
        theirs, above = scores[row, item], high.squeeze(1)[row]
        is_target = item == targets[row]
        level = (theirs >= low.squeeze(1)[row]) & (theirs <= above)
        better.index_add_(0, row, (theirs > above).long(), alpha=-1)
        tied.index_add_(0, row, (level & ~is_target).long(), alpha=-1)
        missed[row[is_target]] = True
    better[missed] = num_items
    tied[missed] = 0
    return better, tied


def _check_excluded(row: Tensor, item: Tensor, shape: torch.Size) -> None:
    if row.dim() != 1 or row.shape != item.shape:
        raise ValueError(
            "excluded needs one row number per item code, both [n], got shapes "
            f"{list(row.shape)} and {list(item.shape)}."
        )
    for name, values, size in (("rows", row, shape[0]), ("items", item, shape[1])):
        if len(values) and not 0 <= int(values.min()) <= int(values.max()) < size:
            raise ValueError(
                f"Excluded {name} must be in 0..{size - 1}, got "
                f"{int(values.min())}..{int(values.max())}."
            )


def refuse_nan(
    block: Tensor, first_row: int = 0, *, values: str = "Scores", column: str = "item"
) -> None:
    """Refuses scores that are NaN.

    Args:
        block: Scores [n, num_items], or other values.
        first_row: Number of the first of these rows, for the message.
        values, column: What the message calls them and their columns.

    Raises:
        ValueError: If one is.
    """
    # The sum is NaN if a score is NaN (or both infinities occur), and much cheaper than isnan.
    if block.is_floating_point() and bool(block.sum().isnan()):
        nan = block.isnan()
        if bool(nan.any()):
            row, item = nan.nonzero()[0].tolist()
            raise ValueError(
                f"{values} must be numbers, but {int(nan.sum())} of {nan.numel()} are NaN, the "
                f"first in row {first_row + row} for {column} {item}: a NaN has no place in a "
                "ranking, look for it in the model's weights or inputs."
            )
