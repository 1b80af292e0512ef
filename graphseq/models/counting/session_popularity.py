"""Session popularity: the most clicked items of the session, then popular items."""

from __future__ import annotations

import torch
from torch_geometric.data import Batch

from graphseq.models.base import Traits
from graphseq.models.counting.counting import CountingModel, Evidence
from graphseq.models.registry import register


@register("session_popularity")
class SessionPopularity(CountingModel):
    r"""Items by their clicks in the current session; equal counts by popularity.

    .. math::
        \hat y_{sj} = n_s(j) + \frac{c_j}{N + 1}

    with :math:`n_s(j)` the clicks of the session on the item, :math:`c_j` its training clicks and
    :math:`N` all training clicks. Popularity adds less than one click, so that it only decides
    between items of equal count, and orders all items that the session did not click. S-POP in the
    tables of Hidasi et al. (ICLR 2016) and Wu et al. (AAAI 2019).

    Args:
        num_items: Items of the catalog.
    """

    traits = Traits(
        architecture="counts of the session's own clicks",
        parallel=True,
        reach="whole session",
        side_features=False,
        best_for="telling how much of a score is repetition",
    )

    def evidence(self, batch: Batch) -> Evidence:
        """Clicks in the session, plus a share of training clicks below one."""
        clicks = torch.bincount(batch.click_index, minlength=batch.x.numel())  # [num_nodes]
        total = int(self.item_counts.sum())  # N
        return Evidence([self.of_own_items(batch, clicks.double())], backoff=total / (total + 1))
