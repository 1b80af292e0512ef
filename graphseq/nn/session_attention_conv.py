"""The session layer of GCE-GNN: attention over incoming, outgoing and two-way transitions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import leaky_relu
from torch_geometric.utils import softmax

from graphseq.arguments import check_sizes
from graphseq.nn.ragged import sum_by_group
from graphseq.nn.session_conv import SessionConv

SLOPE = 0.2
"""Slope of the LeakyReLU below zero, as in the authors' code."""

ITSELF, LEAVES, ENTERS, BOTH = range(4)


class SessionAttentionConv(SessionConv):
    r"""Attention over the neighbors in a session graph (Wang et al., SIGIR 2020, eq. 6-8).

    .. math::
        e_{ij} = \mathrm{LeakyReLU}\big(a_{r_{ij}}^\top (h_i \odot h_j)\big), \quad
        h_i' = \sum_j \mathrm{softmax}_j(e_{ij}) \, h_j

    over the node itself and every node one transition away. :math:`a_r` is one of four vectors,
    depending on whether :math:`j` is the node itself, follows it, comes before it, or both. How
    often a transition occurs does not matter.

    Args:
        hidden_channels: Width ``d`` of node states.

    Shapes:
        h [num_nodes, d], edge_index [2, num_edges] -> [num_nodes, d]
    """

    def __init__(self, hidden_channels: int) -> None:
        super().__init__(aggr="add", node_dim=0)
        check_sizes(hidden_channels=hidden_channels)
        self.hidden_channels = hidden_channels
        self.attention = Parameter(torch.empty(4, hidden_channels))  # a
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        bound = self.hidden_channels**-0.5
        torch.nn.init.uniform_(self.attention, -bound, bound)

    def forward(self, h: Tensor, edge_index: Tensor) -> Tensor:
        """States after attention, [num_nodes, d]."""
        edges, relation = relations(edge_index, h.size(0))
        out: Tensor = self.propagate(edges, h=h, relation=relation, size=(h.size(0), h.size(0)))
        return out  # [num_nodes, d]

    def message(
        self, h_i: Tensor, h_j: Tensor, relation: Tensor, index: Tensor, size_i: int
    ) -> Tensor:
        a = self.attention.index_select(0, relation)  # [n, d]
        e = leaky_relu((a * h_i * h_j).sum(1), SLOPE)  # [n]
        return softmax(e, index, num_nodes=size_i).unsqueeze(1) * h_j  # [n, d]

    def aggregate(self, inputs: Tensor, index: Tensor, dim_size: int) -> Tensor:
        return sum_by_group(inputs, index, dim_size)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.hidden_channels})"


def relations(edge_index: Tensor, num_nodes: int) -> tuple[Tensor, Tensor]:
    """The nodes that each node attends to, and their relation.

    Args:
        edge_index: Transitions, each once, int64 [2, num_edges].
        num_nodes: Number of nodes.

    Returns:
        Pairs (attended node, attending node), int64 [2, n], each once, and their relation, int64
        [n]: 0 the node itself, 1 it follows the attending node, 2 it comes before, 3 both.
    """
    source, target = edge_index[:, edge_index[0] != edge_index[1]]
    both = torch.isin(target * num_nodes + source, source * num_nodes + target)
    itself = torch.arange(num_nodes, device=edge_index.device)
    # Two nodes with transitions in both directions have two edges, and each edge gives one pair.
    attended = torch.cat([itself, target, source[~both]])
    attending = torch.cat([itself, source, target[~both]])
    relation = torch.cat(
        [
            torch.full_like(itself, ITSELF),
            torch.where(both, BOTH, LEAVES),
            torch.full_like(source[~both], ENTERS),
        ]
    )
    return torch.stack([attended, attending]), relation
