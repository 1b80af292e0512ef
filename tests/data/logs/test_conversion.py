"""Logs larger than memory: sessions built on disk equal sessions built in memory."""

from __future__ import annotations

import logging
import math
import os
import resource
import signal
import subprocess
import sys
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphseq.data.logs import coded_log, conversion
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.storage import FolderWriter


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of three rows, so that a few clicks use the same code path as many."""
    monkeypatch.setattr(coded_log, "ROWS_PER_BATCH", 3)


def same(got: Sessions, expected: Sessions) -> None:
    assert got.fingerprint() == expected.fingerprint()
    assert isinstance(got.items, np.memmap)
    for name in ("items", "ptr", "time", "users"):
        one, other = getattr(got, name), getattr(expected, name)
        assert (one is None) == (other is None)
        if one is not None:
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
    if expected.session_ids is None:
        assert got.session_ids is None
    else:
        pd.testing.assert_index_equal(pd.Index(got.session_ids), pd.Index(expected.session_ids))
    for vocabulary in ("vocabulary", "user_vocabulary"):
        one, other = getattr(got, vocabulary), getattr(expected, vocabulary)
        assert (one is None) == (other is None)
        if one is not None:
            pd.testing.assert_index_equal(one.ids, other.ids)
    assert list(got.click_features) == list(expected.click_features)
    for name, values in expected.click_features.items():
        assert got.click_features[name].dtype == values.dtype
        np.testing.assert_array_equal(got.click_features[name], values)
    assert (got.item_features is None) == (expected.item_features is None)
    if expected.item_features is not None:
        pd.testing.assert_frame_equal(
            got.item_features, expected.item_features, check_dtype=False, check_categorical=False
        )


def write(folder: Path, frame: pd.DataFrame, cuts: list[int], rows_a_group: int = 9) -> Path:
    """The frame in Parquet files cut at these rows."""
    folder.mkdir(parents=True)
    bounds = [0, *sorted(min(cut, len(frame)) for cut in cuts), len(frame)]
    schema = pa.Schema.from_pandas(frame, preserve_index=False)
    for number, (start, stop) in enumerate(pairwise(bounds)):
        table = pa.Table.from_pandas(frame.iloc[start:stop], schema, preserve_index=False)
        pq.write_table(table, folder / f"part-{number}.parquet", row_group_size=rows_a_group)
    return folder


def write_text(folder: Path, frame: pd.DataFrame, cuts: list[int]) -> Path:
    """The frame in CSV files cut at these rows."""
    folder.mkdir(parents=True)
    bounds = [0, *sorted(min(cut, len(frame)) for cut in cuts), len(frame)]
    for number, (start, stop) in enumerate(pairwise(bounds)):
        frame.iloc[start:stop].to_csv(folder / f"part-{number}.csv", index=False)
    return folder


IDS = {
    "integers": lambda n: n,
    "large": lambda n: 2**62 + n,
    "text": "i{}".format,
    "digits": "{:03}".format,
    "mixed widths": lambda n: str(n * 9),
}


@st.composite
def logs(draw: st.DrawFn) -> pd.DataFrame:
    size = draw(st.integers(1, 40))
    rows: Any = lambda values: draw(st.lists(values, min_size=size, max_size=size))  # noqa: E731
    session, item = rows(st.integers(0, 9)), rows(st.integers(0, 12))
    user = [None, "u", "v", "3"]
    frame = pd.DataFrame(
        {
            "session_id": [IDS[draw(st.sampled_from([*IDS]))](0)] * size,
            "item_id": 0,
            "t": rows(st.integers(0, 6)),
            "user": [user[s * 7 % 4] for s in session],
            "price": rows(st.sampled_from([1.5, 2.0, math.nan])),
            "count": rows(st.integers(0, 3)),
            "color": rows(st.sampled_from(["red", "blue", None])),
            "sold": rows(st.booleans()),
        }
    )
    for name, numbers in (("session_id", session), ("item_id", item)):
        frame[name] = [*map(IDS[draw(st.sampled_from([*IDS]))], numbers)]
    if draw(st.booleans()):
        frame["count"] = frame["count"].astype("Int64").where(frame["count"] > 0)
    if draw(st.booleans()):
        frame["t"] = pd.to_datetime(frame["t"], unit="s")
    return frame


COLUMNS: dict[str, Any] = {
    "user": "user",
    "features": ["price", "count", "color", "sold"],
    "item_features": ["color", "price", "count"],
}


@given(logs(), st.lists(st.integers(0, 40), max_size=4), st.integers(1, 9), st.data())
@settings(max_examples=25, deadline=None)
def test_out_equals_memory(
    tmp_path_factory: pytest.TempPathFactory,
    frame: pd.DataFrame,
    cuts: list[int],
    rows_a_group: int,
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("log")
    kind = data.draw(st.sampled_from(["frame", "Parquet", "CSV"]))
    if kind == "CSV":
        log: Any = write_text(folder / "log", frame, cuts)
    else:
        log = write(folder / "log", frame, cuts, rows_a_group) if kind == "Parquet" else frame
    columns = {**COLUMNS, "time": data.draw(st.sampled_from(["t", None]))}
    if columns["time"] is not None:
        columns["gap"] = data.draw(st.sampled_from([None, 1, 2.5]))
    got = Sessions.from_frame(log, out=folder / "out", **columns)
    same(got, Sessions.from_frame(log, **columns))
    assert {path.name for path in folder.iterdir()} <= {"log", "out"}


@given(logs(), st.lists(st.integers(0, 40), max_size=3), st.sampled_from([None, 1, 2.5]))
@settings(max_examples=10, deadline=None)
def test_out_of_events_equals_memory(
    tmp_path_factory: pytest.TempPathFactory,
    frame: pd.DataFrame,
    cuts: list[int],
    gap: float | None,
) -> None:
    folder = tmp_path_factory.mktemp("log")
    log = write(folder / "log", frame, cuts, 5)
    columns: dict[str, Any] = {"user": "session_id", "time": "t", "gap": gap}
    same(
        Sessions.from_events(log, out=folder / "out", **columns),
        Sessions.from_events(log, **columns),
    )


def clicks(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"session_id": [1, 2, 1], "item_id": ["a", "b", "c"], **columns})


def test_order_is_that_of_first_rows_then_time_then_rows(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "session_id": [7, 3, 7, 3, 7, 7],
            "item_id": ["a", "b", "c", "d", "e", "f"],
            "t": [5, 9, 2, 9, 5, 2],
        }
    )
    got = Sessions.from_frame(frame, time="t", out=tmp_path / "out")
    assert got.to_lists() == [["c", "f", "a", "e"], ["b", "d"]]
    assert got.vocabulary.ids.tolist() == ["c", "f", "a", "e", "b", "d"]
    assert got.time is not None
    assert got.time.tolist() == [2, 2, 5, 5, 9, 9]
    assert pd.Index(got.session_ids).tolist() == [7, 3]


def test_cut_between_batches_compares_with_the_click_before(tmp_path: Path) -> None:
    times = [0, 1, 2, 10, 11, 12, 13, 30]  # batches of three: the pauses lie between them
    frame = pd.DataFrame({"user_id": 1, "item_id": range(8), "timestamp": times})
    got = Sessions.from_events(frame, gap=5, out=tmp_path / "out")
    assert got.to_lists() == [[0, 1, 2], [3, 4, 5, 6], [7]]


def test_times_keep_their_order_to_the_last_digit(tmp_path: Path) -> None:
    frame = clicks(t=[2**60 + 1, 5, 2**60])
    got = Sessions.from_frame(frame, time="t", time_unit="ns", out=tmp_path / "out")
    assert got.to_lists() == [["c", "a"], ["b"]]
    same(got, Sessions.from_frame(frame, time="t", time_unit="ns"))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pa.array([2**63, 3, 3], pa.uint64()), np.float64),
        (pa.array([-128, 3, 3], pa.int8()), np.int64),
        (pa.array([None, 3, 3], pa.int8()), np.float64),
        (pa.array([0.1, 3, None], pa.float32()), np.float64),
        (pa.array([True, None, False]), np.int32),
        (pa.array([1, None, 2], pa.timestamp("ms")), np.int32),
    ],
)
def test_click_features_are_of_the_types_of_memory(
    tmp_path: Path, values: pa.Array, kind: Any
) -> None:
    table = pa.Table.from_pandas(clicks()).append_column("f", values)
    pq.write_table(table, tmp_path / "log.parquet")
    for log in (table, tmp_path / "log.parquet"):
        got = Sessions.from_frame(log, features=["f"], out=tmp_path / "out")
        assert got.click_features["f"].dtype == kind
        same(got, Sessions.from_frame(log, features=["f"]))


@pytest.mark.parametrize(
    "values",
    [
        pa.array([2**63 + 1, 3, 2**63 + 3], pa.uint64()),
        pa.array([2**63 + 1, 3, None], pa.uint64()),
        pa.array([Decimal("1.50"), None, Decimal("2.25")], pa.decimal128(5, 2)),
        pa.array([Decimal(1), None, Decimal(3)], pa.decimal128(5, 0)),
    ],
)
def test_item_features_have_the_values_of_memory(tmp_path: Path, values: pa.Array) -> None:
    table = pa.Table.from_pandas(clicks()).append_column("f", values)
    pq.write_table(table, tmp_path / "log.parquet")
    table.to_pandas(integer_object_nulls=True).to_csv(tmp_path / "log.csv", index=False)
    for log in (tmp_path / "log.parquet", tmp_path / "log.csv"):
        got = Sessions.from_frame(log, item_features=["f"], features=["f"], out=tmp_path / "out")
        same(got, Sessions.from_frame(log, item_features=["f"], features=["f"]))
        assert pd.api.types.is_numeric_dtype(got.item_features["f"])  # type: ignore[index]
        if values.null_count == 0:
            assert sorted(got.item_features["f"]) == sorted(values.to_pylist())  # type: ignore[index]


def test_no_item_feature_is_no_table(tmp_path: Path) -> None:
    log = write(tmp_path / "log", clicks(), [1])
    for out in (None, tmp_path / "out"):
        assert Sessions.from_frame(log, item_features=[], out=out).item_features is None


def test_item_features_by_id_are_those_of_the_frame(tmp_path: Path) -> None:
    described = pd.DataFrame({"price": [1.0, 2.0]}, index=["c", "a"])
    log = write(tmp_path / "log", clicks(), [1], 2)
    got = Sessions.from_frame(log, out=tmp_path / "out", item_features=described)
    same(got, Sessions.from_frame(clicks(), item_features=described))


def test_from_parquet_is_from_frame_with_out(tmp_path: Path) -> None:
    log = write(tmp_path / "log", clicks(t=[3, 2, 1]), [1])
    got = Sessions.from_parquet(log, tmp_path / "out", time="t")
    same(got, Sessions.from_frame(log, time="t"))
    assert got.to_lists() == [["c", "a"], ["b"]]
    got = Sessions.from_parquet(
        log, tmp_path / "out", session=None, user="session_id", time="t", gap=1
    )
    assert got.to_lists() == [["c"], ["a"], ["b"]]


@pytest.mark.parametrize(
    ("lines", "columns"),
    [
        ("session_id,item_id,t\n1,7,31.12.2020\n1,8,30.12.2020\n", {"time_format": "%d.%m.%Y"}),
        ("session_id,item_id,t\n4,7 8,1 2\n3,9,5\n", {"item_separator": " "}),
        ('session_id,item_id,t\n4,"[7, 8]","[1, 2]"\n3,[9],[5]\n', {}),
    ],
)
def test_what_must_be_read_in_memory_is(
    tmp_path: Path, lines: str, columns: dict[str, Any]
) -> None:
    (tmp_path / "log.csv").write_text(lines)
    columns["time"] = "t"
    expected = Sessions.from_frame(tmp_path / "log.csv", **columns)
    assert len(expected.items) > len(expected)
    same(Sessions.from_frame(tmp_path / "log.csv", out=tmp_path / "out", **columns), expected)


def test_rows_that_are_sessions_are_read_in_memory_where_they_lie_in_parquet(
    tmp_path: Path,
) -> None:
    events = [[{"aid": 7, "ts": 2}, {"aid": 8, "ts": 1}], [{"aid": 9, "ts": 5}]]
    pq.write_table(pa.table({"session": [4, 3], "events": events}), tmp_path / "log.parquet")
    got = Sessions.from_frame(
        tmp_path / "log.parquet",
        session="session",
        item="events.aid",
        time="events.ts",
        out=tmp_path / "out",
    )
    assert got.to_lists() == [[8, 7], [9]]


def test_log_that_can_be_read_once_is_read_once(tmp_path: Path) -> None:
    reader = pa.Table.from_pandas(clicks(t=[3, 2, 1])).to_reader(max_chunksize=1)
    got = Sessions.from_frame(reader, time="t", out=tmp_path / "out")
    assert got.to_lists() == [["c", "a"], ["b"]]
    rows = clicks(t=[3, 2, 1]).to_dict("records")
    got = Sessions.from_frame(iter(rows), time="t", out=tmp_path / "out")
    assert got.to_lists() == [["c", "a"], ["b"]]


def test_keys_of_folders_are_columns(tmp_path: Path) -> None:
    for day, part in ((2, clicks()), (1, clicks())):
        write(tmp_path / "log" / f"shop=x{day}" / f"day={day}", part, [])
    got = Sessions.from_frame(tmp_path / "log", out=tmp_path / "out", time="day", features=["shop"])
    assert got.to_lists() == [["a", "c", "a", "c"], ["b", "b"]]
    assert got.time is not None
    assert got.time.tolist() == [1, 1, 2, 2, 1, 2]
    assert got.to_frame()["shop"].tolist() == ["x1", "x1", "x2", "x2", "x1", "x2"]


def test_files_come_in_the_order_given(tmp_path: Path) -> None:
    first = write(tmp_path / "first", clicks(), [])
    second = write(tmp_path / "second", clicks(item_id=["x", "y", "z"]), [])
    got = Sessions.from_frame([second, first / "part-0.parquet"], out=tmp_path / "out")
    assert got.to_lists() == [["x", "z", "a", "c"], ["y", "b"]]


def test_rows_of_many_files_and_row_groups_keep_their_order(tmp_path: Path) -> None:
    frame = pd.DataFrame({"session_id": 1, "item_id": np.arange(30_000)})
    log = write(tmp_path / "log", frame, [*range(0, 30_000, 1_000)], 700)
    names = sorted(path.name for path in log.iterdir())
    assert names[1] == "part-1.parquet"
    (log / "part-10.parquet").rename(log / "part-991.parquet")  # the paths' order decides
    coded_log.ROWS_PER_BATCH = 1 << 20
    got = Sessions.from_frame(log, out=tmp_path / "out")
    expected = Sessions.from_frame(log)
    assert got.vocabulary.ids.tolist() == expected.vocabulary.ids.tolist()


def test_session_with_two_users_is_refused(tmp_path: Path) -> None:
    log = write(tmp_path / "log", clicks(user=["u", "v", "w"]), [1])
    with pytest.raises(ValueError, match=r"column 'user' names several in 1 sessions, .* them 1\."):
        Sessions.from_frame(log, out=tmp_path / "out", user="user")
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_user_of_a_session_is_that_of_its_clicks_that_name_one(tmp_path: Path) -> None:
    frame = clicks(user=[None, None, "w"])
    got = Sessions.from_frame(frame, out=tmp_path / "out", user="user")
    assert got.users is not None
    assert got.users.tolist() == [0, -1]


@pytest.mark.parametrize("column", ["session_id", "item_id", "t"])
def test_missing_value_names_file_and_rows(tmp_path: Path, column: str) -> None:
    frame = pd.concat([clicks(t=[1.0, 2.0, 3.0])] * 2, ignore_index=True)
    frame.loc[4, column] = None
    log = write(tmp_path / "log", frame, [3])
    with pytest.raises(
        ValueError, match=rf"column '{column}' is missing in 1 .*\(row 1 of .*part-1.parquet"
    ):
        Sessions.from_frame(log, out=tmp_path / "out", time="t")
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_missing_column_names_those_there_are(tmp_path: Path) -> None:
    log = write(tmp_path / "log", clicks(), [])
    with pytest.raises(ValueError, match=r"no column 'x'; it has 'session_id', 'item_id'"):
        Sessions.from_frame(log, out=tmp_path / "out", item="x")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"session": None}, "cut from the log of each user="),
        ({"gap": 5.0}, "gap cuts where time passes"),
        ({"features": "color"}, "lists of column names"),
    ],
)
def test_wrong_arguments_are_named(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    log = write(tmp_path / "log", clicks(), [])
    with pytest.raises(ValueError, match=message):
        Sessions.from_parquet(log, tmp_path / "out", **arguments)


def test_no_or_empty_or_broken_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="There is no log at"):
        Sessions.from_frame(tmp_path / "nowhere", out=tmp_path / "out")
    write(tmp_path / "none", clicks().iloc[:0], [])
    with pytest.raises(ValueError, match="The log is empty"):
        Sessions.from_frame(tmp_path / "none", out=tmp_path / "out")
    whole = write(tmp_path / "cut", clicks(), []) / "part-0.parquet"
    whole.write_bytes(whole.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"part-0.parquet cannot be read: it is broken"):
        Sessions.from_frame(whole, out=tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut", "none"]


def test_page_that_is_broken_names_its_file_and_leaves_nothing(tmp_path: Path) -> None:
    frame = pd.DataFrame({"session_id": np.arange(5000), "item_id": np.arange(5000) % 7})
    log = write(tmp_path / "log", frame, [2500], 5000)
    data = bytearray((log / "part-1.parquet").read_bytes())
    data[4:3000] = bytes(2996)
    (log / "part-1.parquet").write_bytes(data)
    with pytest.raises(ValueError, match=r"part-1.parquet cannot be read: it is broken"):
        Sessions.from_frame(log, out=tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_something_else_in_the_folder_is_refused_and_left(tmp_path: Path) -> None:
    log = write(tmp_path / "log", clicks(), [])
    with pytest.raises(ValueError, match="something other than saved sessions"):
        Sessions.from_frame(log, out=log)
    assert [path.name for path in log.iterdir()] == ["part-0.parquet"]


@pytest.mark.parametrize("stage", ["read", "group", "sort", "write"])
@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        duckdb.IOException('Could not write file "build": No space left on device'),
        KeyboardInterrupt(),
    ],
)
def test_what_fails_leaves_the_old_one_and_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, error: BaseException
) -> None:
    log = write(tmp_path / "log", clicks(), [1])
    Sessions.from_lists([[1]]).save(tmp_path / "out")

    def fail(*_: object, **__: object) -> None:
        with coded_log.writing(Path("build")):
            raise error

    where: Any = {
        "read": (coded_log, "_read"),
        "group": (coded_log, "_add_groups"),
        "sort": (conversion, "_cut"),
        "write": (FolderWriter, "write_ids"),
    }[stage]
    monkeypatch.setattr(*where, fail)
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else ValueError
    with pytest.raises(expected, match="No space left" if expected is ValueError else None):
        Sessions.from_frame(log, out=tmp_path / "out")
    assert Sessions.open(tmp_path / "out").to_lists() == [[1]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "out"]


def test_disk_that_takes_no_more_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    size = 200_000
    frame = pd.DataFrame({"session_id": np.random.default_rng(0).permutation(size), "item_id": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, hard))
    try:
        with pytest.raises(ValueError, match=r"out cannot be written: .*(F|f)ile"):
            Sessions.from_frame(frame, out=tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


KILLED = """
import sys
import graphseq as gs
from graphseq.data.logs import conversion
def stop(*_):
    print("sorted", flush=True)
    sys.stdin.read()
conversion._write_names = stop
gs.Sessions.from_frame(sys.argv[1], out=sys.argv[2])
"""


def test_what_a_killed_one_left_is_collected_by_the_next(tmp_path: Path) -> None:
    log = write(tmp_path / "log", clicks(), [1])
    out = tmp_path / "out"
    command = [sys.executable, "-c", KILLED, str(log), str(out)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"sorted\n"
        process.send_signal(signal.SIGKILL)
    left = [path for path in tmp_path.iterdir() if path.name.endswith(".part")]
    assert len(left) == 1
    assert (left[0] / conversion.BUILD / "log.duckdb").is_file()
    Sessions.from_frame(log, out=out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "out"]


def test_beyond_its_memory_duckdb_spills_beside_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    random, size = np.random.default_rng(0), 2_000_000
    frame = pd.DataFrame(
        {
            "session_id": random.integers(0, 10**9, size),
            "item_id": random.integers(0, 1000, size),
            "t": random.integers(0, 10**6, size),
        }
    )
    monkeypatch.setattr(coded_log, "ROWS_PER_BATCH", 1 << 20)
    monkeypatch.setattr(coded_log, "MEMORY", "72MB")
    monkeypatch.setattr(coded_log, "THREADS", 2)
    cut, seen = conversion._cut, set()

    def watched(*arguments: Any) -> Any:
        for each in cut(*arguments):
            spilled = [path for path in tmp_path.rglob("spilled-*/*") if path.stat().st_size]
            seen.update(path.relative_to(tmp_path).parts[1] for path in spilled)
            yield each

    monkeypatch.setattr(conversion, "_cut", watched)
    frame.to_parquet(tmp_path / "log.parquet")
    with caplog.at_level(logging.INFO, "graphseq"):
        got = Sessions.from_frame(tmp_path / "log.parquet", time="t", out=tmp_path / "out")
    same(got, Sessions.from_frame(frame, time="t"))
    assert seen == {conversion.BUILD}
    assert f"{size} clicks in {len(got)} sessions written" in caplog.text


def in_parquet(folder: Path, **columns: Any) -> Path:
    path = folder / "odd.parquet"
    pq.write_table(pa.table({"session_id": [1, 1, 2], "item_id": [1, 2, 3], **columns}), path)
    return path


def message_of(log: Any, **arguments: Any) -> str:
    with pytest.raises(ValueError) as caught:
        Sessions.from_frame(log, **arguments)
    return str(caught.value)


MOMENT = pa.array([1, 2, 3], pa.time32("s"))


@pytest.mark.parametrize(
    ("columns", "arguments"),
    [
        ({"item_id": [1.5, 2.0, math.nan]}, {}),
        ({"item_id": pa.nulls(3)}, {}),
        ({"item_id": [b"a", b"b", b"c"]}, {}),
        ({"item_id": [1.0, math.inf, 2.5]}, {}),
        ({"t": MOMENT}, {"time": "t"}),
        ({"t": [True, False, True]}, {"time": "t"}),
        ({"t": ["0x10", "15", "14"]}, {"time": "t"}),
        ({"t": ["nan", "15", "14"]}, {"time": "t"}),
        ({"t": ["inf", "15", "14"]}, {"time": "t"}),
        ({"t": ["2016-02-30", "2016-02-29", "2016-02-28"]}, {"time": "t"}),
        ({"f": MOMENT}, {"features": ["f"]}),
        ({"f": [b"a", b"b", b"c"]}, {"features": ["f"]}),
    ],
)
def test_what_is_refused_is_refused_in_the_words_of_memory(
    tmp_path: Path, columns: dict[str, Any], arguments: dict[str, Any]
) -> None:
    log = in_parquet(tmp_path, **columns)
    said = message_of(log, **arguments)
    assert message_of(log, out=tmp_path / "out", **arguments) == said
    assert repr(next(iter(columns))) in said


@pytest.mark.parametrize("late", [math.inf, math.nan])
def test_time_that_is_none_is_found_wherever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: float
) -> None:
    monkeypatch.setattr("graphseq.data.logs.typed.ROWS_LOOKED_AT", 2)
    for times in ([5.0, 6.0, late], ["5.5", "6.5", str(late)]):
        log = in_parquet(tmp_path, t=times)
        said = message_of(log, time="t", out=tmp_path / "out")
        assert said == message_of(log, time="t")
        assert "row 2" in said


def test_booleans_are_the_text_of_memory(tmp_path: Path) -> None:
    log = in_parquet(tmp_path, item_id=[True, None, False])
    pq.write_table(pq.read_table(log).take([0, 2]), log)
    got = Sessions.from_frame(log, ids="text", out=tmp_path / "out")
    assert got.vocabulary.ids.tolist() == ["True", "False"]
    same(got, Sessions.from_frame(log, ids="text"))


@pytest.mark.parametrize(
    ("values", "ids"),
    [
        (["true", "false"], [True, False]),
        (["5.0", "6"], [5, 6]),
        (["5.5", "6"], [5.5, 6.0]),
        (["36893488147419103232", "6"], ["36893488147419103232", "6"]),
    ],
)
def test_json_values_are_those_of_memory(tmp_path: Path, values: list[str], ids: list[Any]) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text("".join(f'{{"session_id": 1, "item_id": {value}}}\n' for value in values))
    got = Sessions.from_frame(log, out=tmp_path / "out")
    assert got.to_lists() == [ids]
    assert list(map(type, got[0])) == list(map(type, ids))
    same(got, Sessions.from_frame(log))


@pytest.mark.parametrize(
    "column",
    [
        [1, "a", 2],
        pd.arrays.SparseArray([0, 0, 1]),
        pd.array([1, None, 3], dtype="Int64"),
        np.array([1, 2, 3], dtype=np.float16),
    ],
)
def test_frames_of_every_type_make_the_same_with_out(tmp_path: Path, column: Any) -> None:
    frame = pd.DataFrame({0: [1, 1, 2], ("a", "b"): column, "f": column})
    frame = frame.dropna() if isinstance(column, pd.api.extensions.ExtensionArray) else frame
    named = {"session": 0, "item": ("a", "b"), "features": ["f"]}
    got = Sessions.from_frame(frame, out=tmp_path / "out", **named)
    same(got, Sessions.from_frame(frame, **named))
    assert [len(session) for session in got.to_lists()] == [len(frame) - 1, 1]


@pytest.mark.parametrize("times", [["2016-05-09", "2016-05-08", "2016-05-07"], [3, 2, 1]])
@pytest.mark.parametrize(
    "named", [{"features": ["t"]}, {"session": "t"}, {"item_features": ["t"]}, {"user": "t"}]
)
def test_time_that_is_something_else_too_stays_what_it_is_in_the_log(
    tmp_path: Path, times: list[Any], named: dict[str, Any]
) -> None:
    frame = pd.DataFrame({"session_id": [1, 2, 3], "item_id": [1, 2, 3], "t": times})
    for suffix, write in (("parquet", frame.to_parquet), ("csv", frame.to_csv)):
        log = tmp_path / f"log.{suffix}"
        write(log, index=False)
        got = Sessions.from_frame(log, time="t", out=tmp_path / "out", **named)
        same(got, Sessions.from_frame(log, time="t", **named))
