"""Plays a log through live sessions, in real time or at once: latency, and running metrics.

Every click is taken and answered as it would have been live; whether the next click of its session
was among the items of that answer makes the metrics, which are those of ``evaluate`` on the same
sessions: both stand in the row. A first click has no answer before it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

import graphseq as gs
from experiments.benchmarks.report import Benchmark
from graphseq.serving import LiveSessions, Recommender, open_store

EDGES_MS = (0.5, 1, 2, 5, 10, 20, 50, 100, 1_000)
"""Upper edges of the histogram of latency."""


def in_order(sessions: gs.Sessions) -> Iterator[tuple[int, Any, float]]:
    """Session, item id and time of all clicks, by time; without times, session after session."""
    session = np.repeat(np.arange(sessions.num_sessions), sessions.lengths)
    seconds = np.zeros(len(session)) if sessions.time is None else np.asarray(sessions.time)
    items = sessions.vocabulary.ids.take(np.asarray(sessions.items)).tolist()
    for click in np.argsort(seconds, kind="stable").tolist():
        yield int(session[click]), items[click], float(seconds[click])


def replay(
    recommender: Recommender,
    sessions: gs.Sessions,
    *,
    store: str = "memory",
    k: int = 20,
    limit: int | None = None,
    speed: float = 0.0,
) -> dict[str, Any]:
    """One row: latencies, hits among the ``k`` items of the answer before, and what was evicted.

    Args:
        recommender: What answers.
        sessions: The log, all of its items known to itself.
        store: As :func:`graphseq.serving.open_store` takes it.
        k: Items per answer.
        limit: Clicks at most.
        speed: Seconds of the log per second; 0: as fast as it goes.
    """
    live = LiveSessions(recommender, open_store(store))
    before: dict[int, dict[Any, int]] = {}  # the rank of each item of the answer before
    latencies: list[float] = []
    gains: list[float] = []
    total = sessions.num_clicks if limit is None else min(limit, sessions.num_clicks)
    started, first = time.perf_counter(), None
    with Progress() as bar:
        task = bar.add_task("Replay", total=total)
        for number, (session, item, at) in enumerate(in_order(sessions)):
            if number == total:
                break
            first = at if first is None else first
            if speed:
                time.sleep(max(0.0, started + (at - first) / speed - time.perf_counter()))
            if session in before:
                rank = before[session].get(item)
                gains.append(0.0 if rank is None else 1.0 / rank)
            asked = time.perf_counter()
            reply = live.click(str(session), item, event=str(number), k=k)
            latencies.append(time.perf_counter() - asked)
            before[session] = {found: n for n, (found, _) in enumerate(reply.items, start=1)}
            if number % 100 == 0 and gains:
                bar.update(task, description=f"hr@{k} {np.mean(np.array(gains) > 0):.4f}")
            bar.advance(task)
    ms = np.array(latencies) * 1e3
    p50, p90, p99 = (round(float(v), 3) for v in np.quantile(ms, (0.5, 0.9, 0.99)))
    counts, _ = np.histogram(ms, (0.0, *EDGES_MS, np.inf))
    return {
        "clicks": len(latencies),
        "targets": len(gains),
        f"hr@{k}": float(np.mean(np.array(gains) > 0)) if gains else float("nan"),
        f"mrr@{k}": float(np.mean(gains)) if gains else float("nan"),
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        "clicks_per_second": round(len(latencies) / (time.perf_counter() - started), 1),
        "histogram_ms": dict(zip([*map(str, EDGES_MS), "more"], counts.tolist(), strict=True)),
        "live_sessions": len(live.store),
        "evicted": live.store.evicted,
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="a saved recommender or model")
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--root", default=None)
    parser.add_argument("--store", default="memory")
    parser.add_argument("-k", type=int, default=20)
    parser.add_argument("--sessions", type=int, default=None, help="first sessions of the test")
    parser.add_argument("--limit", type=int, default=None, help="clicks at most")
    parser.add_argument("--speed", type=float, default=0.0, help="1: real time; 0: at once")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    found = gs.load(options.folder)
    recommender = found if isinstance(found, Recommender) else Recommender(found)
    test = gs.load_split(options.dataset, root=options.root).test[: options.sessions]
    benchmark = Benchmark.start("experiments.replay", argv, options.dataset, test)
    row = replay(
        recommender,
        test,
        store=options.store,
        k=options.k,
        limit=options.limit,
        speed=options.speed,
    )
    offline = gs.evaluate(recommender.model, test, ks=options.k).metrics
    names = (f"hr@{options.k}", f"mrr@{options.k}") if options.limit is None else ()
    row |= {f"{name} of evaluate": offline[name] for name in names}
    benchmark.add(model=type(recommender.model).__name__, **row)
    options.out.mkdir(parents=True, exist_ok=True)
    benchmark.finish(options.out / "replay.json")


if __name__ == "__main__":
    main()
