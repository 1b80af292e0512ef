"""Deletion curves: clicks that are known to matter hurt more than random ones."""

from __future__ import annotations

import numpy as np
import pytest

import graphseq as gs
from graphseq.explanations import deletion_curves


def test_named_clicks_hurt_more_than_random_ones_where_the_last_click_decides() -> None:
    rng = np.random.default_rng(0)
    step = rng.permutation(40)
    lists = []
    for _ in range(400):
        item = int(rng.integers(40))
        session = []
        for _ in range(7):
            session.append(item)
            item = int(step[item]) if rng.random() < 0.9 else int(rng.integers(40))
        lists.append(session)
    split = gs.session_split(gs.Sessions.from_lists(lists), test_fraction=0.1, seed=0)
    model = gs.models.MarkovChain(split.num_items)
    gs.fit(model, split)
    table = deletion_curves(model, list(split.test), deletions=3, k=1, draws=4)
    assert table["deleted"].tolist() == [0, 1, 2, 3]
    first = table.iloc[0]
    assert first["named"] == first["random"] == first["named kept"] == 1.0
    assert first["difference"] == 0
    after = table.iloc[1]
    assert after["named"] < 0.5 < after["random"]
    assert after["low"] > 0.2
    assert after["random kept"] == pytest.approx(6 / 7, abs=0.1)  # the last click, one in seven
    assert (table["sessions"] == split.test.num_sessions).all()


def test_popularity_is_hurt_by_no_click() -> None:
    sessions = gs.Sessions.from_lists([["a", "b", "c"], ["a", "c", "b"], ["a", "b", "d"]] * 3)
    split = gs.session_split(sessions, test_fraction=0.3, seed=0)
    model = gs.models.Popularity(split.num_items)
    gs.fit(model, split)
    table = deletion_curves(model, list(split.test), deletions=2)
    np.testing.assert_array_equal(table[["named", "random"]], 1.0)


def test_sessions_that_are_too_short_are_left_out() -> None:
    sessions = gs.Sessions.from_lists([["a", "b", "c"], ["a", "b"]] * 4)
    model = gs.models.Popularity(sessions.num_items)
    model.fit_counts(sessions)
    assert deletion_curves(model, [["a", "b", "c"], ["a"]], deletions=2)["sessions"].tolist() == [
        1,
        1,
        1,
    ]
    with pytest.raises(ValueError, match="No session has more than 3 clicks"):
        deletion_curves(model, [["a", "b"]], deletions=3)
