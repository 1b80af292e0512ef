"""PyG transforms of session graphs: from this package, from PyG and your own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch_geometric.data import Batch
from torch_geometric.transforms import BaseTransform, Compose
from torch_geometric.utils import coalesce, remove_self_loops

from graphseq.arguments import check_precise
from graphseq.data.graphs.session_graph import SessionGraph, with_edges
from graphseq.data.logs.times import Duration, half_life_of

Transform = Callable[[Any], Any]


class EdgeTransform(BaseTransform):
    """A transform of edges only; edges of one graph must stay adjacent, with graphs in order."""

    def forward(self, data: SessionGraph) -> SessionGraph:
        return with_edges(data, *self.edges(data))

    def edges(self, data: SessionGraph) -> tuple[Tensor, Tensor]:
        """The new ``edge_index`` [2, n] and ``edge_weight`` [n]."""
        raise NotImplementedError(f"{type(self).__name__} defines no edges(data).")


class RemoveSelfLoops(EdgeTransform):
    """Removes transitions from an item to itself."""

    def edges(self, data: SessionGraph) -> tuple[Tensor, Tensor]:
        edge_index, edge_weight = remove_self_loops(data.edge_index, data.edge_weight)
        return edge_index, edge_weight


class AddReverseEdges(EdgeTransform):
    """Adds each transition's reverse; if both directions already exist, their weights are added."""

    def edges(self, data: SessionGraph) -> tuple[Tensor, Tensor]:
        both = torch.cat([data.edge_index, data.edge_index.flip(0)], dim=1)
        # A loop is its own reverse and is not doubled.
        weight = data.edge_weight.where(data.edge_index[0] != data.edge_index[1], 0)
        edge_index, edge_weight = coalesce(
            both, torch.cat([data.edge_weight, weight]), num_nodes=data.num_nodes, reduce="sum"
        )
        return edge_index, edge_weight


class DecayedWeights(EdgeTransform):
    r"""Weights each transition by its age, :math:`\sum_t 2^{-\text{age}(t) / \text{half life}}`.

    The age of a transition is the age of its later click, counted from the last click of its
    session: in seconds (``click_time``) or in clicks.

    Args:
        half_life: Age at which a transition counts half, in ``unit``; for seconds also text as
            ``"30min"`` or a timedelta.
        unit: ``"seconds"`` or ``"clicks"``.

    Raises:
        ValueError: If ``half_life`` is not positive, the unit is unknown, or the unit is seconds
            and graphs have no ``click_time``, or one that is rounded to more than a second.
    """

    def __init__(self, half_life: Duration, unit: Literal["seconds", "clicks"] = "seconds") -> None:
        if unit not in ("seconds", "clicks"):
            raise ValueError(f"unit is 'seconds' or 'clicks', got {unit!r}.")
        number = half_life_of(half_life, unit=unit)
        if number is None:
            raise ValueError("DecayedWeights needs a half_life, got None.")
        self.half_life = number
        self.unit = unit

    def edges(self, data: SessionGraph) -> tuple[Tensor, Tensor]:
        session, ptr = data.click_batch, data.click_ptr
        if self.unit == "clicks":
            at = torch.arange(session.numel(), device=session.device).double()
        elif data.get("click_time") is not None:
            check_precise("click_time", data.click_time)
            at = data.click_time.double()
        else:
            raise ValueError(
                "Weights that decay in seconds need click_time, which these graphs lack: build "
                "Sessions with time=..., or use unit='clicks'."
            )
        weight = torch.exp2((at - at[ptr[1:] - 1][session]) / self.half_life)  # [num_clicks]
        within = session[1:] == session[:-1]
        source, target = data.click_index[:-1][within], data.click_index[1:][within]
        # Each transition finds its edge; a transition without an edge adds nothing.
        size = data.num_nodes
        key = data.edge_index[0] * size + data.edge_index[1]
        sorted_key, order = key.sort()
        wanted = source * size + target
        place = torch.searchsorted(sorted_key, wanted).clamp(max=max(key.numel() - 1, 0))
        edge_weight = torch.zeros(key.numel(), dtype=torch.float64, device=key.device)
        if key.numel():
            found = sorted_key[place] == wanted
            edge_weight.index_add_(0, order[place[found]], weight[1:][within][found])
        return data.edge_index, edge_weight.to(data.edge_weight.dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.half_life}, unit={self.unit!r})"


def transformed(transform: Transform, graph: SessionGraph) -> SessionGraph:
    """Applies a transform to a session graph or a batch.

    Args:
        transform: The transform; an :class:`EdgeTransform` gets a batch as a whole, others graph by
            graph.
        graph: One session graph, or a batch.

    Raises:
        ValueError: If the result is not a session graph that a model can read.
    """
    parts = transform.transforms if isinstance(transform, Compose) else [transform]
    if not isinstance(graph, Batch) or all(isinstance(part, EdgeTransform) for part in parts):
        return _checked(transform, graph)
    graphs = [_checked(transform, single) for single in graph.to_data_list()]
    whole: SessionGraph = Batch.from_data_list(graphs) if graphs else graph
    return whole


def _checked(transform: Transform, graph: SessionGraph) -> SessionGraph:
    """The result of a transform; raises if its fields do not match."""
    x, place, item = graph.x, graph.click_index, graph.click_item
    name = repr(transform) if isinstance(transform, BaseTransform) else _name(transform)
    new = transform(graph)
    if not isinstance(new, SessionGraph):
        raise ValueError(
            f"The transform {name} gave {type(new).__name__}: one of session graphs returns the "
            "SessionGraph that it was given, changed."
        )
    for field in ("x", "edge_index", "edge_weight", "click_index"):
        if new.get(field) is None:
            raise ValueError(
                f"The transform {name} took {field} away, which models read: leave it as it is, "
                "and give new fields names that are not taken."
            )
    if new.x.dtype != torch.long or new.x.dim() != 1:
        raise ValueError(
            f"The transform {name} made x {new.x.dtype} {list(new.x.shape)}, but x is the item of "
            "each node, int64 [num_nodes]: give features of nodes another name, as node_degree."
        )
    num_nodes, num_edges, clicks = len(new.x), new.edge_index.size(-1), new.click_index
    gone = clicks.numel() == 0 or int(clicks.max()) >= num_nodes
    if not gone and torch.equal(clicks, place) and not torch.equal(new.x[clicks], item):
        gone = num_nodes < len(x) or torch.equal(new.x.sort().values, x.sort().values)
    if gone:
        raise ValueError(
            f"The transform {name} took nodes away or renumbered them, and click_index still has "
            "the old numbers: leave it out, or use graph.subgraph(nodes), which takes clicks along."
        )
    if num_edges and not 0 <= int(new.edge_index.min()) <= int(new.edge_index.max()) < num_nodes:
        raise ValueError(
            f"The transform {name} made an edge to node {int(new.edge_index.max())}, but nodes are "
            f"0..{num_nodes - 1}: let each node have its item in x."
        )
    sizes = {"edge_weight": num_edges, "user": new.num_graphs, "request_time": new.num_graphs}
    sizes |= dict.fromkeys([k for k in new.keys() if k.startswith("click_")], len(clicks))  # noqa: SIM118 (PyG's Data is no mapping)
    for field, size in sizes.items():
        if field in new and len(new[field]) != size:
            raise ValueError(
                f"The transform {name} left {field} with {len(new[field])} values, {size} are "
                "wanted: one for each edge, click or session, as its name says."
            )
    if "y" in new and len(new.y) not in (new.num_graphs, len(clicks)):
        raise ValueError(
            f"The transform {name} left {len(new.y)} targets y for {len(clicks)} clicks: a session "
            "has one, or one for each click."
        )
    return new


def _name(transform: Transform) -> str:
    return str(getattr(transform, "__name__", type(transform).__name__))
