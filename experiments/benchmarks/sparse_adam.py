"""Adam on a large item table: dense, by rows as graphseq does it, and torch's ``SparseAdam``.

Each step draws items by popularity and pulls their rows towards a target. ``seconds`` are those of
the processor for one step of the optimizer. ``distance`` is how far the table ends from that of
dense Adam, as a share of how far that has moved.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import Embedding

from experiments.benchmarks.report import Benchmark
from experiments.lib.arguments import out_folder
from graphseq.training.optim.optimizers import RowSparseOptimizer

RATE = 1e-3

MAKERS: dict[str, Callable[[Embedding], torch.optim.Optimizer]] = {
    "torch Adam, dense": lambda table: torch.optim.Adam(table.parameters(), RATE),
    "graphseq, by rows": lambda table: RowSparseOptimizer(table.parameters(), "adam", RATE),
    "torch SparseAdam": lambda table: torch.optim.SparseAdam(list(table.parameters()), RATE),
}


def trained(name: str, options: argparse.Namespace) -> tuple[Tensor, Tensor, list[float]]:
    """The table before and after all steps, and the seconds of each step."""
    generator = torch.Generator().manual_seed(0)
    size = options.items, options.channels
    first = torch.randn(size, generator=generator) * 0.1
    goal = torch.randn(size, generator=generator) * 0.1
    table = Embedding.from_pretrained(first.clone(), freeze=False, sparse="dense" not in name)
    optimizer = MAKERS[name](table)
    if isinstance(optimizer, RowSparseOptimizer):
        optimizer.watch(table)
    weights = 1.0 / torch.arange(1, options.items + 1)
    seconds = []
    for _ in range(options.steps):
        rows = torch.multinomial(weights, options.rows, True, generator=generator)
        optimizer.zero_grad()
        (table(rows) - goal[rows]).square().sum().backward()
        start = time.process_time()
        optimizer.step()
        seconds.append(time.process_time() - start)
    if isinstance(optimizer, RowSparseOptimizer):
        optimizer.settle()
    return first, table.weight.detach(), seconds


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--out", type=out_folder, default=Path("runs/benchmarks"))
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    benchmark = Benchmark.start("experiments.benchmarks.sparse_adam", argv)
    dense: Tensor | None = None
    for name in MAKERS:
        first, after, seconds = trained(name, options)
        dense = after if dense is None else dense
        benchmark.add(
            optimizer=name,
            items=options.items,
            rows=options.rows,
            steps=options.steps,
            seconds=round(statistics.median(seconds), 5),
            distance=round(float((after - dense).norm() / (dense - first).norm()), 6),
        )
    benchmark.finish(options.out / "sparse_adam.json")


if __name__ == "__main__":
    main()
