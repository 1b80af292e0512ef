"""``graphseq tune``: searches the settings of one model on the validation part."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from graphseq.commands.logs import add_log, add_split, is_named, read_split
from graphseq.comparison import settings_of, tune
from graphseq.data import DATASETS

EPILOG = """\
examples:
  graphseq tune uci-eshop --model srgnn --trials 30 --out runs/tune
  graphseq tune clicks.csv --session sid --item sku --time ts --model sasrec --out runs/tune
  graphseq compare clicks.csv --session sid --item sku --time ts --settings runs/tune/best.json

It needs Optuna: pip install 'graphseq[tune]'.
"""


def add_to(commands: Any) -> None:
    """Adds the command to the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "tune",
        help="search settings of one model on the validation part",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_log(parser)
    add_split(parser)
    group = parser.add_argument_group("search")
    group.add_argument("--model", required=True, help="a family, or a line of the settings")
    group.add_argument("--space", type=Path, help="a file instead of the family's space")
    group.add_argument("--settings", type=Path, help="a settings file to start from")
    group.add_argument(
        "--trials", type=int, default=30, help="total number of trials (default: 30)"
    )
    group.add_argument(
        "--epochs", type=int, default=10, help="maximum number of epochs (default: 10)"
    )
    group.add_argument(
        "--monitor", default="mrr@20", help="the metric to maximize (default: mrr@20)"
    )
    group.add_argument("--seed", type=int, default=0)
    group.add_argument("--device", default="cpu", help="cpu, cuda, mps (default: cpu)")
    parser.add_argument("--out", type=Path, default=Path("runs/tune"))
    parser.add_argument("--resume", action="store_true", help="resume the study in --out")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Runs the search; writes the best settings to ``--out``."""
    named = is_named(options.log)
    settings = settings_of(options.settings or (options.log if named else None))
    validation = settings.validation
    if named and validation is None:
        validation = DATASETS[options.log].validation
    tuning = tune(
        read_split(options, validation),
        options.model,
        options.space,
        trials=options.trials,
        epochs=options.epochs,
        settings=settings,
        monitor=options.monitor,
        seed=options.seed,
        device=options.device,
        out=options.out,
        resume=options.resume,
        name=options.log if named else Path(options.log).name,
        command=options.line,
    )
    files = "\n".join(str(options.out / n) for n in ("results.json", "best.json", "tuning.png"))
    sys.stdout.write(f"{tuning.settings()['note']}\n{files}\n")
