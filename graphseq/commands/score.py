"""``graphseq score``: the next items for every session of a large log, in Parquet."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from graphseq.commands.logs import add_log, read

EPILOG = """\
examples:
  graphseq score clicks.parquet recommender --session sid --item sku --time ts --out next
  graphseq score clicks.parquet recommender --out next --workers processes

A run that was stopped goes on where it ended when the same command runs again.
"""


def add_to(commands: Any) -> None:
    """Adds the command to the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "score",
        help="the next items for every session of a large log, in Parquet",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_log(parser)
    parser.add_argument("folder", metavar="FOLDER", help="a saved recommender or model")
    parser.add_argument(
        "--out", type=Path, required=True, help="the folder of the Parquet files, one per shard"
    )
    parser.add_argument("-k", type=int, default=10, help="items per session (default: 10)")
    parser.add_argument("--exclude-seen", action="store_true", help="no item of the session itself")
    parser.add_argument(
        "--shard", type=int, default=10_000, help="sessions per shard (default: 10000)"
    )
    parser.add_argument(
        "--workers",
        choices=["threads", "processes"],
        default="threads",
        help="what works on the shards, through Dask (default: threads)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Scores the missing shards, and prints their number."""
    from graphseq.serving.scoring import score_log  # only this command needs it

    logging.getLogger("graphseq.serving").setLevel(logging.INFO)
    done = score_log(
        options.folder,
        read(options),
        options.out,
        k=options.k,
        exclude_seen=options.exclude_seen,
        sessions_per_shard=options.shard,
        client=options.workers,
    )
    sys.stdout.write(
        f"{done.sessions:,} sessions in {done.shards} shards, {done.scored} of them scored now: "
        f"{done.folder}\n"
    )
