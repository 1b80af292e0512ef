"""Which items a session holds, by sorted keys: to leave them out of its negatives."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.training.losses.shared_negatives import collisions


class SeenItems:
    """The items that the session of each row holds: its clicks, and the targets of all its rows.

    Args:
        batch: Session graphs.
        session: The session of each row, int64 [n].
        targets: The target of each row, int64 [n].
        num_items: Items of the catalog.
    """

    def __init__(self, batch: Batch, session: Tensor, targets: Tensor, num_items: int) -> None:
        self.num_items = num_items
        self.session = session
        key = torch.cat([batch.batch * num_items + batch.x, session * num_items + targets])
        self.key = key.unique()  # session and item of each, ascending

    def among(self, items: Tensor) -> Tensor:
        """Which of each row's items its session holds: int64 [n, N] -> bool [n, N]."""
        if self.key.numel() == 0:
            return torch.zeros_like(items, dtype=torch.bool)
        wanted = self.session.unsqueeze(1) * self.num_items + items
        place = torch.searchsorted(self.key, wanted).clamp(max=self.key.numel() - 1)
        return self.key[place] == wanted

    def cells(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """The same for items [N] that all rows share, cell by cell, for existing cells only.

        Returns:
            Rows, ascending, and columns, int64 [m] each.
        """
        entry, column = collisions(self.key % self.num_items, items)
        holder = self.key[entry] // self.num_items  # the session that holds it, [k]
        ordered, order = self.session.sort(stable=True)
        first = torch.searchsorted(ordered, holder)
        count = torch.searchsorted(ordered, holder, right=True) - first  # its rows
        cell = torch.repeat_interleave(count)  # [m]
        before = count.cumsum(0) - count
        place = torch.arange(cell.numel(), device=cell.device) - before[cell] + first[cell]
        row, column = order[place], column[cell]
        by_row = row.argsort(stable=True)
        return row[by_row], column[by_row]
