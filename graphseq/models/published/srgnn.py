"""Reads weights of SR-GNN from the authors' code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from graphseq.nn.published import Weights, items_of, named, renamed_state

NAMES = {
    "embedding.weight": "items.weight",
    "gnn.linear_edge_in.weight": "conv.lin_in.weight",
    "gnn.linear_edge_in.bias": "conv.lin_in.bias",
    "gnn.linear_edge_out.weight": "conv.lin_out.weight",
    "gnn.linear_edge_out.bias": "conv.lin_out.bias",
    "gnn.linear_edge_f.weight": "",  # which the authors' code never reads
    "gnn.linear_edge_f.bias": "",
    "gnn.b_iah": "conv.bias_in",
    "gnn.b_oah": "conv.bias_out",
    "gnn.w_ih": "conv.gru.weight_ih",
    "gnn.w_hh": "conv.gru.weight_hh",
    "gnn.b_ih": "conv.gru.bias_ih",
    "gnn.b_hh": "conv.gru.bias_hh",
    "linear_one.weight": "session_readout.lin_last.weight",
    "linear_one.bias": "session_readout.lin_last.bias",
    "linear_two.weight": "session_readout.lin_click.weight",
    "linear_two.bias": "session_readout.lin_click.bias",
    "linear_three.weight": "session_readout.lin_score.weight",
    "linear_transform.weight": "session_readout.lin_out.weight",
    "linear_transform.bias": "session_readout.lin_out.bias",
}
"""Parameters in the authors' code -> here."""


def read_srgnn(
    parameters: Mapping[str, Tensor], num_layers: int = 1, hybrid: bool = True
) -> tuple[dict[str, Any], Weights]:
    """Arguments and weights of :class:`~graphseq.models.SRGNN`.

    Args:
        parameters: Name there -> tensor; row 0 of ``embedding.weight`` is its padding.
        num_layers: The authors' ``step``.
        hybrid: Whether the authors' code ran without ``nonhybrid``.

    Raises:
        ValueError: If a parameter is missing or unknown.
    """
    names = {theirs: ours for theirs, ours in NAMES.items() if ours or theirs in parameters}
    weights = {
        ours: value
        for ours, value in renamed_state(parameters, names, "SR-GNN").items()
        if hybrid or not ours.startswith("session_readout.lin_out")
    }
    weights["items.weight"] = weights["items.weight"][1:]
    num_items, hidden_channels = items_of(parameters, "embedding.weight", "SR-GNN")
    settings = {
        "num_items": num_items,
        "hidden_channels": hidden_channels,
        "num_layers": num_layers,
        "edge_weight": "binary",
        "hybrid": hybrid,
    }
    return settings, named(weights, NAMES)
