"""Live sessions in a Redis server, shared by processes on any number of machines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from graphseq.serving.extras import need
from graphseq.serving.stores.base import Change, Store, StoreUnavailable, key_of

MOST_TRIES = 100
"""Attempts of a change before it fails because other processes keep changing the session."""

SET = """
local now = redis.call('GET', KEYS[1])
if (now or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('ZADD', KEYS[3], ARGV[4], ARGV[5])
return 1
"""
"""Sets a value if it is still what it was; values are never empty."""

TIDY = """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
local over = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[2])
if over <= 0 then return 0 end
local gone = redis.call('ZPOPMIN', KEYS[1], over)
for place = 1, #gone, 2 do
  redis.call('DEL', ARGV[3] .. gone[place], ARGV[4] .. gone[place])
end
return over
"""
"""Deletes expired sessions and the oldest ones above the bound; returns how many of the latter."""


class RedisStore(Store):
    """Live sessions in a Redis server.

    Args:
        url: The server, as ``"redis://localhost:6379/0"``.
        seconds: How long a session is kept after its last change.
        max_sessions: Sessions kept at most.
        prefix: Prefix of all its keys.
        timeout: Seconds to wait for an answer.
        clock: Seconds since 1970; for tests.

    Raises:
        ValueError: If redis is missing, or the URL cannot be read.
    """

    def __init__(
        self,
        url: str,
        *,
        seconds: float = 1_800.0,
        max_sessions: int = 1_000_000,
        prefix: str = "graphseq",
        timeout: float = 1.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(seconds=seconds, max_sessions=max_sessions)
        self._redis: Any = need("redis", "RedisStore")
        self.url, self._clock, self._evicted = _shown(url), clock, 0
        self._value, self._state = f"{prefix}:v:".encode(), f"{prefix}:s:".encode()
        self._times = f"{prefix}:times".encode()
        self._server = self._redis.Redis.from_url(
            url, socket_timeout=timeout, socket_connect_timeout=timeout
        )
        self._set = self._server.register_script(SET)
        self._tidy = self._server.register_script(TIDY)

    def get(self, sessions: Sequence[str]) -> list[tuple[bytes | None, bytes | None]]:
        keys = [key_of(session) for session in sessions]
        if not keys:
            return []
        with self._answering():
            found = self._server.mget(
                [self._value + key for key in keys] + [self._state + key for key in keys]
            )
        values, states = found[: len(keys)], found[len(keys) :]
        return [
            (value, None if value is None else state)
            for value, state in zip(values, states, strict=True)
        ]

    def update(self, changes: Sequence[tuple[str, Change]]) -> list[bytes]:
        waiting = [
            (place, key_of(session), change) for place, (session, change) in enumerate(changes)
        ]
        values: dict[int, bytes] = {}
        with self._answering():
            for _ in range(MOST_TRIES):
                if not waiting:
                    break
                waiting = self._tried(waiting, values)
            oldest = self._clock() - self.seconds
            self._evicted += int(
                self._tidy([self._times], [oldest, self.max_sessions, self._value, self._state])
            )
        if waiting:
            raise StoreUnavailable(f"Other processes keep changing session {waiting[0][1]!r}.")
        return [values[place] for place in range(len(changes))]

    def _tried(
        self, waiting: list[tuple[int, bytes, Change]], values: dict[int, bytes]
    ) -> list[tuple[int, bytes, Change]]:
        """Tries the next change of each session; returns the remaining ones."""
        turn: dict[bytes, tuple[int, bytes, Change]] = {}
        for each in waiting:
            turn.setdefault(each[1], each)
        now = self._server.mget([self._value + key for key in turn])
        pipe = self._server.pipeline(transaction=False)
        made = []
        milliseconds = max(1, int(self.seconds * 1_000))
        for (place, key, change), before in zip(turn.values(), now, strict=True):
            value = change(before)
            made.append((place, value))
            self._set(
                [self._value + key, self._state + key, self._times],
                [before or b"", value, milliseconds, self._clock(), key],
                client=pipe,
            )
        done = set()
        for (place, value), answer in zip(made, pipe.execute(), strict=True):
            if int(answer):
                values[place] = value
                done.add(place)
        return [each for each in waiting if each[0] not in done]

    def put_states(self, states: Sequence[tuple[str, bytes]]) -> None:
        milliseconds = max(1, int(self.seconds * 1_000))
        with self._answering():
            pipe = self._server.pipeline(transaction=False)
            for session, state in states:
                pipe.set(self._state + key_of(session), state, px=milliseconds)
            pipe.execute()

    def delete(self, session: str) -> None:
        key = key_of(session)
        with self._answering():
            self._server.delete(self._value + key, self._state + key)
            self._server.zrem(self._times, key)

    def check(self) -> None:
        with self._answering():
            self._server.ping()

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except (self._redis.RedisError, OSError) as error:
            reason = str(error).rstrip(".")
            raise StoreUnavailable(f"Redis at {self.url} does not answer: {reason}.") from error

    @property
    def evicted(self) -> int:
        return self._evicted

    def __len__(self) -> int:
        with self._answering():
            return int(self._server.zcount(self._times, self._clock() - self.seconds, "+inf"))

    def close(self) -> None:
        self._server.close()


def _shown(url: str) -> str:
    """An address without its user, password and options, which answers must not tell."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
