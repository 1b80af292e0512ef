"""HSTU: hierarchical sequential transduction units (Zhai et al., ICML 2024)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import Embedding
from torch_geometric.data import Batch

from graphseq.arguments import check_shares
from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.sessions import Sessions
from graphseq.models.base import SessionModel, Traits
from graphseq.models.registry import register
from graphseq.nn.dropout import Dropout
from graphseq.nn.hstu import NUM_BUCKETS, HSTULayers, next_time
from graphseq.nn.item_table import ItemTable
from graphseq.nn.windows import Encode, newest_states, states_of_windows

TimeKind = Literal["clicks", "request", "none"]

UNKNOWN, WITHOUT, WITH = -1, 0, 1
"""What ``knows_time`` holds: not attached to training sessions, to some without or with times."""


@register("hstu")
class HSTU(SessionModel):
    r"""Scores of HSTU (Zhai et al., ICML 2024): cosines of states and items.

    .. math::
        x_t = \sqrt d \, e_{i_t} + p_t, \quad h = B_N(\dots B_1(x)), \quad
        \hat r_{t,j} = \sigma \, \frac{h_t^\top e_j}{\lVert h_t \rVert \lVert e_j \rVert}

    with layers :math:`B` of pointwise attention (:class:`~graphseq.nn.hstu.HSTULayer`) over the
    newest ``max_length`` clicks, whose logits depend on the distance of two clicks in positions and
    in seconds.

    ``time="clicks"`` takes the seconds from an earlier click to the click itself.
    ``time="request"`` takes those to the **next** click, as the authors' code does: for the last
    click that is ``request_time``, the time of the target. Predicting the next item when the time
    of its click is known is another task, whose figures stand in separate rows. ``fit`` and
    ``evaluate`` give that time; where a batch lacks it, as in ``recommend``, the request comes with
    the last click.

    A batch without ``click_time`` gets no bias of time; a model trained on times refuses it. One
    trained without times ignores those of a batch: its biases of time were never trained.

    Args:
        num_items: Items of the catalog.
        hidden_channels: Width ``d`` of embeddings and states.
        num_layers: Number of layers.
        heads: Attention heads of a layer.
        max_length: Maximum number of clicks that a state depends on, including its own.
        dropout: Dropout rate of embeddings and of each layer's gated values.
        time: ``"clicks"``, ``"request"`` or ``"none"``.
        normalize: Whether states and embeddings have length one in scores.
        scale: Factor :math:`\sigma` of normalized scores: the inverse temperature.

    Raises:
        ValueError: If a size or ``scale`` is not positive, ``heads`` does not divide the width,
            ``dropout`` is outside [0, 1), or ``time`` is unknown.
    """

    traits = Traits(
        architecture="causal pointwise attention, no softmax",
        parallel=True,
        reach="newest max_length clicks",
        side_features=False,
        best_for="long histories in which time between clicks tells something",
    )
    samples = "sessions"
    causal = True  # False where a click knows the time of the next one

    max_length: int
    knows_time: Tensor

    def __init__(
        self,
        num_items: int,
        hidden_channels: int = 64,
        num_layers: int = 2,
        *,
        heads: int = 1,
        max_length: int = 50,
        dropout: float = 0.2,
        time: TimeKind = "clicks",
        normalize: bool = True,
        scale: float = 20.0,
    ) -> None:
        super().__init__(num_items)
        check_shares(dropout=dropout)
        self.max_length = max_length
        self.time = time
        self.causal = time != "request"
        self.reads_times = time != "none"
        self.reads_request_time = time == "request"
        self.layers = HSTULayers(
            hidden_channels,
            max_length,
            num_layers,
            heads,
            num_buckets=0 if time == "none" else NUM_BUCKETS,
            dropout=dropout,
        )
        self.items = ItemTable(num_items, hidden_channels, normalize=normalize, scale=scale)  # e
        self.positions = Embedding(max_length, hidden_channels)  # p
        self.drop = Dropout(dropout)
        self.register_buffer("knows_time", torch.tensor(UNKNOWN, dtype=torch.int8))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        torch.nn.init.normal_(self.items.weight, std=0.02)
        torch.nn.init.normal_(self.positions.weight, std=self.items.channels**-0.5)
        self.layers.reset_parameters()

    def attach(self, catalog: Catalog | None, sessions: Sessions | None = None) -> None:
        """Records whether the training sessions have times."""
        super().attach(catalog, sessions)
        if sessions is not None and self.time != "none":
            self.knows_time.fill_(WITHOUT if sessions.time is None else WITH)

    def forward(self, batch: Batch) -> Tensor:
        """The state after the last click of every session, [num_sessions, d]."""
        return newest_states(self._encoder(batch), batch.click_ptr, self.max_length)

    def click_states(self, batch: Batch) -> Tensor:
        """The state after every click, [num_clicks, d]."""
        ptr = batch.click_ptr
        return states_of_windows(self._encoder(batch), ptr, self.max_length)

    def _encoder(self, batch: Batch) -> Encode:
        """The encoder of windows of a batch's clicks."""
        items, (times, later) = batch.click_item, self._times(batch)

        def encode(click: Tensor, ptr: Tensor, query_index: Tensor | None = None) -> Tensor:
            place = torch.arange(click.numel(), device=ptr.device)
            place = place - torch.repeat_interleave(ptr[:-1], ptr.diff())
            x = self.items.channels**0.5 * self.items(items[click])
            x = self.drop(x + self.positions(place))  # [num_clicks, d]
            time = None if times is None else times[click]
            asked = None if later is None else later[click[ptr[1:] - 1]]  # [num_windows]
            h: Tensor = self.layers(x, ptr, time, asked)  # [num_clicks, d]
            return self.items.vectors(h if query_index is None else h[query_index])

        return encode

    def _times(self, batch: Batch) -> tuple[Tensor | None, Tensor | None]:
        """The time of each click, and with ``time="request"`` also of the next click."""
        if self.time == "none" or self.knows_time == WITHOUT:
            return None, None
        if "click_time" not in batch:
            if self.knows_time == UNKNOWN:
                return None, None
            raise ValueError(
                f"{type(self).__name__} was trained with time={self.time!r}, but this batch has no "
                "click_time: give it sessions with times (of lists: recommend(times=)), or build "
                "it with time='none'."
            )
        if self.time == "clicks":
            return batch.click_time, None
        last = batch.click_time[batch.click_ptr[1:] - 1]  # [num_sessions]
        asked = batch.request_time if "request_time" in batch else last
        return batch.click_time, next_time(batch.click_ptr, batch.click_time, asked)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.num_items}, {self.hidden_channels}, "
            f"num_layers={self.num_layers}, time={self.time!r})"
        )
