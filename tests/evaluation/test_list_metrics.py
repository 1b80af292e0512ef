"""The usual metrics over lists: by hand, and equal to the rank-based metrics."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphseq.evaluation import hit_rate_at_k, metric_values, mrr, ndcg_at_k, rank_counts


def test_lists_with_one_true_id_by_hand():
    predictions = [["a", "b", "c"], ["b", "a", "c"], ["c", "b", "a"], ["b", "c"]]
    truth = ["a", "a", "a", "a"]
    assert hit_rate_at_k(predictions, truth, 1) == 1 / 4
    assert hit_rate_at_k(predictions, truth, 3) == 3 / 4
    assert mrr(predictions, truth) == pytest.approx((1 + 1 / 2 + 1 / 3) / 4)
    assert mrr(predictions, truth, k=2) == pytest.approx((1 + 1 / 2) / 4)
    assert ndcg_at_k(predictions, truth, 2) == pytest.approx((1 + 1 / math.log2(3)) / 4)


def test_lists_with_sets_of_true_ids_by_hand():
    predictions = [[1, 2, 3, 4]]
    truth = [{2, 4, 9}]
    assert hit_rate_at_k(predictions, truth, 1) == 0
    assert hit_rate_at_k(predictions, truth, 2) == 1
    assert mrr(predictions, truth) == 1 / 2
    found = 1 / math.log2(3) + 1 / math.log2(5)
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert ndcg_at_k(predictions, truth, 4) == pytest.approx(found / ideal)
    # Two places cannot hold three true ids: the ideal is of two.
    assert ndcg_at_k([[2, 4, 9]], truth, 2) == pytest.approx(1)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 8), st.integers(1, 5), st.integers(1, 10), st.integers(0, 2**32 - 1))
def test_lists_of_distinct_scores_agree_with_ranks(num_items, num_cases, k, seed):
    generator = np.random.default_rng(seed)
    scores = np.stack([generator.permutation(num_items) for _ in range(num_cases)])
    truth = generator.integers(-1, num_items, num_cases)
    ranking = np.argsort(-scores, axis=1)
    better, tied = rank_counts(torch.from_numpy(scores), torch.from_numpy(truth))

    def by_rank(name):
        return pytest.approx(metric_values(name, better, tied, num_items).mean())

    assert hit_rate_at_k(ranking, truth, k) == by_rank(f"hr@{k}")
    assert ndcg_at_k(ranking.tolist(), truth.tolist(), k) == by_rank(f"ndcg@{k}")
    assert mrr(torch.from_numpy(ranking), torch.from_numpy(truth)) == by_rank("mrr")
    assert mrr(ranking, truth, k) == by_rank(f"mrr@{k}")


@pytest.mark.parametrize("metric", [hit_rate_at_k, ndcg_at_k, mrr])
@pytest.mark.parametrize(
    ("predictions", "truth", "k", "message"),
    [
        ([["a"]], ["a"], 0, "k must be at least 1, got 0"),
        ([], [], 5, "got 0 lists and 0 truths"),
        ([["a"]], ["a", "b"], 5, "got 1 lists and 2 truths"),
        ([["a"], ["a"]], ["a", set()], 5, "Case 1 has no true id"),
        ([["a"]], [float("nan")], 5, "Case 0 has no true id"),
        ([["a"]], [None], 5, "Case 0 has no true id"),
        ([["a", "b", "a"]], ["a"], 5, "case 0 names an id twice"),
    ],
)
def test_lists_that_define_no_metric_say_why(metric, predictions, truth, k, message):
    with pytest.raises(ValueError, match=message):
        metric(predictions, truth, k)


@pytest.mark.parametrize(
    ("predictions", "truth", "message"),
    [
        ([[1, 2], [3]], ["1", "3"], "1, of type number, is predicted, '1', of type str, is true"),
        ([["1", "2"]], [np.int64(1)], "'1', of type str, is predicted, .*1.*, of type number, is"),
        ([[("a", 0.5)]], ["a"], r"\('a', 0.5\), of type tuple, is predicted, 'a', of type str"),
    ],
)
def test_list_metrics_of_ids_of_another_type_show_one_of_each(predictions, truth, message):
    for metric in (hit_rate_at_k, ndcg_at_k):
        with pytest.raises(ValueError, match=f"another type: {message}"):
            metric(predictions, truth, 1)
    with pytest.raises(ValueError, match="another type"):
        mrr(predictions, truth)


def test_list_metrics_compare_numbers_whatever_holds_them():
    predictions = [[torch.tensor(4), torch.tensor(7)], np.array([7, 4]), [np.int32(4), 7.0]]
    for truth in ([7, 7, 7], torch.tensor([7, 7, 7]), [{7}, [np.int64(7)], torch.tensor(7)]):
        assert mrr(predictions, truth) == pytest.approx((1 / 2 + 1 + 1 / 2) / 3)


def test_list_metrics_of_misses_of_one_type_or_of_no_predictions_are_zero():
    assert hit_rate_at_k([["a"], []], ["b", "c"], 5) == 0
    assert hit_rate_at_k([[], []], ["b", "c"], 5) == 0
    assert hit_rate_at_k([[1, "b"]], ["c"], 5) == 0


@pytest.mark.parametrize("k", [2.0, True, "2"])
def test_list_metrics_with_another_cut_off_say_what_it_is(k):
    with pytest.raises(ValueError, match="k must be a whole number of at least 1, got"):
        hit_rate_at_k([["a"]], ["a"], k)


def test_predictions_with_scores_are_refused_with_the_way_out() -> None:
    answers = [[("a", 0.5), ("b", 0.25)]]
    for metric in (lambda p: hit_rate_at_k(p, ["a"], 2), lambda p: mrr(p, ["a"])):
        with pytest.raises(ValueError, match="of pairs of an id and a score keep the ids, as in"):
            metric(answers)
    pairs = [[("a", 1), ("b", 2)]]  # ids may be pairs themselves
    assert hit_rate_at_k(pairs, [[("a", 1)]], 1) == 1.0
