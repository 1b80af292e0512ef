"""The rule for ties between items in evaluate, recommend and re-ranking, robust to rounding.

Scores of equal items can differ in the last digits, because the order of summation depends on the
tile, the batch and the number of threads. Two items of a session tie

- under inner products with an item table: if their rows and biases are equal, or their scores are
  bit-equal. :func:`first_equal` finds such rows, whose items then share one score. Real differences
  are kept, even if they are small. ``evaluate`` ranks so too where a family adds to some scores.
- under any other scores: if they differ by no more than the model's
  :meth:`~graphseq.models.SessionModel.score_tolerance`, a few roundings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from graphseq.random import torch_stream

FEW_COLUMNS = 4
"""Number of columns of an item table that nearly always distinguish its rows."""

ROWS_PER_HASH = 2**15
"""Number of rows of an item table hashed at once; this bounds memory."""

Tolerance = Callable[[Tensor, Tensor], Tensor]
"""Scores [n, m], and the rows [n, C] that they come from -> the tolerance of equal scores, [n,
m]."""


# -- scores of any making ----------------------------------------------------------------------


def roundings(number: int, scores: Tensor, magnitude: Tensor) -> Tensor:
    """The size of this number of roundings at this magnitude, in the type of the scores.

    A score that is a whole number never ties with another whole number: it may well be exact.

    Args:
        number: Number of roundings; at most one for half types, whose products are summed in
            float32.
        scores: Any shape.
        magnitude: Magnitude of the rounded numbers, at least 0; it broadcasts with the scores.

    Returns:
        Of the broadcast shape, finite everywhere.
    """
    if not scores.is_floating_point():
        return torch.zeros_like(scores)
    info = torch.finfo(scores.dtype)
    if info.bits < 32:
        number = min(number, 1)
    found = number * info.eps * magnitude
    found = torch.where(scores == scores.round(), found.clamp(max=0.25), found)
    return torch.where(found.isfinite(), found, 0.0).to(scores.dtype)


def leaders(scores: Tensor, tolerance: Tensor) -> Tensor:
    """For each score, the highest score of its tie.

    A tie holds all scores within the tolerance of its highest score; the next tie begins below it.
    Ties therefore do not depend on any other order, and a chain of small steps is not one tie.

    Args:
        scores: Scores, descending in every row, [n, m].
        tolerance: Tolerance of each score, [n, m].

    Returns:
        [n, m].
    """
    rising = -scores
    end = torch.searchsorted(rising, rising + tolerance, right=True)  # the first one beyond the tie
    place = torch.arange(scores.size(1), device=scores.device).expand_as(end)
    if bool((end <= place + 1).all()):
        return scores
    # Leaders are reached by jumps from the first score. Squaring the jump doubles their number.
    size = scores.size(1)
    jump = torch.nn.functional.pad(torch.maximum(end, place + 1), (0, 1), value=size)
    leads = torch.zeros_like(jump, dtype=torch.int8)
    leads[:, 0] = 1
    for _ in range(size.bit_length()):
        leads = leads.scatter_reduce(1, jump, leads, "amax")
        jump = jump.gather(1, jump)
    own = place.masked_fill(leads[:, :size] == 0, 0)
    return scores.gather(1, own.cummax(1).values)


def num_reached(scores: Tensor, floor: Tensor) -> Tensor:
    """How many scores of each row [n, C] are at or above its floor [n, 1]: [n].

    Flags are floats, whose sums are exact up to 2**24: summing booleans costs ten times more.
    """
    kind = torch.float64 if scores.dtype == torch.float64 else torch.float32
    return torch.ge(scores, floor, out=torch.empty_like(scores, dtype=kind)).sum(1)


# -- scores by an item table -------------------------------------------------------------------


def first_equal(weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """For every item, the first item with the same row and bias, possibly itself.

    Args:
        weight: Rows of items, [num_items, d].
        bias: Bias of each item, [num_items], or ``None``.

    Returns:
        int64 [num_items].
    """
    table = weight.detach()
    first = torch.arange(len(table), device=table.device)
    # The first columns distinguish nearly all rows: few others are read.
    again, before = _repeats(_hashes(table[:, :FEW_COLUMNS], first))
    if len(again) == 0:
        return first
    place = torch.cat([again, before]).unique()
    key = _hashes(table, place)
    if bias is not None:
        key = key * _MIXER + _bits(bias.detach()[place])
    again, before = _repeats(key)
    item, found = place[again], place[before]
    for part in torch.arange(len(item), device=item.device).split(ROWS_PER_HASH):
        same = (table[item[part]] == table[found[part]]).all(1)  # hashes may collide, rows do not
        if bias is not None:
            same &= bias[item[part]] == bias[found[part]]
        first[item[part][same]] = found[part][same]
    return first


class TableTies:
    """Ties under an item table among the best items of some sessions.

    Items that are not near the top of any session are ignored, so that most calls read few rows of
    the table.

    Args:
        vectors: Session vectors, [n, d].
        rows: Columns of the scores, int64 [m] -> rows of their items [m, d], and biases [m] or
            ``None``.
    """

    def __init__(
        self, vectors: Tensor, rows: Callable[[Tensor], tuple[Tensor, Tensor | None]]
    ) -> None:
        self.lengths = torch.linalg.vector_norm(vectors.float(), dim=1, keepdim=True).cpu()
        self.num_terms = vectors.size(1)
        self.rows = rows

    def share(self, scores: Tensor, top: Tensor, columns: Tensor) -> bool:
        """Gives equal items one score, in place; what is hidden from a session stays so.

        Args:
            scores: [n, C]; ``-inf`` hides an item from a session.
            top, columns: The best scores of each row, descending, and their columns, [n, k].

        Returns:
            Whether equal items were found.
        """
        reach = self._reach(scores, columns)
        floor = top[:, -1:] - reach
        close = (top[:, :-1] - top[:, 1:] <= reach).any(1)
        hard = (close | (num_reached(scores, floor) > top.size(1))).nonzero().view(-1)
        if len(hard) == 0:
            return False
        near = (scores[hard] >= floor[hard]) & (scores[hard] > -torch.inf)
        column = near.any(0).nonzero().view(-1)
        first = first_equal(*self.rows(column)).cpu()
        again = first != torch.arange(len(first))
        if not bool(again.any()):
            return False
        group, member = first[again].unique(), again.clone()
        member[group] = True
        number = torch.searchsorted(group, first[member]).expand(len(scores), -1)  # [n, members]
        own = scores[:, column[member]]
        best = own.new_full((len(scores), len(group)), -torch.inf)
        best.scatter_reduce_(1, number, own, "amax")
        shared = best.gather(1, number).masked_fill(own == -torch.inf, -torch.inf)
        scores[:, column[member]] = shared
        return True

    def _reach(self, scores: Tensor, columns: Tensor) -> Tensor:
        """The maximum rounding difference of equal items among these scores, [n, 1]."""
        weight, bias = self.rows(columns.unique())
        size = self.lengths * float(torch.linalg.vector_norm(weight.float(), dim=1).max())
        if bias is not None:
            size = size + float(bias.abs().max())
        info = torch.finfo(scores.dtype)
        # Half types are summed in float32, and rounded once.
        number = self.num_terms + 8 if info.bits >= 32 else 2
        return (number * info.eps * size).nan_to_num().to(scores.dtype)


_MIXER = 0x9E3779B97F4A7C15 - 2**64  # odd, so that no bits are lost


def _bits(rows: Tensor) -> Tensor:
    """Floats as the integers of their bits, int64; both zeros are equal."""
    kinds: dict[int, Any] = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return (rows + 0.0).contiguous().view(kinds[rows.element_size()]).long()


def _hashes(table: Tensor, items: Tensor) -> Tensor:
    """One number per row, int64: the sum of its bits, each times a fixed random odd number."""
    generator = torch_stream("tie_hashes", 0)
    low, high = torch.iinfo(torch.long).min // 2, torch.iinfo(torch.long).max // 2
    odd = torch.randint(low, high, (table.size(1),), generator=generator) * 2 + 1
    odd = odd.to(table.device)
    parts = [(_bits(table[part]) * odd).sum(1) for part in items.split(ROWS_PER_HASH)]
    return torch.cat(parts) if parts else items


def _repeats(key: Tensor) -> tuple[Tensor, Tensor]:
    """Positions whose key occurs earlier, and the first position of that key: int64 [m] each."""
    ordered, order = key.sort(stable=True)
    again = torch.zeros_like(ordered, dtype=torch.bool)
    torch.eq(ordered[1:], ordered[:-1], out=again[1:])
    place = again.nonzero().view(-1)
    if len(place) == 0:
        return place, place
    start = torch.arange(len(order), device=order.device).masked_fill(again, 0).cummax(0).values
    return order[place], order[start[place]]
