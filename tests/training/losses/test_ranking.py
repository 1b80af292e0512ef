"""Losses against the authors' recorded numbers, loops in plain Python, and their own invariants."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from graphseq.training import losses as L

FIXTURE = Path(__file__).parents[2] / "fixtures" / "gru4rec_published_a.npz"

Loss = Callable[..., Tensor]
LOSSES: dict[str, Loss] = {
    "sampled_softmax": L.sampled_softmax,
    "sampled_softmax_smoothed": partial(L.sampled_softmax, label_smoothing=0.2),
    "bpr": L.bpr,
    "top1": L.top1,
    "bpr_max": L.bpr_max,
    "bpr_max_regularized": partial(L.bpr_max, regularization=0.7, elu=0.5),
    "top1_max": L.top1_max,
    "bce": L.bce,
    "gbce": partial(L.gbce, num_items=50),
}
every_loss = pytest.mark.parametrize("name", LOSSES)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def naive(name: str, positive: float, negatives: list[float]) -> float:
    """One row's loss, written down from the papers' equations with a loop."""
    if not negatives:
        return 0.0
    if name == "bpr_max_regularized":
        positive, *negatives = (
            r if r > 0 else 0.5 * (math.exp(r) - 1) for r in (positive, *negatives)
        )
    softmax = [math.exp(r) / sum(math.exp(q) for q in negatives) for r in negatives]
    log_positive = math.log(sigmoid(positive))
    log_negatives = sum(math.log(1 - sigmoid(r)) for r in negatives)
    if name.startswith("sampled_softmax"):
        total = math.exp(positive) + sum(math.exp(r) for r in negatives)
        log_p = [math.log(math.exp(r) / total) for r in (positive, *negatives)]
        share = 0.2 if name == "sampled_softmax_smoothed" else 0.0
        return -(1 - share) * log_p[0] - share * sum(log_p) / len(log_p)
    if name == "bpr":
        return -sum(math.log(sigmoid(positive - r)) for r in negatives) / len(negatives)
    top1 = [sigmoid(r - positive) + sigmoid(r * r) for r in negatives]
    if name == "top1":
        return sum(top1) / len(negatives)
    if name == "top1_max":
        return sum(s * term for s, term in zip(softmax, top1, strict=True))
    if name.startswith("bpr_max"):
        pairs = list(zip(softmax, negatives, strict=True))
        loss = -math.log(sum(s * sigmoid(positive - r) for s, r in pairs) + 1e-24)
        weight = 0.7 if name == "bpr_max_regularized" else 0.0
        return loss + weight * sum(s * r * r for s, r in pairs)
    if name == "bce":
        return -log_positive - log_negatives
    assert name == "gbce"
    alpha = len(negatives) / 49
    beta = alpha * ((1 - 1 / alpha) * 0.75 + 1 / alpha)
    return -beta * log_positive - log_negatives


@st.composite
def scored_rows(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    num_rows, num_negatives = draw(st.integers(1, 4)), draw(st.integers(0, 6))
    score = st.floats(-6, 6, width=32)
    size = num_rows * num_negatives
    positive = draw(st.lists(score, min_size=num_rows, max_size=num_rows))
    negatives = draw(st.lists(score, min_size=size, max_size=size))
    mask = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    shape = (num_rows, num_negatives)
    return (
        torch.tensor(positive, dtype=torch.float64),
        torch.tensor(negatives, dtype=torch.float64).view(shape),
        torch.tensor(mask, dtype=torch.bool).view(shape),
    )


def example(num_rows: int = 5, num_negatives: int = 7, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    positive = torch.randn(num_rows, generator=generator, dtype=torch.float64)
    return positive, torch.randn(num_rows, num_negatives, generator=generator, dtype=torch.float64)


@pytest.fixture(scope="module")
def published() -> dict[str, np.ndarray]:
    with np.load(FIXTURE) as arrays:
        return dict(arrays)


def off_diagonal(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The authors' matrix as positives, all columns, and which of them are negatives."""
    return logits.diagonal(), logits, ~torch.eye(*logits.shape, dtype=torch.bool)


def test_sampled_softmax_on_the_programs_logits_equals_its_cross_entropy_and_gradient(
    published: dict[str, np.ndarray],
) -> None:
    logits = torch.from_numpy(published["logits"]).requires_grad_()
    counts = torch.from_numpy(published["item_counts"])[published["candidate_items"]]
    frequency = counts.clone()
    frequency[len(logits) :] **= float(published["sample_alpha"])
    corrected = logits - float(published["logq"]) * frequency.log()
    loss = L.sampled_softmax(*off_diagonal(corrected), reduction="sum")
    loss.backward()
    assert loss.item() == pytest.approx(float(published["loss.cross_entropy"]), rel=1e-6)
    expected = torch.from_numpy(published["loss.cross_entropy.grad"])
    torch.testing.assert_close(logits.grad, expected, rtol=0, atol=1e-6)


def test_bpr_max_on_the_programs_logits_equals_its_loss_and_gradient(
    published: dict[str, np.ndarray],
) -> None:
    logits = torch.from_numpy(published["logits"]).requires_grad_()
    loss = L.bpr_max(
        *off_diagonal(logits),
        reduction="sum",
        regularization=float(published["bpreg"]),
        elu=float(published["elu_param"]),
    )
    loss.backward()
    assert loss.item() == pytest.approx(float(published["loss.bpr_max"]), rel=1e-6)
    expected = torch.from_numpy(published["loss.bpr_max.grad"])
    torch.testing.assert_close(logits.grad, expected, rtol=0, atol=1e-6)


@every_loss
@settings(max_examples=25, deadline=None)
@given(rows=scored_rows())
def test_loss_on_random_rows_equals_a_loop(name: str, rows: tuple[Tensor, Tensor, Tensor]) -> None:
    positive, negatives, mask = rows
    expected = [
        naive(name, p, [r for r, counts in zip(row, keep, strict=True) if counts])
        for p, row, keep in zip(positive.tolist(), negatives.tolist(), mask.tolist(), strict=True)
    ]
    if not mask.any():
        with pytest.raises(ValueError, match=f"No negative counts in any of the {len(expected)} r"):
            LOSSES[name](positive, negatives, mask)
        return
    total = LOSSES[name](positive, negatives, mask, reduction="sum")
    assert total.item() == pytest.approx(sum(expected), rel=1e-9, abs=1e-12)
    mean = LOSSES[name](positive, negatives, mask)
    assert mean.item() == pytest.approx(sum(expected) / len(expected), rel=1e-9, abs=1e-12)


@every_loss
@pytest.mark.parametrize("hidden", [0.0, 1e30, -1e30, math.inf, -math.inf, math.nan])
def test_loss_with_a_masked_column_equals_that_without_it(name: str, hidden: float) -> None:
    positive, negatives = example()
    positive.requires_grad_()
    negatives[:, 2] = hidden
    negatives.requires_grad_()
    mask = torch.ones(negatives.shape, dtype=torch.bool)
    mask[:, 2] = False
    loss = LOSSES[name](positive, negatives, mask)
    grads = torch.autograd.grad(loss, (positive, negatives))
    kept = negatives.detach()[:, mask[0]].requires_grad_()
    expected = LOSSES[name](positive, kept)
    expected_grads = torch.autograd.grad(expected, (positive, kept))
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(grads[0], expected_grads[0])
    torch.testing.assert_close(grads[1][:, mask[0]], expected_grads[1])
    assert grads[1][:, 2].eq(0).all()


@every_loss
def test_loss_with_a_mask_of_all_true_equals_that_without_a_mask(name: str) -> None:
    positive, negatives = example()
    mask = torch.ones(negatives.shape, dtype=torch.bool)
    torch.testing.assert_close(
        LOSSES[name](positive, negatives, mask), LOSSES[name](positive, negatives)
    )


@every_loss
def test_loss_of_a_row_without_counted_negatives_is_zero_with_zero_gradient(name: str) -> None:
    positive, negatives = example()
    positive.requires_grad_()
    negatives.requires_grad_()
    mask = torch.ones(negatives.shape, dtype=torch.bool)
    mask[1] = False
    loss = LOSSES[name](positive, negatives, mask, reduction="sum")
    grads = torch.autograd.grad(loss, (positive, negatives))
    others = [0, 2, 3, 4]
    expected = LOSSES[name](positive[others], negatives[others], reduction="sum")
    torch.testing.assert_close(loss, expected)
    assert grads[0][1] == 0
    assert grads[1][1].eq(0).all()
    assert all(grad.isfinite().all() for grad in grads)


@every_loss
@pytest.mark.parametrize("shape", [(3, 0), (1, 2)])
def test_loss_without_a_negative_that_counts_is_refused(name: str, shape: tuple[int, int]) -> None:
    positive, negatives = torch.zeros(shape[0]), torch.zeros(shape)
    with pytest.raises(ValueError, match=rf"No negative counts in any of the {shape[0]} rows"):
        LOSSES[name](positive, negatives, torch.zeros(shape, dtype=torch.bool))
    if shape[1] == 0:
        with pytest.raises(ValueError, match=r"pass negatives \[B, N\], got \[3, 0\]"):
            LOSSES[name](positive, negatives)


@every_loss
@pytest.mark.parametrize("shape", [(0, 3), (0, 0)])
def test_loss_of_nothing_is_zero_with_finite_gradients(name: str, shape: tuple[int, int]) -> None:
    positive = torch.zeros(shape[0], requires_grad=True)
    negatives = torch.zeros(shape, requires_grad=True)
    for mask in (None, torch.ones(shape, dtype=torch.bool)):
        loss = LOSSES[name](positive, negatives, mask)
        grads = torch.autograd.grad(loss, (positive, negatives))
        assert loss.item() == 0
        assert all(grad.eq(0).all() for grad in grads)


@every_loss
@pytest.mark.parametrize("positive_score", [-1e4, 0.0, 1e4])
@pytest.mark.parametrize("negative_score", [-1e4, 0.0, 1e4])
def test_loss_at_extreme_scores_is_finite_in_float32(
    name: str, positive_score: float, negative_score: float
) -> None:
    positive = torch.full((2,), positive_score, requires_grad=True)
    negatives = torch.tensor([[negative_score, 1.0], [negative_score, negative_score]])
    negatives.requires_grad_()
    loss = LOSSES[name](positive, negatives)
    grads = torch.autograd.grad(loss, (positive, negatives))
    assert loss.isfinite()
    assert all(grad.isfinite().all() for grad in grads)


def test_losses_at_extreme_scores_keep_their_slope() -> None:
    positive, negatives = torch.tensor([-1e4]), torch.tensor([[1e4]])
    for loss in (L.sampled_softmax, L.bpr, L.bce):
        assert loss(positive, negatives).item() == pytest.approx(2e4)
    assert L.bpr_max(positive, negatives).item() == pytest.approx(-math.log(1e-24))


@every_loss
def test_loss_gradient_equals_finite_differences(name: str) -> None:
    positive, negatives = example(num_rows=3, num_negatives=4)
    mask = torch.ones(negatives.shape, dtype=torch.bool)
    mask[0, 1] = False
    mask[2] = False
    assert torch.autograd.gradcheck(
        lambda p, n: LOSSES[name](p, n, mask),
        (positive.requires_grad_(), negatives.requires_grad_()),
    )


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_sampled_softmax_with_smoothing_equals_torchs_and_its_gradient(reduction: str) -> None:
    positive, negatives = (scores.requires_grad_() for scores in example())
    loss = L.sampled_softmax(positive, negatives, reduction=reduction, label_smoothing=0.3)
    together = torch.cat([positive.unsqueeze(1), negatives], dim=1)
    expected = torch.nn.functional.cross_entropy(
        together, torch.zeros(5, dtype=torch.long), reduction=reduction, label_smoothing=0.3
    )
    torch.testing.assert_close(loss, expected)
    for grad, wanted in zip(
        torch.autograd.grad(loss, (positive, negatives)),
        torch.autograd.grad(expected, (positive, negatives)),
        strict=True,
    ):
        torch.testing.assert_close(grad, wanted)


LOWEST = -math.inf

BY_HAND: dict[str, dict[tuple[float, ...], float]] = {
    # The target first; what is left of each formula as a score falls without end.
    "sampled_softmax": {
        (0.0, LOWEST, 0.0): math.log(2),
        (0.0, LOWEST, LOWEST): 0.0,
        (LOWEST, 0.0, 0.0): math.inf,
        (LOWEST, LOWEST, LOWEST): math.inf,
    },
    "sampled_softmax_smoothed": {
        (0.0, LOWEST, 1.0): math.log(1 + math.e) - 0.2 * 0.5,
        (1.0, LOWEST, LOWEST): 0.0,
        (LOWEST, 0.0, LOWEST): math.inf,
    },
    "bpr": {
        (0.0, LOWEST, 0.0): math.log(2) / 2,
        (LOWEST, LOWEST, LOWEST): 0.0,
        (LOWEST, 0.0, LOWEST): math.inf,
    },
    "top1": {
        (0.0, LOWEST, 0.0): (1 + 0.5 + 0.5) / 2,
        (LOWEST, LOWEST, LOWEST): 1.0,
        (LOWEST, 0.0, 0.0): 1.5,
    },
    "bpr_max": {
        (0.0, LOWEST, 0.0): math.log(2),
        (0.0, LOWEST, LOWEST): 0.0,
        (LOWEST, 0.0, LOWEST): 24 * math.log(10),
    },
    "bpr_max_squared": {
        (0.0, LOWEST, 2.0): math.log(1 + math.exp(2)) + 0.7 * 4,
        (LOWEST, LOWEST, LOWEST): 0.0,
    },
    "top1_max": {
        (0.0, LOWEST, 0.0): 1.0,
        (0.0, LOWEST, LOWEST): 0.0,
        (LOWEST, 0.0, LOWEST): 1.5,
    },
    "bce": {
        (0.0, LOWEST, 0.0): 2 * math.log(2),
        (0.0, LOWEST, LOWEST): math.log(2),
        (LOWEST, LOWEST, 0.0): math.inf,
    },
    "gbce": {
        (0.0, LOWEST, 0.0): (1 - 0.75 * (1 - 2 / 49) + 1) * math.log(2),
        (LOWEST, LOWEST, LOWEST): math.inf,
    },
}


@pytest.mark.parametrize(
    ("name", "row"), [(name, row) for name, rows in BY_HAND.items() for row in rows]
)
def test_loss_at_scores_of_minus_infinity_by_hand(name: str, row: tuple[float, ...]) -> None:
    losses = {**LOSSES, "bpr_max_squared": partial(L.bpr_max, regularization=0.7)}
    positive = torch.tensor([row[0], 0.5], dtype=torch.float64, requires_grad=True)
    negatives = torch.tensor([row[1:], (0.1, 0.2)], dtype=torch.float64, requires_grad=True)
    for mask in (None, torch.ones(2, 2, dtype=torch.bool)):
        other = losses[name](positive[1:], negatives[1:], reduction="sum").item()
        loss = losses[name](positive, negatives, mask, reduction="sum")
        assert loss.item() == pytest.approx(BY_HAND[name][row] + other)
        for grad in torch.autograd.grad(loss, (positive, negatives)):
            assert grad.isfinite().all()
            assert grad[1].any()


def test_distillation_of_a_row_without_a_possible_item_is_zero() -> None:
    student = torch.zeros(2, 3, requires_grad=True)
    teacher = torch.tensor([[LOWEST] * 3, [0.0, 0.0, LOWEST]])
    loss = L.kl_distillation(student, teacher, reduction="sum")
    assert loss.item() == pytest.approx(math.log(3 / 2))
    assert torch.autograd.grad(loss, student)[0].isfinite().all()
    ranks = torch.tensor([[1, 1, 9]])  # the first two need no push, whatever their score
    best = torch.tensor([[LOWEST, 0.0, 0.0]])
    assert L.ranking_distillation(best, ranks).item() == pytest.approx(math.log(2))


def test_gbce_with_no_calibration_equals_bce() -> None:
    positive, negatives = example()
    torch.testing.assert_close(
        L.gbce(positive, negatives, num_items=100, t=0.0), L.bce(positive, negatives)
    )


def test_gbce_with_full_calibration_weighs_the_positive_by_the_sampling_rate() -> None:
    positive, negatives = torch.tensor([0.0]), torch.tensor([[0.0, 0.0]])
    loss = L.gbce(positive, negatives, num_items=21, t=1.0)
    assert loss.item() == pytest.approx((2 / 20 + 2) * math.log(2))


def test_bpr_of_one_row_by_hand() -> None:
    loss = L.bpr(torch.tensor([0.0]), torch.tensor([[0.0, 0.0]]))
    assert loss.item() == pytest.approx(math.log(2))


def test_full_cross_entropy_is_among_the_losses() -> None:
    vectors, weight = torch.zeros(2, 3), torch.zeros(4, 3)
    loss = L.full_cross_entropy(vectors, weight, torch.tensor([0, 3]))
    assert loss.item() == pytest.approx(math.log(4))


@every_loss
def test_loss_with_wrong_arguments_is_refused(name: str) -> None:
    positive, negatives = example()
    loss = LOSSES[name]
    with pytest.raises(ValueError, match=r"positive \[B\] and negatives \[B, N\]"):
        loss(positive, negatives[:3])
    with pytest.raises(ValueError, match=r"positive \[B\] and negatives \[B, N\]"):
        loss(positive, negatives[:, 0])
    with pytest.raises(ValueError, match="mask must be bool"):
        loss(positive, negatives, torch.ones(negatives.shape))
    with pytest.raises(ValueError, match="mask must be bool"):
        loss(positive, negatives, torch.ones(5, 1, dtype=torch.bool))
    with pytest.raises(ValueError, match="reduction is"):
        loss(positive, negatives, reduction="none")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_bpr_max_of_half_precision_squares_large_scores_in_32_bits(dtype: torch.dtype) -> None:
    positive = torch.tensor([250.0, 300.0], dtype=dtype, requires_grad=True)
    negatives = torch.tensor([[200.0, 310.0], [-400.0, 20.0]], dtype=dtype, requires_grad=True)
    loss = L.bpr_max(positive, negatives, regularization=0.1)
    expected = L.bpr_max(positive.double(), negatives.double(), regularization=0.1)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for gradient in torch.autograd.grad(loss, (positive, negatives)):
        assert gradient.isfinite().all()


def test_options_out_of_range_are_refused() -> None:
    positive, negatives = example()
    with pytest.raises(ValueError, match="regularization"):
        L.bpr_max(positive, negatives, regularization=-1.0)
    with pytest.raises(ValueError, match="elu"):
        L.bpr_max(positive, negatives, elu=-0.1)
    with pytest.raises(ValueError, match="num_items"):
        L.gbce(positive, negatives, num_items=1)
    for share in (-0.1, 1.1):
        with pytest.raises(ValueError, match=r"label_smoothing must lie in \[0, 1\], got"):
            L.sampled_softmax(positive, negatives, label_smoothing=share)
    with pytest.raises(ValueError, match="t of gbce"):
        L.gbce(positive, negatives, num_items=10, t=1.5)
