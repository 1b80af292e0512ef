"""Random numbers by counter: their distribution, and that nothing but key and counter matters."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare, kstest, pearsonr

from graphseq.random import integers, stream, substreams, uniform


def test_splitmix64_from_zero_gives_its_published_first_words() -> None:
    # The reference program of SplitMix64, seed 0: its first three outputs.
    words = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    expected = [(word >> 11) * 2.0**-53 for word in words]
    assert uniform(np.uint64(0), [0, 1, 2]).tolist() == expected


def test_numbers_are_uniform_along_a_stream_and_across_streams() -> None:
    key = stream(3, 1)
    along = uniform(key, np.arange(100_000))
    across = uniform(substreams(key, np.arange(100_000)), 0)
    for values in (along, across):
        assert values.min() >= 0
        assert values.max() < 1
        assert kstest(values, "uniform").pvalue > 0.01
        assert abs(pearsonr(values[:-1], values[1:]).statistic) < 0.01
    assert abs(pearsonr(along, across).statistic) < 0.01


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_integers_are_drawn_alike(size: int) -> None:
    drawn = integers(stream(0), np.arange(50_000), size)
    assert drawn.min() >= 0
    assert drawn.max() < size
    assert size == 1 or chisquare(np.bincount(drawn, minlength=size)).pvalue > 0.01


def test_number_depends_on_key_and_counter_alone() -> None:
    sessions = np.array([5, 2, 9])
    all_of_them = uniform(substreams(stream(1, 2), np.arange(10)), 4)
    np.testing.assert_array_equal(
        uniform(substreams(stream(1, 2), sessions), 4), all_of_them[sessions]
    )
    for other in (stream(2, 1), stream(1, 3), stream(1, 2, 0)):
        assert not np.isin(uniform(other, np.arange(100)), uniform(stream(1, 2), range(100))).any()
