"""Models report inputs they cannot read, and wrong shapes from custom methods."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

import graphseq as gs
from graphseq.models import MODELS, SessionModel
from graphseq.testing.examples import NUM_ITEMS, QUERIES, graphs_of, training_sessions

GRAPH = graphs_of([[3, 5, 3, 0]]).to_data_list()[0]


def built(name: str) -> SessionModel:
    model = MODELS[name](NUM_ITEMS) if name == "markov" else MODELS[name](NUM_ITEMS, 8)
    gs.fit(model, training_sessions(), max_epochs=1, progress=False)
    return model


@pytest.mark.parametrize("name", ["srgnn", "sasrec", "tagnn", "markov", "bst_ranker"])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Data(x=GRAPH.x, edge_index=GRAPH.edge_index), "got Data: it lacks the order of"),
        (Data(**GRAPH.to_dict()), r"got Data: gs\.data\.SessionGraph\(\*\*data\.to_dict\(\)\)"),
        (Batch.from_data_list([Data(**GRAPH.to_dict())]), "got DataBatch: gs.data.SessionGraph"),
        (GRAPH.x, r"got Tensor: .*gs\.models\.ForExplainer\(model\) is what PyG's Explainer"),
        ([[3, 5]], r"got list: .*model\.recommend\(sessions\) takes lists"),
    ],
)
def test_model_given_what_is_no_session_graph_says_what_to_do(
    name: str, given: Any, message: str
) -> None:
    model = built(name)
    defined = {"forward", "click_states"} & set(vars(type(model)))
    for method in ("score", *defined):
        with pytest.raises(TypeError, match=message):
            getattr(model, method)(given)


@pytest.mark.parametrize("name", ["srgnn", "sasrec", "tagnn", "markov", "bst_ranker", "caser"])
def test_single_graph_is_read_as_a_batch_of_one(name: str) -> None:
    model = built(name)
    with torch.no_grad():
        wanted = model.score(Batch.from_data_list([GRAPH]))
        assert torch.equal(model.score(GRAPH), wanted)


def test_graphs_cut_by_a_neighbor_loader_are_refused() -> None:
    graph = GRAPH.clone()
    graph.input_id = torch.tensor([0])  # as NeighborLoader leaves it
    with pytest.raises(ValueError, match="a NeighborLoader cuts nodes out of them"):
        built("srgnn").score(graph)


def test_dictionary_of_a_graph_is_read_again_as_a_session_graph() -> None:
    model = built("srgnn")
    again = gs.data.SessionGraph(**Data(**GRAPH.to_dict()).to_dict())
    assert torch.equal(model.score(again), model.score(GRAPH))


class Own(SessionModel):
    """One row per node, where a session has one."""

    def __init__(self, num_items: int) -> None:
        super().__init__(num_items)
        self.item = torch.nn.Embedding(num_items, 4)

    def forward(self, batch: Batch) -> Tensor:
        rows: Tensor = self.item(batch.x)
        return rows

    def item_weight(self) -> Tensor:
        return self.item.weight


class OwnStates(Own):
    samples = "sessions"

    def click_states(self, batch: Batch) -> Tensor:
        return self(batch)[:-1]

    def forward(self, batch: Batch) -> Tensor:
        rows: Tensor = self.item(batch.click_item)
        return rows[batch.click_ptr[1:] - 1]


class OwnScore(Own):
    def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
        return self.item(batch.click_item[batch.click_ptr[1:] - 1]).sum(-1)


class OwnTuple(Own):
    def forward(self, batch: Batch) -> Any:
        return super().forward(batch), None


@pytest.mark.parametrize(
    ("family", "message"),
    [
        (
            Own,
            r"Own\.forward must give shape \[(\d+), 4\] here, one row per session, got \[\d+, 4\]",
        ),
        (OwnStates, r"\.click_states must give shape \[\d+, 4\] here, one row per click, got \["),
        (OwnScore, r"\.score must give shape \[\d+, num_items\] .* per session, got \[\d+\]\."),
        (OwnTuple, r"\.forward must give shape \[\d+, (4|hidden_channels)\] .* got (tuple|\[)"),
    ],
)
def test_rows_of_the_wrong_shape_are_refused_by_a_sentence_with_both_shapes(
    family: type[SessionModel], message: str
) -> None:
    sessions = training_sessions()
    ways = [lambda: gs.fit(family(NUM_ITEMS), sessions, max_epochs=1, progress=False)]
    if family is not OwnStates:
        model = family(NUM_ITEMS)
        ways += [
            lambda: model.score(graphs_of(QUERIES)),
            lambda: gs.evaluate(model, sessions),
            lambda: model.recommend([[3, 5, 3, 0]]),
        ]
    for way in ways:
        with pytest.raises(ValueError, match=message):
            way()
