"""Reads weights of SASRec from the PyTorch version of the authors' code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from graphseq.nn.published import num_published_blocks

NAMES = {
    "item_embedding.weight": "items.weight",
    "position_embedding.weight": "positions.weight",
    "seq_norm.weight": "norm.weight",
    "seq_norm.bias": "norm.bias",
}
"""Parameters there -> here, outside its blocks."""

BLOCK_NAMES = {
    f"{theirs}.{kind}": f"{ours}.{kind}"
    for theirs, ours in {
        "first_norm": "norm_attention",
        "second_norm": "norm_feed_forward",
        "multihead_attention.query_proj": "attention.lin_query",
        "multihead_attention.key_proj": "attention.lin_key",
        "multihead_attention.val_proj": "attention.lin_value",
        "dense1": "lin_in",
        "dense2": "lin_out",
    }.items()
    for kind in ("weight", "bias")
    if ours != "attention.lin_key" or kind == "weight"
}
"""Parameters of a block there -> here; the softmax cancels its bias of the keys."""


def read_sasrec(
    parameters: Mapping[str, Any], heads: int = 1
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Arguments and weights of :class:`~graphseq.models.SASRec`.

    Args:
        parameters: Name there -> array. Items are the rows 1..V of its item table of V + 2 rows;
            row 0 is unused and the last one is padding.
        heads: Attention heads of a block, which the weights do not contain.

    Raises:
        ValueError: If a parameter is missing.
    """
    num_layers = max(1, num_published_blocks(parameters, "transformer_blocks"))
    names = dict(NAMES)
    for layer in range(num_layers):
        for theirs, ours in BLOCK_NAMES.items():
            names[f"transformer_blocks.{layer}.{theirs}"] = f"blocks.{layer}.{ours}"
    absent = sorted(set(names) - set(parameters))
    if absent:
        raise ValueError(f"The published weights of SASRec lack {', '.join(absent)}.")
    weights = {ours: torch.as_tensor(parameters[name]) for name, ours in names.items()}
    weights["items.weight"] = weights["items.weight"][1:-1]
    num_items, hidden_channels = weights["items.weight"].shape
    settings = {
        "num_items": num_items,
        "hidden_channels": hidden_channels,
        "num_layers": num_layers,
        "heads": heads,
        "max_length": weights["positions.weight"].size(0),
        "block": "published",
        "positions": "end",
        "expansion": weights["blocks.0.lin_in.weight"].size(0) // hidden_channels,
    }
    return settings, weights
