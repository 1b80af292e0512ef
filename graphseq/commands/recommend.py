"""``graphseq recommend``: the next items for the sessions of a log, from a trained model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from graphseq.commands.logs import add_log, read
from graphseq.comparison import Comparison, Entry

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
        help="the folder of a saved model or recommender, or the --out of a comparison: its best "
        "model",
    )
    add_log(parser)
    parser.add_argument("-k", type=int, default=10, help="items for each session (default: 10)")
    parser.add_argument(
        "--exclude-seen", action="store_true", help="leave out items of the session itself"
    )
    parser.add_argument(
        "--to", type=Path, help="a .csv or .parquet file (default: standard output, as CSV)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Writes one row per recommendation, as ``recommend(as_frame=True)`` returns them."""
    if options.to is not None and options.to.suffix not in (".csv", ".parquet"):
        raise ValueError(f"--to is a .csv or a .parquet file, got {options.to}.")
    from graphseq.serving.persistence import load  # recommenders need more libraries than models

    model = load(_folder(options.model))
    sessions = read(options)
    frame = model.recommend(sessions, options.k, exclude_seen=options.exclude_seen, as_frame=True)
    if options.to is None:
        frame.to_csv(sys.stdout, index=False)
    elif options.to.suffix == ".csv":
        frame.to_csv(options.to, index=False)
    else:
        frame.to_parquet(options.to, index=False)


def _folder(path: Path) -> Path:
    """The folder of the model; for a comparison, the folder of its best model."""
    if not (path / "results.json").exists():
        return path
    comparison = Comparison.load(path)
    best = comparison.models[0]
    seed = next(row["seed"] for row in comparison.content["rows"] if row["model"] == best)
    return path / "models" / f"{Entry(best, '').slug}-seed{seed}" / "model"
