"""What sessions are like: a histogram of lengths, and numbers of their graphs."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes

from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.data.sessions.sessions import Sessions, only_sessions
from graphseq.ragged import ptr_of
from graphseq.visualization.figures import BLUE, GRAY, INK, ORANGE, new_figure, save_figure
from graphseq.visualization.timeline import counted

BARS = 50
"""Lengths drawn one by one; a log with longer sessions has bars of several lengths."""


def plot_lengths(
    sessions: Sessions,
    *,
    ax: Axes | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Axes:
    """Draws how many sessions have how many clicks, with the median and the 90th percentile.

    Args:
        sessions: Any sessions.
        ax: Where to draw; ``None``: on a new figure, ``ax.figure``.
        path: File to write the figure to.

    Raises:
        ValueError: If these are no sessions or there is none, or ``path`` cannot be written.
    """
    only_sessions("sessions", sessions)
    lengths = np.asarray(sessions.lengths)
    if len(lengths) == 0:
        raise ValueError("There is no session whose length could be drawn.")
    median, most = np.percentile(lengths, [50, 90])
    # In a log with long sessions, the tail beyond the 99th percentile shares the last bar.
    end = int(lengths.max())
    end = end if end <= BARS else int(np.percentile(lengths, 99))
    width = -(-end // BARS)
    edges = np.arange(0.5, end + width, width)
    counts, _ = np.histogram(np.minimum(lengths, edges[-1] - 0.1), bins=edges)

    def clicks(value: float) -> str:
        return f"{value:g} click" + ("" if value == 1 else "s")

    if ax is None:
        ax = new_figure(7.0, 4.2, constrained=True).subplots()
    ax.bar(edges[:-1] + width / 2, counts, width=0.9 * width, color=BLUE)
    for value, name, color in ((median, "median", INK), (most, "90th percentile", ORANGE)):
        ax.axvline(value, color=color, linewidth=1.8, label=f"{name}: {clicks(value)}")
    last = f"; the last bar holds all longer ones, up to {lengths.max():,}"
    ax.set_xlabel(
        "clicks of a session" + (last if lengths.max() > edges[-1] else ""), color=GRAY, fontsize=10
    )
    ax.set_ylabel("sessions", color=GRAY, fontsize=10)
    ax.set_title(f"Lengths of {counted(len(lengths), 'session')}", color=INK, fontsize=11)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=9.5)
    if path is not None:
        save_figure(ax.figure.get_figure(root=True), path)
    return ax


def graph_statistics(sessions: Sessions, *, max_sessions: int = 100_000) -> pd.DataFrame:
    """What session graphs are like: one row per quantity with its mean and percentiles.

    Args:
        sessions: Any sessions; unknown clicks are skipped.
        max_sessions: Sessions that are counted, drawn evenly over the log.

    Returns:
        A frame with ``mean``, ``p10``, ``median``, ``p90`` and ``max`` of ``clicks``, ``items``,
        ``transitions``, ``repeated clicks`` (shares of clicks on an item seen before),
        ``loops`` (transitions from an item to itself), ``returns`` (transitions back to an earlier
        item) and ``out-degree`` (transitions per item).

    Raises:
        ValueError: If these are no sessions, or none has a known click.
    """
    only_sessions("sessions", sessions)
    picked = np.arange(sessions.num_sessions)
    if len(picked) > max_sessions:
        picked = np.linspace(0, len(picked) - 1, max_sessions).astype(np.int64)
        sessions = sessions.select(picked)
    items = np.asarray(sessions.items)
    known = items >= 0
    lengths = np.diff(ptr_of(known)[sessions.ptr])
    lengths = lengths[lengths > 0]
    if len(lengths) == 0:
        raise ValueError("No session has a known click: there is no graph to count.")
    clicked = torch.from_numpy(items[known].astype(np.int64))
    batch = build_session_graphs(clicked, torch.from_numpy(ptr_of(lengths)))
    size = batch.num_graphs
    nodes = batch.ptr.diff().numpy()
    source, target = batch.edge_index
    session = batch.batch[source]

    def per_session(of_edges: Any) -> Any:
        return torch.bincount(session[of_edges], minlength=size).numpy()

    edges = torch.bincount(session, minlength=size).numpy()
    columns = {
        "clicks": lengths,
        "items": nodes,
        "transitions": edges,
        "repeated clicks": 1 - nodes / lengths,
        "loops": per_session(source == target),
        "returns": per_session(source > target),  # nodes are in the order of their first visit
        "out-degree": edges / nodes,
    }
    return pd.DataFrame(
        {
            name: {
                "mean": float(np.mean(values)),
                "p10": float(np.percentile(values, 10)),
                "median": float(np.median(values)),
                "p90": float(np.percentile(values, 90)),
                "max": float(np.max(values)),
            }
            for name, values in columns.items()
        }
    ).T
