"""Weights of authors' code under their own names, read as ours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Names = Mapping[str, str | Sequence[str]]
"""Name there -> name here, or names here of the equal parts that it is cut into; "" drops one."""


def num_published_blocks(parameters: Mapping[str, Any], prefix: str) -> int:
    """The number of blocks whose parameters are called ``{prefix}.{number}.`` something."""
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
    return max((int(m[1]) + 1 for m in map(pattern.match, parameters) if m), default=0)


def names_of_blocks(names: Names, theirs: str, ours: str, num_blocks: int) -> dict[str, Any]:
    """The names of the parameters of one block, for each of so many."""
    blocks: dict[str, Any] = {}
    for block in range(num_blocks):
        for name, here in names.items():
            parts = [here] if isinstance(here, str) else here
            blocks[f"{theirs}.{block}.{name}"] = [
                part and f"{ours}.{block}.{part}" for part in parts
            ]
    return blocks


def renamed_state(parameters: Mapping[str, Any], names: Names, whose: str) -> dict[str, Tensor]:
    """The parameters under our names.

    Args:
        parameters: Name there -> array or tensor.
        names: What becomes of each parameter there.
        whose: The authors' model, for messages.

    Raises:
        ValueError: If a parameter is missing, or there is one that ``names`` does not know.
    """
    absent = [name for name in names if name not in parameters]
    if absent:
        raise ValueError(f"The published weights of {whose} lack {', '.join(absent)}.")
    unknown = [name for name in parameters if name not in names]
    if unknown:
        raise ValueError(
            f"The published weights of {whose} hold {', '.join(unknown)}, which no part of the "
            "model here query_index: pass the weights of that model alone."
        )
    state: dict[str, Tensor] = {}
    for name, here in names.items():
        parts = [here] if isinstance(here, str) else here
        value = torch.as_tensor(parameters[name]).detach().clone()
        for part, piece in zip(parts, value.chunk(len(parts)), strict=True):
            if part:
                state[part] = piece
    return state
