"""Where random numbers of a training come from: a generator of the run's own, not torch's."""

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
    """Has dropout draw from a generator for a while, in this thread alone.

    What other threads draw, and torch's own random state, neither change it nor are changed by it.

    Args:
        generator: On the device of the values that are dropped; of others torch's own is asked.
    """
    before = _SOURCE.set(generator)
    try:
        yield
    finally:
        _SOURCE.reset(before)


def source(device: torch.device) -> torch.Generator | None:
    """What dropout on a device draws from; ``None``: torch's own generator."""
    generator = _SOURCE.get()
    return generator if generator is not None and generator.device.type == device.type else None


class OwnDraws(TorchDispatchMode):
    """A block in which whatever torch draws comes from a generator, in this thread alone.

    For the first weights of modules, whose ``reset_parameters`` ask torch's own generator: they are
    those that follow ``torch.manual_seed`` of the same seed, and that generator stays as it is.

    Args:
        seed: Of the generator.
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
    """The form of an operator that takes a generator: ``rand`` has it beside another one."""
    if any(argument.name == "generator" for argument in func._schema.arguments):
        return func
    own = func._overloadname
    name = "generator" if own == "default" else f"{own}_generator"
    form: OpOverload = getattr(func.overloadpacket, name)
    return form
