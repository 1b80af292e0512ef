"""BSARec's filter of low and high frequencies along a row of clicks, and a causal alternative."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import LayerNorm, Linear, Parameter
from torch.nn.functional import gelu

from graphseq.arguments import check_choice, check_fractions, check_sizes
from graphseq.nn.attention import SelfAttention, reset_linear
from graphseq.nn.dropout import Dropout
from graphseq.nn.ragged import DenseView

FilterKind = Literal["fourier", "moving_average"]

EPSILON = 1e-12
"""Epsilon of the layer norms, as in the authors' code."""


class FrequencyFilter(torch.nn.Module):
    r"""Weighs low and high frequencies of each channel (Shin et al., AAAI 2024, eq. 5-6).

    .. math::
        y = \mathrm{LP}(x) + \beta^2 \odot (x - \mathrm{LP}(x))

    ``"fourier"`` keeps the lowest :math:`\lfloor c / 2 \rfloor + 1` frequencies of a window of
    exactly ``max_length`` positions: :math:`\mathrm{LP} = F^{-1} \, \mathrm{cut}(F x)`. Each
    position then depends on all others.

    ``"moving_average"`` is causal: :math:`\mathrm{LP}(x)_t` is the mean of the newest ``c``
    positions up to ``t``, or of all of them if there are fewer.

    Both are one product with a fixed matrix over positions.

    Args:
        hidden_channels: Width ``d``.
        max_length: Length of a row: exact for ``"fourier"``, maximum for ``"moving_average"``.
        c: Width of the low pass: twice the number of frequencies, or positions of the average.
        kind: ``"fourier"`` or ``"moving_average"``.

    Shapes:
        x [num_clicks, d] -> [num_clicks, d]; with ``query_index`` [n] -> [n, d]

    Raises:
        ValueError: If a size is not positive or ``kind`` is unknown.
    """

    def __init__(
        self, hidden_channels: int, max_length: int, c: int = 5, kind: FilterKind = "fourier"
    ) -> None:
        super().__init__()
        check_sizes(hidden_channels=hidden_channels, max_length=max_length, c=c)
        check_choice("kind", kind, get_args(FilterKind))
        self.max_length = max_length
        self.c = c
        self.kind = kind
        self.beta = Parameter(torch.empty(hidden_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        torch.nn.init.normal_(self.beta)

    def forward(self, x: Tensor, view: DenseView, query_index: Tensor | None = None) -> Tensor:
        """The filtered values.

        Args:
            x: [num_clicks, d].
            view: The rows along which to filter.
            query_index: The clicks whose values are needed, in order, int64 [n]; ``None``: all.

        Returns:
            [num_clicks, d] or [n, d].

        Raises:
            ValueError: If a row is longer than ``max_length``, or for ``"fourier"`` not exactly
                that long.
        """
        places = self.max_length
        if view.width > places or (
            self.kind == "fourier" and view.num_rows and (view.width < places or not view.is_full)
        ):
            raise ValueError(
                f"The {self.kind!r} filter was built for rows of {places} places, got rows of "
                f"{view.width}: fill them up to max_length, or cut them."
            )
        low_pass = fourier_low_pass if self.kind == "fourier" else moving_average
        matrix = low_pass(view.width, self.c, x.device).to(x.dtype)  # [width, width]
        dense = view.dense(x)  # [num_rows, width, d]
        if query_index is None:
            low = view.flat(matrix @ dense)  # [num_clicks, d]
            return low + self.beta**2 * (x - low)
        weights = matrix[view.position[query_index]].unsqueeze(1)  # [n, 1, width]
        low = (weights @ dense[view.batch[query_index]]).squeeze(1)  # [n, d]
        return low + self.beta**2 * (x[query_index] - low)

    def __repr__(self) -> str:
        sizes = f"{self.beta.numel()}, {self.max_length}, {self.c}"
        return f"{type(self).__name__}({sizes}, {self.kind!r})"


class FrequencyBlock(torch.nn.Module):
    r"""A block of BSARec (Shin et al., AAAI 2024, eq. 7-8): the filter and attention in parallel.

    .. math::
        x' = \alpha \, \mathrm{LN}(x + \mathrm{filter}(x))
             + (1 - \alpha) \, \mathrm{LN}(x + A(x)), \quad y = \mathrm{LN}(x' + F(x'))

    with a feed-forward network :math:`F` of inner width 4 d and a GELU.

    Args:
        hidden_channels: Width ``d``.
        max_length: Length of a row (:class:`FrequencyFilter`).
        heads: Attention heads.
        c: Width of the low pass.
        alpha: Weight of the filter, in [0, 1]; attention has the weight ``1 - alpha``.
        kind: Kind of the filter.
        dropout: Dropout rate of attention weights and of each branch's output.

    Shapes:
        x [num_clicks, d] -> [num_clicks, d]; with ``query_index`` [n] -> [n, d]

    Raises:
        ValueError: If ``alpha`` is outside [0, 1], or for the reasons of the filter and the
            attention.
    """

    def __init__(
        self,
        hidden_channels: int,
        max_length: int,
        heads: int = 1,
        *,
        c: int = 5,
        alpha: float = 0.7,
        kind: FilterKind = "fourier",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_fractions(alpha=alpha)
        self.alpha = alpha
        self.filter = FrequencyFilter(hidden_channels, max_length, c, kind)
        self.attention = SelfAttention(
            hidden_channels, heads, causal=kind == "moving_average", dropout=dropout
        )
        self.norm_filter = LayerNorm(hidden_channels, eps=EPSILON)
        self.norm_attention = LayerNorm(hidden_channels, eps=EPSILON)
        self.norm_feed_forward = LayerNorm(hidden_channels, eps=EPSILON)
        self.lin_in = Linear(hidden_channels, 4 * hidden_channels)
        self.lin_out = Linear(4 * hidden_channels, hidden_channels)
        self.drop = Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for module in self.children():
            if isinstance(module, Linear):
                reset_linear(module)
            elif not isinstance(module, Dropout):
                module.reset_parameters()  # type: ignore[operator]

    def forward(
        self,
        x: Tensor,
        view: DenseView,
        seen: Tensor | None = None,
        query_index: Tensor | None = None,
    ) -> Tensor:
        """The states after this block.

        Args:
            x: [num_clicks, d].
            view: The rows within which clicks are filtered and attend.
            seen: Attention mask, bool [num_rows, 1, queries, width]; ``None``: causal if the filter
                is causal, else all clicks of the row.
            query_index: The clicks whose states are needed, in order, int64 [n]; ``None``: all.

        Returns:
            [num_clicks, d] or [n, d].
        """
        own = x if query_index is None else x[query_index]
        filtered = self.norm_filter(own + self.drop(self.filter(x, view, query_index)))
        attended = self.attention(own, x, view, None, query_index, seen)
        attended = self.norm_attention(own + self.drop(attended))
        mixed = self.alpha * filtered + (1 - self.alpha) * attended  # [n, d]
        inner = gelu(self.lin_in(mixed))  # [n, 4 d]
        y: Tensor = self.norm_feed_forward(mixed + self.drop(self.lin_out(inner)))
        return y

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.lin_in.in_features}, heads={self.attention.heads}, "
            f"alpha={self.alpha}, kind={self.filter.kind!r})"
        )


def fourier_low_pass(places: int, c: int, device: torch.device) -> Tensor:
    """The matrix that keeps the lowest ``c // 2 + 1`` frequencies, [places, places]."""
    if places == 0:  # for a batch without sessions: torch needs at least one place
        return torch.empty(0, 0, dtype=torch.float64, device=device)
    spectrum = np.fft.rfft(np.eye(places), axis=0)  # a constant, in an exported model too
    spectrum[c // 2 + 1 :] = 0
    return torch.tensor(np.fft.irfft(spectrum, n=places, axis=0), device=device)


def moving_average(places: int, c: int, device: torch.device) -> Tensor:
    """The matrix that takes the mean of the newest ``c`` places, or of all if there are fewer."""
    band = torch.ones(places, places, device=device).tril().triu(1 - c)
    return band / band.sum(1, keepdim=True)
