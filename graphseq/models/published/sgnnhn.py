"""Weights of SGNN-HN as the authors' code names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from graphseq.nn.published import Weights, items_of, named, renamed_state

NAMES = {
    "embedding.weight": "items.weight",
    "pos_embedding.weight": "positions.weight",
    "gnn.linear_edge_in.weight": "conv.conv.lin_in.weight",
    "gnn.linear_edge_in.bias": "conv.conv.lin_in.bias",
    "gnn.linear_edge_out.weight": "conv.conv.lin_out.weight",
    "gnn.linear_edge_out.bias": "conv.conv.lin_out.bias",
    "gnn.linear_edge_f.weight": "",  # which the authors' code never reads
    "gnn.linear_edge_f.bias": "",
    "gnn.b_iah": "conv.conv.bias_in",
    "gnn.b_oah": "conv.conv.bias_out",
    "gnn.w_ih": "conv.conv.gru.weight_ih",
    "gnn.w_hh": "conv.conv.gru.weight_hh",
    "gnn.b_ih": "conv.conv.gru.bias_ih",
    "gnn.b_hh": "conv.conv.gru.bias_hh",
    "linear_hn.weight": "conv.lin_highway.weight",
    "linear_hn.bias": "conv.lin_highway.bias",
    "linear_one.weight": "lin_last.weight",
    "linear_one.bias": "lin_last.bias",
    "linear_two.weight": "lin_star.weight",
    "linear_two.bias": "lin_star.bias",
    "linear_three.weight": "lin_click.weight",
    "linear_three.bias": "lin_click.bias",
    "linear_four.weight": "lin_score.weight",
    "linear_transform.weight": "lin_out.weight",
    "linear_transform.bias": "lin_out.bias",
}
"""Parameters in the authors' code -> here."""


def read_sgnnhn(
    parameters: Mapping[str, Tensor], num_layers: int = 1, scale: float = 12.0
) -> tuple[dict[str, Any], Weights]:
    """Arguments and weights of :class:`~graphseq.models.SGNNHN`.

    Args:
        parameters: Name there -> tensor; row 0 of ``embedding.weight`` is its padding.
        num_layers: The authors' ``step``.
        scale: The authors' ``tau``.

    Raises:
        ValueError: If a parameter is missing or unknown.
    """
    weights = renamed_state(parameters, NAMES, "SGNN-HN")
    weights["items.weight"] = weights["items.weight"][1:]
    num_items, hidden_channels = items_of(parameters, "embedding.weight", "SGNN-HN")
    settings = {
        "num_items": num_items,
        "hidden_channels": hidden_channels,
        "num_layers": num_layers,
        "scale": scale,
        "max_length": len(weights["positions.weight"]),
    }
    return settings, named(weights, NAMES)
