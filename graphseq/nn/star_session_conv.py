"""SGNN-HN's layer: gated propagation with a star node that all nodes of a session share."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Linear
from torch_geometric.utils import softmax

from graphseq.arguments import check_sizes
from graphseq.nn.gated_session_conv import GatedSessionConv
from graphseq.nn.ragged import sum_by_group
from graphseq.nn.readouts import reset_uniform


class StarSessionConv(torch.nn.Module):
    r"""Propagation with a star node and a highway (Pan et al., CIKM 2020, eq. 4-12).

    The star node starts as the mean of its session's nodes. A step passes messages along and
    against transitions (:class:`GatedSessionConv`), mixes each node with the star node, and the
    star node attends to all nodes:

    .. math::
        h' &= \mathrm{gated}(h), \quad a_i = \sigma(h_i'^\top s / \sqrt d), \quad
        h_i'' = (1 - a_i) h_i' + a_i s \\
        s' &= \sum_i \mathrm{softmax}_i(h_i''^\top s) \, h_i''

    After all steps the highway mixes the first and the last state of a node:

    .. math::
        g = \sigma(W_g [h^0 ; h^L] + b_g), \quad h = g \odot h^0 + (1 - g) \odot h^L

    As in the authors' code, and unlike the paper: :math:`a` and the star node's attention have no
    projections, the star node's attention has no scaling, and :math:`W_g` has a bias.

    Args:
        hidden_channels: Width ``d`` of node states.
        num_layers: Number of steps; all steps share their parameters.

    Shapes:
        h [num_nodes, d], edge_index [2, num_edges], edge_weight [num_edges], batch [num_nodes]
        -> [num_nodes, d] and [num_sessions, d]

    Raises:
        ValueError: If a size is not positive.
    """

    def __init__(self, hidden_channels: int, num_layers: int = 1) -> None:
        super().__init__()
        check_sizes(num_layers=num_layers)
        self.num_layers = num_layers
        self.conv = GatedSessionConv(hidden_channels)
        self.lin_highway = Linear(2 * hidden_channels, hidden_channels)  # W_g, b_g
        self.reset_parameters()

    def reset_parameters(self) -> None:
        reset_uniform(self, self.conv.hidden_channels)

    def forward(
        self,
        h: Tensor,
        edge_index: Tensor,
        edge_weight: Tensor,
        batch: Tensor,
        num_sessions: int,
    ) -> tuple[Tensor, Tensor]:
        """Node states after all steps and the highway, and the star nodes' states.

        Args:
            h: [num_nodes, d].
            edge_index: [2, num_edges].
            edge_weight: [num_edges].
            batch: The session of each node, int64 [num_nodes].
            num_sessions: Number of sessions.

        Returns:
            [num_nodes, d] and [num_sessions, d].
        """
        first = h
        nodes = torch.bincount(batch, minlength=num_sessions).unsqueeze(1)
        star = sum_by_group(h, batch, num_sessions) / nodes  # s: [num_sessions, d]
        for _ in range(self.num_layers):
            h = self.conv(h, edge_index, edge_weight)
            near = star.index_select(0, batch)  # s of each node: [num_nodes, d]
            a = ((h * near).sum(1, keepdim=True) / h.size(1) ** 0.5).sigmoid()  # [num_nodes, 1]
            h = (1 - a) * h + a * near
            logits = (h * near).sum(1, keepdim=True)
            weight = softmax(logits, batch, num_nodes=num_sessions)  # [num_nodes, 1]
            star = sum_by_group(weight * h, batch, num_sessions)
        gate = self.lin_highway(torch.cat([first, h], dim=1)).sigmoid()  # g: [num_nodes, d]
        return gate * first + (1 - gate) * h, star

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}({self.conv.hidden_channels}, num_layers={self.num_layers})"
