"""Vectors of items from a knowledge graph, by TransE or R-GCN."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn.functional import normalize
from torch_geometric.data import HeteroData

from graphseq.arguments import check_choice, check_sizes, whole
from graphseq.nn.chance import OwnDraws
from graphseq.random import torch_stream
from graphseq.training.relational_gcn import Negatives, RelationalGCN, TypedTransE


def relation_vectors(
    graph: HeteroData,
    channels: int = 32,
    *,
    method: Literal["transe", "rgcn"] = "transe",
    start: ArrayLike | None = None,
    epochs: int = 30,
    batch_size: int = 4096,
    learning_rate: float = 0.01,
    seed: int = 0,
) -> NDArray[np.float32]:
    r"""Vectors of items that tell which values they have.

    ``"transe"``: :math:`e_{item} + r \approx e_{value}` (PyG's TransE).
    ``"rgcn"``: what two layers of PyG's R-GCN make of the items' neighborhoods
    (:class:`~graphseq.training.relational_gcn.RelationalGCN`), each step over the whole graph.

    As a column of ``item_features``, ``list(vectors)`` is a feature of the kind ``"vector"`` for
    :class:`~graphseq.models.WithFeatures` and :class:`~graphseq.models.ContentKNN`. Nothing is read
    of sessions, so nothing can leak but what ``start`` was learned from.

    Args:
        graph: As :func:`graphseq.data.knowledge_graph` makes it: edges from ``"item"``.
        channels: Width of the vectors.
        method: ``"transe"`` or ``"rgcn"``.
        start: Vectors of items that are refined, such as the factors of an
            :class:`~graphseq.models.IALS`, [num_items, channels]; ``None``: drawn ones.
        epochs: Passes over the edges.
        batch_size: Edges of a step.
        learning_rate: Of Adam.
        seed: Of weights, order and corrupted edges.

    Returns:
        float32 [num_items, channels], of length one; zeros for an item without an edge.

    Raises:
        ValueError: If a size is not positive, ``method`` or the shape of ``start`` is wrong, or the
            graph has no edge from ``"item"``.
        TypeError: If the graph is no ``HeteroData``.
    """
    check_sizes(channels=channels, epochs=epochs, batch_size=batch_size)
    check_choice("method", method, ("transe", "rgcn"))
    whole("seed", seed, at_least=0)
    if not isinstance(graph, HeteroData):
        raise TypeError(
            f"relation_vectors takes a HeteroData, as gs.data.knowledge_graph makes it, got "
            f"{type(graph).__name__}."
        )
    if "item" not in graph.node_types:
        raise ValueError("The graph has no node type 'item': gs.data.knowledge_graph makes one.")
    _check_graph(graph)
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
    tails = [kind[2] for kind in graph.edge_types]
    negatives = Negatives(
        torch.tensor([first[name] for name in tails]),
        torch.tensor([int(graph[name].num_nodes) for name in tails]),
        num_items,
    )
    first_vectors = None if start is None else _checked(start, num_items, channels)
    with OwnDraws(seed):
        model: TypedTransE | RelationalGCN
        if method == "transe":
            model = TypedTransE(negatives, total, len(parts), channels)
        else:
            model = RelationalGCN(negatives, edges, kinds, total, len(parts), channels)
        if first_vectors is not None:
            with torch.no_grad():
                size = model.node_emb.weight[:num_items].std() / first_vectors.std().clamp(
                    min=1e-12
                )
                model.node_emb.weight[:num_items] = first_vectors * size
        optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
        for _ in range(epochs):
            order = torch.randperm(len(kinds), generator=generator)
            for step in order.split(batch_size):
                optimizer.zero_grad()
                head, tail = edges[:, step]
                model.loss(head, kinds[step], tail).backward()
                optimizer.step()
    with torch.no_grad():
        vectors = normalize(model.vectors()[:num_items])
    linked = torch.zeros(num_items, 1)
    linked[edges[edges < num_items]] = 1  # at either end: items may be related to items
    found: NDArray[np.float32] = (vectors * linked).numpy()
    return found


def _check_graph(graph: HeteroData) -> None:
    """Refuses edges that do not lead from items to nodes of the graph."""
    for kind in graph.edge_types:
        source, _, target = kind
        if source != "item":
            raise ValueError(
                f"The edges {kind} do not start at items: turn them round, ('item', ..., "
                f"{source!r})."
            )
        for name in ("item", target):
            if name not in graph.node_types or graph[name].num_nodes is None:
                raise ValueError(
                    f"The edges {kind} lead to nodes whose number is not given: set "
                    f"graph[{name!r}].num_nodes."
                )
        edges = graph[kind].edge_index
        if edges.dim() != 2 or len(edges) != 2 or edges.is_floating_point():
            raise ValueError(
                f"edge_index of {kind} holds whole numbers, [2, num_edges], got "
                f"{list(edges.shape)} {edges.dtype}."
            )
        for name, ends in zip(("item", target), edges, strict=True):
            number = int(graph[name].num_nodes)
            if ends.numel() and not (0 <= int(ends.min()) and int(ends.max()) < number):
                raise ValueError(
                    f"The edges {kind} name nodes of {name!r} outside 0..{number - 1}: "
                    f"{int(ends.min())}..{int(ends.max())}."
                )


def _checked(start: ArrayLike, num_items: int, channels: int) -> Tensor:
    """The vectors to refine, float32 [num_items, channels]."""
    given = torch.from_numpy(np.asarray(start, dtype=np.float32))
    if given.shape != (num_items, channels):
        raise ValueError(
            f"start holds one vector per item, [{num_items}, {channels}], got {list(given.shape)}: "
            "give channels the width of these vectors."
        )
    if not bool(given.isfinite().all()):
        raise ValueError("start holds numbers that are not finite.")
    return given
