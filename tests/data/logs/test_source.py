"""Opening logs: one log gives the same sessions in every form, or a clear error."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphseq.data.logs.door import open_log
from graphseq.data.logs.source import BadLine, LogOptions
from graphseq.data.sessions.sessions import Sessions

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=5)
IDS = st.integers(-(2**63), 2**63 - 1) | st.sampled_from(["7", "x y", "007", 'a"b', "é,;", "NULL"])


def a_log() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "session_id": [2, 1, 2, 1, 2],
            "item_id": ["x", "y", "z", "z", "x"],
            "time": [5, 3, 1, 4, 1],
            "user_id": pd.array([2**53 + 1, None, 2**53 + 1, None, 2**53 + 1], dtype="Int64"),
        }
    )


EXPECTED = Sessions.from_frame(a_log(), time="time", user="user_id")


def write(frame: pd.DataFrame, path: Path) -> Path:
    """A log in the format that the name says."""
    kind = path.suffixes[0]
    if kind == ".parquet":
        frame.to_parquet(path, index=False)
        return path
    if kind == ".jsonl":
        data = frame.to_json(orient="records", lines=True, force_ascii=False).encode()
    elif kind == ".json":
        data = frame.to_json(orient="records", force_ascii=False).encode()
    else:
        data = frame.to_csv(index=False, sep="\t" if kind == ".tsv" else ",").encode()
    packed = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
    last = path.suffixes[-1]
    if last in (".zst", ".lz4"):
        codec = "zstd" if last == ".zst" else "lz4"
        with pa.CompressedOutputStream(str(path), codec) as stream:
            stream.write(data)
    elif last == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("folder/" + path.stem, data)
    else:
        path.write_bytes(packed.get(last, bytes)(data))
    return path


FORMS: dict[str, Callable[[pd.DataFrame], Any]] = {
    "pandas": lambda frame: frame,
    "pandas, index": lambda frame: frame.set_index(["session_id", "item_id"]),
    "pandas, Arrow": lambda frame: frame.convert_dtypes(dtype_backend="pyarrow"),
    "pandas, categories": lambda frame: frame.astype({"item_id": "category"}),
    "polars": pl.from_pandas,
    "polars, lazy": lambda frame: pl.from_pandas(frame).lazy(),
    "Arrow": pa.Table.from_pandas,
    "batch": pa.RecordBatch.from_pandas,
    "batches": lambda frame: iter(pa.Table.from_pandas(frame).to_batches(max_chunksize=2)),
    "reader": lambda frame: pa.Table.from_pandas(frame).to_reader(max_chunksize=2),
    "dataset": lambda frame: ds.dataset(pa.Table.from_pandas(frame)),
    "DuckDB": lambda frame: duckdb.connect().from_arrow(pa.Table.from_pandas(frame)),
    "dicts": lambda frame: pa.Table.from_pandas(frame).to_pylist(),
    "generator": lambda frame: iter(pa.Table.from_pandas(frame).to_pylist()),
    "columns": lambda frame: pa.Table.from_pandas(frame).to_pydict(),
}


@pytest.mark.parametrize("form", FORMS)
def test_from_frame_what_people_hold_gives_the_same_sessions(form: str) -> None:
    found = Sessions.from_frame(FORMS[form](a_log()), time="time", user="user_id")
    assert found.fingerprint() == EXPECTED.fingerprint()
    assert found.user_vocabulary.ids.tolist() == [2**53 + 1]  # as a float it is 2**53


@pytest.mark.parametrize(
    "name",
    ["a.csv", "a.tsv", "a.json", "a.jsonl", "a.parquet", "a.jsonl.zst"]
    + [f"a.csv{suffix}" for suffix in (".gz", ".zst", ".bz2", ".lz4", ".xz", ".zip")],
)
def test_from_frame_files_give_the_same_sessions(name: str, tmp_path: Path) -> None:
    path = write(a_log(), tmp_path / name)
    found = Sessions.from_frame(path, time="time", user="user_id")
    assert found.fingerprint() == EXPECTED.fingerprint()
    typed = [pd.DataFrame(sql) for sql in _typed(path)]
    assert typed[0].equals(_typed_of(a_log()))


def _typed(log: Any) -> list[Any]:
    with open_log(log) as source:
        found = source.typed(ids=["session_id", "item_id", "user_id"], time="time")
        return [found.connection.sql(found.sql).to_arrow_table().to_pydict()]


def _typed_of(log: Any) -> pd.DataFrame:
    return pd.DataFrame(_typed(log)[0])


LOG = st.lists(
    st.tuples(IDS, IDS, st.integers(0, 4_000_000_000), TEXT | st.none()), min_size=1, max_size=12
)


@given(LOG)
@settings(max_examples=12, deadline=None)
def test_from_frame_any_log_in_any_file_gives_the_same_sessions(
    tmp_path_factory: pytest.TempPathFactory, log: list[tuple[Any, Any, int, str | None]]
) -> None:
    """Ids of one column are all integers or all text, as a file has them."""
    names = ["session_id", "item_id", "time", "tag"]
    frame = pd.DataFrame(log, columns=names)
    for name in ("session_id", "item_id"):
        if not all(isinstance(value, int) for value in frame[name]):
            frame[name] = frame[name].astype(str) + "#"  # text that no reader takes for integers
    frame["tag"] = [f"#{tag}" if tag and tag.strip() else None for *_, tag in log]
    frame["tag"] = frame["tag"].astype("str")
    folder = tmp_path_factory.mktemp("log")
    options: dict[str, Any] = {"time": "time", "features": ["tag"], "time_unit": "s"}
    expected = Sessions.from_frame(frame, **options).fingerprint()
    for name in ("a.csv", "a.tsv", "a.jsonl", "a.parquet"):
        found = Sessions.from_frame(write(frame, folder / name), **options)
        assert found.fingerprint() == expected, name
    for form in ("polars", "Arrow", "DuckDB", "dicts"):
        assert Sessions.from_frame(FORMS[form](frame), **options).fingerprint() == expected, form


def test_from_frame_folder_glob_list_and_hive_keys(tmp_path: Path) -> None:
    log = a_log().drop(columns="user_id")
    for kind in ("csv", "parquet", "jsonl"):
        base = tmp_path / kind
        for number, (day, part) in enumerate([("007", log[:2]), ("8", log[2:])]):
            folder = base / f"day={day}"
            folder.mkdir(parents=True)
            write(part, folder / f"{number}.{kind}")
        (base / "_SUCCESS").write_text("")
        (base / f".0.{kind}.crc").write_text("x")
        (base / f"_tmp.{kind}").write_text("x")
        expected = Sessions.from_frame(log, time="time").fingerprint()
        logs: list[Any] = [base, f"{base}/*/*.{kind}", sorted(base.glob(f"*/*.{kind}"))]
        assert {Sessions.from_frame(log, time="time").fingerprint() for log in logs} == {expected}
        by_day = Sessions.from_frame(base, session="day")
        assert list(by_day.session_ids) == ["007", "8"]  # one of them is no integer as written
        assert by_day.lengths.tolist() == [2, 3]


def test_from_frame_missing_values_of_many_files_name_the_file(tmp_path: Path) -> None:
    for kind in ("csv", "parquet", "jsonl"):
        folder = tmp_path / kind
        folder.mkdir()
        for number, items in enumerate([["a", "b"], ["c", None]]):
            write(pd.DataFrame({"session_id": 1, "item_id": items}), folder / f"{number}.{kind}")
        with pytest.raises(ValueError, match=rf"1 of its rows \(row 1 of .*1\.{kind}, counted"):
            Sessions.from_frame(folder)


@pytest.mark.parametrize(
    "log",
    [5, None, b"x", object(), np.zeros((2, 2)), torch.zeros(3), pd.Series([1]), [[1, 2]], [1]],
    ids=lambda log: type(log).__name__,
)
def test_from_frame_what_is_no_log_is_refused_by_its_type(log: Any) -> None:
    kind = "list of" if isinstance(log, list) else type(log).__name__
    with pytest.raises(ValueError, match=f"A log is a frame of pandas or polars.*{kind}.* is none"):
        Sessions.from_frame(log)


def test_from_frame_open_file_is_refused_with_the_way_out() -> None:
    with Path(__file__).open() as file:
        for log in (file, io.BytesIO(b"session_id,item_id")):
            with pytest.raises(ValueError, match=r"open file .* is not a log: pass its path"):
                Sessions.from_frame(log)


def test_from_frame_ids_that_differ_late_are_text_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("session_id,item_id\n" + "1,5\n" * 30_000 + "1,x\n1,05\n")
    sessions = Sessions.from_frame(path)
    assert sessions.vocabulary.ids.tolist() == ["5", "x", "05"]
    assert sessions.session_ids.tolist() == [1]


# -- text ----------------------------------------------------------------------------------------


def read(data: str | bytes, tmp_path: Path, **options: Any) -> list[list[Any]]:
    path = tmp_path / "log.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return Sessions.from_frame(path, **options).to_lists()


@pytest.mark.parametrize(
    "data",
    [
        "\ufeffsession_id,item_id\n1,é\n1,b\n".encode(),
        b"session_id,item_id\r\n1,\xc3\xa9\r\n1,b\r\n",
        b"session_id,item_id\r1,\xc3\xa9\r1,b\r",
        b"session_id,item_id\r\n1,\xc3\xa9\n1,b",
        "session_id;item_id\n1;é\n1;b\n",
        "session_id\titem_id\n1\té\n1\tb\n",
        "session_id|item_id\n1|é\n1|b\n",
        "session_id item_id\n1 é\n1 b\n",
        "session_id, item_id\n1, é\n1, b\n",
        ' session_id , item_id \n1,"é"\n1,b\n',
        "session_id,item_id,\n1,é,\n\n1,b,\n",
        "session_id,item_id\n1,é\n1,b\n".encode("utf-16"),
    ],
    ids=["bom", "crlf", "cr", "mixed", "semicolon", "tab", "bar", "blank", "padded", "names",
         "ragged", "utf16"],
)  # fmt: skip
def test_text_is_recognized_however_it_is_written(data: str | bytes, tmp_path: Path) -> None:
    assert read(data, tmp_path) == [["é", "b"]]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16-le"])
def test_text_in_another_encoding_is_read_and_asked_for(encoding: str, tmp_path: Path) -> None:
    data = "session_id,item_id\n1,é\n1,b\n".encode(encoding)
    assert read(data, tmp_path, encoding=encoding) == [["é", "b"]]
    if encoding != "utf-16-le":
        with pytest.raises(ValueError, match=r"log\.csv is not written in utf-8.*pass encoding="):
            read(data, tmp_path)
        late = b"session_id,item_id\n" + b"1,a\n" * 30_000 + b"1,\xe9\n"
        with pytest.raises(ValueError, match=r"log\.csv, line 30002, is not written in UTF-8"):
            read(late, tmp_path)


def test_text_without_header_needs_names(tmp_path: Path) -> None:
    data = "1::a::9\n1::b::8\n"
    names = ["session_id", "item_id", "time"]
    options: dict[str, Any] = {"names": names, "separator": "::"}
    assert read(data, tmp_path, time="time", **options) == [["b", "a"]]
    with pytest.raises(ValueError, match=r"it has '1', 'a', '9'; if it has no header line, pass"):
        read(data, tmp_path, separator="::")
    with pytest.raises(ValueError, match=r"line 1, cannot be read: it has 3 values where 2 are"):
        read(data, tmp_path, names=names[:2], separator="::")
    assert read("1 a\n1 b\n", tmp_path, names=names[:2]) == [["a", "b"]]
    with pytest.raises(ValueError, match="between ',' or ';': pass separator="):
        read("1,2;3\n4,5;6\n", tmp_path, names=names[:2])


def test_text_values_that_stand_for_nothing_are_those_that_are_named(tmp_path: Path) -> None:
    data = 'session_id,item_id,land\n1,NA,NA\n1,null,""\n2,None,\\N\n'
    path = tmp_path / "log.csv"
    path.write_text(data)
    plain = Sessions.from_frame(path, features=["land"])
    assert plain.to_lists() == [["NA", "null"], ["None"]]
    assert plain.click_features["land"].tolist() == [0, -1, 1]  # Namibia, nothing, \N
    named = Sessions.from_frame(path, features=["land"], null_values=["\\N"])
    assert named.click_features["land"].tolist() == [0, -1, -1]
    with pytest.raises(ValueError, match=r"'item_id' is missing in 1 of its rows \(row 0,"):
        Sessions.from_frame(path, null_values=["NA"])


def test_text_quotes_enclose_or_are_characters(tmp_path: Path) -> None:
    data = 'session_id,item_id\n1,"a,b"\n1,"c\nd"\n1,"e""f"\n'
    assert read(data, tmp_path) == [["a,b", "c\nd", 'e"f']]
    stray = 'session_id,item_id\n1,"a\n1,b"c\n'
    assert read(stray, tmp_path, quote=None) == [['"a', 'b"c']]
    with pytest.raises(ValueError, match=r"line 2, cannot be read: a quote opens and does not clo"):
        read(stray, tmp_path)
    assert read(data.replace('"', "'"), tmp_path, quote="'")[0][:2] == ["a,b", "c\nd"]


def test_text_bad_lines_are_refused_or_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = "session_id,item_id\n1,a\n1\n1,b,c\n1,d\n"
    with pytest.raises(ValueError, match=r"log\.csv, line 3, cannot be read: it has 1 values"):
        read(data, tmp_path)
    assert read(data, tmp_path, bad_lines="skip") == [["a", "d"]]
    assert "2 lines were skipped, the first of them line 3 of" in caplog.text
    bad: list[BadLine] = []
    assert read(data, tmp_path, bad_lines=bad) == [["a", "d"]]
    assert [(Path(line.file).name, line.line) for line in bad] == [("log.csv", 3), ("log.csv", 4)]


def test_json_bad_lines_are_refused_or_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"session_id":1,"item_id":1}\n{"session_id":\n{"session_id":1,"item_id":2}\n')
    with pytest.raises(ValueError, match=r"a\.jsonl cannot be read"):
        Sessions.from_frame(path)
    bad: list[BadLine] = []
    assert Sessions.from_frame(path, bad_lines=bad).to_lists() == [[1, 2]]
    assert [line.line for line in bad] == [2]


def test_json_numbers_and_text_are_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"

    def items(*values: str, **options: Any) -> list[Any]:
        path.write_text("".join(f'{{"session_id":1,"item_id":{value}}}\n' for value in values))
        return Sessions.from_frame(path, **options).to_lists()[0]

    assert items("18446744073709551615", "9007199254740993") == [2**64 - 1, 2**53 + 1]
    assert items('"7"', '"8"') == ["7", "8"]  # the file says that they are text
    assert items("7", '"7"', ids="text") == ["7", "7"]
    with pytest.raises(ValueError, match="mixes NUMBER and VARCHAR"):
        items("7", '"7"')
    path.write_text('{"session_id":1,"item":2}\n')
    with pytest.raises(ValueError, match=r"has no column 'item_id'; it has 'session_id', 'item'"):
        Sessions.from_frame(path)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"a": [1], "A": [2]}, None),
        ({'a "b".c': [1], "A": [2]}, None),
        ({"a": [1], "b": [{"x": 1}]}, r"'b' is nested .*struct"),
    ],
)
def test_parquet_names_of_any_kind_are_columns(
    columns: dict[str, list[Any]], words: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(columns), path)
    session, item = columns
    if words is None:
        assert Sessions.from_frame(path, session=session, item=item).to_lists() == [[2]]
    else:
        with pytest.raises(ValueError, match=words):
            Sessions.from_frame(path, session=session, item=item)


def test_files_of_other_columns_or_types_are_named(tmp_path: Path) -> None:
    for number, table in enumerate([{"session_id": [1], "item_id": ["7"]}, {"session_id": [1]}]):
        pq.write_table(pa.table(table), tmp_path / f"{number}.parquet")
    with pytest.raises(ValueError, match=r"1\.parquet has no column 'item_id'"):
        Sessions.from_frame(tmp_path)
    pq.write_table(pa.table({"item_id": [7], "session_id": [1]}), tmp_path / "1.parquet")
    with pytest.raises(ValueError, match=r"'item_id' of .*1\.parquet is of type int64, but string"):
        Sessions.from_frame(tmp_path)
    pq.write_table(pa.table({"item_id": ["007"], "session_id": [1]}), tmp_path / "1.parquet")
    assert Sessions.from_frame(tmp_path).to_lists() == [["7", "007"]]


def test_options_that_do_not_exist_or_fit_are_refused() -> None:
    with pytest.raises(TypeError, match=r"no option 'sep'.*separator"):
        Sessions.from_frame(a_log(), sep=";")
    for name, value in {"ids": "float", "time_unit": "weeks", "bad_lines": "drop"}.items():
        with pytest.raises(ValueError, match=f"{name} is .*{value}"):
            LogOptions(**{name: value})


def test_reading_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    write(a_log(), tmp_path / "a.csv.bz2")
    Sessions.from_frame("a.csv.bz2", time="time")
    with pytest.raises(ValueError, match="no column"):
        Sessions.from_frame("a.csv.bz2", item="sku")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv.bz2"]
