"""What an explanation says: an effect of every click and transition, as a table and a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch_geometric.data import Data

from graphseq.visualization import draw_session_graph, save_figure
from graphseq.visualization.figures import INK
from graphseq.visualization.session_graphs import Labels, LabelsOrIds

Method = Literal["leave_one_out", "integrated_gradients", "gnn_explainer"]


@dataclass(frozen=True, eq=False)
class Explanation:
    """How much each click and each transition of a session speaks for one item.

    Attributes:
        family: Name of the model's class.
        method: How it was found.
        session: Item ids of the clicks that the model sees, oldest first.
        item: The item that is explained.
        score: Its score.
        rank: Its place among all items, 1 for the best.
        clicks: Effect of each click, float64 [num_clicks]: above zero it speaks for the item.
        transitions: Effect of each step from a click to the next, float64 [num_clicks - 1];
            ``None``: the method tells none.
        unseen: Older clicks that the model does not see.
        graph: The session graph.
        ids: Id of each item code of the model.
    """

    family: str
    method: Method
    session: Sequence[Any]
    item: Any
    score: float
    rank: int
    clicks: NDArray[np.float64]
    transitions: NDArray[np.float64] | None
    unseen: int
    graph: Data = field(repr=False)
    ids: Any = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """One row per click and per transition, in the order of the session.

        Columns are ``kind`` (``"click"`` or ``"transition"``), ``position`` from 0, ``item``,
        ``next_item`` (of a transition), ``effect`` and ``share``, the effect as a share of the sum
        of all sizes of its kind.
        """
        parts = [("click", self.clicks, self.session, None)]
        if self.transitions is not None:
            steps = ("transition", self.transitions, self.session[:-1], self.session[1:])
            parts.append(steps)  # type: ignore[arg-type]
        frames = []
        for kind, effect, items, following in parts:
            whole = np.abs(effect).sum()
            frame = {
                "kind": kind,
                "position": np.arange(len(effect)),
                "item": list(items),
                "next_item": None if following is None else list(following),
                "effect": effect,
                "share": effect / whole if whole > 0 else effect,
            }
            frames.append(pd.DataFrame(frame).astype({"next_item": object}))
        return pd.concat([frame for frame in frames if len(frame)], ignore_index=True)

    def order(self) -> NDArray[np.int64]:
        """Places of the clicks, the one that speaks for the item most first, [num_clicks]."""
        return np.argsort(-self.clicks, kind="stable")

    def draw(
        self,
        *,
        labels: Labels | None = None,
        ax: Axes | None = None,
        path: str | os.PathLike[str] | None = None,
    ) -> Axes:
        """Draws the effects on the session graph, and the item as a ghost that may follow.

        Args:
            labels: Label of each item code; ``None``: the ids.
            ax: Where to draw; ``None``: on a new figure, ``ax.figure``.
            path: File to write the figure to.

        Raises:
            ValueError: If ``labels`` ends before an item or ``path`` cannot be written.
        """
        labels = LabelsOrIds(labels, self.ids)
        name = labels[int(pd.Index(self.ids).get_indexer([self.item])[0])]
        edges = None if self.transitions is None else self._of_edges()
        ax = draw_session_graph(
            self.graph,
            labels=labels,
            candidates=[(f"#{self.rank} {name}", self.score)],
            click_weights=self.clicks.tolist(),
            edge_weights=edges,
            ax=ax,
        )
        method = self.method.replace("_", " ")
        ax.set_title(f"{self.family}: what speaks for {name} ({method})", fontsize=11, color=INK)
        if path is not None:
            save_figure(ax.figure.get_figure(root=True), path)
        return ax

    def _of_edges(self) -> list[float]:
        """The mean effect of the transitions on each edge, [num_edges]."""
        assert self.transitions is not None
        edge = edge_of_transitions(self.graph)
        count = np.bincount(edge, minlength=self.graph.num_edges)
        sums = np.bincount(edge, self.transitions, minlength=self.graph.num_edges)
        means: list[float] = (sums / np.maximum(count, 1)).tolist()
        return means


def edge_of_transitions(graph: Data) -> NDArray[np.int64]:
    """The edge that each step from a click to the next lies on, int64 [num_clicks - 1]."""
    size = int(graph.num_nodes or 1)
    source, target = graph.edge_index.cpu().numpy()
    click = graph.click_index.cpu().numpy()
    key = source * size + target
    order = np.argsort(key)
    made = click[:-1] * size + click[1:]
    found: NDArray[np.int64] = order[np.searchsorted(key[order], made)]
    return found
