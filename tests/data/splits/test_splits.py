"""Splits: parts, leaks and counts, against naive readings of the same sessions."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphseq.data.formats.readers import read_session_lines
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.splits.splits import fixed_split, leave_last_split, session_split, temporal_split

DAY = 86_400
ITEMS = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6)
LISTS = st.lists(ITEMS, min_size=2, max_size=10)
# Few distinct days, so that ties of time with each other and with the cut are common.
LOGS = st.lists(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 6)), min_size=1, max_size=5),
    min_size=2,
    max_size=10,
)


def timed(log, **columns):
    """Sessions of lists of (item, day), named 0, 1, ... in the order of the log."""
    rows = [(s, item, day * DAY) for s, clicks in enumerate(log) for item, day in clicks]
    frame = pd.DataFrame(rows, columns=["session_id", "item_id", "time"])
    return Sessions.from_frame(frame.assign(**columns), time="time", features=list(columns))


def parts(split):
    named = {"train": split.train, "validation": split.validation, "test": split.test}
    return {name: part for name, part in named.items() if part is not None}


def targets(part):
    """(session, position) of every target, by a loop."""
    return [
        (s, p)
        for s in range(len(part))
        for p in range(len(part[s]))
        if p >= max(part.targets_from[s], 1)
    ]


def naive_report(split):
    """The columns of the report that depend on one part only, by loops."""
    rows = {}
    for name, part in parts(split).items():
        aims = targets(part)
        lists = part.to_lists()
        rows[name] = {
            "sessions": len(lists),
            "clicks": sum(len(clicks) for clicks in lists),
            "targets": len(aims),
            "unknown_clicks": sum(clicks.count(None) for clicks in lists),
            "unknown_targets": sum(lists[s][p] is None for s, p in aims),
            "targets_without_history": sum(
                all(item is None for item in lists[s][:p]) for s, p in aims
            ),
            "sessions_without_target": len(lists) - len({s for s, _ in aims}),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def assert_well_formed(split):
    """Properties of every split, independent of its kind."""
    occurring = {item for clicks in split.train.to_lists() for item in clicks} - {None}
    assert set(split.train.vocabulary.ids) == occurring
    assert split.num_items == len(occurring) == split.catalog.num_items
    for part in parts(split).values():
        assert part.vocabulary == split.train.vocabulary
        assert part.first_target.dtype == np.int64
        assert part.first_target.min() >= 1
    expected = naive_report(split)
    pd.testing.assert_frame_equal(split.report[list(expected)], expected, check_dtype=False)


def parted(function, *args, **kwargs):
    """The split, or ``None`` where the example leaves a part empty."""
    try:
        return function(*args, **kwargs)
    except ValueError as error:
        if not re.search("would be empty|has no target", str(error)):
            raise
        return None


# -- temporal ----------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(LOGS, st.integers(0, 7), st.sampled_from([None, 1, 2]))
def test_temporal_split_any_log_follows_the_last_click(log, day, validation):
    split = parted(temporal_split, timed(log), at=day * DAY, validation=validation)
    last = [max(day for _, day in clicks) for clicks in log]
    in_test = {s for s, end in enumerate(last) if end >= day}
    rest = set(range(len(log))) - in_test
    newest = max((last[s] for s in rest), default=0)
    in_validation = (
        set() if validation is None else {s for s in rest if last[s] >= newest - validation}
    )
    if split is None:
        single = [
            bool(part) and all(len(log[s]) == 1 for s in part) for part in (in_test, in_validation)
        ]
        assert not in_test or not rest - in_validation or any(single)
        return
    assert set(split.test.session_ids) == in_test
    assert set(split.train.session_ids) == rest - in_validation
    if validation is not None:
        assert set(split.validation.session_ids) == in_validation
        assert split.train.time.max() < (newest - validation) * DAY
    assert split.train.time.max() < day * DAY
    assert_well_formed(split)


def test_temporal_split_session_across_the_cut_is_test_whole():
    sessions = timed([[("a", 0), ("b", 0)], [("b", 0), ("c", 9)], [("a", 1)]])
    split = temporal_split(sessions, at=5 * DAY)
    assert split.train.to_lists() == [["a", "b"], ["a"]]
    assert split.test.to_lists() == [["b", None]]
    assert split.report.loc["test"].to_dict() == {
        "sessions": 1,
        "clicks": 2,
        "items": 2,
        "targets": 1,
        "unknown_items": 1,
        "unknown_clicks": 1,
        "unknown_targets": 1,
        "targets_without_history": 0,
        "sessions_without_target": 0,
        "sessions_too_short": 0,
    }


def test_temporal_split_click_exactly_at_the_cut_is_test():
    sessions = timed([[("a", 0), ("b", 1)], [("a", 1), ("b", 2)], [("a", 2), ("b", 3)]])
    split = temporal_split(sessions, test_days=1)
    assert split.protocol == {"split": "temporal", "at": 2.0 * DAY}
    assert split.test.session_ids.tolist() == [1, 2]


@pytest.mark.parametrize(
    "at",
    [
        5 * DAY,
        "1970-01-06",
        pd.Timestamp("1970-01-06"),
        pd.Timestamp("1970-01-06 02:00", tz="Europe/Berlin") - pd.Timedelta("1h"),
        np.datetime64("1970-01-06"),
    ],
)
def test_temporal_split_cut_in_any_form_is_the_same_moment(at):
    sessions = timed([[("a", 0), ("b", 0)], [("a", 5), ("b", 5)]])
    assert temporal_split(sessions, at=at).protocol["at"] == 5 * DAY


def test_temporal_split_unsorted_times_leak_nothing():
    sessions = Sessions.from_ragged(
        ["a", "b", "a", "b"], [0, 2, 4], time=np.array([9.0, 1.0, 2.0, 3.0])
    )
    assert temporal_split(sessions, at=5).train.to_lists() == [["a", "b"]]
    assert temporal_split(sessions, at=5).train.time.max() == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "one of test_days and at"),
        ({"at": 1, "test_days": 1}, "one of test_days and at"),
        ({"test_days": 0}, "positive number of days"),
        ({"test_days": float("nan")}, "positive number of days"),
        ({"at": 0}, "training part would be empty.*1970-01-01.*1970-01-03"),
        ({"at": "2030-01-01"}, "test part would be empty.*2030-01-01"),
        ({"at": "soon"}, "at is a date.*'soon'"),
        ({"at": float("nan")}, "at is a date"),
        ({"test_days": 1, "validation": -1}, "validation is a positive number of days"),
        ({"test_days": 0.5, "validation": 5}, "training part would be empty: the validation"),
    ],
)
def test_temporal_split_bad_argument_says_so(arguments, message):
    sessions = timed([[("a", 0), ("b", 0)], [("a", 1), ("b", 1)], [("a", 2), ("b", 2)]])
    with pytest.raises(ValueError, match=message):
        temporal_split(sessions, **arguments)


def test_temporal_split_without_times_says_so():
    with pytest.raises(ValueError, match="needs the time of every click"):
        temporal_split(Sessions.from_lists([["a", "b"], ["a", "b"]]), test_days=1)


def test_temporal_split_missing_time_names_the_session():
    sessions = Sessions.from_ragged(
        ["a", "b", "a", "b"], [0, 2, 4], time=np.array([1.0, 2.0, np.nan, 3.0])
    )
    with pytest.raises(ValueError, match="in 1 sessions, the first is session 1"):
        temporal_split(sessions, at=2)


def test_temporal_split_test_of_single_clicks_says_so():
    with pytest.raises(ValueError, match="test part has no target"):
        temporal_split(timed([[("a", 0), ("b", 0)], [("a", 5)]]), at=DAY)


# -- leave last --------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(LISTS, st.integers(1, 3), st.sampled_from([None, 1, 2]))
def test_leave_last_split_any_log_gives_each_click_one_place(lists, n, validation):
    split = parted(leave_last_split, Sessions.from_lists(lists), n, validation=validation)
    train, held, test = [], [], []  # by hand: clicks in training, (clicks, first target)
    for clicks in lists:
        rest = clicks
        if len(rest) > n:
            test.append((rest, len(rest) - n))
            rest = rest[:-n]
        if validation is not None and len(rest) > validation:
            held.append((rest, len(rest) - validation))
            rest = rest[:-validation]
        train.append(rest)
    if split is None:
        assert not test or (validation is not None and not held)
        return
    assert split.train.to_lists() == train
    known = {item for clicks in train for item in clicks}
    for part, expected in ((split.test, test), (split.validation, held)):
        if part is None:
            continue
        seen = [[item if item in known else None for item in clicks] for clicks, _ in expected]
        assert part.to_lists() == seen
        assert part.first_target.tolist() == [first for _, first in expected]
    assert split.report.loc["test", "sessions_too_short"] == len(lists) - len(test)
    # Training clicks and the targets of the other parts are all clicks, each once.
    others = split.test.num_targets + (0 if validation is None else split.validation.num_targets)
    assert split.train.num_clicks + others == sum(map(len, lists))
    assert_well_formed(split)


def test_leave_last_split_by_hand_gives_the_counts():
    lists = [["a", "b", "c", "d"], ["a", "b"], ["c"], ["b", "a", "e"]]
    split = leave_last_split(Sessions.from_lists(lists), validation=1)
    assert split.train.to_lists() == [["a", "b"], ["a"], ["c"], ["b"]]
    assert split.validation.to_lists() == [["a", "b", "c"], ["b", "a"]]
    assert split.test.to_lists() == [["a", "b", "c", None], ["a", "b"], ["b", "a", None]]
    assert split.test.first_target.tolist() == [3, 1, 2]
    assert split.catalog.counts.tolist() == [2, 2, 1]
    assert split.report["targets"].to_dict() == {"train": 1, "validation": 2, "test": 3}
    assert split.report["unknown_targets"].to_dict() == {"train": 0, "validation": 0, "test": 2}
    assert split.report["sessions_too_short"].to_dict() == {"train": 0, "validation": 2, "test": 1}
    assert split.report["sessions_without_target"].to_dict() == {
        "train": 3,
        "validation": 0,
        "test": 0,
    }


def test_leave_last_split_ties_of_time_keep_the_logs_order():
    frame = pd.DataFrame({"session_id": [0, 0, 0], "item_id": list("cab"), "time": [1, 1, 1]})
    split = leave_last_split(Sessions.from_frame(frame, time="time"))
    assert split.train.to_lists() == [["c", "a"]]


@pytest.mark.parametrize("n", [0, -1, 1.5, True])
def test_leave_last_split_bad_number_says_so(n):
    sessions = Sessions.from_lists([["a", "b", "c"]])
    with pytest.raises(ValueError, match="n is a number of clicks, at least 1"):
        leave_last_split(sessions, n)
    with pytest.raises(ValueError, match="validation is a number of clicks, at least 1"):
        leave_last_split(sessions, validation=n)


def test_leave_last_split_no_session_long_enough_says_so():
    with pytest.raises(ValueError, match=r"longest session has 2 clicks"):
        leave_last_split(Sessions.from_lists([["a", "b"], ["c"]]), 2)


# -- by session --------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(LISTS, st.floats(0.05, 0.9), st.integers(0, 5), st.sampled_from([None, 0.2, 0.5]))
def test_session_split_any_log_gives_each_session_one_part(lists, share, seed, validation):
    sessions = Sessions.from_lists(lists, users=list(range(len(lists))))
    split = parted(session_split, sessions, share, seed=seed, validation=validation)
    if split is None:
        return
    assert split.test.num_sessions == max(1, round(share * len(lists)))
    assert sum(part.num_sessions for part in parts(split).values()) == len(lists)
    known = {item for clicks in split.train.to_lists() for item in clicks}
    found = []
    rest = list(lists)
    for name in ("test", "validation", "train"):
        for clicks in parts(split)[name].to_lists() if name in parts(split) else []:
            match = next(
                i
                for i, original in enumerate(rest)
                if [item if item in known else None for item in original] == clicks
            )
            found.append(rest.pop(match))
    assert sorted(found) == sorted(lists)
    assert_well_formed(split)


def test_session_split_same_seed_gives_the_same_parts_with_or_without_validation():
    sessions = timed([[("a", s), ("b", s)] for s in range(50)])
    split = session_split(sessions, 0.3, seed=1)
    again = session_split(sessions, 0.3, seed=1, validation=0.2)
    other = session_split(sessions, 0.3, seed=2)
    assert split.test.session_ids.tolist() == again.test.session_ids.tolist()
    assert split.test.session_ids.tolist() != other.test.session_ids.tolist()
    assert (np.diff(split.test.session_ids) > 0).all()
    assert [len(part) for part in parts(again).values()] == [28, 7, 15]
    ids = [s for part in parts(again).values() for s in part.session_ids]
    assert sorted(ids) == list(range(50))


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan")])
def test_session_split_share_out_of_range_says_so(share):
    sessions = Sessions.from_lists([["a", "b"]] * 4)
    with pytest.raises(ValueError, match="test_fraction is a share"):
        session_split(sessions, share)
    with pytest.raises(ValueError, match="validation is a share"):
        session_split(sessions, validation=share)
    with pytest.raises(ValueError, match="validation is a share"):
        fixed_split(sessions, sessions, share)


def test_session_split_of_one_session_says_so():
    with pytest.raises(ValueError, match="takes 1 of 1 sessions"):
        session_split(Sessions.from_lists([["a", "b"]]))


# -- fixed -------------------------------------------------------------------------------------


def test_fixed_split_matches_items_and_users_by_id():
    train = Sessions.from_lists([["a", "b"], ["b", "c"]], users=["u", "v"])
    test = Sessions.from_lists([["c", "a"], ["x", "y"], ["x", "a", "b"]], users=["v", "w", "u"])
    split = fixed_split(train, test)
    assert split.test.to_lists() == [["c", "a"], [None, None], [None, "a", "b"]]
    assert split.test.users.tolist() == [1, -1, 0]
    assert split.test.user_vocabulary == train.user_vocabulary
    row = split.report.loc["test"]
    assert (row["items"], row["unknown_items"], row["unknown_clicks"]) == (5, 2, 3)
    # x -> y and the x before a have no history; y is unknown.
    assert (row["targets"], row["unknown_targets"], row["targets_without_history"]) == (4, 1, 2)
    assert_well_formed(split)


def test_fixed_split_validation_share_takes_the_last_sessions():
    train = Sessions.from_lists([["a", "b"], ["b", "a"], ["a", "c"], ["c", "d"]])
    split = fixed_split(train, train, 0.5)
    assert split.train.to_lists() == [["a", "b"], ["b", "a"]]
    assert split.validation.to_lists() == [["a", None], [None, None]]
    assert split.report.loc["validation", "targets_without_history"] == 1
    assert split.protocol == {"split": "fixed", "validation": 0.5}


def test_fixed_split_validation_sessions_are_taken_as_they_are():
    train = Sessions.from_lists([["a", "b"]])
    split = fixed_split(train, train, Sessions.from_lists([["b", "z"]]))
    assert split.validation.to_lists() == [["b", None]]


def test_fixed_split_first_target_of_the_parts_is_kept():
    train = Sessions.from_lists([["a", "b", "a"]])
    test = leave_last_split(train).test
    assert fixed_split(train, test).test.first_target.tolist() == [2]


def test_fixed_split_ids_of_another_type_shows_one_of_each():
    with pytest.raises(ValueError, match="'1' is text, the known 1 is a whole number"):
        fixed_split(Sessions.from_lists([[1, 2]]), Sessions.from_lists([["1", "2"]]))


def test_fixed_split_without_a_known_item_warns(caplog):
    split = fixed_split(Sessions.from_lists([[1, 2]]), Sessions.from_lists([[3, 4]]))
    assert "No item of the test part occurs in training" in caplog.text
    assert split.report.loc["test", "unknown_targets"] == 1


def test_fixed_split_click_features_take_the_codes_of_training():
    train = timed([[("a", 0), ("b", 0)]], shop=["s", "t"])
    test = timed([[("b", 0), ("a", 0), ("a", 0)]], shop=["t", "s", "new"])
    split = fixed_split(train, test, shared_ids=True)
    assert split.test.click_features["shop"].tolist() == [1, 0, -1]
    assert split.test.feature_vocabularies["shop"] == train.feature_vocabularies["shop"]


def test_fixed_split_different_click_features_says_so():
    with pytest.raises(ValueError, match=r"click features of training are \['shop'\]"):
        fixed_split(timed([[("a", 0), ("b", 0)]], shop=["s", "t"]), timed([[("a", 0), ("b", 0)]]))


def test_fixed_split_of_parts_that_share_a_session_id_is_refused():
    def named(clicks, ids):
        return replace(Sessions.from_lists(clicks), session_ids=np.array(ids, dtype=object))

    train = named([list("ab"), list("bc"), list("ca")], ["s", "t", "u"])
    test = named([list("ab"), list("bcb"), list("cab")], ["t", "v", "s"])
    told = r"The training and test parts share 2 of their session ids, the first is 's': "
    with pytest.raises(ValueError, match=told) as refused:
        fixed_split(train, test)
    assert "\n" not in str(refused.value)
    assert fixed_split(train, test, shared_ids=True).test.num_sessions == 3
    with pytest.raises(ValueError, match=r"The validation and test parts share 1 of .* is 'v'"):
        fixed_split(train.select([2]), test, named([list("cb")], ["v"]))
    with pytest.raises(ValueError, match="shared_ids"):
        fixed_split(train, test, shared_ids="yes")


def test_fixed_split_takes_histories_of_which_a_later_part_has_more():
    log = replace(Sessions.from_lists([list("abcd"), list("bcda")]), session_ids=np.arange(2))
    parts = leave_last_split(log, 1, validation=1)
    again = fixed_split(parts.train, parts.test, parts.validation)
    assert again.test.first_target.tolist() == [3, 3]
    # The same clicks as targets of the test, and another history under the same id.
    with pytest.raises(ValueError, match=r"training and test parts share 2 of .* is 0:"):
        fixed_split(parts.test, parts.test)
    other = replace(parts.train, items=parts.train.items[::-1].copy())
    with pytest.raises(ValueError, match="training and test parts share 2 of"):
        fixed_split(other, parts.test)


def test_split_parts_keep_every_field():
    rows = [(s, item, s * DAY, f"u{s}", f"{item}{s}") for s in range(4) for item in "ab"]
    frame = pd.DataFrame(rows, columns=["session_id", "item_id", "time", "user", "shop"])
    frame.loc[len(frame)] = (3, "new", 3 * DAY, "u3", "x")
    sessions = Sessions.from_frame(
        frame, time="time", user="user", features=["shop"], item_features=["item_id"]
    )
    split = temporal_split(sessions, test_days=1, validation=0.5)
    assert split.train.session_ids.tolist() == [0]
    assert split.train.user_vocabulary.ids.tolist() == ["u0"]
    assert split.train.feature_vocabularies["shop"].ids.tolist() == ["a0", "b0"]
    assert split.train.item_features["item_id"].tolist() == ["a", "b"]
    assert split.test.item_features["item_id"].tolist() == ["a", "b"]
    assert split.test.session_ids.tolist() == [2, 3]
    assert split.test.users.tolist() == [-1, -1]
    assert split.test.click_features["shop"].tolist() == [-1] * 5
    assert split.test.time.tolist() == [2 * DAY] * 2 + [3 * DAY] * 3


def test_split_empty_part_says_which():
    sessions = Sessions.from_lists([["a", "b"]])
    empty = sessions.select(np.zeros(1, dtype=bool))
    with pytest.raises(ValueError, match="no session in train"):
        fixed_split(empty, sessions)
    with pytest.raises(ValueError, match="no session in test"):
        fixed_split(sessions, empty)
    with pytest.raises(ValueError, match="no session in validation"):
        fixed_split(sessions, sessions, empty)
    for split in (session_split, leave_last_split):
        with pytest.raises(ValueError, match="no session in sessions"):
            split(empty)


def test_split_repr_is_short():
    sessions = Sessions.from_lists([["a", "b"]])
    expected = "Split(train=1, validation=0, test=1, num_items=2)"
    assert repr(fixed_split(sessions, sessions)) == expected


@pytest.mark.data
def test_fixed_split_yoochoose_gives_the_published_counts(data_root):
    folder = data_root / "yoochoose1_64"
    split = fixed_split(
        read_session_lines(folder / "train_sessions.txt.gz"),
        read_session_lines(folder / "test_sessions.txt.gz"),
    )
    assert split.num_items == 17_376
    assert split.report["targets"].to_dict() == {"train": 369_859, "test": 55_898}
    assert split.report.loc["test", "unknown_targets"] == 412
    assert split.report.loc["test", "targets_without_history"] == 135


# -- shares of every session -----------------------------------------------------------------------


def test_leave_last_split_of_a_share_is_8_1_1_per_user():
    lists = [list(range(length)) for length in (30, 20, 19, 10, 3, 2, 1)]
    split = leave_last_split(Sessions.from_lists(lists), 0.1, validation=0.1)
    tested = split.test.lengths - split.test.targets_from
    held = split.validation.lengths - split.validation.targets_from
    assert split.test.lengths.tolist() == [30, 20, 19, 10, 3, 2]
    assert tested.tolist() == [3, 2, 1, 1, 1, 1]
    assert split.validation.lengths.tolist() == [27, 18, 18, 9, 2]
    assert held.tolist() == [3, 2, 1, 1, 1]
    assert split.train.lengths.tolist() == [24, 16, 17, 8, 1, 1, 1]
    assert split.protocol == {"split": "leave_last", "n": 0.1, "validation": 0.1}
    assert split.report.loc["test", "sessions_too_short"] == 1
    assert split.report.loc["validation", "sessions_too_short"] == 2


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_leave_last_split_of_no_share_is_refused(share):
    with pytest.raises(ValueError, match="at least 1, or a share of them below 1, got"):
        leave_last_split(Sessions.from_lists([[1, 2, 3]]), share)
