"""Item embeddings: in two dimensions, and the nearest neighbors of items as a table."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from torch.nn.functional import normalize

from graphseq.arguments import check_choice, whole
from graphseq.models import SessionModel
from graphseq.models.use.attention import code_of
from graphseq.models.use.inference import inference
from graphseq.models.use.recommend import item_vocabulary
from graphseq.visualization.figures import BLUE, CATEGORIES, GRAY, INK, colors_of, new_figure
from graphseq.visualization.figures import save_figure as save
from graphseq.visualization.session_graphs import Labels, LabelsOrIds, category_of, label_of

Method = Literal["pca", "umap"]


def draw_embeddings(
    model: SessionModel,
    *,
    method: Method = "pca",
    categories: Labels | None = None,
    labels: Labels | None = None,
    named: int = 12,
    max_items: int = 5000,
    ax: Axes | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Axes:
    """Draws the rows of a model's item table in two dimensions, colored by category.

    Args:
        model: With an item table.
        method: ``"pca"``, the two directions of most variance; ``"umap"`` (McInnes et al., 2018),
            where the package ``umap-learn`` is installed.
        categories: Category of each item code.
        labels: Label of each item code; ``None``: the ids.
        named: How many of the most clicked items have their names written.
        max_items: Items drawn: the most clicked ones, and the title says so.
        ax: Where to draw; ``None``: on a new figure, ``ax.figure``.
        path: File to write the figure to.

    Raises:
        ValueError: If the model has no item table, the method is unknown or not installed, or
            ``path`` cannot be written.
    """
    check_choice("method", method, ("pca", "umap"))
    max_items = whole("max_items", max_items)
    rows = rows_of(model)
    clicks = np.zeros(len(rows)) if model.catalog is None else np.asarray(model.catalog.counts)
    order = np.argsort(-clicks, kind="stable")[:max_items]
    kept = rows[order].cpu().numpy()
    if method == "umap":
        points, axes = _umap(kept), ["UMAP 1", "UMAP 2"]
    else:
        points, share = pca(kept)
        axes = [f"component {n} ({100 * s:.0f} % of variance)" for n, s in enumerate(share, 1)]
    if ax is None:
        ax = new_figure(8.5, 6.6, constrained=True).subplots()
    style: dict[str, Any] = {"s": 14, "linewidths": 0, "alpha": 0.75}
    if categories is None:
        ax.scatter(*points.T, color=BLUE, **style)
    else:
        kinds = [category_of(categories, int(item)) for item in order]
        color = colors_of(kinds)
        of_kind = np.array(kinds)
        first = list(color)[: len(CATEGORIES) - 1]
        for kind in first:
            ax.scatter(*points[of_kind == kind].T, color=color[kind], label=kind, **style)
        others = ~np.isin(of_kind, first)
        if others.any():
            label = f"{len(color) - len(first)} others"
            ax.scatter(*points[others].T, color=CATEGORIES[-1], label=label, zorder=0.9, **style)
        ax.legend(fontsize=8.5, frameon=False, bbox_to_anchor=(1.0, 1.0), loc="upper left")
    labels = LabelsOrIds(labels, item_vocabulary(model).ids)
    for item, point in zip(order[:named].tolist(), points, strict=False):
        text = str(label_of(labels, item))[:24]
        ax.annotate(
            text,
            point,
            xytext=(4, 3),
            textcoords="offset points",
            fontsize=8,
            color=INK,
            path_effects=[withStroke(linewidth=2.5, foreground="white", alpha=0.8)],
        )
    ax.set_xlabel(axes[0], fontsize=9.5, color=GRAY)
    ax.set_ylabel(axes[1], fontsize=9.5, color=GRAY)
    ax.set_xticks([])
    ax.set_yticks([])
    what = f"{len(rows):,} items"
    if len(order) < len(rows):
        what = f"the {len(order):,} most clicked of {what}"
    ax.set_title(f"{type(model).__name__}: embeddings of {what}", fontsize=11, color=INK)
    if path is not None:
        save(ax.figure.get_figure(root=True), path)
    return ax


def nearest_items(
    model: SessionModel, items: Any, k: int = 5, *, labels: Labels | None = None
) -> pd.DataFrame:
    """The items whose rows of a model's table point the same way most, by cosine.

    Args:
        model: With an item table.
        items: Ids of the items asked about, or one id.
        k: Neighbors of each; fewer where the catalog has no more.
        labels: Label of each item code; ``None``: the ids.

    Returns:
        One row per item and neighbor, nearest first: ``item``, ``rank`` from 1, ``neighbor`` and
        ``cosine``.

    Raises:
        ValueError: If the model has no item table, an item is unknown, or ``k`` is not positive.
    """
    k = whole("k", k)
    rows = normalize(rows_of(model), dim=1)
    asked = [items] if isinstance(items, (str, bytes)) or np.ndim(items) == 0 else list(items)
    codes = torch.tensor([code_of(model, item) for item in asked], dtype=torch.long)
    cosines = rows[codes] @ rows.t()  # [n, num_items]
    cosines[torch.arange(len(codes)), codes] = -torch.inf
    value, near = cosines.topk(min(k, len(rows) - 1), dim=1)
    names = LabelsOrIds(labels, item_vocabulary(model).ids)
    width = near.size(1)
    return pd.DataFrame(
        {
            "item": np.repeat([label_of(names, code) for code in codes.tolist()], width),
            "rank": np.tile(np.arange(1, width + 1), len(codes)),
            "neighbor": [label_of(names, code) for code in near.flatten().tolist()],
            "cosine": value.flatten().numpy().astype(np.float64),
        }
    )


def rows_of(model: SessionModel) -> torch.Tensor:
    """The rows of a model's item table as scores compare them, [num_items, d], on the CPU.

    Raises:
        ValueError: If the model has none.
    """
    try:
        table = model.items
    except NotImplementedError:
        raise ValueError(
            f"{type(model).__name__} has no item table: its items have no embeddings."
        ) from None
    with inference(model):
        rows = table.rows().float().cpu()
    return rows.detach().clone()


def pca(values: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The two directions of most variance: points [n, 2] and their shares of the variance [2].

    A direction's sign is that of its largest entry, so that the same values give the same picture.
    """
    centered = np.asarray(values, dtype=np.float64)
    centered = centered - centered.mean(0)
    variance, direction = np.linalg.eigh(centered.T @ centered)
    axes = direction[:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
    points = centered @ axes
    if points.shape[1] < 2:
        points = np.pad(points, ((0, 0), (0, 1)))
    share = variance[::-1][:2] / max(variance.sum(), np.finfo(float).tiny)
    return points, np.pad(share, (0, 2 - len(share)))


def _umap(values: NDArray[Any]) -> NDArray[np.float64]:
    try:
        umap: Any = import_module("umap")
    except ImportError:
        raise ValueError(
            "method='umap' needs the package umap-learn, which is not installed: run pip install "
            "umap-learn, or take method='pca'."
        ) from None
    found: NDArray[np.float64] = umap.UMAP(random_state=0, n_jobs=1).fit_transform(values)
    return found
