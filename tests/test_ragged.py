"""Pointers from lengths, and runs of places, against loops."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphseq.ragged import ptr_of, ragged_arange

LENGTHS = st.lists(st.integers(0, 5), max_size=8)


@given(LENGTHS)
def test_pointer_is_the_sum_of_lengths_before_each_row(lengths: list[int]) -> None:
    expected = list(accumulate(lengths, initial=0))
    for given_as in (
        lengths,
        np.array(lengths, dtype=np.uint16),
        np.array(lengths, dtype=np.int64),
    ):
        pointer = ptr_of(given_as)
        assert pointer.dtype == np.int64
        assert pointer.tolist() == expected
    assert ptr_of(torch.tensor(lengths, dtype=torch.long)).tolist() == expected


def test_pointer_of_a_mask_counts_what_is_kept() -> None:
    assert ptr_of(np.array([True, False, True])).tolist() == [0, 1, 1, 2]
    assert ptr_of(torch.tensor([True, False, True])).tolist() == [0, 1, 1, 2]


@given(LENGTHS, st.data())
def test_runs_of_places_stand_one_after_another(lengths: list[int], data: st.DataObject) -> None:
    size = len(lengths)
    start = data.draw(st.lists(st.integers(0, 90), min_size=size, max_size=size))
    expected = [
        place
        for first, length in zip(start, lengths, strict=True)
        for place in range(first, first + length)
    ]
    runs = ragged_arange(np.array(start, dtype=np.int64), np.array(lengths, dtype=np.int64))
    assert runs.tolist() == expected
