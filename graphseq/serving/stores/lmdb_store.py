"""Live sessions in an LMDB file, which survives the process and can be shared by several."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from os import PathLike, fspath
from typing import Any

from graphseq.arguments import flag, whole
from graphseq.serving.extras import need
from graphseq.serving.stores.base import Change, Store, StoreUnavailable, key_of

STAMP = struct.Struct(">Q")
"""Time of the last change in nanoseconds, as bytes that sort by time."""

FULL = 0.6
"""Share of pages in use above which the oldest sessions are evicted."""

SWEPT = 16
"""Expired sessions that one change removes at most, besides its own work."""


class LMDBStore(Store):
    """Live sessions in a folder of LMDB: the default of a service on one machine.

    An answered change survives a killed process (``kill -9``), and with ``durable`` also a power
    cut, at the cost of waiting for the disk.

    Args:
        folder: The folder; it is created, but not its parent.
        seconds: How long a session is kept after its last change.
        max_sessions: Sessions kept at most.
        max_bytes: Maximum size of the file; the oldest sessions are evicted when it fills up.
        durable: Whether a change waits for the disk.
        clock: Seconds since 1970; for tests.

    Raises:
        ValueError: If lmdb is missing, or the folder cannot be opened.
    """

    def __init__(
        self,
        folder: str | PathLike[str],
        *,
        seconds: float = 1_800.0,
        max_sessions: int = 1_000_000,
        max_bytes: int = 4 << 30,
        durable: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(seconds=seconds, max_sessions=max_sessions)
        self._lmdb: Any = need("lmdb", "LMDBStore")
        self.folder, self._clock, self._evicted = fspath(folder), clock, 0
        durable, max_bytes = (
            flag("durable", durable),
            whole("max_bytes", max_bytes, at_least=1 << 20),
        )
        try:
            self._env = self._lmdb.open(
                self.folder,
                map_size=max_bytes,
                max_dbs=3,
                sync=durable,
                metasync=durable,
            )
        except self._lmdb.Error as error:
            raise ValueError(f"{folder} cannot be opened as a store of LMDB: {error}.") from error
        self._values, self._states, self._times = (
            self._env.open_db(name) for name in (b"values", b"states", b"times")
        )
        self._most_pages = max_bytes // int(self._env.stat()["psize"])

    def get(self, sessions: Sequence[str]) -> list[tuple[bytes | None, bytes | None]]:
        oldest = self._stamp(-self.seconds)
        found: list[tuple[bytes | None, bytes | None]] = []
        with self._env.begin() as read:
            for session in sessions:
                key = key_of(session)
                stamped = read.get(key, db=self._values)
                if stamped is None or stamped[: STAMP.size] <= oldest:
                    found.append((None, None))
                else:
                    found.append((stamped[STAMP.size :], read.get(key, db=self._states)))
        return found

    def update(self, changes: Sequence[tuple[str, Change]]) -> list[bytes]:
        keyed = [(key_of(session), change) for session, change in changes]
        return self._written(lambda write: self._update(write, keyed))

    def _update(self, write: Any, keyed: list[tuple[bytes, Change]]) -> list[bytes]:
        oldest, values = self._stamp(-self.seconds), []
        self._sweep(write, oldest)
        for key, change in keyed:
            stamped = write.get(key, db=self._values)
            if stamped is not None and stamped[: STAMP.size] <= oldest:
                self._remove(write, key, stamped)
                stamped = None
            value = change(None if stamped is None else stamped[STAMP.size :])
            if stamped is not None:
                write.delete(stamped[: STAMP.size] + key, db=self._times)
            stamp = self._stamp()
            write.put(key, stamp + value, db=self._values)
            write.put(stamp + key, b"", db=self._times)
            values.append(value)
        self._evict(write, write.stat(self._values)["entries"] - self.max_sessions)
        return values

    def put_states(self, states: Sequence[tuple[str, bytes]]) -> None:
        keyed = [(key_of(session), state) for session, state in states]

        def put(write: Any) -> None:
            for key, state in keyed:
                if write.get(key, db=self._values) is not None:
                    write.put(key, state, db=self._states)

        self._written(put)

    def delete(self, session: str) -> None:
        key = key_of(session)

        def remove(write: Any) -> None:
            stamped = write.get(key, db=self._values)
            if stamped is not None:
                self._remove(write, key, stamped)

        self._written(remove)

    def _written(self, work: Callable[[Any], Any]) -> Any:
        """Does the work in one transaction; evicts the oldest sessions from a nearly full file."""
        try:
            with self._env.begin(write=True) as write:
                # A file that is full cannot even forget: pages are copied before they change.
                if self._pages(write) > FULL * self._most_pages:
                    self._evict(write, max(1, write.stat(self._values)["entries"] // 10))
                return work(write)
        except self._lmdb.Error as error:
            raise StoreUnavailable(f"The store {self.folder} does not answer: {error}.") from error

    def _pages(self, write: Any) -> int:
        """Pages in use."""
        stats = [write.stat(db) for db in (self._values, self._states, self._times)]
        return sum(s["branch_pages"] + s["leaf_pages"] + s["overflow_pages"] for s in stats)

    def _sweep(self, write: Any, oldest: bytes) -> None:
        with write.cursor(self._times) as cursor:
            for _ in range(SWEPT):
                if not cursor.first() or cursor.key()[: STAMP.size] > oldest:
                    return
                key = cursor.key()[STAMP.size :]
                self._remove(write, key, write.get(key, db=self._values))

    def _evict(self, write: Any, number: int) -> None:
        with write.cursor(self._times) as cursor:
            for _ in range(number):
                if not cursor.first():
                    return
                key = cursor.key()[STAMP.size :]
                self._remove(write, key, write.get(key, db=self._values))
                self._evicted += 1

    def _remove(self, write: Any, key: bytes, stamped: bytes) -> None:
        write.delete(stamped[: STAMP.size] + key, db=self._times)
        write.delete(key, db=self._values)
        write.delete(key, db=self._states)

    def _stamp(self, later: float = 0.0) -> bytes:
        return STAMP.pack(max(0, int((self._clock() + later) * 1e9)))

    @property
    def evicted(self) -> int:
        return self._evicted

    def __len__(self) -> int:
        oldest = self._stamp(-self.seconds)
        with self._env.begin() as read:
            total = int(read.stat(self._times)["entries"])
            with read.cursor(self._times) as cursor:
                over = 0
                for key in cursor.iternext(keys=True, values=False):
                    if key[: STAMP.size] > oldest:
                        break
                    over += 1
        return total - over

    def close(self) -> None:
        self._env.close()
