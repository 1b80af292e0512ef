"""Unusual text files: comments, odd line ends, blank lines, duplicate names."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graphseq.data import Sessions


def lists_of(tmp_path: Path, content: bytes, **options: object) -> list[list[object]]:
    """The lists in the file, read in memory and through a folder."""
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    found = Sessions.from_frame(path, **options).to_lists()  # type: ignore[arg-type]
    built = Sessions.from_frame(path, out=tmp_path / "out", **options)  # type: ignore[arg-type]
    assert built.to_lists() == found
    return found


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("inner", ["\n", "\r\n"])
def test_line_ends_within_quotes_stay_what_they_are(end: bytes, inner: str, tmp_path: Path) -> None:
    rows = [b"session_id,item_id", b'1,"a' + inner.encode() + b'b"', b"1,c"]
    if end == b"\r":
        rows[1] = b'1,"a b"'
        inner = " "
    assert lists_of(tmp_path, end.join(rows) + end) == [[f"a{inner}b", "c"]]


def test_line_ends_of_several_kinds_are_one_outside_quotes(tmp_path: Path) -> None:
    content = b'session_id,item_id\r\n1,"a\r\nb"\n1,c\r\n1,"d\ne"\n'
    assert lists_of(tmp_path, content) == [["a\r\nb", "c", "d\ne"]]


@pytest.mark.parametrize("comment", [b"# made by x\n", b"# one, two\n# three\n", b"#\n"])
def test_comments_above_the_header_are_no_header(comment: bytes, tmp_path: Path) -> None:
    assert lists_of(tmp_path, comment + b"session_id,item_id\n1,a\n1,b\n") == [["a", "b"]]
    named = {"names": ["session_id", "item_id"]}
    assert lists_of(tmp_path, b"# two words\n1,a\n1,b\n", **named) == [["a", "b"]]


def test_header_that_begins_with_a_number_sign_is_one(tmp_path: Path) -> None:
    content = b"#session_id,item_id\n1,a\n1,b\n"
    assert lists_of(tmp_path, content, session="#session_id") == [["a", "b"]]
    above = b"# a comment\n" + content
    assert lists_of(tmp_path, above, session="#session_id") == [["a", "b"]]


def test_names_given_beside_a_header_make_no_click_of_it(tmp_path: Path) -> None:
    content = b"session_id,item_id\n1,a\n1,b\n"
    named = {"names": ["session_id", "item_id"]}
    assert lists_of(tmp_path, content, **named) == [["a", "b"]]
    assert lists_of(tmp_path, b"1,a\n1,b\n", **named) == [["a", "b"]]


def test_line_of_blanks_is_an_empty_line(tmp_path: Path) -> None:
    assert lists_of(tmp_path, b"session_id,item_id\n1,a\n   \n1,b\n  \n") == [["a", "b"]]


def test_column_without_a_name_is_passed_over_and_asking_for_it_says_what_to_do(
    tmp_path: Path,
) -> None:
    content = b",session_id,item_id\n0,1,a\n1,1,b\n"
    assert lists_of(tmp_path, content) == [["a", "b"]]
    path = tmp_path / "log.csv"
    with pytest.raises(ValueError, match=r"one has none: pass names=\[\.\.\.\]"):
        Sessions.from_frame(path, features=[""], out=tmp_path / "other")


def test_durations_of_parquet_are_times_and_refused_by_name_with_out(tmp_path: Path) -> None:
    table = pa.table(
        {"session_id": [1, 1], "item_id": ["a", "b"], "t": pa.array([1, 2], pa.duration("s"))}
    )
    pq.write_table(table, tmp_path / "log.parquet")
    assert Sessions.from_frame(tmp_path / "log.parquet", time="t").time.tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="'t' holds durations: read the log without out="):
        Sessions.from_frame(tmp_path / "log.parquet", time="t", out=tmp_path / "out")


def test_text_that_is_no_unicode_is_named_by_its_row() -> None:
    frame = pd.DataFrame({"session_id": [1, 1]})
    frame["item_id"] = pd.Series(["a", "\ud800"], dtype=object)
    with pytest.raises(ValueError, match="'item_id' holds text that is not Unicode in 1 of"):
        Sessions.from_frame(frame)
    with pytest.raises(ValueError, match="holds text that is not Unicode"):
        Sessions.from_lists([["a", "\ud800"]])
