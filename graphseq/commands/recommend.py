"""``graphseq recommend``: the next items for the sessions of a log, from a trained model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from graphseq.commands.logs import add_log, read
from graphseq.comparison import Comparison, Entry
from graphseq.models.persistence import load
from graphseq.models.recommend import recommend

EPILOG = """\
examples:
  graphseq recommend runs clicks.csv --session sid --item sku --time ts -k 10 --to next.csv
  graphseq recommend runs/models/srgnn-seed0/model clicks.csv --session sid --item sku --time ts
"""


def add_to(commands: Any) -> None:
    """Adds the command to the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "recommend",
        help="the next items for the sessions of a log",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="the folder of a saved model, or the --out of a comparison: its best model",
    )
    add_log(parser)
    parser.add_argument("-k", type=int, default=10, help="items for each session (default: 10)")
    parser.add_argument("--exclude-seen", action="store_true", help="no item of the session itself")
    parser.add_argument(
        "--to", type=Path, help="a .csv or .parquet file (default: standard output, as CSV)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Writes a row a recommendation: session, rank, item, score."""
    if options.to is not None and options.to.suffix not in (".csv", ".parquet"):
        raise ValueError(f"--to is a .csv or a .parquet file, got {options.to}.")
    model = load(_folder(options.model))
    sessions = read(options)
    lists = recommend(model, sessions, options.k, exclude_seen=options.exclude_seen)
    lengths = [len(found) for found in lists]
    names = sessions.session_ids
    named = np.arange(len(lists)) if names is None else np.asarray(names)
    frame = pd.DataFrame(
        {
            "session": np.repeat(named, lengths),
            "rank": np.concatenate([np.arange(1, n + 1) for n in lengths]),
            "item": [item for found in lists for item, _ in found],
            "score": [score for found in lists for _, score in found],
        }
    )
    if options.to is None:
        frame.to_csv(sys.stdout, index=False)
    elif options.to.suffix == ".csv":
        frame.to_csv(options.to, index=False)
    else:
        frame.to_parquet(options.to, index=False)


def _folder(path: Path) -> Path:
    """The folder of the model: the best one's, where the path is that of a comparison."""
    if not (path / "results.json").exists():
        return path
    comparison = Comparison.load(path)
    best = comparison.models[0]
    seed = next(row["seed"] for row in comparison.content["rows"] if row["model"] == best)
    return path / "models" / f"{Entry(best, '').slug}-seed{seed}" / "model"
