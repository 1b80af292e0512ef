"""Weights with fewer bits per number, as folders hold them: half precision, or eight bits."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Literal, get_args

import torch
from torch import Tensor

from graphseq.arguments import check_choice
from graphseq.models.base import SessionModel

Precision = Literal["float32", "float16", "int8"]

SCALE = "#scale"
"""Ending of the name that holds the scales of a tensor of eight bits."""

LARGEST = 127.0
"""Largest number of eight bits that is used: the range is the same on both sides."""


def in_precision(
    weights: dict[str, Tensor], precision: Precision
) -> tuple[dict[str, Tensor], list[str]]:
    """Weights as a file holds them, and the names of those that were rounded.

    Tables and matrices of float32 are rounded; biases, counts and other types stay as they are.
    With eight bits, every row has a scale of its own, so that its largest number is exact.

    Args:
        weights: Tensors by name, on the CPU.
        precision: ``"float32"``: as they are; ``"float16"``; ``"int8"``.

    Raises:
        ValueError: If the precision is unknown, or a number is too large for it, NaN or infinite.
    """
    check_choice("precision", precision, get_args(Precision))
    if precision == "float32":
        return weights, []
    kept, rounded = dict(weights), []
    for name, tensor in weights.items():
        if tensor.dtype != torch.float32 or tensor.dim() < 2 or tensor.numel() == 0:
            continue
        rounded.append(name)
        if precision == "float16":
            kept[name] = tensor.half()
            finite = kept[name].isfinite().all()
        else:
            largest = tensor.flatten(1).abs().amax(1)  # [rows]
            scale = torch.where(largest > 0, largest / LARGEST, 1.0)
            shape = (-1, *[1] * (tensor.dim() - 1))
            kept[name] = (tensor / scale.view(shape)).round().to(torch.int8)
            kept[name + SCALE] = scale
            finite = largest.isfinite().all()
        if not finite:
            raise ValueError(
                f"The weight {name} has a number that precision={precision!r} cannot hold: save "
                "with precision='float32', or train with a lower learning rate."
            )
    return kept, rounded


def in_full(weights: dict[str, Tensor], rounded: Iterable[str]) -> dict[str, Tensor]:
    """Weights of a file as float32.

    Args:
        weights: What :func:`in_precision` gave.
        rounded: The names that it gave.

    Raises:
        KeyError: If one is missing.
    """
    full = {name: value for name, value in weights.items() if not name.endswith(SCALE)}
    for name in rounded:
        value = weights[name].float()
        if weights[name].dtype == torch.int8:
            value *= weights[name + SCALE].view(-1, *[1] * (value.dim() - 1))
        full[name] = value
    return full


def rounded_model(model: SessionModel, precision: Precision) -> SessionModel:
    """The model as it will be once saved with fewer bits and loaded: a copy, or itself."""
    if precision == "float32":
        return model
    found = copy.deepcopy(model)
    state = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    found.load_state_dict(in_full(*in_precision(state, precision)))
    return found
