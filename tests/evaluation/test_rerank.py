"""Re-ranking against a loop over cases, with ties and misses of both stages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.evaluation import (
    Protocol,
    evaluate,
    evaluate_pairs,
    evaluate_reranker,
    metric_values,
)
from graphseq.evaluation.rerank import shortlist
from graphseq.models.base import SessionModel
from graphseq.models.sequence.gru4rec import GRU4Rec

NUM_ITEMS = 9


class Table(SessionModel):
    """Scores that the last click alone decides, from a table."""

    def __init__(self, num_items: int, levels: int | None = None, seed: int = 0) -> None:
        super().__init__(num_items)
        generator = torch.Generator().manual_seed(seed)
        size = (num_items, num_items)
        table = torch.rand(size, generator=generator)
        if levels is not None:
            table = torch.randint(levels, size, generator=generator).float()
        self.register_buffer("table", table)

    def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
        scores = self.table[batch.click_item[batch.click_ptr[1:] - 1]]
        if items is None:
            return scores
        return scores[:, items] if items.dim() == 1 else scores.gather(1, items)


def random_sessions(seed: int = 0) -> Sessions:
    generator = np.random.default_rng(seed)
    lists = [generator.integers(0, NUM_ITEMS + 1, n).tolist() for n in (5, 1, 9, 2, 3, 7)]
    return Sessions.from_lists([*lists, [NUM_ITEMS, 3]], vocabulary=Vocabulary(np.arange(9)))


@pytest.mark.parametrize("exclude_seen", [False, True])
@pytest.mark.parametrize("num_candidates", [1, 4, 9, 20])
def test_reranker_places_equal_a_loop_over_cases(num_candidates: int, exclude_seen: bool) -> None:
    sessions = random_sessions()
    ranker, retriever = Table(NUM_ITEMS, levels=3, seed=1), Table(NUM_ITEMS)
    report = evaluate_reranker(
        ranker,
        retriever,
        sessions,
        num_candidates=num_candidates,
        batch_size=3,
        exclude_seen=exclude_seen,
    )
    assert report.ranks[["session", "position"]].equals(
        evaluate(ranker, sessions).ranks[["session", "position"]]
    )
    for row in report.ranks.itertuples():
        clicks = [c for c in sessions[row.session][: row.position] if c is not None]
        target = sessions[row.session][row.position]
        if not clicks:
            continue  # by popularity, below
        first = retriever.table[clicks[-1]].tolist()
        left = [i for i in range(NUM_ITEMS) if not (exclude_seen and i in clicks)]
        chosen = sorted(left, key=lambda i: -first[i])[:num_candidates]
        if target not in chosen:
            assert (row.better, row.tied) == (NUM_ITEMS, 0)
            continue
        second = ranker.table[clicks[-1]].tolist()
        assert row.better == sum(second[i] > second[target] for i in chosen)
        assert row.tied == sum(second[i] == second[target] for i in chosen) - 1
    for name, value in report.metrics.items():
        ranks = report.ranks
        assert value == metric_values(name, ranks["better"], ranks["tied"], NUM_ITEMS).mean()


def test_reranker_hit_rate_at_all_candidates_is_that_of_the_retrieval() -> None:
    sessions = random_sessions()
    retriever = Table(NUM_ITEMS)
    report = evaluate_reranker(Table(9, seed=3), retriever, sessions, num_candidates=4, ks=[4])
    assert report.metrics["hr@4"] == evaluate(retriever, sessions, ks=[4]).metrics["hr@4"]


def test_reranker_of_all_items_equals_evaluate_of_the_ranker() -> None:
    sessions, ranker = random_sessions(), Table(NUM_ITEMS, levels=3, seed=1)
    report = evaluate_reranker(ranker, Table(NUM_ITEMS), sessions)
    assert report.ranks.equals(evaluate(ranker, sessions).ranks)
    assert report.metrics == evaluate(ranker, sessions).metrics


@pytest.mark.parametrize("ties", ["expected", "optimistic", "pessimistic"])
@pytest.mark.parametrize("seen", ["keep", "remove", "both"])
@pytest.mark.parametrize(("targets", "min_history"), [("all", 0), ("last", 0), (2, 3)])
def test_reranker_of_all_items_equals_evaluate_under_any_protocol(
    targets: str | int, min_history: int, seen: str, ties: str
) -> None:
    protocol = Protocol(targets=targets, seen=seen, ties=ties, min_history=min_history)  # type: ignore[arg-type]
    sessions, ranker = random_sessions(), Table(NUM_ITEMS, levels=3, seed=1)
    found = evaluate_reranker(ranker, Table(NUM_ITEMS), sessions, protocol=protocol)
    wanted = evaluate(ranker, sessions, protocol=protocol)
    assert found.metrics == wanted.metrics
    assert found.ranks.equals(wanted.ranks)
    assert found.num_left_out == wanted.num_left_out
    found.compare(wanted, "hr@5")  # same cases, same protocol


@pytest.mark.parametrize("num_candidates", [1, 4])
def test_reranker_with_seen_items_and_without_at_once_equals_one_by_one(
    num_candidates: int,
) -> None:
    # Ties for the last places are broken at random: neither rule may move the other's draw.
    sessions = random_sessions()
    ranker, retriever = Table(NUM_ITEMS, levels=3, seed=1), Table(NUM_ITEMS, levels=2)

    def run(seen: str) -> dict[str, float]:
        protocol = Protocol(seen=seen)  # type: ignore[arg-type]
        return evaluate_reranker(
            ranker, retriever, sessions, num_candidates=num_candidates, protocol=protocol
        ).metrics

    unseen = {f"unseen {name}": value for name, value in run("remove").items()}
    assert run("both") == run("keep") | unseen


def test_reranker_report_has_strata() -> None:
    sessions, ranker = random_sessions(), Table(NUM_ITEMS, levels=3, seed=1)
    found = evaluate_reranker(ranker, Table(NUM_ITEMS), sessions).strata("repeat")
    wanted = evaluate(ranker, sessions).strata("repeat")
    assert found.equals(wanted)


def test_reranker_refuses_drawn_candidates() -> None:
    sessions, ranker = random_sessions(), Table(NUM_ITEMS)
    with pytest.raises(ValueError, match="with candidates=3: set num_candidates instead"):
        evaluate_reranker(ranker, ranker, sessions, protocol=Protocol(candidates=3))


def test_reranker_target_that_the_ranker_never_recommends_is_a_miss() -> None:
    sessions, ranker = random_sessions(), Table(NUM_ITEMS)
    ranker.table.fill_(-torch.inf)
    report = evaluate_reranker(ranker, Table(NUM_ITEMS), sessions)
    with_history = report.ranks["better"] == NUM_ITEMS
    assert with_history.sum() == len(report.ranks) - report.num_without_history


def test_reranker_infinite_scores_tie() -> None:
    ranker = Table(NUM_ITEMS, levels=1)
    ranker.table[:, :4] = torch.inf
    found = evaluate_reranker(ranker, Table(NUM_ITEMS), random_sessions())
    assert found.ranks.equals(evaluate(ranker, random_sessions()).ranks)


def test_reranker_place_in_the_list_takes_its_logarithm_from_the_score() -> None:
    ranker, retriever = Table(NUM_ITEMS, seed=1), Table(NUM_ITEMS)
    both = Table(NUM_ITEMS)
    place = retriever.table.argsort(1, descending=True).argsort(1) + 1
    both.table = ranker.table - 0.3 * place.log()
    found = evaluate_reranker(ranker, retriever, random_sessions(), place_weight=0.3)
    assert found.ranks.equals(evaluate(both, random_sessions()).ranks)


def test_reranker_equal_items_tie_unless_their_places_in_the_list_differ() -> None:
    ranker = GRU4Rec(NUM_ITEMS, 4)
    with torch.no_grad():
        ranker.items.weight[:] = ranker.items.weight[0]
    found, plain = (
        evaluate_reranker(
            ranker, Table(NUM_ITEMS), random_sessions(), num_candidates=9, place_weight=weight
        ).ranks
        for weight in (1.0, 0.0)
    )
    assert found.equals(evaluate(Table(NUM_ITEMS), random_sessions()).ranks)
    ranked = plain["better"] < NUM_ITEMS
    assert ranked.sum() > 5
    assert (plain["tied"][ranked] == NUM_ITEMS - 1).all()


def test_reranker_and_retriever_of_different_items_raise() -> None:
    sessions = random_sessions()
    with pytest.raises(ValueError, match="need the same items, got 8 and 9"):
        evaluate_reranker(Table(8), Table(9), sessions)
    ranker, retriever = Table(9), Table(9)
    retriever.attach(sessions.catalog())
    other = replace(sessions, vocabulary=Vocabulary(np.arange(9) + 1))
    ranker.attach(other.catalog())
    with pytest.raises(ValueError, match="fit both on the same split"):
        evaluate_reranker(ranker, retriever, sessions)


def test_reranker_scores_that_are_nan_raise() -> None:
    ranker = Table(NUM_ITEMS)
    ranker.table[0] = torch.nan
    with pytest.raises(ValueError, match=r"are NaN, the first in row 1 for candidate \d: a NaN"):
        evaluate_reranker(ranker, Table(NUM_ITEMS), random_sessions())


@pytest.mark.parametrize("options", [{"num_candidates": 0}, {"batch_size": 0}])
def test_reranker_number_out_of_range_raises(options: dict) -> None:
    with pytest.raises(ValueError, match="must be at least 1, got"):
        evaluate_reranker(Table(9), Table(9), random_sessions(), **options)


def test_shortlist_draws_lots_among_items_tied_for_the_last_places() -> None:
    scores = torch.tensor([[5.0, 1, 1, 1, 0], [2, 2, 2, 2, 2], [9, 8, 7, 6, 5]]).repeat(2000, 1)
    items, present = shortlist(scores, 3, torch.Generator().manual_seed(0))
    assert present.all()
    share = [torch.bincount(items[row::3].ravel(), minlength=5) / 2000 for row in range(3)]
    assert share[0].tolist() == pytest.approx([1, 2 / 3, 2 / 3, 2 / 3, 0], abs=0.05)
    assert share[1].tolist() == pytest.approx([3 / 5] * 5, abs=0.05)
    assert share[2].tolist() == [1, 1, 1, 0, 0]
    assert all(len(set(row)) == 3 for row in items.tolist())


def test_reranker_by_another_seed_breaks_ties_of_the_retriever_anew() -> None:
    even = Table(NUM_ITEMS, levels=1)
    one, again, other = (
        evaluate_reranker(Table(NUM_ITEMS), even, random_sessions(), num_candidates=3, seed=seed)
        .ranks["better"]
        .tolist()
        for seed in (0, 0, 1)
    )
    assert one == again != other


def test_reranker_retriever_ties_items_within_rounding() -> None:
    even, log = Table(NUM_ITEMS, levels=1), random_sessions()
    even.table = torch.ones(NUM_ITEMS, NUM_ITEMS)
    even.table[:, :5] += 2e-7  # without ties, the three candidates would always be of these
    found = np.zeros(log.num_targets, dtype=bool)
    for seed in range(20):
        report = evaluate_reranker(Table(NUM_ITEMS), even, log, num_candidates=3, seed=seed)
        found |= report.ranks["better"].to_numpy() < NUM_ITEMS
    click = log.ptr[report.ranks["session"]] + report.ranks["position"]
    assert found[log.items[click] >= 5].all()


def test_shortlist_of_fewer_recommended_items_leaves_places_empty() -> None:
    scores = torch.tensor([[1.0, -torch.inf, 0.5, -torch.inf]])
    items, present = shortlist(scores, 3, torch.Generator())
    assert items[present].tolist() == [0, 2]
    assert present.sum() == 2


def test_reranker_auc_without_seen_items_is_that_of_evaluate() -> None:
    sessions, ranker = random_sessions(), Table(NUM_ITEMS, levels=3, seed=1)
    found = evaluate_reranker(ranker, Table(NUM_ITEMS), sessions, exclude_seen=True)
    expected = evaluate(ranker, sessions, exclude_seen=True)
    assert found.values("auc").tolist() == expected.values("auc").tolist()


class AskedAt(Table):
    """Scores that the time of the request decides, as HSTU with time="request"."""

    reads_request_time = True

    def __init__(self, num_items: int) -> None:
        super().__init__(num_items)
        self.asked: list[Tensor] = []

    def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
        self.asked.append(batch.request_time)
        scores = self.table[batch.request_time.long() % self.num_items]
        return scores if items is None else scores.gather(1, items)


def test_reranker_that_reads_the_requests_time_is_asked_at_it() -> None:
    sessions = random_sessions()
    times = np.random.default_rng(3).integers(0, 10**6, sessions.num_sessions)
    place = np.arange(sessions.num_clicks) - np.repeat(sessions.ptr[:-1], sessions.lengths)
    timed = replace(sessions, time=np.repeat(times, sessions.lengths) + 100.0 * place)
    ranker = AskedAt(NUM_ITEMS)
    found = evaluate_reranker(ranker, Table(NUM_ITEMS), timed)
    expected = evaluate(ranker, timed)
    assert found.ranks.equals(expected.ranks)
    ranker.asked.clear()
    evaluate_pairs(ranker, timed)
    known = [
        timed.time[timed.ptr[row.session] + row.position]
        for row in expected.ranks.itertuples()
        if timed[row.session][row.position] is not None
        and any(click is not None for click in timed[row.session][: row.position])
    ]
    assert sorted(torch.cat(ranker.asked).tolist()) == sorted(known)
    for refused in (
        lambda: evaluate_reranker(ranker, Table(NUM_ITEMS), sessions),
        lambda: evaluate_pairs(ranker, sessions),
    ):
        with pytest.raises(ValueError, match="these sessions have no"):
            refused()


@pytest.mark.parametrize("place_weight", [-1.0, float("nan"), float("inf"), "a", None])
def test_place_weight_that_is_no_weight_is_refused(place_weight):
    models = Table(NUM_ITEMS), Table(NUM_ITEMS)
    with pytest.raises(ValueError, match="place_weight must be a finite number of at least 0"):
        evaluate_reranker(*models, random_sessions(), place_weight=place_weight)
