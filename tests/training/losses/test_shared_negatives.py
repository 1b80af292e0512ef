"""The fused sampled softmax against its composition, value by value and gradient by gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from graphseq.training.losses import sampled_softmax
from graphseq.training.losses import shared_negatives as module
from graphseq.training.losses.shared_negatives import collisions, shared_sampled_softmax
from graphseq.training.negatives.sampler import shared_scores


def example(num_rows: int, num_negatives: int, scale: float = 1.0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(num_rows * 100 + num_negatives)

    def normal(*size: int) -> Tensor:
        values = torch.randn(*size, generator=generator, dtype=torch.float64)
        return (scale * values).requires_grad_()

    return {
        "vectors": normal(num_rows, 5),
        "rows": normal(num_rows + num_negatives, 5),
        "offset": normal(num_rows + num_negatives),
        "targets": torch.randint(6, (num_rows,), generator=generator),
        "negatives": torch.randint(6, (num_negatives,), generator=generator),
    }


def fused(case: dict[str, Tensor], **options: Any) -> Tensor:
    n = len(case["targets"])
    return shared_sampled_softmax(
        case["vectors"],
        case["rows"][:n],
        case["rows"][n:],
        case["targets"],
        case["negatives"],
        case["offset"][:n],
        case["offset"][n:],
        **options,
    )


def plain(case: dict[str, Tensor], **options: Any) -> Tensor:
    scored = shared_scores(
        case["vectors"], case["rows"], case["targets"], case["negatives"], case["offset"]
    )
    return sampled_softmax(*scored, **options)


@pytest.mark.parametrize("block", [1, 7, 10_000])
@pytest.mark.parametrize("size", [(1, 2), (4, 3), (30, 8)])
@pytest.mark.parametrize("scale", [0.1, 1.0, 300.0])
@pytest.mark.parametrize(
    "options", [{}, {"label_smoothing": 0.2}, {"reduction": "sum", "label_smoothing": 0.5}]
)
def test_fused_loss_and_gradients_equal_the_composition(
    block: int,
    size: tuple[int, int],
    scale: float,
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "BLOCK_ELEMENTS", block)
    results = []
    for loss_of in (fused, plain):
        case = example(*size, scale=scale)
        loss = loss_of(case, **options)
        (3 * loss).backward()
        results.append([loss.detach(), *(case[k].grad for k in ("vectors", "rows", "offset"))])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_fused_gradients_pass_gradcheck(smoothing: float) -> None:
    case = example(5, 4)
    inputs = (case["vectors"], case["rows"], case["offset"])

    def loss(vectors: Tensor, rows: Tensor, offset: Tensor) -> Tensor:
        changed = case | {"vectors": vectors, "rows": rows, "offset": offset}
        return fused(changed, label_smoothing=smoothing)

    assert torch.autograd.gradcheck(loss, inputs)


def test_row_whose_negatives_all_equal_its_target_adds_nothing() -> None:
    case = example(2, 3)
    case["targets"], case["negatives"] = torch.tensor([4, 1]), torch.tensor([4, 4, 4])
    loss = fused(case)
    loss.backward()
    assert torch.equal(case["vectors"].grad[0], torch.zeros(5, dtype=torch.float64))
    alone = case | {"vectors": case["vectors"][1:], "targets": case["targets"][1:]}
    alone |= {"rows": case["rows"][1:], "offset": case["offset"][1:]}
    torch.testing.assert_close(loss, fused(alone) / 2)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_hidden_cells_count_no_more_than_missing_ones(smoothing: float) -> None:
    case = example(4, 5)
    cells = torch.tensor([0, 0, 2, 3]), torch.tensor([1, 4, 0, 2])
    mask = torch.ones(4, 5, dtype=torch.bool)
    mask[cells] = False
    positive, scores, _ = shared_scores(
        case["vectors"], case["rows"], case["targets"], case["negatives"], case["offset"]
    )
    torch.testing.assert_close(
        fused(case, hidden=cells, label_smoothing=smoothing),
        sampled_softmax(positive, scores, mask, label_smoothing=smoothing),
    )


def test_no_rows_give_zero_loss_and_zero_gradients() -> None:
    case = example(0, 3)
    loss = fused(case)
    loss.backward()
    assert loss.item() == 0.0
    assert not case["rows"].grad.any()


def test_without_gradients_the_value_is_the_same() -> None:
    case = example(6, 5)
    with torch.no_grad():
        value = fused(case)
    torch.testing.assert_close(value, plain(case).detach())


@given(st.lists(st.integers(0, 4), max_size=8), st.lists(st.integers(0, 4), max_size=8))
def test_collisions_are_exactly_the_equal_cells_row_by_row(
    targets: list[int], negatives: list[int]
) -> None:
    row, column = collisions(
        torch.tensor(targets, dtype=torch.long), torch.tensor(negatives, dtype=torch.long)
    )
    expected = {(i, j) for i, t in enumerate(targets) for j, n in enumerate(negatives) if t == n}
    assert set(zip(row.tolist(), column.tolist(), strict=True)) == expected
    assert len(row) == len(expected)
    assert row.tolist() == sorted(row.tolist())


@pytest.mark.parametrize("name", ["vectors", "own", "other", "own_offset", "other_offset"])
def test_wrong_shapes_are_refused_by_name(name: str) -> None:
    arguments = {
        "vectors": torch.zeros(3, 2),
        "own": torch.zeros(3, 2),
        "other": torch.zeros(4, 2),
        "own_offset": torch.zeros(3),
        "other_offset": torch.zeros(4),
    }
    arguments[name] = torch.zeros(7, 2)
    targets, negatives = torch.zeros(3, dtype=torch.long), torch.zeros(4, dtype=torch.long)
    with pytest.raises(ValueError, match="must be"):
        shared_sampled_softmax(**arguments, targets=targets, negatives=negatives)


@pytest.mark.parametrize("options", [{"reduction": "none"}, {"label_smoothing": -0.1}])
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        fused(example(2, 3), **options)


def test_shared_loss_without_a_negative_that_counts_is_refused() -> None:
    vectors, targets = torch.ones(2, 3), torch.tensor([4, 4])
    for negatives in (torch.tensor([4, 4]), torch.tensor([], dtype=torch.long)):
        other = torch.ones(len(negatives), 3)
        with pytest.raises(ValueError, match="No negative counts in any of the 2 rows"):
            shared_sampled_softmax(vectors, vectors, other, targets, negatives)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_shared_loss_at_scores_of_minus_infinity_equals_that_of_each_row(smoothing: float) -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(3, 4, generator=generator, dtype=torch.double).requires_grad_()
    own = torch.randn(3, 4, generator=generator, dtype=torch.double)
    other = torch.randn(5, 4, generator=generator, dtype=torch.double)
    targets, negatives = torch.tensor([0, 1, 2]), torch.tensor([7, 1, 8, 9, 1])
    lowest = torch.tensor([0.0, -torch.inf, -torch.inf, 0.5, 0.0], dtype=torch.double)
    loss = shared_sampled_softmax(
        vectors, own, other, targets, negatives, None, lowest, label_smoothing=smoothing
    )
    mask = negatives != targets.unsqueeze(1)
    scores = vectors @ other.t() + lowest
    expected = sampled_softmax((vectors * own).sum(1), scores, mask, label_smoothing=smoothing)
    assert loss.isfinite()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(each, vectors) for each in (loss, expected)))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_shared_loss_of_an_impossible_target_is_infinite_without_a_nan(smoothing: float) -> None:
    vectors, own, other = (torch.ones(2, 3, requires_grad=True) for _ in range(3))
    offsets = torch.tensor([-torch.inf, 0.0]), torch.full((2,), -torch.inf)
    loss = shared_sampled_softmax(
        vectors,
        own,
        other,
        torch.tensor([0, 1]),
        torch.tensor([2, 3]),
        *offsets,
        label_smoothing=smoothing,
    )
    assert loss.item() == torch.inf
    for grad in torch.autograd.grad(loss, (vectors, own, other)):
        assert grad.isfinite().all()
