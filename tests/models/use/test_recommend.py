"""Recommendations in the user's own ids: choices by hand, ties, unknown items, filters."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data.sessions.sessions import Sessions
from graphseq.models.base import SessionModel
from graphseq.models.counting.markov import MarkovChain
from graphseq.models.counting.popularity import Popularity
from graphseq.models.graph.srgnn import SRGNN
from graphseq.models.sequence.hstu import HSTU
from graphseq.models.use import recommend as module
from graphseq.models.use.recommend import recommend, stable_topk

TRAIN = [["a", "b", "a", "c"], ["b", "c"], ["d"]]  # a 2, b 2, c 2, d 1; a -> b, b -> a, b -> c


@pytest.fixture
def train() -> Sessions:
    return Sessions.from_lists(TRAIN, users=["u", "v", "u"])


@pytest.fixture
def markov(train: Sessions) -> MarkovChain:
    return MarkovChain(4).fit_counts(train)


def ids(answers: list[list[tuple[Any, float]]]) -> list[list[Any]]:
    return [[item for item, _ in answer] for answer in answers]


class Recorder(SessionModel):
    """Scores items by their code, and keeps the batches that it was given."""

    def __init__(self, num_items: int) -> None:
        super().__init__(num_items)
        self.batches: list[Batch] = []

    def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
        self.batches.append(batch)
        code = torch.arange(self.num_items) if items is None else items
        return code.float().repeat(batch.num_graphs, 1)


def test_recommend_by_hand_gives_own_ids_with_probabilities(markov: MarkovChain) -> None:
    [answer] = markov.recommend([["c", "b"]], k=2)
    share = 2 / 7
    assert [item for item, _ in answer] == ["a", "c"]
    expected = (1 + 0.001 * share) / 2.001
    assert [score for _, score in answer] == pytest.approx([expected, expected], rel=1e-12)


def test_recommend_equal_scores_come_in_the_order_of_codes(train: Sessions) -> None:
    model = Popularity(4).fit_counts(train)
    assert ids(model.recommend([["d"]], k=2)) == [["a", "b"]]
    assert ids(model.recommend([["d"]], k=4)) == [["a", "b", "c", "d"]]


def test_recommend_minus_infinity_is_not_recommended(train: Sessions) -> None:
    plain = MarkovChain(4, backoff=0).fit_counts(train)
    assert ids(plain.recommend([["a"], ["d"]], k=3)) == [["b", "c"], []]


def test_recommend_lists_sessions_and_frame_agree(markov: MarkovChain) -> None:
    lists = [["a", "b"], ["c"], ["b", "a", "a"]]
    flat = [(number, item) for number, session in enumerate(lists) for item in session]
    frame = pd.DataFrame(flat, columns=["session_id", "item_id"])
    expected = recommend(markov, lists)
    assert recommend(markov, Sessions.from_lists(lists)) == expected
    assert recommend(markov, frame) == expected


def test_recommend_frame_with_times_is_read_in_their_order(markov: MarkovChain) -> None:
    frame = pd.DataFrame({"session_id": [1, 1], "item_id": ["b", "a"], "time": [5.0, 2.0]})
    assert recommend(markov, frame) == recommend(markov, [["a", "b"]])


def test_times_of_lists_are_those_of_a_log() -> None:
    log = pd.DataFrame(
        {
            "session_id": [1, 1, 1, 2, 2, 2, 3, 3],
            "item_id": list("abcbcdad"),
            "time": [0.0, 5.0, 900.0, 40.0, 41.0, 7000.0, 3.0, 4.0],
        }
    )
    model = HSTU(4, hidden_channels=8, max_length=4)
    sessions = Sessions.from_frame(log, time="time")
    model.attach(sessions.catalog(), sessions)
    for parameter in model.parameters():  # the bias of times starts at zero
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    lists = [["a", "b", "c"], ["b", "c", "x", "d"], ["a", "d"]]  # "x" is unknown
    times = [[0.0, 5.0, 900.0], [40.0, 41.0, 100.0, 7000.0], [3.0, 4.0]]
    told = model.recommend(lists, times=times)
    assert told == model.recommend(log)
    assert told != model.recommend(lists, times=[[0, 1, 2], [0, 1, 2, 3], [0, 1]])
    with pytest.raises(ValueError, match=r"give it sessions with times .*recommend\(times=\)"):
        model.recommend(lists)
    with pytest.raises(ValueError, match="times has one number per click"):
        model.recommend(lists, times=times[:2])
    with pytest.raises(ValueError, match="these sessions have their own"):
        model.recommend(sessions, times=times)


def test_clicks_that_lost_their_ids_are_counted_without_naming_any(
    caplog: pytest.LogCaptureFixture,
) -> None:
    train = Sessions.from_lists([["a", "b"], ["b", "a"]])
    model = Popularity(2).fit_counts(train)
    model.attach(train.catalog())
    coded = Sessions.from_lists([["a", "x"], ["b"]]).with_vocabulary(train.vocabulary)
    recommend(model, coded, k=1)
    assert caplog.messages == ["recommend skipped 1 clicks on unknown items in sessions."]


def test_recommend_unknown_items_are_skipped_and_named(
    markov: MarkovChain, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        answers = markov.recommend([["a", "new", "b"], ["c", 17]], k=4)
    assert answers == markov.recommend([["a", "b"], ["c"]], k=4)
    [record] = caplog.records
    assert "skipped 2 clicks on unknown items" in record.getMessage()
    assert "'new', 17" in record.getMessage()


def test_recommend_sessions_of_unknown_items_or_none_get_what_is_popular(
    markov: MarkovChain,
) -> None:
    answers = markov.recommend([["new"], ["a", "b"], []], k=4)
    popular = [("a", 2 / 7), ("b", 2 / 7), ("c", 2 / 7), ("d", 1 / 7)]
    assert answers[0] == answers[2] == popular
    assert answers[1] == markov.recommend([["a", "b"]], k=4)[0]
    assert markov.recommend([[]], k=4) == [popular]


def test_recommend_sessions_with_unknown_items_agree_with_lists(markov: MarkovChain) -> None:
    lists = [["new"], ["a", "new", "b"]]
    assert recommend(markov, Sessions.from_lists(lists)) == recommend(markov, lists)


def test_recommend_without_sessions_gives_nothing(markov: MarkovChain) -> None:
    assert markov.recommend([]) == []


def test_recommend_without_catalog_speaks_codes() -> None:
    assert ids(recommend(Recorder(5), [[0, 3], [4]], k=2)) == [[4, 3], [4, 3]]


def test_recommend_without_catalog_cannot_fall_back_and_says_so() -> None:
    with pytest.raises(ValueError, match=r"Session 1 has no item .* model.catalog = "):
        recommend(Recorder(5), [[0], [9]])


def test_recommend_more_than_the_catalog_gives_all_and_says_so(
    markov: MarkovChain, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        [answer] = markov.recommend([["a"]], k=9)
    assert sorted(item for item, _ in answer) == ["a", "b", "c", "d"]
    assert "k=9 is larger than the catalog" in caplog.text


def test_recommend_exclude_for_all_or_for_each_session(markov: MarkovChain) -> None:
    asked = [["b"], ["b"]]
    assert ids(markov.recommend(asked, exclude=["a", "d"])) == [["c", "b"]] * 2
    each = markov.recommend(asked, exclude=[["a"], ["c", "b"]])
    assert ids(each) == [["c", "b", "d"], ["a", "d"]]


def test_recommend_allow_for_all_or_for_each_session(markov: MarkovChain) -> None:
    asked = [["b"], ["b"]]
    assert ids(markov.recommend(asked, allow={"d", "c"})) == [["c", "d"]] * 2
    assert ids(markov.recommend(asked, allow=[["d"], []])) == [["d"], []]
    assert markov.recommend(asked, allow=[]) == [[], []]


def test_recommend_allowed_items_have_the_scores_that_they_have_among_all(
    markov: MarkovChain,
) -> None:
    everything = dict(markov.recommend([["b"]], k=4)[0])
    chosen = dict(markov.recommend([["b"]], allow=["d", "b", "d"])[0])
    assert chosen == {item: everything[item] for item in ("b", "d")}


def test_recommend_filters_work_together(markov: MarkovChain) -> None:
    answers = markov.recommend(
        [["b"], ["a", "c"]], allow=["a", "b", "c"], exclude=[["a"], []], exclude_seen=True
    )
    assert ids(answers) == [["c"], ["b"]]


def test_recommend_unknown_allowed_items_are_named(
    markov: MarkovChain, caplog: pytest.LogCaptureFixture
) -> None:
    assert ids(markov.recommend([["b"]], allow=["new", "c"])) == [["c"]]
    assert "skipped 1 unknown ids in allow: 'new'" in caplog.text


def test_recommend_users_reach_the_batch_and_unknown_ones_are_minus_one(train: Sessions) -> None:
    model = Recorder(4)
    model.catalog = train.catalog()
    recommend(model, [["a"], ["new"], ["b"]], users=["v", "u", "stranger"])
    assert model.batches[0].user.tolist() == [1, -1]
    recommend(model, [["a"]])
    assert model.batches[1].user.tolist() == [-1]
    recommend(model, Sessions.from_lists([["a"]], users=["v"]))
    assert model.batches[2].user.tolist() == [1]


def test_recommend_clicks_keep_times_and_features_of_sessions() -> None:
    frame = pd.DataFrame(
        {"session_id": 0, "item_id": [0, 9, 1], "time": [1.0, 2.0, 3.0], "price": [5, 6, 7]}
    )
    model = Recorder(4)
    recommend(model, Sessions.from_frame(frame, time="time", features=["price"]))
    assert model.batches[0].click_time.tolist() == [1.0, 3.0]
    assert model.batches[0].click_price.tolist() == [5, 7]


@pytest.mark.filterwarnings("error")
def test_recommend_sessions_opened_from_a_folder_equal_those_in_memory(
    markov: MarkovChain, tmp_path: Path
) -> None:
    frame = pd.DataFrame({"session_id": [0, 0, 1], "item_id": ["a", "b", "c"], "time": [1.0, 2, 3]})
    sessions = Sessions.from_frame(frame, time="time")
    sessions.save(tmp_path / "sessions")
    opened = Sessions.open(tmp_path / "sessions")
    assert recommend(markov, opened) == recommend(markov, sessions)


def test_recommend_in_small_blocks_equals_one_block(
    markov: MarkovChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [["a"], [], ["b", "c"], ["new"], ["c", "b"], ["a", "a"]]
    exclude = [["a"], [], ["b"], ["c"], [], ["d"]]
    whole = markov.recommend(asked, k=3, exclude=exclude)
    assert markov.recommend(asked, k=3, exclude=exclude, batch_size=2) == whole
    monkeypatch.setattr(module, "MAX_SCORES", 4)
    assert markov.recommend(asked, k=3, exclude=exclude) == whole


def test_recommend_leaves_every_module_in_its_mode() -> None:
    model = SRGNN(5, 4)
    model.session_readout.eval()
    before = [m.training for m in model.modules()]
    model.recommend([[0, 1]])
    assert model.training
    assert [m.training for m in model.modules()] == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"k": 2.0}, r"k must be a whole number of at least 1, got 2\.0"),
        ({"k": True}, "k must be a whole number of at least 1, got True"),
        ({"batch_size": 1.5}, r"batch_size must be a whole number of at least 1, got 1\.5"),
        ({"exclude": [1, 2]}, "None of these 2 ids in exclude is known.* 1 is a whole .* 'a' is"),
        ({"allow": [[1], [2]]}, "None of these 2 ids in allow is known"),
        ({"users": [7, 8]}, "None of these 2 users is known.* 7 is a whole .* 'u' is text"),
        ({"users": ["u"]}, "2 sessions, 1 users"),
        ({"exclude": "ab"}, r"exclude is a collection of ids, got 'ab'"),
        ({"exclude": [["a"]]}, "for each of the 2 sessions; got 1 entries"),
        ({"allow": [["a"], "b"]}, "got 2 entries, 1 of them"),
    ],
)
def test_recommend_argument_that_does_not_fit_is_refused(
    markov: MarkovChain, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        markov.recommend([["a"], ["b"]], **options)


@pytest.mark.parametrize("asked", [[[1], [2, 1]], Sessions.from_lists([[1], [2, 1]])])
def test_recommend_sessions_of_ids_of_another_type_are_refused(
    markov: MarkovChain, asked: Any
) -> None:
    with pytest.raises(ValueError, match=r"are of another type: 1 is a whole .* 'a' is text"):
        markov.recommend(asked)


def test_recommend_one_flat_session_is_refused(markov: MarkovChain) -> None:
    with pytest.raises(ValueError, match=r"session 0 is 'a': write \[\[...\]\]"):
        markov.recommend(["a", "b"])


def test_recommend_users_for_a_log_without_users_is_refused() -> None:
    model = Popularity(2).fit_counts(Sessions.from_lists([["a", "b"]]))
    with pytest.raises(ValueError, match="whose catalog has users"):
        model.recommend([["a"]], users=["u"])


def test_recommend_nan_score_is_refused() -> None:
    model = SRGNN(5, 4)
    torch.nn.init.constant_(model.items.weight, torch.nan)
    with pytest.raises(ValueError, match="SRGNN gave a score that is not a number"):
        model.recommend([[0, 1]])


@given(
    rows=st.lists(
        st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0]), min_size=7, max_size=7),
        min_size=1,
        max_size=4,
    ),
    k=st.integers(1, 8),
)
def test_best_any_scores_equals_sorting_by_score_then_column(
    rows: list[list[float]], k: int
) -> None:
    row, column, value = stable_topk(torch.tensor(rows), k)
    found = list(zip(row.tolist(), column.tolist(), value.tolist(), strict=True))
    expected = [
        (number, j, scores[j])
        for number, scores in enumerate(rows)
        for j in sorted(range(7), key=lambda j: (-scores[j], j))[:k]
        if scores[j] > -np.inf
    ]
    assert found == expected


# -- frames ----------------------------------------------------------------------------------------


def test_recommend_as_frame_equals_lists(markov: MarkovChain) -> None:
    asked = [["b"], [], ["a", "c"], ["new"]]
    lists = markov.recommend(asked, 2)
    frame = markov.recommend(asked, 2, as_frame=True)
    assert list(frame) == ["session_id", "rank", "item_id", "score", "fallback"]
    rows = [
        (number, rank, item, score)
        for number, answer in enumerate(lists)
        for rank, (item, score) in enumerate(answer, 1)
    ]
    assert list(frame.iloc[:, :4].itertuples(index=False, name=None)) == rows
    assert set(frame.loc[frame["fallback"], "session_id"]) == {1, 3}
    for batch_size in (1, 2, 3):
        again = markov.recommend(asked, 2, as_frame=True, batch_size=batch_size)
        pd.testing.assert_frame_equal(again, frame)


def test_recommend_as_frame_names_the_callers_sessions_and_columns(markov: MarkovChain) -> None:
    log = pd.DataFrame({"sid": ["y", "x", "y"], "sku": ["a", "b", "c"]})
    frame = markov.recommend(log, 1, session="sid", item="sku", as_frame=True)
    assert list(frame)[:3] == ["sid", "rank", "sku"]
    lists = markov.recommend(log, 1, session="sid", item="sku")
    assert dict(zip(frame["sid"], frame["sku"], strict=True)) == {
        name: answer[0][0] for name, answer in zip(frame["sid"], lists, strict=True)
    }
    assert sorted(frame["sid"]) == ["x", "y"]
    assert pd.api.types.is_string_dtype(frame["sku"])


def test_recommend_as_frame_without_recommendations_keeps_its_columns(markov: MarkovChain) -> None:
    for frame in (
        markov.recommend([], as_frame=True),
        markov.recommend([["a"]], allow=[], as_frame=True),
    ):
        assert list(frame) == ["session_id", "rank", "item_id", "score", "fallback"]
        assert len(frame) == 0


# -- what sessions may be --------------------------------------------------------------------------


def test_recommend_takes_the_logs_that_from_frame_takes(
    markov: MarkovChain, tmp_path: Path
) -> None:
    frame = pd.DataFrame({"session_id": [2, 1, 2], "item_id": ["c", "a", "b"], "time": [1, 1, 0]})
    expected = markov.recommend([["b", "c"], ["a"]])
    frame.to_csv(tmp_path / "log.csv", index=False)
    logs: list[Any] = [
        frame,
        frame.set_index("session_id"),
        pl.from_pandas(frame),
        pl.from_pandas(frame).lazy(),
        pa.Table.from_pandas(frame),
        pa.Table.from_pandas(frame).to_reader(),
        pa.RecordBatch.from_pandas(frame),
        duckdb.connect().from_arrow(pa.Table.from_pandas(frame)),
        frame.to_dict("records"),
        frame.to_dict("list"),
        (row for row in frame.to_dict("records")),
        str(tmp_path / "log.csv"),
        tmp_path / "log.csv",
        [tmp_path / "log.csv"],
    ]
    for log in logs:
        assert markov.recommend(log) == expected, type(log)
    renamed = frame.rename(columns={"session_id": "visit", "item_id": "sku", "time": "at"})
    options = {"session": "visit", "item": "sku", "time": "at"}
    assert markov.recommend(renamed, **options) == expected
    assert markov.recommend(renamed, session="visit", item="sku") == markov.recommend(
        [["c", "b"], ["a"]]
    )
    with pytest.raises(ValueError, match=r"no column 'session_id'.*it has 'visit'.*with session="):
        markov.recommend(renamed)


def test_recommend_takes_arrays_and_tensors_as_numbers() -> None:
    sessions = Sessions.from_lists([[10, 20, 10, 30], [20, 30]])
    model = MarkovChain(3).fit_counts(sessions)
    expected = model.recommend([[10, 20]])
    for asked in (
        torch.tensor([[10, 20]]),
        np.array([[10, 20]]),
        [torch.tensor([10, 20])],
        [[torch.tensor(10), torch.tensor(20)]],
        [pl.Series([10, 20])],
        pa.array([[10, 20]]),
        [[10.0, 20.0]],
    ):
        assert model.recommend(asked) == expected
    hidden = model.recommend([[10, 20]], exclude=[30])
    for exclude in (torch.tensor([30]), np.array([30]), [torch.tensor(30)], [torch.tensor([30])]):
        assert model.recommend([[10, 20]], exclude=exclude) == hidden
    assert ids(model.recommend([[10]], allow=torch.tensor([20, 30]))) == [[20, 30]]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ([None], "Session 0 is missing: it is None"),
        ([["a", None]], "item of click 1 of session 0 is missing"),
        ([["a"], ["b", float("nan")]], "item of click 1 of session 1 is missing"),
        ("abc", r"got 'abc' \(str\)"),
        (5, r"got 5 \(int\)"),
        ({"s1": ["a"]}, r"no column 'session_id', 'item_id'; it has 's1'"),
    ],
    ids=str,
)
def test_recommend_what_is_missing_or_no_sessions_is_named(
    asked: Any, words: str, markov: MarkovChain
) -> None:
    with pytest.raises(ValueError, match=words):
        markov.recommend(asked)


def test_recommend_swapped_arguments_are_told_apart(markov: MarkovChain) -> None:
    with pytest.raises(TypeError, match="model first, then the sessions, got list and MarkovChain"):
        recommend([["a"]], markov)


def test_recommend_frame_of_events_says_who_and_when() -> None:
    log = pd.DataFrame(
        {"user_id": ["v", "u", "v"], "item_id": ["a", "b", "b"], "timestamp": [100, 20, 130]}
    )
    sessions = Sessions.from_events(log)
    model = Popularity(sessions.num_items).fit_counts(sessions)
    frame = model.recommend(sessions, 1, as_frame=True)
    assert frame.drop(columns="score").to_dict("list") == {
        "session_id": [0, 1],
        "user_id": ["v", "u"],
        "start": [100.0, 20.0],
        "end": [130.0, 20.0],
        "rank": [1, 1],
        "item_id": ["b", "b"],
        "fallback": [False, False],
    }
