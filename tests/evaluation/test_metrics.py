"""Metrics from places: averages over every order of a tie, and chance level for equal scores."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphseq.evaluation import auc, metric_names, metric_values, parse_metric, rank_counts


def gain(kind, place, k):
    if k is not None and place > k:
        return 0.0
    return {
        "hr": 1.0,
        "recall": 1.0,
        "precision": 1 / (k or 1),
        "ndcg": 1 / math.log2(place + 1),
        "mrr": 1 / place,
        "mean_rank": place,
    }[kind]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=6),
    st.data(),
    st.sampled_from(
        [
            "hr@1",
            "hr@3",
            "ndcg@2",
            "ndcg@9",
            "mrr@2",
            "mrr@5",
            "mrr",
            "recall@2",
            "precision@2",
            "precision@9",
            "mean_rank",
        ]
    ),
)
def test_metric_of_ties_is_the_mean_over_all_orders_of_equal_items(scores, data, name):
    target = data.draw(st.integers(0, len(scores) - 1))
    kind, k = parse_metric(name)
    values = []
    for order in itertools.permutations(range(len(scores))):
        # sorted is stable: among equal scores, this permutation decides.
        ranking = sorted(order, key=lambda item: -scores[item])
        values.append(gain(kind, ranking.index(target) + 1, k))
    better, tied = rank_counts(torch.tensor([scores]), torch.tensor([target]))
    assert metric_values(name, better, tied, len(scores))[0] == pytest.approx(np.mean(values))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=8),
    st.sampled_from(["hr", "ndcg", "mrr"]),
    st.integers(1, 90),
)
def test_metric_of_many_cases_equals_a_loop_over_places(cases, kind, k):
    num_items = 81
    better, tied = np.array(cases).T
    expected = [
        np.mean([gain(kind, b + 1 + i, min(k, num_items)) for i in range(t + 1)]) for b, t in cases
    ]
    np.testing.assert_allclose(metric_values(f"{kind}@{k}", better, tied, num_items), expected)


def test_metric_of_a_constant_model_is_chance():
    num_items = 40
    assert metric_values("hr@10", [0], [39], num_items)[0] == 10 / 40
    harmonic = sum(1 / place for place in range(1, 41))
    assert metric_values("mrr", [0], [39], num_items)[0] == pytest.approx(harmonic / 40)


def test_metric_by_hand_at_the_cutoff():
    # Places 1, 20, 21, and 20 or 21.
    better, tied = [0, 19, 20, 19], [0, 0, 0, 1]
    assert metric_values("hr@20", better, tied, 100).tolist() == [1, 1, 0, 0.5]
    np.testing.assert_allclose(metric_values("mrr@20", better, tied, 100), [1, 1 / 20, 0, 1 / 40])
    np.testing.assert_allclose(
        metric_values("ndcg@20", better, tied, 100),
        [1, 1 / math.log2(21), 0, 1 / math.log2(21) / 2],
    )


@pytest.mark.parametrize("name", ["hr@5", "hr@500", "ndcg@500", "mrr@500", "mrr"])
def test_metric_of_a_miss_is_zero_at_any_cutoff(name):
    assert metric_values(name, [7], [0], 7).tolist() == [0]
    assert metric_values(name, [7, 0], [0, 3], 7)[0] == 0


def test_metric_with_k_above_the_catalog_counts_every_item():
    assert metric_values("hr@99", [6], [0], 7).tolist() == [1]
    assert metric_values("mrr@99", [6], [0], 7).tolist() == metric_values("mrr", [6], [0], 7)


def test_metric_of_no_cases_is_empty():
    assert metric_values("mrr", [], [], 7).shape == (0,)


@pytest.mark.parametrize(
    ("name", "parsed"), [("hr@20", ("hr", 20)), ("mrr", ("mrr", None)), ("mrr@1", ("mrr", 1))]
)
def test_parse_metric_of_a_name_gives_kind_and_cutoff(name, parsed):
    assert parse_metric(name) == parsed


@pytest.mark.parametrize(
    "name", ["hr", "ndcg", "hr@", "hr@0", "hr@-1", "hr@2.5", "mrr@", "map@5", "HR@5", "hr@5@5", ""]
)
def test_parse_metric_of_another_name_lists_the_forms(name):
    with pytest.raises(ValueError, match="hr@k, ndcg@k or mrr@k with a whole number"):
        parse_metric(name)


def test_metric_names_of_repeated_cutoffs_come_once():
    assert metric_names((2, 1, 2)) == ["hr@2", "ndcg@2", "mrr@2", "hr@1", "ndcg@1", "mrr@1", "mrr"]


@pytest.mark.parametrize("ks", [(), (0,), (1.5,), (True,), ("5",)])
def test_metric_names_of_no_cutoffs_say_what_is_asked(ks):
    with pytest.raises(ValueError, match="ks must be whole numbers"):
        metric_names(ks)


@pytest.mark.parametrize("name", ["hr@0", "ndcg", "map@10", "hr@5.0", "hr@-1", "", 5, None])
def test_metric_that_is_none_says_which_there_are(name):
    with pytest.raises(ValueError, match=r"A metric is hr@k, ndcg@k or mrr@k .* or mrr; got"):
        metric_values(name, [0], [0], 3)


@pytest.mark.parametrize(
    ("better", "tied", "num_items", "message"),
    [
        ([0, 1], [0], 3, r"got shapes \[2\], \[1\] and \[2\]"),
        ([0, -1], [0, 0], 3, "better holds whole numbers of at least 0, but -1 in case 1"),
        ([0], [-2], 3, "tied holds whole numbers of at least 0, but -2 in case 0"),
        ([1.7], [0], 3, "better holds whole numbers of at least 0, but 1.7 in case 0"),
        ([0], [np.nan], 3, "tied holds whole numbers of at least 0, but nan in case 0"),
        ([np.inf], [0], 3, "better holds whole numbers of at least 0, but inf in case 0"),
        ([True], [0], 3, "better holds whole numbers, one per case, got values of bool"),
        (["0"], [0], 3, "better holds whole numbers, one per case, got values of <U1"),
        ([0, 2], [2, 1], 3, "Case 1 has 2 better and 1 tied of 3 items: they and the target"),
        ([3], [1], 3, "a miss has better = 3 and tied = 0"),
        ([4], [0], 3, "Case 0 has 4 better and 0 tied of 3 items"),
        ([0], [0], 0, "num_items must be at least 1, got 0"),
        ([0], [0], 2.0, "num_items must be a whole number"),
    ],
)
def test_metric_of_counts_that_do_not_fit_says_why(better, tied, num_items, message):
    with pytest.raises(ValueError, match=message):
        metric_values("hr@1", better, tied, num_items)


def test_auc_of_one_target_is_the_share_of_others_that_it_beats():
    # 0 better; 2 better and 1 tied of 4 others; a miss.
    assert metric_values("auc", [0, 2, 5], [0, 1, 0], 5).tolist() == [1.0, 1 - 2.5 / 4, 0.0]
    assert metric_values("mean_rank", [0, 2, 5], [0, 1, 0], 5).tolist() == [1.0, 3.5, 6.0]
    assert metric_values("auc", [0], [0], 1).tolist() == [1.0]
    assert metric_values("precision@10", [0, 4], [0, 0], 5).tolist() == [0.1, 0.1]


@given(
    scores=st.lists(st.integers(0, 3), min_size=2, max_size=8),
    data=st.data(),
)
def test_auc_of_one_target_is_that_of_the_pairs(scores, data):
    target = data.draw(st.integers(0, len(scores) - 1))
    better, tied = rank_counts(torch.tensor([scores]), torch.tensor([target]))
    labels = [int(item == target) for item in range(len(scores))]
    found = metric_values("auc", better, tied, len(scores))[0]
    assert found == pytest.approx(auc(labels, scores))


def test_metric_of_whole_numbers_as_floats_is_that_of_integers():
    assert metric_values("hr@2", [1.0, 2.0], [0.0, 1.0], 5).tolist() == [1, 0]


def test_auc_counts_only_the_items_that_remain():
    # 5 of 9 items are removed: the target stands among 3 others.
    found = metric_values("auc", [1, 0, 0, 9], [0, 3, 0, 0], 9, removed=[5, 5, 5, 5])
    assert found.tolist() == [1 - 1 / 3, 0.5, 1, 0]
    assert metric_values("auc", [0, 9], [0, 0], 9, removed=[8, 9]).tolist() == [1, 0]
    for wrong, message in (
        ([6], "Case 0 has 1 better and 2 tied of 9 items without 6 removed ones"),
        ([-1], "removed holds whole numbers of at least 0, but -1"),
        ([1, 1], r"got shapes \[1\], \[1\] and \[2\]"),
    ):
        with pytest.raises(ValueError, match=message):
            metric_values("auc", [1], [2], 9, removed=wrong)
