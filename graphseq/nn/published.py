"""Converts weights of the authors' code to the parameter names used here."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Names = Mapping[str, str | Sequence[str]]
"""Name there -> name here, or the names of the equal parts it is split into; "" drops a part."""

Weights = Mapping[str, tuple[str, Tensor]]
"""Name here -> name there and value."""

MOST_NAMES = 3
"""Names of parameters that a message holds."""


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


def read_parameters(parameters: Any, whose: str) -> dict[str, Tensor]:
    """Copies of the parameters as tensors.

    Args:
        parameters: Name there -> array, tensor or nested list.
        whose: Name of the authors' model, for messages.

    Raises:
        ValueError: If they are not named arrays of finite real numbers.
    """
    if not isinstance(parameters, Mapping):
        raise ValueError(
            f"The published weights of {whose} are a mapping of a name to an array, got "
            f"{type(parameters).__name__}."
        )
    state: dict[str, Tensor] = {}
    for name, given in parameters.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of arrays that cannot be written to: this is a copy
            try:
                value = torch.as_tensor(given).detach().clone()
            except (TypeError, ValueError, RuntimeError):
                value = torch.empty(0, dtype=torch.complex64)
        if not isinstance(name, str) or value.is_complex() or value.dim() == 0:
            raise ValueError(
                f"The published weights of {whose} are arrays of real numbers by their names, but "
                f"{name!r} is {getattr(given, 'dtype', type(given).__name__)} of shape "
                f"{list(getattr(given, 'shape', []))}."
            )
        if value.numel() == 0:
            raise ValueError(
                f"{name} of {whose}'s published weights has shape {list(value.shape)}: it is empty."
            )
        if not value.isfinite().all():
            raise ValueError(
                f"{name} of {whose}'s published weights holds {int((~value.isfinite()).sum())} "
                "numbers that are not finite."
            )
        state[name] = value
    return state


def shape_of(parameters: Mapping[str, Tensor], name: str, dims: int, whose: str) -> list[int]:
    """The sizes of a parameter that the sizes of the model are taken from.

    Raises:
        ValueError: If it has another number of dimensions.
    """
    shape = list(parameters[name].shape)
    if len(shape) != dims:
        raise ValueError(
            f"{name} of {whose}'s published weights has shape {shape}, where {dims} dimensions "
            "are expected."
        )
    return shape


def items_of(
    parameters: Mapping[str, Tensor], name: str, whose: str, *, num_padding: int = 1
) -> tuple[int, int]:
    """The number of items in a table there, and its width.

    Args:
        parameters: Name there -> tensor.
        name: The item table.
        whose: Name of the authors' model, for messages.
        num_padding: Rows of it that are no items.

    Raises:
        ValueError: If it is no table, or has no other rows.
    """
    rows, width = shape_of(parameters, name, 2, whose)
    if rows <= num_padding:
        raise ValueError(
            f"{name} of {whose}'s published weights has shape {[rows, width]}, where more than "
            f"{num_padding} rows are expected: {num_padding} of them stand for no item."
        )
    return rows - num_padding, width


def check_names(given: Iterable[str], names: Names, whose: str) -> None:
    """Refuses published weights with other names than these.

    Args:
        given: Names of the parameters.
        names: What they are called there and here.
        whose: Name of the authors' model, for messages.

    Raises:
        ValueError: If one is missing or unknown.
    """
    given = list(given)
    absent = [name for name in names if name not in given]
    if absent:
        raise ValueError(f"The published weights of {whose} lack {_listed(absent)}.")
    unknown = [name for name in given if name not in names]
    if unknown:
        raise ValueError(
            f"The published weights of {whose} hold {_listed(unknown)}, which no part of the "
            "model here uses: pass only the weights of that model."
        )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def renamed_state(parameters: Mapping[str, Any], names: Names, whose: str) -> dict[str, Tensor]:
    """The parameters under the names used here.

    Args:
        parameters: Name there -> array or tensor.
        names: The new name or names of each parameter there.
        whose: Name of the authors' model, for messages.

    Raises:
        ValueError: If a parameter is missing, or ``names`` does not contain it.
    """
    given = read_parameters(parameters, whose)
    check_names(given, names, whose)
    state: dict[str, Tensor] = {}
    for name, here in names.items():
        parts = [here] if isinstance(here, str) else here
        if not any(parts):
            continue
        value = given[name]
        if len(value) % len(parts):
            raise ValueError(
                f"{name} of {whose}'s published weights has shape {list(value.shape)}, which is "
                f"not {len(parts)} equal parts."
            )
        for part, piece in zip(parts, value.chunk(len(parts)), strict=True):
            if part:
                state[part] = piece
    return state


def named(weights: Mapping[str, Tensor], names: Names) -> Weights:
    """The weights with what each is called there, where it is called so in ``names``."""
    theirs = {
        part: name
        for name, here in names.items()
        for part in ([here] if isinstance(here, str) else here)
    }
    return {ours: (theirs.get(ours, ours), value) for ours, value in weights.items()}


def fill(model: torch.nn.Module, weights: Weights, whose: str) -> None:
    """Sets the weights of a model.

    Args:
        model: A model built with the arguments of the weights.
        weights: Those of each parameter.
        whose: Name of the authors' model, for messages.

    Raises:
        ValueError: If the shape of a weight does not match the others.
    """
    state = model.state_dict()
    for ours, (theirs, value) in weights.items():
        if ours not in state or state[ours].shape != value.shape:
            wanted = f"{list(state[ours].shape)} would" if ours in state else "leave it out"
            raise ValueError(
                f"{theirs} of {whose}'s published weights has shape {list(value.shape)}, which "
                f"does not fit the others: {wanted}."
            )
    model.load_state_dict({ours: value for ours, (_, value) in weights.items()})
