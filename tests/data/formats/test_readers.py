"""Readers of published formats: small files by hand, real files by their known counts."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphseq.data.formats import id_lines as tokens
from graphseq.data.formats.readers import (
    read_atomic,
    read_clicks,
    read_diginetica_views,
    read_inter,
    read_pairs,
    read_recbole_split,
    read_session_lines,
    read_uci_eshop,
    read_user_lines,
)
from graphseq.data.sessions.sessions import Sessions

LINE_READERS = [read_session_lines, read_user_lines, read_pairs]
ALL_READERS = [*LINE_READERS, read_inter, read_clicks, read_diginetica_views, read_uci_eshop]


def write(path: Path, text: str) -> Path:
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


# -- lines of ids --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
@pytest.mark.parametrize("text", ["3 5 3\n7\n", "3 5 3\n7", "3\t5 3 \r\n 7\r\n"])
def test_read_session_lines_blanks_and_line_ends_of_any_kind(
    name: str, text: str, tmp_path: Path
) -> None:
    assert read_session_lines(write(tmp_path / name, text)).to_lists() == [[3, 5, 3], [7]]


@given(
    lists=st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5), min_size=1),
    block=st.integers(1, 40),
)
def test_read_session_lines_any_block_size_gives_all_lines(
    lists: list[list[int]], block: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("lines") / "a.txt"
    write(path, "\n".join(" ".join(map(str, ids)) for ids in lists))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "CHARACTERS_PER_BLOCK", block)
        assert read_session_lines(path).to_lists() == lists


def test_read_session_lines_one_id_of_text_makes_all_text(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "01 2\né 2\n")
    assert read_session_lines(path).to_lists() == [["01", "2"], ["é", "2"]]


def test_read_session_lines_empty_lines_are_counted_and_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 empty lines, the first of them line 2"):
        read_session_lines(write(tmp_path / "a.txt", "1 2\n\n3 4\n  \n5\n"))


@pytest.mark.parametrize("reader", LINE_READERS)
@pytest.mark.parametrize("text", ["1, 2\n3, 4\n", "1,2\n3,4\n", "1;2\n", "[1, 2]\n", '"1" "2"\n'])
def test_line_reader_other_separator_is_refused_with_the_way_out(
    reader: Callable[..., Sessions], text: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.txt", "5 6\n" + text)
    with pytest.raises(ValueError, match=r"line 2, holds '.*' between blanks: pass separator=','"):
        reader(path)


def test_read_session_lines_separator_takes_blanks_around_it_away(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "1, 2 ,3\n4\n5,6\r\n")
    assert read_session_lines(path, separator=",").to_lists() == [[1, 2, 3], [4], [5, 6]]
    path = write(tmp_path / "a.txt", "1::2::3\n4\n")
    assert read_session_lines(path, separator="::").to_lists() == [[1, 2, 3], [4]]
    path = write(tmp_path / "a.txt", "a,b c|d\n [x]  e\n")
    assert read_session_lines(path, separator=" ").to_lists() == [["a,b", "c|d"], ["[x]", "e"]]


@pytest.mark.parametrize("text", ["1,2\n3,,4\n5,\n", "1,2\n,3\n,\n"])
def test_read_session_lines_empty_ids_are_counted_and_named(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 lines with an empty id, the first of them line 2"):
        read_session_lines(write(tmp_path / "a.txt", text), separator=",")


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, bytes])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_read_session_lines_mark_at_the_start_and_any_line_ends_and_compression(
    pack: Callable[[bytes], bytes], end: str, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(pack(f"\ufeff7 8{end}9{end}".encode()))
    assert read_session_lines(tmp_path / "a").to_lists() == [[7, 8], [9]]


def test_read_session_lines_utf_16_is_told_by_its_mark(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("é 2\n3\n".encode("utf-16"))
    assert read_session_lines(tmp_path / "a.txt").to_lists() == [["é", "2"], ["3"]]


@pytest.mark.parametrize("odd", ["007", "+7", "1_000", "-0", "7.0", "18446744073709551616"])
def test_read_session_lines_what_is_not_written_as_an_integer_stays_text(
    odd: str, tmp_path: Path
) -> None:
    sessions = read_session_lines(write(tmp_path / "a.txt", f"1 {odd}\n2\n"))
    assert sessions.to_lists() == [["1", odd], ["2"]]


def test_read_session_lines_large_unsigned_ids_keep_their_value(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "18446744073709551615 1\n9007199254740993\n")
    assert read_session_lines(path).to_lists() == [[2**64 - 1, 1], [2**53 + 1]]


def test_read_pairs_header_over_integers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only integers below line 1, which holds 'user_id'"):
        read_pairs(write(tmp_path / "a.txt", "user_id item_id\n1 2\n1 3\n"))
    assert read_pairs(write(tmp_path / "a.txt", "a b\n1 2\nc 3\n")).to_lists()[0] == ["b"]


def test_read_user_lines_first_id_is_the_user(tmp_path: Path) -> None:
    sessions = read_user_lines(write(tmp_path / "a.txt", "7 1 2 1\n5 2 7\n"))
    assert sessions.to_lists() == [[1, 2, 1], [2, 7]]
    assert sessions.user_vocabulary.decode(sessions.users) == [7, 5]
    assert sessions.vocabulary.ids.tolist() == [1, 2, 7]


@pytest.mark.parametrize(
    ("text", "words"),
    [("1 2\n3\n", "line 2 has one id"), ("1 2\n3 4\n1 5\n", "user 1 has line 1 and line 3")],
)
def test_read_user_lines_bad_lines_are_named(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        read_user_lines(write(tmp_path / "a.txt", text))


def test_read_pairs_groups_users_and_keeps_the_order_of_lines(tmp_path: Path) -> None:
    sessions = read_pairs(write(tmp_path / "a.txt", "b 9\na 3\nb 1\nb 9\na 1\n"))
    assert sessions.to_lists() == [["9", "1", "9"], ["3", "1"]]
    assert sessions.user_vocabulary.decode(sessions.users) == ["b", "a"]
    assert sessions.session_ids is None


def test_read_pairs_line_of_three_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line 2 has 3 ids"):
        read_pairs(write(tmp_path / "a.txt", "1 2\n1 2 3\n"))


# -- tables --------------------------------------------------------------------------------------

INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"


def test_read_inter_orders_by_time_and_joins_the_items(tmp_path: Path) -> None:
    inter = write(tmp_path / "a.inter.gz", INTER + "u2\t5\t3\t20\nu1\t4\t1\t9\nu2\t4\t5\t10\n")
    items = 'item_id:token\ttitle:token_seq\tclass:token_seq\n4\tThe "Best\tA B\n5\tEnd\tB\n'
    item_file = write(tmp_path / "a.item", items)
    sessions = read_inter(inter, features=["rating"], item_file=item_file)
    assert sessions.to_lists() == [[4, 5], [4]]
    assert sessions.click_features["rating"].tolist() == [5.0, 3.0, 1.0]
    assert sessions.user_vocabulary.decode(sessions.users) == ["u2", "u1"]
    assert sessions.item_features["title"].tolist() == ['The "Best', "End"]
    assert sessions.item_features["class"].tolist() == ["A B", "B"]
    assert len(read_inter(inter, gap=5.0)) == 3


def test_read_inter_with_sessions_groups_by_them(tmp_path: Path) -> None:
    text = "session_id:token\titem_id:token\ttimestamp:float\n1\ta\t2\n2\tb\t1\n1\tb\t1\n"
    path = write(tmp_path / "a.inter", text)
    sessions = read_inter(path, session="session_id", user=None)
    assert sessions.to_lists() == [["b", "a"], ["b"]]
    with pytest.raises(ValueError, match="session or gap, got both"):
        read_inter(path, session="session_id", user=None, gap=3.0)
    with pytest.raises(ValueError, match="session, or user and time"):
        read_inter(path, user=None)


def test_read_inter_missing_column_lists_those_that_exist(tmp_path: Path) -> None:
    path = write(tmp_path / "a.inter", INTER + "1\t2\t3\t4\n")
    with pytest.raises(ValueError, match="no column 'day'; it has 'user_id', 'item_id', 'rating'"):
        read_inter(path, time="day")
    with pytest.raises(ValueError, match=r"a\.item has no column 'item_id'; it has 'id'"):
        read_inter(path, item_file=write(tmp_path / "a.item", "id:token\n2\n"))


def test_read_atomic_types_come_from_the_header(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.user", "id:token\tage:float\tname:token\tx:float_seq\n1\t2\t07x\t1 2"
    )
    frame = read_atomic(path)
    assert list(frame.columns) == ["id", "age", "name", "x"]
    assert (frame["id"].dtype, frame["age"].dtype) == (np.int64, np.float64)
    assert frame.iloc[0].tolist() == [1, 2.0, "07x", "1 2"]


@pytest.mark.parametrize(
    "header",
    [
        "user_id\titem_id",
        "user_id:token\titem_id:int",
        ":token\tx",
        "a:token,b:token",
        "a:token\ta:float",
    ],
)
def test_read_atomic_untyped_header_is_refused(header: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="header of name:type with types token, float"):
        read_atomic(write(tmp_path / "a.inter", header + "\n1\t2\n"))


def test_read_atomic_leading_zeros_lists_and_colons_stay_as_they_are(tmp_path: Path) -> None:
    text = (
        "a:b:token\titem_id:token\tl:token_seq\tw:float_seq\tx:float\n"
        '1\t0108775015\t5\t1.50\tnan\n2\tNA\t7 "08\t\t\n'
    )
    frame = read_atomic(write(tmp_path / "a.inter", text))
    assert list(frame.columns) == ["a:b", "item_id", "l", "w", "x"]
    assert frame["a:b"].tolist() == [1, 2]
    assert frame["item_id"].tolist() == ["0108775015", "NA"]
    assert frame["l"].tolist() == ["5", '7 "08']
    assert frame["w"].isna().tolist() == [False, True]
    assert frame["w"][0] == "1.50"
    assert frame["x"].isna().all()
    assert frame["x"].dtype == np.float64


def test_read_inter_integer_times_keep_their_last_digit_and_take_a_unit(tmp_path: Path) -> None:
    start = 1_661_724_000_000_000_000
    header = "user_id:token\titem_id:token\ttimestamp:float\n"
    path = write(tmp_path / "a.inter", header + f"1\ta\t{start + 1}\n1\tb\t{start}\n")
    sessions = read_inter(path, time_unit="ns")
    assert sessions.to_lists() == [["b", "a"]]
    assert sessions.time[0] == start / 1e9
    with pytest.raises(ValueError, match=r"nanoseconds: pass time_unit='ns'"):
        read_inter(path)


def test_read_atomic_text_in_a_float_column_is_named(tmp_path: Path) -> None:
    text = "item_id:token\tx:float\n1\t2\n3\tmuch\n4\tmore\n"
    with pytest.raises(ValueError, match=r"'x:float' holds 'much' in 2 of its rows \(row 1, 2,"):
        read_atomic(write(tmp_path / "a.item", text))


SAMPLES = "session_id:token\titem_id_list:token_seq\titem_id:token\n"


def benchmark(folder: Path) -> Path:
    write(folder / "x.train.inter", SAMPLES + "1\t5 6 7\t8\n2\t5 6\t7\n3\t5\t6\n4\t8\t5\n")
    write(folder / "x.valid.inter", SAMPLES + "5\t6 8\t7\n")
    write(folder / "x.test.inter", SAMPLES + "6\t7\t6\n7\t7 6\t9\n")
    return folder


def test_read_recbole_split_rows_become_sessions_with_their_targets(tmp_path: Path) -> None:
    folder = benchmark(tmp_path)
    split = read_recbole_split(folder)
    assert split.train.to_lists() == [[5, 6, 7, 8], [8, 5]]
    assert split.train.targets_from.tolist() == [1, 1]
    assert split.validation is not None
    assert split.validation.to_lists() == [[6, 8, 7]]
    assert split.validation.targets_from.tolist() == [2]
    assert split.test.to_lists() == [[7, 6, None]]  # 9 is not in training
    assert split.report["targets"].tolist() == [4, 1, 2]
    files = [folder / f"x.{part}.inter" for part in ("train", "test", "valid")]
    alone = read_recbole_split(*files)
    assert alone.train.fingerprint() == split.train.fingerprint()
    assert alone.test.fingerprint() == split.test.fingerprint()
    assert read_recbole_split(*files[:2]).validation is None


def test_read_inter_of_samples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds samples.*'item_id_list'.*read_recbole_split"):
        read_inter(
            benchmark(tmp_path) / "x.train.inter", session="session_id", user=None, time=None
        )


def test_read_recbole_split_samples_of_two_users_are_two_sessions(tmp_path: Path) -> None:
    header = "user_id:token\titem_id_list:token_seq\titem_id:token\n"
    path = write(tmp_path / "x.train.inter", header + "u\t01 2\t3\nv\t01\t2\nv\t01 2\t4\n")
    split = read_recbole_split(path, path)
    assert split.train.to_lists() == [["01", "2", "3"], ["01", "2", "4"]]
    assert split.train.user_vocabulary.decode(split.train.users) == ["u", "v"]


def test_read_recbole_split_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"needs one file named x\.train\.inter, it has none"):
        read_recbole_split(tmp_path)
    folder = benchmark(tmp_path)
    train = folder / "x.train.inter"
    with pytest.raises(ValueError, match=r"pass the folder of the files, or test="):
        read_recbole_split(train)
    write(folder / "y.test.inter", SAMPLES)
    with pytest.raises(ValueError, match=r"one file named x\.test\.inter, it has x.*, y"):
        read_recbole_split(folder)
    write(train, INTER + "1\t2\t3\t4\n")
    with pytest.raises(ValueError, match=r"no column 'item_id_list'.*read_inter"):
        read_recbole_split(train, train)
    write(train, SAMPLES + "1\t2\t3\n2\t\t3\n")
    with pytest.raises(ValueError, match=r"item_id_list is empty in 1 of its rows \(row 1,"):
        read_recbole_split(train, train)


def test_read_clicks_of_the_gru4rec_line(tmp_path: Path) -> None:
    text = "SessionId\tItemId\tTime\n8\t21\t3.5\n9\t22\t1.25\n8\t22\t2.5\n"
    sessions = read_clicks(write(tmp_path / "a.txt.gz", text))
    assert sessions.to_lists() == [[22, 21], [22]]
    assert sessions.time.tolist() == [2.5, 3.5, 1.25]
    assert list(sessions.session_ids) == [8, 9]


@pytest.mark.parametrize(
    "header",
    [
        "session_id;user_id;item_id;timeframe;eventdate\n",
        "sessionId;userId;itemId;timeframe;eventdate\r\n",
        "\ufeffsessionId;userId;itemId;timeframe;eventdate\n",
    ],
)
def test_read_diginetica_views_time_is_date_plus_timeframe(header: str, tmp_path: Path) -> None:
    text = header + (
        "1;NA;11;500;2016-05-09\n1;NA;12;250;2016-05-09\n"
        "2;7;13;0;2016-05-10\n2;NA;11;1;2016-05-10\n"
        "3;7;13;0;2016-05-10\n3;8;11;1;2016-05-10\n"
    )
    sessions = read_diginetica_views(write(tmp_path / "a.csv", text))
    assert sessions.to_lists() == [[12, 11], [13, 11], [13, 11]]
    assert sessions.time[:2].tolist() == [1462752000.25, 1462752000.5]
    assert sessions.users.tolist()[0] == -1
    assert sessions.user_vocabulary.decode(sessions.users[[1]]) == [7]
    assert sessions.users.tolist()[2] == -1  # two users: nobody knows which
    again = read_diginetica_views(write(tmp_path / "a.csv", text.replace(";", ",")))
    assert again.fingerprint() == sessions.fingerprint()


def test_read_diginetica_views_missing_column_and_bad_values_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "sessionId;itemId;timeframe;eventdate\n1;2;3;2016-05-09\n")
    with pytest.raises(ValueError, match="no column 'user_id'; it has 'sessionId'"):
        read_diginetica_views(path)
    header = "sessionId;userId;itemId;timeframe;eventdate\n"
    write(path, header + "1;NA;2;3;2016-05-09\n1;NA;2;4;09.05.2016\n")
    with pytest.raises(ValueError, match=r"row 1.*09\.05\.2016"):
        read_diginetica_views(path)


ESHOP = (
    "year;month;day;order;country;session ID;page 1 (main category);page 2 (clothing model);"
    "colour;location;model photography;price;price 2;page\r\n"
    "2008;4;2;2;29;1;1;A16;1;6;1;33;2;1\r\n"
    "2008;4;2;1;29;1;3;A13;1;5;1;28;2;1\r\n"
    "2008;4;1;1;9;2;2;B4;10;2;1;52;1;1\r\n"
)


@pytest.mark.parametrize("name", ["a.zip", "a.csv"])
def test_read_uci_eshop_follows_order_and_keeps_features(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "a.zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("e-shop clothing 2008.csv", ESHOP)
    else:
        path.write_text(ESHOP, newline="")
    sessions = read_uci_eshop(path)
    assert sessions.to_lists() == [["A13", "A16"], ["B4"]]
    assert sessions.time.tolist() == [1207094400, 1207094400, 1207008000]
    assert sessions.click_features["category"].tolist() == [3, 1, 2]
    assert sessions.click_features["price"].tolist() == [28, 33, 52]
    assert sessions.item_features["colour"].tolist() == [1, 1, 10]


def test_read_uci_eshop_zip_without_csv_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("readme.md", "nothing")
    with pytest.raises(ValueError, match=r"one CSV file in it, it holds \[\]"):
        read_uci_eshop(tmp_path / "a.zip")


# -- bad files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("reader", ALL_READERS)
def test_reader_file_that_does_not_exist_is_refused(
    reader: Callable[[Path], Sessions], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"There is no .* .*no\.txt"):
        reader(tmp_path / "no.txt")


@pytest.mark.parametrize("reader", ALL_READERS)
def test_reader_empty_file_is_refused(reader: Callable[[Path], Sessions], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.txt (is empty|cannot be read)"):
        reader(write(tmp_path / "a.txt", ""))


@pytest.mark.parametrize("reader", ALL_READERS)
def test_reader_file_cut_off_is_refused(reader: Callable[[Path], Sessions], tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    texts = {
        read_inter: INTER + "1\t2\t3\t4\n" * 900,
        read_clicks: "SessionId\tItemId\tTime\n" + "1\t2\t3\n" * 900,
        read_diginetica_views: "session_id;user_id;item_id;timeframe;eventdate\n" + "1;2;3;4;5\n",
        read_uci_eshop: ESHOP,
    }
    write(path, texts.get(reader, "1 2\n" * 900))  # type: ignore[call-overload]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"a\.txt\.gz cannot be read: it is broken, cut off"):
        reader(path)


def test_read_uci_eshop_zip_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", ESHOP)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"a\.zip cannot be read"):
        read_uci_eshop(path)


# -- the real files ------------------------------------------------------------------------------


def counts(sessions: Sessions) -> tuple[int, int, int, int]:
    return len(sessions), sessions.num_clicks, sessions.num_items, sessions.num_targets


@pytest.mark.data
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("yoochoose1_64/train_sessions.txt.gz", (116_167, 486_026, 17_376, 369_859)),
        ("yoochoose1_64/test_sessions.txt.gz", (15_324, 71_222, 6_751, 55_898)),
        ("diginetica/train_sessions.txt.gz", (186_670, 906_140, 43_097, 719_470)),
        ("diginetica/test_sessions.txt.gz", (15_963, 76_821, 21_131, 60_858)),
        ("tmall/train_sessions.txt.gz", (64_811, 413_577, 39_761, 348_766)),
        ("tmall/test_sessions.txt.gz", (998, 26_410, 9_758, 25_412)),
    ],
)
def test_read_session_lines_real_files_have_their_counts(
    path: str, expected: tuple[int, ...], data_root: Path
) -> None:
    assert counts(read_session_lines(data_root / path)) == expected


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Beauty", (22_363, 198_502, 12_101, 176_139)),
        ("Sports_and_Outdoors", (35_598, 296_337, 18_357, 260_739)),
        ("Toys_and_Games", (19_412, 167_597, 11_924, 148_185)),
    ],
)
def test_read_user_lines_amazon_has_its_counts(
    name: str, expected: tuple[int, ...], data_root: Path
) -> None:
    sessions = read_user_lines(data_root / "amazon_5core" / f"{name}.txt.gz")
    assert counts(sessions) == expected
    assert len(sessions.user_vocabulary) == len(sessions)
    assert sessions.lengths.min() == 5


@pytest.mark.data
def test_read_pairs_movielens_1m_has_its_counts(data_root: Path) -> None:
    path = data_root / "ml-1m" / "ml-1m.txt.gz"
    sessions = read_pairs(path)
    assert counts(sessions) == (6_040, 999_611, 3_416, 993_571)
    pairs = pd.read_csv(path, sep=" ", header=None, names=["user", "item"])
    expected = pairs.groupby("user", sort=False)["item"].agg(list)
    assert sessions.user_vocabulary.decode(sessions.users) == expected.index.tolist()
    assert sessions.to_lists() == expected.tolist()


@pytest.mark.data
def test_read_inter_movielens_100k_has_its_counts(data_root: Path) -> None:
    folder = data_root / "ml-100k"
    sessions = read_inter(
        folder / "ml-100k.inter.gz", features=["rating"], item_file=folder / "ml-100k.item.gz"
    )
    assert counts(sessions) == (943, 100_000, 1_682, 99_057)
    assert sessions.item_features["movie_title"].iloc[sessions.vocabulary.encode([1])[0]] == (
        "Toy Story"
    )
    assert sessions.click_features["rating"].mean() == pytest.approx(3.52986)
    assert len(read_atomic(folder / "ml-100k.user.gz")) == 943


@pytest.mark.data
def test_read_uci_eshop_has_its_counts(data_root: Path) -> None:
    sessions = read_uci_eshop(next((data_root / "uci_eshop").glob("*.zip")))
    assert counts(sessions) == (24_026, 165_474, 217, 141_448)
    assert sessions[0] == ["A13", "A16", "B4", "B17", "B8", "C56", "C57", "P67", "P82"]


@pytest.mark.data
@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("train_tr", (13_629, 53_254, 2_873, 39_625)),
        ("train_valid", (4_084, 16_539, 2_029, 12_455)),
        ("test", (3_416, 13_568, 1_771, 10_152)),
    ],
)
def test_read_clicks_yoochoose_100k_has_its_counts(
    part: str, expected: tuple[int, ...], data_root: Path
) -> None:
    path = data_root / "yoochoose_100k_clicks" / f"yoochoose-clicks-100k_{part}.txt.gz"
    sessions = read_clicks(path)
    assert counts(sessions) == expected
    assert (np.diff(sessions.time)[np.diff(sessions.session_index) == 0] >= 0).all()


@pytest.mark.data
def test_read_diginetica_views_sample_has_its_counts(data_root: Path) -> None:
    path = data_root / "diginetica_raw_sample" / "sample_train-item-views.csv"
    sessions = read_diginetica_views(path)
    assert counts(sessions) == (2_986, 12_391, 7_139, 9_405)
    assert (sessions.users < 0).sum() == 1_720  # 1,718 name none, 2 name two
    assert sessions[0][:3] == [9654, 33043, 32118]
