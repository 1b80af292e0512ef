"""Logs in files: the same sessions as from a frame, and clear errors for other files."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest

from graphseq.data.sessions.sessions import Sessions


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


FILES = ["log.csv", "log.csv.gz", "log.tsv", "log.parquet"]


def write(frame: pd.DataFrame, path: Path) -> dict[str, str]:
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
        return {}
    separator = "\t" if path.suffix == ".tsv" else ","
    frame.to_csv(path, index=False, sep=separator)
    return {"separator": separator}


@pytest.mark.parametrize("name", FILES)
def test_from_frame_file_equals_frame(name: str, tmp_path: Path) -> None:
    options = {"time": "t", "user": "user", "features": ["price", "colour"]}
    expected = Sessions.from_frame(a_log(), **options, item_features=["sold"])
    form = write(a_log(), tmp_path / name)
    found = Sessions.from_frame(tmp_path / name, **options, item_features=["sold"], **form)
    assert found.fingerprint() == expected.fingerprint()
    pd.testing.assert_frame_equal(found.to_frame(), expected.to_frame())
    pd.testing.assert_frame_equal(found.item_features, expected.item_features)


@pytest.mark.parametrize("name", FILES)
def test_from_events_file_equals_frame(name: str, tmp_path: Path) -> None:
    form = write(a_log(), tmp_path / name)
    options = {"user": "session_id", "time": "t", "gap": 2.0}
    expected = Sessions.from_events(a_log(), **options)
    found = Sessions.from_events(str(tmp_path / name), **options, **form)
    assert found.fingerprint() == expected.fingerprint()
    assert len(found) == 3


def test_from_frame_folder_of_parquet_reads_all_in_order(tmp_path: Path) -> None:
    a_log().iloc[:2].to_parquet(tmp_path / "part-0.parquet")
    a_log().iloc[2:].to_parquet(tmp_path / "part-1.parquet")
    expected = Sessions.from_frame(a_log(), time="t")
    assert Sessions.from_frame(tmp_path, time="t").fingerprint() == expected.fingerprint()


@pytest.mark.parametrize("name", FILES)
def test_from_frame_file_without_column_lists_those_that_exist(name: str, tmp_path: Path) -> None:
    form = write(a_log(), tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name} has no column 'when'; it has 'session_id', '"):
        Sessions.from_frame(tmp_path / name, time="when", **form)


@pytest.mark.parametrize("name", FILES)
def test_from_frame_file_with_missing_item_names_its_row(name: str, tmp_path: Path) -> None:
    form = write(a_log().assign(item_id=["x", None, "z", "z", "x"]), tmp_path / name)
    with pytest.raises(ValueError, match=r"'item_id' is missing in 1 of its rows \(row 1,"):
        Sessions.from_frame(tmp_path / name, **form)


@pytest.mark.parametrize("name", FILES)
def test_from_frame_file_of_a_header_alone_is_an_empty_log(name: str, tmp_path: Path) -> None:
    form = write(a_log().iloc[:0], tmp_path / name)
    with pytest.raises(ValueError, match="log is empty"):
        Sessions.from_frame(tmp_path / name, **form)


@pytest.mark.parametrize("name", ["log.csv.gz", "log.parquet"])
def test_from_frame_file_cut_off_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    write(pd.concat([a_log()] * 500), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=f"{name} cannot be read: it is broken, cut off") as error:
        Sessions.from_frame(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [b"", b"session_id,item_id\n1,2\n3\n", gzip.compress(b"session_id,item_id\n", mtime=0)[:-9]],
)
def test_from_frame_file_that_is_no_csv_is_refused(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=r"log\.csv"):
        Sessions.from_frame(path)


def test_from_frame_file_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="There is no log at"):
        Sessions.from_frame(tmp_path / "no.csv")
    with pytest.raises(ValueError, match="holds no Parquet file"):
        Sessions.from_frame(tmp_path)


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["1", "2", "-3"], [1, 2, -3]),
        (["1", "02", "3"], ["1", "02", "3"]),
        (["1", "x", "3"], ["1", "x", "3"]),
        (["1.5", "2", "3"], ["1.5", "2", "3"]),
        (["18446744073709551616", "1", "2"], ["18446744073709551616", "1", "2"]),
        (["2016-05-09", "true", "x"], ["2016-05-09", "true", "x"]),
        (["true", "false", "true"], ["true", "false", "true"]),
    ],
)
def test_from_frame_ids_of_csv_are_integers_or_the_text_of_the_file(
    ids: list[str], expected: list[Any], tmp_path: Path
) -> None:
    lines = "".join(f"1,{value}\n" for value in ids)
    (tmp_path / "log.csv").write_text("session_id,item_id\n" + lines)
    assert Sessions.from_frame(tmp_path / "log.csv").to_lists() == [expected]


def test_from_frame_csv_that_changes_its_types_late_is_read_as_what_all_values_are(
    tmp_path: Path,
) -> None:
    rows = [f"{n // 5},{n % 7},{n},{n}" for n in range(30_000)]
    rows += ["last,x7,29999.5,none", "last,3,30000.5,1.5"]
    (tmp_path / "log.csv").write_text("\n".join(["session_id,item_id,time,price", *rows]) + "\n")
    sessions = Sessions.from_frame(tmp_path / "log.csv", time="time", features=["price"])
    assert len(sessions) == 6001
    assert sessions[0] == ["0", "1", "2", "3", "4"]
    assert sessions[6000] == ["x7", "3"]
    assert sessions.time[-3:].tolist() == [29999.0, 29999.5, 30000.5]
    assert sessions.to_frame()["price"].tolist()[-3:] == ["29999", "none", "1.5"]


def test_gzip_whose_checksum_does_not_fit_is_refused(tmp_path: Path) -> None:
    lines = "".join(f"{row // 3},{row * 7919 % 1000}\n" for row in range(20_000))
    whole = gzip.compress(f"session_id,item_id\n{lines}".encode(), mtime=0)
    path = tmp_path / "log.csv.gz"
    path.write_bytes(whole)
    assert Sessions.from_frame(path).num_clicks == 20_000
    for place in (-6, len(whole) // 2, len(whole) - 200):  # in the checksum, and in the text
        path.write_bytes(bytes(whole[:place]) + bytes([whole[place] ^ 1]) + whole[place:][1:])
        with pytest.raises(ValueError, match=r"log\.csv\.gz cannot be read: it is broken"):
            Sessions.from_frame(path)
        with pytest.raises(ValueError, match=r"log\.csv\.gz cannot be read: it is broken"):
            Sessions.from_frame(path, out=tmp_path / "out")


def test_features_of_a_list_of_dicts_are_those_of_a_frame() -> None:
    frame = pd.DataFrame({"session_id": [1, 1], "item_id": [5, 6], "price": [1.5, np.nan]})
    rows = [
        dict(row, price=None if row["item_id"] == 6 else 1.5) for row in frame.to_dict("records")
    ]
    found = Sessions.from_frame(rows, features=["price"])
    assert found.fingerprint() == Sessions.from_frame(frame, features=["price"]).fingerprint()
    assert found.click_features["price"].dtype == np.float64


def test_feature_that_cannot_be_saved_is_refused_at_once() -> None:
    frame = pd.DataFrame({"session_id": [1], "item_id": [5], "f": [{"a": 1}]})
    with pytest.raises(ValueError, match="The feature 'f' holds dict in 1 of its rows"):
        Sessions.from_frame(frame, features=["f"])


def test_relation_that_fails_says_why_in_one_sentence() -> None:
    relation = duckdb.sql("SELECT 1 AS session_id, 'x'::INTEGER AS item_id FROM range(2)")
    with pytest.raises(ValueError, match=r"'item_id' cannot be read .*convert string 'x'"):
        Sessions.from_frame(relation)
