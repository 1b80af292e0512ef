"""Vectors of items from a knowledge graph, by TransE."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize
from torch_geometric.data import HeteroData
from torch_geometric.nn import TransE

from graphseq.arguments import check_sizes, whole
from graphseq.nn.chance import OwnDraws
from graphseq.random import torch_stream


def relation_vectors(
    graph: HeteroData,
    channels: int = 32,
    *,
    epochs: int = 30,
    batch_size: int = 4096,
    learning_rate: float = 0.01,
    seed: int = 0,
) -> NDArray[np.float32]:
    r"""Vectors of items such that :math:`e_{item} + r \approx e_{value}` (TransE, PyG's).

    As a column of ``item_features``, ``list(vectors)`` is a feature of the kind ``"vector"`` for
    :class:`~graphseq.models.WithFeatures` and :class:`~graphseq.models.ContentKNN`. Bordes et al.,
    NeurIPS 2013. Nothing is read of sessions, so there is nothing that could leak.

    Args:
        graph: As :func:`graphseq.data.knowledge_graph` makes it: edges from ``"item"``.
        channels: Width of the vectors.
        epochs: Passes over the edges.
        batch_size: Edges of a step.
        learning_rate: Of Adam.
        seed: Of weights, order and corrupted edges.

    Returns:
        float32 [num_items, channels], of length one; zeros for an item without an edge.

    Raises:
        ValueError: If a size is not positive, or the graph has no edge from ``"item"``.
    """
    check_sizes(channels=channels, epochs=epochs, batch_size=batch_size)
    whole("seed", seed, at_least=0)
    if "item" not in graph.node_types:
        raise ValueError("The graph has no node type 'item': gs.data.knowledge_graph makes one.")
    first, total = {}, 0
    for name in ["item", *(name for name in graph.node_types if name != "item")]:
        first[name] = total
        total += int(graph[name].num_nodes)
    parts = [
        (number, graph[kind].edge_index + torch.tensor([[first[kind[0]]], [first[kind[2]]]]))
        for number, kind in enumerate(graph.edge_types)
    ]
    edges = torch.cat([edge for _, edge in parts], dim=1) if parts else torch.empty(2, 0).long()
    if edges.size(1) == 0:
        raise ValueError("The graph has no edge: no item has a value of any feature.")
    kinds = torch.cat([torch.full((edge.size(1),), number) for number, edge in parts])
    num_items = int(graph["item"].num_nodes)
    generator = torch_stream("relations", seed)
    with OwnDraws(seed):
        model = TransE(total, len(parts), channels)
        optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
        for _ in range(epochs):
            order = torch.randperm(len(kinds), generator=generator)
            for step in order.split(batch_size):
                optimizer.zero_grad()
                head, tail = edges[:, step]
                model.loss(head, kinds[step], tail).backward()
                optimizer.step()
    vectors = normalize(model.node_emb.weight.detach()[:num_items])
    linked = torch.zeros(num_items, 1)
    linked[edges[0]] = 1
    found: NDArray[np.float32] = (vectors * linked).numpy()
    return found
