"""The moving average of weights against its plain recurrence, and what a step of it touches."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Embedding

from graphseq.training.optim.optimizers import OPTIMIZERS, OptimizerName, RowSparseOptimizer
from graphseq.training.optim.weight_average import MEMORY, WeightAverage

ROWS, CHANNELS = 40, 3


class Model(torch.nn.Module):
    def __init__(self, sparse: bool = True) -> None:
        super().__init__()
        self.table = Embedding(ROWS, CHANNELS, sparse=sparse)
        self.lin = torch.nn.Linear(CHANNELS, 2)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            torch.nn.init.normal_(parameter, generator=generator)

    def forward(self, rows: Tensor) -> Tensor:
        return self.lin(self.table(rows)).square().mean()


def rows_of(step: int) -> Tensor:
    """Some rows each step, one every 7th, one only at first, most after long pauses or never."""
    generator = torch.Generator().manual_seed(step)
    few = torch.randint(4, 12, (3,), generator=generator)
    rare = torch.tensor([step % 7, 20 + step // 150] + ([0] if step < 3 else []))
    return torch.cat([few, rare])


def train(
    model: Model,
    name: OptimizerName,
    steps: int,
    *,
    settle: bool,
    kind: str = "sparse",
    **options: Any,
) -> tuple[list[list[Tensor]], RowSparseOptimizer]:
    optimizer = RowSparseOptimizer(model.parameters(), name, 0.02, **options)
    optimizer.average = WeightAverage(model.parameters(), 0.99)
    optimizer.watch(model)
    seen = [[p.detach().clone() for p in model.parameters()]]
    for step in range(steps):
        model.table.sparse = kind == "sparse" or (kind == "mixed" and step % 50 != 49)
        optimizer.param_groups[0]["lr"] = 0.02 * (1 + math.cos(step / 30)) / 2  # rates change
        optimizer.zero_grad()
        if kind == "gaps" and step % 50 == 20:  # a step without the table
            model.lin(torch.ones(2, CHANNELS)).sum().backward()
        else:
            model(rows_of(step)).backward()
        optimizer.step()
        if settle:
            optimizer.settle()
            seen.append([p.detach().clone() for p in model.parameters()])
    optimizer.settle()
    return seen, optimizer


def recurrence(seen: list[list[Tensor]]) -> list[Tensor]:
    average = [w.double() for w in seen[0]]
    for n, weights in enumerate(seen[1:], 1):
        beta = min(0.99, (1 + n) / (10 + n))
        average = [
            beta * e + (1 - beta) * w.double() for e, w in zip(average, weights, strict=True)
        ]
    return average


@pytest.mark.parametrize(
    ("name", "decay", "kind"),
    [(name, 0.0, "sparse") for name in OPTIMIZERS]
    + [("adamw", 0.5, "sparse"), ("adam", 0.01, "sparse")]
    + [(name, 0.5, kind) for name in ("adamw", "sgd") for kind in ("mixed", "gaps")],
)
def test_average_of_lazy_rows_equals_the_plain_recurrence(
    name: OptimizerName, decay: float, kind: str
) -> None:
    steps = MEMORY + 60  # rows are left alone for longer than momentum lasts
    every, lazy = Model(), Model()
    options = {"kind": kind, "weight_decay": decay}
    seen, _ = train(every, name, steps, settle=True, **options)
    _, optimizer = train(lazy, name, steps, settle=False, **options)
    assert optimizer.average is not None
    for average, expected in zip(optimizer.average.averages, recurrence(seen), strict=True):
        torch.testing.assert_close(average.double(), expected, rtol=1e-4, atol=2e-6)


def test_average_of_dense_weights_equals_the_plain_recurrence() -> None:
    model = Model(False)
    seen, optimizer = train(model, "adam", 60, settle=True, kind="dense")
    assert optimizer.average is not None
    for average, expected in zip(optimizer.average.averages, recurrence(seen), strict=True):
        torch.testing.assert_close(average.double(), expected, rtol=1e-5, atol=1e-7)


def test_step_touches_the_average_of_its_rows_alone() -> None:
    model = Model()
    optimizer = RowSparseOptimizer(model.parameters(), "adam", 0.1)
    optimizer.average = WeightAverage(model.parameters(), 0.9)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.tensor([1, 2])).backward()
        optimizer.step()
    changed = (optimizer.average.averages[0] != Model().table.weight).any(1)
    assert changed.nonzero().flatten().tolist() == [1, 2]


def test_averages_stand_in_for_the_weights_and_go_again() -> None:
    model = Model()
    _, optimizer = train(model, "adam", 5, settle=False)
    assert optimizer.average is not None
    own = model.table.weight.detach().clone()
    average = optimizer.average.averages[0].clone()
    with optimizer.average.in_place():
        assert torch.equal(model.table.weight, average)
    assert torch.equal(model.table.weight, own)
    assert torch.equal(optimizer.average.averages[0], average)
    assert not torch.equal(own, average)


@pytest.mark.parametrize("name", ["adam", "rowwise_adagrad"])
def test_state_goes_on_bit_for_bit(name: OptimizerName) -> None:
    def step_on(model: Model, optimizer: RowSparseOptimizer, steps: range) -> None:
        optimizer.watch(model)
        for step in steps:
            optimizer.zero_grad()
            model(rows_of(step)).backward()
            optimizer.step()

    whole, halves = Model(), Model()
    first = RowSparseOptimizer(whole.parameters(), name, 0.01)
    first.average = WeightAverage(whole.parameters(), 0.99)
    step_on(whole, first, range(30))
    halves.load_state_dict(whole.state_dict())
    second = RowSparseOptimizer(halves.parameters(), name, 0.01)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    second.average = WeightAverage(halves.parameters(), 0.99)
    second.average.load_state_dict(copy.deepcopy(first.average.state_dict()))
    step_on(whole, first, range(30, 60))
    step_on(halves, second, range(30, 60))
    for optimizer in (first, second):
        optimizer.settle()
    for one, other in zip(first.average.averages, second.average.averages, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(whole.table.weight, halves.table.weight)
