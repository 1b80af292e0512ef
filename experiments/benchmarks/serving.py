"""Serving: what indexes cost and save, a click in process, and the service under load.

Models have random weights, which costs what trained ones cost; quality is measured by
``gs.serving.serving_report`` on trained ones. The service runs in a process of its own on
loopback, the generator of load in this one; its share of a core is in the rows. A service that
answers nothing but ``/health`` stands beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import graphseq as gs
from experiments.benchmarks.load import click_of, get, run_load
from experiments.benchmarks.report import Benchmark
from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.serving import Click, LiveSessions, Recommender, Request

FAMILIES = ("gru4rec", "srgnn")
LIVE_SESSIONS = 2_000
WANTED = {"p90_ms": 7.0, "p99_ms": 20.0}


def random_model(name: str, num_items: int, hidden_channels: int = 100) -> gs.models.SessionModel:
    """A model of random weights over items 0..num_items-1."""
    torch.manual_seed(0)
    model = gs.models.MODELS[name](num_items, hidden_channels=hidden_channels).eval()
    counts = np.ones(num_items, dtype=np.int64)
    model.attach(Catalog(Vocabulary.from_unique(pd.RangeIndex(num_items)), counts))
    return model


def quantiles(call: Callable[[int], Any], repeats: int) -> dict[str, float]:
    """Milliseconds of single calls."""
    times = []
    for number in range(repeats):
        started = time.perf_counter()
        call(number)
        times.append(time.perf_counter() - started)
    p50, p90, p99 = (round(float(v) * 1e3, 3) for v in np.quantile(times, (0.5, 0.9, 0.99)))
    return {"p50_ms": p50, "p90_ms": p90, "p99_ms": p99}


def in_process(recommender: Recommender, num_items: int, repeats: int) -> dict[str, Any]:
    """A click of one session, and 32 sessions together, without HTTP."""
    live = LiveSessions(recommender)
    items = np.random.default_rng(0).integers(num_items, size=100_000).tolist()
    one = quantiles(lambda n: live.click(f"s{n % 50}", items[n], k=20), repeats)

    def together(number: int) -> None:
        clicks = items[number * 32 : number * 32 + 32]
        live.answer([Request(f"s{n}", [Click(item)], 20) for n, item in enumerate(clicks)])

    batch = quantiles(together, max(1, repeats // 20))
    return {**one, "p50_ms_of_32_together": batch["p50_ms"], "sessions": len(live.store)}


@contextmanager
def served(folder: Path, store: str) -> Iterator[int]:
    """A service of this folder in a process of its own; its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "graphseq", "serve", str(folder), "--store", store]
    run = subprocess.Popen([*command, "--port", str(port)])
    try:
        while run.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 0.5).close()
                break
            except OSError:
                time.sleep(0.05)
        yield port
    finally:
        run.terminate()
        run.wait()


def over_http(
    recommender: Recommender, num_items: int, *, rate: float, seconds: float, store: str
) -> Iterator[dict[str, Any]]:
    """Clicks at a rate, and requests of ``/health`` at the same rate."""
    items = np.random.default_rng(1).integers(num_items, size=1 << 16).tolist()
    with tempfile.TemporaryDirectory() as folder:
        recommender.save(Path(folder) / "recommender")
        where = "memory" if store == "memory" else f"{folder}/sessions"
        with served(Path(folder) / "recommender", where) as port:
            for asked, request_of in (
                ("a click", lambda n: click_of(n % LIVE_SESSIONS, items[n % len(items)])),
                ("/health", lambda _: get("/health")),
            ):
                for length in (min(2.0, seconds), seconds):  # the first one warms up
                    load = asyncio.run(
                        run_load(port, request_of, rate=rate, seconds=length, connections=32)
                    )
                yield {"request": asked, "store": store, "rate": rate, **load.row()}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[43_097])
    parser.add_argument("--models", nargs="+", default=list(FAMILIES))
    parser.add_argument("--indexes", nargs="+", default=["none", "exact", "faiss_hnsw"])
    parser.add_argument("--stores", nargs="*", default=["memory", "lmdb"])
    parser.add_argument("--rates", type=float, nargs="+", default=[100.0, 300.0, 500.0])
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each load")
    parser.add_argument("--repeats", type=int, default=500, help="single clicks in process")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    benchmark = Benchmark.start("experiments.benchmarks.serving", argv)
    benchmark.content["wanted"] = WANTED
    path = options.out / "serving.json"
    for num_items in options.items:
        for name in options.models:
            model = random_model(name, num_items)
            for kind in options.indexes:
                started = time.perf_counter()
                recommender = Recommender(model, index=None if kind == "none" else kind)
                built = round(time.perf_counter() - started, 1)
                about = {"model": name, "items": num_items, "index": kind}
                row = in_process(recommender, num_items, options.repeats)
                benchmark.add(**about, build_seconds=built, **row)
                benchmark.write(path)
                for store in options.stores:
                    for rate in options.rates:
                        for row in over_http(
                            recommender, num_items, rate=rate, seconds=options.seconds, store=store
                        ):
                            benchmark.add(**about, **row)
                        benchmark.write(path)
    benchmark.finish(path)


if __name__ == "__main__":
    main()
