"""Suggestions from statistics: each kind of sessions gets its family, with a reason."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphseq as gs
from graphseq.data.sessions.describe import describe
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.models import suggest as suggest_function
from graphseq.models.use.suggest import (
    LARGE_CORPUS,
    REPEAT_RATE,
    SAMPLE_CLICKS,
    SHORT_LENGTH,
    suggest,
)

BASELINES = ["sequential_rules", "markov"]
PLAIN = [list(range(start, start + 8)) for start in range(10)]  # long, no repeats, no features


def test_suggest_plain_sessions_get_the_default_and_the_baselines():
    answer = gs.models.suggest(Sessions.from_lists(PLAIN))
    assert answer.start_with == ["sasrec", *BASELINES]
    assert list(answer.reasons) == answer.start_with
    assert "max_length=8" in answer.reasons["sasrec"]
    assert gs.models.suggest is suggest_function is suggest


def test_suggest_live_streams_get_gru4rec_first():
    assert suggest(Sessions.from_lists(PLAIN), streaming=True).start_with[0] == "gru4rec"
    assert "gru4rec" not in suggest(Sessions.from_lists(PLAIN)).start_with


def test_suggest_repeats_get_srgnn_with_the_measured_rate():
    # 4 of 12 clicks repeat; a b is made twice, 1 of 10 transitions.
    answer = suggest(Sessions.from_lists([list("abcabd"), list("eefgge")]))
    assert answer.start_with[0] == "srgnn"
    assert "41.7%" in answer.reasons["srgnn"]
    assert "10.0%" in answer.reasons["srgnn"]


def test_suggest_generated_loops_get_srgnn_and_sessions_without_do_not():
    loops = suggest(gs.generate_sessions(3_000, loops=1.0, pattern=0.0))
    assert loops.start_with[0] == "srgnn"
    plain = suggest(gs.generate_sessions(3_000, loops=0.0, pattern=0.0, repeats=0.0, skew=0.0))
    assert plain.measured["repeat_rate"] < REPEAT_RATE
    assert "srgnn" not in plain.start_with


@pytest.mark.parametrize(("length", "short"), [(SHORT_LENGTH, True), (SHORT_LENGTH + 1, False)])
def test_suggest_short_sessions_get_caser_up_to_its_window(length, short):
    answer = suggest(Sessions.from_lists([list(range(length))] * 3 + [list(range(30))]))
    assert ("caser" in answer.start_with) == short
    assert answer.start_with.index("sasrec") == int(short)


def test_suggest_features_get_bst_and_titles_are_none():
    frame = pd.DataFrame(
        {
            "session_id": np.repeat(np.arange(10), 8),
            "item_id": np.concatenate([np.arange(start, start + 8) for start in range(10)]),
        }
    )
    frame["title"] = "title of " + frame["item_id"].astype(str)
    frame["category"] = np.where(frame["item_id"] % 2 == 0, "even", "odd")
    frame["price"] = frame["item_id"] * 1.5
    frame["device"] = "phone"
    only_one = Sessions.from_frame(frame, item_features=["title", "category"])
    assert suggest(only_one).measured["features"] == ["category"]
    assert "bst" not in suggest(only_one).start_with
    rich = Sessions.from_frame(
        frame, features=["device"], item_features=["title", "category", "price"]
    )
    answer = suggest(rich)
    assert answer.start_with[0] == "bst"
    assert "device, category, price" in answer.reasons["bst"]
    assert "title" not in answer.reasons["bst"]


def test_suggest_features_that_are_lists_are_features():
    sessions = Sessions.from_lists([["a", "b"]])
    features = pd.DataFrame({"genres": [["x", "y"], ["y"]], "vector": list(np.eye(2))})
    rich = gs.data.Sessions(
        sessions.items, sessions.ptr, sessions.vocabulary, item_features=features
    )
    assert suggest(rich).measured["features"] == ["genres", "vector"]


def large(num_clicks: int) -> Sessions:
    """Sessions of 20 clicks on ever new items of 200,000, as a memory-mapped log has them."""
    items = (np.arange(num_clicks) % 200_000).astype(np.int32)
    ptr = np.arange(0, num_clicks + 1, 20)
    return Sessions(items, ptr, Vocabulary(pd.RangeIndex(200_000)))


def test_suggest_very_many_clicks_get_bert4rec():
    answer = suggest(large(LARGE_CORPUS))
    assert answer.start_with[:2] == ["bert4rec", "sasrec"]
    assert "bert4rec" not in suggest(large(LARGE_CORPUS - 20)).start_with
    assert any("sampled_softmax" in note for note in answer.notes)


def test_suggest_more_clicks_than_the_sample_measures_a_part_close_to_the_whole():
    rng = np.random.default_rng(0)
    ptr = np.concatenate(([0], np.cumsum(rng.integers(2, 12, 400_000))))
    items = rng.integers(0, 40, ptr[-1]).astype(np.int32)
    sessions = Sessions(items, ptr, Vocabulary(pd.RangeIndex(40)))
    assert sessions.num_clicks > 2 * SAMPLE_CLICKS
    measured = suggest(sessions).measured
    whole = describe(sessions)["value"]
    assert measured["sampled_sessions"] < sessions.num_sessions / 2
    assert measured["clicks"] == sessions.num_clicks
    assert measured["repeat_rate"] == pytest.approx(whole["repeat_rate"], abs=0.002)
    transitions = measured["repeated_transitions"]
    assert transitions == pytest.approx(whole["repeated_transitions"], abs=0.002)
    assert suggest(sessions) == suggest(sessions)
    assert suggest(sessions, seed=1).measured != measured


def test_suggest_returning_users_and_long_histories_are_noted():
    users = Sessions.from_lists(PLAIN, users=list("aabbccddee"))
    assert any("2.0 sessions each" in note for note in suggest(users).notes)
    assert not any("sessions each" in note for note in suggest(Sessions.from_lists(PLAIN)).notes)
    day = 86_400.0
    frame = pd.DataFrame({"session_id": [0, 0, 0], "item_id": [1, 2, 3], "time": [0, day, 5 * day]})
    assert any(
        "5.0 days" in note for note in suggest(Sessions.from_frame(frame, time="time")).notes
    )


def test_suggest_reads_saved_sessions_as_those_in_memory(tmp_path):
    sessions = gs.generate_sessions(500)
    sessions.save(tmp_path / "log")
    assert suggest(Sessions.open(tmp_path / "log")) == suggest(sessions)


def test_suggestion_reads_as_lines_and_as_a_frame():
    answer = suggest(gs.generate_sessions(500))
    lines = str(answer).splitlines()
    assert lines[0] == f"1. {answer.start_with[0]}: {answer.reasons[answer.start_with[0]]}"
    assert len(lines) == len(answer.start_with) + len(answer.notes)
    frame = answer.frame()
    assert list(frame.index) == answer.start_with
    assert frame["why"].to_dict() == dict(answer.reasons)


def test_suggest_without_a_session_is_refused():
    none = Sessions(np.empty(0, np.int32), np.zeros(1, np.int64), Vocabulary(["a"]))
    with pytest.raises(ValueError, match="no session"):
        suggest(none)


@given(
    st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=9), min_size=1, max_size=8),
    st.booleans(),
    st.booleans(),
)
def test_suggest_any_sessions_get_the_default_and_the_baselines(lists, named, streaming):
    vocabulary = Vocabulary(["a", "b", "x"])  # some clicks, or all, are unknown
    users = ["u" if i % 2 else "v" for i in range(len(lists))] if named else None
    answer = suggest(
        Sessions.from_lists(lists, vocabulary=vocabulary, users=users), streaming=streaming
    )
    assert answer.start_with[-3:] == ["sasrec", *BASELINES]
    assert set(answer.start_with) <= set(gs.models.MODELS)
    assert len(set(answer.start_with)) == len(answer.start_with)
    assert answer.start_with[0] == "gru4rec" or not streaming
    json.dumps(answer.measured, allow_nan=False)


def test_suggest_looks_at_sessions_that_have_a_target():
    histories = [list(range(12))] * 10
    with_visits = suggest(Sessions.from_lists(histories + [[0]] * 3_000))
    alone = suggest(Sessions.from_lists(histories))
    assert "max_length=12" in with_visits.reasons["sasrec"]
    assert "caser" not in with_visits.start_with
    for name in ("length_50%", "length_75%", "length_90%", "median_days"):
        assert with_visits.measured[name] == alone.measured[name]
    assert with_visits.measured["sessions_with_target"] == 10
    assert with_visits.measured["sessions"] == 3_010
