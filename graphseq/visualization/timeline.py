"""One session graph on one pair of axes: its items on a line, in the order of their first visit."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import networkx as nx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path
from matplotlib.text import Annotation
from numpy.typing import NDArray

from graphseq.visualization.figures import BLUE, GRAY, INK, ORANGE, PALE_BLUE, VERMILION

MAX_WEIGHTS_SHOWN = 16  # edges; with more, the number 1 is left out
THINNEST, THICKEST = 1.3, 4.2  # points
LABEL_SIZE = 9.5
ROOM_OF_CANDIDATE = 24.0  # points between two ghost nodes
STEEPNESS = 46.0  # points by which an arc over one step rises
LETTER = 0.56  # width of a letter, in sizes of its font


@dataclass(frozen=True)
class Look:
    """What a drawing shows beside the graph.

    Attributes:
        fill: Node -> color; others are pale blue, and the last one orange.
        inside: Node -> text in it, instead of the number of its first visit.
        edge_color: Edge -> color, instead of blue-gray forward and vermilion back.
        edge_text: Edge -> text on it, instead of how often it was made.
        candidates: Names and scores of items that may follow, drawn as ghosts on the right.
    """

    fill: Mapping[int, Any] = field(default_factory=dict)
    inside: Mapping[int, str] = field(default_factory=dict)
    edge_color: Mapping[tuple[int, int], Any] = field(default_factory=dict)
    edge_text: Mapping[tuple[int, int], str] = field(default_factory=dict)
    candidates: Sequence[tuple[str, float]] = ()


PLAIN = Look()


def inches_of(graphs: Sequence[nx.DiGraph[int]], look: Look = PLAIN) -> tuple[float, float]:
    """Width and height of one drawing, of the largest of these graphs."""
    num_nodes = max(map(len, graphs))
    apart = 1.65 if num_nodes <= 4 else 1.2 if num_nodes <= 9 else max(0.26, 8 / num_nodes)
    width = max(3.6, apart * num_nodes) + (2.4 if look.candidates else 0.3)
    above = max((_rise(edge, graph) for graph in graphs for edge in graph.edges), default=0)
    longest = max(len(str(graph.nodes[node]["label"])) for graph in graphs for node in graph)
    labels = 24.0 + 12 * min(3, 1 + longest // 14) if num_nodes <= 9 else 95.0
    height = (STEEPNESS * math.sqrt(above) + 30.0 + labels) / 72
    height = min(height, 1.6 + 0.25 * width)
    return width, max(height, 0.4 + ROOM_OF_CANDIDATE / 72 * len(look.candidates))


def draw_on_line(
    graph: nx.DiGraph[int],
    ax: Axes,
    *,
    heaviest: float,
    look: Look = PLAIN,
    arrived: Sequence[int] | None = None,
) -> dict[int, tuple[float, float]]:
    """Draws a graph of :func:`~graphseq.visualization.to_networkx`, with its size on top.

    Data units are points of the axes as they are now, so that nothing needs to be measured twice.

    Args:
        graph: The graph.
        ax: Where to draw; their size decides how far nodes lie apart.
        heaviest: The weight of the widest edge, above 1.
        look: What is shown beside the graph.
        arrived: Nodes of the first clicks, oldest first, where later ones are not shown yet;
            places stay those of the whole graph. ``None``: all are shown.

    Returns:
        The place of each node, in data units.
    """
    nodes = sorted(graph.nodes, key=lambda node: graph.nodes[node]["order"])
    width, height = (float(side) * 72 / ax.figure.dpi for side in ax.bbox.size)
    ax.set_axis_off()
    ax.set(xlim=(0, width), ylim=(0, height))
    clicks = sum(node["clicks"] for node in graph.nodes.values())
    whole = graph.graph.get("num_items", len(nodes))
    title = f"{counted(clicks, 'click')} on {counted(len(nodes), 'item')}"
    title += f", the most visited of {whole}" if whole > len(nodes) else ""
    ax.set_title(title, fontsize=10, color=GRAY, pad=9)

    room = 0.36 * width if look.candidates else 0.0
    spacing = (width - room) / len(nodes)
    labels = [str(graph.nodes[node]["label"]) for node in nodes]
    letters = int(min(20, spacing / (LETTER * LABEL_SIZE) - 1))  # one letter apart
    upright = letters >= min(9, max(map(len, labels)))
    texts = [
        _write_label(ax, label, letters, spacing, upright=upright, gid=f"label-{node}")
        for node, label in zip(nodes, labels, strict=True)
    ]
    boxes = [text.get_window_extent() for text in texts]
    scale = 72 / ax.figure.dpi
    left = max(boxes[0].width * scale - spacing / 2, 0.0) if texts[0].get_rotation() else 0.0
    left = min(left, 0.25 * width)
    spacing = (width - room - left) / len(nodes)
    most = max(graph.nodes[node]["clicks"] for node in nodes)
    base = min(24.0, max(7.0, 0.72 * spacing / most**0.25))
    size = {node: base * graph.nodes[node]["clicks"] ** 0.25 for node in nodes}
    largest = max(size.values())
    below = max(box.height for box in boxes) * scale + largest / 2 + 7
    line = max(below, ROOM_OF_CANDIDATE * len(look.candidates) / 2)
    line = min(line, height - largest)
    place = {node: (left + (i + 0.5) * spacing, line) for i, node in enumerate(nodes)}
    if len(nodes) == 1 and not look.candidates:
        ax.set(xlim=(-width / 2, width / 2), ylim=(-line, height - line))
        place, line = {nodes[0]: (0.0, 0.0)}, 0.0
    top = ax.get_ylim()[1] - line

    highest = max((_rise(edge, graph) for edge in graph.edges), default=0.0)
    if arrived is not None:
        graph = _so_far(graph, arrived)
        nodes, texts = _shown(graph, nodes, texts)
        rest = clicks - len(arrived)
        ax.set_title(f"{counted(len(arrived), 'click')}, {rest} to come", fontsize=10, color=GRAY)
    _draw_nodes(ax, graph, nodes, place, size, look)
    for node, text in zip(nodes, texts, strict=True):
        text.xy = place[node]
        text.set_position((0.0, -size[node] / 2 - 5))
    for edge in graph.edges:
        _draw_edge(ax, graph, edge, place, size, highest, top, heaviest, look)
    if look.candidates:
        _draw_candidates(ax, place[_last(graph)], size[_last(graph)], width - room, look.candidates)
    return place


def _so_far(graph: nx.DiGraph[int], arrived: Sequence[int]) -> nx.DiGraph[int]:
    """The graph of the first clicks alone."""
    made = Counter(pairwise(arrived))
    found = graph.edge_subgraph([edge for edge in graph.edges if edge in made]).copy()
    found.add_nodes_from((node, dict(graph.nodes[node])) for node in arrived)
    for edge in found.edges:
        found.edges[edge]["weight"] = made[edge]
    for node in found:
        found.nodes[node]["last"] = node == arrived[-1]
    return found


def _shown(
    graph: nx.DiGraph[int], nodes: Sequence[int], texts: Sequence[Annotation]
) -> tuple[list[int], list[Annotation]]:
    """The nodes of a graph and their labels; labels of others are taken away."""
    kept = []
    for node, text in zip(nodes, texts, strict=True):
        if node in graph:
            kept.append(text)
        else:
            text.remove()
    return [node for node in nodes if node in graph], kept


def _draw_nodes(
    ax: Axes,
    graph: nx.DiGraph[int],
    nodes: Sequence[int],
    place: Mapping[int, tuple[float, float]],
    size: Mapping[int, float],
    look: Look,
) -> None:
    last = [graph.nodes[node]["last"] for node in nodes]
    own = [ORANGE if ends else PALE_BLUE for ends in last]
    at = np.array([place[node] for node in nodes])
    diameter = np.array([size[node] for node in nodes])
    style: dict[str, Any] = {"linewidths": 1.2, "zorder": 3, "clip_on": False}
    ax.scatter(
        at[:, 0],
        at[:, 1],
        s=diameter**2,
        facecolors=[look.fill.get(node, color) for node, color in zip(nodes, own, strict=True)],
        edgecolors=[INK if ends else BLUE for ends in last],
        gid="nodes",
        **style,
    )
    ax.scatter(
        at[last][:, 0],
        at[last][:, 1],
        s=(diameter[last] + 6) ** 2,
        facecolors="none",
        edgecolors=INK,
        gid="last",
        **style,
    )
    for node in nodes:
        text = look.inside.get(node, str(graph.nodes[node]["order"]))
        ax.annotate(
            text,
            place[node],
            ha="center",
            va="center_baseline",
            fontsize=min(0.42, 0.95 / len(text)) * size[node],
            fontweight="bold",
            color=_readable_on(look.fill.get(node)),
            zorder=4,
            gid=f"order-{node}",
        )


def _write_label(
    ax: Axes, label: str, letters: int, spacing: float, *, upright: bool, gid: str
) -> Annotation:
    """The label under a node; where nodes lie close, all run down to the left."""
    style: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": LABEL_SIZE}
    if upright:
        lines = textwrap.wrap(label, letters, max_lines=3, placeholder=" …")
        text = "\n".join(lines) or label
    else:
        text = textwrap.shorten(label, 26, placeholder=" …")
        style |= {"ha": "right", "rotation": 38, "rotation_mode": "anchor"}
        style["fontsize"] = min(9.0, max(5.5, 0.62 * spacing))
    return ax.annotate(
        text,
        (0.0, 0.0),
        xytext=(0.0, 0.0),
        textcoords="offset points",
        color=INK,
        linespacing=1.1,
        zorder=5,
        gid=gid,
        annotation_clip=False,
        **style,
    )


def _rise(edge: tuple[int, int], graph: nx.DiGraph[int]) -> float:
    """How high an edge rises over the line, in steps: 0 to the next item, back above forward."""
    source, target = (graph.nodes[node]["order"] for node in edge)
    if source == target:
        return 0.6
    if target == source + 1:
        return 0.0
    return float(target - source) * 0.8 if target > source else float(source - target) + 0.2


def _draw_edge(
    ax: Axes,
    graph: nx.DiGraph[int],
    edge: tuple[int, int],
    place: Mapping[int, tuple[float, float]],
    size: Mapping[int, float],
    highest: float,
    top: float,
    heaviest: float,
    look: Look,
) -> None:
    source, target = edge
    weight = graph.edges[edge]["weight"]
    width = THINNEST + (THICKEST - THINNEST) * (weight - 1) / (heaviest - 1)
    (x0, y0), (x1, _) = place[source], place[target]
    start, stop = _radius(graph, source, size), _radius(graph, target, size)
    rise = _rise(edge, graph)
    # The square root leaves room between low arcs where a long one needs most of the height.
    high = (top - 10.0) * math.sqrt(rise / highest) if highest else 0.0
    high = min(high, STEEPNESS * math.sqrt(rise))
    back = graph.nodes[target]["order"] <= graph.nodes[source]["order"]
    color = look.edge_color.get(edge, VERMILION if back else GRAY)
    middle = ((x0 + x1) / 2, y0 + high)
    style: Any
    if source == target:
        loop = Loop(0.0, 1.0)
        style, middle = loop, (x0, y0 + loop.top(start)[1])
    else:
        style = f"arc3,rad={2 * high / (x0 - x1) if high else 0.0}"
    ax.add_patch(
        FancyArrowPatch(
            (x0, y0),
            place[target],
            arrowstyle="-|>",
            connectionstyle=style,
            shrinkA=start,
            shrinkB=stop + 1,
            mutation_scale=7 + 2 * width,
            linewidth=width,
            color=color,
            zorder=2,
            clip_on=False,
            gid=f"edge-{source}-{target}",
        )
    )
    text = look.edge_text.get(edge)
    if text is None:
        if weight <= 1 and graph.number_of_edges() > MAX_WEIGHTS_SHOWN:
            return
        text = f"{weight:g}"
    ax.annotate(
        text,
        middle,
        ha="center",
        va="center",
        fontsize=8.5 if len(graph) <= 12 else 7,
        color=INK,
        bbox={"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none"},
        zorder=2.5,
        gid=f"weight-{source}-{target}",
        annotation_clip=False,
    )


def _draw_candidates(
    ax: Axes,
    last: tuple[float, float],
    diameter: float,
    left: float,
    candidates: Sequence[tuple[str, float]],
) -> None:
    """Ghosts in a column, best on top, with their scores."""
    x = left + 34.0
    middle = (len(candidates) - 1) / 2
    for number, (name, score) in enumerate(candidates):
        y = last[1] + ROOM_OF_CANDIDATE * (middle - number)
        ax.add_patch(
            FancyArrowPatch(
                last,
                (x, y),
                arrowstyle="-",
                linestyle=(0, (3, 3)),
                shrinkA=diameter / 2 + 4,
                shrinkB=9,
                linewidth=1.0,
                color=GRAY,
                zorder=1,
                clip_on=False,
                gid=f"candidate-{number}",
            )
        )
        ax.scatter(
            [x],
            [y],
            s=15.0**2,
            facecolors="white",
            edgecolors=GRAY,
            linestyles=[(0, (2, 2))],
            linewidths=1.2,
            zorder=3,
            clip_on=False,
            gid=f"ghost-{number}",
        )
        ax.annotate(
            f"{textwrap.shorten(name, 24, placeholder=' …')}  {score:.3g}",
            (x, y),
            xytext=(12, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=INK,
            gid=f"score-{number}",
            annotation_clip=False,
        )


def _last(graph: nx.DiGraph[int]) -> int:
    return next(node for node in graph if graph.nodes[node]["last"])


def _radius(graph: nx.DiGraph[int], node: int, size: Mapping[int, float]) -> float:
    """Points from the center of a node to where its edges end."""
    return 0.5 * size[node] + (3.6 if graph.nodes[node]["last"] else 0.6)


def _readable_on(color: Any) -> str:
    """Ink, or white on a dark color."""
    if color is None:
        return INK
    return INK if float(np.dot(to_rgb(color), (0.299, 0.587, 0.114))) > 0.5 else "white"


@dataclass(frozen=True)
class Loop:
    """The way of an edge from a node to itself: a drop.

    matplotlib calls it with pixels; ``x`` and ``y`` are the direction it points to.
    """

    x: float
    y: float

    REACH = 2.15
    """Where the drop ends, in radii of the node."""

    def __call__(
        self,
        posA: NDArray[Any],  # noqa: N803
        posB: NDArray[Any],  # noqa: N803
        *,
        shrinkA: float,  # noqa: N803
        shrinkB: float,  # noqa: N803
        **_: Any,
    ) -> Path:
        def at(distance: float, degrees: float) -> tuple[float, float]:
            cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
            return (
                posA[0] + distance * (cos * self.x - sin * self.y),
                posA[1] + distance * (sin * self.x + cos * self.y),
            )

        # The middle of a Bezier curve takes 1/8 of each end and 3/8 of each control point.
        control = (self.REACH * shrinkA - 0.25 * shrinkA * math.cos(math.radians(40))) / (
            0.75 * math.cos(math.radians(38))
        )
        points = [at(shrinkA, 40), at(control, 38), at(control, -38), at(shrinkB, -40)]
        return Path(points, [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])

    def top(self, radius: float) -> tuple[float, float]:
        """The far end, in points from the center of a node of this radius."""
        return self.REACH * radius * self.x, self.REACH * radius * self.y


def counted(number: int, thing: str) -> str:
    """``"1 click"``, ``"2 clicks"``."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")
