"""Why an item is recommended: what its score loses, against models asked one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import graphseq as gs
from graphseq.serving.service.reasons import MOST_CLICKS, reasons_of


def graph_model(num_items: int = 30) -> gs.models.SRGNN:
    torch.manual_seed(0)
    model = gs.models.SRGNN(num_items, hidden_channels=8).eval()
    torch.nn.init.normal_(model.items.weight)
    return model


def lead(model: Any, session: list[int], item: int) -> float:
    """By the slow way: the answer of the model to one session."""
    found = dict(model.recommend([session], model.num_items)[0])
    return float(found[item] - np.mean(list(found.values())))


@pytest.mark.parametrize("name", ["srgnn", "gru4rec", "sasrec"])
def test_loss_of_a_click_is_that_of_the_session_without_it(name: str) -> None:
    torch.manual_seed(1)
    model = gs.models.MODELS[name](30, hidden_channels=8).eval()
    model.attach(gs.generate_sessions(40, 30, seed=0).catalog())
    session = [3, 5, 3, 7]
    found = reasons_of(model, session, 9)
    assert [position for position, _ in found.clicks] == [0, 1, 2, 3]
    whole = lead(model, session, 9)
    for position, loss in found.clicks:
        left = session[:position] + session[position + 1 :]
        assert loss == pytest.approx(whole - lead(model, left, 9), abs=1e-5)


def test_loss_of_an_edge_is_that_of_the_graph_without_it() -> None:
    model, session = graph_model(), [3, 5, 3, 7, 5]
    found = reasons_of(model, session, 9)
    assert [(a, b) for a, b, _ in found.edges] == [(3, 5), (5, 3), (3, 7), (7, 5)]
    ptr = torch.tensor([0, len(session)])
    for place, (_, _, loss) in enumerate(found.edges):
        scores = []
        for keep in (slice(None), [e for e in range(4) if e != place]):
            graph = gs.data.build_session_graphs(torch.tensor(session), ptr)
            graph.edge_index = graph.edge_index[:, keep]
            graph.edge_weight = graph.edge_weight[keep]
            with torch.inference_mode():
                row = model.score(graph)[0]
            scores.append(float(row[9] - row.mean()))
        assert loss == pytest.approx(scores[0] - scores[1], abs=1e-5)
        assert abs(loss) > 1e-6


def test_family_that_reads_no_edges_loses_nothing_without_them(world: Any) -> None:
    found = reasons_of(world.neural, ["i1", "i2", "i1"], "i3")
    assert [loss for _, _, loss in found.edges] == pytest.approx([0.0, 0.0], abs=1e-6)
    assert max(abs(loss) for _, loss in found.clicks) > 1e-3


def test_unknown_clicks_have_no_part_and_an_unknown_item_is_refused(world: Any) -> None:
    with_unknown = reasons_of(world.neural, ["what", "i1", "is", "i2"], "i3")
    known = reasons_of(world.neural, ["i1", "i2"], "i3")
    assert [place for place, _ in with_unknown.clicks] == [1, 3]
    assert [x for _, x in with_unknown.clicks] == [x for _, x in known.clicks]
    assert reasons_of(world.neural, ["what"], "i3").clicks == []
    with pytest.raises(ValueError, match="item 'what' is none that the model knows"):
        reasons_of(world.neural, ["i1"], "what")


def test_only_click_makes_the_whole_lead_and_a_long_session_is_cut(world: Any) -> None:
    model = world.neural
    ((_, loss),) = reasons_of(model, ["i5"], "i6").clicks
    found = dict(model.recommend([["i5"]], model.num_items)[0])
    assert loss == pytest.approx(found["i6"] - np.mean(list(found.values())), abs=1e-5)
    long = [f"i{n}" for n in range(MOST_CLICKS + 20)]
    positions = [place for place, _ in reasons_of(model, long, "i6").clicks]
    assert positions == list(range(20, MOST_CLICKS + 20))
