"""SR-GNN against the authors' program and against the paper's dense equations."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data.session_graph import build_session_graphs
from graphseq.models.srgnn import PUBLISHED_NAMES, SRGNN, SRGNNReadout
from graphseq.nn.gated_session_conv import GatedSessionConv

FIXTURES = Path(__file__).parent.parent / "fixtures"


@pytest.fixture(params=["a", "b"])
def published(request: pytest.FixtureRequest) -> dict[str, np.ndarray]:
    return dict(np.load(FIXTURES / f"srgnn_published_{request.param}.npz"))


def part(published: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in published.items() if k.startswith(prefix)}


def model_and_batch(published: dict[str, np.ndarray]) -> tuple[SRGNN, Batch, Tensor]:
    model = SRGNN.from_published(
        part(published, "param."),
        num_layers=int(published["gnn_steps"]),
        hybrid=bool(published["hybrid"]),
    )
    items = torch.from_numpy(published["clicks"]) - 1
    batch = build_session_graphs(items, torch.from_numpy(published["ptr"]))
    return model, batch, torch.from_numpy(published["target"]) - 1


def ours(published: dict[str, np.ndarray], prefix: str, model: SRGNN) -> dict[str, Tensor]:
    """The recorded values under our names, without the program's padding row."""
    recorded = part(published, prefix)
    named = {
        PUBLISHED_NAMES[name]: torch.from_numpy(value)
        for name, value in recorded.items()
        if name in PUBLISHED_NAMES
    }
    named["embedding.weight"] = named["embedding.weight"][1:]
    return {name: named[name] for name, _ in model.named_parameters()}


def test_srgnn_published_weights_give_published_scores(published: dict[str, np.ndarray]) -> None:
    model, batch, _ = model_and_batch(published)
    torch.testing.assert_close(
        model.score(batch), torch.from_numpy(published["scores"]), rtol=1e-5, atol=1e-5
    )


def test_srgnn_published_weights_give_published_loss_and_gradients(
    published: dict[str, np.ndarray],
) -> None:
    model, batch, target = model_and_batch(published)
    loss = torch.nn.functional.cross_entropy(model.score(batch), target)
    loss.backward()
    assert loss.item() == pytest.approx(float(published["loss"]), abs=1e-5)
    for name, recorded in ours(published, "grad.", model).items():
        gradient = model.get_parameter(name).grad
        torch.testing.assert_close(gradient, recorded, rtol=1e-5, atol=1e-5, msg=name)


def test_srgnn_one_adam_step_gives_published_parameters(published: dict[str, np.ndarray]) -> None:
    model, batch, target = model_and_batch(published)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)
    torch.nn.functional.cross_entropy(model.score(batch), target).backward()
    optimizer.step()
    for name, recorded in ours(published, "after_adam_step.", model).items():
        torch.testing.assert_close(
            model.get_parameter(name).detach(), recorded, rtol=1e-5, atol=1e-5, msg=name
        )


def dense_session_vector(model: SRGNN, clicks: list[int]) -> Tensor:
    """Eq. 1-7 of the paper with dense matrices, one session at a time."""
    conv, readout = model.conv, model.readout
    nodes = list(dict.fromkeys(clicks))
    place = {item: node for node, item in enumerate(nodes)}
    counts = torch.zeros(len(nodes), len(nodes))
    for a, b in itertools.pairwise(clicks):
        counts[place[a], place[b]] += 1
    if model.edge_weight == "binary":
        counts = (counts > 0).float()
    a_in = counts.T / counts.sum(0).clamp(min=1e-9).view(-1, 1)
    a_out = counts / counts.sum(1).clamp(min=1e-9).view(-1, 1)
    h = model.embedding.weight[nodes]
    for _ in range(model.num_layers):
        m = torch.cat(
            [a_in @ conv.lin_in(h) + conv.bias_in, a_out @ conv.lin_out(h) + conv.bias_out], dim=1
        )
        gate_i = m @ conv.gru.weight_ih.T + conv.gru.bias_ih
        gate_h = h @ conv.gru.weight_hh.T + conv.gru.bias_hh
        (i_r, i_z, i_n), (h_r, h_z, h_n) = gate_i.chunk(3, 1), gate_h.chunk(3, 1)
        r, z = (i_r + h_r).sigmoid(), (i_z + h_z).sigmoid()
        n = (i_n + r * h_n).tanh()
        h = n + z * (h - n)
    v = h[[place[item] for item in clicks]]
    alpha = readout.lin_score((readout.lin_last(v[-1]) + readout.lin_click(v)).sigmoid())
    s_global = (alpha * v).sum(0)
    if readout.lin_out is None:
        return s_global
    return readout.lin_out(torch.cat([s_global, v[-1]]))


@pytest.mark.parametrize("edge_weight", ["count", "binary"])
@pytest.mark.parametrize("hybrid", [True, False])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_srgnn_batch_equals_dense_equations_session_by_session(
    edge_weight: str, hybrid: bool, num_layers: int
) -> None:
    torch.manual_seed(0)
    model = SRGNN(7, 6, num_layers, edge_weight=edge_weight, hybrid=hybrid)
    sessions = [[0, 1, 2, 1, 3], [4], [5, 5, 5], [0, 1, 0, 1, 0, 1, 6], [6, 5, 4, 3, 2, 1, 0]]
    ptr = torch.tensor([0, *np.cumsum([len(s) for s in sessions])])
    batch = build_session_graphs(torch.tensor(sum(sessions, [])), ptr)
    expected = torch.stack([dense_session_vector(model, s) for s in sessions])
    torch.testing.assert_close(model(batch), expected, rtol=1e-5, atol=1e-6)


def test_srgnn_repeated_transition_weighs_more_unless_binary() -> None:
    torch.manual_seed(0)
    # 0 -> 1 twice and 0 -> 2 once; and the same with 0 -> 1 once.
    often = build_session_graphs(torch.tensor([0, 1, 0, 1, 0, 2]), torch.tensor([0, 6]))
    once = build_session_graphs(torch.tensor([0, 1, 0, 2]), torch.tensor([0, 4]))
    conv = GatedSessionConv(4)
    h = torch.randn(3, 4)
    by_count = [conv(h, g.edge_index, g.edge_weight) for g in (often, once)]
    binary = [conv(h, g.edge_index, torch.ones(g.num_edges)) for g in (often, once)]
    assert not torch.allclose(*by_count)
    torch.testing.assert_close(*binary)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_items": 0}, "num_items must be at least 1, got 0"),
        ({"hidden_channels": 0}, "hidden_channels must be at least 1, got 0"),
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
        ({"edge_weight": "time"}, "edge_weight is 'count' or 'binary', got 'time'"),
    ],
)
def test_srgnn_wrong_setting_raises_naming_it(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SRGNN(**{"num_items": 5, **arguments})


def test_srgnn_published_weights_incomplete_raises_naming_them(
    published: dict[str, np.ndarray],
) -> None:
    parameters = part(published, "param.")
    del parameters["gnn.w_ih"]
    with pytest.raises(ValueError, match=r"lack gnn\.w_ih"):
        SRGNN.from_published(parameters)


def test_srgnn_repr_is_one_line() -> None:
    assert repr(SRGNN(5, 4)) == "SRGNN(5, 4, num_layers=1)"
    assert repr(GatedSessionConv(4, 2)) == "GatedSessionConv(4, num_layers=2)"
    assert repr(SRGNNReadout(4, hybrid=False)) == "SRGNNReadout(4, hybrid=False)"


def test_srgnn_max_length_scores_the_newest_clicks() -> None:
    torch.manual_seed(0)
    model = SRGNN(9, 8)
    cut = SRGNN(9, 8, max_length=3)
    cut.load_state_dict(model.state_dict())
    long = build_session_graphs(torch.tensor([1, 2, 3, 2, 3, 5]), torch.tensor([0, 5, 6]))
    short = build_session_graphs(torch.tensor([3, 2, 3, 5]), torch.tensor([0, 3, 4]))
    torch.testing.assert_close(cut.score(long), model.score(short))
    with pytest.raises(ValueError, match="max_length must be at least 1"):
        SRGNN(9, 8, max_length=0)
