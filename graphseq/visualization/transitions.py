"""The graph of all items and their transitions: its strongest part as a picture, and as files."""

from __future__ import annotations

import json
import math
import os
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch
from matplotlib.patheffects import withStroke
from torch_geometric.data import Data

from graphseq.arguments import whole
from graphseq.data.graphs.item_graph import transition_graph
from graphseq.data.sessions.sessions import Sessions
from graphseq.visualization.figures import (
    CATEGORIES,
    GRAY,
    INK,
    colors_of,
    new_figure,
    save_figure,
    whole_file,
)
from graphseq.visualization.session_graphs import Labels, LabelsOrIds, category_of, label_of
from graphseq.visualization.timeline import counted

EDGES_PER_ITEM = 3
"""Transitions drawn per item, the most frequent: more would be a ball of wool."""

FORMATS = (".graphml", ".gexf", ".json")


def transition_network(
    sessions: Sessions | Data,
    *,
    around: Any = None,
    top: int | None = None,
    min_count: int = 1,
    labels: Labels | None = None,
    categories: Labels | None = None,
) -> nx.DiGraph[int]:
    """The transitions between items as a networkx graph.

    Args:
        sessions: Sessions, or what :func:`graphseq.data.transition_graph` makes of them.
        around: An item, by id, or by code where a ``Data`` is given: it and the items that follow
            it or come before it most often. ``None``: the most clicked ones.
        top: Items, at most; ``None``: all.
        min_count: Transitions made less often are left out.
        labels: Label of each item code; ``None``: the sessions' ids, or the codes.
        categories: Category of each item code.

    Returns:
        The graph. Nodes are item codes and carry ``label``, ``clicks`` and, with ``categories``,
        ``category``; edges carry ``weight``, how often the transition was made.

    Raises:
        ValueError: If there is no such item, a number is not positive, or ``labels`` lacks an item.
    """
    min_count = whole("min_count", min_count)
    if isinstance(sessions, Sessions):
        data = transition_graph(sessions, min_count=min_count)
        labels = LabelsOrIds(labels, sessions.vocabulary.ids)
        center = None if around is None else int(sessions.vocabulary.encode([around])[0])
    else:
        if not isinstance(sessions, Data) or "clicks" not in sessions:
            raise ValueError(
                f"Sessions or the graph of gs.data.transition_graph are needed, got "
                f"{type(sessions).__name__}: gs.Sessions.from_lists reads lists of item ids."
            )
        data = sessions
        center = around
    size = int(data.num_nodes or 0)
    if center is not None and not 0 <= center < size:
        raise ValueError(f"around is one of the {size} items of these sessions, got {around!r}.")
    source, target = data.edge_index.numpy()
    weight, clicks = data.edge_weight.numpy(), data.clicks.numpy()
    kept = weight >= min_count
    source, target, weight = source[kept], target[kept], weight[kept]
    strength = clicks.astype(np.float64)
    if center is not None:
        near = np.bincount(target[source == center], weight[source == center], size)
        near += np.bincount(source[target == center], weight[target == center], size)
        near[center] = np.inf
        strength = near
    order = np.argsort(-strength, kind="stable")
    order = order[strength[order] > 0] if center is not None else order
    chosen = np.zeros(size, dtype=bool)
    chosen[order[: size if top is None else whole("top", top)]] = True
    graph: nx.DiGraph[int] = nx.DiGraph()
    for item in np.flatnonzero(chosen).tolist():
        graph.add_node(item, label=str(label_of(labels, item)), clicks=int(clicks[item]))
        if categories is not None:
            graph.nodes[item]["category"] = category_of(categories, item)
    inside = chosen[source] & chosen[target]
    graph.add_weighted_edges_from(
        zip(source[inside].tolist(), target[inside].tolist(), weight[inside].tolist(), strict=True)
    )
    return graph


def draw_transition_graph(
    sessions: Sessions | Data,
    *,
    around: Any = None,
    top: int = 30,
    min_count: int = 1,
    labels: Labels | None = None,
    categories: Labels | None = None,
    ax: Axes | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Axes:
    """Draws which items follow which: the most clicked ones, or those around an item.

    Size is how often an item was clicked, width how often a transition was made. Colors are
    categories or, without them, communities (Blondel et al., 2008): items that are followed by one
    another more than by others. Of the transitions the most frequent are drawn, three per item.

    Args:
        sessions, around, min_count, labels, categories: As in :func:`transition_network`.
        top: Items drawn.
        ax: Where to draw; ``None``: on a new figure, ``ax.figure``.
        path: File to write the figure to.

    Raises:
        ValueError: As :func:`transition_network`, if there is no item, or ``path`` cannot be
            written.
    """
    graph = transition_network(
        sessions,
        around=around,
        top=top,
        min_count=min_count,
        labels=labels,
        categories=categories,
    )
    if len(graph) == 0:
        raise ValueError("There is no item to draw: the sessions have none.")
    both: nx.Graph[int] = nx.Graph()
    both.add_nodes_from(graph)
    for a, b, weight in weighted(graph):
        if a != b:
            before = both.edges[a, b]["weight"] if both.has_edge(a, b) else 0.0
            both.add_edge(a, b, weight=before + weight)
    if categories is None:
        for number, members in enumerate(communities(both), 1):
            for item in members:
                graph.nodes[item]["category"] = f"community {number}"
    color = colors_of([graph.nodes[item]["category"] for item in graph])
    if ax is None:
        ax = new_figure(9.0, 7.4, constrained=True).subplots()
    ax.set_axis_off()
    place = _places(both)
    clicks = np.array([graph.nodes[item]["clicks"] for item in graph], dtype=float)
    size = dict(zip(graph, 8 + 22 * np.sqrt(clicks / max(clicks.max(), 1)), strict=True))
    _draw_edges(ax, graph, place, size)
    spots = np.array([place[item] for item in graph])
    ax.scatter(
        spots[:, 0],
        spots[:, 1],
        s=[size[item] ** 2 for item in graph],
        c=[color[graph.nodes[item]["category"]] for item in graph],
        edgecolors=INK,
        linewidths=0.8,
        zorder=3,
        gid="nodes",
    )
    for item in graph:
        ax.annotate(
            textwrap.shorten(graph.nodes[item]["label"], 24, placeholder=" …"),
            place[item],
            xytext=(0, -size[item] / 2 - 2),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=8.5 if len(graph) <= 40 else 6,
            color=INK,
            path_effects=[withStroke(linewidth=2.5, foreground="white", alpha=0.8)],
            zorder=4,
            gid=f"label-{item}",
        )
    ax.margins(0.12)
    what = f"the {len(graph)} most clicked items"
    if around is not None:
        center = _center(sessions, around)
        what = f"{counted(len(graph) - 1, 'neighbor')} of {graph.nodes[center]['label']}"
    ax.set_title(f"Transitions between {what}" if around is None else what, fontsize=11, color=INK)
    _write_legend(ax, graph, color)
    if path is not None:
        save_figure(ax.figure.get_figure(root=True), path)
    return ax


def weighted(graph: nx.Graph[int]) -> list[tuple[int, int, float]]:
    """The edges with their weights."""
    return [(a, b, float(values["weight"])) for a, b, values in graph.edges(data=True)]


def communities(graph: nx.Graph[int]) -> list[list[int]]:
    """Communities of an undirected weighted graph, the largest first, the same in every run."""
    found = nx.community.louvain_communities(graph, weight="weight", seed=0)
    return sorted((sorted(members) for members in found), key=lambda m: (-len(m), m[0]))


def export_graph(graph: nx.Graph[Any], path: str | os.PathLike[str]) -> Path:
    """Writes a networkx graph for other programs, whole or not at all.

    Args:
        graph: As of :func:`transition_network` or :func:`to_networkx`.
        path: File to write: ``.graphml``, ``.gexf``, or ``.json`` for node-link JSON (d3).

    Returns:
        The file written.

    Raises:
        ValueError: If the suffix is none of these, or the folder cannot be written to.
    """
    path = Path(path)
    if not isinstance(graph, nx.Graph):
        raise ValueError(
            f"A graph of networkx is written, got {type(graph).__name__}: make one with "
            "transition_network(sessions) or to_networkx(session_graph)."
        )
    if path.suffix.lower() not in FORMATS:
        raise ValueError(
            f"Graphs are written as {', '.join(FORMATS)}, but {path.name!r} ends in "
            f"{path.suffix!r}: name it like {path.stem}.graphml."
        )
    plain = _plain(graph)
    with whole_file(path) as unfinished:
        if path.suffix.lower() == ".json":
            text = json.dumps(nx.node_link_data(plain, edges="edges"), ensure_ascii=False, indent=1)
            unfinished.write_text(text, encoding="utf-8")
        elif path.suffix.lower() == ".gexf":
            nx.write_gexf(plain, unfinished)
        else:
            nx.write_graphml(plain, unfinished)
    return path


NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML file may hold, such as control characters in a title."""


def _plain(graph: nx.Graph[Any]) -> nx.Graph[Any]:
    """The graph with attributes that every format can write; those that are missing are absent."""
    plain = graph.copy()
    entries = [attributes for _, attributes in plain.nodes(data=True)]
    entries += [attributes for _, _, attributes in plain.edges(data=True)]
    for attributes in entries:
        for name, value in list(attributes.items()):
            if isinstance(value, np.generic):
                value = value.item()
            if value is None or value != value:
                del attributes[name]
                continue
            if not isinstance(value, (bool, int, float)):
                value = NOT_IN_XML.sub("", str(value))
            attributes[name] = value
    return plain


def _center(sessions: Sessions | Data, around: Any) -> int:
    if isinstance(sessions, Sessions):
        return int(sessions.vocabulary.encode([around])[0])
    return int(around)


def _places(graph: nx.Graph[int]) -> dict[int, tuple[float, float]]:
    """Places from springs, the same in every run; parts without a link stand side by side."""
    parts = sorted(nx.connected_components(graph), key=lambda part: (-len(part), min(part)))
    heaviest = max((weight for _, _, weight in weighted(graph)), default=1.0)
    place: dict[int, tuple[float, float]] = {}
    left = 0.0
    for part in (part for part in parts if len(part) > 1):
        springs: nx.Graph[int] = nx.Graph()
        springs.add_nodes_from(sorted(part))
        for a, b, weight in weighted(graph.subgraph(part)):
            springs.add_edge(a, b, weight=(weight / heaviest) ** 0.5)
        found = nx.spring_layout(springs, k=2.2 / len(part) ** 0.5, iterations=200, seed=0)
        radius = len(part) ** 0.5
        for item, (x, y) in found.items():
            place[item] = (left + radius * (1 + float(x)), radius * float(y))
        left += 2.4 * radius
    alone = [min(part) for part in parts if len(part) == 1]
    columns = max(1, round(left / 2.4) if left else math.ceil(len(alone) ** 0.5))
    lowest = min((y for _, y in place.values()), default=0.0)
    for number, item in enumerate(alone):
        place[item] = (2.4 * (number % columns), lowest - 1.2 * (1 + number // columns))
    return place


def _draw_edges(
    ax: Axes, graph: nx.DiGraph[int], place: dict[int, tuple[float, float]], size: dict[int, float]
) -> None:
    drawn = [edge for edge in weighted(graph) if edge[0] != edge[1]]
    drawn = sorted(drawn, key=lambda edge: -edge[2])[: EDGES_PER_ITEM * len(graph)]
    for source, target, weight in drawn:
        share = weight / drawn[0][2]
        ax.add_patch(
            FancyArrowPatch(
                place[source],
                place[target],
                arrowstyle="-|>",
                connectionstyle="arc3,rad=0.12",
                shrinkA=size[source] / 2,
                shrinkB=size[target] / 2 + 1,
                mutation_scale=7 + 6 * share,
                linewidth=0.6 + 3.2 * share,
                color=GRAY,
                alpha=0.35 + 0.5 * share,
                zorder=2,
                gid=f"edge-{source}-{target}",
            )
        )


def _write_legend(ax: Axes, graph: nx.DiGraph[int], color: dict[str, str]) -> None:
    names: Sequence[str] = list(color)[: len(CATEGORIES) - 1]
    style: dict[str, Any] = {"marker": "o", "linestyle": "none", "markersize": 9}
    handles = [
        Line2D([], [], **style, color=color[name], markeredgecolor=INK, label=name)
        for name in names
    ]
    if len(color) > len(names):
        others = f"{len(color) - len(names)} others"
        handles.append(
            Line2D([], [], **style, color=CATEGORIES[-1], markeredgecolor=INK, label=others)
        )
    weights = [weight for a, b, weight in weighted(graph) if a != b]
    if weights:
        shown = min(len(weights), EDGES_PER_ITEM * len(graph))
        label = f"the {shown} most frequent transitions, up to {max(weights):,.0f} times"
        handles.append(Line2D([], [], color=GRAY, linewidth=3.0, label=label))
    ax.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=4,
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
    )
