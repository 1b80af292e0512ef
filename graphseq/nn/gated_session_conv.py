"""The gated graph layer of SR-GNN as sparse message passing over a batch of session graphs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import GRUCell, Linear, Parameter
from torch_geometric.utils import scatter

from graphseq.arguments import check_sizes
from graphseq.nn.ragged import sum_by_group
from graphseq.nn.session_conv import SessionConv


class GatedSessionConv(SessionConv):
    r"""Gated propagation along and against transitions (Wu et al., AAAI 2019, eq. 1-5).

    .. math::
        m &= [A_{in} (W_{in} h + b_{in}) + c_{in}, \; A_{out} (W_{out} h + b_{out}) + c_{out}] \\
        h' &= \mathrm{GRU}(m, h)

    with both matrices row-normalized: the incoming (outgoing) weights of a node sum to one. A node
    without incoming (outgoing) transitions receives only :math:`c`. All steps share parameters.

    Args:
        hidden_channels: Width ``d`` of node states.
        num_layers: Number of propagation steps.

    Shapes:
        h [num_nodes, d], edge_index [2, num_edges], edge_weight [num_edges] -> [num_nodes, d]

    Raises:
        ValueError: If a size is not positive.
    """

    def __init__(self, hidden_channels: int, num_layers: int = 1) -> None:
        super().__init__(aggr="add", node_dim=0)
        check_sizes(hidden_channels=hidden_channels, num_layers=num_layers)
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.lin_in = Linear(hidden_channels, hidden_channels)  # W_in, b_in
        self.lin_out = Linear(hidden_channels, hidden_channels)  # W_out, b_out
        self.bias_in = Parameter(torch.empty(hidden_channels))  # c_in
        self.bias_out = Parameter(torch.empty(hidden_channels))  # c_out
        self.gru = GRUCell(2 * hidden_channels, hidden_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        bound = self.hidden_channels**-0.5
        for parameter in self.parameters():
            torch.nn.init.uniform_(parameter, -bound, bound)

    def forward(self, h: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        """States after all steps, [num_nodes, d]."""
        source, target = edge_index
        against = edge_index.flip(0)
        in_weight = scatter(edge_weight, target, dim_size=h.size(0))  # [num_nodes]
        out_weight = scatter(edge_weight, source, dim_size=h.size(0))  # [num_nodes]
        kind = self.bias_in.dtype  # weights come in float32: sums of counts need its bits
        a_in = (edge_weight / in_weight[target]).to(kind)  # A_in: [num_edges]
        a_out = (edge_weight / out_weight[source]).to(kind)  # A_out: [num_edges]
        for _ in range(self.num_layers):
            m_in = self.propagate(edge_index, h=self.lin_in(h), norm=a_in) + self.bias_in
            m_out = self.propagate(against, h=self.lin_out(h), norm=a_out) + self.bias_out
            m = torch.cat([m_in, m_out], dim=-1)  # [num_nodes, 2d]
            h = self.gru(m, h)  # [num_nodes, d]
        return h

    def message(self, h_j: Tensor, norm: Tensor) -> Tensor:
        return norm.view(-1, 1) * h_j

    def aggregate(self, inputs: Tensor, index: Tensor, dim_size: int) -> Tensor:
        # The backward pass of PyG's own sum would gather single numbers instead of rows.
        return sum_by_group(inputs, index, dim_size)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.hidden_channels}, num_layers={self.num_layers})"
