"""Wrong models, sessions and devices are named; ids of another type never give a score of 0.0."""

from __future__ import annotations

import datetime
import logging
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch

import graphseq as gs
from graphseq.arguments import device_of, whole
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.evaluation import evaluate, evaluate_pairs, evaluate_reranker

SESSIONS = gs.Sessions.from_lists([["a", "b", "a"], ["b", "c"], ["c", "a"]])
NUMBERS = gs.Sessions.from_lists([[1, 2, 1], [2, 3]])


@pytest.fixture
def model() -> gs.models.SRGNN:
    built = gs.models.SRGNN(3, 4)
    built.attach(SESSIONS.catalog())
    return built


class Wrong(gs.models.SessionModel):
    """Scores of one item too few, or NaN."""

    def __init__(self, num_items: int, width: int, value: float = 0.0) -> None:
        super().__init__(num_items)
        self.width, self.value = width, value

    def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
        return torch.full((batch.num_graphs, self.width), self.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (2.0, "k must be a whole number of at least 1, got 2.0."),
        (np.float64(2), "k must be a whole number of at least 1, got np.float64(2.0)."),
        (True, "k must be a whole number of at least 1, got True."),
        (np.True_, "k must be a whole number of at least 1, got np.True_."),
        (torch.tensor(True), "k must be a whole number of at least 1, got tensor(True)."),
        ("5", "k must be a whole number of at least 1, got '5'."),
        (None, "k must be a whole number of at least 1, got None."),
        (np.array([1, 2]), "k must be a whole number of at least 1, got array([1, 2])."),
        (0, "k must be at least 1, got 0."),
        (np.int64(-3), "k must be at least 1, got -3."),
    ],
)
def test_whole_of_anything_else_says_what_came(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        whole("k", value)


@pytest.mark.parametrize("value", [3, np.int32(3), np.uint8(3), torch.tensor(3), np.array(3)])
def test_whole_of_any_integer_is_a_plain_one(value: Any) -> None:
    assert whole("k", value) == 3
    assert type(whole("k", value)) is int


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "device must be 'cpu', 'cuda', .* got 'gpu'"),
        ("cuda:x", "device must be .* got 'cuda:x'"),
        (1.5, "device must be .* got 1.5"),
        ("meta", "device='meta' is not on this machine"),
    ],
)
def test_evaluate_on_a_device_that_is_none_says_so(
    model: gs.models.SRGNN, device: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(model, SESSIONS, device=device)


def test_device_that_this_machine_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match="device='cuda:1' is not on this machine, or torch was"):
        device_of("cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"which has 1 of cuda: 'cuda:0' is the first"):
        device_of("cuda:1")
    assert device_of("cuda:0") == torch.device("cuda:0")


SPLIT = gs.session_split(SESSIONS, test_fraction=0.4, seed=0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (SPLIT, "got Split: pass one part of the split, as split.test"),
        (gs.SessionGraphDataset(SESSIONS), "got SessionGraphDataset: pass the sessions that the"),
        (
            gs.SessionGraphLoader(gs.SessionGraphDataset(SESSIONS), batch_size=2),
            "got SessionGraphLoader: pass the sessions that the loader reads",
        ),
        (pd.DataFrame({"session_id": [1], "item_id": ["a"]}), "got DataFrame: gs.Sessions.from_fr"),
        (["a", "b"], "got list: gs.Sessions.from_frame reads"),
        (None, "got NoneType"),
    ],
)
def test_evaluate_of_what_are_no_sessions_says_what_to_pass(
    model: gs.models.SRGNN, given: Any, message: str
) -> None:
    for call in (evaluate, evaluate_pairs):
        with pytest.raises(ValueError, match=f"sessions must be gs.Sessions, {message}"):
            call(model, given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (SESSIONS, "got Sessions: see gs.models.MODELS"),
        (gs.models.SRGNN, r"it is a class, build it: SRGNN\(num_items="),
        ("srgnn", r"got str: build it: gs.models.MODELS\['srgnn'\]\(num_items="),
        (torch.nn.Linear(1, 1), "got Linear: derive it from graphseq.models.SessionModel"),
        (None, "got NoneType"),
    ],
)
def test_evaluate_of_what_is_no_model_says_what_to_do(
    model: gs.models.SRGNN, given: Any, message: str
) -> None:
    for call in (evaluate, evaluate_pairs):
        with pytest.raises(ValueError, match=f"model must be a SessionModel, .*{message}"):
            call(given, SESSIONS)
    with pytest.raises(ValueError, match=f"ranker must be a SessionModel, .*{message}"):
        evaluate_reranker(given, model, SESSIONS)
    with pytest.raises(ValueError, match=f"retriever must be a SessionModel, .*{message}"):
        evaluate_reranker(model, given, SESSIONS)


def test_evaluate_with_model_and_sessions_swapped_says_so(model: gs.models.SRGNN) -> None:
    with pytest.raises(ValueError, match="got Sessions: the model comes first, then the sessions"):
        evaluate(SESSIONS, model)  # type: ignore[arg-type]


def test_evaluate_of_lists_equals_that_of_sessions(model: gs.models.SRGNN) -> None:
    lists = [["c", "a", "new"], ["b", "c"]]
    expected = evaluate(model, gs.Sessions.from_lists(lists))
    assert evaluate(model, lists).ranks.equals(expected.ranks)
    model.catalog = None
    coded = [torch.tensor([2, 0, 99]), np.array([1, 2])]
    assert evaluate(model, coded).ranks.equals(expected.ranks)  # type: ignore[arg-type]


@pytest.mark.parametrize("ks", [10, np.int64(10), (10,), [np.int32(10)]])
def test_evaluate_takes_one_cut_off_or_several(model: gs.models.SRGNN, ks: Any) -> None:
    assert set(evaluate(model, SESSIONS, ks=ks).metrics) == {"hr@10", "ndcg@10", "mrr@10", "mrr"}


@pytest.mark.parametrize("ks", [(5.0,), 5.0, True, "10", (0,), None])
def test_evaluate_with_other_cut_offs_says_what_they_are(model: gs.models.SRGNN, ks: Any) -> None:
    with pytest.raises(ValueError, match=r"ks must be whole numbers of at least 1, as in \(5, 10"):
        evaluate(model, SESSIONS, ks=ks)


@pytest.mark.parametrize("batch_size", [1.5, True, "512", 0])
def test_evaluate_with_another_batch_size_says_what_it_is(
    model: gs.models.SRGNN, batch_size: Any
) -> None:
    for call in (
        lambda: evaluate(model, SESSIONS, batch_size=batch_size),
        lambda: evaluate_pairs(model, SESSIONS, batch_size=batch_size),
        lambda: evaluate_reranker(model, model, SESSIONS, batch_size=batch_size),
    ):
        with pytest.raises(ValueError, match=r"batch_size must be .*at least 1, got"):
            call()


@pytest.mark.parametrize(
    ("width", "value", "message"),
    [(2, 0.0, r"Wrong.score must give shape \[\d, 3\] here, got \[\d, 2\]"), (3, np.nan, "NaN")],
)
def test_scores_of_the_wrong_shape_or_nan_are_named(width: int, value: float, message: str) -> None:
    wrong = Wrong(3, width, value)
    wrong.attach(SESSIONS.catalog())
    with pytest.raises(ValueError, match=message):
        evaluate(wrong, SESSIONS)
    if width == 2:
        with pytest.raises(ValueError, match=message):
            gs.recommend(wrong, [["a"]])


# -- ids of another type -----------------------------------------------------------------------


def test_evaluate_of_ids_of_another_type_shows_one_of_each(model: gs.models.SRGNN) -> None:
    message = "None of these 3 items is known.* 1 is a whole number, the known 'a' is text"
    for given in (NUMBERS, [[1, 2], [3, 1]]):
        with pytest.raises(ValueError, match=message):
            evaluate(model, given)
    counted = gs.models.MarkovChain(3).fit_counts(NUMBERS)
    with pytest.raises(ValueError, match="'1' is text, the known 1 is a whole number"):
        evaluate(counted, [["1", "2"], ["3", "1"]])


def test_evaluate_of_users_of_another_type_shows_one_of_each() -> None:
    train = gs.Sessions.from_lists([["a", "b"]], users=[7])
    counted = gs.models.MarkovChain(2).fit_counts(train)
    test = gs.Sessions.from_lists([["a", "b"]], users=["7"])
    with pytest.raises(ValueError, match=r"1 users is known.* '7' is text, the known 7 is a whole"):
        evaluate(counted, test)


def test_evaluate_of_ids_that_are_partly_known_counts_the_others(model: gs.models.SRGNN) -> None:
    report = evaluate(model, [["a", "b", "x"], ["y", "c"]])
    assert (report.num_unknown_targets, report.num_unknown_clicks) == (1, 2)


def test_evaluate_of_ids_of_one_type_of_which_none_is_known_warns(
    model: gs.models.SRGNN, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        report = evaluate(model, [["x", "y"], ["y", "z"]])
    assert report.metrics["mrr"] == 0
    said = "None of the 4 clicks of these sessions is on an item that this SRGNN knows: 'x' is not"
    assert f"{said}, 'a' is." in caplog.text


def test_evaluate_names_an_item_that_is_clicked_and_not_known(
    caplog: pytest.LogCaptureFixture,
) -> None:
    train = gs.Sessions.from_lists([[4, 5]])
    counted = gs.models.MarkovChain(2).fit_counts(train)
    test = gs.Sessions.from_lists([[4, 5], [7, 8]])[1:]  # whose vocabulary begins with 4
    with caplog.at_level(logging.WARNING):
        evaluate(counted, test)
        gs.fixed_split(train, test)
    assert "knows: 7 is not, 4 is." in caplog.text
    assert "No item of the test part occurs in training: 7 does not, 5 does." in caplog.text


def test_grow_with_ids_of_another_type_shows_one_of_each(model: gs.models.SRGNN) -> None:
    with pytest.raises(ValueError, match=r"3 items is known.* 1 is a whole number, .* 'a' is text"):
        gs.grow(model, NUMBERS)


def test_fit_with_a_validation_part_of_another_type_shows_one_of_each() -> None:
    other = gs.models.SRGNN(3, 4)
    with pytest.raises(ValueError, match=r"3 items is known.* 1 is a whole number, .* 'a' is text"):
        gs.fit(other, SESSIONS, validation=NUMBERS, max_epochs=1, progress=False)


def test_split_with_a_test_part_of_another_type_shows_one_of_each() -> None:
    with pytest.raises(ValueError, match=r"3 items is known.* 1 is a whole number, .* 'a' is text"):
        gs.fixed_split(SESSIONS, NUMBERS)


@pytest.mark.parametrize(
    ("known", "asked", "shown"),
    [
        ([1, 2], ["1"], "'1' is text, the known 1 is a whole number"),
        (["1", "2"], [1], "1 is a whole number, the known '1' is text"),
        ([1, 2], [1.5], "1.5 is a float, the known 1 is a whole number"),
        ([b"1"], ["1"], "'1' is text, the known b'1' is of type bytes"),
        ([(1, 2)], ["1"], r"'1' is text, the known \(1, 2\) is a tuple"),
        (
            [datetime.date(2020, 1, 1)],
            ["2020-01-01"],
            r"'2020-01-01' is text, the known datetime.date\(2020, 1, 1\) is of type date",
        ),
        (pd.to_datetime(["2020-01-01"]), ["yes"], "'yes' is text, the known Timestamp.* is a date"),
    ],
)
def test_vocabulary_names_ids_of_another_type(known: Any, asked: Any, shown: str) -> None:
    with pytest.raises(ValueError, match=f"None of these 1 ids is known.*{shown}"):
        Vocabulary(known).encode(asked, what="ids")
    with pytest.raises(ValueError, match=f"None of these 1 ids is known.*{shown}"):
        Vocabulary(asked).map_to(Vocabulary(known))
    assert Vocabulary(known).encode(asked).tolist() == [-1]


@pytest.mark.parametrize(
    ("known", "asked", "codes"),
    [
        ([1, 2], ["x", 2], [-1, 1]),
        ([1, 2], [2.0], [1]),
        ([1, 2], [3, 4], [-1, -1]),
        (["a"], [], []),
        ([], ["a"], [-1]),
        ([1, "a"], ["b"], [-1]),
        (["a"], [None], [-1]),
    ],
)
def test_vocabulary_takes_what_may_be_of_its_type(known: Any, asked: Any, codes: Any) -> None:
    assert Vocabulary(known).encode(asked, what="ids").tolist() == codes
