"""Small data of the comparisons: walks around a ring, so that a Markov chain is always right."""

from __future__ import annotations

import pytest

import graphseq as gs


@pytest.fixture(scope="session")
def ring() -> gs.Split:
    """Sessions of 3 to 5 steps around a ring of 9 items, in three parts."""
    lists = [[(s + i) % 9 for i in range(3 + s % 3)] for s in range(60)]
    return gs.session_split(gs.Sessions.from_lists(lists), 0.2, seed=0, validation=0.2)
