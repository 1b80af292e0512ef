"""Arguments of evaluate, recommend and grow of another type say what they are."""

from typing import Any

import pandas as pd
import pytest

import graphseq as gs

SESSIONS = gs.Sessions.from_lists([[1, 2, 3], [2, 3, 1], [3, 1]])


def model() -> gs.models.MarkovChain:
    return gs.models.MarkovChain(SESSIONS.num_items).fit_counts(SESSIONS)


@pytest.mark.parametrize("value", ["no", 0, None])
def test_exclude_seen_is_a_truth(value: Any) -> None:
    said = "exclude_seen must be True or False, got"
    with pytest.raises(ValueError, match=said):
        gs.evaluate(model(), SESSIONS, exclude_seen=value)
    with pytest.raises(ValueError, match=said):
        gs.evaluation.evaluate_reranker(model(), model(), SESSIONS, exclude_seen=value)
    with pytest.raises(ValueError, match=said):
        model().recommend([[1]], exclude_seen=value)
    with pytest.raises(ValueError, match="as_frame must be True or False, got"):
        model().recommend([[1]], as_frame=value)


def test_seeds_are_whole_numbers() -> None:
    for seed in (-1, 0.5, "1"):
        with pytest.raises(ValueError, match="seed must be"):
            gs.evaluation.evaluate_pairs(model(), SESSIONS, seed=seed)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="seed must be"):
            gs.evaluation.evaluate_reranker(model(), model(), SESSIONS, seed=seed)  # type: ignore


def test_grow_takes_a_model_and_a_log() -> None:
    with pytest.raises(ValueError, match=r"data must be gs.Sessions, got list"):
        gs.grow(model(), [[1, 2]])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"the model first.* got Sessions and MarkovChain"):
        gs.grow(SESSIONS, model())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("predictions", "truth", "said"),
    [
        ([1, 2], [1], r"got 1 for case 0: write \[\[...\]\]"),
        (["ab"], ["a"], "got 'ab' for case 0"),
        ("ab", ["a", "b"], "predictions is .* got 'ab'"),
        ([[1, 2]], 1, "truth is .* got 1"),
        ([["a"], ["b"]], "ab", "truth is .* got 'ab'"),
        (pd.DataFrame([[1, 2]]), [1], r"predictions is (.|\n)*DataFrame"),
        (None, [1], "predictions is .* got None"),
    ],
)
def test_metrics_of_lists_take_a_list_for_each_case(
    predictions: Any, truth: Any, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        gs.evaluation.mrr(predictions, truth)
