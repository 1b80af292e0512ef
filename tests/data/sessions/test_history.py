"""Joined sessions against loops over users, with unchanged targets."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphseq as gs
from graphseq.data.sessions.history import SESSION
from graphseq.data.sessions.sessions import Sessions

LOG = pd.DataFrame(
    [
        # session, user, item, time
        ("s0", "ann", "a", 10.0),
        ("s0", "ann", "b", 11.0),
        ("s1", "bob", "c", 5.0),
        ("s2", "ann", "d", 1.0),
        ("s2", "ann", "a", 2.0),
        ("s3", None, "e", 3.0),
        ("s4", "ann", "b", 20.0),
        ("s5", None, "a", 1.0),
    ],
    columns=["session_id", "user", "item_id", "time"],
)


def log_sessions():
    frame = LOG.assign(price=np.arange(len(LOG)) * 0.5)
    return Sessions.from_frame(frame, time="time", user="user", features=["price"])


def targets(sessions: Sessions) -> list[tuple]:
    """(clicks before, target) of every target."""
    found = []
    for row, first in zip(sessions.to_lists(), sessions.targets_from, strict=True):
        found += [(row[:at], row[at]) for at in range(max(first, 1), len(row))]
    return found


def test_join_sessions_by_hand_gives_histories_in_the_order_of_time():
    joined = gs.data.join_sessions(log_sessions())
    assert joined.to_lists() == [list("daabb"), ["c"], ["e"], ["a"]]
    assert joined.click_features[SESSION].tolist() == [0, 0, 1, 1, 2, 0, 0, 0]
    assert joined.click_features["price"].tolist() == [1.5, 2.0, 0.0, 0.5, 3.0, 1.0, 2.5, 3.5]
    assert joined.time.tolist() == [1.0, 2.0, 10.0, 11.0, 20.0, 5.0, 3.0, 1.0]
    assert joined.users.tolist() == [0, 1, -1, -1]
    assert joined.first_target is None
    assert joined.num_items == log_sessions().num_items


def test_join_sessions_without_times_keeps_their_order():
    sessions = Sessions.from_lists([["a"], ["b", "c"], ["d"]], users=["u", "v", "u"])
    joined = gs.data.join_sessions(sessions)
    assert joined.to_lists() == [["a", "d"], ["b", "c"]]
    assert joined.click_features[SESSION].tolist() == [0, 1, 0, 0]


def test_join_sessions_graphs_tell_the_session_of_each_click():
    joined = gs.data.join_sessions(log_sessions())
    graph = gs.SessionGraphDataset(joined, "sessions")[0]
    assert graph.click_session.tolist() == [0, 0, 1, 1]
    assert graph.user.tolist() == [0]


def test_join_sessions_first_target_is_that_of_the_first_session_with_one():
    sessions = Sessions.from_lists([["a"], ["b", "c", "d"], ["e", "f"]], users=["u"] * 3)
    made = Sessions(
        **{
            **{name: getattr(sessions, name) for name in ("items", "ptr", "vocabulary", "users")},
            "first_target": np.array([1, 2, 1]),
        }
    )
    joined = gs.data.join_sessions(made)
    assert joined.first_target.tolist() == [3]  # d
    assert [target for _, target in targets(joined)] == ["d", "e", "f"]


def with_first_target(sessions: Sessions, first_target: list[int]) -> Sessions:
    from dataclasses import replace

    return replace(sessions, first_target=np.array(first_target))


def test_join_sessions_targets_that_a_history_cannot_tell_are_refused():
    sessions = Sessions.from_lists([["a", "b"], ["b", "c", "d"]], users=["u", "u"])
    with pytest.raises(ValueError, match="1 sessions have clicks that are not targets after"):
        gs.data.join_sessions(with_first_target(sessions, [1, 2]))
    none = gs.data.join_sessions(with_first_target(sessions, [2, 3]))
    assert none.num_targets == 0


@pytest.mark.parametrize("join", [gs.data.join_sessions, gs.data.with_history])
def test_joining_sessions_without_users_or_twice_is_refused(join):
    with pytest.raises(ValueError, match="name no users"):
        join(Sessions.from_lists([["a", "b"]]))
    joined = gs.data.join_sessions(log_sessions())
    with pytest.raises(ValueError, match="click feature 'session' already"):
        join(joined)


def test_with_history_by_hand_puts_what_ended_before_in_front():
    sessions = log_sessions()
    test = sessions.select([4, 1, 3])  # ann's last, bob's, and one of no one
    joined = gs.data.with_history(test, sessions)
    assert joined.to_lists() == [list("daabb"), ["c"], ["e"]]
    assert joined.click_features[SESSION].tolist() == [0, 0, 1, 1, 2, 0, 0]
    assert joined.first_target.tolist() == [5, 1, 1]
    assert joined.users.tolist() == [0, 1, -1]


def test_with_history_a_session_is_never_its_own_past():
    sessions = log_sessions()
    again = gs.data.with_history(sessions, sessions)
    assert [row[-1] for row in again.to_lists()] == list("bcaeba")
    assert again.num_targets == sessions.num_targets
    # ann's last session has the two before twice: once of the history, once of these.
    assert again.to_lists()[4] == list("dadaababb")


def test_with_history_sessions_that_overlap_are_no_past():
    frame = pd.DataFrame(
        {
            "session_id": [0, 1, 0, 1, 2],
            "item_id": list("abcde"),
            "time": [0.0, 1.0, 2.0, 3.0, 3.0],
            "user": ["u"] * 5,
        }
    )
    joined = gs.data.with_history(Sessions.from_frame(frame, time="time", user="user"))
    # Session 2 starts when 1 ends: only 0 is over by then.
    assert joined.to_lists() == [list("ac"), list("bd"), list("ace")]


def test_with_history_newest_clicks_alone_are_kept_where_asked():
    sessions = log_sessions()
    joined = gs.data.with_history(sessions.select([4]), sessions, max_clicks=3)
    assert joined.to_lists() == [list("aabb")]
    assert joined.click_features[SESSION].tolist() == [0, 1, 1, 2]
    none = gs.data.with_history(sessions.select([4]), sessions, max_clicks=0)
    assert none.to_lists() == [["b"]]
    for wrong in (-1, 1.5, True):
        with pytest.raises(ValueError, match=f"max_clicks must be .*at least 0, got {wrong}"):
            gs.data.with_history(sessions, max_clicks=wrong)


def test_with_history_speaks_the_ids_of_the_sessions():
    history = Sessions.from_lists([["x", "b"]], users=["u"])
    sessions = Sessions.from_lists([["a", "b"], ["b", "a"]], users=["w", "u"])
    assert gs.data.with_history(sessions, history).to_lists() == [
        ["a", "b"],
        [None, "b", "b", "a"],
    ]


def test_with_history_of_other_fields_is_refused():
    sessions = log_sessions()
    plain = Sessions.from_lists([["a"]], users=["ann"])
    with pytest.raises(ValueError, match=r"history, parts\[0\], .* features: \[\] and \['price'\]"):
        gs.data.with_history(sessions, plain)
    untimed = Sessions.from_frame(LOG, user="user")
    timed = Sessions.from_frame(LOG, user="user", time="time")
    with pytest.raises(ValueError, match="differ in times: False and True"):
        gs.data.with_history(timed, untimed)


def test_with_history_categorical_features_of_other_codes_stay_what_they_were():
    frame = LOG.assign(kind=list("pqrpqrpq"))
    sessions = Sessions.from_frame(frame, time="time", user="user", features=["kind"])
    later = frame.iloc[[6]].assign(kind="q")
    one = Sessions.from_frame(later, time="time", user="user", features=["kind"])
    joined = gs.data.with_history(one, sessions)
    codes = joined.feature_vocabularies["kind"].column(joined.click_features["kind"])
    assert pd.Series(codes).tolist()[-1] == "q"
    assert [kind for kind in codes if kind == "q"] == ["q", "q", "q"]  # of a, b and the last b


LISTS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 5), min_size=1, max_size=4),  # items
        st.integers(-1, 2),  # user
        st.integers(0, 12),  # start
        st.integers(1, 4),  # first target
    ),
    min_size=1,
    max_size=9,
)


def made_of(rows) -> Sessions:
    lists = [items for items, *_ in rows]
    ptr = np.concatenate(([0], np.cumsum([len(items) for items in lists])))
    time = np.concatenate([start + np.arange(len(items)) for items, _, start, _ in rows])
    return Sessions.from_ragged(
        sum(lists, []),
        ptr,
        time=time.astype(float),
        users=np.array([user for _, user, _, _ in rows], dtype=np.int32),
        first_target=np.array([first for *_, first in rows]),
    )


@given(LISTS)
def test_join_sessions_any_sessions_equal_the_loop_over_users(rows):
    sessions = made_of([(items, user, start, 1) for items, user, start, _ in rows])
    expected = []
    for user in range(3):
        own = [(start, n) for n, (_, who, start, _) in enumerate(rows) if who == user]
        if own:
            expected.append([item for _, n in sorted(own) for item in rows[n][0]])
    expected += [items for items, user, *_ in rows if user < 0]
    assert gs.data.join_sessions(sessions).to_lists() == expected


@given(LISTS, st.sampled_from([None, 0, 1, 3]), st.integers(0, 8))
def test_with_history_any_sessions_equal_the_loop_over_sessions(rows, max_clicks, cut):
    sessions = made_of(rows)
    cut = min(cut, len(rows) - 1)
    history = sessions.select(np.arange(cut)) if cut else None
    part = sessions.select(np.arange(cut, len(rows)))
    joined = gs.data.with_history(part, history, max_clicks=max_clicks)
    expected = []
    for items, user, start, _ in rows[cut:]:
        past = [
            (begin + len(other) - 1, other)
            for other, who, begin, _ in rows
            if who == user >= 0 and begin + len(other) - 1 < start
        ]
        past.sort(key=lambda pair: pair[0])
        clicks = [item for _, other in past for item in other]
        kept = (
            clicks if max_clicks is None else clicks[len(clicks) - min(max_clicks, len(clicks)) :]
        )
        expected.append(kept + items)
    assert joined.to_lists() == expected
    assert [target for _, target in targets(joined)] == [target for _, target in targets(part)]
    numbers = np.split(joined.click_features[SESSION], joined.ptr[1:-1])
    assert all((np.diff(number) >= 0).all() and number[0] >= 0 for number in numbers)
