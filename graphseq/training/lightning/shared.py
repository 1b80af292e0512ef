"""Changes to the whole process that last while any training runs, in any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager


class Shared:
    """A change that the first of several trainings makes, and the last one undoes.

    If each restored what it found, the first to end would undo the change for the others, and the
    last would restore what the first had made.

    Args:
        change: Makes it within a block.
    """

    def __init__(self, change: Callable[[], AbstractContextManager[None]]) -> None:
        self.change = change
        self._lock = threading.Lock()
        self._running = 0
        self._open: AbstractContextManager[None] | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._running == 0:
                self._open = self.change()
                self._open.__enter__()
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                if self._running == 0 and self._open is not None:
                    self._open.__exit__(None, None, None)
