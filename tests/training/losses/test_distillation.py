"""Losses of distillation against loops, autograd of the plain form, and what they leave out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from graphseq.training.losses import kl_distillation, ranking_distillation


def scores(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_kl_distillation_equals_a_loop_and_torchs_gradient(temperature: float) -> None:
    student, teacher = scores(3, 5), scores(3, 5, seed=1)
    total = 0.0
    for r, r_hat in zip(student.tolist(), teacher.tolist(), strict=True):
        p = [math.exp(s / temperature) for s in r_hat]
        q = [math.exp(s / temperature) for s in r]
        p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
        total += temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    loss = kl_distillation(student, teacher, temperature, "sum")
    assert loss.item() == pytest.approx(total, rel=1e-9)
    mean = kl_distillation(student, teacher, temperature)
    assert mean.item() == pytest.approx(total / 3, rel=1e-9)
    plain = temperature**2 * torch.nn.functional.kl_div(
        (student / temperature).log_softmax(1),
        (teacher.detach() / temperature).softmax(1),
        reduction="sum",
    )
    torch.testing.assert_close(
        torch.autograd.grad(loss, student), torch.autograd.grad(plain, student)
    )


def test_kl_distillation_gives_the_teacher_no_gradient_and_equal_scores_no_loss() -> None:
    student = scores(4, 6)
    loss = kl_distillation(student, student * 1.0 + 3.0)  # shifted: the same distribution
    assert loss.item() == pytest.approx(0.0, abs=1e-12)
    (grad,) = torch.autograd.grad(loss, student)
    torch.testing.assert_close(grad, torch.zeros_like(grad))


def test_kl_distillation_gradient_size_hardly_depends_on_a_high_temperature() -> None:
    student, teacher = scores(1, 5), scores(1, 5, seed=1)
    sizes = []
    for temperature in (50.0, 100.0):
        (grad,) = torch.autograd.grad(kl_distillation(student, teacher, temperature), student)
        sizes.append(grad.norm().item())
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)


@pytest.mark.parametrize("student_too", [False, True])
def test_kl_distillation_leaves_out_what_the_teacher_never_recommends(student_too: bool) -> None:
    student, teacher = scores(2, 5), scores(2, 5, seed=1).detach()
    teacher[:, 2] = -torch.inf
    inputs = student.detach().clone()
    if student_too:
        inputs[:, 2] = -torch.inf
    inputs.requires_grad_()
    loss = kl_distillation(inputs, teacher)
    (grad,) = torch.autograd.grad(loss, inputs)
    assert loss.isfinite()
    assert grad.isfinite().all()
    if student_too:
        kept = [0, 1, 3, 4]
        torch.testing.assert_close(loss, kl_distillation(student[:, kept], teacher[:, kept]))


def test_ranking_distillation_equals_a_loop_and_finite_differences() -> None:
    student = scores(3, 4)
    w = [math.exp(-k / 2.0) for k in (1, 2, 3, 4)]
    total = -sum(
        w_k / sum(w) * math.log(1 / (1 + math.exp(-r)))
        for row in student.tolist()
        for w_k, r in zip(w, row, strict=True)
    )
    loss = ranking_distillation(student, reduction="sum", decay=2.0)
    assert loss.item() == pytest.approx(total, rel=1e-9)
    assert ranking_distillation(student, decay=2.0).item() == pytest.approx(total / 3, rel=1e-9)
    assert torch.autograd.gradcheck(lambda s: ranking_distillation(s, decay=2.0), student)


def test_ranking_distillation_pushes_items_that_the_student_ranks_too_low_alone() -> None:
    student = scores(2, 3)
    ranks = torch.tensor([[1, 5, 3], [1, 2, 3]])  # only the first row's second item is too low
    loss = ranking_distillation(student, ranks, "sum", slope=0.5)
    (grad,) = torch.autograd.grad(loss, student)
    assert (grad != 0).tolist() == [[False, True, False], [False, False, False]]
    assert loss.item() == pytest.approx(-math.log(1 / (1 + math.exp(-student[0, 1].item()))))


def test_ranking_distillation_weighs_by_place_and_discrepancy() -> None:
    student, ranks = scores(1, 2), torch.tensor([[3, 12]])
    w = [math.exp(-1) * math.tanh(0.1 * 2), math.exp(-2) * math.tanh(0.1 * 10)]
    expected = sum(
        weight / sum(w) * math.log(1 + math.exp(-r))
        for weight, r in zip(w, student[0].tolist(), strict=True)
    )
    assert ranking_distillation(student, ranks).item() == pytest.approx(expected, rel=1e-9)


def test_distillation_of_no_rows_is_zero() -> None:
    for loss in (kl_distillation(scores(0, 3), scores(0, 3)), ranking_distillation(scores(0, 3))):
        assert loss.item() == 0.0


def test_distillation_with_wrong_arguments_is_refused() -> None:
    student = scores(2, 3)
    with pytest.raises(ValueError, match=r"student and teacher \[B, C\]"):
        kl_distillation(student, scores(2, 4))
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        kl_distillation(student, student, 0)
    with pytest.raises(ValueError, match="reduction is"):
        kl_distillation(student, student, reduction="none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"student and ranks of the same shape \[B, K\]"):
        ranking_distillation(student, torch.ones(2))
    with pytest.raises(ValueError, match="decay must be positive"):
        ranking_distillation(student, decay=0.0)
    with pytest.raises(ValueError, match="slope must be positive"):
        ranking_distillation(student, slope=-1.0)
