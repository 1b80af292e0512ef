"""Reads weights of GRU4Rec from the authors' PyTorch code."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor

from graphseq.nn.packed_gru import KINDS
from graphseq.nn.published import Weights, check_names, shape_of


def read_gru4rec(
    parameters: Mapping[str, Tensor],
) -> tuple[dict[str, Any], Weights]:
    """Arguments of :class:`~graphseq.models.GRU4Rec`, and its weights with the authors' names.

    Args:
        parameters: Name there -> tensor: ``G.<layer>.*``, ``Wy.weight``, ``By.weight`` and, for a
            separate embedding, ``E.weight``, or for the one-hot input ``GE.*``. The one-hot input
            becomes a separate embedding three times as wide as the first layer, with the identity
            as its projection.

    Raises:
        ValueError: If a parameter is missing or unknown.
    """
    given = dict(parameters)
    one_hot = any(name.startswith("GE.") for name in given)
    cells = len({name for name in given if name.endswith(".weight_hh")})
    cells = cells if one_hot else max(1, cells)
    names = {"Wy.weight", "By.weight"}
    names |= {f"G.{layer}.{kind}" for layer in range(cells) for kind in KINDS}
    if one_hot:
        names |= {"GE.Wx0.weight", "GE.Wh0", "GE.Bh0"}
    elif "E.weight" in given:
        names.add("E.weight")
    check_names(given, dict.fromkeys(sorted(names), "used"), "GRU4Rec")

    # The source of each parameter here: its name there, and its value.
    table = ("E.weight", given["E.weight"]) if "E.weight" in given else None
    layers = [
        {kind: (f"G.{layer}.{kind}", given[f"G.{layer}.{kind}"]) for kind in KINDS}
        for layer in range(cells)
    ]
    if one_hot:
        table, first = _one_hot_layer(given)
        layers.insert(0, first)
    num_items, d = shape_of(given, "Wy.weight", 2, "GRU4Rec")
    widths = [layer["weight_hh"][1].size(-1) for layer in layers]
    num_layers = len(list(takewhile(lambda width: width == d, reversed(widths))))
    lower = widths[: len(widths) - num_layers]
    settings = {
        "num_items": num_items,
        "hidden_channels": d,
        "num_layers": max(1, num_layers),
        "embedding": "tied" if table is None else "separate",
        "embedding_channels": None if table is None else table[1].size(-1),
        "lower_channels": lower or None,
    }
    made = {
        "items.weight": ("Wy.weight", given["Wy.weight"]),
        "items.bias": ("By.weight", given["By.weight"].view(-1)),
    }
    if table is not None:
        made["input_embedding.weight"] = table
    for number, layer in enumerate(layers):
        at = number - len(lower)
        prefix, place = ("gru", at) if at >= 0 else (f"lower.{number}", 0)
        made |= {f"{prefix}.{kind}_l{place}": layer[kind] for kind in KINDS}
    return settings, made


def _one_hot_layer(
    given: Mapping[str, Tensor],
) -> tuple[tuple[str, Tensor], dict[str, tuple[str, Tensor]]]:
    """Table and first layer that equal the authors' layer over one-hot items.

    Its gates are in the order n, r, z, and its z is the weight of the new state, here of the old
    state.
    """

    def gates(name: str) -> Tensor:
        n, r, z = given[name].chunk(3, dim=-1)
        return torch.cat([r, -z, n], dim=-1)

    bias = gates("GE.Bh0")
    layer = {
        "weight_ih": ("GE.Wx0.weight", torch.eye(bias.numel(), dtype=bias.dtype)),
        "weight_hh": ("GE.Wh0", gates("GE.Wh0").t()),
        "bias_ih": ("GE.Bh0", bias),
        "bias_hh": ("GE.Bh0", torch.zeros_like(bias)),
    }
    return ("GE.Wx0.weight", gates("GE.Wx0.weight")), layer
