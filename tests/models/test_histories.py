"""Session-based, user-based and hybrid on the same objects: any family reads joined histories."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import graphseq as gs
from graphseq.models import MODELS

SMALL = {
    "srgnn": {"hidden_channels": 8},
    "gru4rec": {"hidden_channels": 8},
    "sasrec": {"hidden_channels": 8},
    "hgru4rec": {"hidden_channels": 8},
    "with_user": {"arguments": {"hidden_channels": 8}},
    "markov": {},
    "sequential_rules": {},
}


def split_of_users():
    """Generated sessions, dealt out to 20 users, cut in time."""
    sessions = gs.generate_sessions(200, 60, mean_length=4, seed=1)
    users = np.random.default_rng(0).integers(0, 20, sessions.num_sessions)
    vocabulary = gs.data.Vocabulary([f"user {user}" for user in range(20)])
    sessions = replace(sessions, users=users.astype(np.int32), user_vocabulary=vocabulary)
    return gs.temporal_split(sessions, test_days=6)


@pytest.mark.parametrize("name", SMALL)
def test_family_trains_and_ranks_the_same_targets_with_and_without_history(name):
    split = split_of_users()
    test = gs.data.with_history(split.test, split.train)
    train = gs.data.join_sessions(split.train)
    assert test.num_clicks > split.test.num_clicks
    torch.manual_seed(0)
    model = MODELS[name](split.num_items, **SMALL[name])
    result = gs.fit(model, train, max_epochs=2, batch_size=8, learning_rate=0.02, progress=False)
    if len(result.history):
        assert result.history["loss"].iloc[-1] < result.history["loss"].iloc[0]
    alone, joined = (gs.evaluate(model, part, ks=(5,)) for part in (split.test, test))
    assert len(alone.ranks) == len(joined.ranks) == split.test.num_targets
    assert joined.num_unknown_targets == alone.num_unknown_targets
    assert joined.ranks["session"].equals(alone.ranks["session"])
    # Those that see the last click alone are helped by history only where there was none.
    changed = int((joined.ranks["better"] != alone.ranks["better"]).sum())
    assert (changed <= alone.num_without_history) == (name in ("markov", "sequential_rules"))
