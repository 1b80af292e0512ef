"""``graphseq describe``: what a log looks like, and which models to start with."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from graphseq.commands.logs import add_log, add_split, is_named, read, read_split
from graphseq.data import DATASETS
from graphseq.data.sessions.describe import describe
from graphseq.models import suggest


def add_to(commands: Any) -> None:
    """Adds the command to the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "describe",
        help="what a log looks like, and which models to start with",
        description="Counts sessions, clicks, items and repeats, and suggests models.",
        epilog="example: graphseq describe clicks.csv --session sid --item sku --time ts",
    )
    add_log(parser)
    add_split(parser)
    group = parser.add_argument_group("suggestion")
    group.add_argument(
        "--measure",
        action="store_true",
        help="train the families, and name those that beat counting on the validation part",
    )
    group.add_argument(
        "--minutes", type=float, default=1.25, help="approximate time for that (default: 1.25)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Writes the table and the suggestion to standard output."""
    sessions = read(options)
    table = describe(sessions)["value"]
    width = max(map(len, table.index))
    for name, value in table.items():
        shown = "-" if value is None else f"{value:.4g}" if isinstance(value, float) else value
        shown = f"{value:,}" if isinstance(value, int) else shown
        sys.stdout.write(f"{name:{width}}  {shown}\n")
    if options.measure:
        named = DATASETS[options.log].validation if is_named(options.log) else None
        split = read_split(options, named)
        told = suggest(split, measure=True, minutes=options.minutes)
    else:
        told = suggest(sessions)
    sys.stdout.write(f"\n{told}\n")
