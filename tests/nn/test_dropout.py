"""Dropout: what it drops and keeps, and that draws are random."""

from __future__ import annotations

import math

import pytest
import torch

from graphseq.nn.dropout import Dropout, dropout


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(share: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(1000, 1000)
    y = dropout(x, share)
    kept = y != 0
    deviation = math.sqrt(share * (1 - share) / x.numel())
    assert kept.float().mean().item() == pytest.approx(1 - share, abs=4 * deviation)
    torch.testing.assert_close(
        y[kept], torch.full_like(y[kept], 1 / (1 - share)), rtol=1e-4, atol=0
    )


def test_dropout_values_are_dropped_apart_from_each_other() -> None:
    torch.manual_seed(0)
    kept = (dropout(torch.ones(400_000), 0.3) != 0).double() - 0.7
    # Four values share a draw: neighbors at any distance must not know of each other.
    for distance in (1, 2, 3, 4, 5, 8):
        correlation = (kept[:-distance] * kept[distance:]).mean() / 0.21
        assert abs(correlation) < 4 / math.sqrt(400_000)
    for lane in range(4):
        assert abs(kept[lane::4].mean()) < 4 * math.sqrt(0.21 / 100_000)


def test_dropout_gradient_is_that_of_the_values_kept() -> None:
    x = torch.randn(7, 9, requires_grad=True)
    y = dropout(x, 0.5)
    y.sum().backward()
    torch.testing.assert_close(x.grad * x, y)


@pytest.mark.parametrize("size", [(0,), (1,), (3, 1), (2, 3, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dropout_any_shape_and_type_stays(size: tuple[int, ...], dtype: torch.dtype) -> None:
    y = dropout(torch.ones(size, dtype=dtype), 0.5)
    assert (y.shape, y.dtype) == (torch.Size(size), dtype)
    assert set(y.flatten().tolist()) <= {0.0, 2.0}


def test_dropout_same_seed_drops_the_same() -> None:
    x = torch.ones(100)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(dropout(x, 0.5))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_dropout_outside_training_or_of_nothing_is_the_value_itself() -> None:
    x, layer = torch.randn(4), Dropout(0.5)
    assert layer.eval()(x) is x
    assert Dropout(0.0)(x) is x
    assert layer.train()(x) is not x
    assert repr(layer) == "Dropout(0.5)"


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_dropout_share_outside_its_range_raises(share: float) -> None:
    with pytest.raises(ValueError, match=r"share must lie in \[0, 1\), got"):
        Dropout(share)


def test_dropout_share_next_to_one_stays_finite() -> None:
    assert dropout(torch.ones(1000), 1 - 1e-9).isfinite().all()
