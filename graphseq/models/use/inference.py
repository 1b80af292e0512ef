"""Inference with a model shared by threads: its mode, and the size of blocks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray

MOST_CLICKS = 2**17
"""Maximum number of clicks that a model reads at once, unless a single session has more."""

MOST_ENTRIES = 2**20
"""Maximum number of list entries that a counting model sums at once, unless a session has more."""

_lock = threading.Lock()
_inside = threading.local()
_readers: WeakKeyDictionary[torch.nn.Module, int] = WeakKeyDictionary()
_trained: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()


@contextmanager
def inference(*models: torch.nn.Module) -> Iterator[None]:
    """A context with models in evaluation mode, without gradients; modes are restored afterwards.

    Any number of threads can use the same model: the first one sets the mode and the last one
    restores it. A model that is already in evaluation mode is not changed.

    Args:
        models: The models used in the context.
    """
    outer: frozenset[int] = getattr(_inside, "models", frozenset())
    entered = outer.union(map(id, models))
    if entered == outer and torch.is_inference_mode_enabled():  # this thread reads them already
        yield
        return
    modules = modules_of(*models)
    with _lock:
        if not _readers and not any(module.training for module in modules):
            modules = []  # nothing to change, and nobody who will change them back
        for module in modules:
            _readers[module] = _readers.get(module, 0) + 1
            if _readers[module] == 1:
                _trained[module] = module.training
        if any(module.training for module in modules):
            for model in models:
                model.eval()
    _inside.models = entered
    try:
        with torch.inference_mode():
            yield
    finally:
        _inside.models = outer
        with _lock:
            for module in modules:
                _readers[module] -= 1
                if _readers[module] == 0:
                    del _readers[module]
                    if _trained.pop(module):
                        module.training = True


def modules_of(*models: torch.nn.Module) -> list[torch.nn.Module]:
    """The models and all modules in them, each once.

    ``model.modules()`` names each of them, which takes several times as long.
    """
    found: dict[torch.nn.Module, None] = {}
    left: list[torch.nn.Module | None] = list(models)
    while left:
        module = left.pop()
        if module is not None and module not in found:
            found[module] = None
            left.extend(module._modules.values())
    return list(found)


def blocks(
    lengths: NDArray[np.integer[Any]], most_sessions: int, most_clicks: int | None = None
) -> Iterator[slice]:
    """Splits consecutive sessions into blocks with limits on sessions and clicks.

    Args:
        lengths: Clicks of each session, [num_sessions].
        most_sessions: Maximum number of sessions per block, at least 1.
        most_clicks: Maximum number of clicks in a block of several sessions; ``None``:
            :data:`MOST_CLICKS`. ``lengths`` can also count other work.
    """
    room = MOST_CLICKS if most_clicks is None else most_clicks
    ends = np.cumsum(lengths, dtype=np.int64)
    start = 0
    while start < len(ends):
        before = int(ends[start - 1]) if start else 0
        fitting = int(np.searchsorted(ends, before + room, side="right"))
        stop = min(max(fitting, start + 1), start + most_sessions)
        yield slice(start, min(stop, len(ends)))
        start = stop
