"""Places of targets: exact in every type, ties and exclusions counted, misses marked."""

from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphseq.evaluation import rank_counts

ranks = import_module("graphseq.evaluation.rank_counts")  # the package's name is the function


@st.composite
def score_rows(draw):
    num_rows = draw(st.integers(1, 6))
    num_items = draw(st.integers(1, 7))
    value = st.sampled_from([-np.inf, -1.5, 0.0, 0.25, 3.0, np.inf])
    row = st.lists(value, min_size=num_items, max_size=num_items)
    scores = draw(st.lists(row, min_size=num_rows, max_size=num_rows))
    targets = draw(st.lists(st.integers(-1, num_items - 1), min_size=num_rows, max_size=num_rows))
    excluded = draw(
        st.sets(st.tuples(st.integers(0, num_rows - 1), st.integers(0, num_items - 1)), max_size=9)
    )
    return scores, targets, sorted(excluded)


def naive(scores, targets, excluded=()):
    better, tied = [], []
    for row, target in enumerate(targets):
        mine = scores[row][target]
        if target < 0 or mine == -np.inf or (row, target) in excluded:
            better.append(len(scores[row]))
            tied.append(0)
            continue
        others = [
            score
            for item, score in enumerate(scores[row])
            if item != target and (row, item) not in excluded
        ]
        better.append(sum(score > mine for score in others))
        tied.append(sum(score == mine for score in others))
    return better, tied


@settings(max_examples=80, deadline=None)
@given(score_rows(), st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
def test_rank_counts_of_any_scores_equal_a_naive_loop(case, dtype):
    scores, targets, _ = case
    better, tied = rank_counts(torch.tensor(scores, dtype=dtype), torch.tensor(targets))
    assert (better.tolist(), tied.tolist()) == naive(scores, targets)
    assert better.dtype == tied.dtype == torch.int64


@settings(max_examples=80, deadline=None)
@given(score_rows())
def test_rank_counts_with_exclusions_equal_a_naive_loop(case):
    scores, targets, excluded = case
    pairs = torch.tensor(excluded, dtype=torch.long).view(-1, 2)
    before = torch.tensor(scores)
    given_scores = before.clone()
    better, tied = rank_counts(
        given_scores, torch.tensor(targets), excluded=(pairs[:, 0], pairs[:, 1])
    )
    assert (better.tolist(), tied.tolist()) == naive(scores, targets, set(excluded))
    assert torch.equal(given_scores, before)


@pytest.mark.parametrize("room", [1, 90, 200, 10_000])
def test_rank_counts_in_blocks_of_any_size_are_the_same(monkeypatch, room):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 4, (13, 11), generator=generator).double()
    targets = torch.randint(-1, 11, (13,), generator=generator)
    expected = naive(scores.tolist(), targets.tolist())
    monkeypatch.setattr(ranks, "CACHE_BYTES", room)
    better, tied = rank_counts(scores, targets)
    assert (better.tolist(), tied.tolist()) == expected


def test_rank_counts_of_neighboring_float64_scores_are_not_ties():
    one = torch.tensor(1.0, dtype=torch.float64)
    above = torch.nextafter(one, torch.tensor(2.0, dtype=torch.float64))
    scores = torch.stack([one, above, one]).view(1, 3)
    better, tied = rank_counts(scores, torch.tensor([0]))
    assert (better.item(), tied.item()) == (1, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_rank_counts_above_what_a_float_counts_exactly_stay_exact(monkeypatch, dtype):
    # float16 counts to 2048 only; flags of the scores' own type would lose the last ones.
    scores = torch.ones(1, 4099, dtype=dtype)
    better, tied = rank_counts(scores, torch.tensor([0]))
    assert (better.item(), tied.item()) == (0, 4098)
    monkeypatch.setattr(ranks, "EXACT_IN_FLOAT32", 4000)
    assert rank_counts(scores, torch.tensor([0]))[1].item() == 4098


def test_rank_counts_of_whole_number_scores_are_counted_too():
    better, tied = rank_counts(torch.tensor([[3, 1, 3, 2]]), torch.tensor([3]))
    assert (better.item(), tied.item()) == (2, 0)


def test_rank_counts_of_expanded_scores_leave_them_as_they_are():
    scores = torch.tensor([2.0, 1.0, 2.0]).expand(4, 3)
    better, tied = rank_counts(scores, torch.tensor([0, 1, 2, -1]))
    assert better.tolist() == [0, 2, 0, 3]
    assert tied.tolist() == [1, 0, 1, 0]


def test_rank_counts_of_an_empty_batch_are_empty():
    better, tied = rank_counts(torch.empty(0, 5), torch.empty(0, dtype=torch.long))
    assert better.shape == tied.shape == (0,)


def test_rank_counts_with_both_infinities_are_no_nan():
    scores = torch.tensor([[torch.inf, -torch.inf, 0.0]])
    better, tied = rank_counts(scores, torch.tensor([2]))
    assert (better.item(), tied.item()) == (1, 0)


@pytest.mark.parametrize("room", [1, 10_000])
def test_rank_counts_of_nan_scores_name_row_and_item(monkeypatch, room):
    monkeypatch.setattr(ranks, "CACHE_BYTES", room)
    scores = torch.zeros(3, 4)
    scores[2, 1] = torch.nan
    with pytest.raises(ValueError, match="NaN, the first in row 2 for item 1"):
        rank_counts(scores, torch.zeros(3, dtype=torch.long))


@pytest.mark.parametrize(
    ("scores", "targets", "message"),
    [
        (torch.zeros(3), torch.zeros(3, dtype=torch.long), r"got shapes \[3\] and \[3\]"),
        (torch.zeros(3, 2), torch.zeros(2, dtype=torch.long), r"got shapes \[3, 2\] and \[2\]"),
        (torch.zeros(1, 0), torch.zeros(1, dtype=torch.long), r"got shapes \[1, 0\] and \[1\]"),
        (torch.zeros(1, 2), torch.tensor([2]), r"item codes in 0..1, or -1"),
        (torch.zeros(1, 2), torch.tensor([-2]), r"got -2..-2"),
    ],
)
def test_rank_counts_of_misfits_say_what_is_wrong(scores, targets, message):
    with pytest.raises(ValueError, match=message):
        rank_counts(scores, targets)
