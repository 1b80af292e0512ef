"""``graphseq describe``: what a log looks like, and which models to start with."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from graphseq.commands.logs import add_log, read
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
    sys.stdout.write(f"\n{suggest(sessions)}\n")
