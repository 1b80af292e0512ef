"""Adapter for PyG's Explainer."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from graphseq.data.graphs.session_graph import SessionGraph
from graphseq.models.base import SessionModel


class ForExplainer(torch.nn.Module):
    """The scores of a model as a function of nodes and edges, for :mod:`torch_geometric.explain`.

    Edge masks work for families that pass messages along the unchanged edges of the graph:
    ``srgnn`` and ``tagnn``.

    Args:
        model: Any model.

    Shapes:
        x [num_nodes, 1], edge_index [2, num_edges], graph -> [num_sessions, num_items]

    Raises:
        ValueError: If the model has no gradient, uses other edges, or if items are masked, which
            are codes and not features.

    Example:
        >>> import graphseq as gs
        >>> from torch_geometric.explain import Explainer, GNNExplainer
        >>> sessions = gs.Sessions.from_lists([["a", "b", "a", "c"]])
        >>> graph = gs.SessionGraphDataset(sessions)[2]
        >>> explainer = Explainer(
        ...     gs.models.ForExplainer(gs.models.SRGNN(sessions.num_items, 8)),
        ...     algorithm=GNNExplainer(epochs=10),
        ...     explanation_type="model",
        ...     edge_mask_type="object",
        ...     model_config={
        ...         "mode": "multiclass_classification",
        ...         "task_level": "graph",
        ...         "return_type": "raw",
        ...     },
        ... )
        >>> explanation = explainer(graph.x.view(-1, 1), graph.edge_index, graph=graph)
        >>> explanation.edge_mask.shape == graph.edge_weight.shape
        True
    """

    def __init__(self, model: SessionModel) -> None:
        super().__init__()
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise ValueError(
                f"{type(model).__name__} counts, and has no gradient that could explain its scores."
            )
        self.model = model

    def forward(self, x: Tensor, edge_index: Tensor, *, graph: SessionGraph) -> Tensor:
        if x.is_floating_point():
            raise ValueError(
                "x holds codes of items, which no mask can be multiplied with: build the "
                "Explainer with node_mask_type=None and edge_mask_type='object'."
            )
        given = copy.copy(graph)
        given.x, given.edge_index = x.view(-1), edge_index
        try:
            scores: Tensor = self.model.score(given)
        except AssertionError as error:  # PyG compares masks with messages
            raise ValueError(
                f"{type(self.model).__name__} passes messages along other edges than those of the "
                "session graph, so no mask of its edges fits: explain srgnn or tagnn."
            ) from error
        return scores
