"""Sessions: built from lists and logs, cut, and compared."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.filters import keep_min_support
from graphseq.data.sessions.fingerprint import table_fingerprint
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.data.splits.splits import fixed_split

ITEMS = st.one_of(st.integers(0, 9), st.sampled_from("abcdefgh"))
LISTS = st.lists(st.lists(ITEMS, min_size=1, max_size=6), min_size=1, max_size=8)
LOG = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from("abc"), st.integers(0, 4)), min_size=1, max_size=25
)


def a_log() -> pd.DataFrame:
    """Two sessions, interleaved; session 2 comes first, two of its clicks at one time."""
    return pd.DataFrame(
        {
            "session_id": [2, 1, 2, 1, 2],
            "item_id": ["x", "y", "z", "z", "x"],
            "t": [5, 3, 1, 4, 1],
            "user": ["p", "q", "p", None, "p"],
            "price": [1.5, np.nan, 2.0, 3.0, 4.0],
            "colour": ["red", None, "blue", "red", "red"],
            "sold": [True, False, True, True, False],
        }
    )


@given(LISTS)
def test_from_lists_to_lists_comes_back(lists: list[list[Any]]) -> None:
    sessions = Sessions.from_lists(lists)
    assert sessions.to_lists() == lists
    assert list(sessions) == lists
    assert sessions.lengths.tolist() == [len(ids) for ids in lists]
    assert sessions.num_targets == sum(len(ids) - 1 for ids in lists)


@given(LOG)
def test_from_frame_any_order_equals_naive_grouping(log: list[tuple[int, str, int]]) -> None:
    frame = pd.DataFrame(log, columns=["session_id", "item_id", "time"])
    naive: dict[int, list[tuple[int, int, str]]] = {}
    for row, (session, item, time) in enumerate(log):
        naive.setdefault(session, []).append((time, row, item))
    expected = [[item for *_, item in sorted(clicks)] for clicks in naive.values()]
    sessions = Sessions.from_frame(frame, time="time")
    assert sessions.to_lists() == expected
    assert list(sessions.session_ids) == list(naive)
    first_seen = list(dict.fromkeys(item for clicks in expected for item in clicks))
    assert sessions.vocabulary.ids.tolist() == first_seen


@given(LOG)
def test_from_frame_to_frame_comes_back(log: list[tuple[int, str, int]]) -> None:
    frame = pd.DataFrame(log, columns=["session_id", "item_id", "time"])
    first = Sessions.from_frame(frame, time="time", features=["item_id"])
    again = Sessions.from_frame(first.to_frame(), time="time", features=["item_id"])
    assert again.fingerprint() == first.fingerprint()
    pd.testing.assert_frame_equal(again.to_frame(), first.to_frame())


@given(LOG, st.integers(1, 5))
def test_from_events_any_gap_equals_naive_cutting(
    log: list[tuple[int, str, int]], gap: int
) -> None:
    frame = pd.DataFrame(log, columns=["user_id", "item_id", "timestamp"])
    expected, users = [], []
    for user in dict.fromkeys(user for user, *_ in log):
        clicks = sorted((t, row, i) for row, (u, i, t) in enumerate(log) if u == user)
        for number, (time, _, item) in enumerate(clicks):
            if number == 0 or time - clicks[number - 1][0] > gap:
                expected.append([])
                users.append(user)
            expected[-1].append(item)
    sessions = Sessions.from_events(frame, gap=float(gap))
    assert sessions.to_lists() == expected
    assert sessions.user_vocabulary is not None
    assert sessions.user_vocabulary.decode(sessions.users) == users
    whole = Sessions.from_events(frame, gap=None)
    assert len(whole) == len(set(users))


def test_from_frame_by_hand_orders_ties_users_and_features() -> None:
    sessions = Sessions.from_frame(
        a_log(), item="item_id", time="t", user="user", features=["price", "colour", "sold", "t"]
    )
    assert sessions.to_lists() == [["z", "x", "x"], ["y", "z"]]
    assert sessions.time.tolist() == [1, 1, 5, 3, 4]
    assert sessions.user_vocabulary.decode(sessions.users) == ["p", "q"]
    np.testing.assert_array_equal(sessions.click_features["price"], [2.0, 4.0, 1.5, np.nan, 3.0])
    assert sessions.click_features["t"].dtype == np.int64
    assert sessions.click_features["colour"].tolist() == [0, 1, 1, -1, 1]
    frame = sessions.to_frame()
    assert frame["colour"].tolist()[:3] == ["blue", "red", "red"]
    assert frame["colour"].isna().tolist() == [False, False, False, True, False]
    assert frame["sold"].tolist() == [True, False, True, False, True]
    assert frame["user_id"].tolist() == ["p", "p", "p", "q", "q"]


def test_from_frame_leaves_the_frame_alone() -> None:
    frame = a_log()
    Sessions.from_frame(frame, time="t", features=["colour"], item_features=["price"])
    pd.testing.assert_frame_equal(frame, a_log())


def test_from_frame_item_columns_take_the_first_click_of_each_item() -> None:
    sessions = Sessions.from_frame(a_log(), time="t", item_features=["price", "sold"])
    assert sessions.vocabulary.ids.tolist() == ["z", "x", "y"]
    np.testing.assert_array_equal(sessions.item_features["price"], [2.0, 4.0, np.nan])
    assert sessions.item_features["sold"].tolist() == [True, False, False]


def test_from_frame_item_table_goes_by_id_and_lacks_nothing_silently() -> None:
    table = pd.DataFrame({"title": ["Y", "X", "none"]}, index=["y", "x", "w"])
    sessions = Sessions.from_frame(a_log(), item_features=table)
    titles = dict(zip(sessions.vocabulary.ids, sessions.item_features["title"], strict=True))
    assert (titles["x"], titles["y"]) == ("X", "Y")
    assert pd.isna(titles["z"])
    with pytest.raises(ValueError, match="describes no item"):
        Sessions.from_frame(a_log(), item_features=table.set_axis([1, 2, 3]))
    with pytest.raises(ValueError, match="'y' twice"):
        Sessions.from_frame(a_log(), item_features=table.set_axis(["y", "y", "x"]))


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "Europe/Paris"])
def test_from_frame_dates_of_any_unit_become_seconds(unit: str, zone: str | None) -> None:
    dates = pd.Series(pd.to_datetime(["1970-01-01", "2016-05-09"])).astype(f"datetime64[{unit}]")
    frame = a_log().iloc[:2].assign(t=dates.dt.tz_localize(zone))
    hours = 0 if zone is None else 1
    summer = 0 if zone is None else 2
    seconds = Sessions.from_frame(frame, time="t").time
    assert seconds.tolist() == [-3600 * hours, 1462752000 - 3600 * summer]


def test_from_frame_dates_far_in_the_future_do_not_overflow() -> None:
    frame = a_log().iloc[:1].assign(t=pd.Series(["2500-01-01"]).astype("datetime64[s]"))
    assert Sessions.from_frame(frame, time="t").time.tolist() == [16725225600]


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        (pd.Series(["2016-05-09 00:00:01", "2016-05-09T00:00Z"]), [1462752001, 1462752000]),
        (pd.Series(["09.05.2016", "10.05.2016"]), None),
        (pd.Series([date(2016, 5, 9), date(2016, 5, 10)]), [1462752000, 1462838400]),
        (pd.Series(["2016-05-09", "2016-05-10"]), [1462752000, 1462838400]),
        (pd.Series(["2016-05-09", "2016-05-10"], dtype="category"), [1462752000, 1462838400]),
        (pd.Series([3, 4], dtype=object), [3, 4]),
        (pd.Series([3, 4], dtype="Int64"), [3, 4]),
        (pd.to_timedelta(pd.Series([3, 4]), unit="min"), [180, 240]),
    ],
    ids=["iso", "day-first", "dates", "text", "categories", "objects", "Int64", "durations"],
)
def test_from_frame_times_of_other_types_become_seconds_or_say_why(
    values: pd.Series, seconds: list[int] | None
) -> None:
    frame = a_log().iloc[:2].assign(t=values)
    if seconds is None:
        with pytest.raises(ValueError, match="neither numbers nor dates"):
            Sessions.from_frame(frame, time="t")
    else:
        assert Sessions.from_frame(frame, time="t").time.tolist() == seconds


def test_from_frame_time_that_is_text_is_refused() -> None:
    with pytest.raises(ValueError, match="'item_id' holds neither numbers nor dates"):
        Sessions.from_frame(a_log(), time="item_id")


@pytest.mark.parametrize(
    ("column", "value"),
    [("session_id", np.nan), ("item_id", None), ("t", np.nan), ("t", np.inf), ("t", pd.NaT)],
)
def test_from_frame_missing_value_is_counted_and_its_rows_named(column: str, value: Any) -> None:
    frame = pd.concat([a_log()] * 3, ignore_index=True).astype({column: object})
    frame.loc[[1, 3, 5, 7, 9, 11], column] = value
    with pytest.raises(
        ValueError, match=r"(missing|infinite) in 6 of its rows \(row 1, 3, 5, 7, 9, \.\.\."
    ):
        Sessions.from_frame(frame.infer_objects(), time="t")


def test_from_events_missing_item_is_named_by_the_row_of_the_log() -> None:
    frame = a_log().assign(item_id=["x", "y", "z", None, "x"])
    with pytest.raises(ValueError, match=r"'item_id' is missing in 1 of its rows \(row 3,"):
        Sessions.from_events(frame, user="session_id", time="t")


def test_from_frame_missing_column_lists_those_that_exist() -> None:
    with pytest.raises(ValueError, match=r"no column 'when', 'shape'; it has 'session_id', 'item"):
        Sessions.from_frame(a_log(), time="when", features=["shape"])


def test_from_frame_repeated_column_is_refused() -> None:
    frame = pd.concat([a_log(), a_log()[["t"]]], axis=1)
    with pytest.raises(ValueError, match="several columns named 't'"):
        Sessions.from_frame(frame, time="t")


def test_from_frame_one_text_for_a_list_of_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="lists of column names"):
        Sessions.from_frame(a_log(), features="price")


def test_from_frame_empty_log_is_refused() -> None:
    for make in (Sessions.from_frame, Sessions.from_events):
        empty = a_log().iloc[:0].rename(columns={"t": "timestamp", "user": "user_id"})
        with pytest.raises(ValueError, match="log is empty"):
            make(empty)


def test_from_frame_session_of_two_users_is_refused_by_name() -> None:
    frame = a_log().assign(user=["p", "q", "p", "r", "p"])
    with pytest.raises(ValueError, match=r"several in 1 sessions, the first of them .*1"):
        Sessions.from_frame(frame, user="user")


def test_from_frame_session_without_user_is_of_nobody() -> None:
    sessions = Sessions.from_frame(a_log().assign(user=[None, "q", None, "q", None]), user="user")
    assert sessions.users.tolist() == [-1, 0]


@pytest.mark.parametrize("gap", [0, -1.0, "0s", float("nan"), "soon"])
def test_from_events_bad_gap_is_refused(gap: Any) -> None:
    with pytest.raises(ValueError, match="gap"):
        Sessions.from_events(a_log(), user="session_id", time="t", gap=gap)


def test_from_events_gap_as_text_cuts_after_that_long() -> None:
    frame = pd.DataFrame({"user_id": 1, "item_id": [1, 2, 3], "timestamp": [0, 1800, 3601]})
    assert Sessions.from_events(frame).to_lists() == [[1, 2], [3]]
    assert Sessions.from_events(frame, gap=1801.0).to_lists() == [[1, 2, 3]]


# -- built by hand -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        ([], "no session"),
        ([["a"], [], ["b"], []], r"Session 1 is empty \(2 in all\)"),
        ([["a", None]], r"item of click 1 of session 0 is missing: it is None \(1 such"),
        (["abc"], r"session 0 is 'abc': write \[\[\.\.\.\]\]"),
    ],
)
def test_from_lists_bad_lists_are_refused(lists: list[Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Sessions.from_lists(lists)


def test_from_lists_with_vocabulary_of_ids_of_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match=r"None of these 2 items is known.*'1' is text"):
        Sessions.from_lists([["1", "2"]], vocabulary=Vocabulary([1, 2]))
    unknown = Sessions.from_lists([["c", "d"]], vocabulary=Vocabulary(["a"]))
    assert unknown.items.tolist() == [-1, -1]


def test_from_lists_with_vocabulary_codes_unknown_items_as_minus_one() -> None:
    sessions = Sessions.from_lists([["a", "q"], ["b"]], vocabulary=Vocabulary(["b", "a"]))
    assert sessions.items.tolist() == [1, -1, 0]
    assert sessions.to_lists() == [["a", None], ["b"]]
    assert sessions[0] == ["a", None]
    assert sessions.to_frame()["item_id"].isna().tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("ptr", "words"),
    [
        ([1, 3], "start at 0"),
        ([0, 2, 2, 3], r"session 1 spans clicks 2\.\.2"),
        ([0, 3, 1, 3], "session 1 spans"),
        ([0, 2], "ptr ends at 2, but there are 3"),
        ([0], "no session"),
    ],
)
def test_from_ragged_bad_ptr_is_refused(ptr: list[int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Sessions.from_ragged(["a", "b", "c"], ptr)


def test_sessions_wrong_types_and_lengths_are_refused() -> None:
    items, ptr, ids = np.zeros(2, np.int32), np.array([0, 2]), Vocabulary(["a"])
    with pytest.raises(ValueError, match="got int64"):
        Sessions(items.astype(np.int64), ptr, ids)
    with pytest.raises(ValueError, match=r"got 0\.\.3"):
        Sessions(items, np.array([0, 3]), ids)
    with pytest.raises(ValueError, match=r"time needs one value per click: 2, got 1"):
        Sessions(items, ptr, ids, time=np.zeros(1))
    with pytest.raises(ValueError, match="one value per session: 1, got 2"):
        Sessions(items, ptr, ids, users=np.zeros(2, np.int32))
    with pytest.raises(ValueError, match="one row per item: 1, got 2"):
        Sessions(items, ptr, ids, item_features=pd.DataFrame({"a": [1, 2]}))


OTHER_TYPES: dict[str, Any] = {
    "time": np.array([5, 6]),
    "users": [0],
    "first_target": np.array([1], dtype=np.int32),
    "listed": np.array([1, 0]),
    "click_features": {"price": [1.5, 2.5]},
}


@pytest.mark.parametrize("name", OTHER_TYPES)
def test_sessions_of_other_types_open_again_once_saved(name: str, tmp_path: Path) -> None:
    fields: dict[str, Any] = {name: OTHER_TYPES[name], "user_vocabulary": Vocabulary(["u"])}
    sessions = Sessions.from_ragged(["a", "b"], [0, 2], **fields)
    sessions.save(tmp_path / "saved")
    again = Sessions.open(tmp_path / "saved")
    assert again.fingerprint() == sessions.fingerprint()
    for made in (sessions, again):
        value = made.click_features["price"] if name == "click_features" else getattr(made, name)
        given = OTHER_TYPES[name]["price"] if name == "click_features" else OTHER_TYPES[name]
        np.testing.assert_array_equal(value, given)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"time": np.array(["2020", "2021"])}, r"time must be float64 .* got <U4 \[2\]"),
        ({"time": np.zeros((2, 1))}, r"time must be float64 with one dimension"),
        ({"users": np.array([0.5])}, r"users must be int32 .* got float64"),
        ({"users": np.array([2**40])}, r"users must be int32 .* got int64"),
        (
            {"click_features": {"f": np.array(["x", "y"])}},
            r"number per click, got 'f' with <U1",
        ),
        ({"click_features": {5: np.zeros(2)}}, "a name that is text .* got 5"),
    ],
)
def test_sessions_of_types_that_would_change_values_are_refused(
    fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        Sessions.from_ragged(["a", "b"], [0, 2], **fields)
    with pytest.raises(ValueError, match=r"ptr must be int64 .* got float64"):
        Sessions.from_ragged(["a", "b"], [0, 1.5, 2])


@pytest.mark.parametrize("name", ["index", "time", "item", "batch", "ptr"])
def test_click_feature_of_a_name_that_graphs_have_is_refused(name: str, tmp_path: Path) -> None:
    log = pd.DataFrame({"session_id": [1, 1], "item_id": [1, 2], name: [7, 8]})
    log.to_parquet(tmp_path / "log.parquet")
    words = f"cannot be named '{name}'.* field click_{name} of their own: rename"
    with pytest.raises(ValueError, match=words):
        Sessions.from_frame(log, features=[name])
    with pytest.raises(ValueError, match=words):
        Sessions.from_frame(tmp_path / "log.parquet", features=[name], out=tmp_path / "out")
    with pytest.raises(ValueError, match=words):
        Sessions.from_ragged([1, 2], [0, 2], click_features={name: np.zeros(2)})
    assert not (tmp_path / "out").exists()


def test_to_frame_of_a_feature_named_as_another_column_is_refused() -> None:
    log = pd.DataFrame({"session_id": [1, 1], "sku": ["a", "b"], "item_id": [7, 8]})
    sessions = Sessions.from_frame(log, item="sku", features=["item_id"])
    with pytest.raises(ValueError, match=r"has a column 'item_id' already.*another name"):
        sessions.to_frame()


@pytest.mark.parametrize("users", [[4, 0], [4, -1]])
def test_to_frame_has_users_without_a_vocabulary(users: list[int]) -> None:
    sessions = replace(Sessions.from_lists([["a", "b"], ["c"]]), users=np.array(users))
    ids = [user if user >= 0 else None for user in users]
    frame, table = sessions.to_frame()["user_id"], sessions.session_table()["user_id"]
    assert frame.astype(object).where(frame.notna(), None).tolist() == [ids[0], *ids]
    assert table.astype(object).where(table.notna(), None).tolist() == ids
    again = Sessions.from_frame(sessions.to_frame(), user="user_id").session_table()["user_id"]
    assert again.astype(object).where(again.notna(), None).tolist() == ids


def test_from_frame_feature_of_a_column_without_a_name_is_saved(tmp_path: Path) -> None:
    log = pd.DataFrame([[1, "a", "x"], [1, "b", "y"]])
    sessions = Sessions.from_frame(log, session=0, item=1, features=[2])  # type: ignore[arg-type,list-item]
    sessions.save(tmp_path / "saved")
    again = Sessions.open(tmp_path / "saved")
    assert again.to_frame()["2"].tolist() == sessions.to_frame()["2"].tolist() == ["x", "y"]


def test_from_frame_item_feature_of_a_column_without_a_name_is_saved(tmp_path: Path) -> None:
    log = pd.DataFrame([[1, "a", "x"], [1, "b", "y"]])
    sessions = Sessions.from_frame(log, session=0, item=1, item_features=[2, 2])  # type: ignore[arg-type,list-item]
    sessions.save(tmp_path / "saved")
    saved = Sessions.open(tmp_path / "saved").item_features
    assert sessions.item_features is not None
    assert saved is not None
    pd.testing.assert_frame_equal(saved, sessions.item_features)
    assert saved["2"].tolist() == ["x", "y"]


@pytest.mark.parametrize("columns", [[1, 2], [("a", 1), ("b", 2)], [None, "a"], ["a", "a"]])
def test_item_features_whose_columns_no_file_could_name_are_refused(
    columns: list[Any], tmp_path: Path
) -> None:
    sessions = Sessions.from_lists([["p", "q"]])
    table = pd.DataFrame([[1, 2], [3, 4]], index=["p", "q"], columns=columns)
    sessions.to_frame().to_parquet(tmp_path / "log.parquet")
    reasons = r"columns of item_features have names that are text|two columns 'a'"
    for made in (
        lambda: sessions.with_item_features(table),
        lambda: sessions.with_items(table),
        lambda: Sessions.from_frame(sessions.to_frame(), item_features=table),
        lambda: Sessions.from_frame(
            tmp_path / "log.parquet", item_features=table, out=tmp_path / "out"
        ),
        lambda: Catalog(sessions.vocabulary, np.ones(2, np.int64), item_features=table),
    ):
        with pytest.raises(ValueError, match=reasons):
            made()
    assert not (tmp_path / "out").exists()


def test_sessions_one_click_counts_as_a_session_without_target() -> None:
    sessions = Sessions.from_lists([["a"]])
    assert (sessions.num_sessions, sessions.num_clicks, sessions.num_targets) == (1, 1, 0)
    assert repr(sessions) == "Sessions(num_sessions=1, num_clicks=1, num_items=1)"
    with pytest.raises(IndexError, match="Session 1 does not exist"):
        sessions[1]


# -- cut -----------------------------------------------------------------------------------------


def full() -> Sessions:
    return Sessions.from_frame(
        a_log(), time="t", user="user", features=["price"], item_features=["price"]
    )


@given(LISTS, st.data())
@settings(max_examples=30)
def test_select_numbers_and_masks_equal_python_indexing(
    lists: list[list[Any]], data: st.DataObject
) -> None:
    sessions, n = Sessions.from_lists(lists), len(lists)
    index = data.draw(st.lists(st.integers(-n, n - 1), max_size=10))
    assert sessions.select(index).to_lists() == [lists[i] for i in index]
    mask = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    kept = [ids for ids, keep in zip(lists, mask, strict=True) if keep]
    assert sessions.select(np.array(mask)).to_lists() == kept


def test_select_neighbors_shares_memory_and_others_do_not() -> None:
    sessions = Sessions.from_lists([["a", "b"], ["c"], ["a"]])
    assert np.shares_memory(sessions.select([1, 2]).items, sessions.items)
    assert not np.shares_memory(sessions.select([2, 1]).items, sessions.items)


def test_select_carries_every_field() -> None:
    chosen = full().select([1])
    assert chosen.to_lists() == [["y", "z"]]
    assert chosen.time.tolist() == [3, 4]
    assert chosen.user_vocabulary.decode(chosen.users) == ["q"]
    assert list(chosen.session_ids) == [1]
    np.testing.assert_array_equal(chosen.click_features["price"], [np.nan, 3.0])


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ([2], r"Session 2 does not exist: there are 2"),
        ([-3, 5], r"Session -3 does not exist.*2 such"),
        ([True], r"bool \[2\], got \[1\]"),
        ([0.5], "integers"),
        ([[0]], "Session numbers"),
    ],
)
def test_select_bad_index_is_refused(index: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("integers", "Session numbers")):
        full().select(index)


def test_window_moves_first_target_along() -> None:
    sessions = Sessions.from_ragged([0, 1, 2, 3, 4, 5], [0, 4, 6], first_target=np.array([2, 1]))
    cut = sessions.window([0, 1], [1, 0], [4, 2])
    assert cut.to_lists() == [[1, 2, 3], [4, 5]]
    assert cut.targets_from.tolist() == [1, 1]
    assert sessions.window([0], [3], [4]).targets_from.tolist() == [1]


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (1, 1), (0, 4), (3, 4)])
def test_window_outside_its_session_is_refused(start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="session 0 with 3 clicks"):
        full().window([0], [start], [stop])


@given(LISTS, st.data())
@settings(max_examples=30)
def test_keep_clicks_any_mask_keeps_the_same_targets(
    lists: list[list[Any]], data: st.DataObject
) -> None:
    flat = Sessions.from_lists(lists)
    first = [data.draw(st.integers(1, len(ids))) for ids in lists]
    sessions = Sessions.from_ragged(
        flat.vocabulary.column(flat.items), flat.ptr, first_target=np.array(first)
    )
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=len(flat.items), max_size=99)))
    keep = keep[: len(flat.items)]
    expected, targets = [], []
    for s, ids in enumerate(lists):
        mask = keep[flat.ptr[s] : flat.ptr[s + 1]]
        kept = [p for p in range(len(ids)) if mask[p]]
        if kept:
            expected.append([ids[p] for p in kept])
            targets.append(max(1, sum(p < first[s] for p in kept)))
    found = sessions.keep_clicks(keep)
    assert found.to_lists() == expected
    assert found.targets_from.tolist() == targets


def test_keep_clicks_that_is_no_mask_is_refused() -> None:
    with pytest.raises(ValueError, match=r"bool \[5\], got int64 \[2\]"):
        full().keep_clicks(np.array([0, 1]))


def test_with_vocabulary_recodes_items_and_their_features() -> None:
    sessions = full()
    other = sessions.with_vocabulary(Vocabulary(["y", "new", "x"]))
    assert other.to_lists() == [[None, "x", "x"], ["y", None]]
    np.testing.assert_array_equal(other.item_features["price"], [np.nan, np.nan, 4.0])
    assert other.with_vocabulary(other.vocabulary) is other


def test_with_user_vocabulary_recodes_users() -> None:
    other = full().with_user_vocabulary(Vocabulary(["q"]))
    assert other.users.tolist() == [-1, 0]
    assert other.to_frame()["user_id"].isna().tolist() == [True, True, True, False, False]
    assert full().with_user_vocabulary(None).users is None


def test_drop_unused_items_keeps_order_and_features() -> None:
    sessions = full().select([1]).drop_unused_items()
    assert sessions.vocabulary.ids.tolist() == ["z", "y"]
    assert sessions.to_lists() == [["y", "z"]]
    np.testing.assert_array_equal(sessions.item_features["price"], [2.0, np.nan])
    assert sessions.catalog().counts.tolist() == [1, 1]


# -- told apart ----------------------------------------------------------------------------------


def test_fingerprint_equal_data_is_equal_and_any_change_is_not() -> None:
    base = full()
    frame = a_log()
    options = {"time": "t", "user": "user", "features": ["price"]}
    changed = [
        Sessions.from_frame(frame.assign(t=[5, 3, 1, 4, 2]), **options),
        Sessions.from_frame(frame.assign(item_id=["x", "y", "z", "z", "w"]), **options),
        Sessions.from_frame(frame.assign(user=["r", "q", "r", "q", "r"]), **options),
        Sessions.from_frame(frame.assign(price=1.0), **options),
        Sessions.from_frame(frame, time="t", user="user"),
        base.select([1, 0]),
        base.select([0]),
        base.window([0, 1], [0, 0], [2, 2]),
    ]
    prints = {sessions.fingerprint() for sessions in [base, *changed]}
    assert len(prints) == len(changed) + 1
    assert full().fingerprint() == base.fingerprint()
    assert base.select([0, 1]).fingerprint() == base.fingerprint()


@pytest.mark.parametrize("size", [3, 2000])
def test_fingerprint_of_a_table_reads_every_number_of_its_vectors(size: int) -> None:
    vectors = np.arange(2 * size, dtype=np.float32).reshape(2, size)
    table = pd.DataFrame({"title": ["a", "b"], "vector": list(vectors)})
    before = table_fingerprint(table)
    with np.printoptions(precision=2, threshold=2):
        assert table_fingerprint(table.copy(deep=True)) == before
    found = {before, table_fingerprint(table.rename(columns={"title": "name"}))}
    for place in (0, size // 2, size - 1):
        changed = vectors.copy()
        changed[1, place] += 1
        found.add(table_fingerprint(table.assign(vector=list(changed))))
    assert len(found) == 5


def test_fingerprint_tells_integers_from_their_text() -> None:
    numbers, text = Sessions.from_lists([[1, 2]]), Sessions.from_lists([["1", "2"]])
    assert numbers.fingerprint() != text.fingerprint()


def test_catalog_counts_piece_by_piece_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = Sessions.from_lists([[3, 1, 3], [2, 9, 3, 9]], vocabulary=Vocabulary([1, 2, 3, 4]))
    monkeypatch.setattr("graphseq.data.sessions.ragged.CODES_PER_PIECE", 2)
    assert sessions.catalog().counts.tolist() == [1, 1, 3, 0]
    assert sessions.drop_unused_items().vocabulary.ids.tolist() == [1, 2, 3]


# -- asking for several, and features that come later ----------------------------------------------


def test_sessions_slice_gives_sessions():
    sessions = Sessions.from_lists([["a", "b"], ["c"], ["b", "c"], ["a"]])
    for part in (slice(1, 3), slice(None, None, -1), slice(-2, None), slice(0, 0), slice(2, 99)):
        assert sessions[part].to_lists() == sessions.to_lists()[part]
        assert sessions[part].vocabulary is sessions.vocabulary
    assert sessions[np.int64(2)] == ["b", "c"]


@pytest.mark.parametrize("index", ["a", 1.0, [0, 1], np.array([True, False]), None, True])
def test_sessions_asked_for_in_another_way_say_what_to_do(index):
    with pytest.raises(TypeError, match=r"sessions\[2:5\], got .*sessions\.select takes"):
        Sessions.from_lists([["a"], ["b"]])[index]


def test_with_item_features_brings_rows_in_the_order_of_codes():
    sessions = Sessions.from_lists([["b", "a"], ["c"]])
    table = pd.DataFrame({"price": [1, 2, 9], "shelf": ["x", "y", "z"]}, index=["a", "b", "other"])
    features = sessions.with_item_features(table).item_features
    assert features["price"].tolist()[:2] == [2, 1]
    assert features["price"].isna().tolist() == [False, False, True]
    assert features["shelf"].tolist()[:2] == ["y", "x"]
    assert sessions.item_features is None
    whole = sessions.with_item_features(pd.Series({"a": 1, "b": 2, "c": 3}, name="price"))
    assert whole.item_features["price"].tolist() == [2, 1, 3]
    assert whole.item_features["price"].dtype == np.int64
    assert whole.catalog().item_features["price"].tolist() == [2, 1, 3]


def test_with_item_features_of_other_items_or_twice_is_refused():
    sessions = Sessions.from_lists([["a", "b"]])
    with pytest.raises(ValueError, match=r"No item of these sessions has a row.*\['x'\].*\['a'\]"):
        sessions.with_item_features(pd.DataFrame({"price": [1]}, index=["x"]))
    with pytest.raises(ValueError, match="'a' occurs twice"):
        sessions.with_item_features(pd.DataFrame({"price": [1, 2]}, index=["a", "a"]))
    with pytest.raises(ValueError, match="of another type"):
        sessions.with_item_features(pd.DataFrame({"price": [1]}))


# -- several parts, other codes ----------------------------------------------------------------


def parts_of_a_log() -> list[Sessions]:
    """Two logs with separate vocabularies."""
    frames = [
        {"session_id": [1, 1, 2], "item_id": ["a", "b", "c"], "time": [1, 2, 3]},
        {"session_id": [3, 3], "item_id": ["d", "a"], "time": [4, 5]},
    ]
    more = [
        {"user": ["u", "u", "v"], "device": ["tv", "pc", "tv"], "price": [1.0, 2.0, 3.0]},
        {"user": ["v", "v"], "device": ["pc", "web"], "price": [9.0, 8.0]},
    ]
    return [
        Sessions.from_frame(
            pd.DataFrame({**frame, **columns}),
            time="time",
            user="user",
            features=["device"],
            item_features=["price"],
        )
        for frame, columns in zip(frames, more, strict=True)
    ]


def test_concat_is_the_log_of_both_in_one_vocabulary() -> None:
    parts = parts_of_a_log()
    both = Sessions.concat(parts)
    expected = pd.concat([part.to_frame() for part in parts], ignore_index=True)
    pd.testing.assert_frame_equal(both.to_frame(), expected)
    assert both.vocabulary.ids.tolist() == ["a", "b", "c", "d"]
    assert both.users.tolist() == [0, 1, 1]
    assert both.feature_vocabularies["device"].ids.tolist() == ["tv", "pc", "web"]
    assert both.item_features["price"].tolist() == [1.0, 2.0, 3.0, 9.0]  # a: of the first part
    assert both.first_target is None


@given(LISTS, st.integers(0, 8))
def test_concat_undoes_a_cut_and_keeps_the_vocabulary(lists: list[list[Any]], at: int) -> None:
    whole = Sessions.from_lists(lists)
    again = Sessions.concat([whole[:at], whole[at:]])
    assert again.vocabulary is whole.vocabulary
    assert again.fingerprint() == whole.fingerprint()


def test_concat_writes_targets_out_where_one_part_has_them() -> None:
    first, second = Sessions.from_lists([["a", "b"]]), Sessions.from_lists([["a", "b", "c"]])
    second = replace(second, first_target=np.array([2]))
    assert Sessions.concat([first, second]).first_target.tolist() == [1, 2]
    assert Sessions.concat([second]) is second


def test_concat_keeps_unknown_clicks_and_users() -> None:
    parts = [replace(part, items=part.items.copy()) for part in parts_of_a_log()]
    parts[1].items[0] = -1
    parts[1] = replace(parts[1], users=np.array([-1], dtype=np.int32))
    both = Sessions.concat(parts)
    assert both.to_lists() == [["a", "b"], ["c"], [None, "a"]]
    assert both.users.tolist() == [0, 1, -1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"time": None}, r"parts\[0\] and parts\[1\] differ in times: True and False"),
        ({"users": None}, "differ in users"),
        ({"user_vocabulary": None}, "differ in a user_vocabulary"),
        ({"session_ids": None}, "differ in session ids"),
        ({"click_features": {}, "feature_vocabularies": {}}, "differ in click features"),
        ({"feature_vocabularies": {}}, "differ in feature_vocabularies"),
    ],
)
def test_concat_of_parts_that_differ_says_in_what(change: dict[str, Any], words: str) -> None:
    first, second = parts_of_a_log()
    with pytest.raises(ValueError, match=words):
        Sessions.concat([first, replace(second, **change)])


def test_concat_of_nothing_of_lists_or_of_other_ids_is_refused() -> None:
    with pytest.raises(ValueError, match="needs at least one part"):
        Sessions.concat([])
    with pytest.raises(ValueError, match=r"parts\[1\] must be gs.Sessions, got list"):
        Sessions.concat([parts_of_a_log()[0], [["a"]]])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="None of these 1 items is known"):
        Sessions.concat([Sessions.from_lists([[1]]), Sessions.from_lists([["1"]])])


def test_catalog_encode_gives_codes_of_items_users_and_values_and_missing_features() -> None:
    first, second = parts_of_a_log()
    encoded = first.catalog().encode(second)
    assert encoded.items.tolist() == [-1, 0]
    assert encoded.users.tolist() == [1]
    assert encoded.click_features["device"].tolist() == [1, -1]
    assert encoded.item_features["price"].tolist() == [8.0, 2.0, 3.0]  # a: what the sessions say
    assert encoded.vocabulary is first.vocabulary
    bare = replace(second, item_features=None)
    assert first.catalog().encode(bare).item_features["price"].tolist() == [1.0, 2.0, 3.0]
    nobody = replace(first.catalog(), users=None, click_vocabularies={}, item_features=None)
    assert nobody.encode(second).user_vocabulary is second.user_vocabulary
    same = nobody.encode(first)
    assert same.fingerprint() == first.fingerprint()
    assert same.item_features["price"].tolist() == [1.0, 2.0, 3.0]


# -- items without a click ---------------------------------------------------------------------


def test_with_items_puts_items_without_a_click_into_the_catalog() -> None:
    sessions = parts_of_a_log()[0]
    more = sessions.with_items(["z", "a"])
    assert more.vocabulary.ids.tolist() == ["a", "b", "c", "z"]
    assert more.catalog().counts.tolist() == [1, 1, 1, 0]
    assert more.listed.tolist() == [True, False, False, True]
    assert more.item_features["price"].fillna(-1).tolist() == [1.0, 2.0, 3.0, -1]
    assert more.to_lists() == sessions.to_lists()
    assert more.drop_unused_items() is more
    twice = more.with_items(["y"]).select([1])
    assert twice.drop_unused_items().vocabulary.ids.tolist() == ["a", "c", "z", "y"]


def test_with_items_of_a_frame_brings_features_of_all_that_it_names() -> None:
    sessions = parts_of_a_log()[0]
    table = pd.DataFrame({"price": [7.0, 9.0], "shelf": ["x", "y"]}, index=["z", "a"])
    more = sessions.with_items(table)
    assert more.item_features["price"].tolist() == [9.0, 2.0, 3.0, 7.0]
    assert more.item_features["shelf"].fillna("-").tolist() == ["y", "-", "-", "x"]


def test_with_items_that_are_wrong_are_refused() -> None:
    sessions = Sessions.from_lists([["a", "b"]])
    with pytest.raises(ValueError, match="'z' occurs twice"):
        sessions.with_items(["z", "z"])
    with pytest.raises(ValueError, match="None of these 1 items is known, as they are of another"):
        sessions.with_items([1])
    with pytest.raises(ValueError, match="listed needs one row per item: 2, got 1"):
        replace(sessions, listed=np.array([True]))


def test_listed_items_stay_in_splits_filters_and_parts_put_together(tmp_path: Path) -> None:
    lists = [["a", "b", "a"], ["a", "c"], ["b", "z"]]
    log = Sessions.from_lists(lists).with_items(["z", "y", "c"])
    split = fixed_split(log[:2], log[2:])
    assert split.train.vocabulary.ids.tolist() == ["a", "b", "c", "z", "y"]
    assert split.test.to_lists() == [["b", "z"]]  # z has no click in training, and is known
    assert split.report.loc["test", "unknown_clicks"] == 0
    assert keep_min_support(split.train, 2).vocabulary.ids.tolist() == ["a", "c", "z", "y"]
    both = Sessions.concat([log[:1], Sessions.from_lists([["x"]])])
    assert both.vocabulary.ids[both.listed].tolist() == ["c", "z", "y"]
    log.save(tmp_path / "log")
    assert Sessions.open(tmp_path / "log").listed.tolist() == log.listed.tolist()


# -- who and when ------------------------------------------------------------------------------


def test_session_table_says_who_and_when() -> None:
    log = pd.DataFrame(
        {
            "user_id": ["v", "u", "v", "v"],
            "item_id": list("abcd"),
            "timestamp": [100, 20, 130, 9000],
        }
    )
    table = Sessions.from_events(log).session_table()
    assert table.to_dict("list") == {
        "session_id": [0, 1, 2],
        "user_id": ["v", "v", "u"],
        "start": [100.0, 9000.0, 20.0],
        "end": [130.0, 9000.0, 20.0],
        "clicks": [2, 1, 1],
    }
    named = Sessions.from_frame(log, session="user_id").session_table()
    assert named.to_dict("list") == {"session_id": ["v", "u"], "clicks": [3, 1]}


def test_from_events_of_a_user_or_else_a_cookie_keeps_both_apart() -> None:
    log = pd.DataFrame(
        {
            "user_id": [7, None, 7, None, None],
            "cookie": ["x", 7, "y", "x", 7],
            "item_id": list("abcde"),
            "timestamp": [1, 2, 3, 4, 5],
        }
    )
    sessions = Sessions.from_events(log, user=["user_id", "cookie"])
    assert sessions.to_lists() == [["a", "c"], ["b", "e"], ["d"]]
    assert sessions.user_vocabulary.ids.tolist() == [7, "cookie=7", "cookie=x"]
    text = log.assign(user_id=["7", None, "7", None, None])
    again = Sessions.from_events(text, user=("user_id", "cookie"))
    assert again.user_vocabulary.ids.tolist() == ["7", "cookie=7", "cookie=x"]
    one = Sessions.from_events(log.dropna(), user=["user_id"])
    assert one.user_vocabulary.ids.tolist() == [7]


def test_from_events_of_a_filtered_or_shuffled_frame_goes_by_rows() -> None:
    log = pd.DataFrame(
        {
            "user_id": [9, None, 1, None, 2, 1],
            "cookie": ["x", "a", "x", "b", "c", "d"],
            "item_id": list("abcdef"),
            "timestamp": range(6),
            "shown": [{"at": place} for place in "uvwxyz"],
        }
    )
    shuffled = log.sample(frac=1, random_state=0)
    for frame in (log[log["timestamp"] > 0], shuffled, log.set_axis([0] * 6)):
        plain = frame.reset_index(drop=True)
        both, expected = (
            Sessions.from_events(each, user=["user_id", "cookie"], features=["shown.at"])
            for each in (frame, plain)
        )
        assert both.user_vocabulary is not None
        assert both.user_vocabulary.ids[:1].tolist() == [
            "cookie=a" if np.isnan(plain["user_id"][0]) else int(plain["user_id"][0])
        ]
        pd.testing.assert_frame_equal(both.to_frame(), expected.to_frame())
        owner = dict(zip("abcdef", [9, "cookie=a", 1, "cookie=b", 2, 1], strict=True))
        clicks = both.to_frame()
        assert clicks["user_id"].tolist() == [owner[item] for item in clicks["item_id"]]
        assert clicks["shown.at"].tolist() == [
            "uvwxyz"["abcdef".index(item)] for item in clicks["item_id"]
        ]


def test_from_events_of_nobody_and_other_uses_of_several_columns_are_refused(
    tmp_path: Path,
) -> None:
    log = pd.DataFrame(
        {"user_id": [1, None], "cookie": [None, None], "item_id": [1, 2], "timestamp": [1, 2]}
    )
    with pytest.raises(ValueError, match=r"'user_id or cookie' is missing .* row"):
        Sessions.from_events(log, user=["user_id", "cookie"])
    with pytest.raises(ValueError, match="user is one column where sessions have names"):
        Sessions.from_frame(log, session="item_id", user=["user_id", "cookie"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="out= takes one column of users"):
        Sessions.from_events(log, user=["user_id", "cookie"], out=tmp_path / "log")
