"""Models side by side, from the results file of an experiment and from nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from graphseq.arguments import names_of
from graphseq.metric_scale import lower_is_better, name_among
from graphseq.visualization.figures import BLUE, GRAY, INK, new_figure, save_figure

LIGHT_BLUE = "#9CC7E4"


def plot_comparison(
    results: Mapping[str, Any],
    *,
    metrics: str | Sequence[str] = ("hr@20", "mrr@20"),
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draws one bar a model and metric, best model on top, with confidence intervals.

    Rows that differ only in their seed become one bar: their mean, each seed as a dot, and the mean
    of their intervals. Rows of one model with unlike settings stay apart, named by what differs.

    Args:
        results: The content of a ``results.json``.
        metrics: One name or several, one panel each; the first one orders the models.
            ``"sampled "`` may be left out, and is drawn.
        path: File to write the figure to.

    Raises:
        ValueError: If there is no row, a row lacks a metric (those that it has are listed), or
            ``path`` cannot be written.
    """
    rows = list(results.get("rows", ()))
    if not rows or not metrics:
        raise ValueError(
            f"A comparison needs a row and a metric, got {len(rows)} and {len(metrics)}."
        )
    tables = [row["metrics"] for row in rows]
    metrics = [name_among(metric, tables) for metric in names_of("metrics", metrics)]
    for row in rows:
        absent = [metric for metric in metrics if metric not in row["metrics"]]
        if absent:
            raise ValueError(
                f"The row of {row['model']} has no {', '.join(absent)}; it has "
                f"{', '.join(row['metrics'])}."
            )
    bars = sorted(
        _bars(rows).items(),
        key=lambda bar: _mean(bar[1], "metrics", metrics[0]),
        reverse=not lower_is_better(metrics[0]),
    )
    figure = new_figure(1.9 + 3.6 * len(metrics), 1.3 + 0.55 * len(bars), constrained=True)
    axes = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for ax, metric in zip(axes, metrics, strict=True):
        _draw_metric(ax, [group for _, group in bars], metric)
    axes[0].set_yticks(range(len(bars)), [_name(label, group) for label, group in bars])
    axes[0].invert_yaxis()
    data = results.get("data", {}).get("name")
    figure.suptitle(
        "Models compared" + (f" on {data}" if data else ""),
        fontsize=13,
        fontweight="bold",
        color=INK,
    )
    if any(row.get("intervals") for row in rows):
        figure.supxlabel("whiskers: confidence intervals", fontsize=9, color=GRAY)
    if path is not None:
        save_figure(figure, path)
    return figure


def _draw_metric(ax: Axes, groups: list[list[Mapping[str, Any]]], metric: str) -> None:
    values = np.array([_mean(group, "metrics", metric) for group in groups])
    lower = lower_is_better(metric)
    best = np.zeros(len(values), dtype=bool)
    if np.isfinite(values).any():
        best = values == (np.nanmin(values) if lower else np.nanmax(values))
    places = np.arange(len(groups))
    ax.barh(places, values, height=0.62, color=np.where(best, BLUE, LIGHT_BLUE), zorder=2)
    ends = values.copy()
    for place, group in enumerate(groups):
        intervals = [
            row["intervals"][metric] for row in group if metric in row.get("intervals", {})
        ]
        if intervals:
            low, high = np.mean(np.asarray(intervals, dtype=float), axis=0)
            whisker = [[max(values[place] - low, 0.0)], [max(high - values[place], 0.0)]]
            ax.errorbar(
                values[place], place, xerr=whisker, fmt="none", ecolor=INK, capsize=3.5, zorder=4
            )
            ends[place] = max(ends[place], high)
        if len(group) > 1:
            seeds = [row["metrics"][metric] for row in group]
            ax.scatter(
                seeds, [place] * len(seeds), s=14, color="white", edgecolors=INK, lw=0.8, zorder=5
            )
            ends[place] = max(ends[place], *seeds)
        ax.annotate(
            f"{values[place]:.4f}",
            (ends[place], place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=10,
            fontweight="bold" if best[place] else "normal",
            color=INK,
        )
    largest = float(np.nanmax(ends, initial=0.0))
    ax.set_xlim(0, 1.25 * largest if largest > 0 else 1.0)  # room for the numbers
    title = f"{metric.upper()}{', less is better' if lower else ''}"
    ax.set_title(title, fontsize=11, color=INK)
    ax.tick_params(axis="y", length=0, labelsize=10, labelcolor=INK)
    ax.tick_params(axis="x", labelsize=9, colors=GRAY)
    ax.locator_params(axis="x", nbins=5)
    ax.grid(axis="x", color="#E3E8ED", linewidth=0.8, zorder=0)
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color("#C5CDD5")


def _bars(rows: list[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Rows behind each bar, by its label."""
    by_settings: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for row in rows:
        settings = json.dumps(row.get("settings", {}), sort_keys=True, default=str)
        by_settings.setdefault(row["model"], {}).setdefault(settings, []).append(row)
    bars = {}
    for model, groups in by_settings.items():
        choices = [group[0].get("settings", {}) for group in groups.values()]
        names = sorted({name for chosen in choices for name in chosen})
        unlike = [n for n in names if any(c.get(n) != choices[0].get(n) for c in choices)]
        for chosen, group in zip(choices, groups.values(), strict=True):
            said = ", ".join(f"{name}={chosen[name]}" for name in unlike if name in chosen)
            bars[f"{model} ({said})" if said else model] = group
    return bars


def _mean(group: list[Mapping[str, Any]], part: str, key: str) -> float:
    return float(np.mean([row[part][key] for row in group]))


def _name(label: str, group: list[Mapping[str, Any]]) -> str:
    seconds = [row["train_seconds"] for row in group if row.get("train_seconds") is not None]
    notes = [] if not seconds else [f"trained in {_duration(float(np.mean(seconds)))}"]
    if len(group) > 1:
        notes.append(f"{len(group)} seeds")
    return "\n".join([label, ", ".join(notes)]) if notes else label


def _duration(seconds: float) -> str:
    if seconds < 0.05:
        return "under 0.1 s"
    if seconds < 99.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 99.5 else f"{minutes / 60:.1f} h"
