"""A table of a teacher's lists: its means by hand, its cut, and that it is served."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import graphseq as gs
from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.serving import Recommender, distill_table


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> tuple[gs.models.GRU4Rec, gs.Sessions]:
    """A teacher of 7 items and sessions, in blocks of two histories."""
    monkeypatch.setattr("graphseq.serving.distilled_table.MOST_SCORES", 14)
    sessions = gs.Sessions.from_lists([[0, 1, 2, 1, 3], [4, 1, 5], [6], [2, 1, 0]])
    torch.manual_seed(0)
    teacher = gs.models.GRU4Rec(7, 8).eval()
    torch.nn.init.normal_(teacher.items.weight)
    teacher.attach(sessions.catalog())
    return teacher, sessions


@pytest.mark.parametrize("k", [7, 3])
def test_lists_are_the_means_over_all_histories_that_end_in_the_item(small: Any, k: int) -> None:
    teacher, sessions = small
    table = distill_table(teacher, sessions, k=k, temperature=0.5)
    histories = [[0], [0, 1], [0, 1, 2], [0, 1, 2, 1], [4], [4, 1], [2], [2, 1]]
    histories += [[item] for item in range(7)]
    ids = sessions.vocabulary.ids.tolist()
    for item in ids:
        ends = [history for history in histories if history[-1] == item]
        total = dict.fromkeys(ids, 0.0)
        for history in ends:
            scored = dict(teacher.recommend([history], 7)[0])
            share = np.exp(np.array([scored[each] for each in ids]) / 0.5)
            share /= share.sum()
            for place in np.argsort(-share)[:k]:
                total[ids[place]] += share[place] / len(ends)
        wanted = sorted(total, key=lambda each: -total[each])[:k]
        answer = table.recommend([[5, item]], k)[0]
        assert {each for each, _ in answer} == set(wanted)
        popular = sessions.catalog().counts / sessions.num_clicks
        for each, score in answer:
            code = ids.index(each)
            assert score == pytest.approx(total[each] + 0.001 * popular[code], rel=1e-6)
    assert (np.diff(table.rule_ptr.numpy()) == k).all()


def test_teacher_that_reads_the_time_of_the_target_is_told_it() -> None:
    log = gs.Sessions.from_lists([[0, 1, 2, 1, 3], [4, 1, 5], [2, 1, 0]])
    log = replace(log, time=1e9 + 10.0 ** np.arange(log.num_clicks))
    torch.manual_seed(0)
    teacher = gs.models.HSTU(log.num_items, 8, time="request", num_layers=1).eval()
    for weight in teacher.parameters():
        torch.nn.init.normal_(weight)
    teacher.attach(log.catalog(), log)
    cases = gs.SessionGraphDataset(log, request_time=True).batch(range(8))
    last = cases.click_item[cases.click_ptr[1:] - 1]
    with torch.no_grad():
        given = teacher.score(cases).double().softmax(1)
    table = distill_table(teacher, log, k=log.num_items)
    item = log.vocabulary.encode([1])[0]
    alone = torch.tensor([item]), torch.tensor([0, 1])
    with torch.no_grad():
        single = build_session_graphs(*alone, click_fields={"click_time": torch.tensor([10**9])})
        given = torch.cat([given[last == item], teacher.score(single).double().softmax(1)])
    found = torch.zeros(log.num_items, dtype=torch.double)
    rows = slice(*table.rule_ptr[item : item + 2].tolist())
    found[table.rule_item[rows].long()] = table.rule_weight[rows].double()
    torch.testing.assert_close(found, given.mean(0), rtol=1e-5, atol=1e-7)


def test_histories_without_an_answer_of_the_teacher_leave_the_other_lists() -> None:
    lists = [[f"p{n}", "a", f"n{n}"] for n in range(7)]
    known = gs.Sessions.from_lists([*lists, ["end"]])
    chain = gs.models.MarkovChain(known.num_items, order=2, backoff=0).fit_counts(known)
    wanted = distill_table(chain, known, k=1).recommend([["a"]], 1)
    more = gs.Sessions.from_lists([*lists, ["end", "end"]])  # nothing followed it in training
    assert distill_table(chain, more, k=1).recommend([["a"]], 1) == wanted
    assert wanted[0][0][0] == "n0"


def test_teacher_that_reads_times_has_items_alone_clicked_at_the_newest_time() -> None:
    log = gs.Sessions.from_lists([["a", "b"], ["c", "d"]])
    log = replace(log, time=3_600.0 * np.array([1, 1, 5, 5]))
    teacher = gs.models.Trending(4, hourly=True, backoff=0.0)
    teacher.attach(log.catalog(), log)
    teacher.fit_counts(log)
    table = distill_table(teacher, log, k=2, temperature=1e-3)
    assert [each[0][0] for each in table.recommend([["a"], ["d"]], 1)] == ["a", "c"]
    assert {item for item, _ in table.recommend([["b"]], 2)[0]} == {"c", "d"}


def test_table_is_saved_loaded_and_served(small: Any, tmp_path: Path) -> None:
    teacher, sessions = small
    table = distill_table(teacher, sessions, k=4)
    table.save(tmp_path / "table")
    loaded = Recommender(gs.load(tmp_path / "table"))
    asked = [[0, 1], [6], []]
    assert loaded.recommend(asked, 5) == table.recommend(asked, 5)


def test_wrong_arguments_of_a_table_are_refused(small: Any) -> None:
    teacher, sessions = small
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        distill_table(teacher, sessions, k=0)
    with pytest.raises(ValueError, match=r"temperature must be positive, got -1"):
        distill_table(teacher, sessions, temperature=-1)
    with pytest.raises(ValueError, match="none of the 2 sessions has a click at or after"):
        distill_table(teacher, gs.Sessions.from_lists([[0], [3]]))
