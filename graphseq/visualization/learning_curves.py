"""Learning curves: loss and metric over epochs and over seconds of training."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from graphseq.visualization.figures import BLUE, GRAY, INK, ORANGE, new_figure, save_figure

HISTORY = "history.csv"
"""The history of a training in its folder ``out``."""

COLORS = (BLUE, ORANGE, "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#8C8C00", INK)
"""Of Okabe and Ito (2008), two of them darkened to be seen on white; more runs begin again."""

Run: TypeAlias = pd.DataFrame | str | os.PathLike[str]
"""A history, or the folder that ``fit(out=...)`` wrote."""


def plot_learning_curves(
    runs: Run | Sequence[Run] | Mapping[str, Run],
    *,
    metric: str | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draws how loss and metric went, one line a run; the best epoch is marked.

    The best value stands at its mark, or in the legend if there are several runs. On the left over
    epochs, on the right over seconds of training, validation not counted.

    Args:
        runs: A history of :class:`~graphseq.training.FitResult` or a folder that
            ``fit(out=...)`` wrote; several in a list, or by name.
        metric: The metric; ``None``: ``"mrr@20"``, or the first that all runs have. Runs without
            validation have none, and their loss is drawn alone.
        path: File to write the figure to.

    Raises:
        ValueError: If there is no run, a run has no history or no such metric, or ``path`` cannot
            be written.
    """
    histories = _named(runs)
    if not histories:
        raise ValueError("Learning curves need at least one run, got none.")
    shared = [str(name) for name in next(iter(histories.values())) if _is_metric(str(name))]
    shared = [name for name in shared if all(name in history for history in histories.values())]
    if metric is None:
        metric = "mrr@20" if "mrr@20" in shared else next(iter(shared), None)
    elif metric not in shared:
        raise ValueError(
            f"Not all runs have the metric {metric!r}; they share {', '.join(shared) or 'none'}."
        )
    rows = ["loss"] if metric is None else ["loss", metric]
    figure = new_figure(9.6, 0.8 + 2.7 * len(rows), constrained=True)
    axes = figure.subplots(len(rows), 2, squeeze=False, sharex="col", sharey="row")
    for number, (name, history) in enumerate(histories.items()):
        color = COLORS[number % len(COLORS)]
        x_values = history["epoch"], np.cumsum(history["seconds"])
        for row, value in enumerate(rows):
            for column, x in enumerate(x_values):
                ax: Axes = axes[row][column]
                _draw(ax, np.asarray(x, dtype=float), history[value], color, name, value)
                if len(histories) == 1 and _is_metric(value):
                    _write_best(ax, np.asarray(x, dtype=float), history[value])
    for row, value in enumerate(rows):
        axes[row][0].set_ylabel(value if value == "loss" else value.upper(), color=INK)
    axes[-1][0].set_xlabel("epoch", color=INK)
    axes[-1][0].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[-1][1].set_xlabel("seconds of training", color=INK)
    axes[-1][1].set_xlim(left=0)
    if len(histories) > 1:
        lines, names = axes[0][0].get_legend_handles_labels()
        if metric is not None:
            names = [_with_best(name, histories[name][metric]) for name in names]
        columns = min(4, len(names))
        figure.legend(lines, names, loc="outside lower center", ncols=columns, frameon=False)
    figure.suptitle("Learning curves", fontsize=13, fontweight="bold", color=INK)
    if path is not None:
        save_figure(figure, path)
    return figure


def _draw(ax: Axes, x: np.ndarray, values: pd.Series, color: str, name: str, value: str) -> None:
    y = values.to_numpy(dtype=float)
    ax.plot(x, y, color=color, linewidth=1.6, marker="o", markersize=2.5, label=name)
    if _is_metric(value) and len(y) and not np.isnan(y).all():
        best = int(np.nanargmax(y))
        ax.plot(x[best], y[best], "o", color=color, markersize=7, markerfacecolor="white")
    ax.tick_params(labelsize=9, colors=GRAY)
    ax.grid(color="#E3E8ED", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color("#C5CDD5")


def _write_best(ax: Axes, x: np.ndarray, values: pd.Series) -> None:
    y = values.to_numpy(dtype=float)
    if np.isnan(y).all():
        return
    best = int(np.nanargmax(y))
    ax.annotate(
        f"{y[best]:.4f}",
        (x[best], y[best]),
        xytext=(0, 7),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=8,
        color=INK,
    )
    ax.margins(y=0.14)  # room for the number


def _with_best(name: str, values: pd.Series) -> str:
    return name if values.isna().all() else f"{name}: {values.max():.4f}"


def _named(runs: Run | Sequence[Run] | Mapping[str, Run]) -> dict[str, pd.DataFrame]:
    if isinstance(runs, (pd.DataFrame, str, os.PathLike)):
        runs = [runs]
    if not isinstance(runs, Mapping):
        by_name: dict[str, Run] = {}
        for number, run in enumerate(runs, 1):
            own = f"run {number}" if isinstance(run, pd.DataFrame) else Path(run).name
            by_name[own if own not in by_name else f"{own} ({number})"] = run
        runs = by_name
    return {name: _history(run) for name, run in runs.items()}


def _history(run: Run) -> pd.DataFrame:
    if not isinstance(run, pd.DataFrame):
        file = Path(run) / HISTORY
        try:
            run = pd.read_csv(file)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{file} holds no history of a training ({error}): name a folder that fit(out=...) "
                "wrote."
            ) from error
    missing = [name for name in ("epoch", "loss", "seconds") if name not in run]
    if missing or not len(run):
        raise ValueError(
            f"A history has one row per epoch: epoch, loss and seconds; here are {len(run)} rows"
            f"{' without ' + ', '.join(missing) if missing else ''}."
        )
    return run


def _is_metric(name: str) -> bool:
    return "@" in name or name == "mrr"
