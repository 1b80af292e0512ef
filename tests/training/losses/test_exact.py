"""The blocked cross-entropy against torch's own, in value, gradient and what it holds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from graphseq.training.losses.exact import full_cross_entropy

Inputs = tuple[Tensor, Tensor, Tensor, Tensor]


def example(
    num_rows: int = 9,
    num_items: int = 23,
    channels: int = 4,
    *,
    scale: float = 1.0,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Inputs:
    """Vectors, weight, bias and targets; the first three ask for gradients."""
    generator = torch.Generator().manual_seed(seed)
    vectors, weight, bias = (
        (torch.randn(*shape, generator=generator, dtype=dtype) * scale).requires_grad_()
        for shape in ((num_rows, channels), (num_items, channels), (num_items,))
    )
    targets = torch.randint(num_items, (num_rows,), generator=generator)
    return vectors, weight, bias, targets


def plain(vectors: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None = None) -> Tensor:
    return cross_entropy(linear(vectors, weight, bias), targets)


@settings(max_examples=60, deadline=None)
@given(
    num_rows=st.integers(1, 12),
    num_items=st.integers(1, 40),
    block_elements=st.integers(1, 600),
    tile_columns=st.sampled_from([1, 7, 2048]),
    scale=st.sampled_from([0.1, 1.0, 4.0, 30.0]),
    with_bias=st.booleans(),
    reduction=st.sampled_from(["mean", "sum"]),
    smoothing=st.sampled_from([0.0, 0.1, 1.0]),
    seed=st.integers(0, 1000),
)
def test_full_cross_entropy_in_blocks_of_any_size_equals_torch(
    num_rows: int,
    num_items: int,
    block_elements: int,
    tile_columns: int,
    scale: float,
    with_bias: bool,
    reduction: str,
    smoothing: float,
    seed: int,
) -> None:
    vectors, weight, bias, targets = example(num_rows, num_items, scale=scale, seed=seed)
    inputs = (vectors, weight, bias) if with_bias else (vectors, weight)
    item_bias = bias if with_bias else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("graphseq.training.losses.exact.TILE_COLUMNS_CPU", tile_columns)
        loss = full_cross_entropy(
            vectors,
            weight,
            targets,
            item_bias,
            reduction,
            label_smoothing=smoothing,
            block_elements=block_elements,
        )
    expected = cross_entropy(
        linear(vectors, weight, item_bias), targets, reduction=reduction, label_smoothing=smoothing
    )
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)
    for grad, wanted in zip(
        torch.autograd.grad(loss, inputs), torch.autograd.grad(expected, inputs), strict=True
    ):
        torch.testing.assert_close(grad, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("block_elements", [None, 700, 60_000])
@pytest.mark.parametrize("scale", [0.1, 2.0])
def test_full_cross_entropy_in_float32_equals_torch(
    block_elements: int | None, scale: float
) -> None:
    vectors, weight, bias, targets = example(200, 500, 32, scale=scale, dtype=torch.float32)
    inputs = (vectors, weight, bias)
    loss = full_cross_entropy(vectors, weight, targets, bias, block_elements=block_elements)
    expected = plain(vectors, weight, targets, bias)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    for grad, wanted in zip(
        torch.autograd.grad(loss, inputs), torch.autograd.grad(expected, inputs), strict=True
    ):
        torch.testing.assert_close(grad, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("block_elements", [None, 700, 60])
@pytest.mark.parametrize("low", [0, 1, 30])
def test_full_cross_entropy_of_vectors_beside_their_targets_or_opposite_equals_torch(
    block_elements: int | None, low: int
) -> None:
    # No logit exceeds 100; those of the targets are 100 and, of the first rows, -100.
    vectors, weight, bias, targets = example(30, 50, 8, dtype=torch.float32)
    with torch.no_grad():
        weight.copy_(10 * torch.nn.functional.normalize(weight))
        vectors.copy_(weight[targets])
        vectors[:low] *= -1
    inputs = (vectors, weight, bias)
    loss = full_cross_entropy(vectors, weight, targets, bias, block_elements=block_elements)
    expected = plain(vectors, weight, targets, bias)
    # Neighbors of 100 lie 8e-6 apart in float32.
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-5)
    for grad, wanted in zip(
        torch.autograd.grad(loss, inputs), torch.autograd.grad(expected, inputs), strict=True
    ):
        torch.testing.assert_close(grad, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("block_elements", [None, 7, 50])
@pytest.mark.parametrize("scale", [1.0, 8.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_full_cross_entropy_gradient_equals_finite_differences(
    block_elements: int | None, scale: float, smoothing: float
) -> None:
    vectors, weight, bias, targets = example(3, 7, 2, scale=scale)
    targets[1] = -1
    assert torch.autograd.gradcheck(
        lambda x, w, b: full_cross_entropy(
            x, w, targets, b, label_smoothing=smoothing, block_elements=block_elements
        ),
        (vectors, weight, bias),
    )


@pytest.mark.parametrize("block_elements", [None, 11])
def test_full_cross_entropy_leaves_rows_without_target_out(block_elements: int | None) -> None:
    vectors, weight, bias, targets = example()
    targets[2], targets[5] = -1, -100
    known = targets >= 0
    loss = full_cross_entropy(vectors, weight, targets, bias, block_elements=block_elements)
    expected = plain(vectors[known], weight, targets[known], bias)
    torch.testing.assert_close(loss, expected)
    inputs = (vectors, weight, bias)
    grads = torch.autograd.grad(loss, inputs)
    for grad, wanted in zip(grads, torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(grad, wanted)
    assert grads[0][[2, 5]].eq(0).all()


@pytest.mark.parametrize("num_rows", [0, 3])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_full_cross_entropy_without_any_target_is_zero_with_zero_gradients(
    num_rows: int, reduction: str
) -> None:
    vectors, weight, bias, targets = example(num_rows)
    loss = full_cross_entropy(vectors, weight, torch.full_like(targets, -1), bias, reduction)
    assert loss.item() == 0
    for tensor, grad in zip(
        (vectors, weight, bias), torch.autograd.grad(loss, (vectors, weight, bias)), strict=True
    ):
        assert grad.shape == tensor.shape
        assert grad.eq(0).all()


@pytest.mark.parametrize("block_elements", [None, 5])
@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_full_cross_entropy_at_extreme_logits_equals_torch(
    block_elements: int | None, scale: float
) -> None:
    vectors = torch.eye(3, dtype=torch.float32).requires_grad_()
    weight = (scale * torch.eye(5, 3)).requires_grad_()
    targets = torch.tensor([0, 2, 4])
    loss = full_cross_entropy(vectors, weight, targets, block_elements=block_elements)
    expected = plain(vectors, weight, targets)
    torch.testing.assert_close(loss, expected)
    for grad, wanted in zip(
        torch.autograd.grad(loss, (vectors, weight)),
        torch.autograd.grad(expected, (vectors, weight)),
        strict=True,
    ):
        torch.testing.assert_close(grad, wanted)


@pytest.mark.parametrize("block_elements", [None, 4])
def test_full_cross_entropy_with_items_biased_to_minus_infinity_leaves_them_out(
    block_elements: int | None,
) -> None:
    vectors, weight, _, _ = example(num_items=8)
    targets = torch.arange(9) % 4 + 4
    bias = torch.zeros(8, dtype=torch.float64)
    bias[:4] = -torch.inf
    loss = full_cross_entropy(vectors, weight, targets, bias, block_elements=block_elements)
    torch.testing.assert_close(loss, plain(vectors, weight[4:], targets - 4))
    grads = torch.autograd.grad(loss, (vectors, weight))
    assert all(grad.isfinite().all() for grad in grads)
    assert grads[1][:4].eq(0).all()


def test_full_cross_entropy_of_nan_is_nan() -> None:
    vectors, weight, _, targets = example()
    with torch.no_grad():
        weight[3, 0] = torch.nan
    assert full_cross_entropy(vectors, weight, targets).isnan()


def test_full_cross_entropy_scales_its_gradient_by_the_incoming_one() -> None:
    vectors, weight, bias, targets = example()
    loss = full_cross_entropy(vectors, weight, targets, bias)
    (once,) = torch.autograd.grad(loss, weight, retain_graph=True)
    (thrice,) = torch.autograd.grad(3 * loss, weight, retain_graph=True)
    (again,) = torch.autograd.grad(loss, weight)
    torch.testing.assert_close(thrice, 3 * once)
    torch.testing.assert_close(again, once, rtol=0, atol=0)


def test_full_cross_entropy_with_a_frozen_table_gives_the_vectors_alone_a_gradient() -> None:
    vectors, weight, bias, targets = example()
    frozen, frozen_bias = weight.detach(), bias.detach()
    full_cross_entropy(vectors, frozen, targets, frozen_bias).backward()
    expected = torch.autograd.grad(plain(vectors, weight, targets, bias), vectors)[0]
    torch.testing.assert_close(vectors.grad, expected)
    assert frozen.grad is None


def test_full_cross_entropy_without_gradients_keeps_no_graph() -> None:
    vectors, weight, bias, targets = example()
    with torch.no_grad():
        loss = full_cross_entropy(vectors, weight, targets, bias)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, plain(vectors, weight, targets, bias).detach())


def test_full_cross_entropy_asked_for_a_second_derivative_refuses() -> None:
    vectors, weight, bias, targets = example()
    loss = full_cross_entropy(vectors, weight, targets, bias).square()
    (grad,) = torch.autograd.grad(loss, vectors, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_full_cross_entropy_of_half_precision_is_computed_in_float32(half: torch.dtype) -> None:
    vectors, weight, _, targets = example(dtype=torch.float32)
    low = vectors.detach().to(half).requires_grad_()
    loss = full_cross_entropy(low, weight, targets)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, plain(low.float(), weight, targets))
    loss.backward()
    assert low.grad is not None
    assert low.grad.dtype == half


class LargestTensor(torch.utils._python_dispatch.TorchDispatchMode):
    """Remembers how many elements the largest tensor held that an operation returned."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.elements = max(self.elements, result.numel())
        return result


@pytest.mark.parametrize("block_elements", [300, 3000])
def test_full_cross_entropy_never_holds_more_than_its_block(block_elements: int) -> None:
    vectors, weight, _, targets = example(num_rows=150, num_items=400, channels=2)
    with LargestTensor() as largest:
        full_cross_entropy(vectors, weight, targets, block_elements=block_elements).backward()
    assert largest.elements <= max(block_elements, weight.numel())
    with LargestTensor() as largest:
        plain(vectors, weight, targets).backward()
    assert largest.elements == 150 * 400


def test_full_cross_entropy_with_wrong_arguments_is_refused() -> None:
    vectors, weight, bias, targets = example()
    with pytest.raises(ValueError, match=r"vectors \[B, d\] and weight \[V, d\]"):
        full_cross_entropy(vectors, weight[:, :2], targets)
    with pytest.raises(ValueError, match="one for each vector"):
        full_cross_entropy(vectors, weight, targets[:4])
    with pytest.raises(ValueError, match="one for each vector"):
        full_cross_entropy(vectors, weight, targets.float())
    with pytest.raises(ValueError, match="one per item"):
        full_cross_entropy(vectors, weight, targets, bias[:5])
    with pytest.raises(ValueError, match="number of items, 23, got 23"):
        full_cross_entropy(vectors, weight, torch.full_like(targets, 23))
    with pytest.raises(ValueError, match="reduction"):
        full_cross_entropy(vectors, weight, targets, reduction="none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="block_elements"):
        full_cross_entropy(vectors, weight, targets, block_elements=0)
    with pytest.raises(ValueError, match=r"label_smoothing must lie in \[0, 1\], got 1\.5"):
        full_cross_entropy(vectors, weight, targets, label_smoothing=1.5)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("block", [None, 6])
def test_items_with_a_bias_of_minus_infinity_are_as_if_they_were_not_there(
    smoothing: float, block: int | None
) -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(4, 3, generator=generator, dtype=torch.double).requires_grad_()
    weight = torch.randn(7, 3, generator=generator, dtype=torch.double).requires_grad_()
    bias = torch.zeros(7, dtype=torch.double).index_fill(0, torch.tensor([0, 6]), -torch.inf)
    bias.requires_grad_()
    targets = torch.tensor([1, 2, 5, 3])
    loss = full_cross_entropy(
        vectors, weight, targets, bias, label_smoothing=smoothing, block_elements=block
    )
    expected = torch.nn.functional.cross_entropy(
        vectors @ weight[1:6].t(), targets - 1, label_smoothing=smoothing
    )
    torch.testing.assert_close(loss, expected)
    grads = torch.autograd.grad(loss, (vectors, weight, bias))
    wanted = torch.autograd.grad(expected, (vectors, weight))
    torch.testing.assert_close(grads[0], wanted[0])
    torch.testing.assert_close(grads[1], wanted[1])
    assert grads[2][[0, 6]].eq(0).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("possible", [(), (0, 2)])
def test_loss_of_an_impossible_target_is_infinite_without_a_nan(
    smoothing: float, possible: tuple[int, ...]
) -> None:
    vectors, weight = torch.ones(2, 3, requires_grad=True), torch.ones(4, 3, requires_grad=True)
    bias = torch.full((4,), -torch.inf)
    bias[list(possible)] = 0
    loss = full_cross_entropy(
        vectors, weight, torch.tensor([1, 0]), bias, label_smoothing=smoothing
    )
    assert loss.item() == torch.inf
    for grad in torch.autograd.grad(loss, (vectors, weight)):
        assert grad.isfinite().all()
