"""A model with biases, one without a table, and their sessions with ids of their own."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

import pytest
import torch
from torch_geometric.data import Batch

from graphseq.data.sessions.generate import generate_sessions
from graphseq.data.sessions.sessions import Sessions
from graphseq.models import GRU4Rec, SequentialRules, SessionModel
from graphseq.models.counting.counting import of_items
from graphseq.serving import INDEXES
from graphseq.training import fit

NUM_ITEMS = 640


@dataclass(frozen=True)
class World:
    """Sessions over 640 items named ``i0`` .. ``i639``, and three models that know them."""

    sessions: Sessions
    lists: list[list[str]]
    neural: GRU4Rec
    counting: SessionModel
    only_seen: SessionModel


class OnlySeen(SessionModel):
    """Scores the items of the session, and recommends no others."""

    def score(self, batch: Batch, items: torch.Tensor | None = None) -> torch.Tensor:
        scores = torch.full((batch.num_graphs, self.num_items), -torch.inf)
        scores[batch.batch, batch.x] = 1.0
        return of_items(scores, items)


def gru4rec(seed: int = 0) -> GRU4Rec:
    """Random weights, and biases as strong as they."""
    torch.manual_seed(seed)
    model = GRU4Rec(NUM_ITEMS, 16, embedding="separate").eval()
    torch.nn.init.normal_(model.items.weight)
    torch.nn.init.normal_(model.items.bias)
    return model


@pytest.fixture(scope="session")
def world() -> World:
    numbered = generate_sessions(150, NUM_ITEMS, skew=0.3, seed=3)
    lists = [[f"i{code}" for code in part] for part in numbered.to_lists()]
    every = [f"i{code}" for code in range(NUM_ITEMS)]  # each item is known, in this order
    sessions = Sessions.from_lists([every, *lists])
    neural, counting = gru4rec(), SequentialRules(NUM_ITEMS)
    neural.attach(sessions.catalog())
    fit(counting, sessions)
    only_seen = OnlySeen(NUM_ITEMS)
    only_seen.attach(sessions.catalog())
    return World(sessions, lists, neural, counting, only_seen)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of an index whose library is not installed say which command brings it."""
    for item in items:
        kind = getattr(item, "callspec", None) and item.callspec.params.get("index")
        named = isinstance(kind, str) and kind in INDEXES
        package = INDEXES[kind].package if named else None
        if package and find_spec(package.partition(".")[0]) is None:
            reason = f"{kind} needs {package}: pip install 'graphseq[serving]'"
            item.add_marker(pytest.mark.skip(reason=reason))
