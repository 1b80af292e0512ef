"""Graphs a second: SessionGraphLoader, building included, against PyG's loader, collating only.

PyG's loader gets the finished graphs of the same samples as a list and only has to collate them.
Both run in this process, one after the other, on the same samples in the same shuffled order.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch_geometric.loader import DataLoader

import graphseq as gs
from experiments.benchmarks.report import Benchmark
from experiments.lib.arguments import out_folder

BATCH_SIZES = (100, 512, 2048)
TARGETS = {100: 12, 512: 35, 2048: 60}
MAX_BYTES_A_CLICK = 24


def graphs_a_second(loader: Iterable[Any], num_batches: int) -> float:
    """Throughput over the first batches of one pass."""
    count, start = 0, time.perf_counter()
    for batch in itertools.islice(loader, num_batches):
        count += batch.num_graphs
    return count / (time.perf_counter() - start)


def bytes_a_click(sessions: gs.Sessions) -> float:
    """What a dataset of all prefixes holds, clicks included."""
    dataset = gs.SessionGraphDataset(sessions)
    held: list[NDArray[Any]] = [sessions.items, sessions.ptr, *dataset.arrays()]
    return sum(array.nbytes for array in held) / sessions.num_clicks


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.graphs")
    parser.add_argument("--dataset", help="default: generated sessions as short as Diginetica's")
    parser.add_argument("--root")
    parser.add_argument("--samples", type=int, default=40_960, help="samples in one pass")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=out_folder, default=Path("runs/benchmarks"))
    options = parser.parse_args(argv)
    if options.dataset is None:
        sessions = gs.generate_sessions(100_000, 40_000, seed=0)
    else:
        sessions = gs.load_split(options.dataset, options.root).train
    dataset = gs.SessionGraphDataset(sessions)
    chosen = np.random.default_rng(0).permutation(len(dataset))[: options.samples]
    sample = dataset[chosen.tolist()]
    prebuilt = list(sample)
    benchmark = Benchmark.start("experiments.benchmarks.graphs", argv, options.dataset, sessions)
    for batch_size in BATCH_SIZES:
        ours = gs.SessionGraphLoader(sample, batch_size)
        theirs = DataLoader(prebuilt, batch_size=batch_size)
        first, second = next(iter(ours)), next(iter(theirs))
        if any(not torch.equal(first[key], second[key]) for key in second.keys()):  # noqa: SIM118
            raise AssertionError("The two loaders give different batches.")
        num_batches = len(ours)
        pairs = [
            (graphs_a_second(ours, num_batches), graphs_a_second(theirs, num_batches))
            for _ in range(options.repeats)
        ]
        benchmark.add(
            batch_size=batch_size,
            graphs_a_second=round(statistics.median(pair[0] for pair in pairs)),
            pyg_graphs_a_second=round(statistics.median(pair[1] for pair in pairs)),
            ratio=round(statistics.median(a / b for a, b in pairs), 1),
            ratio_range=[round(f(a / b for a, b in pairs), 1) for f in (min, max)],
            ratio_wanted=TARGETS[batch_size],
        )
    benchmark.add(
        bytes_a_click=round(bytes_a_click(sessions), 2), bytes_a_click_limit=MAX_BYTES_A_CLICK
    )
    benchmark.finish(options.out / "graphs.json")


if __name__ == "__main__":
    main()
