"""What models look at in one session: attention as heat maps or on the graph, gates, filters."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from graphseq.models import SessionModel
from graphseq.models.recommender import SessionsLike
from graphseq.models.sequence.caser import Caser
from graphseq.models.use.attention import Attention, attention_of, gates_of
from graphseq.models.use.recommend import item_vocabulary
from graphseq.visualization.figures import (
    BLUE,
    GRAY,
    INK,
    ORANGE,
    VERMILION,
    new_figure,
    numbers_of,
    save_figure,
)
from graphseq.visualization.session_graphs import Labels, LabelsOrIds, draw_session_graph, label_of

SHADES = LinearSegmentedColormap.from_list("white to blue", ["#FFFFFF", "#9ECAE8", BLUE, "#06304D"])
SIGNED = LinearSegmentedColormap.from_list("vermilion to blue", [VERMILION, "#FFFFFF", BLUE])

MOST_NUMBERS = 12
"""Places of a session; with more, no number is written into the cells of a heat map."""

MOST_PLACES = 60
"""Newest places of a session that a heat map shows."""


def draw_attention(
    model: SessionModel,
    session: SessionsLike,
    *,
    item: Any = None,
    layer: int | None = None,
    head: int | None = None,
    labels: Labels | None = None,
    ax: Axes | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Axes:
    """Draws what a model looks at in a session.

    Layers of attention are heat maps: a row is the place that looks, a column the place that it
    looks at, and what a causal model cannot see stays white. Graph models weigh clicks: their
    weights are drawn on the session graph.

    Args:
        model: Of a family with attention.
        session: A list of item ids, or whatever ``recommend`` takes, of one session.
        item: The candidate that ``bst_ranker`` puts at the end; ``None``: its best one.
        layer: From 0, the lowest; ``None``: the highest.
        head: From 0; ``None``: the mean of all heads.
        labels: Label of each item code, such as titles; ``None``: the ids of the items.
        ax: Where to draw; ``None``: on a new figure, ``ax.figure``.
        path: File to write the figure to.

    Raises:
        ValueError: If the model has no attention, no such layer or head, it is not one known
            session, or ``path`` cannot be written.
    """
    found = attention_of(model, session, item=item)
    labels = LabelsOrIds(labels, item_vocabulary(model).ids)
    if not found.layers:
        weights = np.empty(0) if found.clicks is None else found.clicks
        ax = draw_session_graph(
            found.batch.get_example(0), labels=labels, click_weights=weights.tolist(), ax=ax
        )
        ax.set_title(f"{found.family}: weight of each click in the session vector", fontsize=11)
    else:
        layer = len(found.layers) - 1 if layer is None else layer
        _check_place("layer", layer, len(found.layers))
        weights = found.layers[layer]
        if head is not None:
            _check_place("head", head, len(weights))
        size = len(found.places)
        if ax is None:
            side = min(3.4 + 0.34 * size, 14.0)
            ax = new_figure(side + 1.0, side, constrained=True).subplots()
        _draw_heat(ax, found, weights.mean(0) if head is None else weights[head], labels)
        which = "mean of all heads" if head is None and len(weights) > 1 else f"head {head or 0}"
        ax.set_title(f"{found.family}, layer {layer}, {which}", fontsize=11, color=INK)
        ax.set_xlabel("is looked at", fontsize=9.5, color=GRAY)
        ax.set_ylabel("looks", fontsize=9.5, color=GRAY)
        bar = ax.figure.colorbar(ax.images[-1], ax=ax, shrink=0.7, pad=0.02)
        bar.set_label("weight, a row sums to 1" if found.family != "HSTU" else "weight", color=GRAY)
    if path is not None:
        save_figure(ax.figure.get_figure(root=True), path)
    return ax


def draw_attention_heads(
    model: SessionModel,
    session: SessionsLike,
    *,
    item: Any = None,
    labels: Labels | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draws the heat maps of all layers, a row each, and all heads, a column each.

    Args:
        model, session, item, labels, path: As in :func:`draw_attention`.

    Raises:
        ValueError: As :func:`draw_attention`, or if the model weighs clicks in no layer of its own.
    """
    found = attention_of(model, session, item=item)
    if not found.layers:
        raise ValueError(
            f"{found.family} weighs clicks alone, without layers and heads: use draw_attention."
        )
    labels = LabelsOrIds(labels, item_vocabulary(model).ids)
    rows, columns = len(found.layers), max(map(len, found.layers))
    cell = min(1.4 + 0.22 * len(found.places), 5.0)
    figure = new_figure(1.6 + cell * columns, 1.5 + cell * rows, constrained=True)
    axes = figure.subplots(rows, columns, squeeze=False)
    highest = max(float(np.abs(layer).max()) for layer in found.layers)
    signed = any(layer.min() < 0 for layer in found.layers)
    for number, layer in enumerate(found.layers):
        for head in range(columns):
            ax = axes[number, head]
            if head >= len(layer):
                ax.set_axis_off()
                continue
            outer = (number == rows - 1, head == 0)
            _draw_heat(ax, found, layer[head], labels, highest, outer=outer, signed=signed)
            ax.set_title(f"layer {number}, head {head}", fontsize=9.5, color=INK)
    bar = figure.colorbar(axes[0, 0].images[0], ax=axes, shrink=0.6)
    bar.set_label("weight", color=GRAY)
    figure.suptitle(f"{found.family}: who looks at whom", fontsize=12, color=INK)
    if path is not None:
        save_figure(figure, path)
    return figure


def draw_gates(
    model: SessionModel,
    session: SessionsLike,
    *,
    labels: Labels | None = None,
    ax: Axes | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Axes:
    """Draws the gates of GRU4Rec over the clicks of a session, of its highest layer.

    A line is the mean over all units, its band reaches from the 10th to the 90th percentile.

    Args:
        model: Of the family ``gru4rec``.
        session, labels, ax, path: As in :func:`draw_attention`.

    Raises:
        ValueError: If the model is of another family, it is not one known session, or ``path``
            cannot be written.
    """
    gates = gates_of(model, session)
    labels = LabelsOrIds(labels, item_vocabulary(model).ids)
    place = np.arange(len(gates.items))
    if ax is None:
        ax = new_figure(min(3.5 + 0.45 * len(place), 15.0), 4.2, constrained=True).subplots()
    told = (
        ("update: share of the old state that is kept", gates.update[-1], BLUE, "o", "-"),
        ("reset: share of it that new content reads", gates.reset[-1], ORANGE, "s", "--"),
    )
    for name, values, color, marker, line in told:
        low, high = np.nanpercentile(values, [10, 90], axis=1)
        ax.fill_between(place, low, high, color=color, alpha=0.18, linewidth=0)
        ax.plot(place, np.nanmean(values, axis=1), line, marker=marker, color=color, label=name)
    ax.set_xticks(place, _short(gates.items, labels, 18), rotation=40, ha="right", fontsize=8.5)
    ax.set_ylim(0, 1)
    ax.set_ylabel("gate, mean and 10-90 % of units", fontsize=9.5, color=GRAY)
    ax.set_xlabel("clicks, oldest first", fontsize=9.5, color=GRAY)
    ax.set_title(f"{type(model).__name__}: gates over time", fontsize=11, color=INK)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1.06), ncols=1)
    if path is not None:
        save_figure(ax.figure.get_figure(root=True), path)
    return ax


def draw_filters(model: SessionModel, *, path: str | os.PathLike[str] | None = None) -> Figure:
    """Draws the filters of Caser: vertical ones as they are, horizontal ones by their strength.

    Args:
        model: Of the family ``caser``.
        path: File to write the figure to.

    Raises:
        ValueError: If the model is of another family, or ``path`` cannot be written.
    """
    if not isinstance(model, Caser):
        raise ValueError(f"{type(model).__name__} has no filters over clicks; caser has.")
    panels = []
    if model.vertical is not None:
        weight = model.vertical.weight.detach().cpu().numpy()  # [num_filters, L]
        panels.append(("vertical filters: weight of a click", weight, True))
    if model.horizontal is not None:
        length, rows = model.max_length, []
        for filters in model.horizontal.weights:
            strength = filters.detach().norm(dim=2).mean(0).cpu().numpy()  # [height]
            rows.append(np.concatenate([np.full(length - len(strength), np.nan), strength]))
        panels.append(("horizontal filters: mean length of a row", np.stack(rows), False))
    figure = new_figure(1.5 + 4.6 * len(panels), 4.4, constrained=True)
    for number, (title, values, signed) in enumerate(panels, 1):
        ax = figure.add_subplot(1, len(panels), number)
        reach = float(np.nanmax(np.abs(values))) or 1.0
        image = ax.imshow(
            np.ma.masked_invalid(values),
            cmap=SIGNED if signed else SHADES,
            vmin=-reach if signed else 0,
            vmax=reach,
            aspect="auto",
        )
        _keep_few(ax, "x", [str(-back) for back in reversed(range(values.shape[1]))])
        names = [f"{n}" for n in range(len(values))]
        if not signed and model.horizontal is not None:
            names = [str(height) for height in model.horizontal.heights]
        _keep_few(ax, "y", names)
        ax.set_ylabel("filter" if signed else "height, clicks", fontsize=9.5, color=GRAY)
        ax.set_xlabel("clicks before the newest one", fontsize=9.5, color=GRAY)
        ax.set_title(title, fontsize=10.5, color=INK)
        figure.colorbar(image, ax=ax, shrink=0.8)
    figure.suptitle("Caser: what its filters look at", fontsize=12, color=INK)
    if path is not None:
        save_figure(figure, path)
    return figure


def _check_place(what: str, place: int, size: int) -> None:
    if not isinstance(place, (int, np.integer)) or not 0 <= place < size:
        raise ValueError(f"{what} is one of 0..{size - 1} of this model, got {place!r}.")


def _draw_heat(
    ax: Axes,
    found: Attention,
    weights: NDArray[np.float32],
    labels: Labels,
    highest: float | None = None,
    *,
    outer: tuple[bool, bool] = (True, True),
    signed: bool = False,
) -> None:
    """One heat map; ``outer``: whether names stand below it, and left of it."""
    size = len(found.places)
    names = _short(found.places, labels, 22)
    if size > MOST_PLACES:
        weights, names = weights[-MOST_PLACES:, -MOST_PLACES:], names[-MOST_PLACES:]
        ax.text(0, 1.005, f"newest {MOST_PLACES} of {size} places", transform=ax.transAxes, size=8)
    rows = names[len(names) - len(weights) :]
    top = float(np.abs(weights).max()) if highest is None else highest
    signed = signed or bool(weights.min() < 0)  # without a softmax
    shown = np.ma.masked_equal(weights, 0.0)
    # All heat maps are as high as wide; one with a single row stays a strip.
    shades: dict[str, Any] = {"cmap": SHADES, "vmin": 0.0}
    if signed:
        shades = {"cmap": SIGNED, "vmin": -(top or 1.0)}
    ax.imshow(shown, vmax=top or 1.0, aspect="equal", **shades)
    _keep_few(ax, "x", names if outer[0] else [""] * len(names), rotation=50, ha="right")
    _keep_few(ax, "y", rows if outer[1] else [""] * len(rows))
    ax.tick_params(labelsize=8, colors=INK, length=0)
    ax.spines[:].set_color("#C8D0D8")
    if size > MOST_NUMBERS:
        return
    texts = numbers_of(weights.ravel().tolist())
    for ((row, column), weight), text in zip(np.ndenumerate(weights), texts, strict=True):
        if weight:
            color = "white" if abs(weight) > 0.45 * top else INK
            ax.text(column, row, text, ha="center", va="center", fontsize=7, color=color)


def _keep_few(ax: Axes, axis: str, names: Sequence[str], **style: Any) -> None:
    """Names on an axis, every one of a short one and every second or third of a long one."""
    step = 1 + len(names) // 40
    places = range(0, len(names), step)
    set_ticks = ax.set_xticks if axis == "x" else ax.set_yticks
    set_ticks(list(places), [names[place] for place in places], **style)


def _short(items: NDArray[np.int64], labels: Labels, letters: int) -> list[str]:
    """Names of places: labels of items, or what stands there instead."""
    special = {-1: "(masked)", -2: "(candidate)"}
    names = [special.get(i) or str(label_of(labels, i)) for i in items.tolist()]
    return [textwrap.shorten(n, letters, placeholder=" …") or n[:letters] for n in names]
