"""Models built with the weights of the authors' code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from graphseq.nn.published import Weights, fill, read_parameters


def from_weights(read: Callable[..., tuple[dict[str, Any], Weights]], whose: str) -> Any:
    """The class method ``from_published``, which builds a model with its weights, in evaluation
    mode.

    Args:
        read: Gives arguments of the class and its weights, from what ``from_published`` gets, with
            tensors as parameters.
        whose: Name of the authors' model, for messages.
    """

    def build(
        cls: type[torch.nn.Module], parameters: Any, *args: Any, **kwargs: Any
    ) -> torch.nn.Module:
        # A file of NumPy keeps numbers as arrays of no dimension.
        args = tuple(map(_plain, args))
        kwargs = {name: _plain(value) for name, value in kwargs.items()}
        settings, weights = read(read_parameters(parameters, whose), *args, **kwargs)
        model = cls(**settings)
        fill(model, weights, whose)
        return model.eval()

    build.__doc__ = read.__doc__
    return classmethod(build)


def _plain(value: Any) -> Any:
    single = isinstance(value, (np.ndarray, np.generic, torch.Tensor)) and value.ndim == 0
    return value.item() if single else value
