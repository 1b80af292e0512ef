"""Whether a model is what it was: its weights, and the catalog that it has."""

from __future__ import annotations

import threading
from typing import Any

from torch import Tensor

from graphseq.models.base import SessionModel


class Watch:
    """Counts the changes of models; nothing that was made before a change is used after it.

    A change is another tensor, a tensor that was written to, or another catalog. It is told by
    torch's own counters, without a look at the numbers.

    Args:
        models: What is watched.
    """

    def __init__(self, *models: SessionModel) -> None:
        self.models = models
        self._lock = threading.Lock()
        self._seen = self._state()
        self._revision = 0

    @property
    def revision(self) -> int:
        """How often a change was found."""
        with self._lock:
            state = self._state()
            if len(state) != len(self._seen) or any(
                a is not b or v != w for (a, v), (b, w) in zip(state, self._seen, strict=True)
            ):
                self._seen = state
                self._revision += 1
            return self._revision

    def _state(self) -> list[tuple[Any, int]]:
        state: list[tuple[Any, int]] = []
        for model in self.models:
            for module in model.modules():  # parameters() would name each of them
                for tensor in (*module._parameters.values(), *module._buffers.values()):
                    if tensor is not None:
                        state.append((tensor, _version(tensor)))
            state.append((model.catalog, 0))
        return state


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
