"""Negatives that scores choose, against sorting whole rows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from graphseq.training.negatives import hard_negatives as module
from graphseq.training.negatives.hard_negatives import (
    ExactIndex,
    IndexNegatives,
    hardest,
    hardest_of_pool,
)


def table(num_items: int = 17, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(num_items, 3, generator=generator, dtype=torch.float64)
    return weight, torch.randn(num_items, generator=generator, dtype=torch.float64)


def rows(number: int = 5) -> Tensor:
    return table(number, seed=1)[0]


def test_hardest_are_the_highest_that_count_and_they_alone_get_a_gradient() -> None:
    scores = torch.tensor([[5.0, 1.0, 3.0, 4.0], [0.0, 2.0, 1.0, 3.0]], requires_grad=True)
    mask = torch.tensor([[False, True, True, True], [False, False, True, False]])
    kept, counts = hardest(scores, mask, 2)
    assert kept[0].tolist() == [4.0, 3.0]
    assert counts.tolist() == [[True, True], [True, False]]
    assert kept[1, 0] == 1.0
    kept[counts].sum().backward()
    assert scores.grad is not None
    assert scores.grad.tolist() == [[0, 0, 1, 1], [0, 0, 1, 0]]


def test_hardest_of_fewer_than_asked_for_are_all() -> None:
    scores, mask = torch.randn(3, 2), torch.ones(3, 2, dtype=torch.bool)
    assert hardest(scores, mask, 9)[0].sort(1).values.equal(scores.sort(1).values)


@pytest.mark.parametrize("block", [1, 40, 10_000])
@pytest.mark.parametrize("with_offset", [False, True])
@pytest.mark.parametrize("number", [1, 4, 17, 30])
def test_hardest_of_pool_equals_the_hardest_of_all_its_scores_gradients_included(
    block: int, with_offset: bool, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_ELEMENTS", block)
    vectors, (pool, offset) = rows(), table()
    leaves = [vectors, pool, offset] if with_offset else [vectors, pool]
    for leaf in leaves:
        leaf.requires_grad_()
    mask = torch.rand(5, 17, generator=torch.Generator().manual_seed(2)) < 0.7
    mask[3] = False  # a row of which nothing counts
    found = hardest_of_pool(
        vectors, pool, offset if with_offset else None, (~mask).nonzero().unbind(1), number
    )
    scores = vectors @ pool.t() + (offset if with_offset else 0.0)
    expected = hardest(scores, mask, number)
    assert found[0].shape == (5, min(number, 17))
    assert torch.equal(found[1], expected[1])
    for one, other in zip(found[0], expected[0], strict=True):
        torch.testing.assert_close(one, other)
    gradients = [
        torch.autograd.grad(kept[counts].exp().sum(), leaves) for kept, counts in (found, expected)
    ]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("block", [1, 12, 10_000])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("k", [1, 4, 17])
def test_exact_index_in_blocks_equals_sorting_all_scores(
    block: int, with_bias: bool, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_ELEMENTS", block)
    weight, bias = table()
    index = ExactIndex()
    index.build(weight, bias if with_bias else None)
    scores = rows() @ weight.t() + (bias if with_bias else 0)
    expected = scores.argsort(1, descending=True)[:, :k]
    assert index.search(rows(), k).equal(expected)
    assert index.search(rows()[:0], k).shape == (0, k)


def test_exact_index_without_enough_items_refuses() -> None:
    with pytest.raises(ValueError, match="An index of None items cannot give the best 1"):
        ExactIndex().search(rows(), 1)
    index = ExactIndex()
    index.build(*table(4))
    with pytest.raises(ValueError, match="An index of 4 items cannot give the best 5"):
        index.search(rows(), 5)


def test_index_negatives_are_the_best_items_without_the_target() -> None:
    weight, bias = table()
    scores = rows() @ weight.t() + bias
    order = scores.argsort(1, descending=True)
    targets = torch.tensor([order[0, 0], order[1, 2], order[2, 3], order[3, 9], order[4, 16]])
    found = IndexNegatives(3, 10).find(rows(), targets, lambda: weight, bias, 0)
    expected = [
        [item for item in line if item != target][:3]
        for line, target in zip(order.tolist(), targets.tolist(), strict=True)
    ]
    assert found.tolist() == expected
    everything = IndexNegatives(99, 10).find(rows(), targets, lambda: weight, bias, 0)
    assert everything.shape == (5, 16)
    assert not (everything == targets.unsqueeze(1)).any()


def test_index_negatives_go_by_a_copy_until_it_is_made_anew() -> None:
    (weight, bias), (other, other_bias) = table(), table(seed=5)
    targets = torch.zeros(5).long()
    negatives = IndexNegatives(4, 3)
    first = negatives.find(rows(), targets, lambda: weight, bias, 0)
    changed = weight.clone()
    for step in (1, 2):
        assert negatives.find(rows(), targets, lambda: other, other_bias, step).equal(first)
    again = negatives.find(rows(), targets, lambda: other, other_bias, 3)
    assert again.equal(IndexNegatives(4, 3).find(rows(), targets, lambda: other, other_bias, 0))
    assert not again.equal(first)
    weight.zero_()  # an optimizer's step does not change the copy either
    negatives.find(rows(), targets, lambda: changed, bias, 6)
    changed.zero_()
    assert negatives.find(rows(), targets, lambda: other, other_bias, 7).equal(first)


def test_index_negatives_resumed_between_two_copies_go_on_with_the_old_one() -> None:
    (weight, bias), (other, other_bias) = table(), table(seed=5)
    targets = torch.zeros(5).long()
    negatives, resumed = IndexNegatives(4, 3), IndexNegatives(4, 3)
    first = negatives.find(rows(), targets, lambda: weight, bias, 0)
    resumed.load_training_state(negatives.training_state())
    assert resumed.find(rows(), targets, lambda: other, other_bias, 1).equal(first)


def test_index_negatives_read_the_whole_table_for_a_copy_alone_and_without_gradient() -> None:
    weight, bias = table()
    negatives, with_gradient = IndexNegatives(4, 3), []

    def whole() -> Tensor:
        with_gradient.append(torch.is_grad_enabled())
        return weight

    for step in (0, 1, 2, 3):
        negatives.find(rows(), torch.zeros(5).long(), whole, bias, step)
    assert with_gradient == [False, False]  # in steps 0 and 3


def test_index_negatives_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0 and 3"):
        IndexNegatives(0, 3)
