"""The effect of a click, by hand and beside what was planted."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import graphseq as gs
from graphseq.evaluation import click_effect, paired_test

WALK = gs.Sessions.from_lists([[0, 1, 2], [2, 0], [1, 1, 0, 2], [0, 2, 1]])


class LastTwo(gs.models.SessionModel):
    """The next item is the sum of the last two, with logits 0 and 2; the first, of one click."""

    scores_by_table = False

    def forward(self, batch):
        raise AssertionError

    def score(self, batch, items=None):
        scores = torch.zeros(batch.num_graphs, 3)
        for row, (low, high) in enumerate(
            zip(batch.click_ptr[:-1], batch.click_ptr[1:], strict=True)
        ):
            scores[row, batch.click_item[low:high][-2:].sum() % 3] = 2.0
        return scores


def built():
    model = LastTwo(3)
    model.attach(WALK.catalog(), WALK)
    return model


HIT, MISS = np.exp(2) / (np.exp(2) + 2), 1 / (np.exp(2) + 2)


@pytest.mark.parametrize(
    ("back", "with_it", "without"),
    [
        # Last clicks 2, 2, 1; after [0, 1], [1, 1, 0] and [0, 2].
        (1, [MISS, MISS, MISS], [MISS, HIT, MISS]),  # [0], [1, 1], [0]
        (2, [MISS, MISS, MISS], [MISS, MISS, MISS]),  # [1], [1, 0], [2]
        (3, [MISS], [MISS]),  # [1, 0], of the only session that is long enough
    ],
)
def test_effect_is_the_mean_change_of_the_probability(back, with_it, without):
    found = click_effect(built(), WALK, back)
    assert found.num_cases == len(with_it)
    assert found.difference == pytest.approx(np.mean(with_it) - np.mean(without), abs=1e-6)


def test_interval_is_that_of_the_paired_differences():
    found = click_effect(built(), WALK, 1, level=0.9)
    differences = np.array([0, MISS - HIT, 0])
    low, high = gs.evaluation.mean_interval(differences, np.arange(3), level=0.9)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-6)


def test_effect_is_clustered_by_users() -> None:
    users = np.array([0, 1, 0, 1], dtype=np.int32)
    walk = replace(WALK, users=users, user_vocabulary=gs.data.Vocabulary(["u", "v"]))
    found = click_effect(built(), walk, cluster="user")
    # The cases are of sessions 0, 2 and 3.
    expected = paired_test([MISS, MISS, MISS], [MISS, HIT, MISS], [0, 0, 1])
    assert found.num_clusters == 2
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="No session has 9 clicks"):
        click_effect(built(), WALK, 8)
    with pytest.raises(ValueError, match="back must be"):
        click_effect(built(), WALK, 0)
    markov = gs.models.MarkovChain(3).fit_counts(WALK)
    with pytest.raises(ValueError, match="logits"):
        click_effect(markov, WALK)
