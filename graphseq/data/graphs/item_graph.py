"""Graphs of all items: transitions between items, and items that occur near each other."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch_geometric.data import Data

from graphseq.arguments import whole
from graphseq.data.sessions.sessions import Sessions, only_sessions


def nearest_items(
    sessions: Sessions, steps: int, num_neighbors: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The items that occur most often within a few clicks of each item, before or after it.

    Every pair of clicks of one session at most ``steps`` apart counts once for each of both items;
    an item is not its own neighbor. Unknown clicks are skipped. With equal counts the smaller code
    comes first.

    Args:
        sessions: Training sessions.
        steps: Maximum distance of two clicks.
        num_neighbors: Number of neighbors kept per item, those with the highest counts.

    Returns:
        Neighbors and their counts, [num_items, num_neighbors], highest counts first; missing
        neighbors have the count 0.
    """
    size = sessions.num_items
    counts = near_counts(sessions, steps)
    row = np.repeat(np.arange(size), np.diff(counts.indptr))
    order = np.lexsort((counts.indices, -counts.data, row))  # by item, then count, then code
    place = np.arange(len(row)) - counts.indptr[row]  # rows are in order already
    kept = place < num_neighbors
    neighbors = np.zeros((size, num_neighbors), dtype=np.int32)
    weights = np.zeros((size, num_neighbors), dtype=np.float32)
    neighbors[row[kept], place[kept]] = counts.indices[order][kept]
    weights[row[kept], place[kept]] = counts.data[order][kept]
    return neighbors, weights


def near_counts(sessions: Sessions, steps: int) -> csr_matrix:
    """How often each pair of items occurs within a few clicks, symmetric, [num_items, num_items].

    Args:
        sessions: Any sessions; unknown clicks are skipped.
        steps: Maximum distance of two clicks.
    """
    items, session = np.asarray(sessions.items), sessions.session_index
    known = items >= 0
    if not known.all():
        items, session = items[known], session[known]
    size = sessions.num_items
    counts = _pairs(items, session, 1, size)
    for step in range(2, steps + 1):
        counts = counts + _pairs(items, session, step, size)
    counts = csr_matrix(counts + counts.T)
    counts.sum_duplicates()
    return counts


def _pairs(
    items: NDArray[np.integer], session: NDArray[np.integer], step: int, size: int
) -> csr_matrix:
    """How often an item comes that many clicks before another one, [size, size]."""
    left, right = items[:-step], items[step:]
    near = (session[:-step] == session[step:]) & (left != right)
    ones = np.ones(int(near.sum()), dtype=np.int64)
    return csr_matrix((ones, (left[near], right[near])), shape=(size, size))


def transition_graph(sessions: Sessions, *, min_count: int = 1) -> Data:
    """The graph of all items and of all transitions of the sessions, for PyG's samplers and models.

    Args:
        sessions: Any sessions; unknown clicks are skipped, and the clicks around one form no
            transition.
        min_count: Transitions that occur less often are left out.

    Returns:
        A PyG ``Data``: ``x`` [num_items] the item codes, ``clicks`` [num_items] their numbers of
        clicks, ``edge_index`` [2, num_edges] each transition once, sorted by source and target,
        with repeats as loops, and ``edge_weight`` float32 [num_edges] their counts.

    Raises:
        ValueError: If ``min_count`` is not positive, or these are no sessions.

    Example:
        >>> import graphseq as gs
        >>> graph = gs.data.transition_graph(gs.Sessions.from_lists([["a", "b", "a", "b"]]))
        >>> graph.edge_index.tolist(), graph.edge_weight.tolist()
        ([[0, 1], [1, 0]], [2.0, 1.0])
    """
    only_sessions("sessions", sessions)
    min_count = whole("min_count", min_count)
    items, session, size = np.asarray(sessions.items), sessions.session_index, sessions.num_items
    source, target = items[:-1].astype(np.int64), items[1:].astype(np.int64)
    made = (session[:-1] == session[1:]) & (source >= 0) & (target >= 0)
    key, counts = np.unique(source[made] * size + target[made], return_counts=True)
    kept = counts >= min_count
    edges = np.stack([key[kept] // size, key[kept] % size]) if size else np.zeros((2, 0), np.int64)
    return Data(
        x=torch.arange(size),
        clicks=torch.from_numpy(np.bincount(items[items >= 0], minlength=size)),
        edge_index=torch.from_numpy(edges),
        edge_weight=torch.from_numpy(counts[kept].astype(np.float32)),
    )
