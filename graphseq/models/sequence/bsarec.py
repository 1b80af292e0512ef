"""BSARec: attention combined with a frequency filter (Shin et al., AAAI 2024)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Embedding, LayerNorm, ModuleList, Parameter
from torch_geometric.data import Batch

from graphseq.arguments import check_sizes
from graphseq.models.base import Samples, SessionModel, Traits
from graphseq.models.published.bsarec import read_bsarec
from graphseq.models.published.loading import from_weights
from graphseq.models.registry import register
from graphseq.nn.dropout import Dropout
from graphseq.nn.frequency_filter import EPSILON, FilterKind, FrequencyBlock
from graphseq.nn.item_table import ItemTable
from graphseq.nn.ragged import DenseView, EqualRows, ragged_range
from graphseq.nn.windows import Encode, last_states, states_of_windows


@register("bsarec")
class BSARec(SessionModel):
    r"""Scores of BSARec (Shin et al., AAAI 2024): :math:`\hat r_j = h_n^\top e_j`.

    .. math::
        x_t = \mathrm{LN}(e_{i_t} + p_t), \quad h = B_N(\dots B_1(x))

    with blocks :math:`B` that combine a frequency filter and attention
    (:class:`~graphseq.nn.frequency_filter.FrequencyBlock`) over the newest ``max_length`` clicks.

    With ``filter="fourier"``, the paper's, each place of the window acts on all others. The window
    is padded on the left with the parameter ``padding``, as the authors' code pads it with item 0;
    positions count from its end. A click's state then changes with every later click, so each
    prefix is a separate sample.

    With ``filter="moving_average"`` the low pass is the mean of the newest ``c`` clicks. The model
    is causal, positions count from the session's start, and all clicks of a session are trained in
    one pass.

    Different from the authors' code: padding is not a class of the softmax.

    Args:
        num_items: Items of the catalog.
        hidden_channels: Width ``d`` of embeddings and states.
        num_layers: Number of blocks.
        heads: Attention heads of a block.
        c: Width of the low pass: ``c // 2 + 1`` frequencies, or ``c`` clicks.
        alpha: Weight of the filter, in [0, 1]; attention has the weight ``1 - alpha``.
        filter: ``"fourier"`` or ``"moving_average"``.
        max_length: Maximum number of clicks that a state depends on, including its own.
        dropout: Dropout rate of embeddings, attention and each branch's output.
        normalize: Whether states and embeddings have length one in scores
            (:class:`~graphseq.nn.item_table.ItemTable`).
        scale: Factor of normalized scores: the inverse temperature.

    Raises:
        ValueError: If a size or ``scale`` is not positive, ``heads`` does not divide the width,
            ``alpha`` or ``dropout`` is out of range, or ``filter`` is unknown.
    """

    traits = Traits(
        architecture="self-attention beside a filter of frequencies",
        parallel=True,
        reach="newest max_length clicks",
        side_features=False,
        best_for="histories of users, where quality counts more than training time",
    )
    samples: Samples = "prefixes"  # "sessions" with a moving average
    causal = False  # True with a moving average

    max_length: int

    def __init__(
        self,
        num_items: int,
        hidden_channels: int = 64,
        num_layers: int = 2,
        *,
        heads: int = 1,
        c: int = 5,
        alpha: float = 0.7,
        filter: FilterKind = "fourier",
        max_length: int = 50,
        dropout: float = 0.5,
        normalize: bool = False,
        scale: float = 20.0,
    ) -> None:
        super().__init__(num_items)
        check_sizes(num_layers=num_layers, max_length=max_length)
        self.filter = filter
        self.max_length = max_length
        self.blocks = ModuleList(
            FrequencyBlock(
                hidden_channels, max_length, heads, c=c, alpha=alpha, kind=filter, dropout=dropout
            )
            for _ in range(num_layers)
        )
        self.items = ItemTable(num_items, hidden_channels, normalize=normalize, scale=scale)  # e
        self.positions = Embedding(max_length, hidden_channels)  # p
        self.padding = Parameter(torch.empty(hidden_channels)) if filter == "fourier" else None
        self.norm = LayerNorm(hidden_channels, eps=EPSILON)
        self.drop = Dropout(dropout)
        if filter == "moving_average":
            self.samples = "sessions"
            self.causal = True
        self.reset_parameters()

    def reset_parameters(self) -> None:
        torch.nn.init.normal_(self.items.weight, std=0.02)
        torch.nn.init.normal_(self.positions.weight, std=0.02)
        if self.padding is not None:
            torch.nn.init.normal_(self.padding, std=0.02)
        self.norm.reset_parameters()
        for block in self.blocks:
            block.reset_parameters()  # type: ignore[operator]

    from_published = from_weights(read_bsarec, "BSARec")

    def forward(self, batch: Batch) -> Tensor:
        """The state after the last click of every session, [num_sessions, d]."""
        items, ptr = batch.click_item, batch.click_ptr
        start = torch.maximum(ptr[:-1], ptr[1:] - self.max_length)
        if self.filter == "moving_average":
            return last_states(self._encoder(items), start, ptr[1:])
        click, ptr = ragged_range(start, ptr[1:])
        return self._encode_filled(items[click], ptr)

    def click_states(self, batch: Batch) -> Tensor:
        """The state after every click, [num_clicks, d].

        Raises:
            NotImplementedError: If the filter is not causal.
        """
        if self.filter == "fourier":
            return super().click_states(batch)
        items, ptr = batch.click_item, batch.click_ptr
        return states_of_windows(self._encoder(items), ptr, self.max_length)

    def _encoder(self, items: Tensor) -> Encode:
        """The causal encoder of windows of these clicks."""
        return lambda click, ptr, query_index=None: self._encode(items[click], ptr, query_index)

    def _encode(self, items: Tensor, ptr: Tensor, query_index: Tensor | None = None) -> Tensor:
        """Causal states of clicks of windows of at most ``max_length``: [num_clicks, d], or [n, d]
        for the clicks ``query_index`` [n]."""
        view = DenseView(ptr)
        x = self.items(items) + self.positions(view.position)
        x = self.drop(self.norm(x))  # [num_clicks, d]
        *blocks, last = self.blocks
        for block in blocks:
            x = block(x, view)
        return self.items.vectors(last(x, view, None, query_index))

    def _encode_filled(self, items: Tensor, ptr: Tensor) -> Tensor:
        """The states after the last clicks of windows, padded on the left: [num_windows, d]."""
        clicks, length = DenseView(ptr), self.max_length
        assert self.padding is not None
        missing = length - ptr.diff()  # padded positions: [num_windows]
        place = clicks.batch * length + missing[clicks.batch] + clicks.position  # [num_clicks]
        x = self.padding.expand(clicks.num_rows * length, -1)
        x = x.index_copy(0, place, self.items(items))  # [num_windows * length, d]
        view = EqualRows(clicks.num_rows, length, ptr.device)
        x = self.drop(self.norm(x + self.positions(view.position)))
        number = torch.arange(length, device=ptr.device)
        holds_click = number >= missing.unsqueeze(1)  # [num_windows, length]
        earlier = number <= number.unsqueeze(1)  # [length, length]
        # In the authors' code a padded position attends to all: its softmax covers only masked
        # positions, and all have the same mask value.
        seen = (earlier & holds_click.unsqueeze(1)) | ~holds_click.unsqueeze(2)
        seen = seen.unsqueeze(1)  # [num_windows, 1, length, length]
        *blocks, last = self.blocks
        for block in blocks:
            x = block(x, view, seen)
        x = last(x, view, seen[:, :, -1:], place[ptr[1:] - 1])  # [num_windows, d]
        return self.items.vectors(x)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.num_items}, {self.hidden_channels}, "
            f"num_layers={self.num_layers}, filter={self.filter!r})"
        )
