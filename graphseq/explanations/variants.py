"""One session, many times over, with clicks left out or in another order, and its scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.models.base import SessionModel
from graphseq.models.use.inference import inference

MAX_SCORES = 2**22
"""Scores held at once."""

MOST_SESSIONS = 512
"""Variants scored at once."""

MOST_REFERENCES = 4096
"""Items of a larger catalog whose mean score an item's is compared with, spread evenly."""


@dataclass(frozen=True)
class Scores:
    """What a model gives an item after each variant of a session.

    Attributes:
        margin: Its score above the mean of the catalog, float64 [m].
        rank: Its place among all items, 1 for the best, int64 [m].
    """

    margin: NDArray[np.float64]
    rank: NDArray[np.int64]


def variants_of(batch: Batch, orders: Sequence[NDArray[np.int64]]) -> Batch:
    """Graphs of a session whose clicks are these places of it, in this order.

    Items and features go along with their click. Times stay sorted: a click that changes places
    with the next one takes its time.

    Args:
        batch: The graph of one session.
        orders: Places of clicks, int64 [at least 1] each.
    """
    place = torch.from_numpy(np.concatenate(orders))
    in_order = torch.from_numpy(np.concatenate([np.sort(order) for order in orders]))
    ptr = torch.from_numpy(np.cumsum([0, *map(len, orders)], dtype=np.int64))
    fields = {
        name: values.cpu()[in_order if name == "click_time" else place]
        for name, values in batch.to_dict().items()
        if name.startswith("click_") and name != "click_index"
    }
    session = {
        name: batch[name].cpu().expand(len(orders))
        for name in ("user", "request_time")
        if name in batch
    }
    items = batch.click_item.cpu()[place]
    return build_session_graphs(items, ptr, click_fields=fields, session_fields=session)


def score_variants(
    model: SessionModel, batch: Batch, orders: Sequence[NDArray[np.int64]], item: int
) -> Scores:
    """The scores of one item after each variant of a session.

    Args:
        model: Any model.
        batch: The graph of the session.
        orders: As in :func:`variants_of`.
        item: Code of the item.
    """
    at_once = max(1, min(MOST_SESSIONS, MAX_SCORES // model.num_items))
    parts = []
    with inference(model):
        for start in range(0, len(orders), at_once):
            graphs = variants_of(batch, orders[start : start + at_once]).to(model.device)
            parts.append(margin_and_rank(model.score(graphs), item))
    margin, rank = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Scores(margin, rank)


def margin_and_rank(scores: Tensor, item: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """An item's score above the mean, and its place, ties in the order of codes: [m] each."""
    own = scores[:, item : item + 1]
    before = (scores > own).sum(1) + (scores[:, :item] == own).sum(1)
    return margins(scores, own.squeeze(1)).cpu().numpy().astype(np.float64), (
        1 + before
    ).cpu().numpy()


def margins(scores: Tensor, own: Tensor) -> Tensor:
    """Scores [m] above the mean of all finite scores [m, num_items]; of large catalogs of some."""
    among = scores[:, references(scores.size(1), scores.device)]
    finite = among.isfinite()
    mean = among.where(finite, 0).sum(1) / finite.sum(1).clamp(min=1)
    lowest = among.where(finite, torch.inf).amin(1)
    # An item that is not recommended at all stands as low as the lowest that is.
    own = torch.where(own.isfinite(), own, torch.where(lowest.isfinite(), lowest, mean))
    margin: Tensor = own - mean
    return margin


def references(num_items: int, device: Any, most: int = MOST_REFERENCES) -> Tensor:
    """Codes whose mean score stands for the catalog, spread evenly."""
    if num_items <= most:
        return torch.arange(num_items, device=device)
    return torch.linspace(0, num_items - 1, most, device=device, dtype=torch.float64).long()
