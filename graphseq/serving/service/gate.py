"""Checks before every request (key, rate, size), metrics, and one log line per request."""

from __future__ import annotations

import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from graphseq.serving.extras import need
from graphseq.serving.service.measures import Measures

logger = logging.getLogger("graphseq.serving.access")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN = ("/health", "/ready", "/")
"""Paths without a key: monitoring needs them, and the page itself contains no data."""

ROUTES = (
    "sessions",
    "batch",
    "why",
    "items",
    "models",
    "reload",
    "metrics",
    "health",
    "ready",
    "docs",
)
"""First parts of paths that metrics name; all others count as ``other``."""

MOST_CLIENTS = 100_000

MOST_PATH = 4_000
"""Characters of a path."""

MOST_HEADERS = 1 << 14
"""Bytes of all values of headers."""

JSON = (b"application/json", b"")
"""Accepted content types; without one, the body is taken as JSON."""


@contextmanager
def log_requests() -> Iterator[None]:
    """Writes one line of pure JSON per request to standard error, for a while.

    Warnings of models, which name items, stay out of the log. Loggers are as they were afterwards.
    """
    models = logging.getLogger("graphseq.models")
    before = [(each, each.level, each.propagate) for each in (logger, models)]
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    models.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        for each, level, propagate in before:
            each.setLevel(level)
            each.propagate = propagate


class Gate:
    """An ASGI application that wraps another one.

    Log lines and metrics contain the kind of path, the status and the time, but no sessions,
    addresses or items.

    Args:
        app: The application that answers.
        measures: Counts the requests.
        key: The key to send as ``X-API-Key`` or ``Authorization: Bearer``; ``None``: none needed.
        rate: Requests per second per address, with bursts of twice as many; 0: no limit.
    """

    def __init__(
        self, app: App, measures: Measures, *, key: str | None = None, rate: float = 0.0
    ) -> None:
        self.app, self.measures = app, measures
        self._key = None if key is None else key.encode()
        self._rate = rate
        library = need("cachetools", "The limit of requests", extra="server")
        self._tokens: Any = library.LRUCache(MOST_CLIENTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def noted(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            refused = self._refused(scope)
            if refused is None:
                await self.app(scope, receive, noted)
            else:
                await _send(noted, *refused)
        finally:
            seconds = time.perf_counter() - started
            first = scope["path"].strip("/").partition("/")[0]
            route = first if first in ROUTES else "page" if not first else "other"
            self.measures.answered(route, status, seconds)
            if logger.isEnabledFor(logging.INFO):
                line = {
                    "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                    "route": route,
                    "method": scope["method"],
                    "status": status,
                    "ms": round(seconds * 1e3, 2),
                }
                logger.info(json.dumps(line))

    def _refused(self, scope: Scope) -> tuple[int, str] | None:
        """Status and reason, if this request is refused."""
        if len(scope["path"]) > MOST_PATH:
            return 414, f"The path has more than {MOST_PATH} characters."
        headers = dict(scope["headers"])
        if sum(map(len, headers.values())) > MOST_HEADERS:
            return 431, f"The headers have more than {MOST_HEADERS} bytes."
        if scope["path"] in OPEN:
            return None
        if self._key is not None and not hmac.compare_digest(_key_of(headers), self._key):
            return 401, "The API key is missing or wrong: send it as X-API-Key."
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if scope["method"] == "POST" and kind not in JSON:
            return 415, "The body must be JSON: send it with Content-Type: application/json."
        if b"content-encoding" in headers:
            return 415, "The body must be plain JSON: send it without Content-Encoding."
        client = (scope.get("client") or ("",))[0]
        if self._rate and not self._has_token(client):
            return (
                429,
                f"More than {self._rate:g} requests per second from this address: slow down.",
            )
        return None

    def _has_token(self, client: str) -> bool:
        now, most = time.monotonic(), max(1.0, 2 * self._rate)
        left, before = self._tokens.get(client, (most, now))
        left = min(most, left + (now - before) * self._rate)
        self._tokens[client] = (left - 1 if left >= 1 else left, now)
        return bool(left >= 1)


def _key_of(headers: dict[bytes, bytes]) -> bytes:
    given = headers.get(b"x-api-key", b"")
    if not given:
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        given = given.strip() if scheme.lower() == b"bearer" else b""
    return given


async def _send(send: Send, status: int, reason: str) -> None:
    body = json.dumps({"error": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status in (429, 503):
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
