"""Reads weights of SASRec from the PyTorch version of the authors' code."""

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
    shape_of,
)

NAMES = {
    "item_embedding.weight": "items.weight",
    "position_embedding.weight": "positions.weight",
    "seq_norm.weight": "norm.weight",
    "seq_norm.bias": "norm.bias",
}
"""Parameters there -> here, outside its blocks."""

DROPPED = ("attention.lin_key", "bias")
"""The softmax cancels the bias of the keys."""

BLOCK_NAMES = {
    f"{theirs}.{kind}": "" if (ours, kind) == DROPPED else f"{ours}.{kind}"
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
}
"""Parameters of a block there -> here."""


def read_sasrec(parameters: Mapping[str, Tensor], heads: int = 1) -> tuple[dict[str, Any], Weights]:
    """Arguments and weights of :class:`~graphseq.models.SASRec`.

    Args:
        parameters: Name there -> tensor. Items are the rows 1..V of its item table of V + 2 rows;
            row 0 is unused and the last one is padding.
        heads: Attention heads of a block, which the weights do not contain.

    Raises:
        ValueError: If a parameter is missing or unknown, or the inner width is unsupported.
    """
    num_layers = max(1, num_published_blocks(parameters, "transformer_blocks"))
    names = NAMES | names_of_blocks(BLOCK_NAMES, "transformer_blocks", "blocks", num_layers)
    weights = renamed_state(parameters, names, "SASRec")
    weights["items.weight"] = weights["items.weight"][1:-1]
    inner, _ = shape_of(parameters, "transformer_blocks.0.dense1.weight", 2, "SASRec")
    num_items, hidden_channels = items_of(
        parameters, "item_embedding.weight", "SASRec", num_padding=2
    )
    if inner % hidden_channels:
        raise ValueError(
            f"These weights of SASRec have an inner width of {inner}, which is no multiple of the "
            f"width {hidden_channels}: the model here does not support that."
        )
    settings = {
        "num_items": num_items,
        "hidden_channels": hidden_channels,
        "num_layers": num_layers,
        "heads": heads,
        "max_length": weights["positions.weight"].size(0),
        "block": "published",
        "positions": "end",
        "expansion": inner // hidden_channels,
    }
    return settings, named(weights, names)
