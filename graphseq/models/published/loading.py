"""Models built with the weights of the authors' code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Weights = Mapping[str, Tensor | tuple[str, Tensor]]
"""Name here -> value, or name in the authors' code and value."""


def from_weights(read: Callable[..., tuple[dict[str, Any], Weights]]) -> Any:
    """The class method ``from_published``, which builds a model with its weights, in evaluation
    mode.

    Args:
        read: Gives arguments of the class and its weights, from what ``from_published`` gets.
    """

    def build(cls: type[torch.nn.Module], *args: Any, **kwargs: Any) -> torch.nn.Module:
        settings, weights = read(*args, **kwargs)
        model = cls(**settings)
        fill(model, weights)
        return model.eval()

    build.__doc__ = read.__doc__
    return classmethod(build)


def fill(model: torch.nn.Module, weights: Weights) -> None:
    """Sets the weights of a model.

    Args:
        model: A model built with the arguments of the weights.
        weights: Those of each parameter.

    Raises:
        ValueError: If the shape of a weight does not match the others.
    """
    state = model.state_dict()
    named = {
        ours: each if isinstance(each, tuple) else (ours, each) for ours, each in weights.items()
    }
    for ours, (theirs, value) in named.items():
        if ours not in state or state[ours].shape != value.shape:
            wanted = f"{list(state[ours].shape)} would" if ours in state else "leave it out"
            raise ValueError(
                f"{theirs} of {type(model).__name__}'s published weights has shape "
                f"{list(value.shape)}, which does not fit the others: {wanted}."
            )
    model.load_state_dict({ours: value for ours, (_, value) in named.items()})
