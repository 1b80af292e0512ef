"""BST as a model of the next item: a causal encoder with features, scored over all items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data.sessions.features import Spec
from graphseq.deprecation import renamed
from graphseq.models.base import Traits
from graphseq.models.features.behavior import BehaviorModel
from graphseq.models.registry import register
from graphseq.nn.positions import LearnedPositions, TimeBuckets
from graphseq.nn.ragged import DenseView
from graphseq.nn.windows import Encode, newest_states, states_of_windows


@register("bst")
class BST(BehaviorModel):
    r"""Next-item form of BST (Chen et al., DLP-KDD 2019): :math:`\hat r_{i,j} = h_i^\top v_j`.

    .. math::
        v_j = W_v [e_j ; f_j], \quad x_i = W_x [v_{j(i)} ; g_i] + p_i + q_i, \quad
        h = B_N(\dots B_1(x))

    with post-norm blocks :math:`B` whose feed-forward network has a LeakyReLU, causal, over the
    newest ``max_length`` clicks; item embeddings :math:`e`, features of items :math:`f` and of
    clicks :math:`g`, the position of a click in the window :math:`p`, and with ``positions="time"``
    the bucket of the time since the click before :math:`q`. Features of a click are read with that
    click, never with the click to predict.

    The paper's model scores one candidate that is part of the sequence, by its distance in time
    from every click: :class:`~graphseq.models.BSTRanker`. In a full ranking the time of the target
    would leak, so times are gaps between clicks here. Input and scores share one item table,
    including features, without an MLP. A user's embedding is added to states.

    Args:
        num_items: Items of the catalog.
        hidden_channels: Width ``d`` of embeddings and states.
        num_layers: Number of blocks; one is best in the paper.
        heads: Attention heads of a block.
        max_length: Maximum number of clicks that a state depends on, including its own.
        dropout: Dropout rate of inputs, attention and each branch's output.
        positions: ``"start"``: positions in the window; ``"time"``: also times between clicks.
        time_buckets: Number of buckets of these times, two per doubling of the log's unit.
        click_features: Specs of the features of clicks, from
            :func:`~graphseq.data.sessions.features.feature_specs`; the batch's fields
            ``click_<name>``.
        item_features: Specs of the features of items, columns of the catalog's table.
        feature_channels: Width of the embedding of each feature.
        num_users: Number of users of the training log; ``None``: no user embeddings.

    Raises:
        ValueError: If a size is not positive, ``heads`` does not divide the width, ``dropout`` lies
            outside [0, 1), ``positions`` is unknown, or a feature's spec is wrong.
    """

    traits = Traits(
        architecture="causal self-attention over clicks with side features",
        parallel=True,
        reach="newest max_length clicks",
        side_features=True,
        best_for="clicks and items with rich features",
    )
    samples = "sessions"
    causal = True

    positions: LearnedPositions

    @renamed(values={"positions": {"order": "start"}})
    def __init__(
        self,
        num_items: int,
        hidden_channels: int = 64,
        num_layers: int = 1,
        *,
        heads: int = 8,
        max_length: int = 50,
        dropout: float = 0.2,
        positions: Literal["start", "time"] = "start",
        time_buckets: int = 64,
        click_features: Sequence[Spec] | None = None,
        item_features: Sequence[Spec] | None = None,
        feature_channels: int = 16,
        num_users: int | None = None,
    ) -> None:
        super().__init__(
            num_items,
            hidden_channels,
            num_layers,
            heads=heads,
            max_length=max_length,
            dropout=dropout,
            positions=positions,
            time_buckets=time_buckets,
            click_features=click_features,
            item_features=item_features,
            feature_channels=feature_channels,
            num_users=num_users,
            causal=True,
        )
        self.positions = LearnedPositions(max_length, hidden_channels)  # p
        self.gaps = TimeBuckets(time_buckets, hidden_channels) if self.timed else None  # q
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        if self.gaps is not None:
            torch.nn.init.normal_(self.gaps.weight, std=0.02)

    def forward(self, batch: Batch) -> Tensor:
        """The state after the last click of every session, [num_sessions, d]."""
        states = newest_states(self._encoder(batch), batch.click_ptr, self.max_length)
        users = self.user_vectors(batch)
        return states if users is None else states + users

    def click_states(self, batch: Batch) -> Tensor:
        """The state after every click, [num_clicks, d]."""
        states = states_of_windows(self._encoder(batch), batch.click_ptr, self.max_length)
        users = self.user_vectors(batch)
        return states if users is None else states + users[batch.click_batch]

    def _encoder(self, batch: Batch) -> Encode:
        """The encoder of windows of the clicks of a batch."""
        x, time = self.clicks(batch), self.click_time(batch)  # [num_clicks, d]

        def encode(click: Tensor, ptr: Tensor, query_index: Tensor | None = None) -> Tensor:
            view = DenseView(ptr)
            h, _ = self.positions(x[click], view)  # [n, d]
            if time is not None and self.gaps is not None:
                seconds = time[click].diff(prepend=time[click][:1])
                h = h + self.gaps(seconds, view.position > 0)  # a first click has no gap
            h = self.drop(h)
            *blocks, last = self.blocks
            for block in blocks:
                h = block(h, view)
            states: Tensor = last(h, view, None, query_index)
            return states

        return encode
