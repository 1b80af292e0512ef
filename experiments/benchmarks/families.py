"""Every neural family of ``MODELS``: targets a second of training, sessions a second of ranking.

Training is ``graphseq.fit`` itself, some epochs of a few steps; an epoch is one repeat. A target is
one predicted item: a position, the item after a prefix, a masked position. A step takes a batch of
512 samples, sessions or prefixes as the family is trained. Ranking is ``graphseq.evaluate`` of one
target a session, its last click, against all items.

Beside each figure stands the bound that this machine's matrix product sets, measured just before
and after it: exact training needs ``6 * num_items * d`` floating-point operations a target, ranking
``2 * num_items * d``. ``data_share`` is the part of a step that waits for its batch.

A ranker of pairs (``samples = "pairs"``) is trained as it is meant to be, on four negatives a
target (``pairs``); ranking all items is not its work, and is measured all the same.

``--memory`` measures instead the peak of resident memory of training with 1,000,000 items, each
family in a separate process.
"""

from __future__ import annotations

import argparse
import inspect
import multiprocessing
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch

import graphseq as gs
from experiments.benchmarks.losses import peak_resident_bytes
from experiments.benchmarks.report import Benchmark
from experiments.lib.arguments import out_folder
from graphseq.models import MODELS, CountingModel, SessionModel
from graphseq.models.reading import TrainingRows

DIGINETICA_ITEMS = 43_097
LOSSES: dict[str, str | gs.SampledLoss] = {
    "sampled": gs.SampledLoss("sampled_softmax", num_negatives=2048, alpha=0.75),
    "exact": "cross_entropy",
    "pairs": gs.SampledLoss("bce", num_negatives=4),
}
ARGUMENTS: dict[str, dict[str, Any]] = {
    # Heads must divide a width of 100, which their default of 8 does not.
    "bst": {"heads": 4},
    "bst_ranker": {"heads": 4},
}
"""Arguments of families that cannot take their defaults here."""

TRAINED_BY = ["sampled", "exact"]
PEAK_LIMIT_GB = 2.5
SHARE_WANTED = 0.6


@dataclass
class Counted:
    """What went through a training: steps, targets, seconds in which batches were built."""

    steps: int = 0
    targets: int = 0
    data_seconds: float = 0.0


@contextmanager
def counting(model: SessionModel) -> Iterator[Counted]:
    """Counts what ``fit`` does within the block, without its own training loop."""
    counted = Counted()
    build, vectors = gs.SessionGraphDataset.batch, model.training_rows
    by_table = model.scores_by_table

    def batch(dataset: gs.SessionGraphDataset, index: Any) -> Batch:
        start = time.perf_counter()
        built = build(dataset, index)
        counted.data_seconds += time.perf_counter() - start
        counted.steps += 1
        counted.targets += 0 if by_table else int((built.y >= 0).sum())
        return built

    def training_rows(batch: Batch, generator: torch.Generator) -> TrainingRows:
        rows = vectors(batch, generator)
        counted.targets += int((rows.targets >= 0).sum())
        return rows

    with (
        patch.object(gs.SessionGraphDataset, "batch", batch),
        patch.object(model, "training_rows", training_rows),
    ):
        yield counted


def build_model(
    name: str, num_items: int, hidden_channels: int, max_length: int, **arguments: Any
) -> SessionModel:
    """The family in its default form, of this width and, where it has one, this window."""
    torch.manual_seed(0)
    family = MODELS[name]
    sizes = {"hidden_channels": hidden_channels, "max_length": max_length}
    known = inspect.signature(family).parameters
    sizes = {key: value for key, value in sizes.items() if key in known}
    return family(num_items, **(sizes | ARGUMENTS.get(name, {}) | arguments))


def losses_of(family: type[SessionModel], wanted: list[str]) -> list[str]:
    """The losses it is measured with; a ranker of pairs has its own."""
    if family.samples == "pairs":
        return ["pairs"]
    return wanted


def enough_sessions(
    model: SessionModel, sessions: gs.Sessions, steps: int, batch_size: int
) -> gs.Sessions:
    """Sessions, in random order, that fill this many steps and no more (or all there are)."""
    order = np.random.default_rng(0).permutation(np.flatnonzero(sessions.lengths > 1))
    samples = sessions.lengths[order] - 1
    if model.samples in ("sessions", "cloze"):
        samples = np.ones_like(samples)
    needed = int(np.searchsorted(np.cumsum(samples), steps * batch_size, side="right"))
    return sessions.select(order[: max(needed, 1)])


@dataclass
class Training:
    """Targets a second of each repeat, and what a step was."""

    speeds: list[float]
    optimizer: str
    steps: int
    targets_a_step: float
    data_share: float


def train(
    model: SessionModel,
    sessions: gs.Sessions,
    loss: str,
    *,
    batch_size: int,
    steps: int,
    repeats: int,
    seconds: float = 3600.0,
    optimizer: str = "",
) -> Training:
    """Trains by ``fit``, one epoch a repeat.

    Args:
        steps: Steps of an epoch, at most.
        seconds: A slower family takes fewer steps, about so long in all.
        optimizer: One of ``fit``; empty: its default.
    """
    chosen = optimizer or str(gs.TrainingSettings().optimizer)

    def run(steps: int, epochs: int) -> tuple[Counted, list[float]]:
        part = enough_sessions(model, sessions, steps, batch_size)
        with counting(model) as counted:
            fitted = gs.fit(
                model,
                part,
                loss=LOSSES[loss],
                max_epochs=epochs,
                batch_size=batch_size,
                optimizer=chosen,
                progress=False,
            )
        return counted, fitted.history["seconds"].tolist()

    first, times = run(2, 1)  # first steps allocate: not counted
    one = times[0] / first.steps
    steps = max(1, min(steps, int(seconds / one / repeats)))
    counted, times = run(steps, repeats)
    return Training(
        speeds=[counted.targets / repeats / each for each in times],
        optimizer=chosen,
        steps=counted.steps // repeats,
        targets_a_step=counted.targets / counted.steps,
        data_share=counted.data_seconds / sum(times),
    )


def rank(
    model: SessionModel, sessions: gs.Sessions, *, repeats: int, seconds: float = 3600.0
) -> list[float]:
    """Sessions a second of ranking all items for one target of each; one figure a repeat."""
    number, taken = 1, 0.0
    while taken < 0.3 and number < sessions.num_sessions:  # the first ones allocate: not counted
        number = min(4 * number, sessions.num_sessions)
        taken = gs.evaluate(model, sessions.select(np.arange(number))).seconds
    number = max(1, min(sessions.num_sessions, int(number / taken * seconds / repeats)))
    part = sessions.select(np.arange(number))
    return [number / gs.evaluate(model, part).seconds for _ in range(repeats)]


def last_targets(sessions: gs.Sessions) -> gs.Sessions:
    """The sessions in random order, with the last click of each as the only target."""
    order = np.random.default_rng(0).permutation(np.flatnonzero(sessions.lengths > 1))
    return replace(sessions.select(order), first_target=sessions.lengths[order] - 1)


class MatrixBound:
    """What the matrix product of this machine allows, at the best of a few block sizes.

    Args:
        num_items, channels: Shape of the item table.
        rows: Numbers of vectors multiplied at once.
        columns: Numbers of items multiplied at once.
    """

    def __init__(
        self,
        num_items: int,
        channels: int,
        rows: tuple[int, ...] = (512, 2048),
        columns: tuple[int, ...] = (512, 2048, 8192),
    ) -> None:
        self.weight = torch.randn(num_items, channels)
        self.shapes = [(row, column) for row in rows for column in columns]
        self.best = {
            kind: max(self.shapes, key=lambda shape: self._speed(kind, shape))
            for kind in ("train", "rank")
        }

    def speed(self, kind: str) -> float:
        """Targets (``"train"``) or sessions (``"rank"``) a second."""
        return self._speed(kind, self.best[kind])

    def _speed(self, kind: str, shape: tuple[int, int]) -> float:
        rows, columns = shape
        x = torch.randn(rows, self.weight.size(1))
        out = torch.empty(rows, min(columns, len(self.weight)))
        blocks = self.weight.split(columns)
        step = self._three if kind == "train" else self._one
        start = time.perf_counter()
        for w in blocks:
            step(x, w, out[:, : len(w)])
        return rows / (time.perf_counter() - start)

    @staticmethod
    def _one(x: Tensor, w: Tensor, out: Tensor) -> None:
        torch.mm(x, w.t(), out=out)

    @staticmethod
    def _three(x: Tensor, w: Tensor, out: Tensor) -> None:
        torch.mm(x, w.t(), out=out)
        out @ w
        out.t() @ x


def middle(values: list[float]) -> int:
    return round(statistics.median(values))


def ends(values: list[float]) -> list[int]:
    return [round(min(values)), round(max(values))]


def measure(
    benchmark: Benchmark,
    name: str,
    train_sessions: gs.Sessions,
    test_sessions: gs.Sessions,
    bound: MatrixBound,
    options: argparse.Namespace,
) -> None:
    """Adds the rows of one family: one for each loss, one for ranking."""
    model = build_model(name, train_sessions.num_items, options.hidden_channels, options.max_length)
    for loss in losses_of(MODELS[name], options.losses):
        before = bound.speed("train")
        training = train(
            model,
            train_sessions,
            loss,
            batch_size=options.batch_size,
            steps=options.steps,
            repeats=options.repeats,
            seconds=options.seconds,
        )
        limit = statistics.mean((before, bound.speed("train")))
        row = {
            "family": name,
            "loss": loss,
            "optimizer": training.optimizer,
            "targets_a_second": middle(training.speeds),
            "range": ends(training.speeds),
        }
        if loss == "exact":
            row |= {
                "bound": round(limit),
                "share_of_bound": round(statistics.median(training.speeds) / limit, 2),
                "share_wanted": SHARE_WANTED,
            }
        benchmark.add(
            **row,
            data_share=round(training.data_share, 3),
            targets_a_step=round(training.targets_a_step),
            steps=training.steps,
            repeats=options.repeats,
        )
    before = bound.speed("rank")
    speeds = rank(model, test_sessions, repeats=options.repeats, seconds=options.seconds)
    limit = statistics.mean((before, bound.speed("rank")))
    benchmark.add(
        family=name,
        sessions_a_second=middle(speeds),
        range=ends(speeds),
        bound=round(limit),
        share_of_bound=round(statistics.median(speeds) / limit, 2),
        share_wanted=SHARE_WANTED,
        repeats=options.repeats,
    )


MEMORY_VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "gru4rec, separate": ("gru4rec", {"embedding": "separate"}),
}
"""Forms with two tables of families that have one by default."""


def item_tables(model: SessionModel) -> int:
    """Matrices with a row for every item."""
    return sum(p.dim() == 2 and p.size(0) >= model.num_items for p in model.parameters())


def memory_row(name: str, loss: str, num_items: int, options: argparse.Namespace) -> dict[str, Any]:
    """What training takes at its peak; to be called in a fresh process."""
    torch.set_num_threads(options.threads)
    family, arguments = MEMORY_VARIANTS.get(name, (name, {}))
    sessions = gs.generate_sessions(20_000, num_items, mean_length=5.0, seed=0)
    before = peak_resident_bytes()
    model = build_model(family, num_items, options.hidden_channels, options.max_length, **arguments)
    tables = item_tables(model)
    optimizer = "adam" if tables < 2 else "rowwise_adagrad"
    # The second step has both gradients and the state that the optimizer made in the first.
    with counting(model) as counted:
        gs.fit(
            model,
            enough_sessions(model, sessions, 2, options.batch_size),
            loss=LOSSES[loss],
            max_epochs=1,
            batch_size=options.batch_size,
            optimizer=optimizer,
            progress=False,
        )
    return {
        "family": name,
        "loss": loss,
        "optimizer": optimizer,
        "item_tables": tables,
        "num_items": num_items,
        "peak_gb": round(peak_resident_bytes() / 1e9, 2),
        "peak_gb_limit": PEAK_LIMIT_GB,
        "before_the_model_gb": round(before / 1e9, 2),
        "steps": counted.steps,
        "targets_a_step": round(counted.targets / counted.steps),
    }


def main(argv: list[str] | None = None) -> None:
    neural = [name for name, family in MODELS.items() if not issubclass(family, CountingModel)]
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmarks.families",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dataset", help="default: generated sessions, as many items as --items")
    parser.add_argument("--root")
    parser.add_argument("--families", nargs="+", choices=neural, default=neural)
    parser.add_argument("--losses", nargs="+", choices=TRAINED_BY, default=TRAINED_BY)
    parser.add_argument("--hidden-channels", type=int, default=100)
    parser.add_argument("--max-length", type=int, default=50)
    parser.add_argument("--items", type=int, help=f"default: {DIGINETICA_ITEMS:,}, or a million")
    parser.add_argument("--sessions", type=int, default=50_000, help="generated sessions")
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=50, help="of each repeat, at most")
    parser.add_argument("--seconds", type=float, default=20.0, help="of all repeats, about")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="measure memory, not speed")
    parser.add_argument("--note", help="said beside the results: a busy machine, ...")
    parser.add_argument("--out", type=out_folder, default=Path("runs/benchmarks"))
    options = parser.parse_args(argv)
    options.threads = torch.get_num_threads()
    module = "experiments.benchmarks.families"
    if options.memory:
        benchmark = Benchmark.start(module, argv)
    else:
        if options.dataset is None:
            items = options.items or DIGINETICA_ITEMS
            sessions = gs.generate_sessions(options.sessions, items, mean_length=5.0, seed=0)
        else:
            sessions = gs.load_split(options.dataset, options.root).train
        benchmark = Benchmark.start(module, argv, options.dataset, sessions)
    if options.note:
        benchmark.content["note"] = options.note
    if options.memory:
        processes = multiprocessing.get_context("spawn")
        variants = [v for v, (family, _) in MEMORY_VARIANTS.items() if family in options.families]
        for name in [*options.families, *variants]:
            family, _ = MEMORY_VARIANTS.get(name, (name, {}))
            for loss in losses_of(MODELS[family], options.losses):
                with processes.Pool(1) as pool:
                    row = pool.apply(memory_row, (name, loss, options.items or 1_000_000, options))
                benchmark.add(**row)
                benchmark.write(options.out / "memory.json")
        benchmark.finish(options.out / "memory.json")
        return
    test = last_targets(sessions)
    bound = MatrixBound(sessions.num_items, options.hidden_channels)
    for name in options.families:
        measure(benchmark, name, sessions, test, bound, options)
        benchmark.write(options.out / "families.json")
    benchmark.finish(options.out / "families.json")


if __name__ == "__main__":
    main()
