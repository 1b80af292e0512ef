"""Concurrent requests are answered in one batch; excess requests are refused immediately."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from graphseq.arguments import whole

Asked = TypeVar("Asked")
Given = TypeVar("Given")


class Overloaded(RuntimeError):  # noqa: N818  # a state, not a mistake
    """Too many requests are waiting."""


class Batcher(Generic[Asked, Given]):
    """Passes requests to one thread, in batches of all that wait when it is free.

    No request waits for a batch to fill: a single one starts immediately. While one batch is
    computed, the next one collects, so that batches grow with the load.

    Args:
        answer: Answers requests in their order; runs in one thread, never concurrently.
        max_batch: Requests answered together at most.
        max_waiting: Requests that may wait; more are refused with :class:`Overloaded`.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Asked]], Sequence[Given]],
        *,
        max_batch: int = 64,
        max_waiting: int = 1_024,
    ) -> None:
        self.max_batch = whole("max_batch", max_batch)
        self.max_waiting = whole("max_waiting", max_waiting)
        self._answer = answer
        self._waiting: deque[tuple[Asked, asyncio.Future[Given]]] = deque()
        self._thread = ThreadPoolExecutor(1, "graphseq-batches")
        self._task: asyncio.Task[None] | None = None

    async def ask(self, request: Asked) -> Given:
        """The answer to one request.

        Raises:
            Overloaded: If too many requests wait.
        """
        if len(self._waiting) >= self.max_waiting:
            raise Overloaded(
                f"{len(self._waiting)} requests are waiting already: try again in a moment."
            )
        future: asyncio.Future[Given] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        while self._waiting:
            size = min(self.max_batch, len(self._waiting))
            batch = [self._waiting.popleft() for _ in range(size)]
            batch = [(request, future) for request, future in batch if not future.done()]
            if batch:
                await self._answered(batch)

    async def _answered(self, batch: list[tuple[Asked, asyncio.Future[Given]]]) -> None:
        loop = asyncio.get_running_loop()
        requests = [request for request, _ in batch]
        try:
            given = await loop.run_in_executor(self._thread, self._answer, requests)
        except Exception as error:
            if len(batch) > 1 and isinstance(error, ValueError):
                for each in batch:  # one of them is wrong: only that one fails
                    await self._answered([each])
                return
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), reply in zip(batch, given, strict=True):
            if not future.done():  # the client may have disconnected
                future.set_result(reply)

    def close(self) -> None:
        """Stops the thread after its current batch."""
        self._thread.shutdown(wait=True)
