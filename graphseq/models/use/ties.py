"""When two items tie: the one rule of evaluate, recommend and re-ranking, proof against rounding.

Equal items get scores that differ in the last digits where a product adds in another order for
another tile, batch or number of threads. Two items of a session tie

- under inner products with an item table: if their rows and biases are equal, or their scores are
  to the last bit. :func:`first_equal` finds such rows, whose items then share one score. Real
  differences are kept, however small.
- under scores of any other making: if these differ by no more than the model's
  :meth:`~graphseq.models.SessionModel.score_tolerance`, a few roundings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from graphseq.random import torch_stream

FEW_COLUMNS = 4
"""Columns of an item table that nearly always tell its rows apart."""

ROWS_PER_HASH = 2**15
"""Rows of an item table hashed at once, which bounds the memory of it."""

Tolerance = Callable[[Tensor, Tensor], Tensor]
"""Scores [n, m], and the rows [n, C] that they come from -> how far apart equals lie, [n, m]."""


# -- scores of any making ----------------------------------------------------------------------


def roundings(number: int, scores: Tensor, magnitude: Tensor) -> Tensor:
    """So many roundings of numbers of this magnitude, as scores of their own type make them.

    A score that is a whole number never ties with another whole number: it may well be exact.

    Args:
        number: Roundings; of half types, whose products are summed in float32, one at most.
        scores: Any shape.
        magnitude: Of the numbers that are rounded, at least 0; it broadcasts with the scores.

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
    """The highest score of the tie that each belongs to.

    A tie holds what lies within the tolerance of its highest score; the next one begins below it.
    What belongs together thus depends on no other order, and no chain of small steps is one tie.

    Args:
        scores: Descending in every row, [n, m].
        tolerance: Of each score, [n, m].

    Returns:
        [n, m].
    """
    rising = -scores
    end = torch.searchsorted(rising, rising + tolerance, right=True)  # the first one beyond the tie
    place = torch.arange(scores.size(1), device=scores.device).expand_as(end)
    if bool((end <= place + 1).all()):
        return scores
    # Leaders are what jumps from the first score lead to. Squaring the jump doubles their number.
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
    """The first item with the same row and bias, for every item, itself where there is no earlier.

    Args:
        weight: Rows of items, [num_items, d].
        bias: Of each item, [num_items], or ``None``.

    Returns:
        int64 [num_items].
    """
    table = weight.detach()
    first = torch.arange(len(table), device=table.device)
    # The first columns tell nearly all rows apart: few others are read.
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
        same = (table[item[part]] == table[found[part]]).all(1)  # a hash may lie, rows do not
        if bias is not None:
            same &= bias[item[part]] == bias[found[part]]
        first[item[part][same]] = found[part][same]
    return first


class TableTies:
    """Ties under an item table among the best of some sessions.

    What is not near the top of any session is not looked at, so that for most calls few rows of
    the table are read.

    Args:
        vectors: Of the sessions, [n, d].
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
        """Gives equal items one score, in place.

        Args:
            scores: [n, C].
            top, columns: The best scores of each row, descending, and where they are, [n, k].

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
        item = (first != torch.arange(len(first))).nonzero().view(-1)
        if len(item):
            scores[:, column[item]] = scores[:, column[first[item]]]
        return len(item) > 0

    def _reach(self, scores: Tensor, columns: Tensor) -> Tensor:
        """What rounding puts apart scores of equal items among these at most, [n, 1]."""
        weight, bias = self.rows(columns.unique())
        size = self.lengths * float(torch.linalg.vector_norm(weight.float(), dim=1).max())
        if bias is not None:
            size = size + float(bias.abs().max())
        info = torch.finfo(scores.dtype)
        # Half types are summed in float32, and rounded once.
        number = self.num_terms + 8 if info.bits >= 32 else 2
        return (number * info.eps * size).nan_to_num().to(scores.dtype)


_MIXER = 0x9E3779B97F4A7C15 - 2**64  # odd: nothing of a number is lost by it


def _bits(rows: Tensor) -> Tensor:
    """Floats as the integers of their bits, int64; both zeros are one."""
    kinds: dict[int, Any] = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return (rows + 0.0).contiguous().view(kinds[rows.element_size()]).long()


def _hashes(table: Tensor, items: Tensor) -> Tensor:
    """One number a row, int64: the sum of its bits, each times a fixed random odd number."""
    generator = torch_stream("tie_hashes", 0)
    low, high = torch.iinfo(torch.long).min // 2, torch.iinfo(torch.long).max // 2
    odd = torch.randint(low, high, (table.size(1),), generator=generator) * 2 + 1
    odd = odd.to(table.device)
    parts = [(_bits(table[part]) * odd).sum(1) for part in items.split(ROWS_PER_HASH)]
    return torch.cat(parts) if parts else items


def _repeats(key: Tensor) -> tuple[Tensor, Tensor]:
    """Places whose key stands earlier too, and the first place of it: int64 [m] each."""
    ordered, order = key.sort(stable=True)
    again = torch.zeros_like(ordered, dtype=torch.bool)
    torch.eq(ordered[1:], ordered[:-1], out=again[1:])
    place = again.nonzero().view(-1)
    if len(place) == 0:
        return place, place
    start = torch.arange(len(order), device=order.device).masked_fill(again, 0).cummax(0).values
    return order[place], order[start[place]]
