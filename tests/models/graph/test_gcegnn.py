"""GCE-GNN against the paper's equations, one session at a time."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import leaky_relu
from torch_geometric.data import Batch

from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.models.counting.markov import MarkovChain
from graphseq.models.graph.gcegnn import GCEGNN
from graphseq.models.use.persistence import load
from graphseq.training.fit import fit

SESSIONS = [[0, 1, 2, 1, 3], [4], [5, 5, 5], [0, 1, 0, 1, 0, 1, 6], [6, 5, 4, 3, 2, 1, 0]]
TRAIN = Sessions.from_lists([[0, 1, 2, 0], [2, 1, 1], [3, 4, 3], [6, 5, 2, 0, 1, 8]])


def batch_of(sessions: list[list[int]]) -> Batch:
    ptr = torch.tensor([0, *np.cumsum([len(s) for s in sessions])])
    return build_session_graphs(torch.tensor(sum(sessions, [])), ptr)


def model_of(**arguments: Any) -> GCEGNN:
    torch.manual_seed(0)
    model = GCEGNN(9, 6, **{"num_neighbors": 2, "max_length": 7, **arguments}).eval()
    model.attach(None, TRAIN.with_vocabulary(Vocabulary(range(9))))
    return model


def test_gcegnn_nodes_in_blocks_equal_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of()
    batch = batch_of([[0, 1, 2, 0, 5], [2, 1, 1], [8], [6, 5, 7, 3]])
    expected = model(batch)  # with a graph of gradients: at once
    assert expected.requires_grad
    for size in (1, 4, 5, 100):
        monkeypatch.setattr("graphseq.models.graph.gcegnn.NODES_AT_ONCE", size)
        with torch.no_grad():
            torch.testing.assert_close(model(batch), expected)


def naive_vector(model: GCEGNN, clicks: list[int]) -> Tensor:
    """Eq. 2-14 of the paper for one session, node by node and neighbor by neighbor."""
    table, near = model.items.weight, model.global_neighbors
    clicks = clicks[-model.max_length :]
    nodes = list(dict.fromkeys(clicks))
    steps = {(a, b) for a, b in itertools.pairwise(clicks) if a != b}
    mean = torch.stack([table[item] for item in clicks]).mean(0)
    state = {}
    for i in nodes:
        pairs = zip(model.neighbors[i].tolist(), model.neighbor_weight[i], strict=True)
        found = [(table[j], w) for j, w in pairs if w > 0]
        scores = [
            near.lin_score(leaky_relu(near.lin_neighbor(torch.cat([mean * e, w.view(1)])), 0.2))
            for e, w in found
        ]
        around = torch.zeros(6)
        for (e, _), x in zip(found, scores, strict=True):
            around = around + x.exp() / sum(y.exp() for y in scores) * e
        h_global = torch.relu(near.lin_out(torch.cat([table[i], around])))

        kinds = {i: 0}
        for j in nodes:
            if (i, j) in steps or (j, i) in steps:
                kinds[j] = 3 if (i, j) in steps and (j, i) in steps else 1 + ((j, i) in steps)
        exponents = {
            j: leaky_relu(model.conv.attention[r] @ (table[i] * table[j]), 0.2).exp()
            for j, r in kinds.items()
        }
        h_local = sum(x / sum(exponents.values()) * table[j] for j, x in exponents.items())
        state[i] = h_global + h_local
    v = torch.stack([state[item] for item in clicks])
    w_3 = torch.cat([model.lin_state.weight, model.lin_position.weight], dim=1)
    s = torch.zeros(6)
    for i, v_i in enumerate(v):
        p = model.positions.weight[len(v) - 1 - i]
        z = torch.tanh(w_3 @ torch.cat([v_i, p]) + model.lin_state.bias)
        s = s + model.lin_score(torch.sigmoid(model.lin_click(z) + model.lin_mean(v.mean(0)))) * v_i
    return s


def test_gcegnn_vectors_equal_the_equations_session_by_session() -> None:
    model = model_of()
    sessions = [*SESSIONS, [1, 2, 3, 4, 5, 6, 7, 8, 0, 1]]
    expected = torch.stack([naive_vector(model, s) for s in sessions])
    torch.testing.assert_close(model(batch_of(sessions)), expected, rtol=1e-5, atol=1e-6)
    scores = expected @ model.items.weight.t()
    torch.testing.assert_close(model.score(batch_of(sessions)), scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("in_blocks", [True, False])
def test_gcegnn_normalized_is_the_plain_one_of_unit_rows_with_scaled_cosines(
    in_blocks: bool,
) -> None:
    model, plain = model_of(normalize=True, scale=5.0), model_of()
    table = model.items.weight
    unit = table / table.square().sum(1, keepdim=True).sqrt()
    plain.load_state_dict({**model.state_dict(), "items.weight": unit})
    batch = batch_of(SESSIONS)
    with torch.set_grad_enabled(not in_blocks):
        s = plain(batch)
        cosine = (s / s.square().sum(1, keepdim=True).sqrt()) @ unit.t()
        torch.testing.assert_close(model.score(batch), 5.0 * cosine)
        torch.testing.assert_close(model.items.scores(model(batch)), 5.0 * cosine)


def test_gcegnn_dropout_acts_on_the_part_of_all_sessions_in_training_alone() -> None:
    model, batch = model_of(dropout=0.5), batch_of(SESSIONS)
    own = model.conv(model.items.rows(batch.x), batch.edge_index)
    whole = model.node_states(batch) - own
    torch.manual_seed(0)
    dropped = model.train().node_states(batch) - own
    kept = dropped.abs() > 1e-6
    torch.testing.assert_close(dropped[kept], 2 * whole[kept], rtol=1e-4, atol=1e-5)
    assert 0.2 < kept[whole > 1e-5].float().mean() < 0.8


def test_gcegnn_other_sessions_change_the_vector_of_a_session() -> None:
    model = model_of()
    before = model(batch_of([[0, 1]]))
    model.prepare(Sessions.from_lists([[0, 7, 0, 8]]).with_vocabulary(Vocabulary(range(9))))
    assert not torch.allclose(model(batch_of([[0, 1]])), before, atol=1e-4)


def test_gcegnn_start_is_uniform_within_the_inverse_root_of_the_width() -> None:
    torch.manual_seed(0)
    for name, parameter in GCEGNN(500, 16).named_parameters():
        assert 0.15 < parameter.abs().max() <= 0.25, name
        if parameter.numel() > 100:
            assert parameter.std().item() == pytest.approx(0.25 / 3**0.5, rel=0.15), name


def test_gcegnn_of_no_sessions_gives_no_vectors() -> None:
    empty = build_session_graphs(torch.zeros(0).long(), torch.tensor([0]))
    assert model_of()(empty).shape == (0, 6)


def test_gcegnn_fit_counts_the_global_graph_and_saves_it(tmp_path: Any) -> None:
    sessions = TRAIN.with_vocabulary(Vocabulary(range(9)))
    torch.manual_seed(0)
    model = GCEGNN(9, 6, num_neighbors=2)
    fit(model, sessions, max_epochs=1, progress=False)
    # Within three clicks of item 2, item 1 stands four times and item 0 three times.
    assert model.neighbors[2].tolist() == [1, 0]
    assert model.neighbor_weight[2].tolist() == pytest.approx([math.log(5), math.log(4)])
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert torch.equal(loaded(batch_of(SESSIONS)), model(batch_of(SESSIONS)))


def test_gcegnn_without_training_sessions_says_so() -> None:
    batch = batch_of([[0, 1]])
    batch.y = torch.tensor([2])
    with pytest.raises(
        ValueError, match=r"call model\.attach\(sessions\.catalog\(\), sessions\) f"
    ):
        fit(GCEGNN(9, 6), [batch], max_epochs=1, progress=False)


def test_gcegnn_with_another_number_of_items_says_both() -> None:
    with pytest.raises(ValueError, match="model has 4 items, the sessions 9"):
        GCEGNN(4, 6).attach(None, TRAIN.with_vocabulary(Vocabulary(range(9))))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden_channels": 0}, "hidden_channels must be at least 1, got 0"),
        ({"num_neighbors": 0}, "num_neighbors must be at least 1, got 0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"max_length": 0}, "max_length must be at least 1, got 0"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        ({"scale": 0.0}, "scale must be positive, got 0.0"),
    ],
)
def test_gcegnn_wrong_setting_raises_naming_it(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GCEGNN(5, **arguments)


def test_gcegnn_finds_the_hub_that_only_the_session_graph_tells(loops: Any) -> None:
    torch.manual_seed(0)
    model = GCEGNN(30, 16, dropout=0.1)
    fit(model, loops.train, max_epochs=8, batch_size=64, learning_rate=0.02, progress=False)
    last_two = MarkovChain(30, order=2).fit_counts(loops.train)
    assert loops.found(model) > loops.found(last_two) + 0.1
