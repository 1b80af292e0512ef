"""What the service keeps when things go wrong: kills, a store that goes, another model, overload.

Clients click as people do: each session's clicks in their order, each with an event id, each tried
again until it is answered. Afterwards the store is read: every answered click must be there, once
and in its place. The tallies do not depend on the speed of the machine.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from experiments.benchmarks.load import free_port, random_model, resident_megabytes, started
from experiments.benchmarks.report import Benchmark
from graphseq.serving import MemoryStore, Recommender, open_store
from graphseq.serving.live import Click
from graphseq.serving.live.record import Record, changed

ITEMS = 2_000


class Clients:
    """Threads that click their own sessions until they are told to stop.

    Args:
        address: The service.
        threads: How many.
    """

    def __init__(self, address: str, threads: int = 6) -> None:
        self.address = address
        self.acknowledged: dict[str, list[str]] = {}
        """Events that were answered by 200, of each session in their order."""
        self.statuses: Counter[int] = Counter()
        """Answers by status; 0: no answer."""
        self.slowest = 0.0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._click, args=(n,)) for n in range(threads)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def clicks(self) -> int:
        return sum(map(len, self.acknowledged.values()))

    def wait_for(self, more: int, seconds: float = 60.0) -> None:
        """Waits until so many further clicks are answered."""
        wanted = self.clicks + more
        wait_until(lambda: self.clicks >= wanted, seconds)

    def wait_for_refusals(self, more: int) -> None:
        """Waits until so many further requests are answered by 503."""
        wanted = self.statuses[503] + more
        wait_until(lambda: self.statuses[503] >= wanted)

    def _click(self, number: int) -> None:
        items = np.random.default_rng(number).integers(ITEMS, size=4_096).tolist()
        with httpx.Client(base_url=self.address, timeout=20) as client:
            for turn in range(len(items)):
                session, event = f"{number}-{turn // 20}", f"e{turn}"
                body = {"item": items[turn], "event": event, "k": 5}
                while not self._stop.is_set() and not self._asked(client, session, body):
                    time.sleep(0.05)
                if self._stop.is_set():
                    return
                self.acknowledged.setdefault(session, []).append(event)

    def _asked(self, client: httpx.Client, session: str, body: dict[str, Any]) -> bool:
        began = time.monotonic()
        try:
            status = client.post(f"/sessions/{session}/clicks", json=body).status_code
        except httpx.HTTPError:
            status = 0
        self.slowest = max(self.slowest, time.monotonic() - began)
        self.statuses[status] += 1
        return status == 200


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Waits for something to become true.

    Raises:
        RuntimeError: If it does not.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"It did not happen within {seconds:g} s.")
        time.sleep(0.02)


def kept(where: str, acknowledged: dict[str, list[str]]) -> dict[str, int]:
    """Of the clicks that were answered: how many the store lost, doubled, or has out of place."""
    store = open_store(where)
    tally = {"lost": 0, "doubled": 0, "out_of_place": 0}
    for session, events in acknowledged.items():
        found = Record.decode(store.get([session])[0][0]).events
        tally["lost"] += len(set(events) - set(found))
        tally["doubled"] += len(found) - len(set(found))
        tally["out_of_place"] += [event for event in found if event in set(events)] != events
    store.close()
    return tally


@contextmanager
def redis_server(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A server of Redis that writes each change to disk before it answers."""
    command = ["redis-server", "--port", str(port), "--dir", str(folder), "--save", ""]
    run = subprocess.Popen(
        [*command, "--appendonly", "yes", "--appendfsync", "always"],
        stdout=subprocess.DEVNULL,
    )
    try:
        yield run
    finally:
        run.terminate()
        run.wait()


def serve(folder: Path, port: int, *more: str) -> Any:
    """The service of a folder in a separate process."""
    return started(["graphseq", "serve", str(folder), "--port", str(port), *more], port)


def killed(folder: Path, where: str, processes: int, kills: int, clicks: int) -> dict[str, Any]:
    """``kill -9`` under load, several times, and what the store has afterwards."""
    port = free_port()
    with Clients(f"http://127.0.0.1:{port}") as clients:
        for number in range(kills + 1):
            with serve(folder, port, "--store", where, "--processes", str(processes)) as pid:
                clients.wait_for(clicks)
                if number < kills:
                    for process in [pid, *children(pid)]:
                        os.kill(process, signal.SIGKILL)
    failed = sum(count for status, count in clients.statuses.items() if status not in (0, 200))
    counts = {"kills": kills, "answered": clients.clicks, "no_answer": clients.statuses[0]}
    return {**counts, "other_answers": failed, **kept(where, clients.acknowledged)}


def worker_killed(folder: Path, where: str, kills: int, clicks: int) -> dict[str, Any]:
    """``kill -9`` of one process of several, which is started again by itself."""
    port = free_port()
    with ExitStack() as stack:
        pid = stack.enter_context(serve(folder, port, "--store", where, "--processes", "2"))
        wait_until(lambda: len(workers(pid)) == 2)
        with Clients(f"http://127.0.0.1:{port}") as clients:
            for _ in range(kills):
                clients.wait_for(clicks)
                first = workers(pid)[0]
                os.kill(first, signal.SIGKILL)
                wait_until(partial(two_without, pid, first))
            clients.wait_for(clicks)
    failed = sum(count for status, count in clients.statuses.items() if status not in (0, 200))
    counts = {"kills": kills, "answered": clients.clicks, "no_answer": clients.statuses[0]}
    return {**counts, "other_answers": failed, **kept(where, clients.acknowledged)}


def children(pid: int) -> list[int]:
    """Processes that a process started (Linux)."""
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def two_without(pid: int, gone: int) -> bool:
    """Whether two workers run besides the one that was killed."""
    return len(set(workers(pid)) - {gone}) == 2


def workers(pid: int) -> list[int]:
    """The processes that answer: children of a service that hold its model in memory."""
    return [child for child in children(pid) if resident_megabytes(child) > 100]


def swapped(folders: list[Path], folder: Path, swaps: int, clicks: int) -> dict[str, Any]:
    """Another model takes over under load, several times; no request is dropped."""
    port, versions = free_port(), set()
    with serve(folder, port, "--store", "memory"), Clients(f"http://127.0.0.1:{port}") as clients:
        clients.wait_for(clicks)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            for number in range(swaps):
                copy_folder(folders[(number + 1) % len(folders)], folder)
                versions.add(client.post("/reload").json()["model_version"])
                clients.wait_for(clicks)
    dropped = sum(count for status, count in clients.statuses.items() if status != 200)
    return {
        "swaps": swaps,
        "answered": clients.clicks,
        "versions": len(versions),
        "dropped": dropped,
    }


def copy_folder(source: Path, target: Path) -> None:
    """Puts a saved recommender in the place of another one, whole, as ``save`` does."""
    from graphseq.serving import load_recommender

    load_recommender(source).save(target)


def store_gone(folder: Path, data: Path, outages: int, clicks: int) -> dict[str, Any]:
    """Redis dies under load and comes back: 503 meanwhile, and answers afterwards."""
    port, store_port = free_port(), free_port()
    where = f"redis://127.0.0.1:{store_port}/0"
    refused = 0
    with ExitStack() as stack:
        server = stack.enter_context(redis_server(data, store_port))
        time.sleep(0.5)
        stack.enter_context(serve(folder, port, "--store", where))
        clients = stack.enter_context(Clients(f"http://127.0.0.1:{port}"))
        for _ in range(outages):
            clients.wait_for(clicks)
            server.kill()
            server.wait()
            clients.wait_for_refusals(10)
            alive = httpx.get(f"http://127.0.0.1:{port}/health").status_code
            ready = httpx.get(f"http://127.0.0.1:{port}/ready").status_code
            refused += (alive, ready) == (200, 503)
            server = stack.enter_context(redis_server(data, store_port))
        clients.wait_for(clicks)
        clients.__exit__()
        tally = kept(where, clients.acknowledged)
    other = sum(n for status, n in clients.statuses.items() if status not in (200, 503))
    return {
        "outages": outages,
        "alive_and_not_ready": refused,
        "answered": clients.clicks,
        "refused_503": clients.statuses[503],
        "other_answers": other,
        **tally,
    }


def overloaded(folder: Path, clicks: int) -> dict[str, Any]:
    """More requests than may wait: some get 503 at once, and none when it is over."""
    port = free_port()
    with serve(folder, port, "--max-waiting", "2"):
        address = f"http://127.0.0.1:{port}"
        with Clients(address, threads=24) as clients:
            wait_until(lambda: clients.statuses[503] >= clicks and clients.clicks >= clicks)
        with httpx.Client(base_url=address, timeout=20) as client:
            after = Counter(
                client.post("/sessions/after/clicks", json={"item": 1}).status_code
                for _ in range(100)
            )
    other = sum(n for status, n in clients.statuses.items() if status not in (200, 503))
    return {
        "answered": clients.clicks,
        "refused_503": clients.statuses[503],
        "other_answers": other,
        "afterwards_refused": 100 - after[200],
    }


def too_many(sessions: int, bound: int) -> dict[str, Any]:
    """More sessions than the store may keep: the oldest leave, and are counted."""
    store = MemoryStore(max_sessions=bound, seconds=1e9)
    clicks = [Click(item, 1.7e9 + item, f"event {item}") for item in range(5)]
    state = bytes(4 * 100)  # GRU4Rec of 100 channels

    def change(value: bytes | None) -> bytes:
        return changed(value, clicks, None, 1.7e9, 200)[0]

    for start in range(0, sessions, 10_000):
        names = [f"session {number}" for number in range(start, min(sessions, start + 10_000))]
        store.update(
            [(n, lambda value: changed(value, clicks, None, 1.7e9, 200)[0]) for n in names]
        )
        store.put_states([(name, state) for name in names])
    gone, there = store.get(["session 0", f"session {sessions - 1}"])
    return {
        "sessions": sessions,
        "bound": bound,
        "kept": len(store),
        "evicted": store.evicted,
        "oldest_left": gone[0] is None and there[0] is not None,
        "bytes_per_session": round(store.num_bytes / len(store)),
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=5, help="kills, swaps and outages per kind")
    parser.add_argument("--clicks", type=int, default=200, help="answered clicks between these")
    parser.add_argument("--sessions", type=int, default=1_200_000, help="sessions over the bound")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    benchmark = Benchmark.start("experiments.benchmarks.chaos", argv)
    path = options.out / "chaos.json"

    def add(what: str, row: dict[str, Any]) -> None:
        benchmark.add(what=what, **row)
        benchmark.write(path)

    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        made = []
        for seed, channels in enumerate((16, 24)):
            model = random_model("gru4rec", ITEMS, channels)
            made.append(folder / f"model{seed}")
            Recommender(model, index="exact").save(made[-1])
        times, clicks = options.kills, options.clicks
        add("killed, LMDB", killed(made[0], f"{folder}/sessions", 1, times, clicks))
        port = free_port()
        (folder / "redis").mkdir()
        where = f"redis://127.0.0.1:{port}/0"
        with redis_server(folder / "redis", port):
            time.sleep(0.5)
            add("killed, Redis, two processes", killed(made[0], where, 2, times, clicks))
            add("one of two processes killed, Redis", worker_killed(made[0], where, times, clicks))
        copy_folder(made[0], folder / "served")
        add("another model", swapped(made, folder / "served", times, clicks))
        (folder / "gone").mkdir()
        add("Redis gone", store_gone(made[0], folder / "gone", times, clicks))
        add("overload", overloaded(made[0], clicks))
        add("too many sessions", too_many(options.sessions, options.sessions * 5 // 6))
        stack.close()
    benchmark.finish(path)


if __name__ == "__main__":
    main()
