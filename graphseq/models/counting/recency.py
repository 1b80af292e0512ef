"""Recency: the items of the session, newest first, then popular items."""

from __future__ import annotations

from torch_geometric.data import Batch

from graphseq.models.base import Traits
from graphseq.models.counting.counting import CountingModel, Evidence, last_visit
from graphseq.models.registry import register


@register("recency")
class Recency(CountingModel):
    r"""Items of the session by the recency of their last click, then all others by popularity.

    .. math::
        \hat y_{sj} =
            \begin{cases} 1 + 1 / a_s(j) & \text{if the session clicked } j \\
            c_j / N & \text{else} \end{cases}

    with :math:`a_s(j)` the number of clicks from the last one on the item to the end of the
    session, 1 for the newest, and :math:`c_j / N` the item's share of training clicks.

    Args:
        num_items: Items of the catalog.
    """

    traits = Traits(
        architecture="the session's own clicks, newest first",
        parallel=True,
        reach="whole session",
        side_features=False,
        best_for="logs in which people return to what they just saw",
    )

    def evidence(self, batch: Batch) -> Evidence:
        """Above 1 for items of the session, shares of training clicks for all others."""
        share = self.popularity()[batch.x]  # [num_nodes]
        value = 1 + 1 / last_visit(batch).double() - share  # the backoff adds it to all
        return Evidence([self.of_own_items(batch, value)], backoff=1.0)
