"""Models day after day, from the results file of the experiment and from nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from graphseq.metric_scale import name_among
from graphseq.visualization.figures import BLUE, GRAY, INK, ORANGE, new_figure, save_figure

COLORS = (BLUE, ORANGE, GRAY, INK)


def plot_periods(
    results: Mapping[str, Any],
    *,
    metric: str = "mrr@20",
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draws a metric by period, one line a model with its interval, and the training it took.

    Args:
        results: The content of a ``results.json`` whose rows have a ``period``; rows of several
            seeds are averaged.
        metric: The metric on the left (``"sampled "`` may be left out, and is drawn); the right
            panel has the seconds of training, added up.
        path: File to write the figure to.

    Raises:
        ValueError: If there is no row, a row lacks the metric or the period, or ``path`` cannot be
            written.
    """
    rows = list(results.get("rows", ()))
    metric = name_among(metric, [row["metrics"] for row in rows])
    lacking = [row["model"] for row in rows if metric not in row["metrics"] or "period" not in row]
    if not rows or lacking:
        raise ValueError(
            f"Every row needs a period and {metric}, but "
            + (f"that of {lacking[0]!r} has not." if lacking else "there is none.")
        )
    figure = new_figure(10.0, 4.2, constrained=True)
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    names = list(dict.fromkeys(row["model"] for row in rows))
    for number, name in enumerate(names):
        color = COLORS[number % len(COLORS)]
        periods = sorted({row["period"] for row in rows if row["model"] == name})
        groups = [
            [row for row in rows if row["model"] == name and row["period"] == period]
            for period in periods
        ]
        values = [np.mean([row["metrics"][metric] for row in group]) for group in groups]
        left.plot(periods, values, marker="o", ms=4, color=color, label=name)
        if all(metric in row.get("intervals", {}) for group in groups for row in group):
            ends = np.array(
                [np.mean([row["intervals"][metric] for row in group], axis=0) for group in groups]
            )
            left.fill_between(periods, ends[:, 0], ends[:, 1], color=color, alpha=0.15, lw=0)
        seconds = [np.mean([row["train_seconds"] for row in group]) for group in groups]
        right.plot(periods, np.cumsum(seconds), marker="o", ms=4, color=color, label=name)
    left.set_title(metric.upper(), fontsize=11, color=INK)
    left.legend(fontsize=9, frameon=False)
    right.set_title("seconds of training, added up", fontsize=11, color=INK)
    for ax in (left, right):
        ax.set_xlabel("period", fontsize=9, color=GRAY)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.tick_params(labelsize=9, colors=GRAY)
        ax.grid(color="#E3E8ED", linewidth=0.8)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    right.set_ylim(bottom=0)
    data = results.get("data", {}).get("name")
    figure.suptitle(
        "Period after period" + (f" on {data}" if data else ""),
        fontsize=13,
        fontweight="bold",
        color=INK,
    )
    if path is not None:
        save_figure(figure, path)
    return figure
