"""Rules of settings and arguments; each states in one sentence what a value must be."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any, Protocol

LARGEST = 2**63 - 1


class Rule(Protocol):
    """What a value must be."""

    def check(self, name: str, value: Any) -> Any:
        """The value as a plain Python value.

        Raises:
            ValueError: If it breaks the rule.
        """


@dataclass(frozen=True)
class Whole:
    """A whole number; ``True`` and ``1.0`` are not.

    Args:
        least: The smallest.
        none: What ``None`` does, where it is allowed.
    """

    least: int
    none: str = ""

    def check(self, name: str, value: Any) -> int | None:
        if value is None and self.none:
            return None
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise _wrong(name, "must be a whole number", value, self.none)
        number = int(value)
        if number > LARGEST:
            raise _wrong(name, "must be below 2^63", value, self.none)
        if number < self.least:
            least = f"must be at least {self.least}" if self.least else "must not be negative"
            raise _wrong(name, least, value, self.none)
        return number


@dataclass(frozen=True)
class Number:
    """A finite number; ``True`` is not.

    Args:
        positive: Whether it is above 0; else it is not below.
        below: What it is below.
        most: The largest.
        none: What ``None`` does, where it is allowed.
    """

    positive: bool = True
    below: float | None = None
    most: float | None = None
    none: str = ""

    def check(self, name: str, value: Any) -> float | None:
        if value is None and self.none:
            return None
        if not isinstance(value, Real) or isinstance(value, bool) or not _is_finite(value):
            raise _wrong(name, "must be a finite number", value, self.none)
        number = value if isinstance(value, (int, float)) else float(value)
        high = self.below is not None and number >= self.below
        high = high or (self.most is not None and number > self.most)
        if high or number < 0 or (self.positive and number == 0):
            raise _wrong(name, self._bounds, value, self.none)
        return number

    @property
    def _bounds(self) -> str:
        if self.below is not None:
            return f"must lie in {'(' if self.positive else '['}0, {self.below:g})"
        if self.most is not None:
            return f"lies in 0..{self.most:g}"
        return "must be positive" if self.positive else "must not be negative"


@dataclass(frozen=True)
class Flag:
    """``True`` or ``False``; 0 and 1 are not.

    Args:
        none: What ``None`` does, where it is allowed.
    """

    none: str = ""

    def check(self, name: str, value: Any) -> bool | None:
        if value is None and self.none:
            return None
        if not isinstance(value, bool) and type(value).__name__ != "bool":  # numpy has its own
            raise _wrong(name, "must be true or false", value, self.none)
        return bool(value)


@dataclass(frozen=True)
class OneOf:
    """One of some names.

    Args:
        names: These.
        none: What ``None`` does, where it is allowed.
    """

    names: tuple[str, ...]
    none: str = ""

    def check(self, name: str, value: Any) -> str | None:
        if value is None and self.none:
            return None
        if not isinstance(value, str) or value not in self.names:
            text = "" if isinstance(value, str) else ", which is not text"
            way_out = f": None {self.none}" if self.none else ""
            way_out = did_you_mean(value, self.names) or way_out
            raise ValueError(
                f"{name} is one of {', '.join(self.names)}, got {_short(value)}{text}{way_out}."
            )
        return value


def did_you_mean(value: Any, names: Iterable[str]) -> str:
    """A question that names what is spelled nearly like it, or nothing."""
    near = get_close_matches(str(value), list(names), n=1)
    return f": did you mean {near[0]!r}?" if near and near[0] != value else ""


def _wrong(name: str, rule: str, value: Any, none: str) -> ValueError:
    way_out = f": None {none}" if none else ""
    if none and isinstance(value, str) and value.strip().lower() in ("none", "null", ""):
        way_out = f": None, which a file spells null, {none}"
    return ValueError(f"{name} {rule}, got {_short(value)}{way_out}.")


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond all floating-point numbers
        return False


def _short(value: Any) -> str:
    return reprlib.repr(value)
