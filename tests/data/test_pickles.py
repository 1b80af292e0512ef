"""Published pickles: read as pickle would read them, and never executed."""

from __future__ import annotations

import os
import pickle
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphseq.data.pickles import (
    parse_plain_pickle,
    read_published_pickle,
    read_published_prefixes,
)
from graphseq.data.readers import read_session_lines
from graphseq.data.sessions import Sessions

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
PLAIN = st.recursive(
    st.one_of(st.integers(-(2**80), 2**80), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.lists(inner, max_size=5).map(tuple)),
    max_leaves=20,
)
LISTS = st.lists(st.lists(st.integers(0, 3), min_size=2, max_size=6), min_size=1, max_size=6)


class Runs:
    """Writes a file when it is unpickled: what a hostile pickle could do."""

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
        with pytest.raises(ValueError, match="no pickle, or one that is broken or cut off"):
            parse_plain_pickle(data[:end])


@pytest.mark.parametrize(
    "data", [b"1 2 3\n4 5\n", b"\x1f\x8b\x08", b"\xff", b"\x80\x02a.", b"\x80\x02K\x01K\x02.", b"."]
)
def test_parse_plain_pickle_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"no pickle|more than lists"):
        parse_plain_pickle(data)


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
        ([[1], 2], "entry 1 is no list of item ids, but int"),
        ([[1], []], "entry 1 is empty"),
        ([[1], [[2]]], "entry 1 holds more than integers and text"),
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


@pytest.mark.parametrize("reader", [read_published_pickle, read_published_prefixes])
def test_reader_missing_or_broken_pickle_names_the_file(reader: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no\.txt cannot be read"):
        reader(tmp_path / "no.txt")
    (tmp_path / "a.txt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.txt: this is no pickle"):
        reader(tmp_path / "a.txt")


@given(lists=LISTS)
def test_read_published_prefixes_as_published_come_back_as_sessions(
    lists: list[list[int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    pairs = samples(Sessions.from_lists(lists))
    content = ([prefix for prefix, _ in pairs], [target for _, target in pairs])
    path = write(tmp_path_factory.mktemp("prefixes") / "test.txt", content)
    sessions = read_published_prefixes(path)
    assert samples(sessions) == pairs
    # A session that happens to be the beginning of the one before it continues it: nothing else.
    if all(b != a[: len(b)] or len(b) == len(a) for a, b in pairwise(lists)):
        assert sessions.to_lists() == lists
        assert (sessions.targets_from == 1).all()


@given(
    pairs=st.lists(
        st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=3), st.integers(0, 2)),
        min_size=1,
        max_size=12,
    )
)
def test_read_published_prefixes_any_samples_keep_number_and_order(
    pairs: list[tuple[list[int], int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = ([prefix for prefix, _ in pairs], [target for _, target in pairs])
    path = write(tmp_path_factory.mktemp("prefixes") / "test.txt", content)
    sessions = read_published_prefixes(path)
    assert sessions.num_targets == len(pairs)
    assert samples(sessions) == pairs


def test_read_published_prefixes_by_hand_sets_first_target(tmp_path: Path) -> None:
    content = ([[1, 2, 3], [1, 2], [7, 8], (5,), [5]], [4, 3, 9, 6, 6])
    sessions = read_published_prefixes(write(tmp_path / "test.txt", content))
    assert sessions.to_lists() == [[1, 2, 3, 4], [7, 8, 9], [5, 6], [5, 6]]
    assert sessions.targets_from.tolist() == [2, 2, 1, 1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([[1], [2], [3]], "pair .* got list of 3"),
        (5, "pair .* got int"),
        (([[1], [2]], [1]), "got 2 prefixes and 1 targets"),
        (([[1]], [[1]]), "needs one item id a prefix"),
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
