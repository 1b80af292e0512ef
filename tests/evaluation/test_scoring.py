"""Scores in blocks and passes: the same numbers however the work is cut."""

from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest
import torch

import graphseq.evaluation.scoring as scoring
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.evaluation import evaluate
from graphseq.evaluation.scoring import in_larger_blocks, score_cases
from graphseq.evaluation.targets import Targets
from graphseq.models.base import SessionModel

NUM_ITEMS = 9


class RunningSum(SessionModel):
    """State of a click: the sum of all vectors up to it. Counts the clicks it has read."""

    causal: ClassVar[bool] = True

    def __init__(self, num_items: int = NUM_ITEMS) -> None:
        super().__init__(num_items)
        generator = torch.Generator().manual_seed(1)
        table = torch.randint(-3, 4, (num_items, 2), generator=generator).double()
        self.weight = torch.nn.Parameter(table, requires_grad=False)
        self.read: list[int] = []

    def item_weight(self):
        return self.weight

    def click_states(self, batch):
        self.read += batch.click_ptr.diff().tolist()
        total = torch.nn.functional.pad(self.weight[batch.click_item].cumsum(0), (0, 0, 1, 0))
        return total[1:] - total[batch.click_ptr[:-1][batch.click_batch]]

    def forward(self, batch):
        return self.click_states(batch)[batch.click_ptr[1:] - 1]


@pytest.fixture
def sessions():
    generator = np.random.default_rng(0)
    lists = [generator.integers(0, NUM_ITEMS, n).tolist() for n in (1, 2, 7, 3, 2, 5, 12)]
    return Sessions.from_lists(lists, vocabulary=Vocabulary(range(NUM_ITEMS)))


@pytest.mark.parametrize("most", [1, 9 * 10, 2**24])
@pytest.mark.parametrize("batch_size", [1, 3, 512])
def test_scores_in_any_blocks_come_once_each_and_are_the_same(
    monkeypatch, sessions, most, batch_size
):
    monkeypatch.setattr(scoring, "MOST_SCORES", most)
    monkeypatch.setattr(scoring, "FEWEST_ROWS", 2)
    model, cases = RunningSum(), Targets(sessions)
    found = torch.full((len(cases), NUM_ITEMS), torch.nan, dtype=torch.float64)
    for case, scores in score_cases(model, sessions, cases, batch_size):
        assert len(case) <= max(2, most // NUM_ITEMS)
        assert found[case].isnan().all()
        found[case] = scores
    expected = [
        model.weight[torch.from_numpy(clicks[:position].astype(np.int64))].sum(0) @ model.weight.T
        for clicks in np.split(sessions.items, sessions.ptr[1:-1])
        for position in range(1, len(clicks))
    ]
    assert torch.equal(found, torch.stack(expected))


@pytest.mark.parametrize("rows", [1, 4, 5, 100])
def test_larger_blocks_hold_the_same_cases_and_values_in_order(rows):
    sizes = [2, 0, 3, 1, 5, 1]
    starts = np.cumsum([0, *sizes])
    cases = [np.arange(a, b) for a, b in pairwise(starts)]
    given = [(case, torch.from_numpy(case).double().unsqueeze(1) ** 2) for case in cases]
    found = list(in_larger_blocks(iter(given), rows))
    assert all(len(case) >= rows for case, _ in found[:-1])
    assert np.concatenate([case for case, _ in found]).tolist() == list(range(12))
    assert torch.cat([values for _, values in found]).view(-1).tolist() == [i**2 for i in range(12)]
    assert list(in_larger_blocks(iter([]), rows)) == []


def test_scores_in_one_pass_read_each_session_once(sessions):
    model = RunningSum()
    evaluate(model, sessions)
    # Two sessions of two clicks have one case; the others' last click is only a target.
    assert sorted(model.read) == sorted([1, 1, 6, 2, 4, 11])


def test_scores_of_sessions_beyond_a_models_window_come_prefix_by_prefix(sessions):
    model = RunningSum()
    model.max_length = 4
    evaluate(model, sessions)
    whole = [1, 1, 2, 4, *range(1, 7), *range(1, 12)]
    assert sorted(model.read) == sorted(min(length, 4) for length in whole)


def test_scores_of_windows_that_share_their_work_come_in_one_pass(sessions):
    class Shared(RunningSum):
        shares_windows: ClassVar[bool] = True

    model = Shared()
    model.max_length = 4
    report = evaluate(model, sessions)
    assert sorted(model.read) == sorted([1, 1, 6, 2, 4, 11])
    assert report.ranks.equals(evaluate(RunningSum(), sessions).ranks)


def test_scores_with_an_override_of_score_vectors_are_the_models_own(sessions):
    class Negated(RunningSum):
        def score_vectors(self, vectors, items=None):
            return -super().score_vectors(vectors, items)

    opposite = RunningSum()
    opposite.item_weight = lambda: -opposite.weight  # its inputs stay as they are
    assert evaluate(Negated(), sessions).ranks.equals(evaluate(opposite, sessions).ranks)


def test_scores_with_a_bias_add_it(sessions):
    class Biased(RunningSum):
        def item_bias(self):
            return 1000 * torch.arange(self.num_items, dtype=torch.float64)

    report = evaluate(Biased(), sessions)
    targets = Targets(sessions).target
    assert report.ranks["better"].tolist() == (NUM_ITEMS - 1 - targets).tolist()


@pytest.mark.parametrize(
    ("method", "wrong", "message"),
    [
        ("score", lambda self, batch, items=None: torch.zeros(1, 2), r"\.score must give shape"),
        ("score_vectors", lambda self, vectors, items=None: vectors, r"\.score must give"),
        (
            "click_states",
            lambda self, batch: torch.zeros(3, 2).double(),
            r"\.click_states must give shape",
        ),
        ("forward", lambda self, batch: torch.zeros(1, 2), r"\.forward must give shape \[2, 2\]"),
    ],
)
def test_scores_of_the_wrong_shape_name_the_method(sessions, method, wrong, message):
    model = type("Wrong", (RunningSum,), {method: wrong})()
    with pytest.raises(ValueError, match=message):
        evaluate(model, sessions)
