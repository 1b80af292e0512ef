"""The vectors that an index searches: one per item, so that inner products are a model's scores."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import xxhash
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from graphseq.data.storage.checksums import bytes_of
from graphseq.evaluation.inputs import require_model
from graphseq.models.base import SessionModel
from graphseq.models.use.inference import inference

Floats = NDArray[np.float32]
Codes = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ItemVectors:
    """Item vectors of one version of a model.

    Args:
        rows: float32 [num_items, width]; the last column is the item's bias, if ``has_bias``.
        items: Code of the item in each row, distinct, int64 [num_items].
        has_bias: Whether the last column is a bias, which queries meet with a 1.
        model_version: What :func:`model_version` says of the model.

    Raises:
        ValueError: If there is no row, shapes differ, or a value is NaN or infinite.
    """

    rows: Floats
    items: Codes
    has_bias: bool = False
    model_version: str = "unknown"

    def __post_init__(self) -> None:
        if self.rows.ndim != 2 or 0 in self.rows.shape or self.items.shape != self.rows.shape[:1]:
            raise ValueError(
                "Item vectors are [num_items, width] with one code per row, got shapes "
                f"{list(self.rows.shape)} and {list(self.items.shape)}."
            )
        check_finite(self.rows, "item vectors")

    @classmethod
    def of(cls, model: SessionModel) -> ItemVectors:
        """The vectors of all items of a model.

        A temperature or scale of the family is part of its session vectors or of its table, so
        that inner products are its scores as they stand.

        Args:
            model: A model whose scores are inner products with one item table.

        Raises:
            ValueError: If the family scores in another way, or a value is NaN or infinite.
        """
        require_table(model)
        with inference(model):
            table = model.items.rows().float()
            bias = model.items.bias
            if bias is not None:
                table = torch.cat([table, bias.float().unsqueeze(1)], dim=1)
            rows = table.cpu().contiguous().numpy()
        return cls(rows, np.arange(len(rows)), bias is not None, model_version(model))


def require_table(model: SessionModel) -> None:
    """Refuses a family whose scores are no inner products with one item table.

    Raises:
        ValueError: If it is one, or no model at all.
    """
    require_model(model)
    if not model.scores_by_table:
        raise ValueError(
            f"{type(model).__name__} does not score by inner products with one item table, so no "
            "index can search it: Recommender(model) without index= scores all items exactly."
        )


def query_vectors(vectors: Tensor, has_bias: bool) -> Floats:
    """Session vectors as an index takes them: with a 1 that meets the bias, if there is one.

    Args:
        vectors: [n, hidden_channels].
        has_bias: Of the index.

    Returns:
        float32 [n, width].
    """
    rows = vectors.detach().float()
    if has_bias:
        rows = torch.nn.functional.pad(rows, (0, 1), value=1.0)
    return rows.cpu().contiguous().numpy()


def float_rows(values: ArrayLike, what: str) -> Floats:
    """Vectors as float32 [n, width], checked to be numbers.

    Raises:
        ValueError: If they are not of two dimensions, or a value is NaN or infinite.
    """
    rows = np.ascontiguousarray(values, dtype=np.float32)
    if rows.ndim != 2:
        raise ValueError(f"{what} must be [n, width], got shape {list(rows.shape)}.")
    check_finite(rows, what)
    return rows


def check_finite(rows: Floats, what: str) -> None:
    """Refuses NaN and infinities; the first row that has one is named."""
    if np.isfinite(rows.sum(dtype=np.float64)):  # far cheaper than to look at each
        return
    bad = np.flatnonzero(~np.isfinite(rows).all(1))
    if len(bad):
        raise ValueError(
            f"Row {bad[0]} of the {what} holds NaN or infinity ({len(bad)} such rows in all): were "
            "the weights trained with too high a learning rate?"
        )


def model_version(model: SessionModel) -> str:
    """A name of a model's family, settings, weights and item ids: 16 hex digits.

    It is the same on every machine, and another after any change of a weight.
    """
    digest = xxhash.xxh3_64()
    named = [type(model).__name__, model.settings]
    digest.update(json.dumps(named, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        values = tensor.detach().cpu().contiguous().view(-1)
        digest.update(bytes_of(values.view(torch.uint8).numpy()) if values.numel() else b"")
    if model.catalog is not None:
        ids = pd.Series(model.catalog.items.ids.array)
        digest.update(bytes_of(pd.util.hash_pandas_object(ids, index=False).to_numpy()))
    return digest.hexdigest()
