"""Attention over ragged clicks against loops over rows and torch's own transformer layer."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import TransformerEncoderLayer

from graphseq.nn.attention import SelfAttention, TransformerBlock, position_angles, rotate
from graphseq.nn.ragged import DenseView

LENGTHS = [4, 1, 7, 2]
PTR = torch.tensor([0, *LENGTHS]).cumsum(0)
KINDS = ["pre_norm", "post_norm", "published"]


def shake(module: torch.nn.Module) -> None:
    """Weights far from their initial values, so that every term of an equation matters."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)


def naive_attention(attention: SelfAttention, query: Tensor, source: Tensor) -> Tensor:
    """One row, one click and one head at a time."""
    q, k, v = attention.lin_query(query), attention.lin_key(source), attention.lin_value(source)
    width = q.size(1) // attention.heads
    rows = []
    for t in range(len(q)):
        mixed = []
        seen = t + 1 if attention.causal else len(q)
        for head in range(attention.heads):
            part = slice(head * width, (head + 1) * width)
            logits = k[:seen, part] @ q[t, part] / math.sqrt(width)
            mixed.append(logits.softmax(0) @ v[:seen, part])
        rows.append(torch.cat(mixed))
    out = torch.stack(rows)
    return out if attention.lin_out is None else attention.lin_out(out)


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("project_out", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_attention_ragged_rows_equals_click_by_click(
    heads: int, project_out: bool, causal: bool
) -> None:
    attention = SelfAttention(8, heads, causal=causal, project_out=project_out)
    shake(attention)
    query, source = torch.randn(14, 8), torch.randn(14, 8)
    expected = torch.cat(
        [
            naive_attention(attention, q, s)
            for q, s in zip(query.split(LENGTHS), source.split(LENGTHS), strict=True)
        ]
    )
    actual = attention(query, source, DenseView(PTR))
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["pre_norm", "post_norm"])
@pytest.mark.parametrize("activation", ["gelu", "relu", None])
@pytest.mark.parametrize("causal", [True, False])
def test_block_with_output_projection_equals_torch_encoder_layer(
    kind: str, activation: str | None, causal: bool
) -> None:
    block = TransformerBlock(8, 2, kind=kind, causal=causal, activation=activation, expansion=3)
    activation = activation or {"pre_norm": "gelu", "post_norm": "relu"}[kind]
    shake(block)
    layer = TransformerEncoderLayer(
        8, 2, 24, 0.0, activation, batch_first=True, norm_first=kind == "pre_norm"
    )
    own = block.attention
    projections = [own.lin_query, own.lin_key, own.lin_value]
    state = {
        "self_attn.in_proj_weight": torch.cat([lin.weight for lin in projections]),
        "self_attn.in_proj_bias": torch.cat(
            [own.lin_query.bias, torch.zeros(8), own.lin_value.bias]
        ),
    }
    for theirs, module in {
        "self_attn.out_proj": own.lin_out,
        "linear1": block.lin_in,
        "linear2": block.lin_out,
        "norm1": block.norm_attention,
        "norm2": block.norm_feed_forward,
    }.items():
        state[f"{theirs}.weight"], state[f"{theirs}.bias"] = module.weight, module.bias
    layer.load_state_dict(state)
    x = torch.randn(14, 8)
    expected = []
    for row in x.split(LENGTHS):
        future = torch.ones(len(row), len(row), dtype=torch.bool).triu(1)
        mask = future if causal else None
        expected.append(layer(row.unsqueeze(0), src_mask=mask).squeeze(0))
    actual = block(x, DenseView(PTR))
    torch.testing.assert_close(actual, torch.cat(expected), rtol=1e-4, atol=1e-5)


def test_block_published_equals_its_equations_row_by_row() -> None:
    block = TransformerBlock(8, 2, kind="published")
    shake(block)
    x = torch.randn(14, 8)
    expected = []
    for row in x.split(LENGTHS):
        q = block.norm_attention(row)
        u = block.norm_feed_forward(q + naive_attention(block.attention, q, row))
        expected.append(u + block.lin_out(block.lin_in(u).clamp(min=0)))
    actual = block(x, DenseView(PTR))
    torch.testing.assert_close(actual, torch.cat(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rotary", [True, False])
def test_block_click_changed_touches_only_itself_and_later_clicks_of_its_row(
    kind: str, rotary: bool
) -> None:
    block = TransformerBlock(8, 2, kind=kind)
    shake(block)
    view = DenseView(PTR)
    rotation = position_angles(view.position, 4) if rotary else None
    x = torch.randn(14, 8)
    changed = x.clone()
    changed[8] = torch.randn(8)  # row 2 holds clicks 5 to 11
    touched = (block(x, view, rotation) - block(changed, view, rotation)).abs().amax(1) > 1e-6
    assert touched.nonzero().view(-1).tolist() == [8, 9, 10, 11]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("rotary", [True, False])
@pytest.mark.parametrize("reads", [[3, 4, 6, 8, 11, 13], [0, 5, 13], [7], []])
def test_block_asked_for_some_clicks_gives_their_states_of_all(
    kind: str, causal: bool, rotary: bool, reads: list[int]
) -> None:
    block = TransformerBlock(8, 2, kind=kind, causal=causal)
    shake(block)
    view = DenseView(PTR)
    rotation = position_angles(view.position, 4) if rotary else None
    x, chosen = torch.randn(14, 8), torch.tensor(reads, dtype=torch.long)
    expected = block(x, view, rotation)[chosen]
    torch.testing.assert_close(block(x, view, rotation, chosen), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_block_not_causal_click_changed_touches_its_row_alone(kind: str) -> None:
    block = TransformerBlock(8, 2, kind=kind, causal=False)
    shake(block)
    view, x = DenseView(PTR), torch.randn(14, 8)
    changed = x.clone()
    changed[8] = torch.randn(8)  # row 2 holds clicks 5 to 11
    touched = (block(x, view) - block(changed, view)).abs().amax(1) > 1e-6
    assert touched.nonzero().view(-1).tolist() == [5, 6, 7, 8, 9, 10, 11]


@pytest.mark.parametrize("causal", [True, False])
def test_attention_row_without_clicks_leaves_gradients_finite(causal: bool) -> None:
    attention = SelfAttention(8, 2, causal=causal)
    x = torch.randn(5, 8, requires_grad=True)
    view = DenseView(torch.tensor([0, 2, 2, 5]))
    attention(x[[1, 4]], x, view, query_index=torch.tensor([1, 4])).sum().backward()
    attention(x, x, view).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_block_dropout_acts_in_training_alone(kind: str) -> None:
    block = TransformerBlock(8, 2, kind=kind, dropout=0.5)
    shake(block)
    x, view = torch.randn(14, 8), DenseView(PTR)
    assert not torch.equal(block(x, view), block(x, view))
    block.eval()
    assert torch.equal(block(x, view), block(x, view))


def test_rotate_quarter_turn_by_hand_moves_the_first_half_to_the_second() -> None:
    turned = rotate(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([math.pi / 2, 0.0]))
    torch.testing.assert_close(turned, torch.tensor([-3.0, 2.0, 1.0, 4.0]))


def test_rotate_by_position_makes_products_depend_on_distance_alone() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 8)

    def product(query_position: int, key_position: int) -> float:
        angles = position_angles(torch.tensor([query_position, key_position]), 8)
        return float((rotate(q, angles[:1]) * rotate(k, angles[1:])).sum())

    assert product(5, 2) == pytest.approx(product(43, 40), abs=1e-4)
    assert product(5, 2) != pytest.approx(product(5, 3), abs=1e-3)
    assert product(4, 4) == pytest.approx(float((q * k).sum()), abs=1e-5)


def test_position_angles_by_hand_fall_from_the_position_itself() -> None:
    angles = position_angles(torch.tensor([0, 3]), 4)
    torch.testing.assert_close(angles, torch.tensor([[0.0, 0.0], [3.0, 0.03]]))


def test_attention_heads_that_do_not_divide_raise() -> None:
    with pytest.raises(ValueError, match="heads must divide hidden_channels, got 3 heads for 8"):
        SelfAttention(8, 3)
    with pytest.raises(ValueError, match="heads must be at least 1, got 0"):
        SelfAttention(8, 0)


def test_block_unknown_kind_raises_naming_it() -> None:
    with pytest.raises(ValueError, match="'post_norm' or 'published', got 'pre'"):
        TransformerBlock(8, kind="pre")


def test_block_unknown_activation_raises_naming_it() -> None:
    with pytest.raises(ValueError, match="'gelu', 'relu' or 'leaky_relu', got 'tanh'"):
        TransformerBlock(8, activation="tanh")


def test_blocks_repr_is_one_line() -> None:
    assert repr(SelfAttention(8, 2)) == "SelfAttention(8, heads=2)"
    assert repr(TransformerBlock(8, 2)) == "TransformerBlock(8, heads=2, kind='pre_norm')"
