"""A training step by the size of the catalog: plain, chunked and sampled losses side by side.

``plain`` is torch's own ``cross_entropy(linear(...))``, which holds all scores of a batch;
``chunked`` is the exact loss of graphseq, ``sampled`` its softmax over shared negatives with
row-sparse updates. A step of SR-GNN is whole: batch, loss, gradients, Adam. Speeds are measured by
turns in this process, small and large catalog after one another, peaks of resident memory in a
fresh process each. ``settle_seconds`` is what the end of an epoch costs once on the row-sparse
path: rows catch up with the steps that did not touch them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy, linear

import graphseq as gs
from experiments.benchmarks.losses import peak_resident_bytes
from experiments.benchmarks.report import Benchmark
from experiments.benchmarks.training import LOSSES, endless
from experiments.lib.arguments import out_folder
from graphseq.training.objectives.objective import Objective
from graphseq.training.optim.optimizers import RowSparseOptimizer, sparse_tables
from graphseq.visualization.figures import BLUE, GRAY, ORANGE, new_figure, save_figure

WANTED = 1.5
"""Largest time of a sampled step at the largest catalog, in steps at the smallest."""

COLORS = {"plain": GRAY, "chunked": ORANGE, "sampled": BLUE}
LOSS_OF = {"chunked": "exact", "sampled": "sampled"}


class Training:
    """SR-GNN on generated sessions over so many items, step by step."""

    def __init__(self, loss: str, num_items: int, channels: int, batch_size: int) -> None:
        torch.manual_seed(0)
        sessions = gs.generate_sessions(50_000, num_items, mean_length=5.0, seed=0)
        self.model = gs.models.SRGNN(num_items, channels)
        self.sampled = loss == "sampled"
        self.objective = None
        if loss in LOSS_OF:
            catalog = sessions.catalog()
            self.objective = Objective(LOSSES[LOSS_OF[loss]], num_items, catalog, seed=0)
        self.optimizer = RowSparseOptimizer(self.model.parameters(), "adam", 1e-3)
        with sparse_tables(self.model, self.sampled):
            self.optimizer.watch(self.model)
        dataset = gs.SessionGraphDataset(sessions)
        self.batches = endless(dataset, batch_size)

    def step(self) -> None:
        number, batch = next(self.batches)
        self.optimizer.zero_grad()
        with sparse_tables(self.model, self.sampled):
            if self.objective is None:
                scores = linear(self.model(batch), self.model.items.rows())
                cross_entropy(scores, batch.y).backward()
            else:
                self.objective(self.model, batch, 0, number).backward()
        self.optimizer.step()

    def seconds_a_step(self, budget: float) -> float:
        start, steps = time.perf_counter(), 0
        while steps == 0 or time.perf_counter() - start < budget:
            self.step()
            steps += 1
        return (time.perf_counter() - start) / steps

    def settle_seconds(self) -> float:
        start = time.perf_counter()
        self.optimizer.settle()
        return time.perf_counter() - start


def peak_bytes(loss: str, num_items: int, options: argparse.Namespace, channels: int) -> int:
    """The peak of resident memory over a few steps; to be called in a fresh process."""
    torch.set_num_threads(options.threads)
    training = Training(loss, num_items, channels, options.batch_size)
    for _ in range(4):
        training.step()
    return peak_resident_bytes()


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns in a separate process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def largest(num_items: int, options: argparse.Namespace) -> dict[str, float]:
    """Speed and peak of the sampled loss alone; to be called in a fresh process."""
    torch.set_num_threads(options.threads)
    training = Training("sampled", num_items, options.largest_channels, options.batch_size)
    training.step()
    seconds = training.seconds_a_step(options.seconds)
    return {
        "steps_a_second": round(1 / seconds, 2),
        "settle_seconds": round(training.settle_seconds(), 2),
        "peak_gb": round(peak_resident_bytes() / 1e9, 2),
    }


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Steps a second and memory over the number of items."""
    figure = new_figure(8, 3.4, constrained=True)
    for panel, (key, label) in enumerate(
        (("steps_a_second", "steps a second"), ("peak_gb", "peak memory, GB"))
    ):
        axes = figure.add_subplot(1, 2, panel + 1)
        for loss, color in COLORS.items():
            points = [(row["num_items"], row[key]) for row in rows if row["loss"] == loss]
            axes.plot(*zip(*points, strict=True), color=color, marker="o", label=loss)
        axes.set(xscale="log", yscale="log", xlabel="items", ylabel=label)
        axes.spines[["top", "right"]].set_visible(False)
        if panel == 0:
            axes.legend(frameon=False)
    save_figure(figure, path)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmarks.catalogues",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--losses", nargs="+", choices=list(COLORS), default=list(COLORS))
    parser.add_argument("--channels", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each turn, about")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--largest", type=int, help="items of one more row, sampled: 10_000_000")
    parser.add_argument("--largest-channels", type=int, default=64)
    parser.add_argument("--picture", type=Path, help="default: catalogues.png under --out")
    parser.add_argument("--out", type=out_folder, default=Path("runs/benchmarks"))
    options = parser.parse_args(argv)
    options.threads = torch.get_num_threads()
    benchmark = Benchmark.start("experiments.benchmarks.catalogues", argv)
    for loss in options.losses:
        trainings = {
            items: Training(loss, items, options.channels, options.batch_size)
            for items in options.items
        }
        turns: dict[int, list[float]] = {items: [] for items in options.items}
        for training in trainings.values():
            training.step()  # the first step allocates
        for _ in range(options.repeats):
            for items, training in trainings.items():
                turns[items].append(training.seconds_a_step(options.seconds))
        first = turns[options.items[0]]
        settle = {items: training.settle_seconds() for items, training in trainings.items()}
        trainings.clear()  # fresh processes need the memory
        for items, seconds in turns.items():
            ratios = [a / b for a, b in zip(seconds, first, strict=True)]
            row: dict[str, Any] = {
                "loss": loss,
                "num_items": items,
                "channels": options.channels,
                "steps_a_second": round(1 / statistics.median(seconds), 2),
                "peak_gb": round(
                    apart(peak_bytes, loss, items, options, options.channels) / 1e9, 2
                ),
                "time_in_smallest": round(statistics.median(ratios), 2),
                "range": [round(min(ratios), 2), round(max(ratios), 2)],
            }
            if loss == "sampled":
                row |= {"limit": WANTED, "settle_seconds": round(settle[items], 3)}
            benchmark.add(**row)
            benchmark.write(options.out / "catalogues.json")
    rows = list(benchmark.content["rows"])
    if options.largest:
        found = apart(largest, options.largest, options)
        channels = options.largest_channels
        benchmark.add(
            loss="sampled", num_items=options.largest, channels=channels, **found, peak_gb_limit=24
        )
    draw(rows, options.picture or options.out / "catalogues.png")
    benchmark.finish(options.out / "catalogues.json")


if __name__ == "__main__":
    main()
