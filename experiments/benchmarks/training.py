"""Training samples of SR-GNN a second: the whole step, graphs built and parameters moved.

Measured in one run: graphseq with the exact loss and with sampled softmax, and the dense padded
way of programming the same equations (``dense_srgnn.py``). The figure of the authors' code is
measured by others and is labeled so. ``matrix_share`` is the part of the time that the three
matrix products of the exact loss alone need on this machine, at its own best speed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch_geometric.data import Batch

import graphseq as gs
from experiments.benchmarks import dense_srgnn
from experiments.benchmarks.report import Benchmark
from experiments.lib.arguments import out_folder
from graphseq.training.objectives.objective import Objective
from graphseq.training.optim.optimizers import RowSparseOptimizer, sparse_tables

PUBLISHED_SAMPLES_A_SECOND = 292
"""The authors' code on two cores of the class of the project's machine, measured by others."""

WANTED = {"exact": 12, "sampled": 22}
LOSSES: dict[str, str | gs.SampledLoss] = {
    "exact": "cross_entropy",
    "sampled": gs.SampledLoss("sampled_softmax", num_negatives=2048, alpha=0.75),
}


def samples_a_second(step: Callable[[], int], steps: int) -> float:
    step()  # the first step allocates
    start = time.perf_counter()
    return sum(step() for _ in range(steps)) / (time.perf_counter() - start)


def graph_step(
    model: gs.models.SRGNN, dataset: gs.SessionGraphDataset, loss: str, batch_size: int
) -> Callable[[], int]:
    """One step of graphseq, as ``fit`` makes it: next batch built, loss, Adam."""
    objective = Objective(LOSSES[loss], model.num_items, dataset.sessions.catalog(), seed=0)
    optimizer = RowSparseOptimizer(model.parameters(), "adam", 1e-3, weight_decay=1e-5)
    sampled = loss == "sampled"
    with sparse_tables(model, sampled):
        optimizer.watch(model)
    batches = endless(dataset, batch_size)

    def step() -> int:
        number, batch = next(batches)
        optimizer.zero_grad()
        with sparse_tables(model, sampled):
            objective(model, batch, 0, number).backward()
        optimizer.step()
        return int(batch.num_graphs)

    return step


def dense_step(
    model: gs.models.SRGNN, dataset: gs.SessionGraphDataset, batch_size: int
) -> Callable[[], int]:
    """One step the dense way, from lists of items; reading the lists is not counted against it."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)
    batches = endless(dataset, batch_size)
    prepared = []
    for _ in range(8):
        _, batch = next(batches)
        lists = [
            items.tolist() for items in batch.click_item.split(batch.click_ptr.diff().tolist())
        ]
        prepared.append((lists, batch.y))
    turn = iter(range(10**9))

    def step() -> int:
        lists, y = prepared[next(turn) % len(prepared)]
        optimizer.zero_grad()
        scores = dense_srgnn.scores(model, dense_srgnn.pad(lists))
        torch.nn.functional.cross_entropy(scores, y).backward()
        optimizer.step()
        return len(lists)

    return step


def matrix_products(num_items: int, d: int, batch_size: int) -> Callable[[], int]:
    """The three matrix products of the exact loss, and nothing else."""
    x, w = torch.randn(batch_size, d), torch.randn(num_items, d)
    s = torch.empty(batch_size, num_items)

    def step() -> int:
        torch.mm(x, w.t(), out=s)
        s @ w
        s.t() @ x
        return batch_size

    return step


def endless(dataset: gs.SessionGraphDataset, batch_size: int) -> Iterator[tuple[int, Batch]]:
    """Batches of one epoch after another, each with its number in its epoch."""
    loader = gs.SessionGraphLoader(dataset, batch_size, shuffle=True, seed=0)
    while True:
        yield from enumerate(loader)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.training")
    parser.add_argument("--dataset", help="default: generated sessions with 17,376 items")
    parser.add_argument("--root")
    parser.add_argument("--hidden-channels", type=int, default=100)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[100, 256, 512])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=out_folder, default=Path("runs/benchmarks"))
    options = parser.parse_args(argv)
    if options.dataset is None:
        sessions = gs.generate_sessions(50_000, 17_376, seed=0)
    else:
        sessions = gs.load_split(options.dataset, options.root).train
    dataset = gs.SessionGraphDataset(sessions)
    benchmark = Benchmark.start("experiments.benchmarks.training", argv, options.dataset, sessions)
    d = options.hidden_channels
    for batch_size in options.batch_sizes:
        torch.manual_seed(0)
        model = gs.models.SRGNN(sessions.num_items, d)
        contestants = {
            "exact": graph_step(model, dataset, "exact", batch_size),
            "sampled": graph_step(model, dataset, "sampled", batch_size),
            "dense": dense_step(model, dataset, batch_size),
            "matrix": matrix_products(sessions.num_items, d, batch_size),
        }
        speeds: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(options.repeats):
            for name, step in contestants.items():
                speeds[name].append(samples_a_second(step, options.steps))
        speed = {name: statistics.median(values) for name, values in speeds.items()}
        for loss, wanted in WANTED.items():
            benchmark.add(
                batch_size=batch_size,
                loss=loss,
                samples_a_second=round(speed[loss]),
                dense_samples_a_second=round(speed["dense"]),
                ratio_to_dense=round(speed[loss] / speed["dense"], 2),
                ratio_to_published=round(speed[loss] / PUBLISHED_SAMPLES_A_SECOND, 1),
                ratio_to_published_wanted=wanted,
                matrix_share=round(speed[loss] / speed["matrix"], 2),
            )
    benchmark.finish(options.out / "training.json")


if __name__ == "__main__":
    main()
