"""Planted patterns that several families have to find."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from graphseq.data.sessions.generate import generate_sessions
from graphseq.data.sessions.sessions import Sessions
from graphseq.evaluation import evaluate
from graphseq.models import SessionModel


@dataclass(frozen=True)
class Loops:
    """Sessions that come back to a hub of their own after every return item."""

    train: Sessions
    test: Sessions

    def found(self, model: SessionModel) -> float:
        """How often the best item after a return item is the next click."""
        ranks = evaluate(model, self.test).ranks
        before = self.test.items[self.test.ptr[ranks["session"]] + ranks["position"] - 1]
        assert self.test.item_features is not None
        role = self.test.item_features["role"].to_numpy()
        return float((ranks["better"][role[before] == "return"] == 0).mean())


@pytest.fixture(scope="session")
def loops() -> Loops:
    """200 sessions to train on and 50 to test, over 30 items."""
    sessions = generate_sessions(
        250, 30, pattern=0.0, loops=1.0, mean_length=14.0, num_categories=4, seed=4
    )
    return Loops(sessions.select(np.arange(200)), sessions.select(np.arange(200, 250)))
