"""What each index of item vectors finds, and what a query of it takes."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from graphseq.visualization.figures import BLUE, GRAY, INK, ORANGE, new_figure, save_figure


def plot_serving(
    frame: pd.DataFrame, k: int, *, path: str | os.PathLike[str] | None = None
) -> Figure:
    """Draws each index as a bar of its latency, its size and what it finds of the exact top k.

    Args:
        frame: ``frame`` of a :class:`~graphseq.serving.ServingReport`.
        k: Items found per query.
        path: File to write the figure to.

    Raises:
        ValueError: If there is no index, or ``path`` cannot be written.
    """
    if len(frame) == 0:
        raise ValueError("A plot of indexes needs at least one, got none.")
    place = np.arange(len(frame))
    figure = new_figure(10.0, 1.4 + 0.42 * len(frame), constrained=True)
    axes = figure.subplots(1, 3, sharey=True)
    axes[0].barh(place, frame["p50_ms"], color=BLUE, label="median")
    axes[0].barh(place, frame["p99_ms"], height=0.3, color=ORANGE, alpha=0.7, label="99%")
    axes[0].set_xscale("log")
    axes[0].set_xlim(left=0.5 * float(frame["p50_ms"].min()))
    axes[0].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes[0].xaxis.set_major_formatter("{x:g}")
    axes[0].xaxis.set_minor_locator(NullLocator())
    axes[0].legend(fontsize=8, frameon=False)
    axes[1].barh(place, frame["bytes_per_item"], color=BLUE)
    axes[2].barh(place, frame["overlap"], color=BLUE)
    axes[2].axvline(1.0, color=GRAY, linewidth=0.8)
    titles = ("ms per query", "bytes per item", f"share of the exact top {k}")
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title, fontsize=10, color=INK)
        ax.spines[["top", "right"]].set_visible(False)
    for at, size in enumerate(frame["bytes_per_item"].tolist()):
        axes[1].annotate(f" {size:,.0f}", (size, at), va="center")
    for at, overlap in enumerate(frame["overlap"].tolist()):
        inside = overlap > 0.3
        axes[2].annotate(
            f" {overlap:.3f} ",
            (overlap, at),
            va="center",
            ha="right" if inside else "left",
            color="white" if inside else INK,
        )
    axes[0].set_yticks(place, list(frame["index"]))
    axes[0].invert_yaxis()
    if path is not None:
        save_figure(figure, path)
    return figure
