"""Published pickles: read like pickle does, within bounds, and never executed."""

from __future__ import annotations

import copyreg
import os
import pickle
import struct
import tracemalloc
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphseq.data.formats.pickles import (
    parse_plain_pickle,
    read_published_pickle,
    read_published_prefixes,
)
from graphseq.data.formats.readers import read_session_lines
from graphseq.data.sessions.sessions import Sessions

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
PLAIN = st.recursive(
    st.one_of(st.integers(-(2**80), 2**80), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.lists(inner, max_size=5).map(tuple)),
    max_leaves=20,
)
LISTS = st.lists(st.lists(st.integers(0, 3), min_size=2, max_size=6), min_size=1, max_size=6)


class Runs:
    """Writes a file when it is unpickled, like a hostile pickle."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def write(path: Path, content: object, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def samples(sessions: Sessions) -> list[tuple[list[int], int]]:
    """All (prefix, target) of sessions, the longest prefix of each first."""
    return [
        (ids[:position], ids[position])
        for ids, first in zip(sessions, sessions.targets_from, strict=True)
        for position in reversed(range(first, len(ids)))
    ]


@given(PLAIN, st.sampled_from(PROTOCOLS))
def test_parse_plain_pickle_any_plain_value_equals_pickle(value: object, protocol: int) -> None:
    assert parse_plain_pickle(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_parse_plain_pickle_shared_and_many_lists_come_back(protocol: int) -> None:
    shared = [1, 2]
    value = [shared, "a", shared, *([n] for n in range(1000)), ["a"], shared]
    assert parse_plain_pickle(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02U\x03abc.",  # SHORT_BINSTRING
        b"\x80\x02T\x03\x00\x00\x00abc.",  # BINSTRING
        b"\x80\x02X\x03\x00\x00\x00abc.",  # BINUNICODE
        b"Vabc\n.",  # UNICODE
    ],
)
def test_parse_plain_pickle_text_of_python_2_and_3(data: bytes) -> None:
    assert parse_plain_pickle(data) == "abc"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_parse_plain_pickle_hostile_pickle_is_named_and_not_run(
    protocol: int, tmp_path: Path
) -> None:
    data = pickle.dumps([[1, 2], Runs(tmp_path / "ran")], protocol)
    opcode = "STACK_GLOBAL" if protocol >= 4 else "GLOBAL"
    with pytest.raises(ValueError, match=rf"opcode {opcode} at byte \d+ is not executed"):
        parse_plain_pickle(data)
    assert not (tmp_path / "ran").exists()
    pickle.loads(data)
    assert (tmp_path / "ran").exists()  # the pickle is a hostile one


@pytest.mark.parametrize(
    ("value", "opcode"),
    [
        ([1.5], "BINFLOAT"),
        ([None], "NONE"),
        ([True], "NEWTRUE"),
        ({1: 2}, "EMPTY_DICT"),
        (np.arange(3), "GLOBAL"),
        (date(2020, 1, 1), "GLOBAL"),
    ],
    ids=str,
)
def test_parse_plain_pickle_other_values_name_their_opcode(value: object, opcode: str) -> None:
    with pytest.raises(ValueError, match=f"opcode {opcode} at byte .*Sessions.from_lists"):
        parse_plain_pickle(pickle.dumps(value, 2))


def test_parse_plain_pickle_boolean_of_protocol_0_is_no_integer() -> None:
    with pytest.raises(ValueError, match="INT as a boolean"):
        parse_plain_pickle(pickle.dumps([True], 0))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_parse_plain_pickle_cut_off_anywhere_is_refused(protocol: int) -> None:
    data = pickle.dumps([[1, 300, 70_000, -5, 2**40], ["a", "é"], (1, 2, 3, 4)], protocol)
    for end in range(len(data)):
        with pytest.raises(ValueError, match="not a pickle, or it is damaged or truncated"):
            parse_plain_pickle(data[:end])


@pytest.mark.parametrize(
    "data", [b"1 2 3\n4 5\n", b"\x1f\x8b\x08", b"\xff", b"\x80\x02a.", b"\x80\x02K\x01K\x02.", b"."]
)
def test_parse_plain_pickle_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a pickle|more than lists"):
        parse_plain_pickle(data)


def test_parse_plain_pickle_bytes_after_its_end_are_refused() -> None:
    data = pickle.dumps([[1]], 2)
    with pytest.raises(ValueError, match=rf"{len(data)} bytes follow the end of this pickle"):
        parse_plain_pickle(data + data)


@pytest.mark.parametrize(
    ("data", "opcode"),
    [
        (b"\x80\x02cos\nmkdir\n.", "GLOBAL"),
        (b"(S'x'\nios\nmkdir\n.", "STRING"),
        (b"(I1\nios\nmkdir\n.", "INST"),
        (b"\x80\x02K\x01Q.", "BINPERSID"),
        (b"(P1\n.", "PERSID"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
        (b"\x80\x02]K\x01R.", "REDUCE"),
        (b"\x80\x02])\x81.", "NEWOBJ"),
        (b"\x80\x02]]b.", "BUILD"),
        (b"\x80\x02]2a.", "DUP"),
    ],
)
def test_parse_plain_pickle_opcodes_that_find_or_make_objects_are_named(
    data: bytes, opcode: str
) -> None:
    with pytest.raises(ValueError, match=rf"opcode {opcode} at byte \d+ is not executed"):
        parse_plain_pickle(data)


def test_parse_plain_pickle_registered_extension_is_not_looked_up(tmp_path: Path) -> None:
    copyreg.add_extension("os", "mkdir", 200)
    try:
        path = str(tmp_path / "ran").encode()
        data = b"\x80\x02\x82\xc8X" + struct.pack("<I", len(path)) + path + b"\x85R."
        for _ in range(2):  # the second time, pickle has the object in a cache of its own
            with pytest.raises(ValueError, match="opcode EXT1 at byte 2"):
                parse_plain_pickle(data)
            assert not (tmp_path / "ran").exists()
            pickle.loads(data)
            (tmp_path / "ran").rmdir()
    finally:
        copyreg.remove_extension("os", "mkdir", 200)
        copyreg.clear_extension_cache()


BOMBS = {
    "number in the memo": b"\x80\x02K\x01r\xff\xff\xff\x7f.",
    "number in the memo as text": b"I1\np999999999\n.",
    "length of text": b"\x80\x04X" + struct.pack("<I", 1 << 31) + b"abc.",
    "length of long text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"abc.",
    "length of an integer": b"\x80\x04\x8a\xffabc.",
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"K\x01.",
    "digits": b"L" + b"9" * 50_000 + b"L\n.",
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_parse_plain_pickle_of_a_few_bytes_takes_no_memory(data: bytes) -> None:
    parse_plain_pickle(pickle.dumps([], 2))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="not a pickle, or it is damaged or truncated"):
            parse_plain_pickle(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


def test_parse_plain_pickle_numbers_in_the_memo_grow_with_the_pickle() -> None:
    def numbered(number: int, size: int) -> bytes:
        padding = b"K\x01" * ((size - 12) // 2)
        return b"\x80\x02(" + padding + b"K\x01r" + struct.pack("<I", number) + b"t."

    for size, most in ((12, 15), (1000, 1023), (100_000, 131_071)):
        data = numbered(most, size)
        assert len(data) == size
        assert len(parse_plain_pickle(data)) == (size - 10) // 2
        with pytest.raises(ValueError, match="not a pickle"):
            parse_plain_pickle(numbered(most + 1, size))


@given(st.binary(max_size=40), st.sampled_from(PROTOCOLS), st.data())
def test_parse_plain_pickle_damaged_gives_plain_values_or_one_error(
    noise: bytes, protocol: int, data: st.DataObject
) -> None:
    whole = pickle.dumps([[1, 300], ["ab", 2**40], (70_000, -5)], protocol)
    at = data.draw(st.integers(0, len(whole)))
    damaged = whole[:at] + noise + whole[at + len(noise) :]
    try:
        value = parse_plain_pickle(damaged)
    except ValueError:
        return
    assert value == pickle.loads(damaged)


# -- sessions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_read_published_pickle_lists_become_sessions(protocol: int, tmp_path: Path) -> None:
    lists = [[5, 3, 5], [70_000], ["a", 3]]
    path = write(tmp_path / "all_train_seq.txt", lists, protocol)
    assert read_published_pickle(path).to_lists() == lists


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (3, "list of lists of item ids, got int"),
        ([[1], 2], "entry 1 is not a list of item ids but int"),
        ([[1], []], "entry 1 is empty"),
        ([[1], [[2]], [3]], r"entry 1 holds more than integers and text, list\.$"),
        (([[1]], [2]), "entry 0 holds .*, list; read a pair .* by read_published_prefixes"),
        ([], "no session"),
    ],
)
def test_read_published_pickle_other_shapes_are_refused(
    content: object, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        read_published_pickle(write(tmp_path / "a.txt", content))


def test_read_published_pickle_list_within_itself_is_refused(tmp_path: Path) -> None:
    content: list[Any] = [[1]]
    content[0].append(content)
    with pytest.raises(ValueError, match="entry 0 holds more than"):
        read_published_pickle(write(tmp_path / "a.txt", content))


@pytest.mark.parametrize("inner", ["list", "tuple"])
def test_reader_pickle_of_two_megabytes_that_stands_for_billions_of_clicks_is_refused(
    inner: str, tmp_path: Path
) -> None:
    clicks = b"(" + b"K\x01" * 500_000 + (b"l" if inner == "list" else b"t") + b"q\x00"
    lists = b"(" + clicks + b"h\x00" * 500_000 + b"l"
    for reader, data in [
        (read_published_pickle, b"\x80\x02" + lists + b"."),
        (read_published_prefixes, b"\x80\x02" + lists + b"(" + b"K\x01" * 500_001 + b"l\x86."),
    ]:
        path = tmp_path / "a.txt"
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"500001 lists stand for 250000500000 clicks"):
            reader(path)


def test_read_published_pickle_shared_lists_within_the_size_of_the_file_are_read(
    tmp_path: Path,
) -> None:
    shared = [70_000, 80_000]
    sessions = read_published_pickle(write(tmp_path / "a.txt", [shared, [1], shared]))
    assert sessions.to_lists() == [[70_000, 80_000], [1], [70_000, 80_000]]


def test_read_published_pickle_nested_thousands_deep_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\x80\x02" + b"]" * 20_000 + b"a" * 19_999 + b".")
    with pytest.raises(ValueError, match="entry 0 holds more than integers and text"):
        read_published_pickle(path)


def test_read_published_pickle_text_that_is_no_unicode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.txt: the ids hold text that is not Unicode"):
        read_published_pickle(write(tmp_path / "a.txt", [["\ud800", "a"]]))


def test_parse_plain_pickle_integer_of_thousands_of_digits_is_refused() -> None:
    with pytest.raises(ValueError, match="opcode LONG4 at byte"):
        parse_plain_pickle(pickle.dumps([2**4000], 2))


def test_read_published_pickle_ids_beyond_63_bits_keep_their_value(tmp_path: Path) -> None:
    sessions = read_published_pickle(write(tmp_path / "a.txt", [[2**64 - 1, 5], [5, 2**63]]))
    assert sessions.to_lists() == [[2**64 - 1, 5], [5, 2**63]]


@pytest.mark.parametrize("reader", [read_published_pickle, read_published_prefixes])
def test_reader_missing_or_broken_pickle_names_the_file(reader: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no\.txt cannot be read"):
        reader(tmp_path / "no.txt")
    (tmp_path / "a.txt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.txt: this is not a pickle"):
        reader(tmp_path / "a.txt")


def read_samples(path: Path, pairs: list[tuple[list[int], int]]) -> Sessions:
    return read_published_prefixes(
        write(path, ([prefix for prefix, _ in pairs], [target for _, target in pairs]))
    )


@given(lists=LISTS)
def test_read_published_prefixes_longest_first_come_back_as_sessions(
    lists: list[list[int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    pairs = samples(Sessions.from_lists(lists))
    sessions = read_samples(tmp_path_factory.mktemp("prefixes") / "test.txt", pairs)
    assert sessions.to_lists() == lists
    assert (sessions.targets_from == 1).all()
    assert samples(sessions) == pairs


@given(lists=LISTS)
def test_read_published_prefixes_shortest_first_come_back_as_sessions(
    lists: list[list[int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    pairs = [sample for ids in lists for sample in samples(Sessions.from_lists([ids]))[::-1]]
    sessions = read_samples(tmp_path_factory.mktemp("prefixes") / "test.txt", pairs)
    assert sorted(sessions.to_lists()) == sorted(lists)
    assert (sessions.targets_from == 1).all()
    # [1, 2, 3] [1, 2] with the shortest first is [1, 2] [1, 2, 3] with the longest first.
    longest_first = [s for ids in sessions for s in samples(Sessions.from_lists([ids]))]
    assert sessions.to_lists() == lists or longest_first == pairs


@given(
    pairs=st.lists(
        st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=3), st.integers(0, 2)),
        min_size=1,
        max_size=12,
    )
)
def test_read_published_prefixes_any_samples_are_those_of_the_sessions(
    pairs: list[tuple[list[int], int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    sessions = read_samples(tmp_path_factory.mktemp("prefixes") / "test.txt", pairs)
    assert sessions.num_targets == len(pairs)
    found = Counter((tuple(prefix), target) for prefix, target in samples(sessions))
    assert found == Counter((tuple(prefix), target) for prefix, target in pairs)


@pytest.mark.parametrize(
    ("wholes", "lists", "first_target"),
    [
        ("1234 123 789 56 56", "1234 789 56 56", [2, 2, 1, 1]),  # longest first, not all of them
        ("123 1234 789 56 56", "1234 789 56 56", [2, 2, 1, 1]),
        ("12 123 1234 56 567", "1234 567", [1, 1]),  # shortest first
        ("12 123 987 98 456 45", "123 987 456", [1, 1, 1]),  # mixed
        ("12 123 12 567 56", "12 123 567", [1, 1, 1]),  # 123 fits both: longest first wins
        ("12 123 12 56 567", "123 12 567", [1, 1, 1]),
        ("12 123 12", "12 123", [1, 1]),  # a tie: as published
        ("123 12 124 1245", "123 1245", [2, 1]),  # 12 fits both: shortest first wins
    ],
)
def test_read_published_prefixes_by_hand(
    wholes: str, lists: str, first_target: list[int], tmp_path: Path
) -> None:
    pairs = [([int(c) for c in whole[:-1]], int(whole[-1])) for whole in wholes.split()]
    sessions = read_samples(tmp_path / "test.txt", pairs)
    assert ["".join(map(str, ids)) for ids in sessions] == lists.split()
    assert sessions.targets_from.tolist() == first_target


def test_read_published_prefixes_integers_and_text_are_other_items(tmp_path: Path) -> None:
    content = ([("a", 1), ["a"], ["b"]], ["1", "1", 1])
    sessions = read_published_prefixes(write(tmp_path / "test.txt", content))
    assert sessions.to_lists() == [["a", 1, "1"], ["a", "1"], ["b", 1]]
    assert sessions.targets_from.tolist() == [2, 1, 1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([[1], [2], [3]], "pair .* got list of 3"),
        (5, "pair .* got int"),
        (([[1], [2]], [1]), "got 2 prefixes and 1 targets"),
        (([[1]], [[1]]), "needs one item id per prefix"),
        (([[1], []], [1, 2]), "prefixes: entry 1 is empty"),
    ],
)
def test_read_published_prefixes_other_shapes_are_refused(
    content: object, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        read_published_prefixes(write(tmp_path / "test.txt", content))


@pytest.mark.data
def test_read_published_diginetica_equals_its_session_lines(data_root: Path) -> None:
    folder = data_root / "diginetica"
    train = read_published_pickle(folder / "all_train_seq.txt")
    assert (train.num_targets, train.num_items) == (719_470, 43_097)
    lines = read_session_lines(folder / "train_sessions.txt.gz")
    assert train.fingerprint() == lines.fingerprint()
    test = read_published_prefixes(folder / "test.txt")
    assert test.num_targets == 60_858
    assert (test.targets_from == 1).all()
    lines = read_session_lines(folder / "test_sessions.txt.gz")
    assert test.fingerprint() == lines.fingerprint()


@pytest.mark.data
def test_read_published_prefixes_retailrocket_in_both_orders(
    data_root: Path, tmp_path: Path
) -> None:
    path = data_root / "retailrocket" / "test.txt"
    test = read_published_prefixes(path)
    assert (len(test), test.num_clicks, test.num_targets) == (4_735, 24_602, 15_132)
    assert (test.targets_from == 2).all()  # the published samples leave out the first
    turned = [
        (ids[:at], ids[at]) for ids in test.to_lists() for at in range(2, len(ids))
    ]  # shortest first
    again = read_samples(tmp_path / "test.txt", turned)
    assert again.fingerprint() == test.fingerprint()
