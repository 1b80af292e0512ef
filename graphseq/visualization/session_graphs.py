"""Session graphs as networkx graphs and as pictures."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import networkx as nx
import pandas as pd
import torch_geometric.utils
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch_geometric.data import Batch, Data

from graphseq.visualization.circular_layout import MAX_UPRIGHT, PALE_BLUE, draw_on_circle
from graphseq.visualization.figures import BLUE, GRAY, INK, ORANGE, new_figure, save_figure

TITLE_INCHES, LEGEND_INCHES = 0.45, 0.45


class Labels(Protocol):
    """A mapping from item codes to labels: a list, a dict, a pandas Series or Index."""

    def __getitem__(self, item: int, /) -> Any: ...


def to_networkx(data: Data, labels: Labels | None = None) -> nx.DiGraph[int]:
    """A session graph as a networkx graph, through PyG's own conversion.

    Args:
        data: One session graph.
        labels: Label of each item code, such as ``sessions.vocabulary.ids`` or
            ``sessions.item_features["title"]``; a missing value falls back to the code. ``None``:
            the codes themselves.

    Returns:
        The graph. Nodes carry ``item`` (code), ``label``, ``order`` (of first visit, from 1),
        ``clicks`` (how many) and ``last`` (whether the last click is on it). Edges carry ``weight``
        (how often the transition was made).

    Raises:
        ValueError: If ``data`` is not a single session graph, or ``labels`` lacks an item.
    """
    if data.get("click_index") is None or data.get("edge_weight") is None:
        raise ValueError(
            f"A session graph has click_index and edge_weight, this {type(data).__name__} has "
            f"{', '.join(sorted(data.keys()))}: take one from a SessionGraphDataset."
        )
    if isinstance(data, Batch):
        if data.num_graphs != 1:
            raise ValueError(
                f"A single session graph is needed, got a batch of {data.num_graphs}: use batch[i]."
            )
        data = data.get_example(0)
    graph: nx.DiGraph[int] = torch_geometric.utils.to_networkx(data, edge_attrs=["edge_weight"])
    for _, _, edge in graph.edges(data=True):
        edge["weight"] = edge.pop("edge_weight")
    clicks = data.click_index.tolist()
    visits = Counter(clicks)
    order = {node: place for place, node in enumerate(visits, 1)}
    for node, item in enumerate(data.x.tolist()):
        graph.nodes[node].update(
            item=item,
            label=_label(labels, item),
            order=order[node],
            clicks=visits[node],
            last=node == clicks[-1],
        )
    return graph


def draw_session_graph(
    data: Data,
    *,
    labels: Labels | None = None,
    ax: Axes | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Axes:
    """Draws a session: its items clockwise from the top, in the order of the first visit.

    The number in a node is that order; the node of the last click is orange with a second ring. The
    width of an edge, and the number on it, is how often the transition occurs. With many edges,
    only numbers above 1 are written.

    Args:
        data: One session graph.
        labels: As in :func:`to_networkx`; long labels are wrapped and shortened.
        ax: Where to draw; ``None``: on a new figure, ``ax.figure``.
        path: File to write the figure to.

    Raises:
        ValueError: As :func:`to_networkx`, or if ``path`` cannot be written.
    """
    graph = to_networkx(data, labels)
    if ax is None:
        width, height = _inches([graph])
        height += TITLE_INCHES + LEGEND_INCHES
        above, below = 1 - TITLE_INCHES / height, LEGEND_INCHES / height
        ax = new_figure(width, height).add_axes((0.02, below, 0.96, above - below))
    draw_on_circle(graph, ax, heaviest=_heaviest([graph]))
    ax.legend(
        handles=_legend([graph]), loc="upper center", bbox_to_anchor=(0.5, 0.0), **_LEGEND_STYLE
    )
    if path is not None:
        save_figure(ax.figure.get_figure(root=True), path)
    return ax


def draw_session_graphs(
    graphs: Iterable[Data] | Batch,
    *,
    labels: Labels | None = None,
    titles: Sequence[str] | None = None,
    columns: int = 3,
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draws several sessions side by side, as :func:`draw_session_graph` does.

    All drawings use one scale for the widths of edges.

    Args:
        graphs: Session graphs, or a batch of them.
        labels: As in :func:`to_networkx`.
        titles: Title of each drawing; ``None``: its numbers of clicks and items.
        columns: Drawings per row.
        path: File to write the figure to.

    Raises:
        ValueError: As :func:`draw_session_graph`; or if there is no graph, ``columns`` is not
            positive, or ``titles`` has another length.
    """
    data = graphs.to_data_list() if isinstance(graphs, Batch) else list(graphs)
    if not data or columns < 1:
        raise ValueError(
            f"A grid needs at least one graph and one column, got {len(data)} and {columns}."
        )
    if titles is not None and len(titles) != len(data):
        raise ValueError(f"titles needs one text per session: {len(data)}, got {len(titles)}.")
    drawn = [to_networkx(graph, labels) for graph in data]
    columns = min(columns, len(drawn))
    rows = math.ceil(len(drawn) / columns)
    width, cell = _inches(drawn)
    height = rows * (cell + TITLE_INCHES) + LEGEND_INCHES
    figure = new_figure(width * columns, height)
    axes = figure.subplots(
        rows,
        columns,
        squeeze=False,
        gridspec_kw={
            "left": 0.01,
            "right": 0.99,
            "wspace": 0.04,
            "top": 1 - TITLE_INCHES / height,
            "bottom": LEGEND_INCHES / height,
            "hspace": TITLE_INCHES / cell,
        },
    ).ravel()
    heaviest = _heaviest(drawn)
    for place, (graph, ax) in enumerate(zip(drawn, axes, strict=False)):
        draw_on_circle(graph, ax, heaviest=heaviest)
        if titles is not None:
            ax.set_title(titles[place], fontsize=10, color=INK)
    for ax in axes[len(drawn) :]:
        ax.set_axis_off()
    figure.legend(handles=_legend(drawn), loc="lower center", **_LEGEND_STYLE)
    if path is not None:
        save_figure(figure, path)
    return figure


def _inches(graphs: Sequence[nx.DiGraph[int]]) -> tuple[float, float]:
    """Width and height of one drawing, from the largest of these graphs."""
    num_nodes = max(map(len, graphs))
    if num_nodes <= MAX_UPRIGHT:
        height = 2.2 + 0.3 * num_nodes
        return max(1.4 * height, 5.2), height
    side = min(8.0 + 0.07 * num_nodes, 20.0)
    return side, side


def _label(labels: Labels | None, item: int) -> Any:
    if labels is None:
        return item
    try:
        label = labels[item]
    except (KeyError, IndexError):
        raise ValueError(
            f"labels has none for item {item} of this session: give every item code a label, as in "
            "sessions.vocabulary.ids."
        ) from None
    return item if pd.isna(label) else label


def _heaviest(graphs: Sequence[nx.DiGraph[int]]) -> float:
    """The weight of the widest edge; at least 4, so that a weight of 2 stays narrow."""
    weights = (edge["weight"] for graph in graphs for _, _, edge in graph.edges(data=True))
    return max(4.0, *weights, 4.0)


_LEGEND_STYLE: dict[str, Any] = {
    "ncols": 3,
    "frameon": False,
    "fontsize": 8.5,
    "labelcolor": INK,
    "columnspacing": 1.6,
    "handletextpad": 0.5,
}


def _legend(graphs: Sequence[nx.DiGraph[int]]) -> list[Line2D]:
    node: dict[str, Any] = {"marker": "o", "linestyle": "none", "markersize": 11}
    handles = [
        Line2D([], [], **node, color=PALE_BLUE, markeredgecolor=BLUE, label="item, by first visit"),
        Line2D([], [], **node, color=ORANGE, markeredgecolor=INK, label="last click"),
    ]
    if any(graph.number_of_edges() for graph in graphs):
        times = Line2D([], [], color=GRAY, linewidth=2.2, label="transition, and how often")
        handles.append(times)
    return handles
