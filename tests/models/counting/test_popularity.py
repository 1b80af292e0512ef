"""Popularity, and what it shares with all models that are trained by counting."""

from __future__ import annotations

import pytest
import torch

from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.data.sessions.sessions import Sessions
from graphseq.models.counting.popularity import Popularity


@pytest.fixture
def sessions() -> Sessions:
    return Sessions.from_lists([["a", "b", "a"], ["b", "c"], ["a"]])


def two_sessions() -> object:
    return build_session_graphs(torch.tensor([2, 0, 1]), torch.tensor([0, 2, 3]))


def test_popularity_by_hand_gives_shares_of_clicks(sessions: Sessions) -> None:
    scores = Popularity(3).fit_counts(sessions).score(two_sessions())
    expected = torch.tensor([[3, 2, 1], [3, 2, 1]], dtype=torch.double) / 6
    torch.testing.assert_close(scores, expected)


def test_popularity_of_shared_candidates_gives_one_row_a_session(sessions: Sessions) -> None:
    scores = Popularity(3).fit_counts(sessions).score(two_sessions(), torch.tensor([2, 0]))
    expected = torch.tensor([[1, 3], [1, 3]], dtype=torch.double) / 6
    torch.testing.assert_close(scores, expected)


def test_popularity_scores_are_safe_to_write_to(sessions: Sessions) -> None:
    model = Popularity(3).fit_counts(sessions)
    model.score(two_sessions())[0, 0] = -torch.inf
    assert model.score(two_sessions()).isfinite().all()


def test_popularity_unknown_clicks_are_not_counted(sessions: Sessions) -> None:
    more = Sessions.from_lists([["a", "x", "c"]], vocabulary=sessions.vocabulary)
    counts = Popularity(3).fit_counts(more).item_counts
    assert counts.tolist() == [1, 0, 1]


def test_fit_counts_second_fit_forgets_the_first(sessions: Sessions) -> None:
    more = Sessions.from_lists([["c", "c"]], vocabulary=sessions.vocabulary)
    model = Popularity(3).fit_counts(sessions).fit_counts(more)
    assert model.item_counts.tolist() == [0, 0, 2]
    assert model.catalog is not None
    assert model.catalog.counts.tolist() == [0, 0, 2]


def test_fit_counts_of_another_catalog_size_is_refused(sessions: Sessions) -> None:
    with pytest.raises(ValueError, match="num_items=4, but the sessions have 3"):
        Popularity(4).fit_counts(sessions)


def test_fit_counts_without_known_clicks_is_refused(sessions: Sessions) -> None:
    unknown = Sessions.from_lists([["x", "y"]], vocabulary=sessions.vocabulary)
    with pytest.raises(ValueError, match="no click of these sessions is known"):
        Popularity(3).fit_counts(unknown)


def test_score_before_counting_says_what_to_call() -> None:
    with pytest.raises(ValueError, match="fit_counts"):
        Popularity(3).score(two_sessions())


def test_counts_survive_a_cast_of_the_module_to_half(sessions: Sessions) -> None:
    model = Popularity(3).fit_counts(sessions)
    before = model.score(two_sessions())
    torch.testing.assert_close(model.half().score(two_sessions()), before)


def test_state_dict_of_another_catalog_size_is_refused(sessions: Sessions) -> None:
    state = Popularity(3).fit_counts(sessions).state_dict()
    with pytest.raises(RuntimeError, match="size mismatch"):
        Popularity(4).fit_counts(Sessions.from_lists([[0, 1, 2, 3]])).load_state_dict(state)


def test_popularity_repr_names_the_size() -> None:
    assert repr(Popularity(3)) == "Popularity(3)"
