"""Shared parts of both forms of BST: clicks with side features, and transformer blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Embedding, Linear, ModuleList
from torch_geometric.data import Batch

from graphseq.arguments import check_precise, check_shares, check_sizes
from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.features import Feature, Spec
from graphseq.data.sessions.sessions import Sessions
from graphseq.models.base import SessionModel
from graphseq.nn.attention import TransformerBlock
from graphseq.nn.dropout import Dropout
from graphseq.nn.features import FeatureEmbedding
from graphseq.nn.item_table import FeatureItemTable, ItemTable
from graphseq.nn.positions import LearnedPositions

EXPANSION = 4
"""Inner width of the feed-forward networks, as a multiple of the hidden width; the paper does not
specify it."""


class BehaviorModel(SessionModel):
    r"""Clicks as BST reads them (Chen et al., DLP-KDD 2019): item, side features, position.

    .. math::
        v_j = W_v [e_j ; f_j], \qquad x_i = W_x [v_{j(i)} ; g_i] + p_i

    with item embeddings :math:`e`, features of the item :math:`f` and of the click :math:`g`. The
    paper also concatenates the position's embedding; here that part of the projection is included
    in the learned table :math:`p`. Without item features :math:`v_j = e_j`. A family sets
    ``positions``, the table :math:`p`.

    Args:
        num_items, hidden_channels, num_layers, heads, max_length, dropout: As in the subclasses.
        positions, time_buckets, click_features, item_features, feature_channels, num_users: As in
            the subclasses.
        causal: Whether a click attends only to itself and earlier clicks.

    Raises:
        ValueError: If an argument is out of range, or a feature's spec is wrong.
    """

    max_length: int
    positions: LearnedPositions | Embedding

    def __init__(
        self,
        num_items: int,
        hidden_channels: int,
        num_layers: int,
        *,
        heads: int,
        max_length: int,
        dropout: float,
        positions: str,
        time_buckets: int,
        click_features: Sequence[Spec] | None,
        item_features: Sequence[Spec] | None,
        feature_channels: int,
        num_users: int | None,
        causal: bool,
    ) -> None:
        super().__init__(num_items)
        check_sizes(hidden_channels=hidden_channels, num_layers=num_layers, max_length=max_length)
        check_sizes(time_buckets=time_buckets, num_users=num_users)
        check_shares(dropout=dropout)
        self.max_length = max_length
        self.timed = self.reads_times = positions == "time"
        self.click_features = click_features
        self.num_users = num_users
        table: ItemTable = ItemTable(num_items, hidden_channels)  # e
        if item_features:
            table = FeatureItemTable(num_items, hidden_channels, item_features, feature_channels)
        self.items = table
        self.click_embedding = FeatureEmbedding(click_features or [], feature_channels)  # g
        width = hidden_channels + self.click_embedding.out_channels
        self.lin_click = Linear(width, hidden_channels)  # W_x
        self.user_embedding = None if num_users is None else Embedding(num_users, hidden_channels)
        self.blocks = ModuleList(
            TransformerBlock(
                hidden_channels,
                heads,
                kind="post_norm",
                causal=causal,
                activation="leaky_relu",
                dropout=dropout,
                expansion=EXPANSION,
            )
            for _ in range(num_layers)
        )
        self.drop = Dropout(dropout)

    def reset_parameters(self) -> None:
        for embedding in (self.items, self.positions, self.user_embedding):
            if embedding is not None:
                torch.nn.init.normal_(embedding.weight, std=0.02)
        features = [self.items.features] if isinstance(self.items, FeatureItemTable) else []
        for module in (*features, self.click_embedding, *self.blocks):
            module.reset_parameters()
        linears = [self.items.lin] if isinstance(self.items, FeatureItemTable) else []
        for linear in (*linears, self.lin_click):
            torch.nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
            torch.nn.init.zeros_(linear.bias)

    def attach(self, catalog: Catalog | None, sessions: Sessions | None = None) -> None:
        """Attaches the training data, and stores the features of the items.

        Raises:
            ValueError: If the catalog has another number of items, or lacks a feature of the model.
        """
        super().attach(catalog, sessions)
        if catalog is not None and isinstance(self.items, FeatureItemTable):
            self.items.fill(catalog.item_features, type(self).__name__)

    def clicks(self, batch: Batch) -> Tensor:
        """Clicks without their positions, :math:`W_x [v ; g]`: [num_clicks, d]."""
        # A node is an item, possibly with several clicks.
        v = self.items.rows(batch.x)[batch.click_index]  # [num_clicks, d]
        if self.click_embedding.features:
            v = torch.cat([v, self.click_embedding(self._values(batch, "click"))], dim=-1)
        x: Tensor = self.lin_click(v)
        return x

    def click_time(self, batch: Batch) -> Tensor | None:
        """The time of each click, [num_clicks], if positions are times.

        Raises:
            ValueError: If positions are times and the batch has no times, or has rounded ones.
        """
        if not self.timed:
            return None
        if "click_time" not in batch:
            raise ValueError(
                f"{type(self).__name__} was built with positions='time', but this batch has no "
                "click_time: give it sessions with times, or build it without times in positions."
            )
        time: Tensor = batch.click_time
        check_precise("click_time", time)
        return time

    def user_vectors(self, batch: Batch) -> Tensor | None:
        """The embedding of each session's user, [num_sessions, d], zero where unknown.

        Raises:
            ValueError: If the model has users and the batch does not.
        """
        if self.user_embedding is None:
            return None
        if "user" not in batch:
            raise ValueError(
                f"{type(self).__name__} was built with num_users={self.num_users}, but this batch "
                "has no user: give it sessions that name theirs, or build it without num_users."
            )
        known = (batch.user >= 0) & (batch.user < self.user_embedding.num_embeddings)
        vectors: Tensor = self.user_embedding(batch.user.where(known, 0))
        return vectors * known.unsqueeze(1)

    def _values(self, batch: Batch, owner: str) -> dict[str, Any]:
        """The values of the features of clicks (``owner`` "click") or requests ("context")."""
        embedding: FeatureEmbedding = getattr(self, f"{owner}_embedding")
        return {f.name: self._field(batch, owner, f) for f in embedding.features}

    def _field(self, batch: Batch, owner: str, feature: Feature) -> Tensor:
        name = f"{owner}_{feature.name}"
        if name not in batch:
            raise ValueError(
                f"{type(self).__name__} was built with the {owner} feature {feature.name!r}, but "
                f"this batch has no {name}: give it sessions with that feature."
            )
        values: Tensor = batch[name]
        return values

    def __repr__(self) -> str:
        specs = (*(self.click_features or ()), *(self.settings["item_features"] or ()))
        return (
            f"{type(self).__name__}({self.num_items}, {self.hidden_channels}, "
            f"num_layers={self.num_layers}, features={[spec['name'] for spec in specs]})"
        )
