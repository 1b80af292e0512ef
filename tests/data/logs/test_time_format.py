"""Times as text that is not ISO 8601: one format for all, and errors for other values."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from graphseq.data.sessions.sessions import Sessions

LOG = "1\ta\tTue Apr 03 18:00:09 +0000 2012\n1\tb\tTue Apr 03 20:00:08 +0200 2012\n"
NAMES = ["s", "i", "t"]
FORMAT = "%a %b %d %H:%M:%S %z %Y"


def read(path: Path, time_format: str) -> Sessions:
    return Sessions.from_frame(
        path, names=NAMES, session="s", item="i", time="t", time_format=time_format
    )


def test_time_format_with_zones_orders_the_clicks(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(LOG)
    sessions = read(tmp_path / "a.txt", FORMAT)
    assert sessions.to_lists() == [["b", "a"]]
    assert sessions.time is not None
    assert sessions.time.tolist() == [1333476008.0, 1333476009.0]


def test_time_format_without_a_zone_is_utc_and_numbers_are_read_by_it() -> None:
    frame = pd.DataFrame(
        {"s": [1, 1], "i": [1, 2], "t": ["11/15/2019 10:22:32 PM", "11/15/2019 9:22:32 AM"]}
    )
    sessions = Sessions.from_frame(
        frame, session="s", item="i", time="t", time_format="%m/%d/%Y %I:%M:%S %p"
    )
    assert sessions.to_lists() == [[2, 1]]
    assert sessions.time is not None
    assert sessions.time.tolist() == [1573809752.0, 1573856552.0]
    days = frame.assign(t=[20191116, 20191115])
    sessions = Sessions.from_frame(days, session="s", item="i", time="t", time_format="%Y%m%d")
    assert sessions.time is not None
    assert sessions.time.tolist() == [1573776000.0, 1573862400.0]


def test_time_format_other_values_are_counted_and_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(LOG + "2\tc\t2012-04-03\n2\td\t\n3\te\t2012-04-03\n")
    with pytest.raises(ValueError, match=r"not written as time_format='%a.*\(row 2, 4, .*2012-04"):
        read(tmp_path / "a.txt", FORMAT)
    (tmp_path / "a.txt").write_text(LOG + "2\td\t\n")
    with pytest.raises(ValueError, match=r"'t' is missing in 1 of its rows \(row 2"):
        read(tmp_path / "a.txt", FORMAT)
    with pytest.raises(ValueError, match=r"bad directive"):
        read(tmp_path / "a.txt", "%Q")


def test_time_format_and_time_unit_together_are_refused() -> None:
    frame = pd.DataFrame({"s": [1], "i": [1], "t": [5]})
    with pytest.raises(ValueError, match="time_unit or a time_format, got both"):
        Sessions.from_frame(frame, session="s", item="i", time="t", time_unit="s", time_format="%Y")


def test_json_lines_without_a_suffix_are_json(tmp_path: Path) -> None:
    (tmp_path / "20170101").write_text('{"u": 1, "id": "a", "t": 3}\n{"u": 1, "id": "b", "t": 2}\n')
    sessions = Sessions.from_frame(tmp_path / "20170101", session="u", item="id", time="t")
    assert sessions.to_lists() == [["b", "a"]]
