"""Checks of arguments: each says in one sentence what was expected and what came."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from numbers import Integral, Real
from typing import Any, SupportsIndex

import numpy as np
import torch


def whole(name: str, value: SupportsIndex, *, at_least: int = 1) -> int:
    """An argument that is a whole number, as a plain ``int``.

    Args:
        name: What the caller knows it as.
        value: An ``int``, or an integer of NumPy or torch; no bool, and no float.
        at_least: The least value allowed.

    Raises:
        ValueError: If it is no whole number, or below the least.
    """
    found: int | None = None
    truth = isinstance(value, (bool, np.bool_))
    truth = truth or (isinstance(value, torch.Tensor) and value.dtype == torch.bool)
    if not truth:
        with suppress(TypeError, ValueError):  # of a float; of more than one number
            found = operator.index(value)
    if found is None:
        raise ValueError(f"{name} must be a whole number of at least {at_least}, got {value!r}.")
    if found < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {found}.")
    return found


def flag(name: str, value: Any) -> bool:
    """An argument that is true or false.

    Raises:
        ValueError: If it is neither: the text "no" would count as true.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} must be True or False, got {value!r}.")
    return bool(value)


def names_of(argument: str, given: Any) -> list[str]:
    """One name or several, as a list.

    Args:
        argument: What the caller knows it as.
        given: A text, or texts.

    Raises:
        ValueError: If it is anything else.
    """
    if isinstance(given, str):
        return [given]
    listed = list(given) if isinstance(given, Iterable) else [given]
    wrong = next((name for name in listed if not isinstance(name, str)), None)
    if wrong is not None:
        raise ValueError(f"{argument} holds names, such as 'hr@20', got {wrong!r:.60}.")
    return listed


def check_annotated(parameters: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Refuses values that are not of the plain type their parameter is annotated with.

    Args:
        parameters: Name -> annotation, as text; only ``int``, ``float``, ``bool`` and
            ``Sequence[int]`` are looked at, each also with ``| None``.
        values: Name -> value; the range of a number is not looked at.

    Raises:
        ValueError: If a value is of another type.
    """
    for name, value in values.items():
        plain, _, none = str(parameters.get(name, "")).partition(" | ")
        if value is None and none == "None":
            continue
        if none not in ("", "None"):
            continue
        truth = isinstance(value, (bool, np.bool_))
        if plain == "int" and (truth or not isinstance(value, Integral)):
            wanted = "a whole number"
        elif plain == "float" and (truth or not isinstance(value, Real)):
            wanted = "a number"
        elif plain == "bool" and not truth:
            wanted = "True or False"
        elif plain == "Sequence[int]" and not _whole_numbers(value):
            wanted = "a list of whole numbers"
        else:
            continue
        way_out = " or None" if none else ""
        raise ValueError(f"{name} must be {wanted}{way_out}, got {value!r}.")


def _whole_numbers(value: Any) -> bool:
    return isinstance(value, Iterable) and all(
        isinstance(one, Integral) and not isinstance(one, bool) for one in value
    )


def device_of(device: Any) -> torch.device:
    """A device that this machine has.

    Args:
        device: A ``torch.device``, or its name.

    Raises:
        ValueError: If there is no such kind of device, or none here.
    """
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"device must be 'cpu', 'cuda', 'cuda:0', 'mps' or another device of torch, got "
            f"{device!r}."
        ) from error
    here = {
        "cpu": lambda: 1,
        "cuda": torch.cuda.device_count,
        "mps": lambda: int(torch.backends.mps.is_available()),
    }
    count = here[found.type]() if found.type in here else 0
    if count == 0:
        raise ValueError(
            f"device={str(device)!r} is not on this machine, or torch was built without it: leave "
            "device out, or pass 'cpu'."
        )
    if found.type != "cpu" and (found.index or 0) >= count:
        raise ValueError(
            f"device={str(device)!r} is not on this machine, which has {count} of {found.type}: "
            f"'{found.type}:0' is the first."
        )
    return found


def check_sizes(**sizes: int | None) -> None:
    """Refuses a size that is no whole number of at least 1; ``None`` passes.

    Raises:
        ValueError: If one is.
    """
    for name, value in sizes.items():
        if value is not None:
            whole(name, value)


def check_heads(hidden_channels: int, heads: int) -> None:
    """Refuses heads that do not divide the width.

    Raises:
        ValueError: If they do not, or one of the two is no whole number of at least 1.
    """
    check_sizes(hidden_channels=hidden_channels, heads=heads)
    if hidden_channels % heads:
        raise ValueError(
            f"heads must divide hidden_channels, got {heads} heads for {hidden_channels}."
        )


def check_not_negative(**numbers: float) -> None:
    """Refuses what is negative, infinite or NaN.

    Raises:
        ValueError: If one is.
    """
    for name, value in numbers.items():
        if not isinstance(value, Real) or not 0 <= value < math.inf:
            raise ValueError(f"{name} must be a finite number of at least 0, got {value!r}.")


def check_positive(**numbers: float) -> None:
    """Refuses what is not above 0.

    Raises:
        ValueError: If one is zero, negative or NaN, or no number.
    """
    for name, value in numbers.items():
        if not isinstance(value, Real) or not value > 0:
            raise ValueError(f"{name} must be positive, got {value!r}.")


def check_shares(**shares: float) -> None:
    """Refuses a share, as of values dropped, outside [0, 1).

    Raises:
        ValueError: If one is.
    """
    for name, value in shares.items():
        if not isinstance(value, Real) or not 0 <= value < 1:
            raise ValueError(f"{name} must lie in [0, 1), got {value!r}.")


def check_fractions(**fractions: float) -> None:
    """Refuses a fraction outside [0, 1].

    Raises:
        ValueError: If one is.
    """
    for name, value in fractions.items():
        if not isinstance(value, Real) or not 0 <= value <= 1:
            raise ValueError(f"{name} must lie in [0, 1], got {value!r}.")


def check_choice(name: str, value: Any, allowed: Sequence[Any]) -> None:
    """Refuses a value that is none of a few.

    Raises:
        ValueError: If it is none.
    """
    if value not in allowed:
        *first, last = map(repr, allowed)
        listed = f"{', '.join(first)} or {last}" if first else last
        raise ValueError(f"{name} is {listed}, got {value!r}.")


def check_precise(name: str, times: torch.Tensor) -> None:
    """Refuses times whose type does not hold single seconds: differences of them are wrong.

    Args:
        name: What the caller calls them.
        times: Points in time, [n].

    Raises:
        ValueError: If they are rounded to more than a second.
    """
    if torch.compiler.is_compiling() or not times.is_floating_point() or not times.numel():
        return
    latest = float(times.abs().max())
    if 2 / torch.finfo(times.dtype).eps < latest < math.inf:
        raise ValueError(
            f"{name} of {latest:.10g} is rounded to more than a second in {times.dtype}: pass "
            "float64 or int64."
        )
