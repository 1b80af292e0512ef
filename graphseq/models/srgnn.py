"""SR-GNN: session-based recommendation with graph neural networks (Wu et al., AAAI 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import Embedding, Linear
from torch_geometric.data import Batch
from torch_geometric.utils import segment

from graphseq.data.session_graph import newest_clicks
from graphseq.models.base import SessionModel, TrainedOn, Traits
from graphseq.nn.gated_session_conv import GatedSessionConv


class SRGNNReadout(torch.nn.Module):
    r"""Session vectors of SR-GNN (Wu et al., AAAI 2019, eq. 6-7): attention without softmax.

    .. math::
        \alpha_i = q^\top \sigma(W_1 v_n + W_2 v_i + c), \quad
        s_g = \sum_i \alpha_i v_i, \quad s = W_3 [s_g ; v_n]

    The sum runs over clicks, so that a repeated item counts each time. As in the authors' program,
    and unlike the paper, :math:`W_1` and :math:`W_3` have a bias.

    Args:
        hidden_channels: Width ``d`` of node states and session vectors.
        hybrid: Whether the last click joins the session vector; if not, ``s = s_g``.

    Shapes:
        h [num_nodes, d], index and batch [num_clicks], ptr [num_sessions + 1] -> [num_sessions, d]
    """

    def __init__(self, hidden_channels: int, hybrid: bool = True) -> None:
        super().__init__()
        self.lin_last = Linear(hidden_channels, hidden_channels)  # W1 (bias: program only)
        self.lin_click = Linear(hidden_channels, hidden_channels)  # W2, c
        self.lin_score = Linear(hidden_channels, 1, bias=False)  # q
        # W3 (bias: program only)
        self.lin_out = Linear(2 * hidden_channels, hidden_channels) if hybrid else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        bound = self.lin_last.in_features**-0.5
        for parameter in self.parameters():
            torch.nn.init.uniform_(parameter, -bound, bound)

    def forward(self, h: Tensor, index: Tensor, batch: Tensor, ptr: Tensor) -> Tensor:
        last = index[ptr[1:] - 1]  # [num_sessions], no session is empty
        v_last = h[last]  # v_n: [num_sessions, d]
        # W2 v_i is the same for every click on a node, so it is taken node by node.
        gate = (
            self.lin_last(v_last)[batch] + self.lin_click(h)[index]
        ).sigmoid()  # [num_clicks, d]
        alpha = self.lin_score(gate)  # [num_clicks, 1]
        s_global = segment(alpha * h[index], ptr, reduce="sum")  # s_g: [num_sessions, d]
        if self.lin_out is None:
            return s_global
        session: Tensor = self.lin_out(torch.cat([s_global, v_last], dim=-1))  # s
        return session  # [num_sessions, d]

    def __repr__(self) -> str:
        hybrid = self.lin_out is not None
        return f"{type(self).__name__}({self.lin_last.in_features}, hybrid={hybrid})"


class SRGNN(SessionModel):
    r"""Scores of SR-GNN (Wu et al., AAAI 2019): :math:`\hat z_j = s^\top e_j`.

    Node states come from :class:`~graphseq.nn.gated_session_conv.GatedSessionConv`, session vectors
    from :class:`SRGNNReadout`; every parameter starts uniform in :math:`\pm d^{-1/2}`.

    The authors' program counts a repeated transition once; here transitions weigh by their count
    unless ``edge_weight="binary"``, which :meth:`from_published` sets. The program keeps a padding
    item 0; here there is none.

    Args:
        num_items: Items of the catalogue.
        hidden_channels: Width ``d`` of embeddings and states.
        num_layers: Steps of propagation.
        edge_weight: ``"count"`` or ``"binary"``.
        hybrid: Whether the last click joins the session vector.
        max_length: Newest clicks that make the graph, for histories of hundreds; ``None``: all.

    Raises:
        ValueError: If a size is not positive or ``edge_weight`` is neither.
    """

    traits: ClassVar[Traits] = Traits(
        architecture="gated graph network, attention over clicks",
        parallel=True,
        reach="whole session",
        side_features=False,
        best_for="sessions with repeats and loops",
    )
    trained_on: ClassVar[TrainedOn] = "prefixes"

    def __init__(
        self,
        num_items: int,
        hidden_channels: int = 100,
        num_layers: int = 1,
        *,
        edge_weight: Literal["count", "binary"] = "count",
        hybrid: bool = True,
        max_length: int | None = None,
    ) -> None:
        super().__init__(num_items)
        if max_length is not None and max_length < 1:
            raise ValueError(f"max_length must be at least 1, got {max_length}: None cuts nothing.")
        if edge_weight not in ("count", "binary"):
            raise ValueError(f"edge_weight is 'count' or 'binary', got {edge_weight!r}.")
        self.conv = GatedSessionConv(hidden_channels, num_layers)
        self.readout = SRGNNReadout(hidden_channels, hybrid)
        self.embedding = Embedding(num_items, hidden_channels)
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.edge_weight = edge_weight
        self.hybrid = hybrid
        self.max_length = max_length
        self.reset_parameters()

    def reset_parameters(self) -> None:
        bound = self.hidden_channels**-0.5
        torch.nn.init.uniform_(self.embedding.weight, -bound, bound)
        self.conv.reset_parameters()
        self.readout.reset_parameters()

    @classmethod
    def from_published(
        cls, parameters: Mapping[str, Any], num_layers: int = 1, hybrid: bool = True
    ) -> SRGNN:
        """The model with the weights of the authors' program.

        Args:
            parameters: Name in the program -> array; row 0 of ``embedding.weight`` is its padding.
            num_layers: The program's ``step``.
            hybrid: Whether the program ran without ``nonhybrid``.

        Raises:
            ValueError: If a parameter is missing.
        """
        absent = sorted(set(PUBLISHED_NAMES) - set(parameters))
        if absent:
            raise ValueError(f"The weights of SR-GNN's program lack {', '.join(absent)}.")
        state = {
            ours: torch.as_tensor(parameters[name])
            for name, ours in PUBLISHED_NAMES.items()
            if hybrid or not ours.startswith("readout.lin_out")
        }
        state["embedding.weight"] = state["embedding.weight"][1:]
        num_items, hidden_channels = state["embedding.weight"].shape
        model = cls(num_items, hidden_channels, num_layers, edge_weight="binary", hybrid=hybrid)
        model.load_state_dict(state)
        return model

    def forward(self, batch: Batch) -> Tensor:
        """Session vectors ``s``, [num_sessions, d]."""
        if self.max_length is not None:
            batch = newest_clicks(batch, self.max_length)
        weight = batch.edge_weight
        if self.edge_weight == "binary":
            weight = torch.ones_like(weight)
        h = self.embedding(batch.x)  # [num_nodes, d]
        h = self.conv(h, batch.edge_index, weight)  # [num_nodes, d]
        session: Tensor = self.readout(h, batch.click_index, batch.click_batch, batch.click_ptr)
        return session  # [num_sessions, d]

    def item_weight(self) -> Tensor:
        return self.embedding.weight

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.num_items}, {self.hidden_channels}, "
            f"num_layers={self.num_layers})"
        )


PUBLISHED_NAMES = {
    "embedding.weight": "embedding.weight",
    "gnn.linear_edge_in.weight": "conv.lin_in.weight",
    "gnn.linear_edge_in.bias": "conv.lin_in.bias",
    "gnn.linear_edge_out.weight": "conv.lin_out.weight",
    "gnn.linear_edge_out.bias": "conv.lin_out.bias",
    "gnn.b_iah": "conv.bias_in",
    "gnn.b_oah": "conv.bias_out",
    "gnn.w_ih": "conv.gru.weight_ih",
    "gnn.w_hh": "conv.gru.weight_hh",
    "gnn.b_ih": "conv.gru.bias_ih",
    "gnn.b_hh": "conv.gru.bias_hh",
    "linear_one.weight": "readout.lin_last.weight",
    "linear_one.bias": "readout.lin_last.bias",
    "linear_two.weight": "readout.lin_click.weight",
    "linear_two.bias": "readout.lin_click.bias",
    "linear_three.weight": "readout.lin_score.weight",
    "linear_transform.weight": "readout.lin_out.weight",
    "linear_transform.bias": "readout.lin_out.bias",
}
"""Parameters in the authors' program -> here; its ``linear_edge_f`` is never used."""
