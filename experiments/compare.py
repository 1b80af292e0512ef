"""Trains models on one data set and ranks the same test cases with each: one table, one plot."""

from __future__ import annotations

import argparse
from pathlib import Path

import graphseq as gs
from experiments.lib.results import command, part_size, print_table, said
from graphseq.comparison import settings_of


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.compare", description=__doc__)
    parser.add_argument("--dataset", default="uci-eshop", choices=sorted(gs.data.DATASETS))
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
    parser.add_argument("--settings", type=Path, help="a file in place of the data set's settings")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--resume", action="store_true", help="go on from what --out holds")
    parser.add_argument("--no-progress", action="store_true")
    return parser


def main(argv: list[str] | None = None) -> None:
    options = arguments().parse_args(argv)
    with said():
        settings = settings_of(options.settings or options.dataset)
        validation = settings.validation if options.validation is None else options.validation
        comparison = gs.compare(
            gs.load_split(options.dataset, options.root, validation=validation),
            settings.select(options.models),
            settings=settings,
            seeds=options.seeds,
            device=options.device,
            out=options.out,
            resume=options.resume,
            progress=not options.no_progress,
            name=options.dataset,
            command=command("experiments.compare", argv),
        )
    print_table(comparison)
    files = ("results.json", "results.csv", "table.md", "table.tex", "comparison.png", "cost.png")
    print("\n".join(str(options.out / name) for name in files))


if __name__ == "__main__":
    main()
