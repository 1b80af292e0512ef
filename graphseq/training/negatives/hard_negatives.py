"""Negatives that a model's own scores choose: the highest of a pool, or of all items."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor

BLOCK_ELEMENTS = 4_000_000
"""Scores that an exact search holds at once."""


def hardest(negatives: Tensor, mask: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """The highest scores of each row among the scores that count.

    Args:
        negatives: Scores, [n, N].
        mask: Which of them count, bool [n, N].
        number: How many each row keeps.

    Returns:
        Their scores, with gradient, and which of them count, [n, min(number, N)] each: a row with
        fewer that count has some that do not.
    """
    order = negatives.detach().masked_fill(~mask, -torch.inf)
    kept = order.topk(min(number, order.shape[1]), dim=1).indices
    return negatives.gather(1, kept), mask.gather(1, kept)


def hardest_of_pool(
    vectors: Tensor,
    pool: Tensor,
    offset: Tensor | None,
    hidden: tuple[Tensor, Tensor],
    number: int,
) -> tuple[Tensor, Tensor]:
    """The highest scores of each row in a pool that all rows share, as TRON (2023) takes them.

    Only what is kept is scored with a gradient: a pool of 16,384 for 2,000 rows never is a matrix
    of scores.

    Args:
        vectors: [n, d].
        pool: Rows of the item table, [N, d].
        offset: Added to the scores of the pool's items, [N], or ``None``.
        hidden: Rows, ascending, and columns of the pool that do not count for them, int64 [m] each.
        number: How many each row keeps.

    Returns:
        Their scores, with gradient, and which of them count, [n, min(number, N)] each: a row with
        fewer that count has some that do not.
    """
    number = min(number, len(pool))
    row, column = hidden
    kept, counts = [], []
    with torch.no_grad():
        block = max(1, BLOCK_ELEMENTS // max(len(pool), 1))
        starts = torch.arange(0, len(vectors) + block, block, device=row.device)
        ends = torch.searchsorted(row, starts).tolist()
        for at, part in enumerate(vectors.split(block)):
            scores = part @ pool.t()  # [block, N]
            if offset is not None:
                scores += offset
            cells = slice(ends[at], ends[at + 1])
            scores[row[cells] - at * block, column[cells]] = -torch.inf
            best = scores.topk(number, dim=1)
            kept.append(best.indices)
            counts.append(best.values > -torch.inf)
    index = torch.cat(kept)  # [n, number]
    rows = pool.index_select(0, index.flatten()).view(*index.shape, -1)  # [n, number, d]
    chosen = (rows @ vectors.unsqueeze(2)).squeeze(2)  # [n, number]
    if offset is not None:
        chosen = chosen + offset[index]
    return chosen, torch.cat(counts)


class ItemIndex(Protocol):
    """What finds the items of highest score, exactly or nearly so."""

    def build(self, weight: Tensor, bias: Tensor | None) -> None:
        """Takes in an item table [V, d] and the bias of each item [V]; they may be kept."""

    def search(self, vectors: Tensor, k: int) -> Tensor:
        """The k best items of each vector, best first: [n, d] -> int64 [n, k]."""


class ExactIndex:
    """Search through all items, block after block: n V d multiplications for n vectors."""

    def __init__(self) -> None:
        self.weight: Tensor | None = None
        self.bias: Tensor | None = None

    def build(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = weight, bias

    def search(self, vectors: Tensor, k: int) -> Tensor:
        """The k best items of each vector, best first.

        Args:
            vectors: [n, d].
            k: At most the number of items.

        Raises:
            ValueError: If nothing was built, or ``k`` is above the number of items.
        """
        if self.weight is None or k > len(self.weight):
            size = None if self.weight is None else len(self.weight)
            raise ValueError(f"An index of {size} items cannot give the best {k}.")
        width = max(k, BLOCK_ELEMENTS // max(1, len(vectors)))
        best = vectors.new_empty(len(vectors), 0)
        items = torch.empty(len(vectors), 0, dtype=torch.long, device=vectors.device)
        for start in range(0, len(self.weight), width):
            scores = vectors @ self.weight[start : start + width].t()  # [n, width]
            if self.bias is not None:
                scores = scores + self.bias[start : start + width]
            top = scores.topk(min(k, scores.shape[1]), dim=1)
            best = torch.cat([best, top.values], dim=1)
            items = torch.cat([items, top.indices + start], dim=1)
            kept = best.topk(min(k, best.shape[1]), dim=1)
            best, items = kept.values, items.gather(1, kept.indices)
        return items


ITEM_INDEXES: dict[str, Callable[[], ItemIndex]] = {"exact": ExactIndex}
"""What searches an item table, by the name that settings have; one of your own is added here."""


class IndexNegatives:
    """The best items of each row by a copy of the item table that is refreshed periodically.

    Args:
        number: Negatives of each row.
        refresh: Steps after which the copy is made again, and at the start of every epoch.
        index: What searches.

    Raises:
        ValueError: If a number is below 1.
    """

    def __init__(self, number: int, refresh: int, index: ItemIndex | None = None) -> None:
        if number < 1 or refresh < 1:
            raise ValueError(f"number and refresh must be at least 1, got {number} and {refresh}.")
        self.number = number
        self.refresh = refresh
        self.index: ItemIndex = ExactIndex() if index is None else index
        self._copy: dict[str, Tensor] = {}

    @torch.no_grad()
    def find(
        self,
        vectors: Tensor,
        targets: Tensor,
        weight: Callable[[], Tensor],
        bias: Tensor | None,
        step: int,
    ) -> Tensor:
        """The negatives of each row.

        Args:
            vectors: [n, d].
            targets: Item of each row, which is not a negative, int64 [n].
            weight: Gives the item table of this step, [V, d]; called for a copy alone, as it may
                be computed from all items.
            bias: The bias of each item, [V].
            step: Step of the epoch, from 0.

        Returns:
            int64 [n, number], best first; of a smaller catalog all other items.
        """
        if step % self.refresh == 0 or not self._copy:
            copy = {"weight": weight().detach().clone()}
            if bias is not None:
                copy["bias"] = bias.detach().clone()
            self._build(copy)
        k = min(self.number + 1, len(self._copy["weight"]))
        found = self.index.search(vectors.detach(), k)  # [n, k]
        # One is too many: the target, or the last where the target is not among them.
        too_many = found == targets.unsqueeze(1)
        too_many[:, -1] |= ~too_many.any(1)
        return found[~too_many].view(len(found), k - 1)

    def _build(self, copy: dict[str, Tensor]) -> None:
        self._copy = copy
        self.index.build(copy["weight"], copy.get("bias"))

    def training_state(self) -> dict[str, Tensor]:
        """The copy, which a resumed training continues with."""
        return dict(self._copy)

    def load_training_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores what :meth:`training_state` gave."""
        if state:
            self._build(dict(state))
