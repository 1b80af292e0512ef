"""The source of a training's random numbers: the run's own generator instead of torch's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

_SOURCE: ContextVar[torch.Generator | None] = ContextVar("source", default=None)


@contextmanager
def drawing_from(generator: torch.Generator) -> Iterator[None]:
    """Makes dropout draw from a generator inside the context, in this thread only.

    Other threads and torch's own random state neither affect these draws nor are affected by them.

    Args:
        generator: On the device of the dropped values. On other devices torch's own generator is
            used.
    """
    before = _SOURCE.set(generator)
    try:
        yield
    finally:
        _SOURCE.reset(before)


def source(device: torch.device) -> torch.Generator | None:
    """The generator that dropout uses on a device; ``None``: torch's own generator."""
    generator = _SOURCE.get()
    return generator if generator is not None and generator.device.type == device.type else None


class OwnDraws(TorchDispatchMode):
    """A context in which all torch draws come from one generator, in this thread only.

    Used for initial weights, because ``reset_parameters`` of modules draws from torch's own
    generator. The weights are the same as after ``torch.manual_seed`` with this seed, and torch's
    generator does not change.

    Args:
        seed: Seed of the generator.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded in func.tags and given.get("generator") is None:
            func = _with_generator(func)
            given["generator"] = self.generator
        return func(*args, **given)


def _with_generator(func: OpOverload) -> OpOverload:
    """The overload of an operator that takes a generator: ``rand`` has two overloads."""
    if any(argument.name == "generator" for argument in func._schema.arguments):
        return func
    own = func._overloadname
    name = "generator" if own == "default" else f"{own}_generator"
    form: OpOverload = getattr(func.overloadpacket, name)
    return form
