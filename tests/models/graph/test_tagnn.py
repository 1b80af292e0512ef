"""TAGNN against the paper's equations, candidate by candidate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.models.counting.markov import MarkovChain
from graphseq.models.graph import tagnn
from graphseq.models.graph.tagnn import TAGNN
from graphseq.training.fit import fit
from graphseq.training.objectives.loss_choice import SampledLoss
from graphseq.training.objectives.objective import Objective

SESSIONS = [[0, 1, 2, 1, 3], [4], [5, 5, 5], [0, 1, 0, 1, 0, 1, 6], [6, 5, 4, 3, 2, 1, 0]]


def batch_of(sessions: list[list[int]], y: list[int] | None = None) -> Batch:
    ptr = torch.tensor([0, *np.cumsum([len(s) for s in sessions])])
    targets = None if y is None else torch.tensor(y)
    return build_session_graphs(torch.tensor(sum(sessions, [])), ptr, y=targets)


def model_of(num_items: int = 9, **arguments: Any) -> TAGNN:
    torch.manual_seed(0)
    return TAGNN(num_items, 6, **arguments)


def naive_score(model: TAGNN, clicks: list[int], item: int) -> Tensor:
    """Eq. 8-12 of the paper for one session and one candidate, from SR-GNN's node states."""
    batch = batch_of([clicks])
    h = model.node_states(batch)
    v = [h[int(node)] for node in batch.click_index]
    readout, e = model.session_readout, model.items.weight[item]
    w, w_t = model.lin_attention.weight, model.lin_target.weight
    exponents = [torch.exp(e @ w @ v_i) for v_i in v]
    s_target = sum(x / sum(exponents) * v_i for x, v_i in zip(exponents, v, strict=True))
    q = readout.lin_score.weight[0]
    s_global = torch.zeros(6)
    for v_i in v:
        gate = torch.sigmoid(readout.lin_last(v[-1]) + readout.lin_click(v_i))
        s_global = s_global + (q @ gate) * v_i
    w_3 = torch.cat([w_t, readout.lin_out.weight], dim=1)  # [d, 3d]
    s = w_3 @ torch.cat([s_target, s_global, v[-1]]) + readout.lin_out.bias
    return s @ e


def test_tagnn_scores_equal_the_equations_candidate_by_candidate() -> None:
    model = model_of()
    expected = torch.stack(
        [torch.stack([naive_score(model, s, item) for item in range(9)]) for s in SESSIONS]
    )
    torch.testing.assert_close(model.score(batch_of(SESSIONS)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("each", [False, True])
def test_tagnn_scores_and_gradients_do_not_depend_on_blocks(
    monkeypatch: pytest.MonkeyPatch, each: bool
) -> None:
    model, batch = model_of(), batch_of(SESSIONS)
    items = torch.randint(9, (5, 7), generator=torch.Generator().manual_seed(1)) if each else None
    weight = torch.randn(5, 7 if each else 9, generator=torch.Generator().manual_seed(2))

    def scores_and_gradients() -> list[Tensor]:
        scores = model.score(batch, items)
        return [scores, *torch.autograd.grad((scores * weight).sum(), list(model.parameters()))]

    whole = scores_and_gradients()
    monkeypatch.setattr(tagnn, "BLOCK_ELEMENTS", 40)  # a block is of two items
    monkeypatch.setattr(tagnn, "BLOCK_ELEMENTS_EACH", 80)  # of two candidates
    torch.testing.assert_close(scores_and_gradients(), whole, rtol=1e-5, atol=1e-6)


def test_tagnn_attention_far_apart_gives_finite_scores_and_gradients() -> None:
    model = model_of()
    torch.nn.init.constant_(model.lin_attention.weight, 1e4)
    batch = batch_of(SESSIONS)
    for items in (None, torch.arange(9).expand(5, 9)):
        scores = model.score(batch, items)
        assert scores.isfinite().all()
        (gradient,) = torch.autograd.grad(scores.sum(), model.items.weight)
        assert gradient.isfinite().all()


def test_tagnn_without_preference_adds_the_mean_state_of_the_clicks() -> None:
    model, batch = model_of(), batch_of([[0, 1, 2, 1]])
    torch.nn.init.zeros_(model.lin_attention.weight)  # W = 0: all clicks alike
    torch.nn.init.eye_(model.lin_target.weight)  # W_t = 1
    v = model.node_states(batch)[batch.click_index]
    s = model(batch) + v.mean(0, keepdim=True)
    torch.testing.assert_close(model.score(batch), s @ model.items.weight.t())


def test_tagnn_of_no_sessions_scores_none() -> None:
    model, empty = model_of(), build_session_graphs(torch.zeros(0).long(), torch.tensor([0]))
    assert model.score(empty).shape == (0, 9)
    assert model.score(empty, torch.tensor([3, 4])).shape == (0, 2)
    assert model.score(empty, torch.zeros(0, 3).long()).shape == (0, 3)


def test_tagnn_session_of_many_clicks_equals_itself_beside_a_short_one() -> None:
    model = model_of()
    long = torch.randint(9, (2000,), generator=torch.Generator().manual_seed(0)).tolist()
    together = model.score(batch_of([long, [3]]))
    torch.testing.assert_close(together[:1], model.score(batch_of([long])))
    torch.testing.assert_close(together[1:], model.score(batch_of([[3]])))


@pytest.mark.parametrize(
    ("loss", "shared"),
    [("cross_entropy", None), ("sampled_softmax", None), ("sampled_softmax", False)],
)
def test_tagnn_is_trained_by_the_loss_of_its_scores(loss: str, shared: bool | None) -> None:
    model, targets = model_of(), [3, -1, 2, 5, 8]
    batch, y = batch_of(SESSIONS, targets), torch.tensor([3, 2, 5, 8])
    known = torch.tensor([0, 2, 3, 4])
    scores = model.score(batch)[known]
    if loss == "cross_entropy":
        objective = Objective(loss, 9, None, seed=0)
        expected = torch.nn.functional.cross_entropy(scores, y)
    else:
        objective = Objective(SampledLoss(loss, 4, alpha=0, shared=shared), 9, None, seed=0)
        assert objective.sampler is not None
        if shared is False:
            negatives = objective.sampler.sample(0, 0, known)
        else:
            negatives = objective.sampler.sample(0, 0).expand(4, -1)
        corrected = scores - objective.sampler.log_q
        others = corrected.gather(1, negatives).exp() * (negatives != y.unsqueeze(1))
        positive = corrected.gather(1, y.unsqueeze(1)).squeeze(1)
        expected = -(positive - (positive.exp() + others.sum(1)).log()).mean()
    torch.testing.assert_close(objective(model, batch, 0, 0), expected)


def test_tagnn_finds_the_hub_that_only_the_session_graph_tells(loops: Any) -> None:
    torch.manual_seed(0)
    model = TAGNN(30, 16)
    fit(model, loops.train, max_epochs=8, batch_size=64, learning_rate=0.02, progress=False)
    last_two = MarkovChain(30, order=2).fit_counts(loops.train)
    assert loops.found(model) > loops.found(last_two) + 0.1
