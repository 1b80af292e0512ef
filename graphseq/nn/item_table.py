"""The item table: rows, bias, normalization and temperature of scores in one module."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor
from torch.nn import Embedding, Linear, Parameter
from torch.nn.functional import linear, normalize

from graphseq.data.sessions.features import Spec
from graphseq.nn.features import ItemFeatures


class ItemTable(Embedding):
    r"""One row per item, compared with session vectors:
    :math:`r_j = v^\top w_j + b_j`.

    With ``normalize``, scores are cosines times an inverse temperature (NISER, Gupta et al., 2019),

    .. math::
        r_j = \sigma \, \frac{h^\top w_j}{\lVert h \rVert \lVert w_j \rVert} + b_j

    where :meth:`vectors` computes :math:`v = \sigma h / \lVert h \rVert` from a state :math:`h`.
    With ``center``, the mean of the channels is first subtracted from state and row.

    It is an ``Embedding`` of the unchanged rows: called with items, it returns the model's input.

    Args:
        num_items: Items of the catalog.
        channels: Width ``d`` of rows.
        bias: Whether each item has a bias.
        normalize: Whether scores use states and rows of length one.
        center: Whether scores use states and rows with the mean of their channels subtracted.
        scale: The inverse temperature :math:`\sigma` of normalized scores.

    Shapes:
        items [...] -> [..., d]

    Raises:
        ValueError: If a size or ``scale`` is not positive.
    """

    bias: Parameter | None

    def __init__(
        self,
        num_items: int,
        channels: int,
        *,
        bias: bool = False,
        normalize: bool = False,
        center: bool = False,
        scale: float = 20.0,
    ) -> None:
        for name, value in (("num_items", num_items), ("channels", channels)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        if not scale > 0:
            raise ValueError(f"scale must be positive, got {scale}.")
        super().__init__(num_items, channels)
        self.register_parameter("bias", Parameter(torch.zeros(num_items)) if bias else None)
        self.normalize = normalize
        self.center = center
        self.scale = scale

    @property
    def channels(self) -> int:
        """Width ``d`` of rows."""
        return self.embedding_dim

    def vectors(self, states: Tensor) -> Tensor:
        """The input of :meth:`scores`: unchanged states, or states of length ``scale``, [...,
        d]."""
        states = self._of_unit_length(states)
        return self.scale * states if self.normalize else states

    def rows(self, items: Tensor | None = None) -> Tensor:
        """Rows as used in scores: of all items [num_items, d], or of ``items`` [..., d].

        Rows of some items are looked up before they are normalized. Other rows are then not read,
        and the gradient of the table can be row-sparse.

        Args:
            items: Item codes, int64 of any shape [...]; ``None``: all.
        """
        return self._of_unit_length(self.weight if items is None else self(items))

    def scores(self, vectors: Tensor, items: Tensor | None = None) -> Tensor:
        """Scores of session vectors or click states.

        Args:
            vectors: As returned by :meth:`vectors`, [n, d].
            items: ``None``: all items; else candidates, [C] for all rows or [n, C].

        Returns:
            [n, num_items] or [n, C].
        """
        rows = self.rows(items)  # [num_items, d], [C, d] or [n, C, d]
        bias = self.bias if items is None or self.bias is None else self.bias[items]
        if rows.dim() == 2:
            return linear(vectors, rows, bias)
        scores = torch.einsum("nd,ncd->nc", vectors, rows)
        return scores if bias is None else scores + bias

    def _of_unit_length(self, vectors: Tensor) -> Tensor:
        if self.center:
            vectors = vectors - vectors.mean(-1, keepdim=True)
        return normalize(vectors, dim=-1) if self.normalize else vectors

    def __repr__(self) -> str:
        options = [name for name in ("normalize", "center") if getattr(self, name)]
        options += ["bias"] if self.bias is not None else []
        shown = "".join(f", {name}=True" for name in options)
        return f"{type(self).__name__}({self.num_embeddings}, {self.channels}{shown})"


class FeatureItemTable(ItemTable):
    r"""An item table whose rows include side features: :math:`v_j = W [e_j ; f_j] + c`.

    Args:
        num_items: Items of the catalog.
        channels: Width ``d`` of rows.
        features: Specs of the features, columns of the catalog's table.
        feature_channels: Width of the embedding of each feature.

    Raises:
        ValueError: If a spec is wrong or a size is not positive.
    """

    def __init__(
        self, num_items: int, channels: int, features: Sequence[Spec], feature_channels: int = 16
    ) -> None:
        super().__init__(num_items, channels)
        self.features = ItemFeatures(features, feature_channels)  # f
        self.lin = Linear(channels + self.features.out_channels, channels)  # W, c

    def fill(self, table: pd.DataFrame | None, owner: str) -> None:
        """Reads the features of all items.

        Args:
            table: One row per item in code order, or none.
            owner: Owner of the items, for error messages.

        Raises:
            ValueError: If the table lacks a feature.
        """
        table = pd.DataFrame() if table is None else table
        for feature in self.features.embedding.features:
            if feature.name not in table:
                present = ", ".join(map(repr, table)) or "none"
                raise ValueError(
                    f"{owner} was built with the item feature {feature.name!r}, but the catalog "
                    f"has {present}: give the sessions item_features with that column."
                )
        self.features.fill(table)

    def rows(self, items: Tensor | None = None) -> Tensor:
        """Rows of items with their features, [num_items, d] or [..., d].

        Raises:
            ValueError: If the features of the items are not yet known.
        """
        if not self.features.is_filled:
            name = self.features.embedding.features[0].name
            raise ValueError(
                f"The model was built with the item feature {name!r}, but knows no item's: call "
                "model.attach(train.catalog()), as fit does."
            )
        if items is None:
            e, f = self.weight, self.features()
        else:
            e, f = self(items), self.features(items.reshape(-1))
            f = f.view(*items.shape, f.size(-1))
        v: Tensor = self.lin(torch.cat([e, f], dim=-1))
        return v
