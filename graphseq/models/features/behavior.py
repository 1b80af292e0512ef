"""What the two forms of BST share: clicks as items with side features, and transformer blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor
from torch.nn import Embedding, Linear, ModuleList
from torch_geometric.data import Batch

from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.features import Feature, Spec
from graphseq.models.base import SessionModel
from graphseq.nn.attention import TransformerBlock
from graphseq.nn.dropout import Dropout
from graphseq.nn.features import FeatureEmbedding, ItemFeatures

Positions = Literal["order", "time"]

EXPANSION = 4
"""Inner width of the feed-forward networks, in units of the hidden width; the paper has no word."""


class BehaviorModel(SessionModel):
    r"""Clicks as BST reads them (Chen et al., DLP-KDD 2019): item, side features, position.

    .. math::
        v_j = W_v [e_j ; f_j], \qquad x_i = W_x [v_{j(i)} ; g_i] + p_i

    with item embeddings :math:`e`, features of the item :math:`f` and of the click :math:`g`. The
    paper concatenates the position's embedding too; here that part of the projection is one with
    the learned table :math:`p`. Without item features :math:`v_j = e_j`.

    Args:
        num_items, hidden_channels, num_layers, heads, max_length, dropout: As in the families.
        positions, time_buckets, click_features, item_features, feature_channels, num_users: As in
            the families.
        num_positions: Rows of the table :math:`p`.
        causal: Whether a click sees no later one.

    Raises:
        ValueError: If an argument is out of range, or a feature's spec is wrong.
    """

    max_length: int

    def __init__(
        self,
        num_items: int,
        hidden_channels: int,
        num_layers: int,
        *,
        heads: int,
        max_length: int,
        dropout: float,
        positions: Positions,
        time_buckets: int,
        click_features: Sequence[Spec] | None,
        item_features: Sequence[Spec] | None,
        feature_channels: int,
        num_users: int | None,
        num_positions: int,
        causal: bool,
    ) -> None:
        super().__init__(num_items)
        sizes = {
            "hidden_channels": hidden_channels,
            "num_layers": num_layers,
            "max_length": max_length,
            "time_buckets": time_buckets,
            "num_users": 1 if num_users is None else num_users,
        }
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}.")
        if positions not in ("order", "time"):
            raise ValueError(f"positions is 'order' or 'time', got {positions!r}.")
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.heads = heads
        self.max_length = max_length
        self.dropout = dropout
        self.positions = positions
        self.time_buckets = time_buckets
        self.click_features = click_features
        self.item_features = item_features
        self.feature_channels = feature_channels
        self.num_users = num_users
        self.item_embedding = Embedding(num_items, hidden_channels)  # e
        self.position_embedding = Embedding(num_positions, hidden_channels)  # p
        self.item_table = ItemFeatures(item_features, feature_channels) if item_features else None
        self.click_embedding = FeatureEmbedding(click_features or [], feature_channels)  # g
        self.lin_item = None
        if self.item_table is not None:
            width = hidden_channels + self.item_table.out_channels
            self.lin_item = Linear(width, hidden_channels)  # W_v
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
        for embedding in (self.item_embedding, self.position_embedding, self.user_embedding):
            if embedding is not None:
                torch.nn.init.normal_(embedding.weight, std=0.02)
        for module in (self.item_table, self.click_embedding, *self.blocks):
            if module is not None:
                module.reset_parameters()
        for linear in (self.lin_item, self.lin_click):
            if linear is not None:
                torch.nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
                torch.nn.init.zeros_(linear.bias)

    def attach(self, catalog: Catalog) -> None:
        """Makes the model know its training data, and holds the features of its items.

        Raises:
            ValueError: If the catalog is of another number of items, or lacks a feature that the
                model was built with.
        """
        super().attach(catalog)
        if self.item_table is None:
            return
        table = pd.DataFrame() if catalog.item_features is None else catalog.item_features
        for feature in self.item_table.embedding.features:
            if feature.name not in table:
                present = ", ".join(map(repr, table)) or "none"
                raise ValueError(
                    f"{type(self).__name__} was built with the item feature {feature.name!r}, but "
                    f"the catalog has {present}: give the sessions item_features with that column."
                )
        self.item_table.fill(table)

    def item_vectors(self, items: Tensor | None = None) -> Tensor:
        """Items with their features, :math:`v`: [num_items, d], or [..., d] of ``items`` [...].

        Raises:
            ValueError: If the model does not know its items' features yet.
        """
        e = self.item_embedding.weight if items is None else self.item_embedding(items)
        if self.item_table is None or self.lin_item is None:
            return e
        if not self.item_table.is_filled:
            name = self.item_table.embedding.features[0].name
            raise ValueError(
                f"{type(self).__name__} was built with the item feature {name!r}, but knows no "
                "item's: call model.attach(train.catalog()), as fit does."
            )
        if items is None:
            f = self.item_table()
        else:
            f = self.item_table(items.reshape(-1))
            f = f.view(*items.shape, f.size(-1))
        v: Tensor = self.lin_item(torch.cat([e, f], dim=-1))
        return v

    def clicks(self, batch: Batch) -> Tensor:
        """Clicks without their positions, :math:`W_x [v ; g]`: [num_clicks, d]."""
        # A node is an item that a session may have clicked several times.
        v = self.item_vectors(batch.x)[batch.click_index]  # [num_clicks, d]
        if self.click_embedding.features:
            v = torch.cat([v, self.click_embedding(self._values(batch, "click"))], dim=-1)
        x: Tensor = self.lin_click(v)
        return x

    def click_time(self, batch: Batch) -> Tensor | None:
        """When each click was made, [num_clicks], where positions are times.

        Raises:
            ValueError: If they are and the batch does not tell.
        """
        if self.positions == "order":
            return None
        if "click_time" not in batch:
            raise ValueError(
                f"{type(self).__name__} was built with positions='time', but this batch has no "
                "click_time: give it sessions with times, or build it with positions='order'."
            )
        time: Tensor = batch.click_time
        return time

    def user_vectors(self, batch: Batch) -> Tensor | None:
        """The embedding of each session's user, [num_sessions, d], zero where unknown.

        Raises:
            ValueError: If the model was built with users and the batch does not tell them.
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
        specs = (*(self.click_features or ()), *(self.item_features or ()))
        return (
            f"{type(self).__name__}({self.num_items}, {self.hidden_channels}, "
            f"num_layers={self.num_layers}, features={[spec['name'] for spec in specs]})"
        )


def time_bucket(seconds: Tensor, num_buckets: int) -> Tensor:
    r"""The bucket of a time span, two to a doubling: :math:`\lfloor 2 \log_2(1 + t) \rfloor`.

    Args:
        seconds: Spans in the log's unit; negative ones count as none.
        num_buckets: The last bucket holds all longer spans.

    Returns:
        int64 of the same shape.
    """
    return (2 * (seconds.clamp(min=0) + 1).log2()).long().clamp(max=num_buckets - 1)
