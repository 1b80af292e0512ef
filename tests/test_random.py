"""Named streams: no two coincide, all draws use them, and numbers depend only on a key."""

from __future__ import annotations

import ast
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest, pearsonr

from graphseq.random import (
    STREAMS,
    integers,
    seed_of,
    sequence,
    stream,
    substreams,
    torch_stream,
    uniform,
    words_of,
)

ROOT = Path(__file__).resolve().parent.parent


def test_splitmix64_from_zero_gives_its_published_first_words() -> None:
    # The reference program of SplitMix64, seed 0: its first three outputs.
    words = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    expected = [(word >> 11) * 2.0**-53 for word in words]
    assert uniform(np.uint64(0), [0, 1, 2]).tolist() == expected


def test_numbers_are_uniform_along_a_stream_and_across_streams() -> None:
    key = words_of("view", 3, 1)
    along = uniform(key, np.arange(100_000))
    across = uniform(substreams(key, np.arange(100_000)), 0)
    for values in (along, across):
        assert values.min() >= 0
        assert values.max() < 1
        assert kstest(values, "uniform").pvalue > 0.01
        assert abs(pearsonr(values[:-1], values[1:]).statistic) < 0.01
    assert abs(pearsonr(along, across).statistic) < 0.01


def test_substreams_stand_apart_from_the_words_of_the_stream_they_are_of() -> None:
    # The reference program's words of seed 0; a substream begins with none of them.
    words = np.array([0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4], dtype=np.uint64)
    apart = words ^ np.uint64(0xBF58476D1CE4E5B9)
    assert substreams(np.uint64(0), [0, 1]).tolist() == apart.tolist()
    key = words_of("view", 3, 1)
    own, below = uniform(key, np.arange(1000)), substreams(key, np.arange(1000))
    assert not np.isin((below >> np.uint64(11)).astype(np.float64) * 2.0**-53, own).any()
    deeper = substreams(substreams(key, 5), np.arange(1000))
    assert len(np.unique(np.concatenate([below, deeper]))) == 2000


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_integers_are_drawn_uniformly(size: int) -> None:
    drawn = integers(words_of("view", 0), np.arange(50_000), size)
    assert drawn.min() >= 0
    assert drawn.max() < size
    assert size == 1 or chisquare(np.bincount(drawn, minlength=size)).pvalue > 0.01


def test_number_depends_on_key_and_counter_alone() -> None:
    sessions, key = np.array([5, 2, 9]), words_of("view", 1, 2)
    all_of_them = uniform(substreams(key, np.arange(10)), 4)
    np.testing.assert_array_equal(uniform(substreams(key, sessions), 4), all_of_them[sessions])
    for other in (
        words_of("view", 2, 1),
        words_of("view", 1, 3),
        words_of("view", 1, 2, 0),
        words_of("partner", 1, 2),
    ):
        assert not np.isin(uniform(other, np.arange(100)), uniform(key, range(100))).any()


NUMBERS = (0, 1, 2, 2**32, 2**32 + 1, 2**64 + 1)
KEYS = [key for size in range(4) for key in product(NUMBERS, repeat=size)] + [(0,) * 4, (0,) * 5]


def test_no_two_streams_coincide() -> None:
    assert len(set(STREAMS.values())) == len(STREAMS)
    states = [
        sequence(name, *key).generate_state(2, np.uint64).tobytes()
        for name in STREAMS
        for key in KEYS
    ]
    assert len(set(states)) == len(states)


def test_no_stream_is_that_of_a_plain_seed() -> None:
    plain = {np.random.default_rng(seed).integers(2**62) for seed in range(2000)}
    named = {stream(name, seed).integers(2**62) for name in STREAMS for seed in range(20)}
    assert len(named) == 20 * len(STREAMS)
    assert not plain & named


def test_stream_of_a_key_is_the_same_each_time_and_in_every_release() -> None:
    assert stream("order", 7, 3).permutation(5).tolist() == [2, 0, 1, 4, 3]
    drawn = torch.randint(100, (4,), generator=torch_stream("negatives", 7, 3))
    assert drawn.tolist() == [36, 75, 26, 81]
    assert seed_of("dropout", 7, 3) == 4079793789264306530
    assert int(words_of("view", 7, 3)) == 479455796825052592
    assert seed_of("order", np.int64(7)) == seed_of("order", 7)


def test_key_below_zero_or_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be at least 0, got \(3, -1\)"):
        stream("order", 3, -1)
    with pytest.raises(KeyError, match="odrer"):
        stream("odrer", 3)


OTHERS = {"generate.py", "entries.py", "chance.py"}
"""Files that draw by the user's seed itself, data sets and first weights, or by seeds they get."""


def test_all_draws_of_the_package_are_of_named_streams() -> None:
    makers = {"default_rng", "SeedSequence", "RandomState", "manual_seed", "seed", "seed_all"}
    own = {"stream", "torch_stream", "seed_of", "words_of", "sequence"}
    others, names = set(), {"step_sessions"}  # in random.py itself
    paths = [*(ROOT / "graphseq").rglob("*.py"), *(ROOT / "experiments").rglob("*.py")]
    for path in sorted(paths):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or path.name == "random.py":
                continue
            called = ast.unparse(node.func).rpartition(".")[2]
            if called in own and node.args and isinstance(node.args[0], ast.Constant):
                names.add(node.args[0].value)
            elif (
                called in makers
                and "seed_of(" not in ast.unparse(node)
                and "experiments" not in path.relative_to(ROOT).parts
            ):
                others.add(path.name)
    assert others <= OTHERS
    assert names == set(STREAMS)
