"""The graph of all items: which items occur near which in the training sessions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from graphseq.data.sessions.sessions import Sessions


def nearest_items(
    sessions: Sessions, steps: int, num_neighbors: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The items that occur most often within a few clicks of each item, before or after it.

    Every pair of clicks of one session that lie at most ``steps`` apart counts once for either
    item; an item is not its own neighbor. Unknown clicks are skipped. Of equal counts the smaller
    code comes first.

    Args:
        sessions: Training sessions.
        steps: Largest distance of two clicks.
        num_neighbors: Neighbors kept per item: the ones with the highest counts.

    Returns:
        Neighbors and their counts, [num_items, num_neighbors], highest counts first; where an item
        has fewer, the count is 0.
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
        steps: Largest distance of two clicks.
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
