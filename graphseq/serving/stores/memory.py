"""Live sessions in the memory of this process."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from graphseq.arguments import whole
from graphseq.serving.stores.base import Change, Store, key_of

OVERHEAD = 400
"""Approximate bytes per session that Python adds to key, value and state."""


class _Entry:
    __slots__ = ("state", "touched", "value")

    def __init__(self) -> None:
        self.value: bytes | None = None
        self.state: bytes | None = None
        self.touched = 0.0


class MemoryStore(Store):
    """Live sessions in the memory of this process, bounded in number and bytes.

    Args:
        seconds: How long a session is kept after its last change.
        max_sessions: Sessions kept at most.
        max_bytes: Maximum bytes of ids, values and states, including the overhead of Python.
        clock: Monotonic seconds; for tests.
    """

    def __init__(
        self,
        *,
        seconds: float = 1_800.0,
        max_sessions: int = 1_000_000,
        max_bytes: int = 4 << 30,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(seconds=seconds, max_sessions=max_sessions)
        self.max_bytes = whole("max_bytes", max_bytes)
        self.num_bytes = 0
        self._clock = clock
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()  # longest unchanged first
        self._evicted = 0
        self._lock = threading.Lock()

    def get(self, sessions: Sequence[str]) -> list[tuple[bytes | None, bytes | None]]:
        with self._lock:
            self._expire()
            found = (self._entries.get(key_of(session)) for session in sessions)
            return [(None, None) if each is None else (each.value, each.state) for each in found]

    def update(self, changes: Sequence[tuple[str, Change]]) -> list[bytes]:
        keys = [key_of(session) for session, _ in changes]
        values = []
        with self._lock:
            self._expire()
            for key, (_, change) in zip(keys, changes, strict=True):
                entry = self._entries.get(key)
                value = change(None if entry is None else entry.value)
                if entry is None:
                    entry = self._entries[key] = _Entry()
                    self.num_bytes += len(key) + OVERHEAD
                self.num_bytes += len(value) - len(entry.value or b"")
                entry.value, entry.touched = value, self._clock()
                self._entries.move_to_end(key)
                values.append(value)
            self._evict()
        return values

    def put_states(self, states: Sequence[tuple[str, bytes]]) -> None:
        with self._lock:
            for session, state in states:
                entry = self._entries.get(key_of(session))
                if entry is not None:
                    self.num_bytes += len(state) - len(entry.state or b"")
                    entry.state = state
            self._evict()

    def delete(self, session: str) -> None:
        with self._lock:
            self._remove(key_of(session))

    def _expire(self) -> None:
        oldest = self._clock() - self.seconds
        while self._entries:
            key, entry = next(iter(self._entries.items()))
            if entry.touched > oldest:
                return
            self._remove(key)

    def _evict(self) -> None:
        while len(self._entries) > 1 and (
            len(self._entries) > self.max_sessions or self.num_bytes > self.max_bytes
        ):
            self._remove(next(iter(self._entries)))
            self._evicted += 1

    def _remove(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            kept = len(entry.value or b"") + len(entry.state or b"")
            self.num_bytes -= len(key) + OVERHEAD + kept

    @property
    def evicted(self) -> int:
        return self._evicted

    def __len__(self) -> int:
        with self._lock:
            self._expire()
            return len(self._entries)
