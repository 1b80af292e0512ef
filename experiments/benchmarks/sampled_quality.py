"""What negative sampling costs in quality at a million items: equal time, and equal clicks.

Generated sessions whose items fall into many small categories: the last click's category says most
of the next click. GRU4Rec of the exact loss gets ``--seconds`` of processor time. Sampled
softmax gets the same batches at first, then the same time. Differences to the exact loss are in
points with a paired 95% interval, clustered by session.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback

import graphseq as gs
from experiments.benchmarks.report import Benchmark
from graphseq.evaluation import Report

METRICS = ("hr@20", "mrr@20")


class Spent(Callback):
    """Ends a training once it has taken so much processor time.

    Args:
        most: Seconds.
    """

    def __init__(self, most: float) -> None:
        self.most, self.steps, self.seconds = most, 0, 0.0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._started = time.process_time()

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self.steps += 1
        self.seconds = time.process_time() - self._started
        trainer.should_stop = self.seconds > self.most


def trained(
    loss: Any, split: gs.Split, options: argparse.Namespace, *, steps: int | None = None
) -> tuple[gs.models.SessionModel, Spent]:
    """GRU4Rec after so many steps, or after the time of ``--seconds``."""
    torch.manual_seed(0)
    model = gs.models.GRU4Rec(split.num_items, options.channels)
    spent = Spent(float("inf") if steps else options.seconds)
    gs.fit(
        model,
        split.train,
        loss=loss,
        max_epochs=1 if steps else 1_000,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        callbacks=spent,
        trainer_options={"limit_train_batches": steps} if steps else None,
        progress=False,
    )
    return model, spent


def ways(
    split: gs.Split, options: argparse.Namespace
) -> Iterator[tuple[str, int | None, tuple[gs.models.SessionModel, Spent]]]:
    """Trained models by the name of their loss and its negatives; the exact one comes first."""
    exact = trained("cross_entropy", split, options)
    yield "exact", None, exact
    for negatives in options.negatives:
        loss = gs.SampledLoss("sampled_softmax", num_negatives=negatives, alpha=0.75)
        same = trained(loss, split, options, steps=exact[1].steps)
        yield "sampled, the same clicks", negatives, same
        yield "sampled, the same time", negatives, trained(loss, split, options)
    popular = gs.models.MODELS["popularity"](split.num_items)
    gs.fit(popular, split.train, progress=False)
    yield "popularity", None, (popular, Spent(0.0))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--sessions", type=int, default=600_000)
    parser.add_argument("--category", type=int, default=50, help="items of a category")
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--negatives", type=int, nargs="+", default=[256, 2_048])
    parser.add_argument("--seconds", type=float, default=180.0, help="processor time of a training")
    parser.add_argument("--cases", type=int, default=1_000, help="test sessions")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    benchmark = Benchmark.start("experiments.benchmarks.sampled_quality", argv)
    path = options.out / "sampled_quality.json"
    for num_items in options.items:
        sessions = gs.generate_sessions(
            options.sessions,
            num_items,
            mean_length=5.0,
            num_categories=num_items // options.category,
            drift=0.0,
            pattern=0.0,
            loops=0.0,
            seed=0,
        )
        test = options.cases / options.sessions
        split = gs.session_split(sessions, test_fraction=test, seed=0)
        first: Report | None = None
        for name, negatives, (model, spent) in ways(split, options):
            own = gs.evaluate(model, split.test, ks=20)
            first = first or own
            row: dict[str, Any] = {
                "items": num_items,
                "loss": name,
                "negatives": negatives,
                "cpu_seconds": round(spent.seconds, 1),
                "steps": spent.steps,
            }
            for metric in METRICS:
                paired = own.compare(first, metric)
                row[metric] = round(own.metrics[metric] * 100, 2)
                row[f"{metric} less exact"] = round(paired.difference * 100, 2)
                ends = (paired.low, paired.high)
                row[f"{metric} interval"] = [round(end * 100, 2) for end in ends]
            benchmark.add(**row)
            benchmark.write(path)
    benchmark.finish(path)


if __name__ == "__main__":
    main()
