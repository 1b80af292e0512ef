"""Row-sparse steps against dense ones: the same tables, however long a row was left alone."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import Embedding

from graphseq.training.optim import optimizers
from graphseq.training.optim.optimizers import (
    OPTIMIZERS,
    RowSparseOptimizer,
    clip_gradients,
    sparse_tables,
)

NUM_ROWS, CHANNELS, STEPS = 30, 4, 700

REFERENCES: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adagrad": torch.optim.Adagrad,
    "sgd": torch.optim.SGD,
}


class Model(torch.nn.Module):
    """A table read by row, and a dense parameter beside it."""

    def __init__(self, sparse: bool) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = Embedding(NUM_ROWS, CHANNELS, sparse=sparse).double()
        self.dense = torch.nn.Parameter(torch.ones(CHANNELS, dtype=torch.float64))
        with torch.no_grad():
            weight = torch.randn(NUM_ROWS, CHANNELS, generator=generator, dtype=torch.float64)
            self.table.weight.copy_(weight)

    def loss(self, rows: Tensor, goal: Tensor) -> Tensor:
        return ((self.table(rows) * self.dense - goal).square()).sum()


def drawn(step: int) -> tuple[Tensor, Tensor]:
    """Rows of a step: skewed, so that some are left alone for hundreds of steps; some twice."""
    generator = torch.Generator().manual_seed(step)
    rows = (NUM_ROWS * torch.rand(5, generator=generator) ** 4).long()
    return rows, torch.randn(5, CHANNELS, generator=generator, dtype=torch.float64)


def run(
    model: Model, optimizer: torch.optim.Optimizer, steps: range, schedule: bool
) -> list[float]:
    losses = []
    for step in steps:
        if schedule:
            optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / STEPS)
        optimizer.zero_grad()
        loss = model.loss(*drawn(step))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(
    ("name", "schedule"),
    [("adam", False), ("adam", True), ("adamw", True), ("adagrad", True), ("sgd", True)],
)
def test_sparse_steps_equal_dense_ones_of_torch(name: str, schedule: bool) -> None:
    decay = {"weight_decay": 0.01} if name == "adamw" else {}
    dense, sparse = Model(False), Model(True)
    expected = run(
        dense, REFERENCES[name](dense.parameters(), lr=0.01, **decay), range(STEPS), schedule
    )
    optimizer = RowSparseOptimizer(sparse.parameters(), name, 0.01, **decay)
    optimizer.watch(sparse)
    found = run(sparse, optimizer, range(STEPS), schedule)
    assert sparse.table.weight.grad.is_sparse
    # Each loss reads rows that had been left alone, so they had caught up before.
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    optimizer.settle()
    torch.testing.assert_close(sparse.table.weight, dense.table.weight, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(sparse.dense, dense.dense, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_sparse_steps_with_tiny_gradients_equal_dense_ones_of_torch(name: str) -> None:
    """In single precision, where squares of gradients below 1e-23 are zero."""
    lr, exponents = 0.01, torch.arange(0, 42)
    sizes = 10.0 ** -exponents.double()  # [rows]
    dense = torch.nn.Parameter(torch.zeros(len(sizes), 2))
    table = Embedding.from_pretrained(torch.zeros(len(sizes), 2), freeze=False, sparse=True)
    reference = REFERENCES[name]([dense], lr=lr, weight_decay=0.0)
    optimizer = RowSparseOptimizer(table.parameters(), name, lr)
    for step in range(1500):
        rows = (exponents % 7 == step % 7).nonzero().view(-1) if step % 3 else exponents[:1]
        gradient = (sizes[rows].unsqueeze(1) * torch.tensor([1.0, -2.0])).float()
        dense.grad = torch.zeros_like(dense).index_add_(0, rows, gradient)
        table.weight.grad = torch.sparse_coo_tensor(
            rows.unsqueeze(0), gradient, dense.shape, check_invariants=True
        )
        reference.step()
        optimizer.step()
    optimizer.settle()
    # Where a gradient is near epsilon, the epsilon of missed steps fades a little too early.
    torch.testing.assert_close(table.weight, dense, rtol=0.01, atol=1e-6 * lr)


def test_adam_that_forgets_missed_steps_is_told_apart() -> None:
    """The test above would see it: rows are left alone long enough to matter."""
    dense, sparse = Model(False), Model(True)
    run(dense, torch.optim.Adam(dense.parameters(), lr=0.01), range(STEPS), False)
    forgetful = RowSparseOptimizer(sparse.parameters(), "adam", 0.01)
    forgetful._catch_up = lambda *_: None
    run(sparse, forgetful, range(STEPS), False)
    assert (sparse.table.weight - dense.table.weight).abs().max() > 0.01


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_dense_gradients_of_all_methods_equal_sparse_ones(name: str) -> None:
    models = Model(False), Model(True)
    for model in models:
        optimizer = RowSparseOptimizer(model.parameters(), name, 0.01)
        optimizer.watch(model)
        run(model, optimizer, range(300), False)
        optimizer.settle()
    torch.testing.assert_close(models[0].table.weight, models[1].table.weight, rtol=1e-4, atol=1e-6)


def test_rowwise_adagrad_by_hand() -> None:
    table = Embedding(3, 2, sparse=True)
    torch.nn.init.zeros_(table.weight)
    optimizer = RowSparseOptimizer(table.parameters(), "rowwise_adagrad", 0.5)
    for _ in range(2):
        optimizer.zero_grad()
        (table(torch.tensor([1])) * torch.tensor([3.0, 4.0])).sum().backward()
        optimizer.step()
    # Mean squares 12.5 a step: the row moves by 0.5 g / sqrt(12.5), then by 0.5 g / sqrt(25).
    moved = 0.5 * (12.5**-0.5 + 25**-0.5)
    expected = torch.tensor([[0.0, 0.0], [-3 * moved, -4 * moved], [0.0, 0.0]])
    torch.testing.assert_close(table.weight.detach(), expected)
    assert optimizer.state[table.weight]["sum"].shape == (3,)


def gradients(sparse: bool) -> tuple[Model, list[torch.Tensor]]:
    """A model after one backward pass, and its gradients as dense tensors."""
    model = Model(sparse)
    rows = torch.tensor([0, 2, 0])
    model.loss(rows, torch.ones(3, CHANNELS, dtype=torch.float64)).backward()
    found = [p.grad for p in model.parameters() if p.grad is not None]
    return model, [each.to_dense().clone() for each in found]


@pytest.mark.parametrize("most", [0.25, 1e9])
@pytest.mark.parametrize("by_value", [False, True])
def test_clipped_row_sparse_gradients_are_those_that_torch_clips_dense(
    most: float, by_value: bool
) -> None:
    dense, _ = gradients(False)
    sparse, before = gradients(True)
    if by_value:
        torch.nn.utils.clip_grad_value_(dense.parameters(), most)
    else:
        torch.nn.utils.clip_grad_norm_(dense.parameters(), most)
    clip_gradients(sparse.parameters(), most, by_value=by_value)
    for one, other, first in zip(dense.parameters(), sparse.parameters(), before, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(other.grad.to_dense(), one.grad)
        assert torch.equal(other.grad.to_dense(), first) == (most == 1e9)


def test_weight_decay_of_adam_falls_on_the_rows_of_a_gradient_alone() -> None:
    model = Model(True)
    untouched = model.table.weight[NUM_ROWS - 1].detach().clone()
    optimizer = RowSparseOptimizer(model.parameters(), "adam", 0.01, weight_decay=0.1)
    optimizer.zero_grad()
    model.loss(torch.tensor([0]), torch.zeros(1, CHANNELS, dtype=torch.float64)).backward()
    optimizer.step()
    optimizer.settle()
    assert torch.equal(model.table.weight[NUM_ROWS - 1], untouched)
    assert not torch.equal(model.table.weight[0], Model(True).table.weight[0])


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("stop", [40, 400])
def test_state_saved_and_loaded_goes_on_bit_for_bit(name: str, stop: int) -> None:
    whole, model = Model(True), Model(True)
    optimizer = RowSparseOptimizer(whole.parameters(), name, 0.01)
    optimizer.watch(whole)
    run(whole, optimizer, range(stop + 50), True)
    optimizer.settle()
    first = RowSparseOptimizer(model.parameters(), name, 0.01)
    first.watch(model)
    run(model, first, range(stop), True)
    first.unwatch()
    state = copy.deepcopy(first.state_dict())
    second = RowSparseOptimizer(model.parameters(), name, 0.01)
    second.load_state_dict(state)
    second.watch(model)
    run(model, second, range(stop, stop + 50), True)
    second.settle()
    assert torch.equal(model.table.weight, whole.table.weight)


def test_sparse_table_that_meets_a_dense_gradient_catches_up_first() -> None:
    models = Model(False), Model(True)
    for model in models:
        optimizer = RowSparseOptimizer(model.parameters(), "adam", 0.01)
        optimizer.watch(model)
        run(model, optimizer, range(60), False)
        optimizer.settle()
        model.table.sparse = False
        run(model, optimizer, range(60, 70), False)
        model.table.sparse = model is models[1]
        run(model, optimizer, range(70, 90), False)
        optimizer.settle()
    torch.testing.assert_close(models[0].table.weight, models[1].table.weight, rtol=1e-4, atol=1e-6)


def test_unwatched_module_is_read_as_it_is() -> None:
    model = Model(True)
    optimizer = RowSparseOptimizer(model.parameters(), "adam", 0.01)
    optimizer.watch(model)
    run(model, optimizer, range(5), False)
    optimizer.unwatch()
    before = model.table.weight.detach().clone()
    model.table(torch.arange(NUM_ROWS))
    assert torch.equal(model.table.weight, before)


def test_sparse_tables_marks_large_tables_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers, "SPARSE_FROM", NUM_ROWS)
    model = Model(False)
    small = Embedding(NUM_ROWS - 1, 2)
    both = torch.nn.ModuleList([model, small])
    with sparse_tables(both):
        assert model.table.sparse
        assert not small.sparse
    assert not model.table.sparse
    with sparse_tables(both, wanted=False):
        assert not model.table.sparse


def test_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="optimizer is one of adam, adamw"):
        RowSparseOptimizer(Model(False).parameters(), "lamb")
