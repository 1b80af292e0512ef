"""Item-kNN: items that occur in the same sessions, by the cosine of their incidence."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.arguments import check_not_negative
from graphseq.models.base import Traits
from graphseq.models.counting.counting import CountingModel, Evidence, last_visit
from graphseq.models.counting.lists import highest, weighted_sums
from graphseq.models.registry import register
from graphseq.ragged import ptr_of
from graphseq.typing import Floats, Ints

MOST_PRODUCTS = 2**24
"""Approximate number of products of the co-occurrence matrix per block of items; this bounds
memory."""


@register("item_knn")
class ItemKNN(CountingModel):
    r"""Cosine between items as sets of sessions; each item keeps its ``k`` nearest.

    .. math::
        \cos(i, j) = \frac{|S_i \cap S_j|}{\sqrt{(|S_i| + \lambda)(|S_j| + \lambda)}}, \qquad
        \hat y_{sj} = \sum_{i \in s_R} \cos(i, j) \, [j \in N_k(i)] + \beta \frac{c_j}{N}

    with :math:`S_i` the training sessions with the item,
    :math:`\lambda` ``regularization``, :math:`s_R` the distinct items of the newest ``last_clicks``
    clicks and :math:`\beta` ``backoff``. An item is not its own neighbor. Among equally near items,
    those clicked later in the log are kept.

    As in Sarwar et al. (WWW 2001), on sessions instead of users. The baseline of GRU4Rec's
    authors (Hidasi et al., ICLR 2016) has :math:`\lambda = 20` and scores only by the last click.
    It keeps 100 neighbors, and counts clicks where this model counts sessions.

    Args:
        num_items: Items of the catalog.
        k: Number of neighbors kept per item.
        regularization: Number of sessions added to every item's sessions, which makes rare items
            less similar.
        last_clicks: Number of last clicks of a session whose items are summed; ``None``: all.
        backoff: Weight of the share of training clicks; 0: items that are not neighbors get
            ``-inf``.

    Raises:
        ValueError: If an argument is out of range.
    """

    traits = Traits(
        architecture="cosine of items over sessions",
        parallel=True,
        reach="last_clicks clicks, in any order",
        side_features=False,
        best_for="'also clicked' lists, and sessions whose order says little",
    )

    num_roundings = 512  # an item may get a term of every item of the session
    in_main_memory = ("item_sessions", "neighbor_ptr", "neighbor_item", "neighbor_together")

    item_sessions: Tensor
    neighbor_ptr: Tensor
    neighbor_item: Tensor
    neighbor_together: Tensor

    def __init__(
        self,
        num_items: int,
        k: int = 100,
        *,
        regularization: float = 20.0,
        last_clicks: int | None = 1,
        backoff: float = 0.001,
    ) -> None:
        super().__init__(num_items)
        if k < 1:
            raise ValueError(f"k must be at least 1 neighbor, got {k}.")
        if last_clicks is not None and last_clicks < 1:
            raise ValueError(f"last_clicks must be at least 1 click, or None, got {last_clicks}.")
        check_not_negative(regularization=regularization, backoff=backoff)
        self.k = k
        self.regularization = regularization
        self.last_clicks = last_clicks
        self.backoff = backoff
        self.set_buffer("item_sessions")  # |S_i|: [num_items]
        self.set_buffer("neighbor_ptr")  # [num_items + 1], into the neighbors
        self.set_buffer("neighbor_item", dtype=torch.int)  # j: [num_neighbors]
        self.set_buffer("neighbor_together", dtype=torch.int)  # |S_i and S_j|: [num_neighbors]

    def count(
        self,
        items: NDArray[np.int64],
        session: NDArray[np.int64],
        time: NDArray[np.float64] | None,
    ) -> None:
        sessions, row = np.unique(session, return_inverse=True)
        one = np.ones(len(items), dtype=np.int32)
        size = (len(sessions), self.num_items)
        incidence = csr_matrix((one, (row, items)), size)  # a repeated click is summed, then
        incidence.data[:] = 1  # counted once
        by_item = incidence.T.tocsr()  # [num_items, num_sessions]
        item_sessions = np.diff(by_item.indptr).astype(np.int64)
        last_click = np.zeros(self.num_items, dtype=np.int64)
        np.maximum.at(last_click, items, np.arange(len(items)))

        # Blocks of items with about equal work; each keeps only its nearest items.
        products = np.cumsum(by_item @ np.diff(incidence.indptr).astype(np.int64))  # [num_items]
        first = np.flatnonzero(np.diff(products // MOST_PRODUCTS, prepend=-1)).tolist()
        counts, nearest = [], []
        for start, stop in zip(first, [*first[1:], self.num_items], strict=True):
            together = by_item[start:stop] @ incidence
            own = np.arange(start, stop)
            row = np.repeat(own, np.diff(together.indptr))
            kept = self._nearest(row, together, item_sessions, last_click)
            counts.append(np.bincount(row[kept] - start, minlength=stop - start))
            nearest.append((together.indices[kept], together.data[kept]))
        item, number = (np.concatenate(parts) for parts in zip(*nearest, strict=True))
        self.set_buffer("item_sessions", item_sessions)
        self.set_buffer("neighbor_ptr", ptr_of(np.concatenate(counts)))
        self.set_buffer("neighbor_item", item.astype(np.int32))
        self.set_buffer("neighbor_together", number.astype(np.int32))

    def _nearest(
        self,
        row: NDArray[np.int64],
        together: csr_matrix,
        item_sessions: NDArray[np.int64],
        last_click: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """Which entries of the co-occurrence matrix are among the ``k`` nearest of their row."""
        entry = np.flatnonzero(together.indices != row)  # no item is a neighbor of itself
        row, column = row[entry], together.indices[entry]
        # Within a row the row's own norm does not change the order: it is left out of the cosine.
        nearness = together.data[entry] / np.sqrt(item_sessions[column] + self.regularization)
        return entry[highest(row, nearness, self.k, tie=-last_click[column])]

    def evidence(self, batch: Batch) -> Evidence:
        """Summed cosines to the items of the last clicks.

        Args:
            batch: Session graphs.

        Raises:
            ValueError: If nothing was counted yet.
        """
        self.check_counted()
        node, row = batch.x, batch.batch
        if self.last_clicks is not None:
            recent = last_visit(batch) <= self.last_clicks
            node, row = node[recent], row[recent]
        count = torch.bincount(row, minlength=int(batch.num_graphs)).cpu().numpy()
        neighbor, together = self.neighbor_item.numpy(), self.neighbor_together.numpy()
        sessions = self.item_sessions.numpy()  # |S_i|: [num_items]

        def cosines(entry: Ints, item: Ints) -> tuple[NDArray[Any], Floats]:
            near = neighbor[entry]
            size, sizes = (sessions[of] + self.regularization for of in (item, near))
            return near, together[entry] / np.sqrt(size * sizes)

        sums = weighted_sums(
            ptr_of(count),
            node.cpu().numpy(),
            np.ones(node.numel()),
            self.neighbor_ptr.numpy(),
            cosines,
            self.num_items,
        )
        return Evidence((e for _, e in sums), self.backoff)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.num_items}, k={self.k}, "
            f"regularization={self.regularization}, last_clicks={self.last_clicks}, "
            f"backoff={self.backoff})"
        )
