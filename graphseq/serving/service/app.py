"""The ASGI application: its paths, and errors that are one sentence each."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from itertools import pairwise
from typing import Any

import pandas as pd
from litestar import Litestar, Response, delete, get, post
from litestar.config.app import AppConfig
from litestar.connection import Request as HTTPRequest
from litestar.exceptions import HTTPException, SerializationException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, JSONBody

from graphseq.models.use.recommend import item_vocabulary
from graphseq.ragged import ptr_of
from graphseq.serving.live import Click, LiveSessions, Reply, Request
from graphseq.serving.recommender import Recommender
from graphseq.serving.service.batcher import Batcher, Overloaded
from graphseq.serving.service.gate import App, Gate
from graphseq.serving.service.measures import Measures
from graphseq.serving.service.messages import (
    BatchAnswer,
    BatchBody,
    ClickBody,
    ClickReason,
    EdgeReason,
    ErrorAnswer,
    SessionAnswer,
    WhyAnswer,
    WhyBody,
    recommended,
)
from graphseq.serving.service.paths_page import PathsPage
from graphseq.serving.service.reasons import reasons_of
from graphseq.serving.service.titles import Titles
from graphseq.serving.stores import StoreUnavailable

logger = logging.getLogger(__name__)

Asking = HTTPRequest[Any, Any, Any]

MOST_BYTES = 1 << 16
"""Largest body in bytes."""

MOST_AHEAD = 86_400.0
"""Seconds that the time of a click may lie ahead of the clock here."""

MOST_QUERY = 100
"""Longest search text in characters."""

WRONG = {
    400: ResponseSpec(ErrorAnswer, generate_examples=False, description="The request is wrong.")
}
"""What a wrong request gets, for the schema."""

PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
"""The page loads nothing from other servers."""


class Service:
    """What the paths share: the sessions, the batches of requests, and how a model is reloaded.

    Args:
        live: The sessions.
        load: Loads the recommender for ``/reload``; ``None``: reloading is refused.
        beside: Further recommenders by name, which ``/batch`` and the page ask; none has the name
            of the first one, its family in small letters.
        max_k: Items that one request may ask for.
        max_batch: Requests answered together.
        max_waiting: Requests that may wait; further ones get 503.

    Raises:
        ValueError: If one beside has the name of the first.
    """

    def __init__(
        self,
        live: LiveSessions,
        *,
        load: Callable[[], Recommender] | None = None,
        beside: Mapping[str, Recommender] | None = None,
        max_k: int = 100,
        max_batch: int = 64,
        max_waiting: int = 1_024,
    ) -> None:
        self.live, self.load, self.max_k = live, load, max_k
        self.beside = dict(beside or {})
        first = name_of_first(live.recommender)
        if first in self.beside:
            raise ValueError(
                f"beside has {first!r}, the name of the model that answers clicks: name it "
                "otherwise."
            )
        self._titles: tuple[Recommender, Titles] | None = None
        self.measures = Measures(live)
        self.batcher: Batcher[Request, Reply] = Batcher(
            self._answer, max_batch=max_batch, max_waiting=max_waiting
        )
        self._loading = asyncio.Lock()

    def _answer(self, requests: Sequence[Request]) -> list[Reply]:
        self.measures.batches.observe(len(requests))
        return self.live.answer(requests)

    def check_k(self, k: int) -> None:
        """Refuses to recommend more items than one request may ask for."""
        if k > self.max_k:
            raise HTTPException(status_code=400, detail=f"k must be at most {self.max_k}, got {k}.")

    @property
    def models(self) -> list[str]:
        """Names of the recommenders; the first one answers clicks."""
        return [name_of_first(self.live.recommender), *self.beside]

    def recommender(self, name: str | None) -> Recommender:
        """The recommender of a name."""
        if name is None or name == self.models[0]:
            return self.live.recommender
        if name not in self.beside:
            known = ", ".join(self.models)
            raise HTTPException(status_code=400, detail=f"model is one of {known}, got {name!r}.")
        return self.beside[name]

    def titles(self) -> Titles:
        """Titles of the items of the recommender that answers clicks."""
        now, recommender = self._titles, self.live.recommender
        if now is None or now[0] is not recommender:
            now = self._titles = (recommender, Titles(recommender))
        return now[1]

    async def reload(self) -> str:
        """Loads the model again, replaces the old one, and returns the new version.

        Requests in progress keep the old model, so that none is dropped.
        """
        if self.load is None:
            raise HTTPException(status_code=404, detail="This service has no folder to load from.")
        async with self._loading:
            recommender = await asyncio.to_thread(self.load)
            await asyncio.to_thread(warm_up, recommender)
            self.live.recommender = recommender
        logger.info("Model version %s answers now.", recommender.version)
        return recommender.version


def name_of_first(recommender: Recommender) -> str:
    """The name of the recommender that answers clicks: its family."""
    return type(recommender.model).__name__.lower()


def warm_up(recommender: Recommender) -> None:
    """Answers one session, so that the first request finds everything built."""
    first = recommender.model.catalog
    items = [0] if first is None else first.items.ids[:1].tolist()
    LiveSessions(recommender).click("warm up", items[0], k=1)


def check_session(session: str) -> None:
    """Refuses an id that is not UTF-8: several such ids would be one session."""
    if "\N{REPLACEMENT CHARACTER}" in session:
        raise HTTPException(status_code=400, detail="The session id in the path must be UTF-8.")


@post("/sessions/{session:str}/clicks", status_code=200, responses=WRONG)
async def click(
    session: FromPath[str], data: JSONBody[ClickBody], request: Asking
) -> SessionAnswer:
    """Takes clicks of a session and recommends, in one round."""
    service: Service = request.app.state.service
    check_session(session)
    service.check_k(data.k)
    if (data.item is None) == (data.clicks is None):
        raise HTTPException(status_code=400, detail="The body has either item or clicks.")
    listed = [data] if data.clicks is None else data.clicks
    clicks = []
    latest = time.time() + MOST_AHEAD
    for each in listed:
        if each.time is not None and not each.time <= latest:
            raise HTTPException(
                status_code=400,
                detail=f"time must be seconds since 1970 and not lie in the future, got "
                f"{each.time:g}: are these milliseconds?",
            )
        # With an id of its own a click counts once, also where a batch is tried again.
        clicks.append(Click(each.item, each.time, each.event or uuid.uuid4().hex[:12]))
    asked = Request(session, clicks, data.k, data.user, data.exclude_seen, data.exclude)
    return SessionAnswer.of(await service.batcher.ask(asked))


@get("/sessions/{session:str}/recommendations", responses=WRONG)
async def recommendations(
    session: FromPath[str],
    request: Asking,
    k: FromQuery[int] = 10,
    exclude_seen: FromQuery[bool] = False,
    at: FromQuery[float | None] = None,
) -> SessionAnswer:
    """Recommends for a session without a new click; ``at`` is the time, for models that read it."""
    service: Service = request.app.state.service
    check_session(session)
    if k < 0:
        raise HTTPException(status_code=400, detail=f"k must be at least 0, got {k}.")
    service.check_k(k)
    asked = Request(session, k=k, exclude_seen=exclude_seen, time=at)
    return SessionAnswer.of(await service.batcher.ask(asked))


@delete("/sessions/{session:str}", responses=WRONG)
async def forget(session: FromPath[str], request: Asking) -> None:
    """Forgets a session."""
    check_session(session)
    await asyncio.to_thread(request.app.state.service.live.forget, session)


def unknown_in(sessions: Sequence[Sequence[Any]], recommender: Recommender) -> list[int]:
    """Clicks of each session on items that the model does not know."""
    flat = pd.Series([item for session in sessions for item in session], dtype=object)
    known = flat.isin(item_vocabulary(recommender.model).ids.astype(object)).to_numpy()
    ends = ptr_of([len(session) for session in sessions])
    return [int((~known[start:stop]).sum()) for start, stop in pairwise(ends.tolist())]


def times_of(
    given: Sequence[Sequence[float]] | None, sessions: Sequence[Sequence[Any]], wanted: bool
) -> Sequence[Sequence[float]] | None:
    """Times of clicks, for a model that reads them; left out, they are now, as those of clicks."""
    if given is None and wanted:
        now = time.time()
        return [[now] * len(session) for session in sessions]
    return given if wanted else None


@post("/batch", status_code=200, responses=WRONG)
async def batch(data: JSONBody[BatchBody], request: Asking) -> BatchAnswer:
    """Recommends for sessions that are not stored."""
    service: Service = request.app.state.service
    service.check_k(data.k)
    recommender = service.recommender(data.model)

    def answer() -> BatchAnswer:
        started = time.perf_counter()
        found = recommender.recommend(
            data.sessions,
            data.k,
            exclude_seen=data.exclude_seen,
            times=times_of(data.times, data.sessions, recommender.reads_times),
        )
        milliseconds = round((time.perf_counter() - started) * 1e3, 3)
        listed = list(dict.fromkeys(item for each in found for item, _ in each))
        return BatchAnswer(
            [recommended(each) for each in found],
            recommender.version,
            milliseconds,
            unknown_in(data.sessions, recommender),
            service.titles().of(listed),
        )

    return await asyncio.to_thread(answer)


@post("/why", status_code=200, responses=WRONG)
async def why(data: JSONBody[WhyBody], request: Asking) -> WhyAnswer:
    """Why an item is recommended: what its score loses without each click and each transition."""
    model = request.app.state.service.recommender(data.model).model

    def answer() -> WhyAnswer:
        given = None if data.times is None else [data.times]
        times = times_of(given, [data.session], model.reads_times)
        found = reasons_of(model, data.session, data.item, None if times is None else times[0])
        return WhyAnswer(
            [ClickReason(*each) for each in found.clicks],
            [EdgeReason(*each) for each in found.edges],
        )

    return await asyncio.to_thread(answer)


@get("/models")
async def models(request: Asking) -> dict[str, list[str]]:
    """Names that ``/batch`` and ``/why`` accept as ``model``."""
    return {"models": request.app.state.service.models}


@get("/items", responses=WRONG)
async def items(request: Asking, q: FromQuery[str] = "") -> dict[str, list[dict[str, Any]]]:
    """Items by title or id: exact matches first, then the most clicked."""
    service: Service = request.app.state.service
    if len(q) > MOST_QUERY:
        raise HTTPException(status_code=400, detail=f"q has at most {MOST_QUERY} characters.")
    return {"items": await asyncio.to_thread(lambda: service.titles().find(q))}


@get("/", media_type="text/html", include_in_schema=False)
async def page() -> Response[bytes]:
    """The page for trying out a session."""
    text = files("graphseq.serving.service").joinpath("page.html").read_bytes()
    return Response(text, media_type="text/html", headers=PAGE_HEADERS)


@post("/reload", status_code=200)
async def reload(request: Asking) -> dict[str, str]:
    """Loads the model again from its folder; no request is dropped meanwhile."""
    return {"model_version": await request.app.state.service.reload()}


@get("/health")
async def health() -> dict[str, str]:
    """Whether the process runs."""
    return {"status": "ok"}


@get("/ready")
async def ready(request: Asking) -> dict[str, str]:
    """Whether requests can be answered: 503 while the store does not answer."""
    live: LiveSessions = request.app.state.service.live
    await asyncio.to_thread(live.store.check)
    return {"status": "ready", "model_version": live.recommender.version}


@get("/metrics", media_type="text/plain; version=0.0.4")
async def metrics(request: Asking) -> bytes:
    """Metrics in the text format of Prometheus."""
    return await asyncio.to_thread(request.app.state.service.measures.text)


PLAIN = {
    "Not Found": "There is no path {path!r}: /docs lists those that there are.",
    "Method Not Allowed": "The path {path!r} takes no {method}: /docs lists what it takes.",
    "Request Entity Too Large": f"The body has more than {MOST_BYTES} bytes: send less at once.",
}
"""Sentences instead of the names of statuses."""


def _error(status: int, reason: str, headers: Mapping[str, str] | None = None) -> Response[Any]:
    more = {"Retry-After": "1"} if status == 503 else {}
    return Response({"error": reason}, status_code=status, headers={**(headers or {}), **more})


def _on_http(request: Asking, error: HTTPException) -> Response[Any]:
    reason = error.detail
    if isinstance(error.__cause__, SerializationException):
        reason = f"The body cannot be read: {str(error.__cause__).rstrip('.')}."
    elif isinstance(error.extra, list) and error.extra:
        parts = [f"{each.get('key', 'body')}: {each['message']}" for each in error.extra]
        reason = f"The request is wrong: {'; '.join(parts)}."
        if parts == ["data: 'data'"]:
            reason = "The request has no body: send JSON."
    elif reason in PLAIN:
        reason = PLAIN[reason].format(path=request.scope["path"][:80], method=request.method)
    return _error(error.status_code, reason, error.headers)


def _on_deep(_: Any, error: RecursionError) -> Response[Any]:
    return _error(400, "The body cannot be read: its JSON is nested too deep.")


def _on_value(_: Any, error: ValueError) -> Response[Any]:
    return _error(400, " ".join(str(error).split()))


def _on_busy(_: Any, error: Exception) -> Response[Any]:
    return _error(503, str(error))


def _on_other(_: Any, error: Exception) -> Response[Any]:
    number = uuid.uuid4().hex[:8]
    logger.error("Error %s", number, exc_info=error)
    return _error(
        500, f"The service failed on this request; its log describes it as error {number}."
    )


def build_app(service: Service, *, key: str | None = None, rate: float = 0.0) -> App:
    """The ASGI application of a service.

    Args:
        service: The service behind the paths.
        key: The API key; ``None``: anyone may ask.
        rate: Requests per second per address; 0: no limit.
    """

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.batcher.close)
        service.live.store.close()

    def with_service(config: AppConfig) -> AppConfig:
        config.state["service"] = service
        return config

    app = Litestar(
        [
            click,
            recommendations,
            forget,
            batch,
            why,
            models,
            items,
            page,
            reload,
            health,
            ready,
            metrics,
        ],
        on_app_init=[with_service],
        lifespan=[lifespan],
        request_max_body_size=MOST_BYTES,
        openapi_config=OpenAPIConfig(
            title="graphseq",
            version="1",
            path="/docs",
            use_handler_docstrings=True,
            render_plugins=[PathsPage()],
        ),
        exception_handlers={
            HTTPException: _on_http,
            RecursionError: _on_deep,
            ValueError: _on_value,
            StoreUnavailable: _on_busy,
            Overloaded: _on_busy,
            Exception: _on_other,
        },
        logging_config=None,
    )
    return Gate(app, service.measures, key=key, rate=rate)  # type: ignore[arg-type]
