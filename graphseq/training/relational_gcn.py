"""Models of links on PyG: TransE, and R-GCN decoded by DistMult, both with negatives of a kind."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Embedding, Parameter
from torch.nn.functional import binary_cross_entropy_with_logits
from torch_geometric.nn import RGCNConv, TransE


class Negatives:
    """Draws false edges: another item, or another node of the tail's own kind.

    A tail of another kind would be told apart by its kind alone, and teach nothing of values.

    Args:
        first: The first node of the kind of each relation's tails, int64 [num_relations].
        size: Number of nodes of that kind, int64 [num_relations].
        num_items: Heads are the nodes ``0..num_items-1``.
    """

    def __init__(self, first: Tensor, size: Tensor, num_items: int) -> None:
        self.first, self.size, self.num_items = first, size, num_items

    def draw(self, head: Tensor, kind: Tensor, tail: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As many false edges; the first half has other heads, the second other tails."""
        half = len(head) // 2
        head, tail = head.clone(), tail.clone()
        head[:half] = torch.randint(self.num_items, (half,))
        place = torch.rand(len(tail) - half) * self.size[kind[half:]]
        tail[half:] = self.first[kind[half:]] + place.long()
        return head, kind, tail


class TypedTransE(TransE):
    r"""PyG's TransE, :math:`e_u + r \approx e_v` (Bordes et al., NeurIPS 2013)."""

    def __init__(self, negatives: Negatives, *sizes: int) -> None:
        super().__init__(*sizes)
        self.negatives = negatives

    def vectors(self) -> Tensor:
        """Of all nodes, [num_nodes, channels]."""
        return self.node_emb.weight

    def random_sample(
        self, head_index: Tensor, rel_type: Tensor, tail_index: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """False edges of the same kinds."""
        return self.negatives.draw(head_index, rel_type, tail_index)


class RelationalGCN(torch.nn.Module):
    r"""Two layers of R-GCN, decoded by DistMult (Schlichtkrull et al., ESWC 2018):

    .. math::
        h_v^{(l+1)} = W_0 h_v^{(l)} + \sum_r \frac{1}{|N_r(v)|} \sum_{u \in N_r(v)} W_r h_u^{(l)},
        \qquad f(u, r, v) = \sum_k h_{uk} R_{rk} h_{vk}

    with a ReLU between the layers. Each relation also has its inverse. Every call reads the whole
    graph.

    Args:
        negatives: What draws false edges.
        edge_index: All edges, int64 [2, num_edges].
        edge_type: Their relations, int64 [num_edges].
        num_nodes: Nodes of the graph.
        num_relations: Relations, without inverses.
        channels: Width of the vectors.
    """

    edges: Tensor
    kinds: Tensor

    def __init__(
        self,
        negatives: Negatives,
        edge_index: Tensor,
        edge_type: Tensor,
        num_nodes: int,
        num_relations: int,
        channels: int,
    ) -> None:
        super().__init__()
        both = torch.cat([edge_index, edge_index.flip(0)], dim=1)
        self.register_buffer("edges", both)
        self.register_buffer("kinds", torch.cat([edge_type, edge_type + num_relations]))
        self.negatives = negatives
        self.node_emb = Embedding(num_nodes, channels)
        self.first = RGCNConv(channels, channels, 2 * num_relations)
        self.second = RGCNConv(channels, channels, 2 * num_relations)
        self.relation = Parameter(torch.empty(num_relations, channels))
        torch.nn.init.xavier_uniform_(self.node_emb.weight)
        torch.nn.init.ones_(self.relation)

    def vectors(self) -> Tensor:
        """``h`` of all nodes, [num_nodes, channels]."""
        h = self.first(self.node_emb.weight, self.edges, self.kinds).relu()
        h = self.second(h, self.edges, self.kinds)
        return h

    def loss(self, head: Tensor, kind: Tensor, tail: Tensor) -> Tensor:
        """Cross-entropy of these edges against as many false ones, a scalar."""
        h = self.vectors()
        logits = []
        for u, r, v in ((head, kind, tail), self.negatives.draw(head, kind, tail)):
            logits.append((h[u] * self.relation[r] * h[v]).sum(-1))
        true = torch.cat([torch.ones_like(logits[0]), torch.zeros_like(logits[1])])
        return binary_cross_entropy_with_logits(torch.cat(logits), true)
