"""Starts the service in one process or several and shuts it down gracefully."""

from __future__ import annotations

import json
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from graphseq.arguments import check_not_negative, whole
from graphseq.serving.extras import need
from graphseq.serving.live import LiveSessions
from graphseq.serving.persistence import load
from graphseq.serving.recommender import Recommender
from graphseq.serving.service.gate import App, log_requests
from graphseq.serving.stores import open_store

logger = logging.getLogger(__name__)

BACKLOG = 2_048
"""Connections that may wait to be taken."""

SILENCE = 120
"""Seconds after which one of several processes that does not answer is started again: importing
torch takes many on a busy machine."""

SETTINGS = "GRAPHSEQ_SERVICE"
"""The environment variable that tells the processes of a service what to serve."""

KEY = "GRAPHSEQ_API_KEY"
"""The variable that holds the API key, which no command line shows."""


@dataclass(frozen=True)
class Settings:
    """How a service runs.

    Args:
        folder: A saved recommender or model.
        beside: Folders of further models, which ``/batch`` and the page address by name.
        store: ``"memory"``, a folder for LMDB, or the URL of a Redis server.
        host, port: Where it listens.
        processes: Number of processes; several need a shared store.
        seconds: How long a session is kept after its last click.
        max_sessions: Sessions kept at most.
        max_k: Items that one request may ask for.
        max_waiting: Requests that may wait in a process; more get 503.
        rate: Requests per second per address and process; 0: no limit.

    Raises:
        ValueError: If several processes have no shared store, or a number is out of range.
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
        for name in ("processes", "max_sessions", "max_k", "max_waiting"):
            whole(name, getattr(self, name))
        check_not_negative(rate=self.rate)
        if not 0 < self.seconds < math.inf:
            raise ValueError(f"seconds must be positive and finite, got {self.seconds}.")
        if self.processes > 1 and self.store == "memory":
            raise ValueError(
                f"{self.processes} processes need a store that they share: pass --store with a "
                "folder (LMDB) or redis://..."
            )


def key_of_service() -> str | None:
    """The API key that the environment holds, or ``None``: anyone may ask.

    Raises:
        ValueError: If the variable is empty, which could open the service unintentionally.
    """
    key = os.environ.get(KEY)
    if key is not None and not key.strip():
        raise ValueError(f"{KEY} is empty: put a key in it, or unset it so that anyone may ask.")
    return key


def recommender_in(folder: str) -> Recommender:
    """The recommender of a folder; of a model, one without an index."""
    found = load(folder)
    return found if isinstance(found, Recommender) else Recommender(found)


def names_of(folders: Sequence[str], taken: str) -> list[str]:
    """Names of models by their folders, ``runs/a/model`` as ``model``, all different.

    Where two would have one name, or one would have that of the first model, all have as many
    parts of their paths as tell them apart, as ``a/model``.

    Args:
        folders: Folders of models.
        taken: The name of the model that answers clicks.

    Raises:
        ValueError: If a folder is given twice.
    """
    paths = [Path(os.path.abspath(folder)).parts for folder in folders]
    for place, path in enumerate(paths):
        if path in paths[:place]:
            raise ValueError(f"beside has the folder {folders[place]} twice: name each once.")
    names: list[str] = []
    for count in range(1, max(map(len, paths), default=0) + 1):
        names = ["/".join(path[-count:]) for path in paths]
        if len({taken, *names}) == 1 + len(names):
            break
    return names


def app_of(settings: Settings, key: str | None = None) -> App:
    """The application of these settings, with its model loaded."""
    need("litestar", "The service", extra="server")
    from graphseq.serving.service.app import (  # it imports litestar
        Service,
        build_app,
        name_of_first,
        warm_up,
    )

    recommender = recommender_in(settings.folder)
    names = names_of(settings.beside, name_of_first(recommender))
    warm_up(recommender)
    store = open_store(settings.store, seconds=settings.seconds, max_sessions=settings.max_sessions)
    service = Service(
        LiveSessions(recommender, store),
        load=lambda: recommender_in(settings.folder),
        beside=dict(zip(names, map(recommender_in, settings.beside), strict=True)),
        max_k=settings.max_k,
        max_waiting=settings.max_waiting,
    )
    return build_app(service, key=key, rate=settings.rate)


OF_PROCESS = ExitStack()
"""What one of several processes opens once, and keeps until it ends."""


def app_of_process() -> App:
    """The application of one of several processes, which ends with it."""
    OF_PROCESS.enter_context(log_requests())
    return app_of(Settings(**json.loads(os.environ[SETTINGS])), key_of_service())


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens, taken before any model is loaded.

    Args:
        host: The address.
        port: The port; 0: one that is free.

    Raises:
        ValueError: If another program has the port, or this machine does not have the address.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(
            f"Port {port} of {host} cannot be opened ({reason}): pass another --port or --host."
        ) from error
    with listener:
        yield listener


def serve(settings: Settings, listener: socket.socket | None = None) -> None:
    """Serves until it is stopped; requests in progress are finished first.

    Args:
        settings: What to serve.
        listener: Where it listens, of :func:`listening`; ``None``: at the host and port of the
            settings.

    Raises:
        ValueError: If the folder, the store or a setting is wrong, a library is missing, or the
            port cannot be opened.
    """
    if listener is None:
        with listening(settings.host, settings.port) as made:
            serve(settings, made)
        return
    uvicorn: Any = need("uvicorn", "The service", extra="server")
    options = {
        "access_log": False,
        "log_level": "warning",
        "server_header": False,
        "timeout_graceful_shutdown": 30,
        "backlog": BACKLOG,
    }
    with log_requests():
        _serve_at(settings, listener, uvicorn, options)


def _serve_at(
    settings: Settings, listener: socket.socket, uvicorn: Any, options: dict[str, Any]
) -> None:
    app = app_of(settings, key_of_service())  # errors are reported here, once
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"http://{host}:{listener.getsockname()[1]}/"
    logger.info("graphseq answers at %s (page), %sdocs (paths); Ctrl-C ends it.", address, address)
    if settings.processes == 1:
        uvicorn.Server(uvicorn.Config(app, **options)).run(sockets=[listener])
        return
    del app
    os.environ[SETTINGS] = json.dumps(asdict(settings))
    port = listener.getsockname()[1]
    listener.close()  # uvicorn opens the port again, and shares it among its processes
    uvicorn.run(
        "graphseq.serving.service.run:app_of_process",
        factory=True,
        workers=settings.processes,
        timeout_worker_healthcheck=SILENCE,
        host=settings.host,
        port=port,
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
