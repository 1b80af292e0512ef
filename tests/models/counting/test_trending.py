"""Trending by hand: clicks that fade, the session's categories, the hour of the last click."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import graphseq as gs
from graphseq.models import Popularity, Trending

HOUR = 3600.0
DAY = 24 * HOUR


def log(clicks, categories=None):
    """Sessions from lists of (item, time)."""
    sessions = gs.Sessions.from_lists(
        [[item for item, _ in each] for each in clicks], vocabulary=gs.data.Vocabulary(range(4))
    )
    sessions = replace(sessions, time=np.array([t for each in clicks for _, t in each]))
    if categories is None:
        return sessions
    return replace(sessions, item_features=pd.DataFrame({"kind": categories}))


def scores(model, sessions):
    return model.score(gs.SessionGraphDataset(sessions, samples="prefixes").batch([0]))[0]


OLD_AND_NEW = log(
    [[(0, 0.0), (0, 0.0)], [(1, 2 * DAY), (2, 1 * DAY)], [(3, 2 * DAY), (3, 2 * DAY)]]
)


def test_clicks_count_half_after_a_half_life():
    model = Trending(4, "1D").fit_counts(OLD_AND_NEW)
    weights = np.array([2 / 4, 1, 1 / 2, 2])
    expected = torch.from_numpy(weights / weights.sum())
    torch.testing.assert_close(scores(model, OLD_AND_NEW), expected)


def test_without_options_it_is_popularity():
    sessions = gs.Sessions.from_lists([[0, 1, 1], [2, 1]])
    ours, theirs = Trending(3).fit_counts(sessions), Popularity(3).fit_counts(sessions)
    torch.testing.assert_close(scores(ours, sessions), scores(theirs, sessions))


def test_log_without_times_fades_by_clicks():
    sessions = gs.Sessions.from_lists([[0, 1], [1, 2]])
    model = Trending(3, 1.0).fit_counts(sessions)
    weights = torch.tensor([1 / 8, 1 / 4 + 1 / 2, 1], dtype=torch.double)
    torch.testing.assert_close(model.trend, weights / weights.sum())


def test_items_of_the_session_s_categories_come_first():
    sessions = log([[(0, 0.0), (1, 1.0)], [(2, 2.0), (3, 3.0), (3, 4.0)]], ["a", "b", "a", None])
    model = Trending(4, category="kind", backoff=0.1).fit_counts(sessions)
    of_a = log([[(0, 9.0), (2, 9.0), (1, 9.0), (3, 9.0)]])  # three clicks before the target
    found = scores(model, replace(of_a, first_target=np.array([3])))
    share = torch.tensor([1, 1, 1, 2], dtype=torch.double) / 5
    shares = torch.tensor([2 / 3, 1 / 3, 2 / 3, 0], dtype=torch.double)
    torch.testing.assert_close(found, (shares + 0.1) * share)


def test_hour_of_the_last_click_decides():
    at_nine = [[(0, 9 * HOUR), (0, 9.5 * HOUR)], [(1, DAY + 9 * HOUR)]]
    at_ten = [[(2, 10 * HOUR + 5), (3, 10 * HOUR + 6), (3, 10 * HOUR + 7)]]
    sessions = log(at_nine + at_ten)
    model = Trending(4, hourly=True, backoff=0.5).fit_counts(sessions)
    share = torch.tensor([2, 1, 1, 2], dtype=torch.double) / 6
    nine = scores(model, log([[(3, 7 * DAY + 9 * HOUR + 1), (0, 7 * DAY + 10 * HOUR)]]))
    torch.testing.assert_close(nine, torch.tensor([2, 1, 0, 0]).double() / 3 + 0.5 * share)
    ten = scores(model, log([[(0, 10 * HOUR), (3, 11 * HOUR)]]))
    torch.testing.assert_close(ten, torch.tensor([0, 0, 1, 2]).double() / 3 + 0.5 * share)
    none = scores(model, log([[(0, 3 * HOUR), (0, 4 * HOUR)]]))  # nobody clicked at three
    torch.testing.assert_close(none, 0.5 * share)


def test_candidates_are_columns_of_all_scores():
    model = Trending(4, "1D", hourly=True).fit_counts(OLD_AND_NEW)
    batch = gs.SessionGraphDataset(OLD_AND_NEW, samples="prefixes").batch([0, 1, 2])
    everything = model.score(batch)
    torch.testing.assert_close(model.score(batch, torch.tensor([2, 0])), everything[:, [2, 0]])
    each = torch.tensor([[1], [0], [3]])
    torch.testing.assert_close(model.score(batch, each), everything.gather(1, each))


def test_new_session_gets_what_is_trending_in_recommend_and_in_evaluate():
    clicks = [[(0, 0.0), (0, 0.0), (0, 0.0)], [(1, 9 * DAY)]]
    model = Trending(4, "1D").fit_counts(log(clicks))
    assert model.recommend([[]], k=2)[0][0][0] == 1
    assert Popularity(4).fit_counts(log(clicks)).recommend([[]], k=2)[0][0][0] == 0
    first = replace(log([[(1, 10 * DAY)]]), first_target=np.array([0]))  # no click before it
    assert gs.evaluate(model, first, ks=(1,)).metrics["hr@1"] == 1.0
    lists = gs.evaluation.evaluate_lists(model, first, k=1)
    assert lists.lists.tolist() == [[1]]


def test_saved_and_loaded_it_scores_the_same(tmp_path):
    kinds = ["a", "b", "a", None]
    sessions = replace(OLD_AND_NEW, item_features=pd.DataFrame({"kind": kinds}))
    model = Trending(4, "1D", category="kind", hourly=True).fit_counts(sessions)
    model.save(tmp_path / "model")
    assert torch.equal(scores(gs.load(tmp_path / "model"), sessions), scores(model, sessions))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"half_life": 0}, "half_life must be positive"),
        ({"half_life": "soon"}, "half_life"),
        ({"backoff": -1.0}, "backoff must be"),
        ({"hourly": "yes"}, "hourly"),
    ],
)
def test_bad_arguments_are_named(arguments, said):
    with pytest.raises(ValueError, match=said):
        Trending(3, **arguments)


def test_what_the_log_lacks_is_named():
    sessions = gs.Sessions.from_lists([[0, 1]])
    with pytest.raises(ValueError, match="has no times"):
        Trending(2, hourly=True).fit_counts(sessions)
    with pytest.raises(ValueError, match="category='kind', but the items have no such"):
        Trending(2, category="kind").fit_counts(sessions)
    several = replace(sessions, item_features=pd.DataFrame({"kind": [["a"], ["b", "c"]]}))
    with pytest.raises(ValueError, match="'kind' holds lists"):
        Trending(2, category="kind").fit_counts(several)
    model = Trending(4, hourly=True).fit_counts(OLD_AND_NEW)
    with pytest.raises(ValueError, match="these sessions have no times"):
        model.recommend([[0]])
    with pytest.raises(ValueError, match="counted nothing"):
        Trending(2).score(gs.SessionGraphDataset(sessions).batch([0]))
