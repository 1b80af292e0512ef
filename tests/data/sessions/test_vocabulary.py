"""Ids and codes in both directions, for ids of any type."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphseq.data.sessions.vocabulary import UNKNOWN, Vocabulary

IDS = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1)),
    st.lists(st.text(alphabet=st.characters(codec="utf-8"))),
    st.lists(st.one_of(st.integers(2, 2**70), st.text(max_size=3))),
    st.lists(st.tuples(st.integers(0, 3), st.text(max_size=1))),
)


@given(IDS)
def test_factorize_any_ids_codes_by_first_appearance_and_back(ids: list[object]) -> None:
    vocabulary, codes = Vocabulary.factorize(ids)
    first_seen = list(dict.fromkeys(ids))
    assert codes.tolist() == [first_seen.index(value) for value in ids]
    assert vocabulary.decode(codes) == ids
    assert vocabulary.encode(ids).tolist() == codes.tolist()
    assert Vocabulary(first_seen) == vocabulary


@pytest.mark.parametrize(
    "dtype", [object, "str", "string", "category", pd.ArrowDtype(pa.string())], ids=str
)
def test_factorize_text_of_any_type_gives_the_same_vocabulary(dtype: object) -> None:
    column = pd.Series(["b", "a", None, "b"], dtype=dtype)
    vocabulary, codes = Vocabulary.factorize(column)
    assert vocabulary == Vocabulary(["b", "a"])
    assert codes.tolist() == [0, 1, UNKNOWN, 0]
    assert Vocabulary(["a", "x"]).encode(column).tolist() == [-1, 0, -1, -1]


@pytest.mark.parametrize("dtype", ["int32", "uint8", "Int64", "int64[pyarrow]", object, "category"])
def test_factorize_integers_of_any_type_gives_int64(dtype: str) -> None:
    vocabulary, codes = Vocabulary.factorize(pd.Series([7, 5, 7], dtype=dtype))
    assert vocabulary.ids.dtype == np.int64
    assert vocabulary.ids.tolist() == [7, 5]
    assert codes.tolist() == [0, 1, 0]


def test_factorize_unused_categories_leaves_them_out() -> None:
    column = pd.Series(pd.Categorical(["b"], categories=["a", "b", "c"]))
    assert Vocabulary.factorize(column)[0].ids.tolist() == ["b"]


def test_vocabulary_integers_beyond_63_bits_stay_exact() -> None:
    assert Vocabulary([2**64 - 1]).decode([0]) == [2**64 - 1]
    assert Vocabulary([-1, 2**63]).decode([0, 1]) == [-1, 2**63]
    assert Vocabulary([2**70]).decode([0]) == [2**70]


def test_vocabulary_mixed_types_keeps_each() -> None:
    vocabulary = Vocabulary([1, "1", 2.5])
    assert [type(v) for v in vocabulary.decode([0, 1, 2])] == [int, str, float]
    assert vocabulary.encode(["1", 1, 2.5, "2.5"]).tolist() == [1, 0, 2, -1]


def test_vocabulary_dates_go_both_ways() -> None:
    vocabulary, codes = Vocabulary.factorize([date(2020, 1, 2), date(2020, 1, 1)])
    assert vocabulary.decode(codes[::-1]) == [date(2020, 1, 1), date(2020, 1, 2)]


def test_vocabulary_missing_id_is_refused_with_its_position() -> None:
    with pytest.raises(ValueError, match="position 1 is"):
        Vocabulary(["a", None])


def test_vocabulary_repeated_id_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'a' occurs twice"):
        Vocabulary(["a", "b", "a"])


def test_encode_other_type_is_unknown() -> None:
    assert Vocabulary(["1", "2"]).encode([1, 2]).tolist() == [UNKNOWN, UNKNOWN]
    assert Vocabulary([1, 2]).encode(["1", None]).tolist() == [UNKNOWN, UNKNOWN]
    assert Vocabulary([]).encode(["a", 1]).tolist() == [UNKNOWN, UNKNOWN]
    assert Vocabulary(["a"]).encode([]).tolist() == []


@pytest.mark.parametrize("codes", [[-1], [2], [0, 5]])
def test_decode_code_out_of_range_is_refused(codes: list[int]) -> None:
    with pytest.raises(ValueError, match=r"lie in 0\.\.1"):
        Vocabulary(["a", "b"]).decode(codes)


def test_column_unknown_code_is_missing_and_integers_stay_exact() -> None:
    column = Vocabulary([2**62 + 1, 3]).column([1, -1, 0])
    assert column.isna().tolist() == [False, True, False]
    assert column[2] == 2**62 + 1
    assert Vocabulary(["a"]).column([0, -1]).isna().tolist() == [False, True]


def test_subset_renumbers_in_the_order_given() -> None:
    vocabulary = Vocabulary(["a", "b", "c"]).subset([2, 0])
    assert vocabulary.encode(["a", "b", "c"]).tolist() == [1, -1, 0]
    assert "b" not in vocabulary
    assert "c" in vocabulary
    assert repr(vocabulary) == "Vocabulary(2)"


def test_encode_floats_among_integers_is_by_value_and_never_by_rounding() -> None:
    large = Vocabulary([2**53, 2**53 + 1, 7])
    assert large.encode(np.array([7.0, 2.0**53, 2.0**53 + 2, 0.5, np.nan])).tolist() == [
        2,
        0,
        -1,
        -1,
        -1,
    ]
    assert Vocabulary([2**53 + 1]).encode(np.array([2.0**53])).tolist() == [-1]
    floats = Vocabulary(np.array([0.5, 2.0**53]))
    assert floats.encode(np.array([2**53, 2**53 + 1, 0])).tolist() == [1, -1, -1]
    assert floats.encode(np.array([0.5, 2.0**53])).tolist() == [0, 1]


def test_encode_unsigned_among_signed_is_by_value() -> None:
    assert Vocabulary([2**64 - 1, 1]).encode(np.array([-1, 1])).tolist() == [-1, 1]
    assert Vocabulary([-1, 5]).encode(np.array([2**64 - 1, 5], dtype=np.uint64)).tolist() == [-1, 1]
    assert Vocabulary([2**63]).encode(np.array([2**63 - 1])).tolist() == [-1]


def test_extended_puts_what_is_new_behind_in_order() -> None:
    first, second, third = Vocabulary(["b", "a"]), Vocabulary(["c", "a"]), Vocabulary(["d", "c"])
    assert first.extended([second, third]).ids.tolist() == ["b", "a", "c", "d"]
    assert first.extended([Vocabulary(["a"])]) is first
    assert first.extended([]) is first


def test_extended_by_ids_of_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match="None of these 1 items is known, as they are of another"):
        Vocabulary([1, 2]).extended([Vocabulary(["1"])], "items")


def test_map_to_the_same_ids_is_the_identity() -> None:
    first, same = Vocabulary(["b", "a"]), Vocabulary(["b", "a"])
    for other in (first, same):
        assert first.map_to(other).tolist() == [0, 1, -1]
    assert first.map_to(Vocabulary(["a", "c"])).tolist() == [-1, 0, -1]
