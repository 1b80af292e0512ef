"""The growing graph of a live session: a click adds a node or an edge, and nothing is sorted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch_geometric.data import Batch

from graphseq.data.graphs.session_graph import SHIFTED, batch_of, build_session_graphs
from graphseq.models.base import SessionModel
from graphseq.models.use.inference import inference
from graphseq.ragged import ptr_of, ragged_arange
from graphseq.serving.item_vectors import Codes, Floats


@dataclass
class GrowingGraphs:
    """The graphs of several sessions, side by side, each with numbers of its own.

    Args:
        nodes: The item of each node, int64 [num_nodes].
        clicks: The node of each click, int64 [num_clicks].
        edges: From which node to which, and how often, int64 [num_edges, 3].
        node_session, click_session, edge_session: The session of each, in ascending order.
        num_sessions: Sessions; one may have no click.
    """

    nodes: Codes
    clicks: Codes
    edges: Codes
    node_session: Codes
    click_session: Codes
    edge_session: Codes
    num_sessions: int

    @classmethod
    def of_states(cls, states: Sequence[bytes | None]) -> Self:
        """Of what :meth:`states` gave; ``None``: a session without a click."""
        read = [np.frombuffer(state or bytes(12), dtype=np.int32) for state in states]
        sizes = np.array([row[:3] for row in read], dtype=np.int64).reshape(-1, 3)
        flat = np.concatenate([np.empty(0, np.int32), *read]).astype(np.int64)
        starts = np.cumsum([0, *(len(row) for row in read)])[:-1] + 3
        number = np.arange(len(states))
        edges = flat[ragged_arange(starts + sizes[:, 0] + sizes[:, 1], 3 * sizes[:, 2])]
        return cls(
            flat[ragged_arange(starts, sizes[:, 0])],
            flat[ragged_arange(starts + sizes[:, 0], sizes[:, 1])],
            edges.reshape(-1, 3),
            np.repeat(number, sizes[:, 0]),
            np.repeat(number, sizes[:, 1]),
            np.repeat(number, sizes[:, 2]),
            len(states),
        )

    def states(self) -> list[bytes]:
        """Each graph as bytes: 12, 4 per node, 4 per click and 12 per edge."""
        ends = [
            np.searchsorted(session, np.arange(self.num_sessions + 1))
            for session in (self.node_session, self.click_session, self.edge_session)
        ]
        sizes = np.stack([np.diff(end) for end in ends], axis=1)
        return [
            np.concatenate(
                [
                    sizes[n],
                    self.nodes[ends[0][n] : ends[0][n + 1]],
                    self.clicks[ends[1][n] : ends[1][n + 1]],
                    self.edges[ends[2][n] : ends[2][n + 1]].ravel(),
                ]
            )
            .astype(np.int32)
            .tobytes()
            for n in range(self.num_sessions)
        ]

    def with_clicks(self, items: Codes) -> GrowingGraphs:
        """The graphs after one more click per session.

        Args:
            items: int64 [num_sessions]; -1: no click.
        """
        session = np.flatnonzero(items >= 0)
        counts = np.bincount(self.node_session, minlength=self.num_sessions)
        starts = np.cumsum(counts) - counts
        known = np.flatnonzero(self.nodes == items[self.node_session])  # one per session at most
        node = counts.copy()  # a new one has the next number
        node[self.node_session[known]] = known - starts[self.node_session[known]]
        new = session[node[session] == counts[session]]

        # A session that has a click moves from its last one to this one.
        place = np.searchsorted(self.click_session, session, side="right")
        moves = counts[session] > 0
        mover = session[moves]
        pair = np.full((self.num_sessions, 2), -1, dtype=np.int64)
        pair[mover] = np.stack([self.clicks[place[moves] - 1], node[mover]], axis=1)
        again = (self.edges[:, :2] == pair[self.edge_session]).all(1)
        edges = self.edges.copy()
        edges[again, 2] += 1
        made = np.setdiff1d(mover, self.edge_session[again], assume_unique=True)
        added = np.concatenate([pair[made], np.ones((len(made), 1), np.int64)], axis=1)

        node_at = np.searchsorted(self.node_session, new, side="right")
        edge_at = np.searchsorted(self.edge_session, made, side="right")
        return GrowingGraphs(
            np.insert(self.nodes, node_at, items[new]),
            np.insert(self.clicks, place, node[session]),
            np.insert(edges, edge_at, added, axis=0),
            np.insert(self.node_session, node_at, new),
            np.insert(self.click_session, place, session),
            np.insert(self.edge_session, edge_at, made),
            self.num_sessions,
        )

    def batch(self) -> Batch:
        """The graphs as models read them, those of sessions that have a click."""
        counts = [
            np.bincount(session, minlength=self.num_sessions)
            for session in (self.node_session, self.click_session, self.edge_session)
        ]
        kept = counts[0] > 0
        number = np.cumsum(kept) - 1
        node_ptr, click_ptr, edge_ptr = (ptr_of(count[kept]) for count in counts)
        first_node = node_ptr[:-1]
        shift = first_node[number[self.edge_session]]
        fields = {
            "x": self.nodes,
            "edge_index": (self.edges[:, :2] + shift[:, None]).T.copy(),
            "edge_weight": self.edges[:, 2].astype(np.float32),
            "click_index": self.clicks + first_node[number[self.click_session]],
            "batch": number[self.node_session],
            "ptr": node_ptr,
        }
        slices = {
            "x": node_ptr,
            "edge_index": edge_ptr,
            "edge_weight": edge_ptr,
            "click_index": click_ptr,
        }
        shifts = {n: first_node if n in SHIFTED else np.zeros_like(first_node) for n in slices}
        return batch_of(
            {name: torch.from_numpy(values) for name, values in fields.items()},
            {name: torch.from_numpy(values) for name, values in slices.items()},
            {name: torch.from_numpy(values) for name, values in shifts.items()},
            int(kept.sum()),
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
        held = [0 if state is None else int.from_bytes(state[4:8], "little") for state in states]
        # What a graph lacks is at the end of the clicks that are kept; else it is made again.
        fits = [
            count + len(new) == len(kept) and (most is None or len(kept) <= most)
            for count, new, kept in zip(held, clicks, whole, strict=True)
        ]
        short = [most is None or len(kept) <= most for kept in whole]
        graphs = GrowingGraphs.of_states(
            [state if fit else None for state, fit in zip(states, fits, strict=True)]
        )
        left = [
            (new if fit else kept) if grows else kept[:0]
            for new, kept, fit, grows in zip(clicks, whole, fits, short, strict=True)
        ]
        step = np.full((max(map(len, left), default=0), len(left)), -1, dtype=np.int64)
        for session, each in enumerate(left):
            step[: len(each), session] = each
        for items in step:
            graphs = graphs.with_clicks(items)
        vectors = np.zeros((len(states), self.model.items.channels), dtype=np.float32)
        long = [session for session, grows in enumerate(short) if not grows]
        with inference(self.model):
            if len(graphs.nodes):
                vectors[np.unique(graphs.node_session)] = self.model(graphs.batch()).numpy()
            if long:
                ptr = ptr_of([len(whole[session]) for session in long])
                known = torch.from_numpy(np.concatenate([whole[session] for session in long]))
                batch = build_session_graphs(known, torch.from_numpy(ptr))
                vectors[long] = self.model(batch).numpy()
        return vectors, [
            state if grows and len(kept) else None
            for state, grows, kept in zip(graphs.states(), short, whole, strict=True)
        ]
