"""Timestamps and durations are read in the same exact way in data and in arguments."""

from __future__ import annotations

import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphseq.data.loading.shards import build_shards
from graphseq.data.logs import typed
from graphseq.data.logs.ids import series_of_arrow
from graphseq.data.logs.times import (
    UNITS,
    duration,
    half_life_of,
    instants,
    moments_of_text,
    seconds_of_moment,
)
from graphseq.data.sessions.sessions import Sessions

DAY = 1462752000  # 2016-05-09, in seconds


def order_of(times: Any, **options: Any) -> list[int]:
    frame = pd.DataFrame({"session_id": 1, "item_id": range(len(times)), "time": times})
    return Sessions.from_frame(frame, time="time", **options).to_lists()[0]


MOMENTS = {
    "2016-05-09": 0,
    "2016-05-09T01:02": 3720,
    "2016-05-09 01:02:03": 3723,
    "2016-05-09T01:02:03.25": 3723.25,
    "2016-05-09T01:02:03.123456789": 3723.123456789,
    "2016-05-09T01:02:03Z": 3723,
    "2016-05-09 01:02:03 UTC": 3723,
    "2016-05-09T01:02:03+02:00": 3723 - 7200,
    "2016-05-09 01:02:03 -0130": 3723 + 5400,
    "2016-05-09T01:02:03.5+02": 3723.5 - 7200,
    " 2016-05-09 ": 0,
    str(DAY): 0,
}


def test_moments_as_text_mean_the_same_as_data_and_as_arguments() -> None:
    for text, seconds in MOMENTS.items():
        assert seconds_of_moment("at", text) == DAY + seconds, text
        assert instants(pd.Series([text])).seconds().tolist() == [DAY + seconds], text
        assert instants(pd.Series([text], dtype=object)).seconds()[0] == DAY + seconds
    iso = [text for text in MOMENTS if "-" in text]
    found = instants(pd.Series(iso)).seconds().tolist()  # with and without a zone, in one column
    assert found == [DAY + MOMENTS[text] for text in iso]
    assert order_of(iso) == np.argsort(found, kind="stable").tolist()


@pytest.mark.parametrize(
    "text",
    ["09.05.2016", "05/09/2016", "2016/05/09", "2016-5-9", "May 9 2016", "2016-02-30", "soon",
     "now", "2016-05", "2016-W19", "2016-05-09T25:00", "2016-05-09T1:02",
     "2016-05-09T01:02:03.1234567891", "2016-05-09 01:02 CET", "", "true"],
)  # fmt: skip
def test_moments_that_can_be_read_in_two_ways_or_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="at is a date as '2014-09-30'"):
        seconds_of_moment("at", text)
    column = pd.Series(["2016-05-09", text, "2016-05-10", text])
    with pytest.raises(ValueError, match=r"2 of its rows \(row 1, 3, counted") as error:
        instants(column, what="time")
    assert repr(text) in str(error.value)
    found = moments_of_text(pa.array([*column, None]), "us").to_pylist()
    assert [value is None for value in found] == [False, True, False, True, True]


@given(
    st.lists(st.datetimes(datetime.datetime(1, 1, 1), datetime.datetime(9999, 1, 1)), min_size=1)
)
def test_moments_of_any_type_are_the_same_seconds(moments: list[datetime.datetime]) -> None:
    epoch = datetime.datetime(1970, 1, 1)
    exact = [Fraction((m - epoch) // datetime.timedelta(microseconds=1), 10**6) for m in moments]
    for column in (
        pd.Series(moments, dtype=object),
        pd.Series(np.array(moments, dtype="datetime64[us]")),
        pd.Series(np.array(moments, dtype="datetime64[us]")).dt.tz_localize("UTC"),
        series_of_arrow(pa.array(moments, pa.timestamp("us")), "time"),
        series_of_arrow(pa.array(moments, pa.timestamp("us", "Asia/Tokyo")), "time"),
        pd.Series([m.isoformat() for m in moments], dtype="str"),
        pd.Series([m.isoformat(" ") + "+00:00" for m in moments], dtype="category"),
    ):
        assert instants(column).seconds().tolist() == [float(value) for value in exact]
    sane = [m for m in moments if 1700 < m.year < 2200]
    if sane:
        fine = pd.Series(np.array(sane, dtype="datetime64[ns]"))  # has the same seconds as coarser
        coarse = pd.Series(np.array(sane, dtype="datetime64[us]"))
        np.testing.assert_array_equal(instants(fine).seconds(), instants(coarse).seconds())


@pytest.mark.parametrize("unit", list(UNITS))
def test_numbers_of_a_unit_become_seconds(unit: str) -> None:
    ticks = [int(DAY / UNITS[unit]) + n for n in (3, 1, 2)]
    found = instants(pd.Series(ticks), unit)
    assert found.tick == UNITS[unit]
    assert found.seconds().tolist() == [float(tick * UNITS[unit]) for tick in ticks]
    assert order_of(ticks, time_unit=unit) == [1, 2, 0]
    assert order_of([float(tick) for tick in ticks][::-1][:2], time_unit=unit)[0] in (0, 1)


@pytest.mark.parametrize("start", [2**60, 2**55, 2**63 - 4, 2**64 - 5, -(2**62)])
def test_integers_keep_their_order_to_the_last_digit(start: int) -> None:
    times = [start + n for n in (3, 1, 2)]
    kind = np.uint64 if start >= 2**63 else np.int64
    assert len({float(time) for time in times}) < 3  # a float cannot tell them apart
    for column in (
        np.array(times, dtype=kind),
        pd.Series(times, dtype=object),
        list(map(str, times)),
    ):
        assert order_of(column, time_unit="ns") == [1, 2, 0]
        frame = pd.DataFrame({"user_id": 1, "item_id": [0, 1, 2], "timestamp": column})
        cut = Sessions.from_events(frame, gap=pd.Timedelta(1, unit="ns"), time_unit="ns")
        assert cut.to_lists() == [[1, 2, 0]]
    frame = pd.DataFrame({"user_id": 1, "item_id": [0, 1], "timestamp": np.array(times[:2], kind)})
    assert Sessions.from_events(frame, gap="1ns", time_unit="ns").to_lists() == [[1], [0]]
    assert Sessions.from_events(frame, gap="2ns", time_unit="ns").to_lists() == [[1, 0]]


@pytest.mark.parametrize(
    ("numbers", "likely"),
    [
        ([DAY * 10**3], "milliseconds: pass time_unit='ms'"),
        ([DAY * 10**6], "microseconds: pass time_unit='us'"),
        ([DAY * 10**9, 0, 5], None),
        ([DAY * 10**9], "nanoseconds: pass time_unit='ns'"),
        ([2**63 + 5], "nanoseconds|no time of any unit"),
        ([20160509, 20160430], "dates written as YYYYMMDD"),
        ([20160509, 20160431], "dates written as YYYYMMDD"),
        ([20160509, 20161309], None),
        ([20160509101112], "dates written as YYYYMMDDhhmmss"),
        ([DAY], None),
        ([7_258_118_400], None),
        ([7_258_118_401], "milliseconds"),
        ([-7_258_118_401], "milliseconds"),
        ([5, 1], None),
    ],
)
def test_numbers_that_can_hardly_be_seconds_are_refused(
    numbers: list[int], likely: str | None
) -> None:
    for column in (numbers, [float(n) for n in numbers], [str(n) for n in numbers]):
        if likely is None:
            assert instants(pd.Series(column)).ticks.tolist() == numbers
        else:
            with pytest.raises(ValueError, match=likely):
                instants(pd.Series(column))
        assert instants(pd.Series(column), "s").tick == 1


DURATIONS: list[tuple[Any, Fraction]] = [
    ("30min", Fraction(1800)),
    ("30 minutes", Fraction(1800)),
    ("1h30m", Fraction(5400)),
    ("00:30:00", Fraction(1800)),
    ("PT30M", Fraction(1800)),
    ("1.5h", Fraction(5400)),
    ("2 days", Fraction(172800)),
    (1800, Fraction(1800)),
    (0.5, Fraction(1, 2)),
    (np.float32(0.5), Fraction(1, 2)),
    (np.int64(7), Fraction(7)),
    (pd.Timedelta(1, unit="ns"), Fraction(1, 10**9)),
    (datetime.timedelta(milliseconds=1), Fraction(1, 1000)),
    (np.timedelta64(3, "h"), Fraction(10800)),
]


@pytest.mark.parametrize(("value", "seconds"), DURATIONS, ids=str)
def test_durations_of_any_type_are_exact(value: Any, seconds: Fraction) -> None:
    assert duration("gap", value) == seconds
    if isinstance(value, (int, float, np.int64, np.float32)):
        assert duration("test_days", value, number="days") == seconds * 86400


@pytest.mark.parametrize(
    "value",
    ["30", "", "soon", "min", "1M", "1 month", "1y", "-5min", "0s", 0, -1, float("nan"),
     float("inf"), True, None, [1], pd.NaT, np.timedelta64("NaT"),
     np.timedelta64(1, "M"), np.timedelta64(5)],
    ids=str,
)  # fmt: skip
def test_durations_without_a_unit_or_a_length_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="gap is a positive number of seconds, text with a unit"):
        duration("gap", value)


@pytest.mark.parametrize("kind", ["float32", "float16", "Float32"])
def test_times_in_floats_that_lose_seconds_are_refused(kind: str, tmp_path: Path) -> None:
    least = 2**11 if kind == "float16" else 2**24
    fine = pd.DataFrame(
        {"session_id": 1, "item_id": [1, 2], "t": pd.Series([5, least], dtype=kind)}
    )
    assert Sessions.from_frame(fine, time="t").time.tolist() == [5, least]  # type: ignore[union-attr]
    coarse = fine.assign(t=pd.Series([5, 2 * least], dtype=kind))
    words = rf"'t' holds {kind}, .* as large as {2 * least} .* in 1 of its rows \(row 1"
    with pytest.raises(ValueError, match=words):
        Sessions.from_frame(coarse, time="t")
    if kind == "float32":
        coarse.to_parquet(tmp_path / "log.parquet")
        for out in (None, tmp_path / "out"):
            with pytest.raises(ValueError, match="'t' holds float32"):
                Sessions.from_frame(tmp_path / "log.parquet", time="t", out=out)


def test_time_that_loses_seconds_in_any_row_of_a_file_is_refused_by_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(typed, "ROWS_LOOKED_AT", 2)
    for name, times in (("a", [1, 2, 3]), ("b", [3, 2**24, 2**25])):
        frame = pd.DataFrame({"session_id": 1, "item_id": [1, 2, 3], "t": np.float32(times)})
        frame.to_parquet(tmp_path / f"{name}.parquet")
    files = [tmp_path / f"{name}.parquet" for name in "ab"]
    words = r"'t' holds float32, .* 33554432 .* 1 of its rows \(row 2 of .*b.parquet"
    with pytest.raises(ValueError, match=words):
        Sessions.from_frame(files, time="t", out=tmp_path / "out")
    with pytest.raises(ValueError, match=words):
        build_shards(files, tmp_path / "out", 1, time="t")
    assert not (tmp_path / "out").exists()
    assert Sessions.from_frame(files[0], time="t", out=tmp_path / "out").num_clicks == 3


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([True, False], "booleans"),
        ([datetime.time(1), datetime.time(2)], r"datetime.time\(1, 0\)"),
        ([1.0, np.inf], r"infinite in 1 of its rows \(row 1,"),
        ([1, None], r"missing in 1 of its rows \(row 1,"),
        (["2016-05-09", None], r"missing in 1 of its rows \(row 1,"),
        ([datetime.date(2016, 5, 9), 5], r"5 \(int\) in 1 of its rows \(row 1,"),
    ],
)
def test_times_of_other_types_are_refused_with_their_rows(values: list[Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        instants(pd.Series(values, dtype=object))


@pytest.mark.parametrize(
    "at", [np.timedelta64(5), np.timedelta64(5, "s"), True, None, [1]], ids=str
)
def test_moments_of_other_types_are_refused(at: Any) -> None:
    with pytest.raises(ValueError, match=r"at is a date as '2014-09-30'"):
        seconds_of_moment("at", at)


def test_session_and_gap_cut_a_session_further() -> None:
    frame = pd.DataFrame(
        {
            "visit": ["b", "b", "b", "a"],
            "item": [1, 2, 3, 4],
            "t": [0, 10, 21, 5],
            "u": [7, 7, 7, 8],
        }
    )
    cut = Sessions.from_frame(frame, session="visit", item="item", time="t", user="u", gap=10)
    assert cut.to_lists() == [[1, 2], [3], [4]]
    assert list(cut.session_ids) == ["b", "b", "a"]
    assert cut.user_vocabulary.decode(cut.users) == [7, 7, 8]
    with pytest.raises(ValueError, match="name the column of times with time="):
        Sessions.from_frame(frame, session="visit", item="item", gap=10)
    with pytest.raises(ValueError, match="A session belongs to one user"):
        Sessions.from_frame(
            frame.assign(u=[7, 7, 9, 8]), session="visit", item="item", time="t", user="u", gap=10
        )


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1 day", 86_400.0),
        (pd.Timedelta("90min"), 5_400.0),
        (datetime.timedelta(hours=2), 7_200.0),
        (np.timedelta64(30, "s"), 30.0),
        (2.5, 2.5),
        (np.int32(7), 7.0),
        (None, None),
    ],
)
def test_half_life_of_any_duration_is_its_seconds(value: Any, seconds: float | None) -> None:
    assert half_life_of(value) == seconds


@pytest.mark.parametrize("value", ["30", "soon", 0, -1.0, float("nan"), float("inf"), True, [1]])
def test_half_life_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"half_life (is a positive|must be positive)"):
        half_life_of(value)


def test_half_life_in_clicks_is_a_number() -> None:
    assert half_life_of(3, unit="clicks") == 3.0
    with pytest.raises(ValueError, match="half_life counts clicks here"):
        half_life_of("3min", unit="clicks")
