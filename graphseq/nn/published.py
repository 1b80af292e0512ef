"""Converts weights of the authors' code to the parameter names used here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Names = Mapping[str, str | Sequence[str]]
"""Name there -> name here, or the names of the equal parts it is split into; "" drops a part."""


def num_published_blocks(parameters: Mapping[str, Any], prefix: str) -> int:
    """The number of blocks whose parameter names start with ``{prefix}.{number}.``."""
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
    return max((int(m[1]) + 1 for m in map(pattern.match, parameters) if m), default=0)


def names_of_blocks(names: Names, theirs: str, ours: str, num_blocks: int) -> dict[str, Any]:
    """The parameter names of one block, repeated for every block."""
    blocks: dict[str, Any] = {}
    for block in range(num_blocks):
        for name, here in names.items():
            parts = [here] if isinstance(here, str) else here
            blocks[f"{theirs}.{block}.{name}"] = [
                part and f"{ours}.{block}.{part}" for part in parts
            ]
    return blocks


def renamed_state(parameters: Mapping[str, Any], names: Names, whose: str) -> dict[str, Tensor]:
    """The parameters under the names used here.

    Args:
        parameters: Name there -> array or tensor.
        names: The new name or names of each parameter there.
        whose: Name of the authors' model, for messages.

    Raises:
        ValueError: If a parameter is missing, or ``names`` does not contain it.
    """
    absent = [name for name in names if name not in parameters]
    if absent:
        raise ValueError(f"The published weights of {whose} lack {', '.join(absent)}.")
    unknown = [name for name in parameters if name not in names]
    if unknown:
        raise ValueError(
            f"The published weights of {whose} hold {', '.join(unknown)}, which no part of the "
            "model here uses: pass only the weights of that model."
        )
    state: dict[str, Tensor] = {}
    for name, here in names.items():
        parts = [here] if isinstance(here, str) else here
        value = torch.as_tensor(parameters[name]).detach().clone()
        for part, piece in zip(parts, value.chunk(len(parts)), strict=True):
            if part:
                state[part] = piece
    return state
