"""The item table: rows, bias, normalization and temperature of scores in one module."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import Embedding, Linear, ModuleList, Parameter
from torch.nn.functional import linear, normalize

from graphseq.arguments import check_choice, check_positive, check_shares, check_sizes
from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.features import Spec
from graphseq.nn.dropout import dropout
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
        check_sizes(num_items=num_items, channels=channels)
        check_positive(scale=scale)
        if math.isinf(scale):
            raise ValueError("scale must be finite, got inf.")
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
        self.features.fill(columns_of(self.features, table, owner))

    def rows(self, items: Tensor | None = None) -> Tensor:
        """Rows of items with their features, [num_items, d] or [..., d].

        Raises:
            ValueError: If the features of the items are not yet known.
        """
        check_filled(self.features)
        if items is None:
            e, f = self.weight, self.features()
        else:
            e, f = self(items), self.features(items.reshape(-1))
            f = f.view(*items.shape, f.size(-1))
        v: Tensor = self.lin(torch.cat([e, f], dim=-1))
        return v


def columns_of(features: ItemFeatures, table: pd.DataFrame | None, owner: str) -> pd.DataFrame:
    """The table of items, which has a column for each feature.

    Raises:
        ValueError: If it lacks one.
    """
    table = pd.DataFrame() if table is None else table
    for feature in features.embedding.features:
        if feature.name not in table:
            present = ", ".join(map(repr, table)) or "none"
            raise ValueError(
                f"{owner} was built with the item feature {feature.name!r}, but the catalog "
                f"has {present}: give the sessions item_features with that column."
            )
    return table


def check_filled(features: ItemFeatures) -> None:
    """Refuses features of items that are not known yet."""
    if not features.is_filled:
        name = features.embedding.features[0].name
        raise ValueError(
            f"The model was built with the item feature {name!r}, but has no values of it: call "
            "model.attach(train.catalog()), as fit does."
        )


class EncodedItemTable(ItemTable):
    r"""An item table whose rows are made of the id and the side features, in input and in scores:

    .. math::
        v_j = m_j e_j + \sum_k W_k f_{jk} \quad\text{or}\quad
        v_j = g_{j0} m_j e_j + \sum_k g_{jk} W_k f_{jk}

    with :math:`f_{jk}` the embedding of feature k. :math:`m_j` is 0 for an item without a training
    click, which is told by its features alone. In training it is also 0 for a share of the lookups,
    so that features learn to replace the id. This id dropout follows Volkovs et al. (NeurIPS 2017),
    who drop the vectors of users and items.

    With ``fusion="gate"``, shares :math:`g_j = \mathrm{softmax}(a_k^\top W_k f_{jk} + b_k)` weigh
    the parts; those of features that an item lacks are 0, and that of an id that :math:`m_j` drops.

    Args:
        num_items: Items of the catalog.
        channels: Width ``d`` of rows.
        features: Specs of the features, columns of the catalog's table; vectors that another model
            made of text, image or audio are features of the kind ``"vector"``.
        feature_channels: Width of the embedding of each feature.
        id_dropout: Share of lookups without the id in training, in [0, 1).
        fusion: ``"sum"`` or ``"gate"``.
        **options: ``bias``, ``normalize``, ``center`` and ``scale`` of :class:`ItemTable`.

    Raises:
        ValueError: If a spec is wrong, a size is not positive, or a share or ``fusion`` is.
    """

    clicked: Tensor

    def __init__(
        self,
        num_items: int,
        channels: int,
        features: Sequence[Spec],
        *,
        feature_channels: int = 16,
        id_dropout: float = 0.1,
        fusion: Literal["sum", "gate"] = "sum",
        **options: Any,
    ) -> None:
        super().__init__(num_items, channels, **options)
        check_shares(id_dropout=id_dropout)
        check_choice("fusion", fusion, ("sum", "gate"))
        self.features = ItemFeatures(features, feature_channels)  # f
        self.id_dropout = id_dropout
        self.fusion = fusion
        self.lins = ModuleList(
            Linear(feature_channels, channels, bias=False) for _ in self.features.embedding.features
        )  # W
        number = len(self.lins)
        if fusion == "gate":
            self.gate_weight = Parameter(torch.empty(number, channels))  # a
            self.gate_bias = Parameter(torch.empty(number + 1))  # b, the id's last
        self.register_buffer("clicked", torch.ones(num_items, dtype=torch.bool))
        self.reset_features()

    def reset_features(self) -> None:
        """First weights of all but the rows of ids, which the family sets."""
        self.features.reset_parameters()
        for part in self.features.embedding.parts:  # vectors start as small as the rows of ids
            torch.nn.init.normal_(part.weight, std=0.02)  # type: ignore[arg-type]
        for lin in self.lins:
            assert isinstance(lin, Linear)
            torch.nn.init.normal_(lin.weight, std=lin.in_features**-0.5)
        if self.fusion == "gate":
            torch.nn.init.zeros_(self.gate_weight)
            torch.nn.init.zeros_(self.gate_bias)

    def fill(self, catalog: Catalog, owner: str) -> None:
        """Takes the features of all items, and which of them have training clicks.

        Raises:
            ValueError: If the catalog lacks a feature.
        """
        self.features.fill(columns_of(self.features, catalog.item_features, owner))
        self.clicked = torch.from_numpy(np.asarray(catalog.counts) > 0).to(self.weight.device)

    def forward(self, items: Tensor) -> Tensor:
        """The encoded rows of items, [...] -> [..., d]."""
        flat = items.reshape(-1)
        return self._encoded(super().forward(flat), flat).view(*items.shape, self.channels)

    def rows(self, items: Tensor | None = None) -> Tensor:
        """Rows as scores compare them, [num_items, d] or [..., d]."""
        encoded = self._encoded(self.weight, None) if items is None else self(items)
        return self._of_unit_length(encoded)

    def _encoded(self, e: Tensor, items: Tensor | None) -> Tensor:
        """``v`` of ``items`` [n], or of all, from the rows ``e`` of their ids: [n, d]."""
        check_filled(self.features)
        clicked = self.clicked if items is None else self.clicked[items]
        m = clicked.to(e.dtype).unsqueeze(1)  # [n, 1]
        if self.training and self.id_dropout:
            m = dropout(m, self.id_dropout) * (1 - self.id_dropout)
        f = self.features(items).unflatten(1, (len(self.lins), -1))  # [n, K, c]
        several = [lin(part) for lin, part in zip(self.lins, f.unbind(1), strict=True)]  # [n, d]
        if self.fusion == "sum":
            v = m * e
            for part in several:
                v = v + part
            return v
        p = torch.stack(several, dim=1)  # [n, K, d]
        there = torch.cat([(f != 0).any(-1), m > 0], dim=1)
        logits = torch.cat(
            [
                (p * self.gate_weight).sum(-1) + self.gate_bias[:-1],
                self.gate_bias[-1:].expand(len(p), 1),
            ],
            dim=1,
        )  # [n, K + 1]
        lowest = torch.finfo(logits.dtype).min
        g = logits.masked_fill(~there, lowest).softmax(1) * there  # nothing at all: zeros
        return (g.unsqueeze(-1) * torch.cat([p, (m * e).unsqueeze(1)], dim=1)).sum(1)
