"""What a function does, as plain values: its code, its constants and what it reads from outside."""

from __future__ import annotations

import dis
import hashlib
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, MethodType
from typing import Any

DEEPEST_GLOBALS = 3
"""Depth below which the global names of a function are not followed: each may read many more."""

Describe = Callable[[Any, int, frozenset[str]], Any]
"""Tells a value at a depth as plain ones; of objects only the attributes with some names."""


def function_told(
    function: FunctionType | MethodType, depth: int, describe: Describe
) -> dict[str, Any]:
    """A function as plain values, equal in every process for the same code and the same values.

    Args:
        function: A function, or a method with its object.
        depth: How deep within other values it was found.
        describe: Tells what it reads: defaults, variables around it, global names.
    """
    plain: Any = function.__func__ if isinstance(function, MethodType) else function
    code, names = plain.__code__, names_in(plain)
    read = {"self": function.__self__} if isinstance(function, MethodType) else {}
    read |= _around(plain)
    if depth < DEEPEST_GLOBALS:
        read |= _global(plain)
    constants = code.co_consts
    if constants and isinstance(constants[0], str) and constants[0] == plain.__doc__:
        constants = constants[1:]  # a docstring does nothing
    return {
        "function": plain.__qualname__,
        "code": _hash(code),
        "constants": [_constant(each) for each in constants],
        "defaults": describe([plain.__defaults__, plain.__kwdefaults__], depth + 1, names),
        "reads": {name: describe(value, depth + 2, names) for name, value in read.items()},
    }


def names_in(function: FunctionType) -> frozenset[str]:
    """The names of attributes that a function reads, and its texts, which may be keys."""
    found: set[str] = set()
    for code in _codes(function.__code__):
        found.update(code.co_names, (each for each in code.co_consts if isinstance(each, str)))
    return frozenset(found)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code and that of all functions within it."""
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes(each)


def _around(function: FunctionType) -> dict[str, Any]:
    """The variables of the functions around it; one that has no value yet is left out."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue
    return found


def _global(function: FunctionType) -> dict[str, Any]:
    """The global names that are read; functions of another module by their place alone."""
    names = {
        step.argval
        for code in _codes(function.__code__)
        for step in dis.get_instructions(code)
        if step.opname == "LOAD_GLOBAL"
    }
    found = {}
    for name in sorted(names & function.__globals__.keys()):
        value = function.__globals__[name]
        if isinstance(value, FunctionType) and value.__module__ != function.__module__:
            value = f"{value.__module__}.{value.__qualname__}"
        found[name] = value
    return found


def _constant(value: Any) -> Any:
    if isinstance(value, CodeType):
        return {"code": _hash(value), "constants": [_constant(each) for each in value.co_consts]}
    # The order of a set differs from process to process.
    return str(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


def _hash(code: CodeType) -> str:
    return hashlib.sha256(code.co_code + repr(code.co_names).encode()).hexdigest()
