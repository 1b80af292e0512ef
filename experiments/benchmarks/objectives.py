"""What each kind of negatives, of augmentation and of further loss costs a training step.

SASRec on generated sessions; a step is batch, loss, gradients and row-sparse Adam. All ways are
measured in turn, again and again, in one run, and told as a ratio to the first one: sampled softmax
over 2,048 negatives that the batch shares. Of each way the fastest repeat counts, the one that the
rest of the machine disturbed least; the slowest tells how much it did.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch_geometric.data import Batch

import graphseq as gs
from experiments.benchmarks.report import Benchmark
from experiments.lib.arguments import out_folder
from graphseq.data.graphs import augment
from graphseq.training import Auxiliary, Contrastive, DwellTime, Objective
from graphseq.training.optim.optimizers import RowSparseOptimizer, sparse_tables

SHARED = gs.SampledLoss(num_negatives=2048)


@dataclass
class Way:
    """One way of training: its loss, its changes of the data, its further losses."""

    kind: str
    name: str
    loss: gs.SampledLoss | gs.CrossEntropy = SHARED
    augmentation: augment.Augmentation | None = None
    auxiliary: Sequence[Auxiliary] = ()


def ways(train: gs.Sessions) -> list[Way]:
    sampled = gs.SampledLoss
    changes = augment.OneOf([augment.RandomCrop(), augment.ItemMask(), augment.SegmentReorder()])
    return [
        Way("negatives", "2,048 shared by the batch"),
        Way(
            "negatives",
            "the same, a fifth of them uniform",
            sampled("sampled_softmax", 2048, uniform_share=0.2),
        ),
        Way(
            "negatives",
            "the same, labels smoothed",
            sampled("sampled_softmax", 2048, label_smoothing=0.1),
        ),
        Way(
            "negatives",
            "the same, none of the session",
            sampled("sampled_softmax", 2048, exclude_session=True),
        ),
        Way(
            "negatives", "and the batch's targets", sampled("sampled_softmax", 2048, in_batch=True)
        ),
        Way("negatives", "the 32 hardest of them", sampled("sampled_softmax", 2048, hardest=32)),
        Way("negatives", "and 16 of the index", sampled("sampled_softmax", 2048, from_index=16)),
        Way("negatives", "64 of each row's own", sampled("sampled_softmax", 64, shared=False)),
        Way("negatives", "all items, exact", gs.CrossEntropy()),
        Way("negatives", "all items, labels smoothed", gs.CrossEntropy(label_smoothing=0.1)),
        Way("augmentation", "click dropout", augmentation=augment.ClickDropout()),
        Way("augmentation", "one of three", augmentation=changes),
        Way("augmentation", "substitution", augmentation=augment.Substitute(train)),
        Way("further loss", "dwell time", auxiliary=[DwellTime()]),
        Way("further loss", "contrastive, augmented", auxiliary=[Contrastive(changes)]),
        Way("further loss", "contrastive, dropout", auxiliary=[Contrastive()]),
        Way("further loss", "contrastive, same target", auxiliary=[Contrastive(same_target=True)]),
    ]


def steps_of(way: Way, train: gs.Sessions, options: argparse.Namespace) -> Callable[[], None]:
    """One step of this way, whenever it is called."""
    torch.manual_seed(0)
    model = gs.models.SASRec(train.num_items, options.hidden_channels)
    model.attach(train.catalog())
    for each in way.auxiliary:
        each.prepare(model, train)
    objective = Objective(way.loss, train.num_items, train.catalog(), 0, way.auxiliary)
    weights = [*model.parameters(), *(p for each in way.auxiliary for p in each.parameters())]
    optimizer = RowSparseOptimizer(weights, "adam", 1e-3)
    sampled = isinstance(way.loss, gs.SampledLoss)
    with sparse_tables(model, sampled):
        optimizer.watch(model)
    fields = {name for each in way.auxiliary for name in each.target_fields}
    dataset = gs.SessionGraphDataset(train, "sessions", target_fields=sorted(fields))
    loader = gs.SessionGraphLoader(
        dataset, options.batch_size, shuffle=True, bucket=True, augmentation=way.augmentation
    )

    def batches() -> Iterator[tuple[int, Batch]]:
        while True:
            yield from enumerate(loader)

    endless = batches()

    def step() -> None:
        number, batch = next(endless)
        optimizer.zero_grad()
        with sparse_tables(model, sampled):
            objective(model, batch, 0, number).backward()
        optimizer.step()

    return step


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmarks.objectives",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--items", type=int, default=43_097)
    parser.add_argument("--sessions", type=int, default=50_000)
    parser.add_argument("--hidden-channels", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=10, help="of one repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--note", help="said beside the results: a busy machine, ...")
    parser.add_argument("--out", type=out_folder, default=Path("runs/benchmarks"))
    options = parser.parse_args(argv)
    train = gs.generate_sessions(options.sessions, options.items, mean_length=5.0, seed=0)
    benchmark = Benchmark.start("experiments.benchmarks.objectives", argv, None, train)
    if options.note:
        benchmark.content["note"] = options.note
    compared = ways(train)
    steps = [steps_of(way, train, options) for way in compared]
    seconds: list[list[float]] = [[] for _ in compared]
    for repeat in range(options.repeats + 1):
        for step, taken in zip(steps, seconds, strict=True):
            start = time.perf_counter()
            for _ in range(options.steps):
                step()
            if repeat:  # the first steps allocate: not counted
                taken.append((time.perf_counter() - start) / options.steps)
    for way, taken in zip(compared, seconds, strict=True):
        benchmark.add(
            kind=way.kind,
            way=way.name,
            milliseconds=round(1000 * min(taken), 1),
            slowest=round(1000 * max(taken), 1),
            ratio=round(min(taken) / min(seconds[0]), 2),
            repeats=options.repeats,
        )
    benchmark.finish(options.out / "objectives.json")


if __name__ == "__main__":
    main()
