"""Filters against naive loops; all fields are kept and all removals counted."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphseq.data.sessions.filters import (
    collapse_repeats,
    keep_min_length,
    keep_min_support,
    keep_newest,
    suggest_max_length,
)
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.splits.split_parts import Split
from graphseq.data.splits.splits import fixed_split, leave_last_split

LISTS = st.lists(
    st.lists(st.sampled_from("abcdef"), min_size=1, max_size=7), min_size=1, max_size=12
)
CALLS = {
    "length": lambda s, **options: keep_min_length(s, 2, **options),
    "support": lambda s, **options: keep_min_support(s, 3, **options),
    "core": lambda s, **options: keep_min_support(s, 3, core=True, min_length=2, **options),
    "collapse": collapse_repeats,
    "newest": lambda s, **options: keep_newest(s, 3, **options),
}


def naive(name, lists):
    """The result of a filter, by loops over plain lists."""
    if name == "length":
        return [clicks for clicks in lists if len(clicks) >= 2]
    if name == "collapse":
        return [[x for p, x in enumerate(c) if p == 0 or c[p - 1] != x] for c in lists]
    if name == "newest":
        return [clicks[-3:] for clicks in lists]
    while True:
        support = Counter(item for clicks in lists for item in clicks)
        left = [[item for item in clicks if support[item] >= 3] for clicks in lists]
        left = [clicks for clicks in left if len(clicks) >= (2 if name == "core" else 1)]
        if name == "support" or left == lists:
            return left
        lists = left


@pytest.mark.parametrize("name", CALLS)
@settings(max_examples=25, deadline=None)
@given(lists=LISTS)
def test_filter_any_sessions_equals_the_naive_loop_counts_and_repeats_nothing(name, lists):
    expected = naive(name, lists)
    sessions = Sessions.from_lists(lists)
    if not expected:
        with pytest.raises(ValueError, match=f"leaves none of the {len(lists)} sessions"):
            CALLS[name](sessions)
        return
    left, report = CALLS[name](sessions, report=True)
    assert left.to_lists() == expected
    assert set(left.vocabulary.ids) == {item for clicks in expected for item in clicks}
    for counts, part in ((report.before, lists), (report.after, expected)):
        assert counts.sessions == len(part)
        assert counts.clicks == sum(map(len, part))
        assert counts.items == len({item for clicks in part for item in clicks})
        assert counts.targets == sum(len(clicks) - 1 for clicks in part)
    if name != "support":  # once is not until stable: a click that goes takes no support along
        again, second = CALLS[name](left, report=True)
        assert again is left
        assert second.before == second.after
    else:
        assert CALLS[name](left).to_lists() == expected


def full():
    """One session to keep and one short one, with every field there is."""
    frame = pd.DataFrame(
        {
            "session_id": ["s"] * 5 + ["t"],
            "item_id": list("aabca") + ["z"],
            "time": [1, 2, 3, 4, 5, 6],
            "user": ["u"] * 5 + ["v"],
            "price": [10, 20, 30, 40, 50, 60],
        }
    )
    sessions = Sessions.from_frame(
        frame, time="time", user="user", features=["price"], item_features=["price"]
    )
    return replace(sessions, first_target=np.array([3, 1]))


@pytest.mark.parametrize(
    ("call", "items", "price", "first_target"),
    [
        (lambda s: keep_min_length(s, 2), "aabca", [10, 20, 30, 40, 50], [3]),
        (lambda s: keep_min_support(s, 2), "aaa", [10, 20, 50], [2]),
        (lambda s: keep_min_support(s, 3, core=True), "aaa", [10, 20, 50], [2]),
        (collapse_repeats, "abcaz", [10, 30, 40, 50, 60], [2, 1]),
        (lambda s: keep_newest(s, 3), "bcaz", [30, 40, 50, 60], [1, 1]),
    ],
)
def test_filter_every_field_is_carried_along(call, items, price, first_target):
    left = call(full())
    n = left.num_sessions
    assert "".join(item for clicks in left for item in clicks) == items
    assert left.click_features["price"].tolist() == price
    assert left.time.tolist() == [value / 10 for value in price]
    assert left.first_target.tolist() == first_target
    assert left.session_ids.tolist() == ["s", "t"][:n]
    assert left.users.tolist() == [0, 1][:n]
    of_item = {"a": 10, "b": 30, "c": 40, "z": 60}
    assert left.item_features["price"].tolist() == [of_item[i] for i in left.vocabulary.ids]


def test_filter_report_reads_as_a_frame_and_as_a_sentence():
    sessions = Sessions.from_lists([["a", "b"], ["c"]])
    _, report = keep_min_length(sessions, 2, report=True)
    frame = report.to_frame()
    assert frame.loc["removed"].to_dict() == {"sessions": 1, "clicks": 1, "items": 1, "targets": 0}
    assert frame.loc["after", "clicks"] == 2
    assert str(report) == (
        "keep_min_length(2): 2 -> 1 sessions, 3 -> 2 clicks, 3 -> 2 items, 1 -> 1 targets"
    )


def test_keep_min_support_core_by_hand_unravels_a_chain():
    # c has 1 click, so the session b c goes, so b is left with 1 click, so a b goes, ...
    lists = [["b", "c"], ["a", "b"], ["a", "d", "d"], ["d", "e", "e", "d"]]
    left, report = keep_min_support(Sessions.from_lists(lists), 2, core=True, report=True)
    assert left.to_lists() == [["d", "d"], ["d", "e", "e", "d"]]
    assert report.rounds == 4
    assert report.filter == "keep_min_support(2, core=True, min_length=2)"


def test_keep_min_support_unknown_clicks_stay():
    known = Sessions.from_lists([["a", "b"]]).vocabulary
    sessions = Sessions.from_lists([["a", "x", "a", "b"]], vocabulary=known)
    assert keep_min_support(sessions, 2).to_lists() == [["a", None, "a"]]


def test_keep_min_support_length_without_core_says_so():
    with pytest.raises(ValueError, match="acts with core=True only"):
        keep_min_support(Sessions.from_lists([["a"]]), 1, min_length=2)


def test_collapse_repeats_unknown_clicks_stay_and_sessions_are_apart():
    known = Sessions.from_lists([["a"]]).vocabulary
    sessions = Sessions.from_lists([["x", "y", "a", "a"], ["a"]], vocabulary=known)
    assert collapse_repeats(sessions).to_lists() == [[None, None, "a"], ["a"]]


@pytest.mark.parametrize("number", [0, -3, 1.5, True])
def test_filter_bad_number_says_so(number):
    sessions = Sessions.from_lists([["a", "b"]])
    for call in (keep_min_length, keep_min_support, keep_newest):
        with pytest.raises(ValueError, match="number of clicks, at least 1"):
            call(sessions, number)
    with pytest.raises(ValueError, match="min_length is a number"):
        keep_min_support(sessions, core=True, min_length=number)


@settings(max_examples=25, deadline=None)
@given(LISTS, st.floats(0.01, 1))
def test_suggest_max_length_is_the_smallest_that_fits_the_share(lists, quantile):
    lengths = sorted(map(len, lists))
    lengths = [length for length in lengths if length > 1] or lengths  # those with a target
    suggested = suggest_max_length(Sessions.from_lists(lists), quantile)
    fits = [
        length for length in lengths if sum(n <= length for n in lengths) >= quantile * len(lengths)
    ]
    assert suggested == fits[0]


@pytest.mark.parametrize("quantile", [0, 1.1, -1, float("nan")])
def test_suggest_max_length_share_out_of_range_says_so(quantile):
    with pytest.raises(ValueError, match="share of the sessions"):
        suggest_max_length(Sessions.from_lists([["a"]]), quantile)


def test_suggest_max_length_without_sessions_says_so():
    empty = Sessions.from_lists([["a"]]).select(np.zeros(1, dtype=bool))
    with pytest.raises(ValueError, match="no session"):
        suggest_max_length(empty)


def test_suggest_max_length_looks_at_sessions_that_have_a_target():
    visits = [["a"]] * 30_000 + [["a", "b", "a", "c"]] * 10
    assert suggest_max_length(Sessions.from_lists(visits)) == 4
    histories = leave_last_split(Sessions.from_lists([list("abcd")] * 3 + [["a"]] * 9)).test
    assert suggest_max_length(histories) == 4
    assert suggest_max_length(Sessions.from_lists([["a"], ["b"]])) == 1


# -- of a split --------------------------------------------------------------------------------


def a_split():
    train = Sessions.from_lists([list("aab"), list("abc"), list("ab"), list("bd"), ["e"]])
    test = Sessions.from_lists([list("aabbz"), list("cd"), list("dda")])
    return fixed_split(train, test, Sessions.from_lists([list("bb"), list("abab")]))


@pytest.mark.parametrize(
    ("name", "train", "test"),
    [
        ("length", ["aab", "abc", "ab", "bd"], ["aabb-", "cd", "dda"]),
        ("support", ["aab", "ab", "ab", "b"], ["aabb-", "--", "--a"]),
        ("core", ["aab", "ab", "ab"], ["aabb-", "--", "--a"]),
        ("collapse", ["ab", "abc", "ab", "bd", "e"], ["ab-", "cd", "da"]),
        ("newest", ["aab", "abc", "ab", "bd", "e"], ["aabb-", "cd", "dda"]),
    ],
)
def test_filter_of_a_split_returns_a_split_in_the_codes_of_what_training_has_left(
    name, train, test
):
    before = a_split()
    split, report = CALLS[name](before, report=True)
    assert isinstance(split, Split)
    assert ["".join(clicks) for clicks in split.train] == train
    told = ["".join("-" if item is None else item for item in clicks) for clicks in split.test]
    assert told == test
    assert set(split.train.vocabulary.ids) == set("".join(train))
    assert split.test.vocabulary is split.train.vocabulary
    assert split.protocol == {"split": "fixed", "filters": [report.filter]}
    assert list(report.parts) == ["train", "validation", "test"]
    assert report.after == report.parts["train"].after
    for part, sessions in (("train", split.train), ("test", split.test)):
        assert report.parts[part].after.clicks == sessions.num_clicks
        assert report.to_frame().loc[(part, "after"), "targets"] == sessions.num_targets
        assert split.report.loc[part, "unknown_clicks"] == (sessions.items < 0).sum()
    assert str(report).startswith(f"{report.filter}: train 5 -> {len(train)} sessions")
    assert "; validation 2 -> 2 sessions" in str(report)


def test_filters_nest_over_sessions_and_over_splits():
    split = keep_min_length(collapse_repeats(a_split()), 2)
    assert ["".join(clicks) for clicks in split.train] == ["ab", "abc", "ab", "bd"]
    assert split.protocol["filters"] == ["collapse_repeats()", "keep_min_length(2)"]
    assert split.report.loc["validation", "sessions"] == 1  # bb, collapsed, is too short
    assert split.report.loc["test", "unknown_items"] == 1  # z, whose id is gone
    sessions = keep_newest(keep_min_length(collapse_repeats(full()), 2), 2)
    assert sessions.to_lists() == [["c", "a"]]


@given(LISTS)
def test_filter_session_by_session_before_or_after_the_split_is_the_same(lists):
    sessions = Sessions.from_lists([[*clicks, "x", "y"] for clicks in [*lists, ["b"], ["c"]]])
    half = np.arange(sessions.num_sessions) % 2 == 0
    after = collapse_repeats(fixed_split(sessions.select(half), sessions.select(~half)))
    before = collapse_repeats(sessions)
    expected = fixed_split(before.select(half), before.select(~half))
    assert after.train.fingerprint() == expected.train.fingerprint()
    assert after.test.fingerprint() == expected.test.fingerprint()


def test_filter_that_empties_a_part_of_a_split_says_so():
    with pytest.raises(ValueError, match=r"none of the 5 sessions of split\.train"):
        keep_min_length(a_split(), 5)
    with pytest.raises(ValueError, match="report must be True or False, got 'yes'"):
        collapse_repeats(a_split(), report="yes")
    with pytest.raises(ValueError, match="core must be True or False, got 'yes'"):
        keep_min_support(a_split(), core="yes")


def test_filter_logs_what_it_removed(caplog):
    with caplog.at_level("INFO", "graphseq.data.sessions.filters"):
        keep_min_length(Sessions.from_lists([["a", "b"], ["c"]]), 2)
    assert "keep_min_length(2): 2 -> 1 sessions" in caplog.text


def test_report_of_a_split_counts_no_unknown_item_of_which_no_click_is_left():
    train = Sessions.from_lists([["a", "b"], ["b", "a"]])
    test = Sessions.from_lists([["x", "y"], ["a", "b", "z"], ["a", "b", "a"]])
    split = keep_min_length(fixed_split(train, test), 2)
    assert split.report.loc["test", ["items", "unknown_items"]].tolist() == [5, 3]
    left = split.map_parts(lambda part: part.select(np.arange(len(part)) > 0))  # without x y
    assert left.report.loc["test", ["unknown_items", "unknown_clicks"]].tolist() == [1, 1]
    none = left.map_parts(lambda part: part.select([-1]))
    assert none.report.loc["test", ["items", "unknown_items"]].tolist() == [2, 0]
