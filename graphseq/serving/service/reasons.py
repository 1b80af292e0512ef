"""Why an item is recommended: what its score loses without a click or a transition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch_geometric.data import Batch

from graphseq.models.base import SessionModel
from graphseq.models.use.inference import inference
from graphseq.models.use.recommend import item_vocabulary
from graphseq.models.use.requests import Queries
from graphseq.ragged import ptr_of
from graphseq.serving.item_vectors import Codes

MOST_CLICKS = 50
"""The newest clicks, which are left out one by one."""


@dataclass(frozen=True)
class Reasons:
    """What the lead of an item over the mean of all items loses, in units of the model's scores.

    Args:
        clicks: Position in the session, and the loss without the click there.
        edges: Items ``from`` and ``to``, and the loss without this edge of the session graph; zero
            for every edge where the family reads no edges.
    """

    clicks: list[tuple[int, float]]
    edges: list[tuple[Any, Any, float]]


def reasons_of(
    model: SessionModel, session: Sequence[Any], item: Any, times: Sequence[float] | None = None
) -> Reasons:
    """Leaves out each click and each edge of a session once, all in two batches.

    Args:
        model: Any model.
        session: Item ids, oldest first; unknown ones have no part in it.
        item: The item that is asked about.
        times: The time of each click, for a model that reads them.

    Raises:
        ValueError: If the model does not know the item, or there is not one time per click.
    """
    vocabulary = item_vocabulary(model)
    codes = np.asarray(vocabulary.encode(list(session)), dtype=np.int64)
    wanted = int(vocabulary.encode([item])[0])
    if wanted < 0:
        raise ValueError(f"item {item!r:.60} is none that the model knows.")
    if times is not None and len(times) != len(codes):
        raise ValueError(f"times has one number per click, {len(codes)}, got {len(times)}.")
    places = np.flatnonzero(codes >= 0)[-MOST_CLICKS:]
    at = None if times is None else np.array(times, dtype=np.float64)[places]
    clicks = _Clicks(codes[places], at)
    if len(places) == 0:
        return Reasons([], [])
    with inference(model):
        whole = _leads(model, _batch(model, [clicks]), wanted)[0]
        without = [clicks.without(place) for place in range(len(places))]
        # Nothing is known without the only click: then no item leads.
        left = _leads(model, _batch(model, without), wanted) if len(places) > 1 else np.zeros(1)
        by_click = [
            (int(place), float(whole - lead)) for place, lead in zip(places, left, strict=True)
        ]
        graph = _batch(model, [clicks])
        source, target = graph.x.numpy()[graph.edge_index.numpy()]
        by_edge: list[tuple[Any, Any, float]] = []
        if len(source):
            losses = whole - _leads(model, _without_edges(model, clicks, len(source)), wanted)
            pairs = vocabulary.decode(source), vocabulary.decode(target)
            by_edge = list(zip(*pairs, losses.tolist(), strict=True))
    return Reasons(by_click, by_edge)


@dataclass(frozen=True, eq=False)
class _Clicks:
    """Clicks of a session: items, and times where they are read."""

    items: Codes
    times: NDArray[np.float64] | None

    def without(self, place: int) -> _Clicks:
        times = None if self.times is None else np.delete(self.times, place)
        return _Clicks(np.delete(self.items, place), times)


def _batch(model: SessionModel, sessions: Sequence[_Clicks]) -> Batch:
    """Graphs of sessions of known items, none of them empty."""
    n, catalog = len(sessions), model.catalog
    nobody = None if catalog is None or catalog.users is None else np.full(n, -1)
    ptr = ptr_of([len(session.items) for session in sessions])
    times = [session.times for session in sessions if session.times is not None]
    fields = {"click_time": np.concatenate(times)} if times else {}
    items = np.concatenate([session.items for session in sessions])
    queries = Queries(items, ptr, fields, nobody, np.arange(n))
    batch, _ = queries.batch(0, n)
    assert batch is not None
    return batch


def _without_edges(model: SessionModel, clicks: _Clicks, num_edges: int) -> Batch:
    """One copy of a session per edge, without that edge."""
    batch = _batch(model, [clicks] * num_edges)
    gone = torch.arange(num_edges) * (num_edges + 1)  # edge e of copy e
    kept = torch.ones(batch.edge_index.size(1), dtype=torch.bool)
    kept[gone] = False
    batch.edge_index = batch.edge_index[:, kept]
    batch.edge_weight = batch.edge_weight[kept]
    return batch


def _leads(model: SessionModel, batch: Batch, item: int) -> NDArray[np.float64]:
    """By how much an item's score is above the mean of all items, [num_sessions]."""
    scores = model.score(batch.to(model.device)).double().cpu()
    finite = scores.isfinite()
    mean = torch.where(finite, scores, 0).sum(1) / finite.sum(1).clamp(min=1)
    lead = scores[:, item] - mean
    return np.asarray(torch.where(lead.isfinite(), lead, 0.0).numpy())
