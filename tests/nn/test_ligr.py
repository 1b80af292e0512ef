"""LiGR blocks against RecTools' recorded states and against their equations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import silu

from graphseq.nn import LiGRBlock, LiGRLayers
from graphseq.nn.ragged import DenseView

FIXTURE = Path(__file__).parent.parent / "fixtures" / "ligr_published_a.npz"
LENGTHS = [4, 1, 7, 2]
PTR = torch.tensor([0, *LENGTHS]).cumsum(0)


@pytest.fixture
def published() -> dict[str, np.ndarray]:
    return dict(np.load(FIXTURE))


def parameters(published: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {k.removeprefix("param."): v for k, v in published.items() if k.startswith("param.")}


def shake(module: torch.nn.Module) -> None:
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)


def test_ligr_published_weights_give_published_states(published: dict[str, np.ndarray]) -> None:
    layers = LiGRLayers.from_published(parameters(published), heads=int(published["num_heads"]))
    x, hidden = torch.from_numpy(published["x"]), torch.from_numpy(published["hidden"])
    ptr = torch.arange(len(x) + 1) * x.size(1)
    actual = layers(x.flatten(0, 1), ptr)
    torch.testing.assert_close(actual, hidden.flatten(0, 1), rtol=1e-5, atol=1e-5)


def test_ligr_published_rows_cut_to_other_lengths_give_the_same_states(
    published: dict[str, np.ndarray],
) -> None:
    layers = LiGRLayers.from_published(parameters(published), heads=int(published["num_heads"]))
    x, hidden = torch.from_numpy(published["x"]), torch.from_numpy(published["hidden"])
    lengths = [2, 6, 3]
    cut = torch.cat([row[:n] for row, n in zip(x, lengths, strict=True)])
    expected = torch.cat([row[:n] for row, n in zip(hidden, lengths, strict=True)])
    ptr = torch.tensor([0, *lengths]).cumsum(0)
    torch.testing.assert_close(layers(cut, ptr), expected, rtol=1e-5, atol=1e-5)


def test_ligr_block_equals_its_equations() -> None:
    block = LiGRBlock(8, 2, expansion=3)
    shake(block)
    x, view = torch.randn(14, 8), DenseView(PTR)
    normed = block.norm_attention(x)
    own = x + block.gate_attention(x).sigmoid() * block.attention(normed, normed, view)
    normed = block.norm_feed_forward(own)
    inner = block.lin_out(silu(block.lin_gate(normed)) * block.lin_in(normed))
    expected = own + block.gate_feed_forward(own).sigmoid() * inner
    torch.testing.assert_close(block(x, view), expected, rtol=1e-5, atol=1e-5)
    reads = torch.tensor([1, 4, 9, 13])
    torch.testing.assert_close(block(x, view, None, reads), expected[reads], rtol=1e-5, atol=1e-5)


def test_ligr_click_changed_touches_only_itself_and_later_clicks_of_its_row() -> None:
    layers = LiGRLayers(8, 2, 2)
    shake(layers)
    x = torch.randn(14, 8)
    other = x.clone()
    other[7] += 1
    changed = (layers(other, PTR) != layers(x, PTR)).any(1).nonzero().view(-1).tolist()
    assert changed == [7, 8, 9, 10, 11]


class Twice(torch.nn.Module):
    """Stands where a dropout does, and shows what passes through it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


def test_ligr_dropout_acts_on_both_branches_and_inside_the_second() -> None:
    block = LiGRBlock(8, 2, dropout=0.5)
    shake(block)
    assert block.drop.share == block.attention.dropout == 0.5
    block.eval()
    x, view = torch.randn(14, 8), DenseView(PTR)
    normed = block.norm_attention(x)
    own = x + 2 * block.gate_attention(x).sigmoid() * block.attention(normed, normed, view)
    inner = 4 * block.feed_forward(block.norm_feed_forward(own))
    expected = own + block.gate_feed_forward(own).sigmoid() * inner
    block.drop = Twice()
    torch.testing.assert_close(block(x, view), expected, rtol=1e-5, atol=1e-5)


def test_ligr_dropout_works_in_training_alone() -> None:
    layers = LiGRLayers(8, dropout=0.5)
    x = torch.randn(14, 8)
    assert not torch.equal(layers(x, PTR), layers(x, PTR))
    layers.eval()
    assert torch.equal(layers(x, PTR), layers(x, PTR))


def test_ligr_weights_missing_or_unknown_are_refused(published: dict[str, np.ndarray]) -> None:
    given = parameters(published)
    lacking = {k: v for k, v in given.items() if not k.endswith("1.layer_norm_2.bias")}
    with pytest.raises(ValueError, match=r"lack transformer_blocks\.1\.layer_norm_2\.bias\."):
        LiGRLayers.from_published(lacking, heads=3)
    more = {**given, "transformer_blocks.0.feed_forward.ff_linear_1.bias": np.zeros(48)}
    with pytest.raises(ValueError, match=r"hold transformer_blocks\.0\.feed_forward\.ff_linear_1"):
        LiGRLayers.from_published(more, heads=3)
    with pytest.raises(ValueError, match=r"lack transformer_blocks\.0"):
        LiGRLayers.from_published({})


def test_ligr_states_of_other_clicks_are_refused() -> None:
    layers = LiGRLayers(8)
    for wrong in (torch.randn(13, 8), torch.randn(14, 7), torch.randn(1, 14, 8)):
        with pytest.raises(ValueError, match=r"of width 8 for each click of ptr, \[14, 8\]"):
            layers(wrong, PTR)


def test_ligr_wrong_argument_is_refused() -> None:
    with pytest.raises(ValueError, match="num_layers must be at least 1, got 0"):
        LiGRLayers(8, 0)
    with pytest.raises(ValueError, match="heads must divide hidden_channels, got 3 heads for 8"):
        LiGRBlock(8, 3)


def test_ligr_repr_names_its_sizes() -> None:
    assert repr(LiGRBlock(8, 2)) == "LiGRBlock(8, heads=2)"


@pytest.mark.parametrize("inner", [50, 4, 36])
def test_ligr_published_weights_of_any_inner_width_are_read(
    published: dict[str, np.ndarray], inner: int
) -> None:
    given = parameters(published)
    generator = np.random.default_rng(0)
    for name, value in given.items():
        d = value.shape[0] if "ff_linear_2" in name else value.shape[-1]
        if "ff_linear_2" in name:
            given[name] = generator.normal(size=(d, inner))
        elif "ff_linear" in name:
            given[name] = generator.normal(size=(inner, d))
    layers = LiGRLayers.from_published(given, heads=int(published["num_heads"]))
    block = layers.blocks[0]
    assert block.lin_in.weight.shape == (inner, layers.hidden_channels)
    name = "transformer_blocks.0.feed_forward.ff_linear_3.weight"
    torch.testing.assert_close(block.lin_in.weight.double(), torch.from_numpy(given[name]))


def test_ligr_published_weights_without_a_number_are_refused(
    published: dict[str, np.ndarray],
) -> None:
    name = "transformer_blocks.0.feed_forward.ff_linear_3.weight"
    given = parameters(published) | {name: np.zeros((48, 0))}
    with pytest.raises(ValueError, match=r"ff_linear_3\.weight .* shape \[48, 0\]: it is empty"):
        LiGRLayers.from_published(given)


def test_ligr_block_without_an_inner_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expansion \* hidden_channels must be at least 1, got 0"):
        LiGRBlock(8, expansion=0.01)


@pytest.mark.parametrize("expansion", [0.0, -1.0, float("inf"), float("nan"), "a"])
def test_ligr_expansion_that_is_no_factor_is_refused(expansion: Any) -> None:
    with pytest.raises(ValueError, match="expansion must be positive and finite"):
        LiGRBlock(8, 2, expansion=expansion)
