"""The arguments of a model, kept by name: ``gs.load`` and ``grow`` build it again from them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import suppress
from types import NoneType, UnionType
from typing import Any, Literal, Self, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor

from graphseq.arguments import check_annotated, check_choice
from graphseq.deprecation import in_new_names


class KeptArguments(torch.nn.Module):
    """A module that keeps what its constructor was given, whether the constructor does or not."""

    _arguments: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        model = super().__new__(cls)
        model.__dict__["_registered"] = set()
        with suppress(TypeError):  # that does not fit the signature: __init__ says so better
            # Of all families at once: what a signature calls an int is one, before all else.
            model.__dict__["_arguments"] = _given_arguments(cls, args, kwargs)
        return model

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments this model was built with, by name, defaults included."""
        return dict(self._arguments)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            arguments = self.__dict__.get("_arguments", {})
            if (
                name in arguments and name not in self.__dict__["_registered"]
            ):  # one that the constructor did not keep itself
                return arguments[name]
            raise

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """As of every module; the name may be an argument's."""
        self.__dict__["_registered"].add(name)
        super().register_buffer(name, tensor, persistent)

    def register_parameter(self, name: str, param: torch.nn.Parameter | None) -> None:
        """As of every module; the name may be an argument's."""
        self.__dict__["_registered"].add(name)
        super().register_parameter(name, param)


def _given_arguments(
    family: type[KeptArguments], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """The arguments of a constructor by name, defaults included.

    Raises:
        TypeError: If they do not fit its signature.
        ValueError: If one is of another type than its annotation.
    """
    signature = inspect.signature(family.__init__)
    bound = signature.bind(None, *args, **in_new_names(family.__init__, kwargs))
    check_annotated({n: p.annotation for n, p in signature.parameters.items()}, bound.arguments)
    for name, allowed in _choices_of(family.__init__).items():
        if name in bound.arguments:
            check_choice(name, bound.arguments[name], allowed)
    bound.apply_defaults()
    given: dict[str, Any] = {}
    for name, value in list(bound.arguments.items())[1:]:
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            given |= value
        elif kind is inspect.Parameter.VAR_POSITIONAL:
            # Handed on to the class above, as a rule, which has names for them.
            _, parent = [each for each in family.__mro__ if "__init__" in vars(each)][:2]
            above = inspect.signature(vars(parent)["__init__"])
            given |= list(above.bind_partial(None, *value).arguments.items())[1:]
        else:
            given[name] = value.item() if isinstance(value, np.generic) else value
    return given


@functools.cache
def _choices_of(constructor: Callable[..., None]) -> dict[str, tuple[Any, ...]]:
    """The values that a constructor's annotations allow, of arguments with a few alone."""
    try:
        hints = get_type_hints(inspect.unwrap(constructor))
    except (NameError, AttributeError):  # a name that only a type checker knows
        return {}
    found = {}
    for name, hint in hints.items():
        kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        if all(kind is NoneType or get_origin(kind) is Literal for kind in kinds):
            found[name] = tuple(value for kind in kinds for value in get_args(kind) or (None,))
    found.pop("return", None)
    return found
