"""A trained model and a counting one, fused: what the second adds to the row of a published table.

The weights of the fusion are learned on the newest part of the training sessions, by models that
did not see it. Both are then trained on all training sessions, and the test is ranked once. These
are two models, each served: a row of its own kind beside the tables of single models.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import graphseq as gs
from experiments.benchmarks.report import Benchmark
from experiments.lib.arguments import Once, out_folder, seed_number
from experiments.lib.published import published
from experiments.lib.results import fit_whole, said
from graphseq.comparison import Entry
from graphseq.comparison.settings_file import settings_of
from graphseq.models import SessionModel

METRICS = ("hr@20", "mrr@20")

STEPS = 100
"""Parts of the total weight: few items have a count, whose deviations are large, so that the
weight of a counted row is small."""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.fusion", description=__doc__)
    parser.add_argument("--table", default="diginetica", metavar="NAME", help="a published table")
    parser.add_argument("--root", help="folder of the data sets (default: $GRAPHSEQ_DATA)")
    parser.add_argument("--trained", default="srgnn, normalized", help="row that is trained")
    parser.add_argument("--counted", default="vstan", help="row that is counted")
    parser.add_argument(
        "--validation", type=float, default=0.1, help="share of training sessions, the newest"
    )
    parser.add_argument("--seeds", nargs="+", type=seed_number, action=Once, default=[0])
    parser.add_argument("--matmul", choices=("highest", "medium"), default="highest")
    parser.add_argument("--out", type=out_folder, default=Path("runs/fusion"))
    options = parser.parse_args(argv)
    torch.set_float32_matmul_precision(options.matmul)
    with said():
        table = published(options.table)
        if table["protocol"] != "srgnn":
            raise ValueError(f"{options.table} is no table of session data: choose another.")
        name = table["dataset"]
        rows = {each.name: each for each in settings_of(table.get("settings", name)).models}
        trained, counted = (row_of(rows, each) for each in (options.trained, options.counted))
        part = gs.load_split(name, root=options.root, validation=options.validation)
        whole = gs.load_split(name, root=options.root)
        validation = part.validation
        if validation is None:
            raise ValueError("The weights need a validation part: give --validation above 0.")
        benchmark = Benchmark.start("experiments.fusion", argv, options.table, whole.train)
        for seed in options.seeds:
            # By row: a training resumes from what its folder holds.
            folder = options.out / f"{options.table}-{trained.slug}-{seed}"
            learned = fused(trained, counted, part, seed, folder / "part")
            learned.learn_weights(validation, steps=STEPS)
            final = fused(trained, counted, whole, seed, folder / "whole")
            final.weights = learned.weights
            for row in ranked(final, whole, (trained.name, counted.name)):
                benchmark.add(table=options.table, seed=seed, **row)
            benchmark.write(options.out / f"{options.table}.json")
        benchmark.finish(options.out / f"{options.table}.json")


def row_of(rows: dict[str, Entry], name: str) -> Entry:
    """The row of that name.

    Raises:
        ValueError: If the table has none.
    """
    if name not in rows:
        raise ValueError(f"The table has no row {name!r}: one of {', '.join(rows)}.")
    return rows[name]


def fused(
    trained: Entry, counted: Entry, split: gs.Split, seed: int, folder: Path
) -> gs.models.Ensemble:
    """Both rows, fitted on the training part, as one; checkpoints of the training in ``folder``."""
    members: list[SessionModel] = []
    for entry in (trained, counted):
        model = entry.new_model(split.num_items, seed)
        if isinstance(model, gs.models.CountingModel):
            fit_whole(model, split.train)
        else:
            settings = replace(entry.training, seed=seed)
            fit_whole(model, split.train, settings, out=folder, resume=True, progress=False)
        members.append(model)
    return gs.models.Ensemble.from_models(members, fusion="scores")


def ranked(final: gs.models.Ensemble, split: gs.Split, names: tuple[str, str]) -> list[Any]:
    """Each member and the fusion on the test; what the fusion adds, clustered by session."""
    models: dict[str, Any] = dict(zip(names, final.members, strict=True))  # typed as Module
    reports = {name: gs.evaluate(model, split.test, ks=20) for name, model in models.items()}
    joined = gs.evaluate(final, split.test, ks=20)
    weights = ", ".join(f"{weight:g}" for weight in final.weights)
    rows: list[dict[str, Any]] = []
    for name, report in {**reports, " and ".join(names): joined}.items():
        row: dict[str, Any] = {"model": name, "weights": weights if report is joined else "-"}
        for metric in METRICS:
            test = joined.compare(report, metric)
            more, low, high = (100 * value for value in (test.difference, test.low, test.high))
            row[metric] = round(100 * report.metrics[metric], 2)
            row[f"{metric}: fusion more"] = (
                "-" if report is joined else f"{more:+.2f} ({low:+.2f} to {high:+.2f})"
            )
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
