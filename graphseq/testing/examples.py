"""The data of the checks: a small training log, and sessions to score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch_geometric.data import Batch

from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary

NUM_ITEMS = 12
NUM_USERS = 3
SESSION_CLICKS = 3
"""Clicks of each session of a history, for models that read the history of a user."""

TRAIN = ([0, 3, 5, 3], [5, 3], [7], [1, 1, 1, 2], [11, 0, 3], [4, 8, 9, 10, 6, 0], [2, 2, 5])
"""The training sessions; every item is clicked."""

QUERIES = (
    [3, 5, 3, 0],
    [7],  # one click
    [2, 2, 2],  # one item, repeated
    [0, 3],
    [10, 9, 4, 9, 10, 1, 6, 8, 0, 3, 5, 5],
)
"""The sessions that a model scores."""

ITEM_FEATURES = pd.DataFrame(
    {
        "kind": np.arange(NUM_ITEMS) % 4 - 1,  # -1: unknown
        "price": np.append(np.arange(NUM_ITEMS - 1), np.nan),
        "tags": ["a|b", "b", "", "a|b|c"] * 3,
    }
)


def training_sessions(order: Sequence[int] | None = None) -> Sessions:
    """The training sessions, with features of items.

    Args:
        order: Item ``i`` has the code ``order.index(i)``; ``None``: its own number.
    """
    return sessions_of(TRAIN, order)


def sessions_of(lists: Sequence[Sequence[int]], order: Sequence[int] | None = None) -> Sessions:
    """Sessions with these ids and item features; ``order`` as in :func:`training_sessions`."""
    ids = np.arange(NUM_ITEMS) if order is None else np.array(order)
    sessions = Sessions.from_lists([list(each) for each in lists], vocabulary=Vocabulary(ids))
    return replace(sessions, item_features=ITEM_FEATURES.take(ids).reset_index(drop=True))


def with_times(sessions: Sessions) -> Sessions:
    """The sessions with a time of each click, 50 seconds after the one before it."""
    return replace(sessions, time=50.0 * np.arange(sessions.num_clicks, dtype=np.float64))


def graphs_of(lists: Sequence[Sequence[int]], users: Sequence[int] | None = None) -> Batch:
    """The session graphs of these codes, with times and users, as histories of sessions.

    Args:
        lists: Codes of items.
        users: User of each session; ``None``: given by its length, so that a session has the same
            user in any batch.
    """
    lengths = [len(each) for each in lists]
    place = [place for n in lengths for place in range(n)]
    return build_session_graphs(
        torch.tensor([item for each in lists for item in each], dtype=torch.long),
        torch.tensor([0, *lengths]).cumsum(0),
        click_fields={
            "click_session": torch.tensor(place, dtype=torch.long) // SESSION_CLICKS,
            "click_time": 1e9 + 50 * torch.tensor(place, dtype=torch.float64) ** 2,
        },
        session_fields={
            "user": torch.tensor(
                [n % (NUM_USERS + 1) - 1 for n in lengths] if users is None else users,
                dtype=torch.long,
            )
        },
    )
