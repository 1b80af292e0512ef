"""Weights read from the authors' code go into a model that was built for them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def fill(model: torch.nn.Module, weights: Mapping[str, tuple[str, Tensor]]) -> None:
    """Gives a model its weights.

    Args:
        model: Built with the arguments that came with the weights.
        weights: Name here -> name in the authors' code, and value.

    Raises:
        ValueError: If a weight does not fit the others.
    """
    state = model.state_dict()
    for ours, (theirs, value) in weights.items():
        if ours not in state or state[ours].shape != value.shape:
            wanted = f"{list(state[ours].shape)} would" if ours in state else "leave it out"
            raise ValueError(
                f"{theirs} of {type(model).__name__}'s published weights has shape "
                f"{list(value.shape)}, which does not fit the others: {wanted}."
            )
    model.load_state_dict({ours: value for ours, (_, value) in weights.items()})
