"""Searches the settings of a family with Optuna, on the validation part alone.

The test part is never ranked. The study lies in study.db under --out and goes on with --resume;
best.json there is a settings file: python -m experiments.compare --settings OUT/best.json.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import graphseq as gs
from experiments.lib.results import command, part_size, said
from graphseq.comparison import settings_of


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.tune", description=__doc__)
    parser.add_argument("--dataset", default="uci-eshop", choices=sorted(gs.data.DATASETS))
    parser.add_argument("--root", help="folder of the data sets (default: $GRAPHSEQ_DATA)")
    parser.add_argument("--model", required=True, help="a family, or a line of the settings")
    parser.add_argument("--trials", type=int, default=30, help="trials in all, those before too")
    parser.add_argument("--epochs", type=int, default=10, help="most epochs of a trial")
    parser.add_argument(
        "--monitor", help="the metric that is maximized (default: mrr at the largest cut-off)"
    )
    parser.add_argument("--validation", type=part_size, help="as in experiments.compare")
    parser.add_argument("--space", type=Path, help="a file in place of the family's space")
    parser.add_argument("--settings", type=Path, help="a file in place of the data set's settings")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/tune"))
    parser.add_argument("--resume", action="store_true", help="go on with the study in --out")
    return parser


def main(argv: list[str] | None = None) -> None:
    options = arguments().parse_args(argv)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("graphseq.comparison").setLevel(logging.INFO)
    with said():
        settings = settings_of(options.settings or options.dataset)
        validation = options.validation or settings.validation
        validation = validation or gs.data.DATASETS[options.dataset].validation
        tuning = gs.tune(
            gs.load_split(options.dataset, options.root, validation=validation),
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
            name=options.dataset,
            command=command("experiments.tune", argv),
        )
    names = ("results.json", "best.json", "tuning.png")
    print("\n".join(str(options.out / name) for name in names))
    print(tuning.content["protocol"]["note"])


if __name__ == "__main__":
    main()
