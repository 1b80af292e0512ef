"""PyG's Explainer and summary read our models."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch_geometric.explain import Explainer, GNNExplainer
from torch_geometric.nn import summary

import graphseq as gs
from graphseq.models import MODELS, ForExplainer, SessionModel
from graphseq.testing.examples import NUM_ITEMS, graphs_of

GRAPH = graphs_of([[3, 5, 3, 0, 7, 5]]).to_data_list()[0]


def explainer(model: torch.nn.Module, **masks: Any) -> Explainer:
    return Explainer(
        model,
        algorithm=GNNExplainer(epochs=60, lr=0.1),
        explanation_type="model",
        model_config={
            "mode": "multiclass_classification",
            "task_level": "graph",
            "return_type": "raw",
        },
        **({"edge_mask_type": "object"} | masks),
    )


@pytest.mark.parametrize("name", ["srgnn", "tagnn"])
def test_explainer_gives_each_transition_a_weight_and_leaves_the_model_as_it_was(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name](NUM_ITEMS, 8).eval()
    before = model.score(GRAPH)
    explain = explainer(ForExplainer(model))
    explanation = explain(GRAPH.x.view(-1, 1), GRAPH.edge_index, graph=GRAPH)
    assert explanation.edge_mask.shape == GRAPH.edge_weight.shape
    assert (explanation.edge_mask > 0).all()
    assert torch.equal(explanation.prediction, before)
    assert torch.equal(model.score(GRAPH), before)


@pytest.mark.parametrize(
    ("model", "masks", "message"),
    [
        (gs.models.SRGNN(NUM_ITEMS, 8), {"node_mask_type": "object"}, "edge_mask_type='object'"),
        (gs.models.GCEGNN(NUM_ITEMS, 8), {}, "GCEGNN passes messages along other edges"),
        (gs.models.SASRec(NUM_ITEMS, 8), {}, "edges are used via message passing"),
    ],
)
def test_explainer_says_what_it_cannot_explain(
    model: SessionModel, masks: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        explainer(ForExplainer(model), **masks)(GRAPH.x.view(-1, 1), GRAPH.edge_index, graph=GRAPH)


def test_model_that_counts_has_nothing_to_explain() -> None:
    with pytest.raises(ValueError, match="Popularity counts, and has no gradient"):
        ForExplainer(gs.models.Popularity(NUM_ITEMS))


def test_explainer_without_the_adapter_names_it() -> None:
    with pytest.raises(TypeError, match=r"gs\.models\.ForExplainer\(model\)"):
        explainer(gs.models.SRGNN(NUM_ITEMS, 8))(GRAPH.x.view(-1, 1), GRAPH.edge_index)


@pytest.mark.parametrize("graph", [GRAPH, graphs_of([[3, 5, 3], [7]])])
def test_summary_of_pyg_lists_the_layers_with_their_shapes(
    graph: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[list[str]] = []
    tabulate = ModuleType("tabulate")  # PyG draws its table by it
    monkeypatch.setattr(
        tabulate, "tabulate", lambda table, **_: rows.extend(table) or "", raising=False
    )
    monkeypatch.setitem(sys.modules, "tabulate", tabulate)
    summary(gs.models.SRGNN(NUM_ITEMS, 8), graph)
    shapes = {row[0]: row[2] for row in rows}
    assert shapes["SRGNN"] == f"[{graph.num_graphs}, 8]"
    assert f"[{graph.num_nodes}, 8]" in shapes.values()
