"""Starts the service in one process or several, and lets it end in peace."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from graphseq.serving.extras import need
from graphseq.serving.live import LiveSessions
from graphseq.serving.persistence import load
from graphseq.serving.recommender import Recommender
from graphseq.serving.service.gate import App
from graphseq.serving.stores import open_store

SETTINGS = "GRAPHSEQ_SERVICE"
"""The variable by which the processes of a service know what to serve."""

KEY = "GRAPHSEQ_API_KEY"
"""The variable that holds the API key, which no command line shows."""


@dataclass(frozen=True)
class Settings:
    """How a service runs.

    Args:
        folder: A saved recommender or model.
        beside: Further such folders, which ``/batch`` and the page ask by their names.
        store: ``"memory"``, a folder for LMDB, or the URL of a Redis server.
        host, port: Where it listens.
        processes: Processes that answer; several need a store that they share.
        seconds: How long a session is kept after its last click.
        max_sessions: Sessions kept at most.
        max_k: Items that one request may ask for.
        max_waiting: Requests that may wait in a process; more get 503.
        rate: Requests per second of one address and process; 0: no limit.

    Raises:
        ValueError: If several processes have no store that they share.
    """

    folder: str
    beside: Sequence[str] = ()
    store: str = "memory"
    host: str = "127.0.0.1"
    port: int = 8_000
    processes: int = 1
    seconds: float = 1_800.0
    max_sessions: int = 1_000_000
    max_k: int = 100
    max_waiting: int = 1_024
    rate: float = 0.0

    def __post_init__(self) -> None:
        if self.processes > 1 and self.store == "memory":
            raise ValueError(
                f"{self.processes} processes need a store that they share: pass --store with a "
                "folder (LMDB) or redis://..."
            )


def recommender_in(folder: str) -> Recommender:
    """The recommender of a folder; of a model, one without an index."""
    found = load(folder)
    return found if isinstance(found, Recommender) else Recommender(found)


def app_of(settings: Settings, key: str | None = None) -> App:
    """The application of these settings, with its model loaded."""
    need("litestar", "The service", extra="server")
    from graphseq.serving.service.app import Service, build_app, warm_up  # it imports litestar

    recommender = recommender_in(settings.folder)
    warm_up(recommender)
    store = open_store(settings.store, seconds=settings.seconds, max_sessions=settings.max_sessions)
    service = Service(
        LiveSessions(recommender, store),
        load=lambda: recommender_in(settings.folder),
        beside={Path(each).name: recommender_in(each) for each in settings.beside},
        max_k=settings.max_k,
        max_waiting=settings.max_waiting,
    )
    return build_app(service, key=key, rate=settings.rate)


def app_of_process() -> App:
    """The application of a process that a service started."""
    return app_of(Settings(**json.loads(os.environ[SETTINGS])), os.environ.get(KEY))


def serve(settings: Settings) -> None:
    """Serves until it is told to end; requests that are being answered are finished first.

    Raises:
        ValueError: If the folder, the store or a setting is wrong, or a library is missing.
    """
    uvicorn: Any = need("uvicorn", "The service", extra="server")
    options = {
        "host": settings.host,
        "port": settings.port,
        "access_log": False,
        "log_level": "warning",
        "server_header": False,
        "timeout_graceful_shutdown": 30,
        "backlog": 2_048,
    }
    if settings.processes == 1:
        uvicorn.run(app_of(settings, os.environ.get(KEY)), **options)
        return
    app_of(settings)  # whatever is wrong is said here, once
    os.environ[SETTINGS] = json.dumps(asdict(settings))
    uvicorn.run(
        "graphseq.serving.service.run:app_of_process",
        factory=True,
        workers=settings.processes,
        **options,
    )


@contextmanager
def on_loopback(app: App) -> Iterator[str]:
    """A server of an application in a thread of this process, for tests and notebooks.

    Yields:
        Its address, as ``"http://127.0.0.1:41234"``; it ends with the block.
    """
    uvicorn: Any = need("uvicorn", "The service", extra="server")
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
