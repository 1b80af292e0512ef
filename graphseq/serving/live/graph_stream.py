"""The growing graph of a live session: a click adds a node or an edge, and nothing is sorted."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Self

import numpy as np
import torch
from torch_geometric.data import Batch

from graphseq.data.graphs.session_graph import SHIFTED, batch_of, build_session_graphs
from graphseq.models.base import SessionModel
from graphseq.models.use.inference import inference
from graphseq.ragged import ptr_of
from graphseq.serving.item_vectors import Codes, Floats


@dataclass
class GrowingGraph:
    """The graph of one session.

    A click costs a few look-ups of Python. Requests bring one click to each of a few sessions:
    arrays would cost more to make than they save.

    Args:
        nodes: Item -> number of its node, in the order of first visit.
        clicks: The node of each click.
        edges: From which node to which -> how often, in the order of first transition.
    """

    nodes: dict[int, int] = field(default_factory=dict)
    clicks: list[int] = field(default_factory=list)
    edges: dict[tuple[int, int], int] = field(default_factory=dict)

    @classmethod
    def of_state(cls, state: bytes | None) -> Self:
        """Of what :meth:`state` gave; ``None``: a session without a click."""
        if state is None:
            return cls()
        values = memoryview(state).cast("i").tolist()
        last_node = 3 + values[0]
        last_click = last_node + values[1]
        edges = values[last_click:]
        return cls(
            dict(zip(values[3:last_node], range(values[0]), strict=True)),
            values[last_node:last_click],
            dict(zip(zip(edges[::3], edges[1::3], strict=True), edges[2::3], strict=True)),
        )

    def state(self) -> bytes:
        """The graph as bytes: 12, 4 per node, 4 per click and 12 per edge."""
        values = array("i", (len(self.nodes), len(self.clicks), len(self.edges)))
        values.extend(self.nodes)
        values.extend(self.clicks)
        for edge, count in self.edges.items():
            values.extend((*edge, count))
        return values.tobytes()

    def click(self, item: int) -> None:
        """Adds a click on an item."""
        node = self.nodes.setdefault(item, len(self.nodes))
        if self.clicks:
            edge = self.clicks[-1], node
            self.edges[edge] = self.edges.get(edge, 0) + 1
        self.clicks.append(node)


def batch_of_graphs(graphs: Sequence[GrowingGraph]) -> Batch:
    """Graphs as models read them, each with a click."""
    node_ptr = ptr_of([len(graph.nodes) for graph in graphs])
    click_ptr = ptr_of([len(graph.clicks) for graph in graphs])
    edge_ptr = ptr_of([len(graph.edges) for graph in graphs])
    first, num_nodes = node_ptr[:-1], np.diff(node_ptr)
    ends = chain.from_iterable(chain.from_iterable(graph.edges for graph in graphs))
    counts = chain.from_iterable(graph.edges.values() for graph in graphs)
    edges = np.fromiter(ends, np.int64, 2 * edge_ptr[-1]).reshape(-1, 2)
    clicks = np.fromiter(chain.from_iterable(graph.clicks for graph in graphs), np.int64)
    fields = {
        "x": np.fromiter(chain.from_iterable(graph.nodes for graph in graphs), np.int64),
        "edge_index": (edges + np.repeat(first, np.diff(edge_ptr))[:, None]).T.copy(),
        "edge_weight": np.fromiter(counts, np.float32),
        "click_index": clicks + np.repeat(first, np.diff(click_ptr)),
        "batch": np.repeat(np.arange(len(graphs)), num_nodes),
        "ptr": node_ptr,
    }
    slices = {
        "x": node_ptr,
        "edge_index": edge_ptr,
        "edge_weight": edge_ptr,
        "click_index": click_ptr,
    }
    shifts = {name: first if name in SHIFTED else np.zeros_like(first) for name in slices}
    return batch_of(
        {name: torch.from_numpy(values) for name, values in fields.items()},
        {name: torch.from_numpy(values) for name, values in slices.items()},
        {name: torch.from_numpy(values) for name, values in shifts.items()},
        len(graphs),
    )


@dataclass(frozen=True)
class GraphStream:
    """The growing graph of a session, of families that read nothing else.

    A graph is kept as long as it holds all clicks that are kept, and no more than the model sees;
    of a longer session the clicks are read again.

    Args:
        model: A model that reads nodes, edges and clicks.
    """

    model: SessionModel

    def advance(
        self, states: Sequence[bytes | None], clicks: Sequence[Codes], whole: Sequence[Codes]
    ) -> tuple[Floats, list[bytes | None]]:
        """See :meth:`graphseq.serving.live.streams.Stream.advance`."""
        most = self.model.max_length
        graphs: dict[int, GrowingGraph] = {}
        long: list[int] = []
        for session, (state, new, kept) in enumerate(zip(states, clicks, whole, strict=True)):
            if most is not None and len(kept) > most:
                long.append(session)
            elif len(kept):
                # What a graph lacks is at the end of the clicks that are kept; else it is made
                # again.
                graph = GrowingGraph.of_state(state)
                if len(graph.clicks) + len(new) != len(kept):
                    graph, new = GrowingGraph(), kept
                for item in new.tolist():
                    graph.click(item)
                graphs[session] = graph
        vectors = np.zeros((len(states), self.model.items.channels), dtype=np.float32)
        with inference(self.model):
            if graphs:
                vectors[list(graphs)] = self.model(batch_of_graphs(list(graphs.values()))).numpy()
            if long:
                ptr = ptr_of([len(whole[session]) for session in long])
                known = torch.from_numpy(np.concatenate([whole[session] for session in long]))
                batch = build_session_graphs(known, torch.from_numpy(ptr))
                vectors[long] = self.model(batch).numpy()
        return vectors, [
            graphs[session].state() if session in graphs else None for session in range(len(states))
        ]
