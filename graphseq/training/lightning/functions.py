"""What a function does, as plain values: its code, its constants and what it reads from outside."""

from __future__ import annotations

import dis
import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from types import CodeType, FunctionType, MethodType
from typing import Any

DEEPEST_GLOBALS = 3
"""Depth below which the global names of a function are not followed: each may read many more."""

RECORDING = ("add", "append", "extend", "insert")
"""Methods by which a function writes something down in a list or set."""

Describe = Callable[[Any, int, frozenset[str]], Any]
"""Tells a value at a depth as plain ones; of objects only the attributes with some names."""


def function_told(
    function: FunctionType | MethodType, depth: int, describe: Describe
) -> dict[str, Any]:
    """A function as plain values, equal in every process for the same code and the same values.

    A list that it appends to is no part of it, nor is an outer variable that it sets: they differ
    from call to call.

    Args:
        function: A function, or a method with its object.
        depth: How deep within other values it was found.
        describe: Tells what it reads: defaults, variables around it, global names.
    """
    plain: Any = getattr(function, "__func__", function)
    names, outside = names_in(plain), _outside(plain, depth < DEEPEST_GLOBALS)
    read = {name: outside[name] for name in sorted(names & outside.keys())}
    if isinstance(function, MethodType):
        read["self"] = function.__self__
    return {
        "function": plain.__qualname__,
        **_code_told(plain.__code__, plain.__doc__),
        "defaults": describe([plain.__defaults__, plain.__kwdefaults__], depth + 1, names),
        "reads": {name: describe(value, depth + 2, names) for name, value in read.items()},
    }


def names_in(function: FunctionType) -> frozenset[str]:
    """The names of variables and attributes that it reads, and its texts, which may be keys."""
    steps = [(s.argval, s.opname) for s in _steps(function.__code__)]
    written = {one for one, (method, _) in pairwise(steps) if method in RECORDING}
    set_here = {name for name, does in steps if does in ("STORE_DEREF", "STORE_GLOBAL")}
    written |= {(name, f"LOAD_{of}") for name in set_here for of in ("DEREF", "GLOBAL")}
    loads = {step for step in steps if step[1].startswith("LOAD_") and step[1] != "LOAD_CLOSURE"}
    return frozenset(name for name, _ in loads - written if isinstance(name, str))


def _steps(code: CodeType) -> Iterator[dis.Instruction]:
    """The instructions of the code and of all functions within it."""
    yield from dis.get_instructions(code)
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _steps(each)


def _outside(function: FunctionType, with_globals: bool) -> dict[str, Any]:
    """The variables of the functions around it that have a value, and the globals that it loads."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # it has no value yet
            found[name] = cell.cell_contents
    loaded = {s.argval for s in _steps(function.__code__) if s.opname == "LOAD_GLOBAL"}
    for name in loaded & function.__globals__.keys() if with_globals else ():
        value = function.__globals__[name]
        foreign = isinstance(value, FunctionType) and value.__module__ != function.__module__
        found[name] = f"{value.__module__}.{value.__qualname__}" if foreign else value
    return found


def _code_told(code: CodeType, description: str | None = None) -> dict[str, Any]:
    constants = code.co_consts
    if description is not None and constants[:1] == (description,):
        constants = constants[1:]  # it does nothing
    return {
        "code": hashlib.sha256(code.co_code + repr(code.co_names).encode()).hexdigest(),
        "constants": [_constant(each) for each in constants],
    }


def _constant(value: Any) -> Any:
    if isinstance(value, CodeType):
        return _code_told(value)
    # The order of a set differs from process to process.
    return str(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)
