"""Distillation: what a small model and a table keep of a large teacher, and what they save.

The teacher is an ensemble of the settings' SR-GNN and VSTAN, with weights learned on validation.
Students are GRU4Rec of a few channels, with the teacher and without, and a table of its lists; a
table that is counted stands beside. Differences to the teacher are in points with a paired 95%
interval, clustered by session; answers are timed one by one, in processor time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import graphseq as gs
from experiments.benchmarks.report import Benchmark
from experiments.lib.parts import part_of
from experiments.lib.results import fit_whole
from graphseq.comparison import Settings
from graphseq.models import SessionModel

METRICS = ("hr@20", "mrr@20")


def measured(model: SessionModel, asked: list[list[Any]]) -> dict[str, Any]:
    """Bytes of its folder, and milliseconds of processor time per answer."""
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model")
        size = sum(each.stat().st_size for each in (Path(folder) / "model").iterdir())
    recommender = gs.Recommender(model)
    recommender.recommend(asked[0], 20)
    started = time.process_time()
    for session in asked:
        recommender.recommend(session, 20)
    spent = (time.process_time() - started) * 1e3 / len(asked)
    return {"bytes": size, "cpu_ms": round(spent, 3)}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="uci-eshop")
    parser.add_argument("--root", default=None, help="folder of the data sets")
    parser.add_argument("--channels", type=int, default=16, help="of the small GRU4Rec")
    parser.add_argument("--epochs", type=int, default=8, help="of the small GRU4Rec")
    parser.add_argument("--weight", type=float, default=2.0, help="of the teacher's loss")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    split = part_of(options.dataset, options.root)
    validation = split.validation
    assert validation is not None  # parts have one
    benchmark = Benchmark.start("experiments.benchmarks.distilled", argv, options.dataset)
    path = options.out / "distilled.json"
    settings = Settings.for_dataset(options.dataset)
    (entry,) = [each for each in settings.models if each.name in ("srgnn", "srgnn, normalized")][:1]
    large = entry.new_model(split.num_items, 0)
    fit_whole(large, split.train, entry.training, progress=False)
    neighbors = gs.models.MODELS["vstan"](split.num_items)
    fit_whole(neighbors, split.train, progress=False)
    teacher = gs.models.Ensemble.from_models([large, neighbors], fusion="scores")
    teacher.learn_weights(validation)
    temperature = gs.training.temperature_of(teacher, validation)
    asked = [session[:-1] for session in split.test.to_lists() if len(session) > 1][:300]

    def student(seed: int, *auxiliary: gs.training.Auxiliary) -> SessionModel:
        torch.manual_seed(seed)
        made = gs.models.GRU4Rec(split.num_items, options.channels)
        fit_whole(
            made,
            split.train,
            auxiliary=auxiliary,
            max_epochs=options.epochs,
            batch_size=64,
            learning_rate=0.01,
            schedule="linear",
            seed=seed,
            progress=False,
        )
        return made

    best = gs.evaluate(teacher, split.test, ks=20)

    def add(name: str, model: SessionModel, seed: int = 0, **more: Any) -> None:
        own = gs.evaluate(model, split.test, ks=20)
        row: dict[str, Any] = {"model": name, "seed": seed}
        for metric in METRICS:
            test = own.compare(best, metric)
            row[metric] = round(own.metrics[metric] * 100, 2)
            row[f"{metric} less teacher"] = round(test.difference * 100, 2)
            ends = (test.low, test.high)
            row[f"{metric} interval"] = [round(end * 100, 2) for end in ends]
        benchmark.add(**row, **measured(model, asked))
        benchmark.write(path)

    weights = ", ".join(f"{weight:g}" for weight in teacher.weights)
    add(f"teacher: srgnn and vstan, weights {weights}", teacher)
    add("srgnn alone", large)
    for seed in options.seeds:
        add(f"gru4rec of {options.channels} channels", student(seed), seed)
        lesson = gs.training.Distillation(teacher, options.weight, temperature=temperature)
        add(f"gru4rec of {options.channels} channels, distilled", student(seed, lesson), seed)
    add(
        "table of the teacher",
        gs.serving.distill_table(teacher, split.train, temperature=temperature),
    )
    counted = gs.models.MODELS["sequential_rules"](split.num_items)
    fit_whole(counted, split.train, progress=False)
    add("table, counted", counted)
    benchmark.content["note"] = f"{best.num_cases:,} targets; {len(asked)} answers are timed."
    benchmark.finish(path)


if __name__ == "__main__":
    main()
