"""Popularity: every session gets the most clicked items."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.models.base import Traits
from graphseq.models.counting.counting import CountingModel, Evidence
from graphseq.models.registry import register


@register("popularity")
class Popularity(CountingModel):
    r"""The share of training clicks, :math:`\hat y_j = c_j / N`, the same for all sessions.

    The lowest baseline of every table: improvements over it come from the session.

    Args:
        num_items: Items of the catalog.
    """

    traits = Traits(
        architecture="counts of clicks",
        parallel=True,
        reach="none",
        side_features=False,
        best_for="the floor under every table, and sessions without a known click",
    )

    def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
        """Shares of training clicks, float64 [num_sessions, num_items] or [num_sessions, C]."""
        share = self.popularity()
        if items is not None:
            share = share[items]
        if share.dim() == 2:
            return share
        return share.repeat(batch.num_graphs, 1)

    def evidence(self, batch: Batch) -> Evidence:
        """No evidence: all items are scored by popularity."""
        none = csr_matrix((int(batch.num_graphs), self.num_items), dtype=np.float64)
        return Evidence([none], backoff=1.0)
