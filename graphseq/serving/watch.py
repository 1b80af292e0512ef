"""Whether a model is what it was: its weights, and the catalog that it has."""

from __future__ import annotations

import threading
from typing import Any

from torch import Tensor

from graphseq.models.base import SessionModel
from graphseq.models.use.inference import modules_of


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
        self._seen, self._held = self._state()
        self._revision = 0

    @property
    def revision(self) -> int:
        """How often a change was found."""
        with self._lock:
            state, held = self._state()
            if state != self._seen:
                self._seen, self._held = state, held
                self._revision += 1
            return self._revision

    def _state(self) -> tuple[list[int], list[Any]]:
        """Identity and version of what is watched; and that itself, since ids outlive nothing."""
        tensors: list[Tensor] = []
        for module in modules_of(*self.models):  # parameters() would name each of them
            for values in (module._parameters.values(), module._buffers.values()):
                tensors += [each for each in values if each is not None]
        held = [*(model.catalog for model in self.models), *tensors]
        versions = [0 if each.is_inference() else each._version for each in tensors]
        return [*map(id, held), *versions], held
