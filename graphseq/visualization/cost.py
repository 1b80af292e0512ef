"""Plots of quality against cost: a metric of each model, and the time it takes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from graphseq.metric_scale import lower_is_better, name_among
from graphseq.visualization.figures import BLUE, GRAY, INK, ORANGE, new_figure, save_figure

LEAST_SECONDS = 0.01
"""Smallest time drawn: counting a small log takes less than the clock resolves."""

LINE_HEIGHT = 0.042
"""Height of a name relative to the panel: names are moved apart by this much."""

NAME_WIDTH = 0.7
"""Width of a name in powers of ten: names of points further apart do not overlap."""


def plot_cost(
    results: Mapping[str, Any],
    *,
    metric: str = "mrr@20",
    cost: Literal["train_seconds", "eval_seconds", "num_parameters"] = "train_seconds",
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draws each model as a point: cost on a logarithmic axis, quality on the other.

    Seeds of one model become one point: their mean, with the mean of their intervals. A line joins
    the models that no cheaper model beats.

    Args:
        results: The content of a ``results.json``.
        metric: The metric on the quality axis; ``"sampled "`` may be left out, and is drawn.
        cost: The cost: seconds of training, seconds of ranking the test part, or number of
            parameters.
        path: File to write the figure to.

    Raises:
        ValueError: If there is no row, a row lacks the metric or the cost, or ``path`` cannot be
            written.
    """
    rows = list(results.get("rows", ()))
    if not rows:
        raise ValueError("A plot of cost needs at least one row, got none.")
    metric = name_among(metric, [row["metrics"] for row in rows])
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if metric not in row["metrics"] or row.get(cost) is None:
            raise ValueError(
                f"The row of {row['model']} has no {metric} or no {cost}; its metrics are "
                f"{', '.join(row['metrics'])}."
            )
        groups.setdefault(row["model"], []).append(row)
    least = LEAST_SECONDS if cost != "num_parameters" else 1.0
    x = np.array([max(np.mean([r[cost] for r in g]), least) for g in groups.values()])
    y = np.array([np.mean([r["metrics"][metric] for r in g]) for g in groups.values()])

    figure = new_figure(8.6, 5.4, constrained=True)
    ax = figure.add_subplot()
    front = pareto(x, -y if lower_is_better(metric) else y)
    ax.plot(
        x[front], y[front], color=ORANGE, linewidth=1.2, zorder=1, label="none is better for less"
    )
    for place, group in enumerate(groups.values()):
        intervals = [r["intervals"][metric] for r in group if metric in r.get("intervals", {})]
        if intervals:
            low, high = np.mean(np.asarray(intervals, dtype=float), axis=0)
            whisker = [[max(y[place] - low, 0.0)], [max(high - y[place], 0.0)]]
            ax.errorbar(x[place], y[place], yerr=whisker, fmt="none", ecolor=GRAY, lw=0.9, zorder=2)
    ax.scatter(x, y, s=34, color=BLUE, zorder=3)
    ax.set_xscale("log")
    ax.set_xlim(x.min() / 4, x.max() * 12)  # room for the names
    low, high = float(y.min()), float(y.max())
    room = max(high - low, 1e-3)
    ax.set_ylim(low - 0.08 * room, high + 0.08 * room)
    bottom, top = ax.get_ylim()
    points = (y - bottom) / (top - bottom)
    heights = points.copy()
    for near in neighbors(np.log10(x), NAME_WIDTH):
        heights[near] = moved_apart(heights[near], LINE_HEIGHT)
    for place, name in enumerate(groups):
        ahead = (x > x[place]) & (np.log10(x / x[place]) < NAME_WIDTH)
        covers = (ahead & (np.abs(points - heights[place]) < LINE_HEIGHT / 2)).any()
        ax.annotate(
            name,
            (x[place], y[place]),
            xytext=(
                x[place] / 1.35 if covers else x[place] * 1.35,
                bottom + heights[place] * (top - bottom),
            ),
            ha="right" if covers else "left",  # no name covers another point
            va="center",
            fontsize=9,
            color=INK,
            zorder=2.5,  # no name hides a point
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.5},
            arrowprops={"arrowstyle": "-", "color": "#C5CDD5", "lw": 0.7, "shrinkB": 3},
        )
    labels = {
        "train_seconds": "seconds of training",
        "eval_seconds": "seconds of ranking the test part",
        "num_parameters": "parameters",
    }
    ax.set_xlabel(f"{labels[cost]} (logarithmic)", fontsize=10, color=INK)
    ax.set_ylabel(metric.upper(), fontsize=10, color=INK)
    ax.tick_params(labelsize=9, colors=GRAY)
    ax.grid(color="#E3E8ED", linewidth=0.8, zorder=0)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color("#C5CDD5")
    if len(front) > 1:
        ax.legend(loc="lower right", fontsize=9, frameon=False)
    data = results.get("data", {}).get("name")
    title = "Quality against cost" + (f" on {data}" if data else "")
    figure.suptitle(title, fontsize=13, fontweight="bold", color=INK)
    if path is not None:
        save_figure(figure, path)
    return figure


def pareto(cost: NDArray[np.float64], value: NDArray[np.float64]) -> NDArray[np.int64]:
    """The points that no other beats at the same or lower cost, cheapest first.

    Args:
        cost, value: [n].

    Returns:
        Their numbers, int64.
    """
    order = np.lexsort((-value, cost))
    best_before = np.concatenate(([-np.inf], np.maximum.accumulate(value[order])[:-1]))
    return order[value[order] > best_before]


def neighbors(places: NDArray[np.float64], reach: float) -> list[NDArray[np.int64]]:
    """Chains of points, each within ``reach`` of the next.

    Args:
        places: [n].
        reach: Maximum distance between two consecutive points.

    Returns:
        The numbers of the points of each chain, int64; every point is in one.
    """
    order = np.argsort(places, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(places[order]) > reach) + 1)


def moved_apart(places: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
    """Places at least ``gap`` apart, in the same order, moved as little as possible.

    Crowded places form a block, centered on the mean of the places its members had.

    Args:
        places: [n].
        gap: Minimum distance between two places.
    """
    order = np.argsort(places, kind="stable")
    blocks: list[list[float]] = []  # sum of original starts, members
    for member, place in enumerate(places[order]):
        blocks.append([place - member * gap, 1.0])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            total, members = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += members
    starts = np.concatenate([np.full(int(n), total / n) for total, n in blocks])
    moved = np.empty_like(places)
    moved[order] = starts + gap * np.arange(len(places))
    return moved
