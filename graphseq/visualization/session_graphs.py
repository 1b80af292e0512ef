"""Session graphs as networkx graphs and as pictures."""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, Protocol

import networkx as nx
import numpy as np
import pandas as pd
import torch_geometric.utils
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch_geometric.data import Batch, Data

from graphseq.arguments import whole
from graphseq.visualization.figures import (
    BLUE,
    CATEGORIES,
    GRAY,
    INK,
    ORANGE,
    PALE_BLUE,
    VERMILION,
    blend,
    colors_of,
    image_of,
    new_figure,
    numbers_of,
    save_figure,
    save_frames,
)
from graphseq.visualization.timeline import Look, draw_on_line, inches_of

logger = logging.getLogger(__name__)

TITLE_INCHES, LEGEND_INCHES = 0.45, 0.6

MAX_ITEMS = 60
"""Items of a session that are drawn, unless told otherwise."""


class Labels(Protocol):
    """A mapping from item codes to labels: a list, a dict, a pandas Series or Index."""

    def __getitem__(self, item: int, /) -> Any: ...


@dataclass(frozen=True)
class LabelsOrIds:
    """Labels of items, and the id of each item that has none.

    Args:
        labels: Label of each item code; ``None``: the ids alone.
        ids: Id of each item code.
    """

    labels: Labels | None
    ids: Labels

    def __getitem__(self, item: int) -> Any:
        return label_of(self.labels, item, ids=self.ids)


def to_networkx(data: Data, labels: Labels | None = None) -> nx.DiGraph[int]:
    """A session graph as a networkx graph, through PyG's own conversion.

    Args:
        data: One session graph.
        labels: Label of each item code, such as ``sessions.vocabulary.ids`` or
            ``sessions.item_features["title"]``; a missing value, and an item that a dict lacks,
            falls back to the code. ``None``: the codes themselves.

    Returns:
        The graph. Nodes carry ``item`` (code), ``label``, ``order`` (of first visit, from 1),
        ``clicks`` (how many) and ``last`` (whether the last click is on it). Edges carry ``weight``
        (how often the transition was made).

    Raises:
        ValueError: If ``data`` is not a single session graph, or ``labels`` ends before an item.
    """
    if not isinstance(data, Data):
        raise ValueError(
            f"A session graph is needed, got {type(data).__name__}: take one from a "
            "SessionGraphDataset."
        )
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
            label=label_of(labels, item),
            order=order[node],
            clicks=visits[node],
            last=node == clicks[-1],
        )
    return graph


def draw_session_graph(
    data: Data,
    *,
    labels: Labels | None = None,
    categories: Labels | None = None,
    candidates: Sequence[tuple[Any, float]] | None = None,
    click_weights: Sequence[float] | None = None,
    edge_weights: Sequence[float] | None = None,
    max_items: int = MAX_ITEMS,
    ax: Axes | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Axes:
    """Draws a session: its items from left to right, in the order of the first visit.

    The number in a node is that order, its size how often the item was clicked; the node of the
    last click has a second ring. Arcs in vermilion lead back to an earlier item. The width of an
    edge, and the number on it, is how often the transition was made. With many edges, only numbers
    above 1 are written.

    Args:
        data: One session graph.
        labels: As in :func:`to_networkx`; long labels are wrapped and shortened.
        categories: Category of each item code, in the forms of ``labels``: nodes are colored by it.
        candidates: Items that may follow, ``(name, score)`` as ``recommend`` gives them, best
            first: ghosts on the right.
        click_weights: A strength of each click, [num_clicks], such as attention: the color of its
            node, which holds the sum over its clicks. Negative ones are vermilion, others blue.
        edge_weights: A strength of each edge, [num_edges]: its color and the number on it.
        max_items: Items drawn; of a larger session the most visited, and the title says so.
        ax: Where to draw; ``None``: on a new figure, ``ax.figure``.
        path: File to write the figure to.

    Raises:
        ValueError: As :func:`to_networkx`, if weights have another length, ``max_items`` is not
            positive, or ``path`` cannot be written.
    """
    graph = _picked(to_networkx(data, labels), max_items)
    look = _look(graph, data, categories, candidates, click_weights, edge_weights)
    if ax is None:
        width, height = inches_of([graph], look)
        height += TITLE_INCHES + LEGEND_INCHES
        above, below = 1 - TITLE_INCHES / height, LEGEND_INCHES / height
        ax = new_figure(width, height).add_axes((0.02, below, 0.96, above - below))
    draw_on_line(graph, ax, heaviest=_heaviest([graph]), look=look)
    handles = _legend(
        [graph],
        categories,
        of_clicks=click_weights is not None,
        of_edges=edge_weights is not None,
        ghosts=bool(candidates),
    )
    columns = 2 if ax.bbox.width / ax.figure.dpi < 6.4 else 4
    ax.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        **{**_LEGEND_STYLE, "ncols": min(columns, len(handles))},
    )
    if path is not None:
        save_figure(ax.figure.get_figure(root=True), path)
    return ax


def draw_session_graphs(
    graphs: Iterable[Data] | Batch,
    *,
    labels: Labels | None = None,
    categories: Labels | None = None,
    titles: Sequence[str] | None = None,
    columns: int = 3,
    max_items: int = MAX_ITEMS,
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draws several sessions side by side, as :func:`draw_session_graph` does.

    All drawings use one scale for the widths of edges and one for the colors of categories.

    Args:
        graphs: Session graphs, or a batch of them.
        labels: As in :func:`to_networkx`.
        categories: As in :func:`draw_session_graph`.
        titles: Title of each drawing; ``None``: its numbers of clicks and items.
        columns: Drawings per row.
        max_items: As in :func:`draw_session_graph`.
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
    drawn = [_picked(to_networkx(graph, labels), max_items) for graph in data]
    for graph in drawn:
        _set_categories(graph, categories)
    color = _colors(drawn, categories)
    columns = min(columns, len(drawn))
    rows = math.ceil(len(drawn) / columns)
    width, cell = inches_of(drawn)
    legend = LEGEND_INCHES * (2 if categories is not None else 1)
    height = rows * (cell + TITLE_INCHES) + legend
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
            "bottom": legend / height,
            "hspace": TITLE_INCHES / cell,
        },
    ).ravel()
    heaviest = _heaviest(drawn)
    for place, (graph, ax) in enumerate(zip(drawn, axes, strict=False)):
        fill = {node: color[graph.nodes[node]["category"]] for node in graph} if color else {}
        draw_on_line(graph, ax, heaviest=heaviest, look=Look(fill=fill))
        if titles is not None:
            ax.set_title(titles[place], fontsize=10, color=INK)
    for ax in axes[len(drawn) :]:
        ax.set_axis_off()
    handles = _legend(drawn, categories)
    style = {**_LEGEND_STYLE, "ncols": min(len(handles), 2 if width * columns < 5 else 5)}
    figure.legend(handles=handles, loc="lower center", **style)
    if path is not None:
        save_figure(figure, path)
    return figure


def animate_session(
    data: Data,
    path: str | os.PathLike[str],
    *,
    labels: Labels | None = None,
    categories: Labels | None = None,
    seconds: float = 1.0,
    max_items: int = MAX_ITEMS,
) -> FilePath:
    """Writes a GIF in which the clicks of a session arrive one after another.

    Items keep their places from the first picture to the last; those to come are not shown yet.

    Args:
        data: One session graph.
        path: File to write, a ``.gif``.
        labels, categories, max_items: As in :func:`draw_session_graph`. Of a larger session the
            clicks on other items are left out.
        seconds: How long each click is shown.

    Returns:
        The file written.

    Raises:
        ValueError: As :func:`draw_session_graph`, or if ``seconds`` is not positive.
    """
    if not 0 < seconds < math.inf:
        raise ValueError(
            f"seconds is how long each click is shown, above 0 and finite, got {seconds}."
        )
    if not str(path).endswith(".gif"):
        raise ValueError(f"An animation is a GIF: name it like session.gif, got {str(path)!r}.")
    whole_graph = _picked(to_networkx(data, labels), max_items)
    _set_categories(whole_graph, categories)
    color = _colors([whole_graph], categories)
    width, height = inches_of([whole_graph])
    figure = new_figure(width, height + TITLE_INCHES)
    ax = figure.add_axes((0.02, 0.02, 0.96, 0.98 - TITLE_INCHES / (height + TITLE_INCHES)))
    fill = {n: color[whole_graph.nodes[n]["category"]] for n in whole_graph} if color else {}
    clicks = [node for node in data.click_index.tolist() if node in whole_graph]
    frames = []
    for count in range(1, len(clicks) + 1):
        ax.clear()
        draw_on_line(
            whole_graph,
            ax,
            heaviest=_heaviest([whole_graph]),
            look=Look(fill=fill),
            arrived=clicks[:count],
        )
        frames.append(image_of(figure))
    return save_frames(frames, path, seconds)


def _picked(graph: nx.DiGraph[int], max_items: int) -> nx.DiGraph[int]:
    """The most visited items, and always the last one; a graph that is small enough as it is."""
    if len(graph) <= whole("max_items", max_items):
        return graph
    value = graph.nodes
    order = sorted(
        graph, key=lambda n: (not value[n]["last"], -value[n]["clicks"], value[n]["order"])
    )
    logger.warning(
        "The session has %d items: the %d most visited are drawn, the others are left out.",
        len(graph),
        max_items,
    )
    picked = graph.subgraph(order[:max_items]).copy()
    picked.graph["num_items"] = len(graph)
    for place, node in enumerate(sorted(picked, key=lambda n: value[n]["order"]), 1):
        picked.nodes[node]["order"] = place
    return picked


def _look(
    graph: nx.DiGraph[int],
    data: Data,
    categories: Labels | None,
    candidates: Sequence[tuple[Any, float]] | None,
    click_weights: Sequence[float] | None,
    edge_weights: Sequence[float] | None,
) -> Look:
    _set_categories(graph, categories)
    color = _colors([graph], categories)
    fill: dict[int, Any] = {}
    inside: dict[int, str] = {}
    if color:
        fill = {node: color[graph.nodes[node]["category"]] for node in graph}
    if click_weights is not None:
        clicks = data.click_index.tolist()
        sums = dict.fromkeys(graph, 0.0)
        given = _strengths("click_weights", click_weights, len(clicks))
        for node, weight in zip(clicks, given, strict=True):
            if node in sums:
                sums[node] += weight
        most = max(map(abs, sums.values())) or 1.0
        fill = {node: blend(value / most) for node, value in sums.items()}
        inside = dict(zip(sums, numbers_of(sums.values()), strict=True))
    edge_color: dict[tuple[int, int], Any] = {}
    edge_text: dict[tuple[int, int], str] = {}
    if edge_weights is not None:
        edges = [(a, b) for a, b in data.edge_index.T.tolist()]
        strength = dict(
            zip(edges, _strengths("edge_weights", edge_weights, len(edges)), strict=True)
        )
        most = max(map(abs, strength.values()), default=0.0) or 1.0
        for edge in graph.edges:
            share = strength[edge] / most
            edge_color[edge] = blend(math.copysign(0.15 + 0.85 * abs(share), share))
        edge_text = dict(zip(strength, numbers_of(strength.values()), strict=True))
    return Look(fill, inside, edge_color, edge_text, _ghosts(candidates or ()))


def _ghosts(candidates: Sequence[tuple[Any, float]]) -> list[tuple[str, float]]:
    found = []
    for candidate in candidates:
        try:
            name, score = candidate
            found.append((str(name), float(score)))
        except (TypeError, ValueError):
            raise ValueError(
                "candidates are pairs (name, score), as one list of recommend gives them, got "
                f"{candidate!r}."
            ) from None
        if math.isnan(found[-1][1]):
            raise ValueError(f"The score of candidate {name!r} is NaN: give a number.")
    return found


def _strengths(name: str, values: Sequence[float], size: int) -> list[float]:
    found = [float(value) for value in values]
    if len(found) != size:
        what = "click" if name == "click_weights" else "edge"
        raise ValueError(
            f"{name} holds one number per {what} of the session, {size}, got {len(found)}."
        )
    wrong = [place for place, value in enumerate(found) if not math.isfinite(value)]
    if wrong:
        raise ValueError(
            f"{name} holds {found[wrong[0]]} at place {wrong[0]}: a strength is a finite number."
        )
    return found


def _set_categories(graph: nx.DiGraph[int], categories: Labels | None) -> None:
    for node in graph if categories is not None else ():
        graph.nodes[node]["category"] = category_of(categories, graph.nodes[node]["item"])


def _colors(graphs: Sequence[nx.DiGraph[int]], categories: Labels | None) -> dict[str, str]:
    if categories is None:
        return {}
    return colors_of([graph.nodes[node]["category"] for graph in graphs for node in graph])


def label_of(labels: Labels | None, item: int, ids: Labels | None = None) -> Any:
    """The label of an item code; where there is none or it is missing, its id, or else the code.

    Raises:
        ValueError: If ``labels`` is a list that ends before the item, or a dict of something else.
    """
    label = _value_of(labels, item, "labels")
    if label is not None:
        return label
    return item if ids is None else ids[item]


def category_of(categories: Labels | None, item: int) -> str:
    """The category of an item code as text; ``"unknown"`` where there is none or it is missing.

    Raises:
        ValueError: As :func:`label_of`.
    """
    category = _value_of(categories, item, "categories")
    return "unknown" if category is None else str(category)


def _value_of(labels: Labels | None, item: int, name: str) -> Any:
    """The entry of an item code, several values as one text; ``None``: there is none."""
    if labels is None:
        return None
    if isinstance(labels, Mapping) and item not in labels:
        key = next(iter(labels), item)
        if not isinstance(key, (int, np.integer)):
            raise ValueError(
                f"{name} is keyed by item codes, whole numbers from 0, got the key {key!r}: "
                "sessions.vocabulary.encode turns ids into codes."
            )
        return None
    try:
        label = labels[item]
    except (KeyError, IndexError):
        raise ValueError(
            f"{name} has none for item {item} of this session: give one to each item code, as in "
            "sessions.vocabulary.ids."
        ) from None
    if isinstance(label, (list, tuple, np.ndarray)):  # as genres of a film
        return ", ".join(map(str, label)) or None
    return None if pd.api.types.is_scalar(label) and pd.isna(label) else label


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


def _legend(
    graphs: Sequence[nx.DiGraph[int]],
    categories: Labels | None = None,
    *,
    of_clicks: bool = False,
    of_edges: bool = False,
    ghosts: bool = False,
) -> list[Line2D]:
    node: dict[str, Any] = {"marker": "o", "linestyle": "none", "markersize": 11}
    handles = []
    colors = _colors(graphs, categories)
    for category in list(colors)[: len(CATEGORIES) - 1]:
        handles.append(
            Line2D([], [], **node, color=colors[category], markeredgecolor=BLUE, label=category)
        )
    if len(colors) >= len(CATEGORIES):
        others = f"{len(colors) - len(CATEGORIES) + 1} others"
        handles.append(
            Line2D([], [], **node, color=CATEGORIES[-1], markeredgecolor=BLUE, label=others)
        )
    if of_clicks:
        strength = Line2D([], [], **node, color=blend(0.8), markeredgecolor=BLUE, label="strength")
        handles.append(strength)
    elif not colors:
        label = "item, by first visit"
        handles.append(Line2D([], [], **node, color=PALE_BLUE, markeredgecolor=BLUE, label=label))
    fill = ORANGE if not of_clicks and not colors else "white"
    handles.append(Line2D([], [], **node, color=fill, markeredgecolor=INK, label="last click"))
    edges = [
        (graph.nodes[a]["order"], graph.nodes[b]["order"])
        for graph in graphs
        for a, b in graph.edges
    ]
    if edges:
        label = "transition, by strength" if of_edges else "transition, and how often"
        color = BLUE if of_edges else GRAY
        handles.append(Line2D([], [], color=color, linewidth=2.2, label=label))
    if not of_edges and any(a >= b for a, b in edges):
        handles.append(Line2D([], [], color=VERMILION, linewidth=2.2, label="back again"))
    if ghosts:
        style: dict[str, Any] = {**node, "color": "white", "markeredgecolor": GRAY}
        handles.append(Line2D([], [], **style, label="candidate, and its score"))
    return handles
