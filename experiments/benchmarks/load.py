"""Load over HTTP on loopback: requests at fixed times, whatever the server does.

Latency counts from the moment at which a request was to be sent, so that a server that stalls is
not spared the requests that wait for it. Every server runs in a separate process, the generator
in this one: its share of a core is in the rows, and so is the time of the server's processor.
Beside the service stand plain frameworks that answer nothing, and the dense SR-GNN without batches
or state. Models have random weights, which costs what trained ones cost. ``--million`` names a
folder for the recommender of a million items, which is made there once (minutes).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import graphseq as gs
from experiments.benchmarks.report import Benchmark
from experiments.lib.results import fit_whole
from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.serving import LiveSessions, Recommender

ITEMS, MILLION = 43_097, 1_000_000

LIVE_SESSIONS, CLICKS_PER_SESSION = 2_000, 5
"""Sessions that go on at the same time, and after how many clicks others take their place."""

CONNECTIONS = 64

MILLION_RATE = 300.0

MILLION_INDEX = "faiss_refined"

PEERS = {"litestar": "litestar", "FastAPI": "fastapi", "dense SR-GNN on litestar": "dense"}
"""Servers beside us by what they are called, and their makers in peers.py."""

WANTED = {
    "gru4rec and srgnn, 43,097 items, 500 requests/s": {"p90_ms": 7.0, "p99_ms": 20.0, "errors": 0},
    "a million items, 300 requests/s": {"p90_ms": 20.0},
    "a million items, in process": {"p99_ms": 5.0, "recall_of_exact": 0.98},
    "neighbors in process": {"p90_ms": 1.5},
    "a click of GRU4Rec in process": {"p90_ms": 1.0},
}

CLUSTERS, SPREAD = 10_000, 0.5
"""Groups of similar items among a million, and how far items lie from the middle of their group."""


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


def random_model(
    name: str, num_items: int, hidden_channels: int = 100, **settings: Any
) -> gs.models.SessionModel:
    """A model of random weights over items 0..num_items-1."""
    torch.manual_seed(0)
    model = gs.models.MODELS[name](num_items, hidden_channels=hidden_channels, **settings).eval()
    model.attach(random_catalog(num_items))
    return model


def random_catalog(num_items: int) -> Catalog:
    """Items 0..num_items-1, clicked once each."""
    counts = np.ones(num_items, dtype=np.int64)
    return Catalog(Vocabulary.from_unique(pd.RangeIndex(num_items)), counts)


def session_of(number: int) -> int:
    """The session of a click: many go on at the same time, each ends after a few clicks."""
    turn = number // (LIVE_SESSIONS * CLICKS_PER_SESSION)
    return turn * LIVE_SESSIONS + number % LIVE_SESSIONS


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


@contextmanager
def started(command: Sequence[str], port: int, **variables: str) -> Iterator[int]:
    """A server in a separate process, from the moment at which it answers; its process id."""
    here = os.pathsep.join([os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])])
    run = subprocess.Popen(
        [sys.executable, "-m", *command],
        env=os.environ | {"PYTHONPATH": here, "OMP_NUM_THREADS": "1"} | variables,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(6_000):
            if run.poll() is not None:
                raise RuntimeError(f"{' '.join(command)} ended with {run.returncode}.")
            try:
                socket.create_connection(("127.0.0.1", port), 0.5).close()
                break
            except OSError:
                time.sleep(0.05)
        yield run.pid
    finally:
        run.terminate()
        run.wait()


def free_port() -> int:
    """A port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_seconds(pid: int) -> float:
    """Seconds of processor that a process and its children took so far (Linux)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(cpu_seconds(int(child)) for child in children)


def resident_megabytes(pid: int) -> int:
    """Memory of a process that is in use (Linux); 0: it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    sizes = [line.split()[1] for line in lines if line.startswith("VmRSS")]
    return int(sizes[0]) // 1_024 if sizes else 0


def measured(
    pid: int, port: int, request_of: Callable[[int], bytes], rate: float, seconds: float
) -> dict[str, Any]:
    """A row of load at a rate, after two seconds that warm up."""
    for length in (min(2.0, seconds), seconds):
        before = cpu_seconds(pid)
        load = asyncio.run(
            run_load(port, request_of, rate=rate, seconds=length, connections=CONNECTIONS)
        )
    cost = (cpu_seconds(pid) - before) * 1e3 / max(1, sum(load.statuses.values()))
    return {"rate": rate, "seconds": seconds, **load.row(), "server_cpu_ms": round(cost, 3)}


def clicks_over(num_items: int) -> Callable[[int], bytes]:
    """The request of each number: a click on a random item, by one of the live sessions."""
    items = np.random.default_rng(1).integers(num_items, size=1 << 16).tolist()
    return lambda number: click_of(session_of(number), items[number % len(items)])


def make_million(folder: Path, trained: Path | None = None) -> None:
    """A recommender of a million items and its index, in a minute or two.

    Args:
        folder: To make.
        trained: Folder of a trained GRU4Rec, whose items the million lie among; ``None``: random
            weights, and items in groups.
    """
    if trained is not None:
        from experiments.benchmarks.indexes import grown

        model = grown(gs.load(trained), MILLION)
        model.attach(random_catalog(MILLION))
    else:
        model = random_model("gru4rec", MILLION)
        generator = torch.Generator().manual_seed(0)
        middles = torch.randn(CLUSTERS, 100, generator=generator)
        rows = middles.repeat(MILLION // CLUSTERS, 1)
        rows += SPREAD * torch.randn(rows.shape, generator=generator)
        with torch.no_grad():
            model.items.weight.copy_(rows / 10)
    Recommender(model, index=MILLION_INDEX).save(folder)


def found_of_exact(recommender: Recommender, queries: int = 200) -> float:
    """Share of the exact top 20 that the index finds, over random sessions of 1 to 5 clicks."""
    rng = np.random.default_rng(2)
    sessions = [rng.integers(MILLION, size=rng.integers(1, 6)).tolist() for _ in range(queries)]
    found = recommender.recommend(sessions, 20)
    exact = Recommender(recommender.model).recommend(sessions, 20)
    pairs = zip(found, exact, strict=True)
    return float(np.mean([len({i for i, _ in a} & {i for i, _ in b}) / 20 for a, b in pairs]))


def in_process(call: Callable[[int], Any], repeats: int) -> dict[str, float]:
    """Milliseconds of single calls, after some that warm up."""
    times = []
    for number in range(-min(50, repeats), repeats):
        started_at = time.perf_counter()
        call(number)
        times.append(time.perf_counter() - started_at)
    ms = np.array(times[-repeats:]) * 1e3
    return {f"p{q}_ms": round(float(np.quantile(ms, q / 100)), 3) for q in (50, 90, 99)}


def without_http(repeats: int, root: str | None) -> Iterator[dict[str, Any]]:
    """A click in process: neighbors of real sessions where they are here, and streaming GRU4Rec."""
    try:
        train = gs.load_split("diginetica", root=root).train
    except (ValueError, OSError):
        train = gs.generate_sessions(200_000, ITEMS, mean_length=4.5, seed=0)
    neighbors = gs.models.MODELS["vsknn"](train.num_items)
    fit_whole(neighbors, train, progress=False)
    codes = np.asarray(train.items)[: 1 << 16]
    known = train.vocabulary.ids.take(codes).tolist()
    streaming = random_model("gru4rec", ITEMS)
    for name, model, items in (
        ("vsknn", neighbors, known),
        ("gru4rec", streaming, codes.tolist()),
    ):
        live = LiveSessions(Recommender(model, index=None if name == "vsknn" else "exact"))

        def click(number: int, live: LiveSessions = live, items: list[Any] = items) -> None:
            live.click(str(session_of(number % 2_000)), items[number % len(items)], k=20)

        row = in_process(click, repeats)
        yield {"model": name, "items": model.num_items, "what": "click and answer", **row}
    state = streaming.initial_state()
    row = in_process(
        lambda n: streaming.update_state(state, int(codes[n % len(codes)] % ITEMS)), repeats
    )
    yield {"model": "gru4rec", "items": ITEMS, "what": "click alone", **row}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="length of the longest load")
    parser.add_argument("--short", type=float, default=20.0, help="length of the others")
    parser.add_argument("--rate", type=float, default=500.0, help="requests per second")
    parser.add_argument("--million", type=Path, help="folder of the recommender of a million items")
    parser.add_argument("--trained", type=Path, help="folder of a trained GRU4Rec for it")
    parser.add_argument("--root", default=None, help="folder of the data sets")
    parser.add_argument("--repeats", type=int, default=2_000, help="single calls in process")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    benchmark = Benchmark.start("experiments.benchmarks.load", argv)
    benchmark.content["wanted"] = WANTED
    path = options.out / "load.json"
    torch.set_num_threads(1)

    def add(**row: Any) -> None:
        benchmark.add(**row)
        benchmark.write(path)

    with tempfile.TemporaryDirectory() as temporary:
        for name, store, rate, seconds in (
            ("gru4rec", "memory", options.rate, options.seconds),
            ("srgnn", "memory", options.rate, max(options.short, options.seconds / 2)),
            ("gru4rec", "lmdb", options.rate, options.short),
            ("gru4rec", "memory", 2 * options.rate, options.short),
        ):
            folder = Path(temporary) / name
            if not folder.exists():
                Recommender(random_model(name, ITEMS), index="exact").save(folder)
            where = "memory" if store == "memory" else f"{temporary}/{name}-sessions"
            row = of_service(folder, where, ITEMS, rate, seconds)
            add(server="graphseq", model=name, items=ITEMS, index="exact", store=store, **row)
        if options.million is not None:
            if not options.million.exists():
                make_million(options.million, options.trained)
            row = of_service(options.million, "memory", MILLION, MILLION_RATE, 2 * options.short)
            about = {"model": "gru4rec", "items": MILLION, "index": MILLION_INDEX}
            add(server="graphseq", **about, store="memory", **row)
            began = time.perf_counter()
            recommender = gs.load(options.million)
            loaded = round(time.perf_counter() - began, 1)
            live = LiveSessions(recommender)
            items = np.random.default_rng(3).integers(MILLION, size=1 << 12).tolist()
            row = in_process(
                lambda n: live.click(str(n % 50), items[n % len(items)], k=20), options.repeats
            )
            found = round(found_of_exact(recommender), 4)
            about |= {"what": "click and answer", "loaded_seconds": loaded}
            add(**about, recall_of_exact=found, **row)
        for server, name in PEERS.items():
            if name == "fastapi" and find_spec("fastapi") is None:
                continue
            port = free_port()
            command = ["uvicorn", f"experiments.benchmarks.peers:{name}", "--factory"]
            more = ["--port", str(port), "--log-level", "warning"]
            requests = clicks_over(ITEMS) if name == "dense" else lambda _: get("/health")
            with started([*command, *more], port) as pid:
                row = measured(pid, port, requests, options.rate, options.short)
            add(server=server, answers="SR-GNN" if name == "dense" else "nothing", **row)
        port = free_port()
        command = ["graphseq", "serve", f"{temporary}/gru4rec", "--port", str(port)]
        with started(command, port) as pid:
            row = measured(pid, port, lambda _: get("/health"), options.rate, options.short)
        add(server="graphseq /health", answers="nothing", **row)
    for row in without_http(options.repeats, options.root):
        add(**row)
    benchmark.finish(path)


def of_service(
    folder: Path, store: str, num_items: int, rate: float, seconds: float
) -> dict[str, Any]:
    """A row of clicks on the service of a folder."""
    port = free_port()
    command = ["graphseq", "serve", str(folder), "--store", store, "--port", str(port)]
    with started(command, port) as pid:
        row = measured(pid, port, clicks_over(num_items), rate, seconds)
        return {**row, "resident_mb": resident_megabytes(pid)}


if __name__ == "__main__":
    main()
