"""The targets of sessions: every one once, known clicks before it, distinct seen items."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.evaluation.targets import Targets

VOCABULARY = Vocabulary(["a", "b", "c"])


@st.composite
def ragged(draw):
    clicks = st.lists(st.sampled_from("abcxy"), min_size=1, max_size=6)
    lists = draw(st.lists(clicks, min_size=1, max_size=5))
    first = [draw(st.integers(0, len(clicks) + 1)) for clicks in lists]
    sessions = Sessions.from_lists(lists, vocabulary=VOCABULARY)
    return lists, first, replace(sessions, first_target=np.array(first, dtype=np.int64))


@settings(max_examples=60)
@given(ragged().filter(lambda drawn: drawn[2].num_targets > 0), st.randoms())
def test_cases_of_any_sessions_equal_a_naive_loop(drawn, random):
    lists, first, sessions = drawn
    expected = [
        (
            session,
            position,
            "abc".find(clicks[position]),
            sum(item in "abc" for item in clicks[:position]),
            {"abc".index(item) for item in clicks[:position] if item in "abc"},
        )
        for session, clicks in enumerate(lists)
        for position in range(first[session], len(clicks))
    ]
    cases = Targets(sessions)
    order = np.array(random.sample(range(len(cases)), len(cases)))
    row, item = cases.seen(order)
    seen = [set() for _ in order]
    for place, code in zip(row.tolist(), item.tolist(), strict=True):
        assert code not in seen[order[place]]  # each item at most once
        seen[order[place]].add(code)
    columns = (cases.session, cases.position, cases.target, cases.history, np.array(seen))
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == expected


def test_cases_without_a_first_target_start_at_the_second_click():
    cases = Targets(Sessions.from_lists([["a", "b", "a"], ["b"], ["a", "c"]]))
    assert cases.session.tolist() == [0, 0, 2]
    assert cases.position.tolist() == [1, 2, 1]


def test_cases_of_sessions_without_targets_say_so():
    with pytest.raises(ValueError, match="none of the 2 sessions has a click at or after"):
        Targets(Sessions.from_lists([["a"], ["b"]]))


def test_unknown_items_do_not_repeat_each_other() -> None:
    sessions = Sessions.from_lists([list("axaxa"), list("ab")], vocabulary=VOCABULARY)
    facts = Targets(sessions).facts(sessions, None)
    assert facts["repeat"].tolist() == [False, True, False, True, False]


def test_number_of_seen_items_is_that_of_the_items_seen():
    lists = ["abaxcc", "x", "bbb"]
    cases = Targets(Sessions.from_lists([list(one) for one in lists], vocabulary=VOCABULARY))
    assert cases.num_seen().tolist() == [1, 2, 2, 2, 3, 1, 1]
