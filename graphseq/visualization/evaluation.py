"""Pictures of evaluations: which differences are real, ranks over data sets, strata."""

from __future__ import annotations

import os
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from graphseq.metric_scale import lower_is_better, name_among, unit_of
from graphseq.visualization.figures import BLUE, GRAY, INK, ORANGE, new_figure, save_figure


def plot_differences(
    difference: Any,
    real: pd.DataFrame | None = None,
    *,
    metric: str = "",
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draws which models differ: every row's model minus every column's.

    Real differences are in color, blue where the row's model is better; others are gray. Fractions
    are in points of per cent, other metrics in their own unit.

    Args:
        difference: What :func:`graphseq.evaluation.differences` found; or its table
            ``difference``, models by models.
        real: Its table ``real``, beside a table.
        metric: What was compared; ``""``: the name of the table's columns.
        path: File to write the figure to.

    Raises:
        ValueError: If a table is missing, the two are not of the same models, or ``path`` cannot be
            written.
    """
    if not isinstance(difference, pd.DataFrame) and hasattr(difference, "difference"):
        difference, real = difference.difference, getattr(difference, "real", None)
    if not isinstance(difference, pd.DataFrame) or not isinstance(real, pd.DataFrame):
        raise ValueError(
            "A plot of differences takes what gs.evaluation.differences found, or two tables as "
            f"plot_differences(found.difference, found.real), got {type(difference).__name__} and "
            f"{type(real).__name__}."
        )
    named = str(difference.columns.name or "")
    metric = name_among(metric, [{named}]) if metric else named
    names = list(difference.index)
    if list(difference.columns) != names or list(real.index) != names or len(names) < 2:
        raise ValueError(
            f"Both tables are models by models, two or more, got {difference.shape} and "
            f"{real.shape}."
        )
    size = len(names)
    figure = new_figure(2.4 + 0.8 * size, 1.6 + 0.6 * size, constrained=True)
    ax = figure.subplots()
    factor, unit = unit_of(metric)
    values = factor * difference.to_numpy(dtype=np.float64) + 0.0  # no -0.0
    digits = 1 if factor > 1 else 2
    for row, name in enumerate(names):
        for column, other in enumerate(names):
            if row == column:
                continue
            value = float(values[row, column])
            color = "#ECEFF2"
            if bool(real.loc[name, other]):
                color = BLUE if (value < 0) == lower_is_better(metric) else ORANGE
            ax.add_patch(_square(column, row, color))
            shown = "white" if color == BLUE else INK
            told = f"{value:+.{digits}f}"
            ax.text(column, row, told, ha="center", va="center", color=shown, fontsize=9)
    ax.set_xlim(-0.5, size - 0.5)
    ax.set_ylim(size - 0.5, -0.5)
    ax.set_xticks(range(size), names, rotation=40, ha="right")
    ax.set_yticks(range(size), names)
    ax.set_title(f"{metric} of row minus column, {unit}".strip(), fontsize=11, color=INK)
    lower = ", less is better" if lower_is_better(metric) else ""
    figure.supxlabel(
        f"in color: real (p < 0.05, corrected by Holm)\nblue: the row's model is better{lower}",
        fontsize=9,
        color=GRAY,
    )
    return _finished(figure, path)


def plot_critical_difference(
    ranks: Any,
    distance: float | None = None,
    *,
    groups: list[list[str]] | None = None,
    title: str | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draws mean ranks of models, with bars over models not significantly different (Demšar 2006).

    Args:
        ranks: What :func:`graphseq.evaluation.critical_difference` found; or its ``ranks``, the
            mean rank of each model.
        distance: Its critical difference, beside ranks.
        groups: Models that cannot be told apart; ``None``: those that it found, beside ranks no
            bars.
        title: Title; ``None``: says what is drawn, with the metric if the ranks are named by it.
        path: File to write the figure to.

    Raises:
        ValueError: If the distance is missing, there are fewer than two models, or ``path`` cannot
            be written.
    """
    if not isinstance(ranks, pd.Series) and hasattr(ranks, "ranks"):
        distance = getattr(ranks, "distance", None)
        groups = getattr(ranks, "groups", None) if groups is None else groups
        ranks = ranks.ranks
    if not isinstance(ranks, pd.Series) or not isinstance(distance, Real):
        raise ValueError(
            "A plot of ranks takes what gs.evaluation.critical_difference found, or "
            "plot_critical_difference(found.ranks, found.distance), got "
            f"{type(ranks).__name__} and {type(distance).__name__}."
        )
    if title is None:
        title = f"Mean ranks{f' by {ranks.name}' if ranks.name else ''} over data sets"
    if len(ranks) < 2:
        raise ValueError(f"Ranks are of two models or more, got {len(ranks)}.")
    ranks = ranks.sort_values(kind="stable")
    bars = groups or []
    figure = new_figure(7.5, 1.7 + 0.3 * len(ranks) + 0.18 * len(bars), constrained=True)
    ax = figure.subplots()
    low, high = 1.0, max(float(len(ranks)), float(ranks.max()))
    for place, (name, rank) in enumerate(ranks.items()):
        depth = -0.6 - 0.18 * len(bars) - 0.45 * place
        ax.plot([rank, rank, high + 0.15], [0, depth, depth], color=GRAY, linewidth=1)
        ax.text(high + 0.2, depth, f"{name} ({rank:.2f})", va="center", fontsize=10, color=INK)
        ax.plot([rank], [0], "o", color=BLUE, markersize=5)
    for number, group in enumerate(bars):
        ends = ranks[group]
        ax.plot(
            [ends.min() - 0.03, ends.max() + 0.03],
            [-0.25 - 0.18 * number] * 2,
            color=INK,
            linewidth=4,
            solid_capstyle="round",
        )
    ax.plot([low, low + distance], [0.55, 0.55], color=ORANGE, linewidth=3)
    ax.text(low, 0.72, f"critical difference {distance:.2f}", fontsize=9, color=INK)
    ax.axhline(0, color=INK, linewidth=1)
    ax.set_xlim(low - 0.2, high + 0.25 * (high - low) + 1.2)
    ax.set_xticks(np.arange(int(low), int(high) + 1))
    ax.set_yticks([])
    for side in ("left", "right", "top", "bottom"):
        ax.spines[side].set_visible(False)
    ax.xaxis.set_ticks_position("top")
    ax.set_title(title, fontsize=11, color=INK)
    return _finished(figure, path)


def plot_strata(
    strata: Mapping[str, pd.DataFrame],
    metric: str,
    *,
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draws a metric by kinds of cases, a line per model with its intervals.

    Args:
        strata: Model -> its frame, as of :meth:`graphseq.evaluation.Report.strata`, all by one
            kind of cases.
        metric: As ``"mrr@20"``; ``"sampled "`` may be left out, and is drawn.
        path: File to write the figure to.

    Raises:
        ValueError: If there is no frame, they are by different kinds, a frame lacks the metric, or
            ``path`` cannot be written.
    """
    if not isinstance(strata, Mapping) or not all(
        isinstance(frame, pd.DataFrame) for frame in strata.values()
    ):
        raise ValueError(
            "strata is a mapping of a model's name to its frame of Report.strata, got "
            f"{type(strata).__name__}."
        )
    kinds = {str(frame.index.name) for frame in strata.values()}
    if len(kinds) != 1:
        raise ValueError(
            f"Strata of one kind are drawn together, got {', '.join(sorted(kinds)) or 'none'}."
        )
    metric = name_among(metric, strata.values())
    for name, frame in strata.items():
        if metric not in frame:
            raise ValueError(f"The strata of {name} have no {metric!r}.")
    longest = max(strata.values(), key=len)
    names = list(longest.index)
    names += [n for frame in strata.values() for n in frame.index if n not in names]
    figure = new_figure(3 + 0.7 * len(names), 3.8, constrained=True)
    ax = figure.subplots()
    for number, (name, frame) in enumerate(strata.items()):
        places = np.array([names.index(stratum) for stratum in frame.index])
        shift = 0.12 * (number - (len(strata) - 1) / 2)
        values = frame[metric].to_numpy()
        ends = frame[[f"{metric} low", f"{metric} high"]].to_numpy().T
        reach = np.nan_to_num(np.abs(ends - values))
        ax.errorbar(places + shift, values, yerr=reach, marker="o", capsize=3, label=name)
    cases = longest["cases"].reindex(names)
    labels = [f"{n}\n{c:,.0f}" if c == c else str(n) for n, c in cases.items()]
    ax.set_xticks(range(len(names)), labels, fontsize=8)
    ax.set_xlabel(f"{kinds.pop()}; cases below", color=INK)
    ax.set_ylabel(metric, color=INK)
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False)
    return _finished(figure, path)


def _square(column: int, row: int, color: str) -> Rectangle:
    return Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, color=color, linewidth=0)


def _finished(figure: Figure, path: str | os.PathLike[str] | None) -> Figure:
    if path is not None:
        save_figure(figure, path)
    return figure
