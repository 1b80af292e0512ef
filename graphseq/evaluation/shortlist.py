"""The best items of every row of scores; ties for the last places are broken at random."""

from __future__ import annotations

import torch
from torch import Tensor

from graphseq.evaluation.rank_counts import refuse_nan
from graphseq.models.use.ties import Tolerance


def shortlist(
    scores: Tensor, k: int, generator: torch.Generator, tolerance: Tolerance | None = None
) -> tuple[Tensor, Tensor]:
    """The ``k`` best items of every row; ties for the last places are broken at random.

    Args:
        scores: [n, num_items]; ``-inf`` is never chosen.
        k: Number of items to choose, at most all.
        generator: Generator of the random tie breaking, on the CPU.
        tolerance: Maximum distance of equal scores; ``None``: scores must be bit-equal.

    Returns:
        Items, int64 [n, k], and which of them are valid, bool [n, k]: a row may have fewer than
        ``k``.

    Raises:
        ValueError: If a score is NaN, which is neither better nor worse than another.
    """
    refuse_nan(scores)
    k = min(k, scores.size(1))
    best, items = scores.topk(k)  # [n, k], descending
    worst = best[:, -1:]
    reach = torch.zeros_like(worst) if tolerance is None else tolerance(worst, scores)
    level = (scores >= worst - reach) & (scores <= worst + reach)  # [n, num_items]
    room = (best <= worst + reach).sum(1)  # places that the tied items share
    crowded = ((level.sum(1) > room) & (worst.squeeze(1) > -torch.inf)).nonzero().view(-1)
    if crowded.numel():
        lots = torch.rand(crowded.numel(), scores.size(1), generator=generator).to(scores.device)
        lots = lots.masked_fill(~level[crowded], -1.0)
        drawn = lots.topk(int(room[crowded].max())).indices  # [crowded, most room]
        turn = torch.arange(k, device=scores.device) - (k - room[crowded]).unsqueeze(1)
        items[crowded] = drawn.gather(1, turn.clamp(min=0)).where(turn >= 0, items[crowded])
    return items, best > -torch.inf
