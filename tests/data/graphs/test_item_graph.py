"""The graph of all items against a dictionary of pairs."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from graphseq.data.graphs.item_graph import nearest_items
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary


def naive(sessions: list[list[int]], steps: int, size: int) -> list[list[tuple[int, int]]]:
    """Neighbors and counts of each item, highest count and smallest code first."""
    counts: dict[int, Counter[int]] = {item: Counter() for item in range(size)}
    for session in sessions:
        known = [item for item in session if item < size]
        for i, a in enumerate(known):
            for b in known[i + 1 : i + 1 + steps]:
                if a != b:
                    counts[a][b] += 1
                    counts[b][a] += 1
    return [sorted(c.items(), key=lambda pair: (-pair[1], pair[0])) for c in counts.values()]


@given(
    st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=9), min_size=1, max_size=6),
    st.integers(1, 4),
    st.integers(1, 7),
)
def test_nearest_items_equal_a_dictionary_of_pairs(
    lists: list[list[int]], steps: int, num_neighbors: int
) -> None:
    size = 6  # item 6 is unknown
    sessions = Sessions.from_lists(lists, vocabulary=Vocabulary(np.arange(size)))
    neighbors, counts = nearest_items(sessions, steps, num_neighbors)
    assert neighbors.shape == counts.shape == (size, num_neighbors)
    for item, expected in enumerate(naive(lists, steps, size)):
        kept = counts[item] > 0
        pairs = zip(neighbors[item][kept].tolist(), counts[item][kept].tolist(), strict=True)
        assert list(pairs) == expected[:num_neighbors]
