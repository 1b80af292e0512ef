"""Day after day: a model that grows and trains on, against one made again and one left alone.

The log is cut into periods in the order of time. The first --first of them train all three; then
each further period is the test of the models as they are, and afterwards part of the training.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import graphseq as gs
from experiments.lib.arguments import Once, out_folder, seed_number, whole_number
from experiments.lib.results import command, fit_whole, print_table, said
from graphseq.comparison import Entry, Settings, entry_of, settings_of
from graphseq.comparison.record import record, row_of, write_results
from graphseq.evaluation.protocol import Protocol, protocol_of

GROWN, ANEW, KEPT = WAYS = ("grown and trained on", "trained again", "left alone")


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.rolling", description=__doc__)
    parser.add_argument(
        "--dataset", default="generated", choices=["generated", *sorted(gs.data.DATASETS)]
    )
    parser.add_argument("--root", help="folder of the data sets (default: $GRAPHSEQ_DATA)")
    parser.add_argument("--models", default="gru4rec", help="a family, or a line of the settings")
    parser.add_argument("--settings", type=Path, help="a file in place of the data set's settings")
    parser.add_argument("--sessions", type=whole_number, help="only so many of the newest sessions")
    parser.add_argument("--periods", type=int, default=10)
    parser.add_argument("--first", type=int, default=5, help="periods before the first test")
    parser.add_argument(
        "--epochs", type=whole_number, default=8, help="epochs of a model made again"
    )
    parser.add_argument(
        "--more-epochs", type=whole_number, default=2, help="epochs on a new period"
    )
    parser.add_argument("--replay", type=float, default=1.0, help="old sessions for each new one")
    parser.add_argument("--initial", default="neighbors", choices=["mean", "neighbors", "features"])
    parser.add_argument("--seeds", nargs="+", type=seed_number, action=Once, default=[0])
    parser.add_argument("--out", type=out_folder, default=Path("runs/rolling"))
    return parser


def main(argv: list[str] | None = None) -> None:
    options = arguments().parse_args(argv)
    with said():
        if not 0 <= options.replay < math.inf:
            raise ValueError(f"--replay is a finite number of at least 0, got {options.replay}.")
        settings = settings_of(options.settings or options.dataset)
        entry = entry_of(options.models, settings.models)
        log = read_log(options)
        splits = gs.rolling_split(log, periods=options.periods, first=options.first)
        first = splits[0].train.num_sessions
        split = gs.fixed_split(splits.sessions[:first], splits.sessions[first:])
        line = command("experiments.rolling", argv)
        protocol = protocol_of(None if settings.exclude_seen else "rolling", settings.exclude_seen)
        content = record(line, options.dataset, split, settings.ks, protocol, settings.note)
        content["protocol"] |= {
            "split": f"{options.periods} periods of equally many sessions, in the order of time",
            "ranking": "all items that the model knows; others miss; ties share their places",
        }
        metric = gs.Comparison(content).monitor
        for seed in options.seeds:
            for row in study(splits, entry, settings, protocol, options, seed):
                content["rows"].append(row)
                write_results(content, options.out)
                print(
                    f"period {row['period']}: {row['model']:20} {metric} "
                    f"{row['metrics'][metric]:.4f}, "
                    f"{row['unknown_targets']} of {row['targets']} targets unknown, "
                    f"trained {row['train_seconds']:.1f} s"
                )
        print_table(gs.Comparison(content))
        figure = options.out / "rolling.png"
        gs.visualization.plot_periods(content, metric=metric, path=figure)
    print(f"{options.out / 'results.json'}\n{figure}")


def study(
    splits: gs.data.RollingSplits,
    entry: Entry,
    settings: Settings,
    protocol: Protocol,
    options: argparse.Namespace,
    seed: int,
) -> Any:
    """A row for each period and way."""
    kept, seconds = new_model(entry, splits[0].train, options.epochs, seed)
    models, spent = dict.fromkeys(WAYS, kept), dict.fromkeys(WAYS, seconds)
    epochs = dict.fromkeys(WAYS, options.epochs)
    ends = np.cumsum([len(part) for part in np.array_split(splits.end, options.periods)])
    learned = splits[0].train.num_sessions
    for split in splits:
        period = int(np.searchsorted(ends, split.protocol["end"]))
        newest = split.train.num_sessions - learned  # periods without a target are not tested
        if newest:
            models[GROWN], spent[GROWN] = trained_on(
                models[GROWN],
                entry,
                split.train[:-newest],
                split.train[-newest:],
                options,
                seed * 1000 + period,
            )
            models[ANEW], spent[ANEW] = new_model(entry, split.train, options.epochs, seed)
            epochs[GROWN], spent[KEPT] = options.more_epochs, 0.0
        learned = split.train.num_sessions
        for way, model in models.items():
            report = gs.evaluate(model, split.test, ks=settings.ks, protocol=protocol)
            counted = isinstance(model, gs.models.CountingModel)
            fitted = gs.training.FitResult(
                pd.DataFrame(), 0 if counted else epochs[way], spent[way]
            )
            row = row_of(replace(entry, name=way), seed, model, fitted, report)
            del row["history"]
            yield row | {
                "period": period + 1,
                "items": model.num_items,
                "targets": report.num_cases,
                "unknown_targets": report.num_unknown_targets,
            }


def new_model(
    entry: Entry,
    sessions: gs.Sessions,
    epochs: int,
    seed: int,
) -> tuple[gs.models.SessionModel, float]:
    """A model of its own, trained on all of these sessions, and the seconds that took."""
    model = entry.new_model(sessions.num_items, seed)
    start = time.perf_counter()
    fit_whole(model, sessions, entry.training, max_epochs=epochs, seed=seed, progress=False)
    return model, time.perf_counter() - start


def trained_on(
    model: gs.models.SessionModel,
    entry: Entry,
    past: gs.Sessions,
    newest: gs.Sessions,
    options: argparse.Namespace,
    seed: int,
) -> tuple[gs.models.SessionModel, float]:
    """The model over the items of the newest period too, trained on it and some of the past."""
    start = time.perf_counter()
    if isinstance(model, gs.models.CountingModel):
        grown = gs.grow(model, gs.Sessions.concat([past, newest]).drop_unused_items())
    else:
        grown = gs.grow(model, newest.drop_unused_items(), initial=options.initial)
        again = min(round(options.replay * newest.num_sessions), past.num_sessions)
        chosen = np.random.default_rng(seed).choice(past.num_sessions, again, replace=False)
        log = gs.Sessions.concat([past.select(np.sort(chosen)), newest]).drop_unused_items()
        fit_whole(
            grown, log, entry.training, max_epochs=options.more_epochs, seed=seed, progress=False
        )
    return grown, time.perf_counter() - start


def read_log(options: argparse.Namespace) -> gs.Sessions:
    """The sessions of the data set, or the newest of them; without times, in the files' order."""
    if options.dataset == "generated":
        # Tastes move through all items of a category once, so that new ones rise every period.
        log = gs.generate_sessions(
            12_000,
            6_000,
            mean_length=6.0,
            num_categories=60,
            drift=1.0,
            pattern=0.0,
            loops=0.0,
            days=options.periods,
        )
    else:
        log = gs.load_dataset(options.dataset, options.root)
    if options.sessions is None:
        return log
    if log.time is not None:
        log = log.select(np.argsort(log.time[log.ptr[1:] - 1], kind="stable"))
    return log[-options.sessions :]


if __name__ == "__main__":
    main()
