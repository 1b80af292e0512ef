"""One session per row: lists from every library and file format give the same clicks."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphseq.data.sessions.sessions import Sessions

ROWS = {
    "sid": [7, 9, 8],
    "items": [[1, 2], [3], [1, 4, 5]],
    "times": [[1.5, 2.0], [5.0], [7.0, 9.0, 8.0]],
    "kinds": [["a", "b"], ["b"], ["a", "a", "c"]],
    "user": ["u", "v", "u"],
}
COLUMNS: dict[str, Any] = {
    "session": "sid",
    "item": "items",
    "time": "times",
    "user": "user",
    "features": ["kinds"],
}


def joined(rows: dict[str, list[Any]]) -> pd.DataFrame:
    """The rows with each list as one text."""
    return pd.DataFrame(
        {
            name: [" ".join(map(str, v)) if isinstance(v, list) else v for v in values]
            for name, values in rows.items()
        }
    )


def in_file(name: str, write: Callable[[pd.DataFrame, Path], Any]) -> Callable[[Path], Any]:
    def made(folder: Path) -> Path:
        write(pd.DataFrame(ROWS), folder / name)
        return folder / name

    return made


HOLDERS: dict[str, tuple[Callable[[Path], Any], dict[str, Any]]] = {
    "pandas": (lambda _: pd.DataFrame(ROWS), {}),
    "pandas of arrays": (
        lambda _: pd.DataFrame(ROWS).assign(items=[np.array(v) for v in ROWS["items"]]),
        {},
    ),
    "pandas of tuples": (
        lambda _: pd.DataFrame(ROWS).assign(items=[tuple(v) for v in ROWS["items"]]),
        {},
    ),
    "pandas of arrow": (
        lambda _: pa.table(ROWS).to_pandas(types_mapper=pd.ArrowDtype),
        {},
    ),
    "polars": (lambda _: pl.DataFrame(ROWS), {}),
    "lazy polars": (lambda _: pl.LazyFrame(ROWS), {}),
    "arrow": (lambda _: pa.table(ROWS), {}),
    "arrow in pieces": (
        lambda _: pa.concat_tables([pa.table(ROWS).slice(0, 1), pa.table(ROWS).slice(1)]),
        {},
    ),
    "dict": (lambda _: ROWS, {}),
    "records": (lambda _: pd.DataFrame(ROWS).to_dict("records"), {}),
    "parquet": (in_file("a.parquet", lambda f, p: f.to_parquet(p)), {}),
    "csv of brackets": (in_file("a.csv", lambda f, p: f.to_csv(p)), {}),
    "json lines": (
        in_file("a.jsonl", lambda f, p: f.to_json(p, orient="records", lines=True)),
        {},
    ),
    "text in csv": (
        in_file("b.csv", lambda _, p: joined(ROWS).to_csv(p)),
        {"item_separator": " "},
    ),
    "text in pandas": (lambda _: joined(ROWS), {"item_separator": " "}),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_from_frame_lists_of_any_holder_are_the_clicks_of_their_row(
    holder: str, tmp_path: Path
) -> None:
    make, options = HOLDERS[holder]
    sessions = Sessions.from_frame(make(tmp_path), **COLUMNS, **options)
    assert sessions.to_lists() == [[1, 2], [3], [1, 5, 4]]  # in the order of time
    assert sessions.time is not None
    assert sessions.time.tolist() == [1.5, 2.0, 5.0, 7.0, 8.0, 9.0]
    assert sessions.session_ids is not None
    assert list(sessions.session_ids) == [7, 9, 8]
    frame = sessions.to_frame()
    assert frame["kinds"].tolist() == ["a", "b", "b", "a", "c", "a"]
    assert frame["user_id"].tolist() == ["u", "u", "v", "u", "u", "u"]


@pytest.mark.parametrize("holder", ["pandas", "polars", "parquet", "csv of brackets", "json lines"])
def test_from_frame_without_a_session_column_each_row_is_a_session(
    holder: str, tmp_path: Path
) -> None:
    make, options = HOLDERS[holder]
    sessions = Sessions.from_frame(make(tmp_path), item="items", user="user", **options)
    assert sessions.to_lists() == ROWS["items"]
    assert sessions.users is not None
    assert sessions.users.tolist() == [0, 1, 0]
    assert sessions.session_ids is not None
    assert list(sessions.session_ids) == [0, 1, 2]


def test_from_frame_no_session_and_no_lists_names_the_columns() -> None:
    with pytest.raises(ValueError, match=r"no column 'session_id'; it has 'sid', 'items'"):
        Sessions.from_frame(pd.DataFrame(ROWS).explode("items"), item="items")


def test_from_events_lists_of_a_user_are_cut_by_the_gap() -> None:
    sessions = Sessions.from_events(
        pd.DataFrame(ROWS), user="user", item="items", time="times", gap=3
    )
    assert sessions.to_lists() == [[1, 2], [1, 5, 4], [3]]


EVENTS = [
    {
        "session": 12899779,
        "events": [
            {"aid": 59625, "ts": 1661724000278, "type": "clicks"},
            {"aid": 9007199254740993, "ts": 1661724000277, "type": "carts"},
        ],
    },
    {"session": 12899780, "events": [{"aid": 59625, "ts": 1661724000300, "type": "orders"}]},
]


def as_json(folder: Path) -> Path:
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, EVENTS)))
    return folder / "a.jsonl"


def as_parquet(folder: Path) -> Path:
    pl.DataFrame(EVENTS).write_parquet(folder / "a.parquet")
    return folder / "a.parquet"


@pytest.mark.parametrize(
    "make",
    [
        as_json,
        as_parquet,
        lambda _: EVENTS,
        lambda _: pa.Table.from_pylist(EVENTS),
        lambda _: pl.DataFrame(EVENTS),
        lambda _: pd.DataFrame(EVENTS),
    ],
    ids=["json lines", "parquet", "records", "arrow", "polars", "pandas"],
)
def test_from_frame_nested_events_by_dotted_names(
    make: Callable[[Path], Any], tmp_path: Path
) -> None:
    sessions = Sessions.from_frame(
        make(tmp_path),
        session="session",
        item="events.aid",
        time="events.ts",
        features=["events.type"],
        time_unit="ms",
    )
    assert sessions.to_lists() == [[9007199254740993, 59625], [59625]]
    assert sessions.time is not None
    assert sessions.time.tolist() == [1661724000.277, 1661724000.278, 1661724000.3]
    assert sessions.to_frame()["events.type"].tolist() == ["carts", "clicks", "orders"]
    assert sessions.session_ids is not None
    assert list(sessions.session_ids) == [12899779, 12899780]


@pytest.mark.parametrize("make", [as_json, as_parquet, lambda _: EVENTS])
def test_from_frame_nested_column_by_itself_is_refused_by_name(
    make: Callable[[Path], Any], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"events"):
        Sessions.from_frame(make(tmp_path), session="session", item="events")
    with pytest.raises(ValueError, match=r"events\.foo"):
        Sessions.from_frame(make(tmp_path), session="session", item="events.foo")


def test_from_frame_event_without_a_part_is_named_and_moves_no_other(tmp_path: Path) -> None:
    rows = [{"s": 1, "e": [{"a": 5}, {"b": 6}, {"a": 7}]}, {"s": 2, "e": [{"a": 8}]}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for log in (tmp_path / "a.jsonl", rows):
        with pytest.raises(ValueError, match=r"'e\.a' is missing in 1 .* \(row 0, value 1,"):
            Sessions.from_frame(log, session="s", item="e.a")


def test_from_frame_parts_of_an_object_are_columns(tmp_path: Path) -> None:
    rows = [{"who": {"id": 3}, "what": {"id": "07"}}, {"who": {"id": 3}, "what": {"id": "8"}}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for log in (tmp_path / "a.jsonl", rows, pa.Table.from_pylist(rows)):
        sessions = Sessions.from_frame(log, session="who.id", item="what.id")
        assert sessions.to_lists() == [["07", "8"]]


def test_from_frame_column_whose_name_has_a_dot_is_that_column() -> None:
    frame = pd.DataFrame({"a": [[{"b": 1}]], "a.b": [5], "s": [1]})
    assert Sessions.from_frame(frame, session="s", item="a.b").to_lists() == [[5]]


def test_from_frame_lists_of_different_lengths_name_the_rows() -> None:
    frame = pd.DataFrame(ROWS).assign(times=[[1.0], [5.0], [7.0, 9.0]])
    with pytest.raises(
        ValueError,
        match=r"'items' and 'times' differ in length in 2 of its rows \(row 0, 2, counted from 0"
        r"\), the first with 2 and 1 values",
    ):
        Sessions.from_frame(frame, **COLUMNS)


@pytest.mark.parametrize("nothing", [[], None])
def test_from_frame_empty_lists_are_counted_and_make_no_session(
    nothing: list[int] | None, caplog: pytest.LogCaptureFixture
) -> None:
    frame = pd.DataFrame({"s": [1, 2, 3], "i": [[5, 6], nothing, [5]]})
    with caplog.at_level(logging.WARNING):
        sessions = Sessions.from_frame(frame, session="s", item="i")
    assert sessions.to_lists() == [[5, 6], [5]]
    assert "'i' is empty or missing in 1 of its rows (row 1, counted from 0)" in caplog.text
    with pytest.raises(ValueError, match="no row has an item in 'i'"):
        Sessions.from_frame(pd.DataFrame({"s": [1], "i": [[]]}), session="s", item="i")


def test_from_frame_missing_item_in_a_list_is_named_by_row_and_value() -> None:
    frame = pd.DataFrame({"s": [1, 2], "i": [[5, 6], [5, None]]})
    with pytest.raises(ValueError, match=r"'i' is missing in 1 of its rows \(row 1, value 1"):
        Sessions.from_frame(frame, session="s", item="i")


def test_from_frame_lists_beside_plain_items_or_plain_values_are_refused() -> None:
    frame = pd.DataFrame(ROWS)
    with pytest.raises(ValueError, match=r"'times' holds lists: .* where 'user' holds none"):
        Sessions.from_frame(frame, session="sid", item="user", time="times")
    with pytest.raises(ValueError, match=r"'items' holds lists, but 5 in 1 of its rows \(row 1"):
        Sessions.from_frame(frame.assign(items=[[1], 5, [2]]), session="sid", item="items")
    with pytest.raises(ValueError, match=r"'items' holds lists of"):
        Sessions.from_frame(frame.assign(items=[[[1]], [[2]], [[3]]]), session="sid", item="items")


def test_from_frame_text_lists_leave_plain_texts_whole() -> None:
    frame = pd.DataFrame(
        {
            "s": [1, 2, 3],
            "history": ["N10 N20", None, "N10 N30 N40"],
            "when": ["2019-11-11 09:05:58", "2019-11-12 10:00:00", "2019-11-13 11:00:00"],
        }
    )
    sessions = Sessions.from_frame(
        frame, session="s", item="history", time="when", item_separator=" "
    )
    assert sessions.to_lists() == [["N10", "N20"], ["N10", "N30", "N40"]]
    assert sessions.time is not None
    assert sessions.time.tolist() == [1573463158.0] * 2 + [1573642800.0] * 3


def test_from_frame_text_lists_keep_ids_and_take_any_separator() -> None:
    frame = pd.DataFrame({"s": [1, 2], "i": ["007|8", "9"], "t": ["1|2", "3"]})
    sessions = Sessions.from_frame(frame, session="s", item="i", time="t", item_separator="|")
    assert sessions.to_lists() == [["007", "8"], ["9"]]
    assert sessions.time is not None
    assert sessions.time.tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match=r"'i' has an empty value .* \(row 1"):
        Sessions.from_frame(
            frame.assign(i=["7|8", "9|"]), session="s", item="i", item_separator="|"
        )
    one = pd.DataFrame({"s": [1, 2], "i": [7, 8]})  # a file of single clicks
    assert Sessions.from_frame(one, session="s", item="i", item_separator=" ").to_lists() == [
        [7],
        [8],
    ]


def test_from_frame_arrays_as_numpy_prints_them(tmp_path: Path) -> None:
    rows = [np.array([1, 200]), np.array([3]), np.array([], dtype=np.int64)]
    frame = pd.DataFrame({"s": [1, 2, 3], "i": rows})
    frame.to_csv(tmp_path / "a.csv", index=False)
    sessions = Sessions.from_frame(tmp_path / "a.csv", session="s", item="i")
    assert sessions.to_lists() == [[1, 200], [3]]
    for row in (np.arange(2000), np.array(["a b", "c"])):
        frame.assign(i=[row, *rows[1:]]).to_csv(tmp_path / "a.csv", index=False)
        with pytest.raises(ValueError, match=r"cannot be read back in 1 of its rows \(row 0"):
            Sessions.from_frame(tmp_path / "a.csv", session="s", item="i")


def test_from_frame_tensors_and_columns_in_rows_and_no_sets() -> None:
    frame = pd.DataFrame({"s": [1, 2]})
    for rows in ([torch.tensor([5, 6]), torch.tensor([5])], [pl.Series([5, 6]), pl.Series([5])]):
        items = pd.Series(np.fromiter(rows, dtype=object, count=2))
        sessions = Sessions.from_frame(frame.assign(i=items), session="s", item="i")
        assert sessions.to_lists() == [[5, 6], [5]]
    with pytest.raises(ValueError, match="'i' holds sets, which have no order"):
        Sessions.from_frame(frame.assign(i=[{1}, {2}]), session="s", item="i")


def test_from_frame_texts_in_brackets_beside_plain_items_stay_texts() -> None:
    frame = pd.DataFrame({"s": [1, 1], "i": [5, 6], "title": ["[REC]", "[REC] 2, [3]"]})
    sessions = Sessions.from_frame(frame, session="s", item="i", features=["title"])
    assert sessions.to_frame()["title"].tolist() == ["[REC]", "[REC] 2, [3]"]


def test_from_frame_item_separator_beside_lists_has_nothing_to_do() -> None:
    sessions = Sessions.from_frame(
        pd.DataFrame({"s": [1], "i": [["a b", "c"]]}), session="s", item="i", item_separator=" "
    )
    assert sessions.to_lists() == [["a b", "c"]]
    with pytest.raises(ValueError, match=r"item_separator takes texts apart, but column 'i' holds"):
        Sessions.from_frame(
            pd.DataFrame({"s": [1], "i": [1.5]}), session="s", item="i", item_separator=" "
        )


def test_from_frame_text_lists_of_times_name_the_row_that_does_not_fit() -> None:
    frame = pd.DataFrame({"s": [1, 2, 3], "i": ["a b", "c d", "e f"], "t": ["1 2", "3 4", "5"]})
    with pytest.raises(ValueError, match=r"'i' and 't' differ in length in 1 of its rows \(row 2"):
        Sessions.from_frame(frame, session="s", item="i", time="t", item_separator=" ")


def test_from_frame_brackets_of_text_ids_with_quotes_and_commas(tmp_path: Path) -> None:
    lists = [["a, b", "c"], ["it's"], ['d"']]
    pd.DataFrame({"s": [1, 2, 3], "i": lists}).to_csv(tmp_path / "a.csv", index=False)
    assert Sessions.from_frame(tmp_path / "a.csv", session="s", item="i").to_lists() == lists


@given(
    lists=st.lists(
        st.lists(st.integers(-(2**63), 2**63 - 1) | st.none(), min_size=0, max_size=4),
        min_size=1,
        max_size=8,
    )
)
def test_from_frame_rows_equal_the_exploded_frame(lists: list[list[int | None]]) -> None:
    frame = pd.DataFrame({"s": range(len(lists)), "i": pd.Series(lists, dtype=object)})
    long = frame[frame["i"].map(len) > 0].explode("i")
    for log in (frame, pl.DataFrame({"s": range(len(lists)), "i": lists}, strict=False)):
        if len(long) == 0 or long["i"].isna().any():
            with pytest.raises(ValueError, match=r"empty|missing"):
                Sessions.from_frame(log, session="s", item="i")
        else:
            expected = Sessions.from_frame(long, session="s", item="i")
            assert Sessions.from_frame(log, session="s", item="i").fingerprint() == (
                expected.fingerprint()
            )
