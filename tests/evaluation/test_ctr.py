"""AUC and logloss against loops over pairs, and over the targets of sessions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.evaluation import auc, evaluate_pairs, logloss
from graphseq.models.base import SessionModel


class ByCode(SessionModel):
    """Scores items by code, for any session; records its inputs."""

    def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
        assert items is not None
        self.asked = [*getattr(self, "asked", []), (batch.y, items)]
        return items.float()


@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=30))
def test_auc_equals_a_loop_over_pairs(pairs: list[tuple[bool, int]]) -> None:
    clicked = [score for label, score in pairs if label]
    others = [score for label, score in pairs if not label]
    labels, scores = zip(*pairs, strict=True)
    if not clicked or not others:
        with pytest.raises(ValueError, match="compares clicks with non-clicks"):
            auc(labels, scores)
        return
    wins = sum((a > b) + 0.5 * (a == b) for a in clicked for b in others)
    assert auc(labels, scores) == pytest.approx(wins / len(clicked) / len(others))


def test_auc_of_scores_all_alike_is_half() -> None:
    assert auc([1, 0, 0, 1, 0], [2.0] * 5) == 0.5


def test_logloss_equals_the_logarithm_by_hand_also_far_out() -> None:
    chance = 1 / (1 + np.exp(-0.7))
    expected = -(np.log(chance) + np.log(1 - chance)) / 2
    assert logloss([1, 0], [0.7, 0.7]) == pytest.approx(expected)
    assert logloss([1, 0], [-2000.0, 2000.0]) == 2000.0


@pytest.mark.parametrize("metric", [auc, logloss])
@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([1, 0], [0.1], r"one a pair, \[n\] both, got \[2\] and \[1\]"),
        ([[1, 0]], [[0.1, 0.2]], "one a pair"),
        ([1, 2], [0.1, 0.2], "A label is 1, clicked, or 0"),
        ([1, 0], [0.1, float("nan")], "but 1 are NaN"),
    ],
)
def test_click_metrics_of_what_is_no_pair_raise(
    metric: object, labels: list, scores: list, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        metric(labels, scores)


def test_logloss_of_nothing_raises() -> None:
    with pytest.raises(ValueError, match="a mean over pairs, got none"):
        logloss([], [])


def test_evaluate_pairs_compares_every_known_target_with_items_drawn() -> None:
    vocabulary = Vocabulary(np.arange(50))
    lists = [[3, 49, 0], [7], [1, 2, 99], [99, 4], [5, 49]]
    sessions = Sessions.from_lists(lists, vocabulary=vocabulary)
    model = ByCode(50)
    report = evaluate_pairs(model, sessions, num_negatives=3, batch_size=2)
    assert report.num_pairs == 4 * 4  # 49, 0; 2; 49
    assert report.num_left_out == 2  # 99 as a target; 4 after 99 alone
    targets = torch.cat([y for y, _ in model.asked])
    items = torch.cat([items for _, items in model.asked])
    assert sorted(targets.tolist()) == [0, 2, 49, 49]
    assert torch.equal(items[:, 0], targets)
    assert (items[:, 1:] != targets.unsqueeze(1)).all()
    labels = np.zeros(items.shape)
    labels[:, 0] = 1
    assert report.auc == pytest.approx(auc(labels.ravel(), items.ravel()))
    assert report.logloss == pytest.approx(logloss(labels.ravel(), items.ravel()))
    assert evaluate_pairs(ByCode(50), sessions, num_negatives=3) == report


def test_evaluate_pairs_by_another_seed_draws_other_items() -> None:
    lists = [[n % 30, (n + 7) % 30, (n + 11) % 30] for n in range(30)]
    sessions = Sessions.from_lists(lists, vocabulary=Vocabulary(np.arange(30)))
    one, again, other = (
        evaluate_pairs(ByCode(30), sessions, num_negatives=3, seed=seed) for seed in (0, 0, 1)
    )
    assert one == again
    assert one.logloss != other.logloss


def test_evaluate_pairs_draws_every_other_item_alike() -> None:
    sessions = Sessions.from_lists([[0, 1]] * 300, vocabulary=Vocabulary(np.arange(4)))
    model = ByCode(4)
    evaluate_pairs(model, sessions, num_negatives=10)
    drawn = torch.cat([items[:, 1:] for _, items in model.asked]).ravel()
    share = torch.bincount(drawn, minlength=4) / drawn.numel()
    assert share[1] == 0
    assert share[[0, 2, 3]].tolist() == pytest.approx([1 / 3] * 3, abs=0.03)


@pytest.mark.parametrize(
    ("lists", "options", "message"),
    [
        ([[0, 1]], {"num_negatives": 0}, "num_negatives must be at least 1, got 0"),
        ([[0, 99]], {}, "No target is a known item"),
    ],
)
def test_evaluate_pairs_without_pairs_raises(lists: list, options: dict, message: str) -> None:
    sessions = Sessions.from_lists(lists, vocabulary=Vocabulary(np.arange(4)))
    with pytest.raises(ValueError, match=message):
        evaluate_pairs(ByCode(4), sessions, **options)


def test_report_of_pairs_says_that_its_metrics_are_sampled() -> None:
    sessions = Sessions.from_lists([[0, 1]], vocabulary=Vocabulary(np.arange(2)))
    report = evaluate_pairs(ByCode(2), sessions)
    assert repr(report) == "PairReport(sampled auc=1.0000, sampled logloss=0.5032, num_pairs=2)"
