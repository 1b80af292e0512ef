"""One session graph on one pair of axes: its nodes on a circle, its edges between them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path
from matplotlib.text import Annotation
from numpy.typing import NDArray

from graphseq.visualization.figures import BLUE, GRAY, INK, ORANGE

PALE_BLUE = "#DCEBF7"
MAX_UPRIGHT = 12  # nodes; with more, labels stand like rays
MAX_WEIGHTS_SHOWN = 16  # edges; with more, the number 1 is left out
THINNEST, THICKEST = 1.3, 4.2  # points


def draw_on_circle(graph: nx.DiGraph[int], ax: Axes, *, heaviest: float) -> None:
    """Draws a graph of :func:`~graphseq.visualization.to_networkx`, with its size on top.

    Args:
        graph: The graph.
        ax: Where to draw; their size decides how far nodes lie apart.
        heaviest: The weight of the widest edge, above 1.
    """
    nodes = sorted(graph.nodes, key=lambda node: graph.nodes[node]["order"])
    x, y = _places(len(nodes))
    place = {node: (float(x[i]), float(y[i])) for i, node in enumerate(nodes)}
    diameter = min(26.0, max(9.0, 400.0 / len(nodes)))  # points
    ax.set_axis_off()
    ax.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2))  # until _fit knows how large the texts are
    clicks = sum(node["clicks"] for node in graph.nodes.values())
    title = f"{_counted(clicks, 'click')} on {_counted(len(nodes), 'item')}"
    ax.set_title(title, fontsize=10, color=GRAY, pad=9)

    last = [graph.nodes[node]["last"] for node in nodes]
    ax.scatter(
        x,
        y,
        s=diameter**2,
        facecolors=[ORANGE if ends else PALE_BLUE for ends in last],
        edgecolors=[INK if ends else BLUE for ends in last],
        linewidths=1.2,
        zorder=3,
        clip_on=False,
        gid="nodes",
    )
    ax.scatter(
        x[last],
        y[last],
        s=(diameter + 6) ** 2,
        facecolors="none",
        edgecolors=INK,
        linewidths=1.2,
        zorder=3,
        clip_on=False,
        gid="last",
    )
    for node in nodes:
        ax.annotate(
            str(graph.nodes[node]["order"]),
            place[node],
            ha="center",
            va="center_baseline",
            fontsize=0.4 * diameter,
            fontweight="bold",
            color=INK,
            zorder=4,
            gid=f"order-{node}",
        )
    texts = [_write_label(ax, graph, node, place[node], diameter) for node in nodes]
    for source, target, edge in graph.edges(data=True):
        text = _draw_edge(ax, graph, source, target, edge["weight"], place, diameter, heaviest)
        texts += [] if text is None else [text]
    _fit(ax, texts, diameter + 8)


def _places(num_nodes: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Clockwise from the top; two side by side; one in the middle: x and y, [num_nodes]."""
    if num_nodes == 1:
        return np.zeros(1), np.zeros(1)
    angle = 2 * np.pi * np.arange(num_nodes) / num_nodes
    if num_nodes == 2:
        angle -= np.pi / 2
    return np.sin(angle), np.cos(angle)


def _write_label(
    ax: Axes, graph: nx.DiGraph[int], node: int, place: tuple[float, float], diameter: float
) -> Annotation:
    x, y = _outward(place)
    upright = len(graph) <= MAX_UPRIGHT
    # Points from the center of the node; a self-loop lies between the node and its label.
    away = 0.5 * diameter + (7 if upright else 5)
    if graph.has_edge(node, node):
        away += (_Loop.REACH - 1) * _radius(graph, node, diameter) + 6
    style: dict[str, Any] = {
        "ha": "center" if abs(x) < 0.3 else "left" if x > 0 else "right",
        "va": "center" if abs(y) < 0.3 else "bottom" if y > 0 else "top",
        "fontsize": 9.5,
    }
    if not upright:
        angle = math.degrees(math.atan2(y, x))
        flipped = abs(angle) > 90.01
        style = {
            "ha": "right" if flipped else "left",
            "va": "center",
            "rotation": angle + 180 if flipped else angle,
            "rotation_mode": "anchor",
            "fontsize": min(9.0, max(5.0, 270.0 / len(graph))),
        }
    return ax.annotate(
        _short(str(graph.nodes[node]["label"]), upright=upright),
        place,
        xytext=(away * x, away * y),
        textcoords="offset points",
        color=INK,
        linespacing=1.1,
        zorder=5,
        gid=f"label-{node}",
        **style,
    )


def _draw_edge(
    ax: Axes,
    graph: nx.DiGraph[int],
    source: int,
    target: int,
    weight: float,
    place: dict[int, tuple[float, float]],
    diameter: float,
    heaviest: float,
) -> Annotation | None:
    width = THINNEST + (THICKEST - THINNEST) * (weight - 1) / (heaviest - 1)
    start, stop = place[source], place[target]
    loop = _Loop(*_outward(start)) if source == target else None
    bend = _bend(graph.nodes[source]["order"], graph.nodes[target]["order"], len(graph))
    style: Any = loop or f"arc3,rad={bend}"
    ax.add_patch(
        FancyArrowPatch(
            start,
            stop,
            arrowstyle="-|>",
            connectionstyle=style,
            shrinkA=_radius(graph, source, diameter),
            shrinkB=_radius(graph, target, diameter) + 1,
            mutation_scale=8 + 2 * width,
            linewidth=width,
            color=GRAY,
            zorder=2,
            clip_on=False,
            gid=f"edge-{source}-{target}",
        )
    )
    if weight <= 1 and graph.number_of_edges() > MAX_WEIGHTS_SHOWN:
        return None
    upright = len(graph) <= MAX_UPRIGHT
    middle, offset = start, (0.0, 0.0)
    if loop is None:
        dx, dy = stop[0] - start[0], stop[1] - start[1]
        middle = (start[0] + dx / 2 + bend * dy / 2, start[1] + dy / 2 - bend * dx / 2)
    else:
        offset = loop.top(_radius(graph, source, diameter))
    return ax.annotate(
        f"{weight:g}",
        middle,
        xytext=offset,
        textcoords="offset points",
        ha="center",
        va="center",
        fontsize=8.5 if upright else 7,
        color=INK,
        bbox={
            "boxstyle": f"round,pad={0.15 if upright else 0.02}",
            "facecolor": "white",
            "edgecolor": "none",
        },
        zorder=2.5,
        gid=f"weight-{source}-{target}",
    )


def _bend(source: int, target: int, num_nodes: int) -> float:
    """How far an edge bends, as matplotlib's arc3 counts: to its right if positive.

    A step to the next node follows the circle outside. All else stays inside, where no node lies,
    forward edges less bent than backward ones, so that a->b and b->a part.
    """
    step = (target - source) % num_nodes
    if step in (1, num_nodes - 1):
        return -0.2
    return 0.12 if step <= num_nodes / 2 else -0.3


def _radius(graph: nx.DiGraph[int], node: int, diameter: float) -> float:
    """Points from the center of a node to where its edges end."""
    return 0.5 * diameter + (3.6 if graph.nodes[node]["last"] else 0.6)


def _fit(ax: Axes, texts: Sequence[Annotation], around: float) -> None:
    """Sets the limits so that nodes lie as far apart as the axes allow with all texts inside.

    A text has the same size on any picture, so that limits in data units alone cannot make room for
    it. With s pixels per unit, a text at anchor p reaches from s p + low to s p + high, and every
    pair of texts bounds s.
    """
    pixels = np.array([ax.bbox.width, ax.bbox.height])
    anchor = np.array([text.xy for text in texts])  # [texts, 2]
    origin = ax.transData.transform(anchor)
    boxes = [text.get_window_extent() for text in texts]
    margin = 0.5 * around * ax.figure.dpi / 72  # room for the node itself
    low = np.minimum(np.array([box.min for box in boxes]) - origin, -margin)
    high = np.maximum(np.array([box.max for box in boxes]) - origin, margin)
    apart = anchor[:, None] - anchor[None]  # [texts, texts, 2]
    room = pixels - (high[:, None] - low[None])
    bounds = room[apart > 1e-9] / apart[apart > 1e-9]
    scale = max(min(float(bounds.min(initial=math.inf)), float(pixels.min()) / 2), 1.0)
    middle = ((scale * anchor + low).min(0) + (scale * anchor + high).max(0)) / 2
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_xlim((middle[0] - pixels[0] / 2) / scale, (middle[0] + pixels[0] / 2) / scale)
    ax.set_ylim((middle[1] - pixels[1] / 2) / scale, (middle[1] + pixels[1] / 2) / scale)


@dataclass(frozen=True)
class _Loop:
    """The way of an edge from a node to itself: a drop that points away from the middle.

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


def _outward(place: tuple[float, float]) -> tuple[float, float]:
    """The direction away from the middle; up, in the middle itself."""
    length = math.hypot(*place)
    return (place[0] / length, place[1] / length) if length > 1e-6 else (0.0, 1.0)


def _short(label: str, *, upright: bool) -> str:
    if upright:
        return "\n".join(textwrap.wrap(label, 20, max_lines=3, placeholder=" …")) or label
    return textwrap.shorten(label, 34, placeholder=" …")


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")
