"""Serving: what indexes cost and save, a click in process, and the service under load.

Models have random weights, which costs what trained ones cost; quality is measured by
``gs.serving.serving_report`` on trained ones. The service runs in a separate process on
loopback, the generator of load in this one; its share of a core is in the rows. A service that
answers nothing but ``/health`` stands beside it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.load import clicks_over, free_port, get, measured, random_model, started
from experiments.benchmarks.report import Benchmark
from graphseq.serving import Click, LiveSessions, Recommender, Request

FAMILIES = ("gru4rec", "srgnn")
WANTED = {"p90_ms": 7.0, "p99_ms": 20.0}


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


def over_http(
    recommender: Recommender, num_items: int, *, rate: float, seconds: float, store: str
) -> Iterator[dict[str, Any]]:
    """Clicks at a rate, and requests of ``/health`` at the same rate."""
    with tempfile.TemporaryDirectory() as folder:
        recommender.save(Path(folder) / "recommender")
        where = "memory" if store == "memory" else f"{folder}/sessions"
        port = free_port()
        command = ["graphseq", "serve", f"{folder}/recommender", "--store", where]
        with started([*command, "--port", str(port)], port) as pid:
            for asked, request_of in (
                ("a click", clicks_over(num_items)),
                ("/health", lambda _: get("/health")),
            ):
                yield {
                    "request": asked,
                    "store": store,
                    **measured(pid, port, request_of, rate, seconds),
                }


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
