"""How the families compare under one protocol and one budget of time, on many data sets.

Every family has one fixed setting and the same CPU seconds of training on one thread; evaluation is
not counted. Its learning rate falls to zero over that time. At fixed times it is ranked on the
validation part, the best of these states on the test. Process time is measured, so that other work
on the machine does not matter.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

import graphseq as gs
from experiments.benchmarks.report import Benchmark
from experiments.lib.arguments import Once, out_folder, positive_number, seed_number
from experiments.lib.parts import PARTS, part_of
from experiments.lib.results import fit_whole, said
from graphseq.comparison import Entry
from graphseq.comparison.record import write_json
from graphseq.typing import Floats
from graphseq.visualization.figures import GRAY, INK, new_figure, save_figure

METRICS = ("hr@20", "mrr@20")
MONITOR = "mrr@20"
MARKS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.55, 0.7, 0.85, 1.0)
"""Shares of the budget after which validation is ranked."""

ENOUGH = 0.95
"""Share of the best validation score whose time is told."""

MOST_CASES = 2000
"""Validation targets, about, that are ranked at each mark."""

WIDTH = {"hidden_channels": 64}
PREFIXES = {"batch_size": 256, "learning_rate": 0.002, "weight_decay": 1e-5}
SESSIONS = {"batch_size": 64, "learning_rate": 0.002}
FASTER = {"learning_rate": 0.005}
"""Of families that this made better than 0.002 on Diginetica's validation, by more than 2 %."""

BSAREC = {**WIDTH, "normalize": True, "dropout": 0.2, "max_length": 50}
FAMILIES = {
    entry.name: entry
    for entry in (
        Entry("popularity", "popularity"),
        Entry("Markov", "markov"),
        Entry("sequential rules", "sequential_rules", {"last_clicks": 10}),
        Entry("Item-kNN", "item_knn"),
        Entry("V-SKNN", "vsknn"),
        Entry("VSTAN", "vstan"),
        Entry("SR-GNN", "srgnn", {**WIDTH, "normalize": True}, PREFIXES | FASTER),
        Entry("GCE-GNN", "gcegnn", WIDTH, PREFIXES),
        Entry("GRU4Rec", "gru4rec", {**WIDTH, "normalize": True}, SESSIONS | FASTER),
        Entry("SASRec", "sasrec", WIDTH, SESSIONS),
        Entry("BERT4Rec", "bert4rec", WIDTH, SESSIONS),
        Entry("Caser", "caser", {**WIDTH, "dropout": 0.2, "embedding": "tied"}, SESSIONS),
        Entry("HSTU", "hstu", {**WIDTH, "heads": 2}, SESSIONS),
        Entry("BSARec", "bsarec", BSAREC, PREFIXES | FASTER),
        Entry("BSARec, causal", "bsarec", {**BSAREC, "filter": "moving_average"}, SESSIONS),
    )
}


COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#1F2933")
"""Those of Okabe and Ito (2008)."""


class Budget(Callback):
    """Ends a training when its CPU seconds are spent, and keeps its best state on the way.

    Args:
        model: The model that is trained.
        validation: What is ranked at each mark.
        seconds: The budget.
    """

    def __init__(self, model: gs.models.SessionModel, validation: gs.Sessions, seconds: float):
        self.model, self.validation, self.seconds = model, validation, seconds
        self.used = self.since = 0.0
        self.curve: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = {}

    def share_left(self, step: int) -> float:
        """What is left of the budget, of which the learning rate is this share."""
        return max(1e-3, 1.0 - self.used / self.seconds)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.since = time.process_time()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        now = time.process_time()
        self.used += now - self.since
        if self.used >= self.seconds * MARKS[min(len(self.curve), len(MARKS) - 1)]:
            pl_module._settle()
            self.rank()
        trainer.should_stop = self.used >= self.seconds
        self.since = time.process_time()

    def rank(self) -> None:
        report = gs.evaluate(self.model, self.validation, ks=20)
        self.curve.append(
            {"cpu_seconds": round(self.used, 2)} | {m: report.metrics[m] for m in METRICS}
        )
        if report.metrics[MONITOR] >= max(row[MONITOR] for row in self.curve):
            self.best = copy.deepcopy(self.model.state_dict())


def few(validation: gs.Sessions) -> gs.Sessions:
    """Every n-th of the validation sessions, with about MOST_CASES targets."""
    step = max(1, validation.num_targets // MOST_CASES)
    return validation.select(np.arange(0, validation.num_sessions, step))


def run_cell(split: gs.Split, entry: Entry, seconds: float, seed: int) -> dict[str, Any]:
    """One family on one data set."""
    assert split.validation is not None  # as in all parts of data
    model = entry.new_model(split.num_items, seed)
    validation = few(split.validation)
    curve: list[dict[str, float]] = []
    start = time.process_time()
    if entry.fit:
        budget = Budget(model, validation, seconds)
        loss: Any = "cross_entropy"
        if split.num_items >= 1000:
            loss = gs.training.SampledLoss("sampled_softmax", num_negatives=512, alpha=0.75)
        fit_whole(
            model,
            split.train,
            max_epochs=10_000,
            patience=None,
            loss=loss,
            seed=seed,
            schedule=lambda optimizer: torch.optim.lr_scheduler.LambdaLR(
                optimizer, budget.share_left
            ),
            callbacks=budget,
            progress=False,
            **entry.fit,
        )
        model.load_state_dict(budget.best)
        curve, used = budget.curve, budget.used
    else:
        fit_whole(model, split.train, progress=False)
        used = time.process_time() - start
        report = gs.evaluate(model, validation, ks=20)
        curve = [{"cpu_seconds": round(used, 2)} | {m: report.metrics[m] for m in METRICS}]
    start = time.process_time()
    report = gs.evaluate(model, split.test, ks=20)
    return {
        "cpu_seconds": round(used, 2),
        "ranking": round(1e3 * (time.process_time() - start) / report.num_cases, 3),
        "metrics": {metric: report.metrics[metric] for metric in METRICS},
        "intervals": {metric: list(report.confidence_interval(metric)) for metric in METRICS},
        "curve": curve,
    }


def seconds_to(curve: list[dict[str, float]], score: float) -> float:
    """The CPU seconds after which validation reached a score; infinity: never."""
    return min((row["cpu_seconds"] for row in curve if row[MONITOR] >= score), default=float("inf"))


def times_to(cells: pd.DataFrame, scores: Iterable[float]) -> Floats:
    """The CPU seconds to ENOUGH of a score, of the data sets where most seeds reach it.

    Args:
        cells: Those of one family.
        scores: One per cell.
    """
    times = [seconds_to(c, ENOUGH * s) for c, s in zip(cells["curve"], scores, strict=True)]
    middle = pd.Series(times, index=cells["data"]).groupby(level=0).median()
    return np.array([seconds for seconds in middle if np.isfinite(seconds)])


def table(cells: pd.DataFrame) -> tuple[list[dict[str, Any]], gs.evaluation.CriticalDifference]:
    """A line for each family: its scores, ranks and times, best mean rank first.

    Scores are means over the seeds; a counting family has one.
    """
    names = list(dict.fromkeys(cells["data"]))
    scores = cells.pivot_table(index="data", columns="family", values=MONITOR).loc[names]
    found = gs.evaluation.critical_difference(scores)
    seeds = sorted(set(cells["seed"]))
    ranks = pd.concat([_ranks(cells[cells["seed"] == seed], scores) for seed in seeds], axis=1)
    peak = cells["curve"].map(lambda curve: max(row[MONITOR] for row in curve))
    best = peak.groupby([cells["data"], cells["family"]]).mean().groupby(level=0).max()
    rows = []
    for family in found.ranks.index:
        own = cells[cells["family"] == family]
        reached = times_to(own, own["data"].map(best))
        row: dict[str, Any] = {"family": family, "mean rank": round(float(found.ranks[family]), 2)}
        if len(seeds) > 1:
            low, high = ranks.loc[family].min(), ranks.loc[family].max()
            row["of single seeds"] = f"{low:.2f} to {high:.2f}"
        row |= {name: round(100 * float(scores.loc[name, family]), 2) for name in scores.index}
        row["s to 95 % of its best"] = round(float(np.median(times_to(own, peak[own.index]))), 1)
        row["reaches 95 % of the best"] = f"{len(reached)} of {len(names)}"
        row["after s"] = round(float(np.median(reached)), 1) if len(reached) else "-"
        row["ms a ranking"] = round(float(own["ranking"].median()), 3)
        rows.append(row)
    return rows, found


def _ranks(cells: pd.DataFrame, scores: pd.DataFrame) -> pd.Series:
    """Mean ranks of the families by the cells of one seed, where they have one, else by means."""
    own = cells.pivot(index="data", columns="family", values=MONITOR)
    return own.reindex_like(scores).fillna(scores).rank(axis=1, ascending=False).mean()


def mean_curve(curves: Collection[list[dict[str, float]]]) -> list[tuple[float, float]]:
    """CPU seconds and validation score in per cent, means over the seeds.

    Scores between two marks are on the line between them: a long step passes marks.
    """
    longest = max(curves, key=len)
    seconds = [row["cpu_seconds"] for row in longest]
    scores = [
        np.interp(seconds, [r["cpu_seconds"] for r in curve], [r[MONITOR] for r in curve])
        for curve in curves
    ]
    means = 100 * np.mean(scores, axis=0)
    return list(zip(seconds, means.tolist(), strict=True))


def read_cell(path: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """A finished cell.

    Args:
        path: Its file.
        about: What it must be of: data, family, seed, settings and seconds.

    Raises:
        ValueError: If it is of something else.
    """
    cell: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for name, value in json.loads(json.dumps(about)).items():
        if cell.get(name) != value:
            raise ValueError(
                f"{path} is of {name}={cell.get(name)!r}, not {value!r}: cells of unlike runs make "
                "no table, so use another --out."
            )
    return cell


def plot(cells: pd.DataFrame, path: Path) -> None:
    """Validation over the CPU seconds of a training, means over the seeds, per data set."""
    names = list(dict.fromkeys(cells["data"]))
    trained = [family for family, entry in FAMILIES.items() if entry.fit]
    styles = dict(zip(trained, [(c, s) for s in ("-", "--") for c in COLORS], strict=False))
    columns = min(4, len(names))
    height = -(-len(names) // columns)
    figure = new_figure(3.1 * columns + 1.6, 2.6 * height, constrained=True)
    panels = np.atleast_1d(figure.subplots(height, columns, squeeze=False)).ravel()
    for ax, name in zip(panels, names, strict=False):
        part = cells[cells["data"] == name]
        for family, (color, style) in styles.items():
            curves = part.loc[part["family"] == family, "curve"]
            if len(curves):
                points = mean_curve(curves)
                ax.plot(*zip(*points, strict=True), style, color=color, label=family)
        ax.set_xscale("log")
        ax.set_title(name, fontsize=10, color=INK)
        counted = part[~part["family"].isin(trained)]
        if counted.empty:
            continue
        best = counted.loc[counted["curve"].map(lambda curve: curve[-1][MONITOR]).idxmax()]
        ax.axhline(100 * best["curve"][-1][MONITOR], color=GRAY, linestyle=":")
        ax.annotate(
            best["family"],
            (0.02, 100 * best["curve"][-1][MONITOR]),
            color=GRAY,
            xycoords=("axes fraction", "data"),
            ha="left",
            va="top",
            fontsize=8,
        )
    for ax in panels[len(names) :]:
        ax.axis("off")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=9)
    figure.supxlabel("CPU seconds of training", fontsize=10, color=INK)
    figure.supylabel("MRR@20 on validation, %", fontsize=10, color=INK)
    save_figure(figure, path)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.budget", description=__doc__)
    parser.add_argument("--root", help="folder of the data sets (default: $GRAPHSEQ_DATA)")
    parser.add_argument(
        "--datasets", nargs="+", action=Once, default=list(PARTS), choices=list(PARTS)
    )
    parser.add_argument(
        "--families", nargs="+", action=Once, default=list(FAMILIES), choices=list(FAMILIES)
    )
    parser.add_argument(
        "--seconds", type=positive_number, default=20.0, help="CPU seconds of a training"
    )
    parser.add_argument(
        "--learning-rate", type=positive_number, help="instead of that of each family"
    )
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=seed_number,
        action=Once,
        default=[0],
        help="counting families run once",
    )
    parser.add_argument("--out", type=out_folder, default=Path("runs/budget"))
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    with said():
        benchmark = Benchmark.start("experiments.budget", argv)
        number = len(options.seeds)
        seeds = "one seed" if number == 1 else f"means over {number} seeds"
        benchmark.content["note"] = (
            f"MRR@20 on the test in per cent; {options.seconds:g} CPU seconds of training on one "
            f"thread, {seeds}, medians over the data sets."
        )
        cells = []
        for name in options.datasets:
            split = None
            for family in options.families:
                entry = FAMILIES[family]
                if entry.fit and options.learning_rate is not None:
                    entry = replace(
                        entry, fit={**entry.fit, "learning_rate": options.learning_rate}
                    )
                for seed in options.seeds if entry.fit else options.seeds[:1]:
                    path = options.out / "cells" / f"{name}-{entry.slug}-{seed}.json"
                    about = {"data": name, "family": family, "seed": seed}
                    about["settings"] = entry.settings
                    if entry.fit:
                        about["seconds"] = options.seconds
                    if not path.exists():
                        split = split or part_of(name, options.root)
                        write_json({**about, **run_cell(split, entry, options.seconds, seed)}, path)
                    cells.append(read_cell(path, about))
                    print(name, family, seed, cells[-1]["metrics"], flush=True)
        benchmark.content["cells"] = cells
        frame = pd.DataFrame([cell | cell["metrics"] for cell in cells])
        plot(frame, options.out / "budget.png")
        if frame["data"].nunique() > 1 and frame["family"].nunique() > 1:
            rows, found = table(frame)
            for row in rows:
                benchmark.add(**row)
            benchmark.content["critical_difference"] = {
                "distance": found.distance,
                "p_value": found.p_value,
                "groups": found.groups,
            }
            gs.visualization.plot_critical_difference(
                found.ranks,
                found.distance,
                groups=found.groups,
                title=f"Mean ranks by MRR@20 over {found.num_datasets} data sets",
                path=options.out / "budget-ranks.png",
            )
        benchmark.finish(options.out / "budget.json")


if __name__ == "__main__":
    main()
