"""SR-GNN against the authors' code and against the paper's dense equations."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.models.counting.markov import MarkovChain
from graphseq.models.graph.srgnn import SRGNN
from graphseq.models.published.srgnn import NAMES as PUBLISHED_NAMES
from graphseq.nn.gated_session_conv import GatedSessionConv
from graphseq.nn.readouts import SRGNNReadout
from graphseq.training.fit import fit
from graphseq.training.losses import sampled_softmax
from graphseq.training.objectives.loss_choice import SampledLoss
from graphseq.training.objectives.objective import Objective

FIXTURES = Path(__file__).parents[2] / "fixtures"


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
    """The recorded values under our names, without the authors' code's padding row."""
    recorded = part(published, prefix)
    named = {
        PUBLISHED_NAMES[name]: torch.from_numpy(value)
        for name, value in recorded.items()
        if name in PUBLISHED_NAMES
    }
    named["items.weight"] = named["items.weight"][1:]
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
    conv, readout = model.conv, model.session_readout
    nodes = list(dict.fromkeys(clicks))
    place = {item: node for node, item in enumerate(nodes)}
    counts = torch.zeros(len(nodes), len(nodes))
    for a, b in itertools.pairwise(clicks):
        counts[place[a], place[b]] += 1
    if model.edge_weight == "binary":
        counts = (counts > 0).float()
    a_in = counts.T / counts.sum(0).clamp(min=1e-9).view(-1, 1)
    a_out = counts / counts.sum(1).clamp(min=1e-9).view(-1, 1)
    h = model.items.weight[nodes]
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
        (
            {"readout": "max"},
            "readout is 'published', 'softmax', 'last', 'mean' or 'sum', got 'max'",
        ),
        (
            {"half_life": 3.0},
            "goes with edge_weight='decayed' and with no other, got 3.0 and 'count'",
        ),
        ({"edge_weight": "decayed"}, "edge_weight='decayed' and with no other, got None"),
        (
            {"edge_weight": "decayed", "half_life": 0.0},
            "half_life must be positive and finite, or None, got 0.0",
        ),
        (
            {"edge_weight": "decayed", "half_life": 1.0, "half_life_unit": "days"},
            "unit is 'seconds' or 'clicks', got 'days'",
        ),
        ({"scale": 0.0}, "scale must be positive, got 0.0"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        ({"edge_weight": "time"}, "edge_weight is 'count', 'binary' or 'decayed', got 'time'"),
    ],
)
def test_srgnn_wrong_setting_raises_naming_it(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SRGNN(**{"num_items": 5, **arguments})


def timed_batch(clicks: list[int], times: list[float]) -> Batch:
    """A session of items with the seconds of its clicks, and one of a single click."""
    items, ptr = torch.tensor([*clicks, 0]), torch.tensor([0, len(clicks), len(clicks) + 1])
    return build_session_graphs(
        items, ptr, click_fields={"click_time": torch.tensor([*times, 0.0]).double()}
    )


@pytest.mark.parametrize(
    ("unit", "weights"),
    [
        # 0 -> 1 ends at ages 40 and 20, 1 -> 0 at 30 and 1 -> 2 at 0 seconds; half-life 10.
        ("seconds", {(0, 1): 2.0**-4 + 2.0**-2, (1, 0): 2.0**-3, (1, 2): 1.0}),
        # In clicks the ages are 3 and 1, 2 and 0; half-life 10.
        ("clicks", {(0, 1): 2.0**-0.3 + 2.0**-0.1, (1, 0): 2.0**-0.2, (1, 2): 1.0}),
    ],
)
def test_srgnn_decayed_weights_are_those_counted_by_hand(unit: str, weights: dict) -> None:
    torch.manual_seed(0)
    model = SRGNN(9, 6, edge_weight="decayed", half_life=10.0, half_life_unit=unit)
    plain = SRGNN(9, 6)
    plain.load_state_dict(model.state_dict())
    batch = timed_batch([0, 1, 0, 1, 2], [5.0, 10.0, 20.0, 30.0, 50.0])
    counted = batch.clone()
    pairs = batch.x[batch.edge_index].t().tolist()
    counted.edge_weight = torch.tensor([weights[a, b] for a, b in pairs])
    torch.testing.assert_close(model(batch), plain(counted))
    assert not torch.allclose(plain(counted), plain(batch), atol=1e-4)


def test_srgnn_decayed_weights_of_cut_sessions_keep_their_times() -> None:
    torch.manual_seed(0)
    model = SRGNN(9, 6, edge_weight="decayed", half_life=10.0)
    cut = SRGNN(9, 6, edge_weight="decayed", half_life=10.0, max_length=3)
    cut.load_state_dict(model.state_dict())
    long = timed_batch([4, 3, 0, 1, 0], [0.0, 2.0, 10.0, 40.0, 45.0])
    short = timed_batch([0, 1, 0], [10.0, 40.0, 45.0])
    torch.testing.assert_close(cut(long), model(short))


def test_srgnn_transitions_too_old_for_any_weight_still_give_finite_scores() -> None:
    model = SRGNN(9, 6, edge_weight="decayed", half_life=1.0)
    batch = timed_batch([0, 1, 2, 3], [0.0, 1.0, 2.0, 1e8])
    assert model.score(batch).isfinite().all()


def test_srgnn_decayed_weights_without_times_raise_naming_them() -> None:
    model = SRGNN(9, 6, edge_weight="decayed", half_life=10.0)
    with pytest.raises(ValueError, match="need click_time"):
        model(build_session_graphs(torch.tensor([0, 1]), torch.tensor([0, 2])))


def test_srgnn_normalized_scores_are_scaled_cosines() -> None:
    torch.manual_seed(0)
    model = SRGNN(7, 6, normalize=True, scale=5.0)
    sessions = [[0, 1, 2, 1, 3], [4], [5, 5, 5]]
    ptr = torch.tensor([0, *np.cumsum([len(s) for s in sessions])])
    batch = build_session_graphs(torch.tensor(sum(sessions, [])), ptr)
    table = model.items.weight
    unit = table / table.square().sum(1, keepdim=True).sqrt()
    plain = SRGNN(7, 6)
    plain.load_state_dict({**model.state_dict(), "items.weight": unit})
    s = plain(batch)
    cosine = (s / s.square().sum(1, keepdim=True).sqrt()) @ unit.t()
    torch.testing.assert_close(model.score(batch), 5.0 * cosine)
    torch.testing.assert_close(model.items.scores(model(batch)), 5.0 * cosine)


def test_srgnn_normalized_scores_ignore_the_length_of_embeddings() -> None:
    torch.manual_seed(0)
    model = SRGNN(7, 6, normalize=True)
    batch = build_session_graphs(torch.tensor([0, 1, 2, 1, 3]), torch.tensor([0, 4, 5]))
    before = model.score(batch)
    model.items.weight.data *= torch.rand(7, 1) + 0.5
    torch.testing.assert_close(model.score(batch), before)


@pytest.mark.parametrize("normalize", [True, False])
def test_srgnn_item_rows_are_rows_of_the_table_in_value_and_gradient(normalize: bool) -> None:
    torch.manual_seed(0)
    model = SRGNN(7, 6, normalize=normalize)
    items, gradient = torch.tensor([2, 0, 2]), torch.randn(3, 6)
    rows, whole = model.items.rows(items), model.items.rows()[items]
    torch.testing.assert_close(rows, whole)
    weight = model.items.weight
    (one,) = torch.autograd.grad(rows, weight, gradient)
    (other,) = torch.autograd.grad(whole, weight, gradient)
    torch.testing.assert_close(one, other)


def test_srgnn_normalized_is_trained_by_the_losses_of_its_scores() -> None:
    torch.manual_seed(0)
    model = SRGNN(7, 6, normalize=True)
    batch = build_session_graphs(
        torch.tensor([0, 1, 2, 1, 3]), torch.tensor([0, 4, 5]), y=torch.tensor([2, 5])
    )
    scores = model.score(batch)
    exact = Objective("cross_entropy", 7, None, seed=0)
    expected = torch.nn.functional.cross_entropy(scores, batch.y)
    torch.testing.assert_close(exact(model, batch, 0, 0), expected)

    sampled = Objective(SampledLoss("sampled_softmax", 4, alpha=0), 7, None, seed=0)
    assert sampled.sampler is not None
    negatives = sampled.sampler.sample(0, 0)
    corrected = scores - sampled.sampler.log_q
    expected = sampled_softmax(
        corrected.gather(1, batch.y.unsqueeze(1)).squeeze(1),
        corrected[:, negatives],
        negatives != batch.y.unsqueeze(1),
    )
    torch.testing.assert_close(sampled(model, batch, 0, 0), expected)


def test_srgnn_start_is_uniform_within_the_inverse_root_of_the_width() -> None:
    torch.manual_seed(0)
    for name, parameter in SRGNN(500, 16, max_length=9, positions="end").named_parameters():
        assert 0.15 < parameter.abs().max() <= 0.25, name
        if parameter.numel() > 100:
            assert parameter.std().item() == pytest.approx(0.25 / 3**0.5, rel=0.15), name


def test_srgnn_dropout_falls_in_training_alone() -> None:
    torch.manual_seed(0)
    model = SRGNN(7, 6, dropout=0.5)
    batch = build_session_graphs(torch.tensor([0, 1, 2]), torch.tensor([0, 3]))
    assert not torch.equal(model.train()(batch), model(batch))
    assert torch.equal(model.eval()(batch), model(batch))


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


@pytest.mark.parametrize("normalize", [False, True])
def test_srgnn_finds_the_hub_that_only_the_session_graph_tells(loops: Any, normalize: bool) -> None:
    torch.manual_seed(0)
    model = SRGNN(30, 16, normalize=normalize)
    fit(model, loops.train, max_epochs=8, batch_size=64, learning_rate=0.02, progress=False)
    last_two = MarkovChain(30, order=2).fit_counts(loops.train)
    assert loops.found(model) > loops.found(last_two) + 0.1


@pytest.mark.parametrize("positions", ["start", "end"])
@pytest.mark.parametrize("readout", ["published", "mean"])
def test_srgnn_positions_are_added_to_the_states_of_clicks(positions: str, readout: str) -> None:
    torch.manual_seed(0)
    model = SRGNN(7, 6, positions=positions, max_length=5, readout=readout, normalize=True)
    sessions = [[0, 1, 2, 1], [4], [6, 5, 4, 3, 2, 1, 0]]
    ptr = torch.tensor([0, *map(len, sessions)]).cumsum(0)
    vectors = model(build_session_graphs(torch.tensor(sum(sessions, [])), ptr))
    for session, vector in zip(sessions, vectors, strict=True):
        newest = session[-5:]
        n = len(newest)
        graph = build_session_graphs(torch.tensor(newest), torch.tensor([0, n]))
        place = torch.arange(n) + (5 - n if positions == "end" else 0)
        assert model.click_positions is not None
        v = model.node_states(graph)[graph.click_index] + model.click_positions.weight[place]
        alone = torch.tensor([0, n])
        s = model.session_readout(v, torch.arange(n), torch.zeros(n, dtype=torch.long), alone)[0]
        torch.testing.assert_close(vector, 12.0 * s / s.norm(), rtol=1e-5, atol=1e-5)


def test_srgnn_positions_without_a_length_are_refused() -> None:
    with pytest.raises(ValueError, match="positions='end' have one vector per place: give max_le"):
        SRGNN(7, 6, positions="end")
