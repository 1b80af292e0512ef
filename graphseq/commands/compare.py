"""``graphseq compare``: trains models on a log and evaluates them on the same test cases."""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from graphseq.commands.logs import add_log, add_split, is_named, read_split
from graphseq.comparison import Settings, choose, compare, settings_of
from graphseq.comparison.record import write_json

logger = logging.getLogger("graphseq.comparison")

EPILOG = """\
examples:
  graphseq compare                                                   # the bundled data set
  graphseq compare clicks.csv --session sid --item sku --time ts --out runs
  graphseq compare clicks.csv --user uid --item sku --time ts --gap 1h --models markov srgnn
  graphseq compare movielens-small --models all --seeds 3 --out runs

Under --out: results.json, results.csv, table.md, table.tex, comparison.png, cost.png, the settings
of the lines (settings.json), and models/ with each trained model.
"""
SETTINGS = "settings.json"
"""File of the compared models' settings in the folder ``--out``; ``--settings`` reads it."""


def add_to(commands: Any) -> None:
    """Adds the command to the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "compare",
        help="train models on a log and rank the same test cases with each",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_log(parser, default="uci-eshop")
    add_split(parser)
    group = parser.add_argument_group("models")
    group.add_argument(
        "--models",
        nargs="+",
        metavar="NAME",
        help="families, or lines of the settings, or 'all' (default: those that the data set's "
        "settings name; for a log of your own, those that it suggests and --minutes allows)",
    )
    group.add_argument(
        "--settings", type=Path, help="a settings file, as `graphseq tune` writes one"
    )
    group.add_argument(
        "--minutes",
        type=float,
        default=1.25,
        help="about how long models may train and rank, where none are named (default: 1.25)",
    )
    group.add_argument(
        "--seeds",
        nargs="+",
        type=int,
        default=[1],
        metavar="N",
        help="runs of each model, of seeds 0, 1, ...; several numbers are the seeds themselves "
        "(default: 1)",
    )
    group.add_argument(
        "--exclude-seen", action="store_true", help="remove items of the history from the ranking"
    )
    group.add_argument("--device", default="cpu", help="cpu, cuda, mps (default: cpu)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs"), help="folder of the results (default: runs)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="reuse the results in --out that are of the same data"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Compares models; writes the table to standard output and everything to ``--out``."""
    settings = _settings(options)
    split = read_split(options, settings.validation)
    logger.info("%s", split)
    seeds = options.seeds[0] if len(options.seeds) == 1 and options.seeds[0] else options.seeds
    if options.models is None and not settings.models:
        number = seeds if isinstance(seeds, int) else len(seeds)
        lines = choose(split, 60 * options.minutes, seeds=number)
    else:
        known = settings if settings.models else Settings.for_dataset("default")
        lines = known.select(options.models)
    chosen = replace(
        settings,
        models=tuple(lines),
        default=(),
        exclude_seen=options.exclude_seen or settings.exclude_seen,
    )
    comparison = compare(
        split,
        lines,
        seeds=seeds,
        settings=chosen,
        device=options.device,
        out=options.out,
        resume=options.resume,
        progress=False,
        name=options.log if is_named(options.log) else Path(options.log).name,
        command=options.line,
    )
    write_json(chosen.to_dict(), options.out / SETTINGS)
    said = "\n".join([comparison.to_markdown(), "", *comparison.sentences()])
    files = ("results.json", "table.md", "table.tex", "comparison.png", "cost.png")
    names = "\n".join(str(options.out / name) for name in files)
    sys.stdout.write(f"{said}\n\n{names}\n")


def _settings(options: argparse.Namespace) -> Settings:
    """The settings from a file, from the resumed comparison or of the data set; else ``None``."""
    before = options.out / SETTINGS
    if options.settings is not None:
        return settings_of(options.settings)
    if is_named(options.log):
        return Settings.for_dataset(options.log)
    if options.resume and options.models is None and before.exists():
        return Settings.read(before)
    return Settings()
