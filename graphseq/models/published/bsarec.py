"""Weights of BSARec as the authors' code names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from graphseq.nn.published import (
    Weights,
    items_of,
    named,
    names_of_blocks,
    num_published_blocks,
    renamed_state,
)

NAMES = {
    "item_embeddings.weight": "items.weight",
    "position_embeddings.weight": "positions.weight",
    "LayerNorm.weight": "norm.weight",
    "LayerNorm.bias": "norm.bias",
}
"""Parameters in the authors' code -> here, outside its blocks."""

BLOCK_NAMES = {
    "layer.filter_layer.sqrt_beta": "filter.beta",
    "layer.filter_layer.LayerNorm.weight": "norm_filter.weight",
    "layer.filter_layer.LayerNorm.bias": "norm_filter.bias",
    "layer.attention_layer.query.weight": "attention.lin_query.weight",
    "layer.attention_layer.query.bias": "attention.lin_query.bias",
    "layer.attention_layer.key.weight": "attention.lin_key.weight",
    "layer.attention_layer.key.bias": "",  # the softmax cancels it
    "layer.attention_layer.value.weight": "attention.lin_value.weight",
    "layer.attention_layer.value.bias": "attention.lin_value.bias",
    "layer.attention_layer.dense.weight": "attention.lin_out.weight",
    "layer.attention_layer.dense.bias": "attention.lin_out.bias",
    "layer.attention_layer.LayerNorm.weight": "norm_attention.weight",
    "layer.attention_layer.LayerNorm.bias": "norm_attention.bias",
    "feed_forward.dense_1.weight": "lin_in.weight",
    "feed_forward.dense_1.bias": "lin_in.bias",
    "feed_forward.dense_2.weight": "lin_out.weight",
    "feed_forward.dense_2.bias": "lin_out.bias",
    "feed_forward.LayerNorm.weight": "norm_feed_forward.weight",
    "feed_forward.LayerNorm.bias": "norm_feed_forward.bias",
}
"""Parameters of a block there -> here."""


def read_bsarec(
    parameters: Mapping[str, Tensor], heads: int = 1, c: int = 5, alpha: float = 0.7
) -> tuple[dict[str, Any], Weights]:
    """Arguments and weights of :class:`~graphseq.models.BSARec`.

    Args:
        parameters: Name there -> tensor. Row 0 of its item table is the padding.
        heads, c, alpha: The settings there, which its weights do not contain.

    Raises:
        ValueError: If a parameter is missing or unknown.
    """
    num_layers = max(1, num_published_blocks(parameters, "item_encoder.blocks"))
    blocks = names_of_blocks(BLOCK_NAMES, "item_encoder.blocks", "blocks", num_layers)
    weights = renamed_state(parameters, NAMES | blocks, "BSARec")
    num_items, hidden_channels = items_of(parameters, "item_embeddings.weight", "BSARec")
    table = weights["items.weight"]
    weights["padding"], weights["items.weight"] = table[0], table[1:]
    for layer in range(num_layers):
        beta = f"blocks.{layer}.filter.beta"
        weights[beta] = weights[beta].flatten()
    settings = {
        "num_items": num_items,
        "hidden_channels": hidden_channels,
        "num_layers": num_layers,
        "heads": heads,
        "c": c,
        "alpha": alpha,
        "max_length": len(weights["positions.weight"]),
    }
    return settings, named(weights, NAMES | blocks)
