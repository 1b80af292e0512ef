"""Reads weights of Caser from the authors' PyTorch code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from graphseq.nn.published import Weights, check_names, named, shape_of

NAMES = {
    "item_embeddings.weight": "input_embedding.weight",
    "fc1.weight": "lin.weight",
    "fc1.bias": "lin.bias",
    "W2.weight": "items.weight",
    "b2.weight": "items.bias",
}
"""Parameters in the authors' code -> here, of every model."""


def read_caser(
    parameters: Mapping[str, Tensor],
) -> tuple[dict[str, Any], Weights]:
    """Arguments of :class:`~graphseq.models.Caser`, and its weights with the authors' names.

    Args:
        parameters: Name there -> tensor: ``item_embeddings.weight``, ``conv_v.*`` and
            ``conv_h.<i>.*`` as far as it has such filters, ``fc1.*``, ``W2.weight``,
            ``b2.weight`` and, with users, ``user_embeddings.weight``.

    Raises:
        ValueError: If a parameter is missing or unknown.
    """
    num_heights = sum(f"conv_h.{i}.weight" in parameters for i in range(len(parameters)))
    names = dict(NAMES)
    if "user_embeddings.weight" in parameters:
        names["user_embeddings.weight"] = "user_embedding.weight"
    if "conv_v.weight" in parameters or not num_heights:
        names |= {"conv_v.weight": "vertical.weight", "conv_v.bias": "vertical.bias"}
    filters = [f"conv_h.{i}.{kind}" for i in range(num_heights) for kind in ("weight", "bias")]
    check_names(parameters, dict.fromkeys(sorted({*names, *filters}), "used"), "Caser")
    state = {ours: parameters[name] for name, ours in names.items()}
    state["items.bias"] = state["items.bias"].view(-1)
    if "vertical.weight" in state:  # [n_v, 1, L, 1]
        shape_of(parameters, "conv_v.weight", 4, "Caser")
        state["vertical.weight"] = state["vertical.weight"].flatten(1)
    heights = []
    for i in range(num_heights):  # [n_h, 1, h, d]
        for kind, dims in (("weight", 4), ("bias", 1)):
            shape_of(parameters, f"conv_h.{i}.{kind}", dims, "Caser")
        weight = parameters[f"conv_h.{i}.weight"].squeeze(1)
        state[f"horizontal.weights.{i}"] = weight
        heights.append(weight.size(1))
    if heights:
        biases = [parameters[f"conv_h.{i}.bias"] for i in range(num_heights)]
        state["horizontal.bias"] = torch.cat(biases)
    vertical, users = state.get("vertical.weight"), state.get("user_embedding.weight")
    max_length = max(heights) if vertical is None else vertical.size(1)
    num_items, hidden_channels = shape_of(parameters, "item_embeddings.weight", 2, "Caser")
    settings = {
        "num_items": num_items,
        "hidden_channels": hidden_channels,
        "max_length": max_length,
        "num_horizontal": state["horizontal.weights.0"].size(0) if heights else 0,
        "num_vertical": 0 if vertical is None else vertical.size(0),
        "heights": heights if heights and heights != [*range(1, max_length + 1)] else None,
        "num_users": None if users is None else users.size(0),
    }
    return settings, named(state, names)
