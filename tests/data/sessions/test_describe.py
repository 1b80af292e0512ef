"""Statistics of sessions: by hand, by loops, and against the graphs of the same sessions."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.data.sessions.describe import describe
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.statistics import date_of

LISTS = st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=9), min_size=1, max_size=8)


def test_describe_by_hand_gives_every_number():
    frame = pd.DataFrame(
        {
            "session_id": [0] * 6 + [1] * 2,
            "item_id": list("ababac") + list("ab"),
            "time": np.arange(8) * 43_200.0,
            "user": ["u"] * 8,
        }
    )
    sessions = Sessions.from_frame(frame, time="time", user="user")
    assert sessions.describe()["value"].to_dict() == {
        "sessions": 2,
        "clicks": 8,
        "items": 3,
        "users": 1,
        "targets": 6,
        "unknown_clicks": 0,
        "length_min": 2,
        "length_mean": 4.0,
        "length_25%": 2,
        "length_50%": 2,
        "length_75%": 6,
        "length_90%": 6,
        "length_99%": 6,
        "length_max": 6,
        "repeat_rate": 3 / 8,
        "repeated_transitions": 2 / 6,  # the second ab and the second ba
        "density": 5 / 6,
        "first_click": "1970-01-01 00:00:00",
        "last_click": "1970-01-04 12:00:00",
        "days": 3.5,
    }


@settings(max_examples=30, deadline=None)
@given(LISTS)
def test_describe_any_sessions_equals_the_naive_loop(lists):
    values = describe(Sessions.from_lists(lists))["value"]
    clicks = sum(map(len, lists))
    pairs = sum(len(set(session)) for session in lists)
    items = {item for session in lists for item in session}
    assert values["repeat_rate"] == pytest.approx(1 - pairs / clicks)
    assert values["density"] == pytest.approx(pairs / (len(lists) * len(items)))
    assert values["items"] == len(items)


@settings(max_examples=30, deadline=None)
@given(LISTS)
def test_describe_repeated_transitions_are_the_edge_weights_above_one(lists):
    sessions = Sessions.from_lists(lists)
    graphs = build_session_graphs(
        torch.from_numpy(sessions.items.copy()), torch.from_numpy(sessions.ptr)
    )
    transitions = float(graphs.edge_weight.sum())
    repeated = transitions - graphs.edge_weight.numel()
    value = describe(sessions).loc["repeated_transitions", "value"]
    assert value == pytest.approx(repeated / transitions if transitions else 0.0)


def test_describe_unknown_clicks_are_left_out_as_in_graphs():
    known = Sessions.from_lists([["a", "b"]]).vocabulary
    lists = [["a", "x", "b", "a", "y", "b"], ["z"]]
    values = Sessions.from_lists(lists, vocabulary=known).describe()["value"]
    assert values["unknown_clicks"] == 3
    assert values["repeat_rate"] == 2 / 4
    assert values["repeated_transitions"] == 1 / 3  # a b a b
    assert values["length_max"] == 6


def test_describe_only_unknown_clicks_gives_zero_shares():
    known = Sessions.from_lists([["a"]]).vocabulary
    values = Sessions.from_lists([["x", "y"]], vocabulary=known).describe()["value"]
    assert (values["items"], values["repeat_rate"], values["density"]) == (0, 0.0, 0.0)


def test_describe_values_are_fit_for_json():
    values = Sessions.from_lists([["a", "b"]]).describe()["value"].to_dict()
    assert json.loads(json.dumps(values)) == values
    assert values["users"] is None
    assert values["days"] is None


def test_describe_no_session_says_so():
    empty = Sessions.from_lists([["a"]]).select(np.zeros(1, dtype=bool))
    with pytest.raises(ValueError, match="no session to describe"):
        empty.describe()


def test_date_of_no_date_is_the_number():
    assert date_of(1e300) == "1e+300"
    assert date_of(86_400) == "1970-01-02 00:00:00"
