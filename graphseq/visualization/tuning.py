"""A search of settings, from the results file of the experiment and from nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from graphseq.visualization.figures import BLUE, GRAY, INK, ORANGE, new_figure, save_figure

COLUMNS = 4
"""Panels of settings beside one another."""


def plot_tuning(
    results: Mapping[str, Any], *, path: str | os.PathLike[str] | None = None
) -> Figure:
    """Draws the metric of every trial and the best one so far; below, the metric by each setting.

    Trials that were pruned are crosses. A setting with numbers is an axis of numbers, on a log
    scale where they span more than a factor of 30; any other has a place for each value.

    Args:
        results: The content of a ``results.json`` of ``experiments.tune``: ``monitor``, and rows
            with ``metrics``, ``state`` and ``chosen``, the settings that were searched.
        path: File to write the figure to.

    Raises:
        ValueError: If there is no row, a row lacks the metric, or ``path`` cannot be written.
    """
    rows, monitor = list(results.get("rows", ())), results.get("monitor")
    if not rows:
        raise ValueError("A plot of a search needs at least one trial, got none.")
    lacking = [row["model"] for row in rows if monitor not in row["metrics"]]
    if lacking:
        raise ValueError(f"The trial {lacking[0]!r} has no metric {monitor!r}.")
    values = np.array([row["metrics"][monitor] for row in rows], dtype=float)
    pruned = np.array([row.get("state") == "pruned" for row in rows])
    names = list(dict.fromkeys(name for row in rows for name in row.get("chosen", {})))
    lines = -(-len(names) // COLUMNS)
    figure = new_figure(11.0, 3.2 + 2.4 * lines, constrained=True)
    grid = figure.add_gridspec(1 + lines, COLUMNS, height_ratios=[1.3, *[1.0] * lines])
    history = figure.add_subplot(grid[0, :])
    number = np.arange(len(rows))
    _points(history, number, values, pruned)
    complete = np.where(pruned, -np.inf, values)
    best = np.maximum.accumulate(complete)
    some = np.isfinite(best)
    history.step(number[some], best[some], where="post", color=ORANGE, lw=1.6, label="best so far")
    history.legend(loc="lower right", fontsize=9, frameon=False)
    history.set_xlabel("trial", fontsize=9, color=GRAY)
    for place, name in enumerate(names):
        ax = figure.add_subplot(grid[1 + place // COLUMNS, place % COLUMNS])
        has = np.array([name in row.get("chosen", {}) for row in rows])
        chosen = [row["chosen"][name] for row, there in zip(rows, has, strict=True) if there]
        _points(ax, _axis(ax, chosen), values[has], pruned[has])
        ax.set_xlabel(name.partition(".")[2] or name, fontsize=9, color=GRAY)
    for ax in figure.axes:
        ax.set_ylabel(str(monitor), fontsize=9, color=GRAY)
        ax.tick_params(labelsize=8, colors=GRAY)
        ax.grid(color="#E3E8ED", linewidth=0.8, zorder=0)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    data = results.get("data", {}).get("name")
    figure.suptitle(
        f"{len(rows)} trials on the validation part" + (f" of {data}" if data else ""),
        fontsize=13,
        fontweight="bold",
        color=INK,
    )
    if path is not None:
        save_figure(figure, path)
    return figure


def _points(ax: Axes, x: Any, values: Any, pruned: Any) -> None:
    x = np.asarray(x, dtype=float)
    ax.scatter(x[~pruned], values[~pruned], s=22, color=BLUE, zorder=3)
    ax.scatter(x[pruned], values[pruned], s=22, color=GRAY, marker="x", zorder=3, label="pruned")


def _axis(ax: Axes, chosen: list[Any]) -> list[float]:
    """The place of each value on the axis, which is made to fit."""
    numbers = [value for value in chosen if isinstance(value, (int, float)) and value is not True]
    if len(numbers) == len(chosen) and not any(isinstance(value, bool) for value in chosen):
        if min(numbers) > 0 and max(numbers) > 30 * min(numbers):
            ax.set_xscale("log")
        return [float(value) for value in numbers]
    kinds = sorted({str(value) for value in chosen})
    ax.set_xticks(range(len(kinds)), [kind[:18] for kind in kinds])
    ax.set_xlim(-0.5, len(kinds) - 0.5)
    return [float(kinds.index(str(value))) for value in chosen]
