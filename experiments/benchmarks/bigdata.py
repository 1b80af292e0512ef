"""A log of 100 million clicks: how fast it becomes sessions, and in how much memory.

The log is generated: sessions of 6.5 clicks on average, at most 500, minutes between clicks, items
by popularity ``(rank + 10) ** -0.9``, a Parquet file a day in order of time, so that sessions at
midnight lie in two files. It lies in ``--work`` and is deleted at the end.

Conversion on disk, that in memory of the first ``--in-memory`` clicks, the first batch and batches
after it run in separate processes, one after the other. ``peak_mb`` is their anonymous memory
(``RssAnon`` of Linux, looked at every 10 ms), imports included; pages of memory-mapped files, which
the system may take back at any time, come on top in ``peak_with_pages_mb``. ``meanwhile_gb`` is the
most that lay in the hidden folder in which sessions are built, the result included. ``cold``: the
files' pages are put out of memory before; ``verify``: checksums are compared when it is opened.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import graphseq as gs
from experiments.benchmarks.report import Benchmark
from experiments.lib.arguments import out_folder
from graphseq.data.graphs.dataset import Samples

DAY = 86_400
MEAN_LENGTH, MAX_LENGTH = 6.5, 500
BATCH_SIZE = 512
CLICKS_PER_SECOND, PEAK_MB, FIRST_BATCH_SECONDS = 1_000_000, 3_000, 1.0
"""What is wanted."""


def write_log(folder: Path, num_clicks: int, num_items: int, days: int, text: bool) -> None:
    """Writes the log day by day; of the day before, the clicks after midnight are held."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    share = np.cumsum((np.arange(num_items) + 10.0) ** -0.9)
    share /= share[-1]
    item_ids = random.permutation(10 * num_items)[:num_items] + 200_000_000
    a_day = round(num_clicks / days / MEAN_LENGTH)
    held: tuple[np.ndarray, ...] = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    for day in range(days):
        lengths = np.minimum(1 + random.geometric(1 / (MEAN_LENGTH - 1), a_day), MAX_LENGTH)
        begin = np.cumsum(lengths) - lengths
        pause = random.exponential(60, lengths.sum())
        pause[begin] = random.uniform(day * DAY, (day + 1) * DAY, a_day)
        clock = np.cumsum(pause)
        clock -= np.repeat(clock[begin] - pause[begin], lengths)
        # Numbers that do not come in order, as from several servers.
        session = np.repeat((np.arange(a_day) + day * a_day) * 7919 % 2**40, lengths)
        item = item_ids[np.searchsorted(share, random.random(len(clock)))]
        session, item, clock = (
            np.concatenate(pair) for pair in zip(held, (session, item, clock), strict=True)
        )
        order = np.argsort(clock, kind="stable")
        stop = len(order) if day == days - 1 else np.searchsorted(clock[order], (day + 1) * DAY)
        held = tuple(column[order[stop:]] for column in (session, item, clock))
        order = order[:stop]
        ids = [pa.array(column[order]) for column in (session, item)]
        milliseconds = (1_700_000_000_000 + clock[order] * 1000).astype(np.int64)
        columns = [
            *(each.cast(pa.string()) if text else each for each in ids),
            pa.array(milliseconds).cast(pa.timestamp("ms")),
        ]
        table = pa.table(columns, names=["session_id", "item_id", "timestamp"])
        pq.write_table(table, folder / f"day-{day:03d}.parquet", row_group_size=1 << 20)


def convert(log: Path, out: Path) -> dict[str, Any]:
    """Seconds of the conversion, waiting and computing, and the disk that it takes meanwhile."""
    start, cpu = time.perf_counter(), time.process_time()
    with peak(lambda: sum(map(disk_of, out.parent.glob(f".{out.name}.*"))), 0.2) as meanwhile:
        gs.Sessions.from_frame(log, time="timestamp", out=out)
    return {
        "meanwhile_gb": round(meanwhile() / 1e9, 2),
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }


def convert_in_memory(files: list[Path]) -> dict[str, Any]:
    """Seconds of the same conversion of some files of the log in memory."""
    start, cpu = time.perf_counter(), time.process_time()
    sessions = gs.Sessions.from_frame(files, time="timestamp")
    seconds = time.perf_counter() - start
    return {
        "clicks_in_memory": sessions.num_clicks,
        "clicks_a_second": round(sessions.num_clicks / seconds),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }


def disk_of(folder: Path) -> int:
    """Bytes that the files of a folder take, some of which may go meanwhile."""
    size = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            size += path.stat().st_blocks * 512
    return size


def read_batches(
    folder: Path, samples: Samples, num_batches: int, cold: bool, verify: bool
) -> dict[str, Any]:
    """Seconds from opening to the first shuffled batch, and batches a second after it."""
    if cold:
        for path in folder.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    start, cpu = time.perf_counter(), time.process_time()
    sessions = gs.Sessions.open(folder, verify=verify)
    opened = time.perf_counter()
    dataset = gs.SessionGraphDataset(sessions, samples)
    loader = gs.SessionGraphLoader(dataset, BATCH_SIZE, shuffle=True, bucket=samples == "sessions")
    batches = iter(loader)
    next(batches)
    first, cpu = time.perf_counter(), time.process_time() - cpu
    count = sum(1 for _ in itertools.islice(batches, num_batches))
    return {
        "samples_in_all": len(dataset),
        "open_seconds": round(opened - start, 3),
        "first_batch_seconds": round(first - start, 3),
        "first_batch_cpu_seconds": round(cpu, 3),
        "first_batch_wanted": FIRST_BATCH_SECONDS,
        "batches_a_second": round(count / (time.perf_counter() - first), 1),
    }


def train(folder: Path, steps: int) -> dict[str, Any]:
    """Seconds of some steps of SR-GNN on a loader of all prefixes."""
    sessions = gs.Sessions.open(folder)
    model = gs.models.SRGNN(sessions.num_items, hidden_channels=64)
    loader = gs.SessionGraphLoader(gs.SessionGraphDataset(sessions), BATCH_SIZE, shuffle=True)
    model.attach(sessions.catalog())
    loss = gs.SampledLoss("sampled_softmax", num_negatives=2048, alpha=0.75)
    start, cpu = time.perf_counter(), time.process_time()
    gs.fit(model, FirstSteps(loader, steps), loss=loss, max_epochs=1, progress=False)
    return {
        "steps": steps,
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }


class FirstSteps:
    """The first batches of a loader."""

    def __init__(self, loader: gs.SessionGraphLoader, steps: int) -> None:
        self.loader, self.steps = loader, steps
        self.dataset = loader.graphs

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(iter(self.loader), self.steps)

    def __len__(self) -> int:
        return self.steps


def memory(name: str) -> float:
    """A line of Linux' account of this process, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError(f"The system does not tell {name}.")


def apart(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """What a function returns in a fresh process, and the peaks of that process' memory."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        found: dict[str, Any] = receiver.recv()
    finally:
        process.join()
    return found


def _measured(sender: Any, function: Callable[..., dict[str, Any]], arguments: Any) -> None:
    with peak(lambda: memory("RssAnon"), 0.01) as most:
        found = function(*arguments)
    pages = round(memory("VmHWM"))
    sender.send({**found, "peak_mb": round(most()), "peak_with_pages_mb": pages})


@contextmanager
def peak(look: Callable[[], float], pause: float) -> Iterator[Callable[[], float]]:
    """Looks every ``pause`` seconds; what it gives tells the largest value seen."""
    seen, done = [look()], threading.Event()

    def watch() -> None:
        while not done.wait(pause):
            seen[0] = max(seen[0], look())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield lambda: seen[0]
    finally:
        done.set()
        watcher.join()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.bigdata")
    parser.add_argument("--clicks", type=int, default=100_000_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--text", action="store_true", help="ids as text")
    parser.add_argument("--in-memory", type=int, default=20_000_000, help="clicks")
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--steps", type=int, default=50, help="of training")
    parser.add_argument("--work", type=Path, required=True, help="folder for the log; deleted")
    parser.add_argument("--out", type=out_folder, default=Path("runs/benchmarks"))
    options = parser.parse_args(argv)
    path = options.out / ("bigdata-text.json" if options.text else "bigdata.json")
    benchmark = Benchmark.start("experiments.benchmarks.bigdata", argv)
    log, folder = options.work / "log", options.work / "sessions"
    options.work.mkdir(parents=True)
    try:
        write_log(log, options.clicks, options.items, options.days, options.text)
        found = apart(convert, log, folder)
        sessions = gs.Sessions.open(folder)
        benchmark.add(
            clicks=sessions.num_clicks,
            sessions=sessions.num_sessions,
            items=sessions.num_items,
            log_gb=round(sum(p.stat().st_size for p in log.iterdir()) / 1e9, 2),
            sessions_gb=round(sum(p.stat().st_size for p in folder.iterdir()) / 1e9, 2),
            clicks_a_second=round(sessions.num_clicks / found["seconds"]),
            clicks_a_second_wanted=CLICKS_PER_SECOND,
            **found,
            peak_mb_wanted=PEAK_MB,
        )
        benchmark.write(path)
        files = sorted(log.iterdir())[: max(1, options.days * options.in_memory // options.clicks)]
        benchmark.add(**apart(convert_in_memory, files))
        benchmark.write(path)
        for samples, cold, verify in itertools.product(
            ("prefixes", "sessions"), (False, True), (False, True)
        ):
            read = apart(read_batches, folder, samples, options.batches, cold, verify)
            benchmark.add(samples=samples, cold=cold, verify=verify, **read)
            benchmark.write(path)
        trained = apart(train, folder, options.steps)
        benchmark.add(model="srgnn", hidden_channels=64, batch_size=BATCH_SIZE, **trained)
        benchmark.finish(path)
    finally:
        shutil.rmtree(options.work)


if __name__ == "__main__":
    main()
