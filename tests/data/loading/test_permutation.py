"""Random orders without memory: each number once, without visible order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from graphseq.data.loading.permutation import Permutation
from graphseq.random import sequence


@given(st.integers(1, 3000), st.integers(0, 5), st.integers(0, 5))
def test_permutation_holds_each_number_once(size: int, seed: int, epoch: int) -> None:
    values = Permutation(size, sequence("order", seed, epoch))(np.arange(size))
    assert sorted(values.tolist()) == list(range(size))


def test_permutation_of_a_few_places_is_part_of_the_whole() -> None:
    order = Permutation(10_000, sequence("order", 1, 2))
    places = np.array([9_999, 3, 3, 0])
    assert (order(places) == order(np.arange(10_000))[places]).all()
    large = Permutation(10**12, sequence("order", 1, 2))(np.arange(1000))
    assert len(set(large.tolist())) == 1000
    assert large.min() >= 0
    assert 0.9e12 < large.max() < 1e12


def test_permutation_depends_on_all_of_its_seed() -> None:
    keys = ((0, 0), (0, 1), (1, 0))
    orders = [Permutation(500, sequence("order", *key))(np.arange(500)) for key in keys]
    shares = [(a == b).mean() for a, b in ((orders[0], orders[1]), (orders[0], orders[2]))]
    assert max(shares) < 0.02


@pytest.mark.parametrize("size", [1000, 4097, 65_536])
def test_permutation_looks_random(size: int) -> None:
    orders = [Permutation(size, sequence("order", 7, epoch)) for epoch in range(9)]
    values = np.concatenate([order(np.arange(size)) for order in orders])
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.02
    assert abs(np.corrcoef(values, np.tile(np.arange(size), 9))[0, 1]) < 0.02
    # Steps between neighbors, modulo the size, are as good as uniform.
    steps = np.diff(values.reshape(9, size), axis=1).ravel() % size * 20 // size
    assert stats.chisquare(np.bincount(steps, minlength=20)).pvalue > 1e-3


def test_permutation_of_three_takes_all_orders_as_often() -> None:
    places = np.arange(3)
    orders = [Permutation(3, sequence("order", seed))(places).tolist() for seed in range(1200)]
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 1e-3
