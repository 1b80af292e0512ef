"""A generator of HTTP load on loopback: requests at fixed times, whatever the server does.

Latency counts from the moment at which a request was to be sent, so that a server that stalls is
not spared the requests that wait for it.
"""

from __future__ import annotations

import asyncio
import json
import resource
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Load:
    """What a run of requests met.

    Args:
        latencies: Seconds of each request that was answered by 200.
        statuses: Answers by status; 0: no answer.
        seconds: Length of the run.
        cpu_share: Share of one core that the generator itself took.
    """

    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0
    cpu_share: float = 0.0

    def row(self) -> dict[str, float | int]:
        """Milliseconds at quantiles, requests per second, errors."""
        ms = np.asarray(self.latencies or [np.nan]) * 1e3
        p50, p90, p99 = (round(float(v), 2) for v in np.quantile(ms, (0.5, 0.9, 0.99)))
        answered = self.statuses[200]
        return {
            "p50_ms": p50,
            "p90_ms": p90,
            "p99_ms": p99,
            "requests_per_second": round(answered / max(self.seconds, 1e-9), 1),
            "errors": sum(self.statuses.values()) - answered,
            "generator_cpu_share": round(self.cpu_share, 2),
        }


def click_of(session: int, item: object) -> bytes:
    """The request of a click, as bytes."""
    body = json.dumps({"item": item, "k": 20}).encode()
    head = (
        f"POST /sessions/s{session}/clicks HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def get(path: str) -> bytes:
    """A request without a body, as bytes."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


async def run_load(
    port: int, request_of: Callable[[int], bytes], *, rate: float, seconds: float, connections: int
) -> Load:
    """Sends requests at a rate and waits for all answers.

    Args:
        port: Of the server on loopback.
        request_of: Number of a request -> its bytes.
        rate: Requests per second.
        seconds: How long.
        connections: Connections that are kept open.
    """
    load = Load()
    total, turn = int(rate * seconds), iter(range(int(rate * seconds)))
    cpu = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()

    async def worker() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in turn:
            due = start + number / rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            try:
                writer.write(request_of(number))
                status = await _answer(reader)
            except (OSError, asyncio.IncompleteReadError):
                status = 0
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            load.statuses[status] += 1
            if status == 200:
                load.latencies.append(time.perf_counter() - due)
        writer.close()

    await asyncio.gather(*(worker() for _ in range(min(connections, max(total, 1)))))
    load.seconds = time.perf_counter() - start
    now = resource.getrusage(resource.RUSAGE_SELF)
    load.cpu_share = (now.ru_utime + now.ru_stime - cpu.ru_utime - cpu.ru_stime) / load.seconds
    return load


async def _answer(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1])
