"""Logs larger than memory: what is built on disk is what memory would have held."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphseq.data import collect, parquet_log, spill, spread
from graphseq.data.sessions import Sessions
from graphseq.data.storage import FolderWriter


@contextmanager
def tiny_memory() -> Iterator[None]:
    """Chunks of three rows, buckets of four clicks: a few rows take the way of a large log."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_log, "ROWS_A_CHUNK", 3)
        patch.setattr(spread, "CLICKS_A_BUCKET", 4)
        patch.setattr(collect, "CLICKS_A_BUCKET", 4)
        patch.setattr(collect, "ROWS_A_BIN", 1)
        patch.setattr(spill, "IDS_PENDING", 2)
        yield


def same(got: Sessions, expected: Sessions) -> None:
    assert got.fingerprint() == expected.fingerprint()
    assert got.items.dtype == np.int32
    if expected.session_ids is None:
        assert got.session_ids is None
    else:
        ids = pd.Index(expected.session_ids)
        pd.testing.assert_index_equal(pd.Index(np.asarray(got.session_ids), dtype=ids.dtype), ids)
    for name, values in expected.click_features.items():
        assert got.click_features[name].dtype == values.dtype
        np.testing.assert_array_equal(got.click_features[name], values)
    if expected.item_features is None:
        assert got.item_features is None
    else:
        pd.testing.assert_frame_equal(
            got.item_features, expected.item_features, check_categorical=False, check_dtype=False
        )


def write(folder: Path, frame: pd.DataFrame, cuts: list[int], rows_a_group: int) -> Path:
    """The frame in files cut at these rows."""
    folder.mkdir(parents=True)
    bounds = [0, *sorted(min(cut, len(frame)) for cut in cuts), len(frame)]
    schema = pa.Schema.from_pandas(frame, preserve_index=False)
    for number, (start, stop) in enumerate(pairwise(bounds)):
        table = pa.Table.from_pandas(frame.iloc[start:stop], schema, preserve_index=False)
        pq.write_table(table, folder / f"part-{number}.parquet", row_group_size=rows_a_group)
    return folder


@st.composite
def logs(draw: st.DrawFn) -> pd.DataFrame:
    size = draw(st.integers(1, 40))
    rows: Any = lambda values: draw(st.lists(values, min_size=size, max_size=size))  # noqa: E731
    session = np.array(rows(st.integers(0, 9)))
    user = np.array([str(u) if u else None for u in range(4)], dtype=object)
    frame = pd.DataFrame(
        {
            "session_id": session if draw(st.booleans()) else session.astype(str),
            "item_id": rows(
                st.integers(-(2**62), 2**62) if draw(st.booleans()) else st.integers(0, 5)
            ),
            "t": rows(st.integers(0, 6)),
            "user": user[(session * 7) % 4],
            "price": rows(st.sampled_from([1.5, 2.0, math.nan])),
            "count": rows(st.integers(0, 3)),
            "colour": rows(st.sampled_from(["red", "blue", None])),
        }
    )
    if draw(st.booleans()):
        frame["item_id"] = frame["item_id"].map("i{}".format)
    if draw(st.booleans()):
        frame["count"] = frame["count"].astype("Int64").where(frame["count"] > 0)
    if draw(st.booleans()):
        frame["t"] = pd.to_datetime(frame["t"], unit="s")
    return frame


@given(logs(), st.lists(st.integers(0, 40), max_size=4), st.integers(1, 9), st.booleans())
@settings(max_examples=40, deadline=None)
def test_from_parquet_equals_from_frame(
    tmp_path_factory: pytest.TempPathFactory,
    frame: pd.DataFrame,
    cuts: list[int],
    rows_a_group: int,
    timed: bool,
) -> None:
    folder = tmp_path_factory.mktemp("log")
    columns: dict[str, Any] = {
        "time": "t" if timed else None,
        "user": "user",
        "features": ["price", "count", "colour"],
        "item_features": ["colour", "price"],
    }
    log = write(folder / "log", frame, cuts, rows_a_group)
    with tiny_memory():
        got = Sessions.from_parquet(log, folder / "out", **columns)
    same(got, Sessions.from_frame(frame, **columns))
    assert sorted(path.name for path in folder.iterdir()) == ["log", "out"]


@given(logs(), st.lists(st.integers(0, 40), max_size=3), st.sampled_from([None, 1, 2.5]))
@settings(max_examples=20, deadline=None)
def test_from_parquet_cuts_users_logs_as_from_events(
    tmp_path_factory: pytest.TempPathFactory,
    frame: pd.DataFrame,
    cuts: list[int],
    gap: float | None,
) -> None:
    folder = tmp_path_factory.mktemp("log")
    log = write(folder / "log", frame, cuts, 5)
    with tiny_memory():
        got = Sessions.from_parquet(
            log, folder / "out", session=None, user="session_id", time="t", gap=gap
        )
    same(got, Sessions.from_events(frame, user="session_id", time="t", gap=gap))


def clicks(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"session_id": [1, 2, 1], "item_id": ["a", "b", "c"], **columns})


def test_from_parquet_item_features_by_id_are_those_of_the_frame(tmp_path: Path) -> None:
    described = pd.DataFrame({"price": [1.0, 2.0]}, index=["c", "a"])
    log = write(tmp_path / "log", clicks(), [1], 2)
    got = Sessions.from_parquet(log, tmp_path / "out", item_features=described)
    same(got, Sessions.from_frame(clicks(), item_features=described))


def test_from_parquet_keys_of_folders_are_columns(tmp_path: Path) -> None:
    for day, part in ((2, clicks()), (1, clicks())):
        write(tmp_path / "log" / f"shop=x{day}" / f"day={day}", part, [], 9)
    with tiny_memory():
        got = Sessions.from_parquet(
            tmp_path / "log", tmp_path / "out", time="day", features=["shop"]
        )
    assert got.to_lists() == [["a", "c", "a", "c"], ["b", "b"]]
    assert got.time is not None
    assert got.time.tolist() == [1, 1, 2, 2, 1, 2]
    assert got.to_frame()["shop"].tolist() == ["x1", "x1", "x2", "x2", "x1", "x2"]


def test_from_parquet_files_come_in_the_order_given(tmp_path: Path) -> None:
    first = write(tmp_path / "first", clicks(), [], 9)
    second = write(tmp_path / "second", clicks(item_id=["x", "y", "z"]), [], 9)
    got = Sessions.from_parquet([second, first / "part-0.parquet"], tmp_path / "out")
    assert got.to_lists() == [["x", "z", "a", "c"], ["y", "b"]]


def test_from_parquet_widths_of_integers_and_text_may_differ(tmp_path: Path) -> None:
    for number, (whole, text) in enumerate(
        [(pa.int32(), pa.string()), (pa.uint64(), pa.large_string()), (pa.int8(), pa.string())]
    ):
        values = [pa.array([7, 7], whole), pa.array(["b", f"a{number}"], text)]
        (tmp_path / "log").mkdir(exist_ok=True)
        pq.write_table(
            pa.table(values, ["session_id", "item_id"]), tmp_path / "log" / f"{number}.parquet"
        )
    got = Sessions.from_parquet(tmp_path / "log", tmp_path / "out")
    assert got.to_lists() == [["b", "a0", "b", "a1", "b", "a2"]]
    assert got.session_ids is not None
    assert list(got.session_ids) == [7]


def test_from_parquet_session_with_two_users_is_refused(tmp_path: Path) -> None:
    log = write(tmp_path / "log", clicks(user=["u", "v", "w"]), [1], 9)
    with pytest.raises(ValueError, match="one user, but column 'user' names several in 1 sessions"):
        Sessions.from_parquet(log, tmp_path / "out", user="user")
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


@pytest.mark.parametrize("column", ["session_id", "item_id", "t"])
def test_from_parquet_missing_value_names_file_and_rows(tmp_path: Path, column: str) -> None:
    frame = pd.concat([clicks(t=[1.0, 2.0, 3.0])] * 2, ignore_index=True)
    frame.loc[4, column] = None
    log = write(tmp_path / "log", frame, [3], 9)
    with pytest.raises(ValueError, match=rf"Column '{column}' of .*part-1.parquet .* row 1, count"):
        Sessions.from_parquet(log, tmp_path / "out", time="t")
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_from_parquet_missing_column_names_the_file_and_those_there_are(tmp_path: Path) -> None:
    log = write(tmp_path / "log", clicks(), [], 9)
    pq.write_table(pa.table({"session_id": [1]}), log / "part-1.parquet")
    with pytest.raises(
        ValueError, match=r"part-1.parquet has no column 'item_id'; it has 'session_id'"
    ):
        Sessions.from_parquet(log, tmp_path / "out")


def test_from_parquet_types_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    log = write(tmp_path / "log", clicks(), [], 9)
    other = clicks(item_id=[1, 2, 3])
    other.to_parquet(log / "part-1.parquet")
    with pytest.raises(ValueError, match=r"part-1.parquet are of other types"):
        Sessions.from_parquet(log, tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"session": None}, "cut from the log of each user="),
        ({"session": None, "user": "session_id", "gap": 5.0}, "gap cuts .* pass .* time="),
        ({"time": "item_id", "gap": 5.0}, "gap cuts"),
        ({"features": "colour"}, "lists of column names"),
    ],
)
def test_from_parquet_wrong_arguments_are_named(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    log = write(tmp_path / "log", clicks(), [], 9)
    with pytest.raises(ValueError, match=message):
        Sessions.from_parquet(log, tmp_path / "out", **arguments)


def test_from_parquet_no_or_empty_or_broken_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    for log, message in (
        (tmp_path / "nowhere", "There is no log at"),
        (tmp_path / "log", "holds no Parquet file"),
        ([], "list of paths is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            Sessions.from_parquet(log, tmp_path / "out")
    write(tmp_path / "none", clicks().iloc[:0], [], 9)
    with pytest.raises(ValueError, match="The log is empty"):
        Sessions.from_parquet(tmp_path / "none", tmp_path / "out")
    whole = write(tmp_path / "cut", clicks(), [], 9) / "part-0.parquet"
    whole.write_bytes(whole.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"part-0.parquet cannot be read: it is broken"):
        Sessions.from_parquet(whole, tmp_path / "out")


def test_from_parquet_over_something_else_is_refused_and_leaves_it(tmp_path: Path) -> None:
    log = write(tmp_path / "log", clicks(), [], 9)
    with pytest.raises(ValueError, match="something other than saved sessions"):
        Sessions.from_parquet(log, log)
    assert [path.name for path in log.iterdir()] == ["part-0.parquet"]


@pytest.mark.parametrize("stage", ["spread", "sort_buckets", "write_item_ids"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_from_parquet_that_fails_leaves_the_old_one_and_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, error: BaseException
) -> None:
    log = write(tmp_path / "log", clicks(), [1], 9)
    Sessions.from_lists([[1]]).save(tmp_path / "out")

    def fail(*_: object) -> None:
        raise error

    if stage == "spread":
        monkeypatch.setattr(spill.ColumnFiles, "append", fail)
    elif stage == "sort_buckets":
        monkeypatch.setattr(collect, "sorted_order", fail)
    else:
        monkeypatch.setattr(FolderWriter, "write_ids", fail)
    expected = ValueError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match="No space left" if expected is ValueError else None):
        Sessions.from_parquet(log, tmp_path / "out")
    assert Sessions.open(tmp_path / "out").to_lists() == [[1]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "out"]
