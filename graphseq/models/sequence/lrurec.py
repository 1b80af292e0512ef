"""LRURec: linear recurrences for sequential recommendation (Yue et al., WSDM 2024)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import LayerNorm, Linear, ModuleList
from torch.nn.functional import gelu
from torch_geometric.data import Batch

from graphseq.arguments import check_choice, check_heads, check_shares, check_sizes
from graphseq.models.base import SessionModel, Traits
from graphseq.models.live_clicks import LayeredState
from graphseq.models.registry import register
from graphseq.nn.attention import reset_linear
from graphseq.nn.dropout import Dropout
from graphseq.nn.item_table import ItemTable
from graphseq.nn.precision import in_32_bits
from graphseq.nn.ragged import DenseView
from graphseq.nn.recurrences import LinearAttention, LinearRecurrentUnit

Layer = Literal["lru", "linear_attention"]


class RecurrentBlock(torch.nn.Module):
    r"""A pre-norm block around a linear recurrence R and a feed-forward network F:

    .. math::
        x' = x + R(\mathrm{LN}(x)), \quad y = x' + F(\mathrm{LN}(x'))

    Args:
        hidden_channels: Width ``d``.
        layer: ``"lru"`` or ``"linear_attention"``.
        heads: Heads of linear attention.
        dropout: Dropout rate of each branch's output.
        expansion: Inner width of F, as a multiple of ``d``.

    Shapes:
        x [num_clicks, d], view -> [num_clicks, d]
    """

    def __init__(
        self, hidden_channels: int, layer: Layer, heads: int, dropout: float, expansion: int
    ) -> None:
        super().__init__()
        d = hidden_channels
        self.norm_recurrence, self.norm_feed_forward = LayerNorm(d), LayerNorm(d)
        self.recurrence: LinearRecurrentUnit | LinearAttention = (
            LinearRecurrentUnit(d) if layer == "lru" else LinearAttention(d, heads)
        )
        self.lin_in, self.lin_out = Linear(d, expansion * d), Linear(expansion * d, d)
        self.drop = Dropout(dropout)

    def reset_parameters(self) -> None:
        for norm in (self.norm_recurrence, self.norm_feed_forward):
            norm.reset_parameters()
        self.recurrence.reset_parameters()
        reset_linear(self.lin_in)
        reset_linear(self.lin_out)

    def forward(self, x: Tensor, view: DenseView) -> Tensor:
        return self._fed(x + self.drop(self.recurrence(self.norm_recurrence(x), view)))

    def step(self, state: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The output [n, d] and the state after one more click."""
        out, state = self.recurrence.step(state, self.norm_recurrence(x))
        return self._fed(x + self.drop(out)), state

    def _fed(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.drop(self.lin_out(gelu(self.lin_in(self.norm_feed_forward(x)))))
        return y


@register("lrurec")
class LRURec(LayeredState, SessionModel):
    r"""Scores of a stack of linear recurrences: :math:`\hat r_{t,j} = h_t^\top e_j`.

    .. math::
        h = \mathrm{LN}(B_N(\dots B_1(e_{i_t})))

    The whole session is read, at a cost linear in its length (times a logarithm, for the scan of
    the LRU). A live session continues from a state of fixed size, with the same vectors as the
    parallel form. The order of clicks comes from the recurrence: there are no positions. With
    ``layer="linear_attention"`` the recurrence is kernelized attention
    (:class:`~graphseq.nn.LinearAttention`), which has no decay and knows the order only through
    lower blocks.

    Different from the authors' code: pre-norm blocks instead of post-norm, and ragged sessions
    without padding. The scan covers :math:`2^k` clicks in each row instead of rows padded to a
    power of two.

    Args:
        num_items: Items of the catalog.
        hidden_channels: Width ``d`` of embeddings and states.
        num_layers: Number of blocks.
        layer: ``"lru"`` or ``"linear_attention"``.
        heads: Heads of linear attention.
        dropout: Dropout rate of embeddings and of each branch's output.
        expansion: Inner width of the feed-forward networks, as a multiple of ``d``.
        normalize: Whether states and embeddings have length one in scores.
        scale: Factor of normalized scores: the inverse temperature.

    Raises:
        ValueError: If a size or ``scale`` is not positive, ``heads`` does not divide the width,
            ``dropout`` is outside [0, 1), or ``layer`` is unknown.
    """

    traits = Traits(
        architecture="linear recurrences",
        parallel=True,
        reach="whole session, fading",
        side_features=False,
        best_for="long histories, and live streams with a state of fixed size",
    )
    samples = "sessions"
    causal = True
    keeps_state = True

    def __init__(
        self,
        num_items: int,
        hidden_channels: int = 64,
        num_layers: int = 2,
        *,
        layer: Layer = "lru",
        heads: int = 1,
        dropout: float = 0.2,
        expansion: int = 4,
        normalize: bool = False,
        scale: float = 20.0,
    ) -> None:
        super().__init__(num_items)
        check_sizes(hidden_channels=hidden_channels, num_layers=num_layers, expansion=expansion)
        check_shares(dropout=dropout)
        check_choice("layer", layer, ("lru", "linear_attention"))
        check_heads(hidden_channels, heads)
        self.items = ItemTable(num_items, hidden_channels, normalize=normalize, scale=scale)  # e
        self.blocks = ModuleList(
            RecurrentBlock(hidden_channels, layer, heads, dropout, expansion)
            for _ in range(num_layers)
        )
        self.norm = LayerNorm(hidden_channels)
        self.drop = Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        torch.nn.init.normal_(self.items.weight, std=0.02)
        self.norm.reset_parameters()
        for block in self._layers:
            block.reset_parameters()

    def forward(self, batch: Batch) -> Tensor:
        """The state after the last click of every session, [num_sessions, d]."""
        return self.click_states(batch)[batch.click_ptr[1:] - 1]

    def click_states(self, batch: Batch) -> Tensor:
        """The state after every click, [num_clicks, d]."""
        view = DenseView(batch.click_ptr)
        x = self.drop(self.items(batch.click_item))  # [num_clicks, d]
        for block in self._layers:
            x = block(x, view)
        return self.items.vectors(self.norm(x))

    def initial_state(self, num_sessions: int | None = None, *, user: Any = -1) -> Tensor:
        """The state before any click, zeros: [layers, width], or [layers, num_sessions, width].

        A layer's recurrence uses the front of a row, and its output the end. It has 32 bits where
        the weights have 16, whose roundings would add up from click to click.
        """
        size = () if num_sessions is None else (num_sessions,)
        width = self._layers[0].recurrence.state_size + self.items.channels
        return in_32_bits(self.items.weight.new_zeros(len(self.blocks), *size, width))

    def step(self, state: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors [num_sessions, d] and state [layers, num_sessions, width] one click later.

        An item of -1 is not a click.
        """
        x = self.drop(self.items(items.clamp(min=0)))
        layers = []
        for block, before in zip(self._layers, state, strict=True):
            x, after = block.step(before[:, : -self.items.channels], x)
            layers.append(torch.cat([after, x], dim=1))
        state = torch.where((items >= 0).unsqueeze(-1), torch.stack(layers), state)
        return self.vectors_of_state(state), state

    def vectors_of_state(self, state: Tensor) -> Tensor:
        """What is scored of a state: the last layer's output, [num_sessions, d]."""
        last = state[-1][:, -self.items.channels :].to(self.norm.weight.dtype)
        return self.items.vectors(self.norm(last))

    @property
    def _layers(self) -> list[RecurrentBlock]:
        return list(self.blocks)  # type: ignore[arg-type]
