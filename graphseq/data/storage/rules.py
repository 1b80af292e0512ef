"""Rules for values that come from a file: each error names the field, its rule and the value."""

from __future__ import annotations

import inspect
import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

Rule: TypeAlias = Callable[[Any, str], None]
"""Takes a value and its name; raises ValueError if the value breaks the rule."""


def check_record(value: Any, rules: Mapping[str, Rule], where: str) -> dict[str, Any]:
    """Checks that all named fields of a mapping exist and obey their rules; others are ignored.

    Args:
        value: The value that was read.
        rules: Field -> its rule. A field whose rule is :func:`absent_or` may be missing.
        where: Name of the mapping, for errors.

    Raises:
        ValueError: If it is not a mapping, or a field is missing or breaks its rule.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be a mapping, got {brief(value)}.")
    for name, rule in rules.items():
        if name in value:
            rule(value[name], f"{name} of {where}")
        elif not getattr(rule, "may_be_absent", False):
            raise ValueError(f"{where} lacks {name}.")
    return value


def whole(least: int | None = None, most: int | None = None) -> Rule:
    """An integer (no boolean) within bounds."""
    return _rule(
        f"a whole number{_bounds(least, most)}",
        lambda v: type(v) is int and _within(v, least, most),
    )


def number(least: float | None = None, most: float | None = None) -> Rule:
    """A finite number (no boolean) within bounds."""
    return _rule(
        f"a finite number{_bounds(least, most)}",
        lambda v: (
            (type(v) in (int, float) and (type(v) is int or math.isfinite(v)))
            and _within(v, least, most)
        ),
    )


def flag() -> Rule:
    """A boolean, not a value that only behaves like one."""
    return _rule("true or false", lambda v: type(v) is bool)


def text(may_be_empty: bool = False) -> Rule:
    """Text, which is not empty unless that is allowed."""
    return _rule("text", lambda v: isinstance(v, str) and (may_be_empty or v != ""))


def one_of(*values: Any) -> Rule:
    """One of some values, of the same type."""
    listed = ", ".join(map(repr, values))
    return _rule(f"one of {listed}", lambda v: any(type(v) is type(x) and v == x for x in values))


def anything() -> Rule:
    """Any value."""
    return lambda value, where: None


def optional(rule: Rule) -> Rule:
    """``None``, or a value that obeys a rule."""

    def check(value: Any, where: str) -> None:
        if value is not None:
            rule(value, where)

    return check


def absent_or(rule: Rule) -> Rule:
    """A field of :func:`check_record` that may be missing."""

    def check(value: Any, where: str) -> None:
        rule(value, where)

    check.may_be_absent = True  # type: ignore[attr-defined]
    return check


def list_of(rule: Rule) -> Rule:
    """A list of which each element obeys a rule."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list):
            raise ValueError(f"{where} must be a list, got {brief(value)}.")
        for number, element in enumerate(value):
            rule(element, f"{where}, element {number},")

    return check


def mapping_of(rule: Rule) -> Rule:
    """A mapping from text to values that obey a rule."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{where} must be a mapping, got {brief(value)}.")
        for name, element in value.items():
            rule(element, f"{name} of {where}")

    return check


def record(rules: Mapping[str, Rule]) -> Rule:
    """A mapping with named fields, as :func:`check_record` checks it."""

    def check(value: Any, where: str) -> None:
        check_record(value, rules, where)

    return check


def check_arguments(function: Callable[..., Any], given: Mapping[str, Any], where: str) -> None:
    """Checks values against the plain types that a function declares for its arguments.

    Args:
        function: A function or class with annotations: ``int``, ``float``, ``bool``, ``str``,
            ``Literal``, lists and mappings, alone or in unions, are checked; others are not.
        given: Argument -> value, as in JSON.
        where: Name of the values, for errors.

    Raises:
        ValueError: If an argument is unknown or missing, or a value has another type.
    """
    parameters = inspect.signature(function).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in given:
        if name not in parameters and not takes_any:
            raise ValueError(f"{name} of {where} is not an argument of {function.__name__}.")
    for name, parameter in parameters.items():
        required = parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_KEYWORD,
            parameter.VAR_POSITIONAL,
        )
        if required and name not in given:
            raise ValueError(f"{where} lack {name}, which {function.__name__} needs.")
    try:
        hints = get_type_hints(function.__init__ if isinstance(function, type) else function)  # type: ignore[misc]
    except (NameError, TypeError):  # of a class within a function, for one
        return
    for name, value in given.items():
        if name in hints and not _fits(value, hints[name]):
            hint = hints[name]
            says = hint.__name__ if isinstance(hint, type) else str(hint)
            raise ValueError(
                f"{name} of {where} must be {says.replace('typing.', '')}, got {brief(value)}."
            )


def _fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value fits an annotation; annotations not known here fit any value."""
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in get_args(hint))
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in get_args(hint))
    if hint is None or hint is NoneType:
        return value is None
    if hint in (bool, str):
        return type(value) is hint
    if hint is int:
        return type(value) is int
    if hint is float:
        return type(value) in (int, float)
    kind = origin or hint
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return isinstance(value, dict)
    if isinstance(kind, type) and issubclass(kind, (Sequence, tuple)):
        return isinstance(value, list)
    return True


def _rule(says: str, holds: Callable[[Any], bool]) -> Rule:
    def check(value: Any, where: str) -> None:
        if not holds(value):
            raise ValueError(f"{where} must be {says}, got {brief(value)}.")

    return check


def _within(value: float, least: float | None, most: float | None) -> bool:
    return (least is None or value >= least) and (most is None or value <= most)


def _bounds(least: float | None, most: float | None) -> str:
    if least is not None and most is not None:
        return f" within {least}..{most}"
    if least is not None:
        return f", {least} or more"
    return "" if most is None else f", {most} or less"


def brief(value: Any) -> str:
    """A value in one short line, for errors."""
    if type(value) is int and value.bit_length() > 256:
        return f"a number of {value.bit_length()} bits"
    return reprlib.repr(value)
