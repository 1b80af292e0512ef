"""Stores of live sessions: in memory, in a file, in a server."""

from __future__ import annotations

from graphseq.serving.stores.base import Store, StoreUnavailable
from graphseq.serving.stores.lmdb_store import LMDBStore
from graphseq.serving.stores.memory import MemoryStore
from graphseq.serving.stores.redis_store import RedisStore

__all__ = ["LMDBStore", "MemoryStore", "RedisStore", "Store", "StoreUnavailable", "open_store"]

REDIS = ("redis://", "rediss://", "unix://")


def open_store(where: str, *, seconds: float = 1_800.0, max_sessions: int = 1_000_000) -> Store:
    """Opens the store with this name.

    Args:
        where: ``"memory"``, ``"redis://..."`` (also ``rediss://``, ``unix://``), or a folder for
            LMDB.
        seconds: How long a session is kept after its last change.
        max_sessions: Sessions kept at most.

    Raises:
        ValueError: If a library is missing, or the store cannot be opened.
    """
    if not isinstance(where, str) or not where:
        raise ValueError(
            f"A store is 'memory', a folder for LMDB or redis://..., as text, got {where!r}."
        )
    if "://" in where and not where.startswith(REDIS):
        raise ValueError(f"The address of a store begins with redis://, got {where!r}.")
    if where == "memory":
        return MemoryStore(seconds=seconds, max_sessions=max_sessions)
    if where.startswith(REDIS):
        return RedisStore(where, seconds=seconds, max_sessions=max_sessions)
    return LMDBStore(where, seconds=seconds, max_sessions=max_sessions)
