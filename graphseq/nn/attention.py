"""Self-attention over ragged clicks, causal or not, and the transformer blocks built from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import LayerNorm, Linear
from torch.nn.functional import gelu, leaky_relu, relu, scaled_dot_product_attention

from graphseq.arguments import check_choice, check_heads, check_shares, check_sizes
from graphseq.nn.dropout import Dropout, dropout
from graphseq.nn.ragged import DenseView, ragged_range

BlockKind = Literal["pre_norm", "post_norm", "published"]
Activation = Literal["gelu", "relu", "leaky_relu"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": gelu,
    "relu": relu,
    "leaky_relu": leaky_relu,
}


class SelfAttention(torch.nn.Module):
    r"""Scaled dot-product attention of each click over its whole row, or over the clicks up to it.

    Vaswani et al., NeurIPS 2017, eq. 1, within each row of a view:

    .. math::
        \mathrm{softmax}(Q K^\top / \sqrt{d / heads}) \, V

    Projections run over the ragged clicks; only the attention itself uses the dense view.

    Args:
        hidden_channels: Width ``d`` of the clicks' states.
        heads: Attention heads; each has width ``d / heads``.
        causal: Whether a click attends only to itself and earlier clicks; else to all clicks of its
            row.
        dropout: Fraction of attention weights dropped in training.
        project_out: Whether an output projection mixes the heads.

    Shapes:
        query and source [num_clicks, d] -> [num_clicks, d]; with ``query_index`` [n], query [n, d]
        -> [n, d]

    Raises:
        ValueError: If ``heads`` does not divide ``hidden_channels``.
    """

    def __init__(
        self,
        hidden_channels: int,
        heads: int = 1,
        *,
        causal: bool = True,
        dropout: float = 0.0,
        project_out: bool = True,
    ) -> None:
        super().__init__()
        check_heads(hidden_channels, heads)
        check_shares(dropout=dropout)
        self.heads = heads
        self.causal = causal
        self.dropout = dropout
        self.lin_query = Linear(hidden_channels, hidden_channels)
        # A bias of the keys would add one constant to all logits of a query; softmax cancels it.
        self.lin_key = Linear(hidden_channels, hidden_channels, bias=False)
        self.lin_value = Linear(hidden_channels, hidden_channels)
        self.lin_out = Linear(hidden_channels, hidden_channels) if project_out else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for module in self.modules():
            if isinstance(module, Linear):
                reset_linear(module)

    def forward(
        self,
        query: Tensor,
        source: Tensor,
        view: DenseView,
        rotation: Tensor | None = None,
        query_index: Tensor | None = None,
        seen: Tensor | None = None,
    ) -> Tensor:
        """Attention from ``query`` over ``source``.

        Args:
            query: States that make the queries, [num_clicks, d], or [n, d] with ``query_index``.
            source: States that make keys and values, [num_clicks, d].
            view: The rows within which clicks attend.
            rotation: The angles of rotary positions (Su et al., 2021), [num_clicks, d / heads / 2];
                ``None``: queries and keys are not rotated.
            query_index: The query clicks, in order, int64 [n]; ``None``: all.
            seen: Attention mask, ``True`` where a query may attend to a click, bool [num_rows, 1,
                largest number of queries in a row, width]; ``None``: given by ``causal``.

        Returns:
            [num_clicks, d] or [n, d].
        """
        queries, q, k = self._queries_and_keys(query, source, view, rotation, query_index)
        v = self._heads(self.lin_value(source), view)
        if self.training and self.dropout and q.device.type == "cpu":
            # torch also computes plain attention in this case, but its dropout costs more than the
            # rest.
            mixed = dropout(self._weights(q, k, view, queries, query_index, seen), self.dropout) @ v
        else:
            # Padding is to the right of every real click: if all clicks are queries, the causal
            # mask hides it.
            simple = self.causal and query_index is None and seen is None
            mixed = scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=None if simple else self._seen(view, queries, query_index, seen),
                dropout_p=self.dropout if self.training else 0.0,
                is_causal=simple,
            )
        out = queries.flat(mixed.transpose(1, 2)).flatten(1)  # [num_clicks, d] or [n, d]
        return out if self.lin_out is None else self.lin_out(out)

    def weights(
        self,
        query: Tensor,
        source: Tensor,
        view: DenseView,
        rotation: Tensor | None = None,
        query_index: Tensor | None = None,
        seen: Tensor | None = None,
    ) -> Tensor:
        """The attention weights of :meth:`forward`, before dropout; rows of padding are undefined.

        Args:
            query, source, view, rotation, query_index, seen: As in :meth:`forward`.

        Returns:
            [num_rows, heads, largest number of queries in a row, width]; the weights of a query sum
            to one.
        """
        queries, q, k = self._queries_and_keys(query, source, view, rotation, query_index)
        return self._weights(q, k, view, queries, query_index, seen)

    def _weights(
        self,
        q: Tensor,
        k: Tensor,
        view: DenseView,
        queries: DenseView,
        query_index: Tensor | None,
        seen: Tensor | None,
    ) -> Tensor:
        logits = (q * q.size(-1) ** -0.5) @ k.transpose(-2, -1)
        if seen is not None or not self.causal or query_index is not None:
            seen = self._seen(view, queries, query_index, seen)
        else:
            seen = torch.ones(view.width, view.width, dtype=torch.bool, device=q.device).tril()
        if seen is not None:
            hidden = logits.new_zeros(seen.shape).masked_fill_(~seen, -torch.inf)
            logits = logits + hidden
        return logits.softmax(-1)

    def _queries_and_keys(
        self,
        query: Tensor,
        source: Tensor,
        view: DenseView,
        rotation: Tensor | None,
        query_index: Tensor | None,
    ) -> tuple[DenseView, Tensor, Tensor]:
        """The view of the query clicks, and q and k [num_rows, heads, clicks, d/heads]."""
        queries = view if query_index is None else view.select(query_index)
        turn = rotation if rotation is None or query_index is None else rotation[query_index]
        q = self._heads(self.lin_query(query), queries, turn)
        return queries, q, self._heads(self.lin_key(source), view, rotation)

    def _seen(
        self, view: DenseView, queries: DenseView, query_index: Tensor | None, seen: Tensor | None
    ) -> Tensor | None:
        """The attention mask of the queries, bool [num_rows, 1, 1 or queries, width]."""
        if seen is not None:
            return seen
        if self.causal and query_index is not None:
            position = queries.dense(view.position[query_index])  # [num_rows, queries]
            place = torch.arange(view.width, device=position.device)
            return (place <= position.unsqueeze(2)).unsqueeze(1)
        return None if view.is_full else view.mask[:, None, None]

    def _heads(self, values: Tensor, view: DenseView, rotation: Tensor | None = None) -> Tensor:
        values = values.unflatten(1, (self.heads, -1))  # [num_clicks, heads, d/heads]
        if rotation is not None:
            values = rotate(values, rotation.unsqueeze(1))
        return view.dense(values).transpose(1, 2)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.lin_query.in_features}, heads={self.heads})"


class TransformerBlock(torch.nn.Module):
    r"""A transformer block over ragged clicks: self-attention, then a feed-forward network.

    ``"pre_norm"`` (Xiong et al., ICML 2020), with a GELU:

    .. math::
        x' = x + A(\mathrm{LN}(x), \mathrm{LN}(x)), \quad y = x' + F(\mathrm{LN}(x'))

    ``"post_norm"`` (Vaswani et al., NeurIPS 2017), with a ReLU:

    .. math::
        x' = \mathrm{LN}(x + A(x, x)), \quad y = \mathrm{LN}(x' + F(x'))

    ``"published"``: the block of SASRec's code, with a ReLU and no output projection. Its residual
    connections start from the normalized states:

    .. math::
        q = \mathrm{LN}(x), \quad u = \mathrm{LN}(q + A(q, x)), \quad y = u + F(u)

    Args:
        hidden_channels: Width ``d``.
        heads: Attention heads.
        kind: Which of these three blocks.
        causal: Whether a click attends only to itself and earlier clicks.
        activation: ``"gelu"``, ``"relu"`` or ``"leaky_relu"``; ``None``: the default of the kind.
        dropout: Dropout rate of attention weights and of each branch's output.
        expansion: Inner width of the feed-forward network, as a multiple of ``d``.

    Shapes:
        x [num_clicks, d] -> [num_clicks, d], or [n, d] for the clicks ``query_index`` [n] alone

    Raises:
        ValueError: If ``kind`` or ``activation`` is unknown, or ``heads`` does not divide the
            width.
    """

    def __init__(
        self,
        hidden_channels: int,
        heads: int = 1,
        *,
        kind: BlockKind = "pre_norm",
        causal: bool = True,
        activation: Activation | None = None,
        dropout: float = 0.0,
        expansion: int = 1,
    ) -> None:
        super().__init__()
        check_heads(hidden_channels, heads)
        check_sizes(expansion=expansion)
        check_choice("kind", kind, get_args(BlockKind))
        if activation is None:
            activation = "gelu" if kind == "pre_norm" else "relu"
        check_choice("activation", activation, list(ACTIVATIONS))
        self.kind = kind
        self.activation = activation
        self.norm_attention = LayerNorm(hidden_channels)
        self.norm_feed_forward = LayerNorm(hidden_channels)
        self.attention = SelfAttention(
            hidden_channels,
            heads,
            causal=causal,
            dropout=dropout,
            project_out=kind != "published",
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

    def forward(
        self,
        x: Tensor,
        view: DenseView,
        rotation: Tensor | None = None,
        query_index: Tensor | None = None,
    ) -> Tensor:
        """The states after this block.

        Args:
            x: [num_clicks, d].
            view: The rows within which clicks attend.
            rotation: As in :meth:`SelfAttention.forward`.
            query_index: The clicks whose states are needed, in order, int64 [n]; ``None``: all. The
                last block can skip all other clicks.

        Returns:
            [num_clicks, d] or [n, d].
        """
        own = x if query_index is None else x[query_index]
        if self.kind == "post_norm":
            own = self.norm_attention(own + self._attend(own, x, view, rotation, query_index))
            post: Tensor = self.norm_feed_forward(own + self.feed_forward(own))
            return post
        q = self.norm_attention(own)
        if self.kind == "published":
            u: Tensor = self.norm_feed_forward(q + self._attend(q, x, view, rotation, query_index))
            return u + self.feed_forward(u)
        source = q if query_index is None else self.norm_attention(x)
        own = own + self._attend(q, source, view, rotation, query_index)
        return own + self.feed_forward(self.norm_feed_forward(own))

    def _attend(
        self,
        query: Tensor,
        source: Tensor,
        view: DenseView,
        rotation: Tensor | None,
        query_index: Tensor | None,
    ) -> Tensor:
        out: Tensor = self.drop(self.attention(query, source, view, rotation, query_index))
        return out

    def feed_forward(self, x: Tensor) -> Tensor:
        """The feed-forward branch, for any leading shape."""
        inner = ACTIVATIONS[self.activation](self.lin_in(x))
        out: Tensor = self.drop(self.lin_out(inner))
        return out

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.lin_in.in_features}, heads={self.attention.heads}, "
            f"kind={self.kind!r})"
        )


@contextmanager
def recorded_attention(module: torch.nn.Module) -> Iterator[list[Tensor]]:
    """Records the attention weights of every :class:`SelfAttention` call inside the context.

    Args:
        module: A model or a block.

    Yields:
        A list to which each call appends its :meth:`SelfAttention.weights`, lowest layer first.
    """
    recorded: list[Tensor] = []

    def keep(attention: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
        assert isinstance(attention, SelfAttention)
        recorded.append(attention.weights(*arguments))

    layers = [layer for layer in module.modules() if isinstance(layer, SelfAttention)]
    hooks = [layer.register_forward_pre_hook(keep) for layer in layers]
    try:
        yield recorded
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def attention_of_windows(
    module: torch.nn.Module, encode: Callable[..., Tensor], ptr: Tensor, max_length: int
) -> list[Tensor]:
    """Attention weights between the newest clicks of each session, before dropout.

    Args:
        module: The module with the attention layers, lowest first.
        encode: Function of clicks and the windows' pointer that returns states, through these
            layers.
        ptr: First click of each session, and the end, int64 [num_sessions + 1].
        max_length: Clicks of a window.

    Returns:
        For each session [num_layers, heads, L, L], with L its number of newest clicks: the weight
        of the click in the column for the click in the row. Each row sums to one.
    """
    click, ptr = ragged_range(torch.maximum(ptr[:-1], ptr[1:] - max_length), ptr[1:])
    with recorded_attention(module) as recorded:
        encode(click, ptr)
    layers = torch.stack(recorded)  # [num_layers, num_sessions, heads, width, width]
    lengths = ptr.diff().tolist()
    return [layers[:, row, :, :length, :length] for row, length in enumerate(lengths)]


def reset_linear(linear: Linear) -> None:
    """Initializes a projection as normal with standard deviation 0.02, and its bias as zero."""
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
    """Rotates pairs of channels by their angles: ``i`` is paired with ``i + channels / 2``.

    Args:
        values: [..., channels].
        angles: Broadcastable to [..., channels / 2].

    Returns:
        [..., channels].
    """
    left, right = values.chunk(2, dim=-1)
    cos, sin = angles.cos().to(values.dtype), angles.sin().to(values.dtype)
    return torch.cat([left * cos - right * sin, left * sin + right * cos], dim=-1)
