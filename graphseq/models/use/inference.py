"""Reading a model that others read at the same time: its mode, and how much is read at once."""

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
"""Clicks that a model reads at once, unless one session alone has more: bounds the memory."""

MOST_ENTRIES = 2**20
"""Entries of lists that a counting model sums at once, unless one session alone has more."""

_lock = threading.Lock()
_readers: WeakKeyDictionary[torch.nn.Module, int] = WeakKeyDictionary()
_trained: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()


@contextmanager
def inference(*models: torch.nn.Module) -> Iterator[None]:
    """Models in evaluation mode, without gradients; each module is as it was afterwards.

    Any number of threads may be inside with the same model: the first one sets the mode and the
    last one restores it. Nothing is written to a model that is in evaluation mode already.

    Args:
        models: What is read within the block.
    """
    modules = list(dict.fromkeys(module for model in models for module in model.modules()))
    with _lock:
        for module in modules:
            _readers[module] = _readers.get(module, 0) + 1
            if _readers[module] == 1:
                _trained[module] = module.training
        for model in models:
            if any(module.training for module in model.modules()):
                model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        with _lock:
            for module in modules:
                _readers[module] -= 1
                if _readers[module] == 0:
                    del _readers[module]
                    if _trained.pop(module):
                        module.training = True


def blocks(
    lengths: NDArray[np.integer[Any]], most_sessions: int, most_clicks: int | None = None
) -> Iterator[slice]:
    """Cuts sessions in a row into blocks of so many sessions and so many clicks at most.

    Args:
        lengths: Clicks of each session, [num_sessions].
        most_sessions: Sessions of a block, at least 1.
        most_clicks: Clicks of a block of more than one session; ``None``: :data:`MOST_CLICKS`.
            Other work is cut the same way, where ``lengths`` count it.
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
