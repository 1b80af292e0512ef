"""Trains models on one data set and ranks the same test cases with each: one table, one plot."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import graphseq as gs
from experiments.protocol import Protocol, part_size
from experiments.results import Results, command, paired_tests, print_table, row_of


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.compare", description=__doc__)
    parser.add_argument("--dataset", default="movielens-small", choices=sorted(gs.data.DATASETS))
    parser.add_argument("--root", help="folder of the data sets (default: $GRAPHSEQ_DATA)")
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="NAME",
        help="lines of the settings, or 'all' (default: those that the settings name as default)",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument(
        "--validation",
        type=part_size,
        help="hold out this much of training and stop by it, to choose the number of epochs; "
        "share, days or clicks as the data set's protocol has it",
    )
    parser.add_argument("--settings", type=Path, help="a file in place of experiments/settings")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--resume", action="store_true", help="go on from what --out holds")
    parser.add_argument("--no-progress", action="store_true")
    return parser


def main(argv: list[str] | None = None) -> None:
    options = arguments().parse_args(argv)
    protocol = Protocol.read(options.dataset, options.settings)
    validation = protocol.validation if options.validation is None else options.validation
    split = gs.load_split(options.dataset, options.root, validation=validation)
    line = command("experiments.compare", argv)
    results = Results.start(options.out, line, options.dataset, split, protocol)
    if options.resume:
        results.resume()
    progress, reports = not options.no_progress, {}
    for entry in protocol.select(options.models):
        for seed in options.seeds:
            name = f"{entry.slug}-seed{seed}"
            ranks = options.out / "models" / name / "report.parquet"
            if results.has(entry, seed):
                if ranks.exists():  # later rows are tested against it
                    reports[name] = gs.evaluation.Report.load(ranks)
                continue
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                model = gs.models.MODELS[entry.model](split.num_items, **entry.arguments)
            fitted = gs.fit(
                model,
                split,
                entry.training,
                exclude_seen=protocol.exclude_seen,
                seed=seed,
                device=options.device,
                out=options.out / "models" / name,
                resume=options.resume,
                progress=progress,
            )
            if fitted.interrupted:
                raise SystemExit(f"Stopped: {fitted.checkpoint} has the weights; see --resume.")
            report = gs.evaluate(
                model,
                split.test,
                ks=protocol.ks,
                exclude_seen=protocol.exclude_seen,
                progress=progress,
            )
            tests = paired_tests(name, report, reports, f"mrr@{protocol.ks[-1]}")
            report.save(ranks)
            results.add(row_of(entry, seed, model, fitted, report), tests)
            reports[name] = report
    print_table(results.content)
    figure = options.out / "comparison.png"
    gs.visualization.plot_comparison(results.content, path=figure)
    cost = options.out / "cost.png"
    gs.visualization.plot_cost(results.content, metric=f"mrr@{protocol.ks[-1]}", path=cost)
    print(f"{results.path}\n{results.path.with_suffix('.csv')}\n{figure}\n{cost}")


if __name__ == "__main__":
    main()
