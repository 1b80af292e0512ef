"""HSTU: sequential transduction without a softmax (Zhai et al., ICML 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import guard_or_false
from torch.nn import LayerNorm, Linear, ModuleList, Parameter
from torch.nn.functional import silu

from graphseq.arguments import check_precise, check_shares, check_sizes, whole
from graphseq.nn.dropout import Dropout
from graphseq.nn.positions import check_times
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

EPSILON = 1e-6
"""Epsilon of the layer norms, as in the authors' code."""

NUM_BUCKETS = 129
"""Time buckets, as in the authors' code: the last one begins at e^38 seconds."""

BUCKET_WIDTH = 0.301
"""Width of a time bucket, in natural logarithms of seconds."""


class HSTULayer(torch.nn.Module):
    r"""A layer of HSTU (Zhai et al., ICML 2024, eq. 1-3): pointwise attention, gated by its input.

    .. math::
        u, v, q, k &= \mathrm{silu}(\mathrm{LN}(x) W) \\
        A_{tj} &= \mathrm{silu}(q_t^\top k_j + p_{j - t} + b(t, j)) / L, \quad j \le t \\
        y &= x + \big(u \odot \mathrm{LN}(A v)\big) W_o + c_o

    with a bias :math:`p` for the distance in clicks and a bias :math:`b` for the bucket of the
    seconds between both clicks; :math:`L` is ``max_length``.

    Args:
        hidden_channels: Width ``d``.
        max_length: Maximum number of clicks in a row.
        heads: Attention heads.
        linear_channels: Width of ``u`` and ``v`` in each head; ``None``: ``d / heads``.
        attention_channels: Width of ``q`` and ``k`` in each head; ``None``: ``d / heads``.
        relative_position: Whether there is a bias of the distance in clicks.
        num_buckets: Number of time buckets; 0: no time bias.
        dropout: Dropout rate of the gated values.

    Shapes:
        x [num_clicks, d] -> [num_clicks, d]

    Raises:
        ValueError: If a size is not positive, or ``heads`` does not divide ``hidden_channels`` and
            a width is not given.
    """

    def __init__(
        self,
        hidden_channels: int,
        max_length: int,
        heads: int = 1,
        *,
        linear_channels: int | None = None,
        attention_channels: int | None = None,
        relative_position: bool = True,
        num_buckets: int = NUM_BUCKETS,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(hidden_channels=hidden_channels)
        check_shares(dropout=dropout)
        heads = whole("heads", heads)
        num_buckets = whole("num_buckets", num_buckets, at_least=0)
        if hidden_channels % heads and (linear_channels is None or attention_channels is None):
            raise ValueError(
                f"heads must divide hidden_channels, got {heads} heads for {hidden_channels}: or "
                "give linear_channels and attention_channels."
            )
        linear = hidden_channels // heads if linear_channels is None else linear_channels
        attention = hidden_channels // heads if attention_channels is None else attention_channels
        check_sizes(max_length=max_length, linear_channels=linear, attention_channels=attention)
        self.max_length = max_length
        self.heads = heads
        self.widths = [heads * linear, heads * linear, heads * attention, heads * attention]
        self.norm_in = LayerNorm(hidden_channels, eps=EPSILON)
        self.norm_out = LayerNorm(heads * linear, eps=EPSILON)
        self.weight = Parameter(torch.empty(hidden_channels, sum(self.widths)))  # W
        self.position_bias: Parameter | None = None  # p
        if relative_position:
            self.position_bias = Parameter(torch.empty(2 * max_length - 1))
        self.time_bias = Parameter(torch.empty(num_buckets)) if num_buckets else None  # b
        self.lin_out = Linear(heads * linear, hidden_channels)  # W_o, c_o
        self.drop = Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for parameter in (self.weight, self.position_bias, self.time_bias):
            if parameter is not None:
                torch.nn.init.normal_(parameter, std=0.02)
        torch.nn.init.xavier_uniform_(self.lin_out.weight)
        torch.nn.init.zeros_(self.lin_out.bias)
        self.norm_in.reset_parameters()
        self.norm_out.reset_parameters()

    def forward(self, x: Tensor, view: DenseView, buckets: Tensor | None = None) -> Tensor:
        """The states after this layer.

        Args:
            x: [num_clicks, d].
            view: The rows within which clicks attend.
            buckets: The time bucket between each pair of clicks, int64 [num_rows, width, width]
                (:func:`time_buckets`); ``None``: times are unknown, and there is no time bias.

        Returns:
            [num_clicks, d].
        """
        u, v, q, k = silu(self.norm_in(x) @ self.weight).split(self.widths, dim=-1)
        weights = self._weights(q, k, view, buckets)
        v = self._heads(v, view)
        mixed = view.flat((weights @ v).transpose(1, 2)).flatten(1)  # [num_clicks, heads * linear]
        gated = self.drop(u * self.norm_out(mixed))
        y: Tensor = x + self.lin_out(gated)
        return y

    def weights(self, x: Tensor, view: DenseView, buckets: Tensor | None = None) -> Tensor:
        """What :meth:`forward` mixes values by, :math:`A`; rows of padding mean nothing.

        Args:
            x, view, buckets: As in :meth:`forward`.

        Returns:
            [num_rows, heads, width, width], zero above the diagonal; rows sum to no fixed number.
        """
        _, _, q, k = silu(self.norm_in(x) @ self.weight).split(self.widths, dim=-1)
        return self._weights(q, k, view, buckets)

    def _weights(self, q: Tensor, k: Tensor, view: DenseView, buckets: Tensor | None) -> Tensor:
        q, k = self._heads(q, view), self._heads(k, view)
        bias = self._bias(view, buckets)
        logits = q @ k.transpose(-2, -1)  # [num_rows, heads, width, width]
        if bias is not None:
            logits = logits + bias
        causal = torch.ones(view.width, view.width, dtype=torch.bool, device=q.device).tril()
        return (silu(logits) * (causal / self.max_length)).to(q.dtype)

    def _bias(self, view: DenseView, buckets: Tensor | None) -> Tensor | None:
        """The bias of the logits, [num_rows or 1, 1, width, width]."""
        bias = None
        if self.position_bias is not None:
            place = torch.arange(view.width, device=self.position_bias.device)
            distance = place - place.unsqueeze(1)  # j - t: [width, width]
            bias = self.position_bias[distance + self.max_length - 1][None, None]
        if self.time_bias is not None and buckets is not None:
            timed = self.time_bias.index_select(0, buckets.flatten()).view(buckets.shape)
            timed = timed.unsqueeze(1)  # [num_rows, 1, width, width]
            bias = timed if bias is None else bias + timed
        return bias

    def _heads(self, values: Tensor, view: DenseView) -> Tensor:
        """[num_clicks, channels] as [num_rows, heads, width, channels / heads]."""
        return view.dense(values.unflatten(1, (self.heads, -1))).transpose(1, 2)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.lin_out.out_features}, heads={self.heads})"


class HSTULayers(torch.nn.Module):
    """Stacked layers of HSTU (Zhai et al., ICML 2024), over ragged rows of clicks.

    Args:
        hidden_channels: Width ``d``.
        max_length: Maximum number of clicks in a row.
        num_layers: Number of layers.
        heads: Attention heads of a layer.
        num_buckets: Number of time buckets; 0: no time bias.
        options: Further arguments of :class:`HSTULayer`.

    Shapes:
        x [num_clicks, d], ptr [num_rows + 1], click_time [num_clicks], request_time [num_rows]
        -> [num_clicks, d]

    Raises:
        ValueError: If a size is not positive or ``heads`` does not divide the width.
    """

    def __init__(
        self,
        hidden_channels: int,
        max_length: int,
        num_layers: int = 2,
        heads: int = 1,
        *,
        num_buckets: int = NUM_BUCKETS,
        **options: Any,
    ) -> None:
        super().__init__()
        check_sizes(num_layers=num_layers)
        self.hidden_channels = hidden_channels
        self.max_length = max_length
        self.num_buckets = num_buckets
        self.layers = ModuleList(
            HSTULayer(hidden_channels, max_length, heads, num_buckets=num_buckets, **options)
            for _ in range(num_layers)
        )

    def reset_parameters(self) -> None:
        for layer in self.layers:
            layer.reset_parameters()  # type: ignore[operator]

    @classmethod
    def from_published(
        cls, parameters: Mapping[str, Any], heads: int = 1, max_length: int | None = None
    ) -> Self:
        """The layers with the weights of RecTools' ``STULayers``, in evaluation mode.

        Args:
            parameters: Name there -> array.
            heads: Attention heads, which the weights do not determine.
            max_length: Maximum number of clicks in a row there; ``None``: taken from the position
                biases.

        Raises:
            ValueError: If a parameter is missing or unknown, sizes do not match, or ``max_length``
                cannot be determined.
        """
        heads = whole("heads", heads)
        given = read_parameters(parameters, "HSTU")
        biases = {k: v for k, v in BIAS_NAMES.items() if f"stu_blocks.0.{k}" in given}
        num_layers = max(1, num_published_blocks(given, "stu_blocks"))
        names = names_of_blocks(PUBLISHED_NAMES | biases, "stu_blocks", "layers", num_layers)
        state = renamed_state(given, names, "HSTU")
        position, time = (state.get(f"layers.0.{name}") for name in BIAS_NAMES.values())
        if max_length is None:
            if position is None:
                raise ValueError("max_length must be given: these weights have no position biases.")
            max_length = (len(position) + 1) // 2
        (hidden_channels,) = shape_of(given, "stu_blocks.0.norm_input.weight", 1, "HSTU")
        (linear,) = shape_of(given, "stu_blocks.0.norm_attn_output.weight", 1, "HSTU")
        rows, inner = shape_of(given, "stu_blocks.0.uvqk_proj", 2, "HSTU")
        if rows != hidden_channels or inner % 2 or inner <= 2 * linear:
            raise ValueError(
                f"stu_blocks.0.uvqk_proj of HSTU's published weights has shape {[rows, inner]}, "
                f"which does not fit the others: {hidden_channels} rows and an even number of "
                f"columns above {2 * linear} would."
            )
        if linear % heads or inner % (2 * heads):
            raise ValueError(f"heads must divide the widths of the weights, got {heads} heads.")
        layers = cls(
            hidden_channels,
            whole("max_length", max_length),
            num_layers,
            heads,
            linear_channels=linear // heads,
            attention_channels=(inner // 2 - linear) // heads,
            relative_position=position is not None,
            num_buckets=0 if time is None else len(time),
        )
        fill(layers, named(state, names), "HSTU")
        return layers.eval()

    def forward(
        self,
        x: Tensor,
        ptr: Tensor,
        click_time: Tensor | None = None,
        request_time: Tensor | None = None,
    ) -> Tensor:
        """The states after all layers.

        With ``request_time`` each click knows the time of the next one, which is a different task
        from predicting only the next item. Without it, a click's own time is used instead.

        Args:
            x: [num_clicks, d].
            ptr: First click of each row, and the end, int64 [num_rows + 1].
            click_time: Time of each click in seconds, [num_clicks]; ``None``: not known.
            request_time: Time of the click that follows each row, in seconds, [num_rows].

        Returns:
            [num_clicks, d].

        Raises:
            ValueError: If a row is longer than ``max_length``, there is not one state of this width
                per click, there are times of other clicks or rows, a time is not finite, or there
                is a ``request_time`` without ``click_time``.
        """
        view = rows_of(x, ptr, self.hidden_channels, next(self.parameters()))
        if view.width > self.max_length:
            raise ValueError(
                f"HSTU's layers take rows of at most {self.max_length} clicks, got one of "
                f"{view.width}: keep its newest ones, or build the layers with a larger max_length."
            )
        buckets = None
        if click_time is not None:
            check_times("click_time", click_time)
            if click_time.dim() != 1 or guard_or_false(click_time.size(0) != x.size(0)):
                raise ValueError(
                    f"There is one click_time per click, [{x.size(0)}], got "
                    f"{list(click_time.shape)}."
                )
            check_precise("click_time", click_time)
            asked = click_time
            if request_time is not None:
                check_times("request_time", request_time)
                check_precise("request_time", request_time)
                if request_time.shape != (view.num_rows,):
                    raise ValueError(
                        f"There is one request_time per row, [{view.num_rows}], got "
                        f"{list(request_time.shape)}."
                    )
                asked = next_time(ptr.long(), click_time, request_time)
            if self.num_buckets:
                buckets = time_buckets(view, asked, click_time, self.num_buckets)
        elif request_time is not None:
            raise ValueError("request_time needs click_time: pass both, or neither.")
        for layer in self.layers:
            x = layer(x, view, buckets)  # [num_clicks, d]
        return x


def next_time(ptr: Tensor, click_time: Tensor, request_time: Tensor) -> Tensor:
    """The time of the click after each click, [num_clicks]; after the last one, of the request."""
    last = ptr[1:] - 1
    filled = ptr.diff() > 0
    later = click_time.roll(-1)
    return later.index_copy(0, last[filled], request_time[filled].to(later.dtype))


def time_buckets(view: DenseView, asked: Tensor, click_time: Tensor, num_buckets: int) -> Tensor:
    r"""The bucket of the seconds between each pair of clicks, :math:`\log(\max(|s|, 1)) / 0.301`.

    Args:
        view: The rows of clicks.
        asked: The time of each click as a query (a row of the table), [num_clicks].
        click_time: The time of each click as a key (a column), [num_clicks].
        num_buckets: Number of buckets; the last one holds all longer times.

    Returns:
        int64 [num_rows, width, width].
    """
    seconds = view.dense(asked).unsqueeze(2) - view.dense(click_time).unsqueeze(1)
    bucket = seconds.abs().clamp(min=1).float().log() / BUCKET_WIDTH
    return bucket.long().clamp(max=num_buckets - 1)


PUBLISHED_NAMES = {
    "uvqk_proj": "weight",
    "output_mlp.weight": "lin_out.weight",
    "output_mlp.bias": "lin_out.bias",
    "norm_input.weight": "norm_in.weight",
    "norm_input.bias": "norm_in.bias",
    "norm_attn_output.weight": "norm_out.weight",
    "norm_attn_output.bias": "norm_out.bias",
}
"""Parameters of a layer there -> here."""

BIAS_NAMES = {
    "rel_attn.pos_weights": "position_bias",
    "rel_attn.time_weights": "time_bias",
}
"""Parameters that a layer may lack."""
