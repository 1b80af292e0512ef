"""Embeddings of side features: of clicks from the batch, of items from buffers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn import Embedding, Linear, ModuleList
from torch.nn.functional import embedding_bag

from graphseq.arguments import check_sizes
from graphseq.data.sessions.features import Feature, Spec, encode_column
from graphseq.nn.ragged import ragged_range

Codes = Tensor | tuple[Tensor, Tensor]
"""Codes [n], a dense matrix [n, size], or ragged codes and their pointer [n + 1]."""


class FeatureEmbedding(torch.nn.Module):
    r"""Side features as one vector: the embeddings of all features, concatenated.

    A categorical feature becomes the embedding of its code, and a number the embedding of its
    bucket. A multi-hot feature becomes the mean embedding of its values, and a given vector a
    projection. A missing value (code -1, NaN, no value) and an unknown code become zero.

    Args:
        features: Specs, the arguments of :class:`~graphseq.data.Feature` as dicts.
        channels: Width ``c`` of each feature's embedding.

    Shapes:
        name -> values [n] or [n, size] or (codes, ptr [n + 1]) -> [n, c * number of features]

    Raises:
        ValueError: If a spec is wrong, two have one name, or ``channels`` is not positive.
    """

    def __init__(self, features: Sequence[Spec], channels: int = 16) -> None:
        super().__init__()
        check_sizes(feature_channels=channels)
        self.features = [Feature.from_spec(spec) for spec in features]
        names = [feature.name for feature in self.features]
        if len(set(names)) < len(names):
            raise ValueError(f"Features need distinct names, got {', '.join(names)}.")
        self.channels = channels
        self.out_channels = channels * len(names)
        self.parts = ModuleList(
            Linear(feature.num_codes, channels, bias=False)
            if feature.kind == "vector"
            else Embedding(feature.num_codes, channels)
            for feature in self.features
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for part in self.parts:
            if isinstance(part, Embedding):
                torch.nn.init.normal_(part.weight, std=0.02)
            elif isinstance(part, Linear):
                part.reset_parameters()

    def forward(self, values: Mapping[str, Codes]) -> Tensor:
        """The vectors of raw values by name; numeric features are given as numbers."""
        return self.embed([self._encode(f, values[f.name]) for f in self.features])

    def embed(self, codes: Sequence[Codes]) -> Tensor:
        """The vectors of codes, in the order of the features; a number is given by its bucket."""
        parts = zip(self.parts, self.features, codes, strict=True)
        return torch.cat([_embed(part, feature, code) for part, feature, code in parts], dim=-1)

    def _encode(self, feature: Feature, values: Codes) -> Codes:
        if feature.kind != "numeric" or not isinstance(values, Tensor):
            return values
        numbers = values if values.is_floating_point() else values.double()
        edges = torch.tensor(feature.boundaries, dtype=numbers.dtype, device=numbers.device)
        return torch.bucketize(numbers, edges, right=True).masked_fill(numbers.isnan(), -1)

    def __repr__(self) -> str:
        named = ", ".join(f"{feature.name}: {feature.kind}" for feature in self.features)
        return f"{type(self).__name__}({named})"


class ItemFeatures(torch.nn.Module):
    """Embeddings of the side features of items; the codes of all items are kept in buffers.

    The buffers are empty until :meth:`fill`. They are part of the state dict, so that a saved model
    needs no feature table.

    Args:
        features: Specs, as in :class:`FeatureEmbedding`.
        channels: Width ``c`` of each feature's embedding.

    Shapes:
        items [n] or ``None`` for all of them -> [n, c * number of features]

    Raises:
        ValueError: As :class:`FeatureEmbedding`.
    """

    def __init__(self, features: Sequence[Spec], channels: int = 16) -> None:
        super().__init__()
        self.embedding = FeatureEmbedding(features, channels)
        self.out_channels = self.embedding.out_channels
        for number, feature in enumerate(self.embedding.features):
            empty = torch.empty(0) if feature.kind == "vector" else torch.empty(0).int()
            self.register_buffer(f"codes_{number}", empty)
            if feature.kind == "multi_hot":
                self.register_buffer(f"ptr_{number}", torch.empty(0).long())

    def reset_parameters(self) -> None:
        self.embedding.reset_parameters()

    @property
    def is_filled(self) -> bool:
        """Whether the features of the items are known."""
        return all(
            getattr(self, f"{'ptr' if feature.kind == 'multi_hot' else 'codes'}_{number}").numel()
            for number, feature in enumerate(self.embedding.features)
        )

    def fill(self, table: pd.DataFrame) -> None:
        """Reads the features of all items from a table with one row per item, in code order.

        Raises:
            ValueError: If a column does not match its feature's spec.
        """
        for number, feature in enumerate(self.embedding.features):
            arrays = encode_column(feature, table[feature.name])
            for kind, array in zip(("codes", "ptr"), arrays, strict=False):
                name = f"{kind}_{number}"
                setattr(self, name, torch.from_numpy(array).to(getattr(self, name).device))

    def forward(self, items: Tensor | None = None) -> Tensor:
        codes: list[Codes] = []
        for number, feature in enumerate(self.embedding.features):
            values = getattr(self, f"codes_{number}")
            if feature.kind != "multi_hot":
                codes.append(values if items is None else values[items])
                continue
            ptr = getattr(self, f"ptr_{number}")
            if items is not None:
                place, ptr = ragged_range(ptr[items], ptr[items + 1])
                values = values[place]
            codes.append((values, ptr))
        return self.embedding.embed(codes)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        # The sizes of the buffers depend on the catalog that filled them.
        for name, buffer in self.named_buffers(recurse=False):
            saved = state_dict.get(prefix + name)
            if saved is not None and saved.shape != buffer.shape:
                setattr(self, name, torch.empty_like(saved, device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def __repr__(self) -> str:
        return f"{type(self).__name__}{repr(self.embedding).removeprefix('FeatureEmbedding')}"


def _embed(part: torch.nn.Module, feature: Feature, codes: Codes) -> Tensor:
    """The embedding of one feature, [n, channels]."""
    weight: Tensor = part.weight  # type: ignore[assignment]
    if isinstance(codes, tuple):
        values, ptr = codes
        return embedding_bag(values.long(), weight, ptr[:-1], mode="mean")  # nothing: zero
    if feature.kind == "vector":
        return torch.nn.functional.linear(codes.to(weight.dtype).nan_to_num(0.0), weight)
    if feature.kind == "multi_hot":  # a dense matrix
        several = codes.to(weight.dtype)
        return several @ weight / several.sum(-1, keepdim=True).clamp(min=1)
    known = (codes >= 0) & (codes < feature.num_codes)
    vectors = torch.nn.functional.embedding(codes.long().where(known, 0), weight)
    return vectors * known.unsqueeze(-1)
