"""PyG transforms of session graphs that work on single graphs and on batches alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import BaseTransform, Compose
from torch_geometric.utils import coalesce, remove_self_loops

from graphseq.data.logs.times import Duration, half_life_of

Transform = Callable[[Any], Any]


class EdgeTransform(BaseTransform):
    """A transform of edges alone; edges of one graph must stay together, graphs in order."""

    def forward(self, data: Data) -> Data:
        data.edge_index, data.edge_weight = self.edges(data)
        if isinstance(data, Batch):
            graph = data.batch[data.edge_index[0]]
            count = torch.bincount(graph, minlength=data.num_graphs)
            edge_ptr = torch.nn.functional.pad(count.cumsum(0), (1, 0))
            # PyG keeps these beside the tensors to take a batch apart again.
            data._slice_dict = {**data._slice_dict, "edge_index": edge_ptr, "edge_weight": edge_ptr}
        return data

    def edges(self, data: Data) -> tuple[Tensor, Tensor]:
        """The new ``edge_index`` [2, n] and ``edge_weight`` [n]."""
        raise AttributeError(f"{type(self).__name__} defines no edges(data).")


class RemoveSelfLoops(EdgeTransform):
    """Removes transitions from an item to itself."""

    def edges(self, data: Data) -> tuple[Tensor, Tensor]:
        edge_index, edge_weight = remove_self_loops(data.edge_index, data.edge_weight)
        return edge_index, edge_weight


class AddReverseEdges(EdgeTransform):
    """Adds each transition's reverse; where both ways exist already, their weights add up."""

    def edges(self, data: Data) -> tuple[Tensor, Tensor]:
        both = torch.cat([data.edge_index, data.edge_index.flip(0)], dim=1)
        # A loop is its own reverse and is not made twice.
        weight = data.edge_weight.where(data.edge_index[0] != data.edge_index[1], 0)
        edge_index, edge_weight = coalesce(
            both, torch.cat([data.edge_weight, weight]), num_nodes=data.num_nodes, reduce="sum"
        )
        return edge_index, edge_weight


class DecayedWeights(EdgeTransform):
    r"""Weights each transition by its age, :math:`\sum_t 2^{-\text{age}(t) / \text{half life}}`.

    The age of a transition is that of its later click, counted back from the last click of its
    session: in seconds (``click_time``) or in clicks.

    Args:
        half_life: Age at which a transition counts half, in ``unit``; of seconds also text as
            ``"30min"`` or a timedelta.
        unit: ``"seconds"`` or ``"clicks"``.

    Raises:
        ValueError: If ``half_life`` is not positive, the unit is another, or seconds are asked of
            graphs without ``click_time``.
    """

    def __init__(self, half_life: Duration, unit: Literal["seconds", "clicks"] = "seconds") -> None:
        if unit not in ("seconds", "clicks"):
            raise ValueError(f"unit is 'seconds' or 'clicks', got {unit!r}.")
        number = half_life_of(half_life, unit=unit)
        if number is None:
            raise ValueError("DecayedWeights needs a half_life, got None.")
        self.half_life = number
        self.unit = unit

    def edges(self, data: Data) -> tuple[Tensor, Tensor]:
        session, ptr = data.click_batch, data.click_ptr
        if self.unit == "clicks":
            at = torch.arange(session.numel(), device=session.device).double()
        elif data.get("click_time") is not None:
            at = data.click_time.double()
        else:
            raise ValueError(
                "Weights that decay in seconds need click_time, which these graphs lack: build "
                "Sessions with time=..., or use unit='clicks'."
            )
        weight = torch.exp2((at - at[ptr[1:] - 1][session]) / self.half_life)  # [num_clicks]
        within = session[1:] == session[:-1]
        source, target = data.click_index[:-1][within], data.click_index[1:][within]
        # Each transition finds its edge; one whose edge was removed before adds nothing.
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


def apply_to_batch(transform: Transform, batch: Batch) -> Batch:
    """The batch of transformed graphs: at once for edge transforms, else graph by graph."""
    parts = transform.transforms if isinstance(transform, Compose) else [transform]
    if all(isinstance(part, EdgeTransform) for part in parts):
        transformed: Batch = transform(batch)
        return transformed
    return Batch.from_data_list([transform(graph) for graph in batch.to_data_list()])
