"""InfoNCE against loops, and the views that sessions are compared by."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data.graphs.augment import ClickDropout, SegmentReorder
from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.graphs.views import augmented_view
from graphseq.data.sessions.sessions import Sessions
from graphseq.models import HSTU, SRGNN, BSTRanker, SASRec
from graphseq.models.base import SessionModel
from graphseq.training.objectives.auxiliary import Step, read_step
from graphseq.training.objectives.contrastive import Contrastive, info_nce

NUM_ITEMS = 6
LISTS = [[0, 1, 2, 0], [3, 1], [2, 2, 5], [4, 0, 1, 1], [5, 3, 1], [0, 4]]
SESSIONS = Sessions.from_lists(LISTS)


def vectors(number: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(number, 3, generator=generator, dtype=torch.float64).requires_grad_()


def naive(first: Tensor, second: Tensor, temperature: float, labels: list[int] | None) -> float:
    z, n = [*first.tolist(), *second.tolist()], len(first)
    total = 0.0
    for a in range(2 * n):
        scores = {b: sum(x * y for x, y in zip(z[a], z[b], strict=True)) for b in range(2 * n)}
        partner = (a + n) % (2 * n)
        others = [
            b
            for b in scores
            if b == partner or (b != a and (labels is None or labels[b % n] != labels[a % n]))
        ]
        total -= scores[partner] / temperature
        total += math.log(sum(math.exp(scores[b] / temperature) for b in others))
    return total / (2 * n)


@pytest.mark.parametrize("temperature", [0.3, 1.0])
@pytest.mark.parametrize("labels", [None, [4, 1, 4, 4, 0]])
def test_info_nce_equals_a_loop_and_finite_differences(
    temperature: float, labels: list[int] | None
) -> None:
    first, second = vectors(5), vectors(5, seed=1)
    of_row = None if labels is None else torch.tensor(labels)
    loss = info_nce(first, second, temperature, of_row)
    assert loss.item() == pytest.approx(naive(first, second, temperature, labels), rel=1e-9)
    total = info_nce(first, second, temperature, of_row, "sum")
    torch.testing.assert_close(total, 10 * loss)
    assert torch.autograd.gradcheck(
        lambda a, b: info_nce(a, b, temperature, of_row), (first, second)
    )


def test_info_nce_by_angle_does_not_see_lengths() -> None:
    first, second = vectors(4), vectors(4, seed=1)
    longer = info_nce(3 * first, second / 7, cosine=True)
    torch.testing.assert_close(longer, info_nce(first, second, cosine=True))
    unit = [v / v.norm(dim=1, keepdim=True) for v in (first, second)]
    torch.testing.assert_close(longer, info_nce(*unit))


def test_info_nce_of_one_session_and_of_none_is_zero() -> None:
    assert info_nce(vectors(1), vectors(1, seed=1)).item() == pytest.approx(0.0, abs=1e-12)
    assert info_nce(vectors(0), vectors(0)).item() == 0.0
    labels = torch.zeros(3).long()
    assert info_nce(vectors(3), vectors(3, seed=1), 1.0, labels).item() == pytest.approx(0.0)


def step_of(model: SessionModel, number: int | None = None) -> Step:
    by_session = model.samples == "sessions"
    dataset = SessionGraphDataset(SESSIONS, "sessions" if by_session else "prefixes")
    return read_step(model, dataset.batch(range(number or len(dataset))), (1, 2))


def model_of(name: str, dropout: float = 0.0) -> SessionModel:
    torch.manual_seed(0)
    if name == "sasrec":
        return SASRec(NUM_ITEMS, 8, 1, dropout=dropout).train()
    return SRGNN(NUM_ITEMS, 8, dropout=dropout).train()


@pytest.mark.parametrize("name", ["srgnn", "sasrec"])
def test_contrastive_compares_two_augmented_views(name: str) -> None:
    model, change = model_of(name), SegmentReorder(1.0)
    contrastive = Contrastive(change, temperature=0.5)
    contrastive.prepare(model, SESSIONS)
    step = step_of(model)
    first, second = (model(augmented_view(step.batch, change, 1, 2, number)) for number in (0, 1))
    assert not first.equal(second)
    torch.testing.assert_close(contrastive(step), info_nce(first, second, 0.5))


@pytest.mark.parametrize("name", ["srgnn", "sasrec"])
def test_contrastive_without_more_compares_two_draws_of_dropout(name: str) -> None:
    model = model_of(name, dropout=0.4)
    contrastive = Contrastive()
    contrastive.prepare(model, None)
    step = step_of(model)
    torch.manual_seed(3)
    loss = contrastive(step)
    torch.manual_seed(3)
    first = step.vectors if name == "srgnn" else model(step.batch)
    torch.testing.assert_close(loss, info_nce(first, model(step.batch)))
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert any(p.grad is not None and p.grad.any() for p in model.parameters())


class Seen(SRGNN):
    """Remembers the batches that it read."""

    def forward(self, batch: Batch) -> Tensor:
        self.__dict__.setdefault("batches", []).append(batch)
        return super().forward(batch)


def test_contrastive_of_the_same_target_reads_sessions_with_that_target() -> None:
    model = Seen(NUM_ITEMS, 8)
    contrastive = Contrastive(same_target=True)
    contrastive.prepare(model, SESSIONS)
    dataset = SessionGraphDataset(SESSIONS)
    by_target: dict[int, set[tuple[int, ...]]] = {}
    for graph in dataset.batch(range(len(dataset))).to_data_list():
        by_target.setdefault(int(graph.y), set()).add(tuple(graph.click_item.tolist()))
    met: dict[int, set[tuple[int, ...]]] = {}
    for epoch in range(30):
        batch = dataset.batch(range(len(dataset)))
        step = read_step(model, batch, (0, epoch))
        loss = contrastive(step)
        partners = model.batches[-1]
        for target, graph in zip(batch.y.tolist(), partners.to_data_list(), strict=True):
            met.setdefault(target, set()).add(tuple(graph.click_item.tolist()))
        expected = info_nce(step.vectors, model(partners), 1.0, batch.y)
        torch.testing.assert_close(loss, expected)
    assert met == by_target


def test_contrastive_partners_of_a_session_do_not_depend_on_its_batch() -> None:
    model = Seen(NUM_ITEMS, 8)
    contrastive = Contrastive(same_target=True)
    contrastive.prepare(model, SESSIONS)
    dataset = SessionGraphDataset(SESSIONS)
    found = []
    for index in (range(len(dataset)), [7, 2]):
        contrastive(read_step(model, dataset.batch(index), (0, 5)))
        found.append([g.click_item.tolist() for g in model.batches[-1].to_data_list()])
    assert found[1] == [found[0][7], found[0][2]]


def test_contrastive_partners_have_the_time_of_their_target_where_the_model_reads_it() -> None:
    timed = replace(SESSIONS, time=np.arange(SESSIONS.num_clicks) ** 2.0)
    dataset = SessionGraphDataset(timed, request_time=True)
    batch = dataset.batch(range(len(dataset)))
    own = {(g.click_time.tolist()[-1], float(g.request_time)) for g in batch.to_data_list()}
    contrastive = Contrastive(same_target=True)
    contrastive.prepare(HSTU(NUM_ITEMS, 8, time="request"), timed)
    partners = contrastive._partners(batch, batch.y, torch.arange(len(dataset)), (0, 0))
    for graph in partners.to_data_list():
        assert (graph.click_time.tolist()[-1], float(graph.request_time)) in own


def test_contrastive_leaves_sessions_without_a_known_target_out() -> None:
    model = model_of("srgnn")
    contrastive = Contrastive(same_target=True)
    contrastive.prepare(model, SESSIONS)
    batch = SessionGraphDataset(SESSIONS).batch([0, 1, 2])
    batch.y[1] = -1
    kept = SessionGraphDataset(SESSIONS).batch([0, 2])
    torch.testing.assert_close(
        contrastive(read_step(model, batch, (0, 0))), contrastive(read_step(model, kept, (0, 0)))
    )


def test_wrong_contrastive_is_refused() -> None:
    with pytest.raises(ValueError, match="one kind of views"):
        Contrastive(ClickDropout(), same_target=True)
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        Contrastive(temperature=0)
    with pytest.raises(ValueError, match="weight of contrastive must be positive"):
        Contrastive(weight=0.0)
    with pytest.raises(ValueError, match="where dropout is 0: build SRGNN"):
        Contrastive().prepare(model_of("srgnn"), SESSIONS)
    with pytest.raises(ValueError, match="draws other sessions of the training data"):
        Contrastive(same_target=True).prepare(model_of("srgnn"), None)
    with pytest.raises(ValueError, match="BSTRanker has not: it scores pairs"):
        Contrastive(ClickDropout()).prepare(BSTRanker(3), SESSIONS)
    with pytest.raises(ValueError, match=r"two views \[n, d\]"):
        info_nce(vectors(3), vectors(4))
    with pytest.raises(ValueError, match="temperature must be positive"):
        info_nce(vectors(3), vectors(3), 0.0)
    with pytest.raises(ValueError, match="reduction is"):
        info_nce(vectors(3), vectors(3), reduction="none")  # type: ignore[arg-type]


def test_targets_of_samples_are_those_of_their_graphs() -> None:
    for samples in ("prefixes", "sessions"):
        dataset = SessionGraphDataset(SESSIONS, samples)
        last = [int(graph.y[-1]) for graph in dataset.batch(range(len(dataset))).to_data_list()]
        assert dataset.targets().tolist() == last
        assert np.issubdtype(dataset.targets().dtype, np.int64)
