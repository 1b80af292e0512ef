"""Causal self-attention over ragged clicks, and the transformer blocks built from it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import Dropout, LayerNorm, Linear
from torch.nn.functional import gelu, scaled_dot_product_attention

from graphseq.nn.ragged import DenseView

BlockKind = Literal["pre_norm", "post_norm", "published"]


class CausalSelfAttention(torch.nn.Module):
    r"""Scaled dot-product attention of each click over itself and those before it.

    Vaswani et al., NeurIPS 2017, eq. 1, with a causal mask, within each row of a view:

    .. math::
        \mathrm{softmax}(Q K^\top / \sqrt{d / heads}) \, V

    Projections run over the clicks alone; only attention itself sees the dense view.

    Args:
        hidden_channels: Width ``d`` of the clicks' states.
        heads: Attention heads; they share out ``d``.
        dropout: Share of attention weights dropped in training.
        project_out: Whether heads are mixed by an output projection.

    Shapes:
        query and source [num_clicks, d] -> [num_clicks, d]

    Raises:
        ValueError: If ``heads`` does not divide ``hidden_channels``.
    """

    def __init__(
        self,
        hidden_channels: int,
        heads: int = 1,
        *,
        dropout: float = 0.0,
        project_out: bool = True,
    ) -> None:
        super().__init__()
        if heads < 1 or hidden_channels % heads:
            raise ValueError(
                f"heads must divide hidden_channels, got {heads} heads for {hidden_channels}."
            )
        self.heads = heads
        self.dropout = dropout
        self.lin_query = Linear(hidden_channels, hidden_channels)
        # A bias of the keys would add the same to all logits of a query: the softmax cancels it.
        self.lin_key = Linear(hidden_channels, hidden_channels, bias=False)
        self.lin_value = Linear(hidden_channels, hidden_channels)
        self.lin_out = Linear(hidden_channels, hidden_channels) if project_out else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for module in self.modules():
            if isinstance(module, Linear):
                reset_linear(module)

    def forward(
        self, query: Tensor, source: Tensor, view: DenseView, rotation: Tensor | None = None
    ) -> Tensor:
        """Attention from ``query`` over ``source``.

        Args:
            query: What asks, [num_clicks, d].
            source: What keys and values are made of, [num_clicks, d].
            view: The rows within which clicks attend.
            rotation: The angles of rotary positions (Su et al., 2021), [num_clicks, d / heads / 2],
                by which queries and keys turn; or none.

        Returns:
            [num_clicks, d].
        """
        q = self._heads(self.lin_query(query), view, rotation)  # [num_rows, heads, width, d/heads]
        k = self._heads(self.lin_key(source), view, rotation)
        v = self._heads(self.lin_value(source), view)
        dropout = self.dropout if self.training else 0.0
        # Padding lies to the right of every real click, so the causal mask hides it already.
        mixed = scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        out = view.flat(mixed.transpose(1, 2)).flatten(1)  # [num_clicks, d]
        return out if self.lin_out is None else self.lin_out(out)

    def _heads(self, values: Tensor, view: DenseView, rotation: Tensor | None = None) -> Tensor:
        values = values.unflatten(1, (self.heads, -1))  # [num_clicks, heads, d/heads]
        if rotation is not None:
            values = rotate(values, rotation.unsqueeze(1))
        return view.dense(values).transpose(1, 2)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.lin_query.in_features}, heads={self.heads})"


class CausalBlock(torch.nn.Module):
    r"""A transformer block over ragged clicks: causal attention, then a feed-forward network.

    ``"pre_norm"`` (Xiong et al., ICML 2020), with a GELU:

    .. math::
        x' = x + A(\mathrm{LN}(x), \mathrm{LN}(x)), \quad y = x' + F(\mathrm{LN}(x'))

    ``"post_norm"`` (Vaswani et al., NeurIPS 2017), with a ReLU:

    .. math::
        x' = \mathrm{LN}(x + A(x, x)), \quad y = \mathrm{LN}(x' + F(x'))

    ``"published"``: the block of SASRec's program, with a ReLU and no output projection; its
    residuals start from the normalised states:

    .. math::
        q = \mathrm{LN}(x), \quad u = \mathrm{LN}(q + A(q, x)), \quad y = u + F(u)

    Args:
        hidden_channels: Width ``d``.
        heads: Attention heads.
        kind: Which of the three.
        dropout: Share dropped in training of attention weights and of each branch's output.
        expansion: Inner width of the feed-forward network, in units of ``d``.

    Shapes:
        x [num_clicks, d] -> [num_clicks, d]

    Raises:
        ValueError: If ``kind`` is none of the three or ``heads`` does not divide the width.
    """

    def __init__(
        self,
        hidden_channels: int,
        heads: int = 1,
        *,
        kind: BlockKind = "pre_norm",
        dropout: float = 0.0,
        expansion: int = 1,
    ) -> None:
        super().__init__()
        if kind not in ("pre_norm", "post_norm", "published"):
            raise ValueError(f"A block is 'pre_norm', 'post_norm' or 'published', got {kind!r}.")
        self.kind = kind
        self.norm_attention = LayerNorm(hidden_channels)
        self.norm_feed_forward = LayerNorm(hidden_channels)
        self.attention = CausalSelfAttention(
            hidden_channels, heads, dropout=dropout, project_out=kind != "published"
        )
        self.lin_in = Linear(hidden_channels, expansion * hidden_channels)
        self.lin_out = Linear(expansion * hidden_channels, hidden_channels)
        self.drop = Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self.norm_attention.reset_parameters()
        self.norm_feed_forward.reset_parameters()
        self.attention.reset_parameters()
        reset_linear(self.lin_in)
        reset_linear(self.lin_out)

    def forward(self, x: Tensor, view: DenseView, rotation: Tensor | None = None) -> Tensor:
        if self.kind == "pre_norm":
            q = self.norm_attention(x)
            x = x + self.drop(self.attention(q, q, view, rotation))
            return x + self._feed_forward(self.norm_feed_forward(x))
        if self.kind == "post_norm":
            x = self.norm_attention(x + self.drop(self.attention(x, x, view, rotation)))
            post: Tensor = self.norm_feed_forward(x + self._feed_forward(x))
            return post
        q = self.norm_attention(x)
        u: Tensor = self.norm_feed_forward(q + self.drop(self.attention(q, x, view, rotation)))
        return u + self._feed_forward(u)

    def _feed_forward(self, x: Tensor) -> Tensor:
        inner = self.lin_in(x)
        inner = gelu(inner) if self.kind == "pre_norm" else inner.relu()
        out: Tensor = self.drop(self.lin_out(inner))
        return out

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.lin_in.in_features}, heads={self.attention.heads}, "
            f"kind={self.kind!r})"
        )


def reset_linear(linear: Linear) -> None:
    """Starts a projection normal with deviation 0.02 and its bias at zero."""
    torch.nn.init.normal_(linear.weight, std=0.02)
    if linear.bias is not None:
        torch.nn.init.zeros_(linear.bias)


def position_angles(position: Tensor, channels: int) -> Tensor:
    r"""The angles of sinusoidal and rotary positions, :math:`p \cdot 10000^{-2i / channels}`.

    Vaswani et al., NeurIPS 2017, section 3.5; Su et al., RoFormer, 2021, eq. 15.

    Args:
        position: [num_clicks].
        channels: An even width.

    Returns:
        float32 [num_clicks, channels / 2].
    """
    steps = torch.arange(0, channels, 2, device=position.device, dtype=torch.float32)
    return position.unsqueeze(1).float() * 10000.0 ** (-steps / channels)


def rotate(values: Tensor, angles: Tensor) -> Tensor:
    """Turns each pair of channels by its angle: channel ``i`` is paired with ``i + channels / 2``.

    Args:
        values: [..., channels].
        angles: Broadcastable to [..., channels / 2].

    Returns:
        [..., channels].
    """
    left, right = values.chunk(2, dim=-1)
    cos, sin = angles.cos().to(values.dtype), angles.sin().to(values.dtype)
    return torch.cat([left * cos - right * sin, left * sin + right * cos], dim=-1)
