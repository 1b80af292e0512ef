"""LiGR blocks: a pre-norm transformer with gated residuals and SwiGLU (Borisyuk et al., 2025)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import LayerNorm, Linear, ModuleList
from torch.nn.functional import silu

from graphseq.arguments import check_heads, check_sizes, whole
from graphseq.nn.attention import SelfAttention, reset_linear
from graphseq.nn.dropout import Dropout
from graphseq.nn.published import (
    fill,
    named,
    names_of_blocks,
    num_published_blocks,
    read_parameters,
    renamed_state,
    shape_of,
)
from graphseq.nn.ragged import DenseView, rows_of


class LiGRBlock(torch.nn.Module):
    r"""A block of LiGR (Borisyuk et al., 2025): each branch is gated before it is added.

    .. math::
        x' &= x + \sigma(W_1 x + b_1) \odot A(\mathrm{LN}(x)) \\
        y &= x' + \sigma(W_2 x' + b_2) \odot F(\mathrm{LN}(x')), \quad
        F(x) = W_3 \big(\mathrm{silu}(W_4 x) \odot W_5 x\big)

    Args:
        hidden_channels: Width ``d``.
        heads: Attention heads.
        causal: Whether a click attends only to itself and earlier clicks.
        dropout: Dropout rate of attention weights, of the feed-forward network's inner values and
            of each branch's output.
        expansion: Inner width of the feed-forward network, as a multiple of ``d``; the width is
            rounded.

    Shapes:
        x [num_clicks, d] -> [num_clicks, d], or [n, d] for the clicks ``query_index`` [n] alone

    Raises:
        ValueError: If a width is below 1, or ``heads`` does not divide ``hidden_channels``.
    """

    def __init__(
        self,
        hidden_channels: int,
        heads: int = 1,
        *,
        causal: bool = True,
        dropout: float = 0.0,
        expansion: float = 4,
    ) -> None:
        super().__init__()
        check_heads(hidden_channels, heads)
        if not isinstance(expansion, (int, float)) or not 0 < expansion < math.inf:
            raise ValueError(f"expansion must be positive and finite, got {expansion!r}.")
        d, inner = hidden_channels, round(expansion * hidden_channels)
        check_sizes(**{"expansion * hidden_channels": inner})
        self.norm_attention = LayerNorm(d)
        self.norm_feed_forward = LayerNorm(d)
        self.attention = SelfAttention(d, heads, causal=causal, dropout=dropout)
        self.gate_attention = Linear(d, d)  # W1, b1
        self.gate_feed_forward = Linear(d, d)  # W2, b2
        self.lin_gate = Linear(d, inner, bias=False)  # W4
        self.lin_in = Linear(d, inner, bias=False)  # W5
        self.lin_out = Linear(inner, d, bias=False)  # W3
        self.drop = Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self.norm_attention.reset_parameters()
        self.norm_feed_forward.reset_parameters()
        self.attention.reset_parameters()
        for module in self.children():
            if isinstance(module, Linear):
                reset_linear(module)

    def forward(
        self,
        x: Tensor,
        view: DenseView,
        rotation: Tensor | None = None,
        query_index: Tensor | None = None,
    ) -> Tensor:
        """The states after this block, as in :meth:`graphseq.nn.TransformerBlock.forward`."""
        own = x if query_index is None else x[query_index]  # [n, d]
        source = self.norm_attention(x)
        query = source if query_index is None else source[query_index]
        attended = self.drop(self.attention(query, source, view, rotation, query_index))
        own = own + self.gate_attention(own).sigmoid() * attended
        gate = self.gate_feed_forward(own).sigmoid()
        y: Tensor = own + gate * self.feed_forward(self.norm_feed_forward(own))
        return y  # [n, d]

    def feed_forward(self, x: Tensor) -> Tensor:
        """SwiGLU (Shazeer, 2020), for any leading shape."""
        inner = silu(self.lin_gate(x)) * self.lin_in(x)
        out: Tensor = self.drop(self.lin_out(self.drop(inner)))
        return out

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.lin_in.in_features}, heads={self.attention.heads})"


class LiGRLayers(torch.nn.Module):
    """Stacked causal LiGR blocks over ragged rows of clicks.

    Args:
        hidden_channels: Width ``d``.
        num_layers: Number of blocks.
        heads: Attention heads of a block.
        dropout: As in :class:`LiGRBlock`.
        expansion: As in :class:`LiGRBlock`.

    Shapes:
        x [num_clicks, d], ptr [num_rows + 1] -> [num_clicks, d]

    Raises:
        ValueError: If ``num_layers`` is not positive or ``heads`` does not divide the width.
    """

    def __init__(
        self,
        hidden_channels: int,
        num_layers: int = 2,
        heads: int = 1,
        *,
        dropout: float = 0.0,
        expansion: float = 4,
    ) -> None:
        super().__init__()
        check_sizes(num_layers=num_layers)
        self.hidden_channels = hidden_channels
        self.blocks = ModuleList(
            LiGRBlock(hidden_channels, heads, dropout=dropout, expansion=expansion)
            for _ in range(num_layers)
        )

    def reset_parameters(self) -> None:
        for block in self.blocks:
            block.reset_parameters()  # type: ignore[operator]

    @classmethod
    def from_published(cls, parameters: Mapping[str, Any], heads: int = 1) -> Self:
        """The blocks with the weights of RecTools' ``LiGRLayers``, in evaluation mode.

        Args:
            parameters: Name there -> array.
            heads: Attention heads, which the weights do not determine.

        Raises:
            ValueError: If a parameter is missing or unknown, or sizes do not match.
        """
        heads = whole("heads", heads)
        given = read_parameters(parameters, "LiGR")
        num_layers = max(1, num_published_blocks(given, "transformer_blocks"))
        names = names_of_blocks(PUBLISHED_NAMES, "transformer_blocks", "blocks", num_layers)
        state = renamed_state(given, names, "LiGR")
        first = "transformer_blocks.0.feed_forward.ff_linear_3.weight"
        inner, hidden_channels = shape_of(given, first, 2, "LiGR")
        layers = cls(hidden_channels, num_layers, heads, expansion=inner / hidden_channels)
        fill(layers, named(state, names), "LiGR")
        return layers.eval()

    def forward(self, x: Tensor, ptr: Tensor) -> Tensor:
        """The states after all blocks.

        Args:
            x: [num_clicks, d].
            ptr: First click of each row, and the end, int64 [num_rows + 1].

        Returns:
            [num_clicks, d].

        Raises:
            ValueError: If there is not one state of this width per click.
        """
        view = rows_of(x, ptr, self.hidden_channels, next(self.parameters()))
        for block in self.blocks:
            x = block(x, view)  # [num_clicks, d]
        return x


PUBLISHED_NAMES: dict[str, str | tuple[str, ...]] = {
    "multi_head_attn.in_proj_weight": tuple(
        f"attention.lin_{part}.weight" for part in ("query", "key", "value")
    ),
    # The bias of the keys is dropped: the softmax cancels it.
    "multi_head_attn.in_proj_bias": ("attention.lin_query.bias", "", "attention.lin_value.bias"),
    "multi_head_attn.out_proj.weight": "attention.lin_out.weight",
    "multi_head_attn.out_proj.bias": "attention.lin_out.bias",
    "layer_norm_1.weight": "norm_attention.weight",
    "layer_norm_1.bias": "norm_attention.bias",
    "layer_norm_2.weight": "norm_feed_forward.weight",
    "layer_norm_2.bias": "norm_feed_forward.bias",
    "feed_forward.ff_linear_1.weight": "lin_gate.weight",
    "feed_forward.ff_linear_2.weight": "lin_out.weight",
    "feed_forward.ff_linear_3.weight": "lin_in.weight",
    "gating_linear_1.weight": "gate_attention.weight",
    "gating_linear_1.bias": "gate_attention.bias",
    "gating_linear_2.weight": "gate_feed_forward.weight",
    "gating_linear_2.bias": "gate_feed_forward.bias",
}
"""Parameters of a block there -> the equal parts they are split into here."""
