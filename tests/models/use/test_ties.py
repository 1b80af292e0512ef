"""Ties robust to rounding: equal items tie at any position, and other items do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from torch import Tensor
from torch_geometric.data import Batch

import graphseq as gs
import graphseq.evaluation.table_ranks as table_ranks
from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.evaluation.table_ranks import TableRanks
from graphseq.models.base import SessionModel
from graphseq.models.use.recommend import stable_topk
from graphseq.models.use.ties import first_equal, leaders, roundings


class ByProduct(SessionModel):
    """Inner products with a table, or the same made by a score of its own."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__(len(weight))
        self.weight = torch.nn.Parameter(weight)
        self.bias = bias

    def forward(self, batch: Batch) -> Tensor:
        last: Tensor = self.weight[batch.click_item[batch.click_ptr[1:] - 1]]
        return last.flip(-1) * 3

    def item_weight(self) -> Tensor:
        return self.weight

    def item_bias(self) -> Tensor | None:
        return self.bias


class ByItself(ByProduct):
    def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
        return super().score(batch, items)


class Told(SessionModel):
    """The same scores for every session."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__(len(scores))
        self.scores = scores

    def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
        scores = self.scores if items is None else self.scores[items]
        return scores.expand(batch.num_graphs, -1)


@st.composite
def planted(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor | None]:
    """Random rows, copies of one of them planted anywhere, and which items are its copies."""
    num_items, d = draw(st.integers(5, 300)), draw(st.sampled_from([1, 3, 7, 33, 100]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    weight = torch.randn(num_items, d, generator=generator)
    bias = torch.randn(num_items, generator=generator) if draw(st.booleans()) else None
    copies = torch.randperm(num_items, generator=generator)[: draw(st.integers(2, num_items))]
    weight[copies] = weight[copies[0]].clone()
    if bias is not None:
        bias[copies] = bias[copies[0]].clone()
    return weight, copies.sort().values, bias


def sessions_of(num_items: int, targets: list[int], last: list[int]) -> gs.Sessions:
    lists = [[a, b] for a, b in zip(last, targets, strict=True)]
    vocabulary = gs.data.Vocabulary(range(num_items))
    return gs.Sessions.from_lists(lists, vocabulary=vocabulary)


@settings(max_examples=40, deadline=None)
@given(planted(), st.sampled_from([1, 3, 40, 90]), st.sampled_from([1, 100, 1024]))
def test_a_target_among_copies_ties_with_all_of_them_wherever_they_stand(
    case: tuple[Tensor, Tensor, Tensor | None], rows: int, items_at_once: int
) -> None:
    weight, copies, bias = case
    generator = torch.Generator().manual_seed(rows)
    vectors = torch.randn(rows, weight.size(1), generator=generator)
    targets = copies[torch.randint(0, len(copies), (rows,), generator=generator)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_ranks, "ITEMS_AT_ONCE", items_at_once)
        better, tied = TableRanks(weight, bias).counts(vectors, targets)
    assert (tied >= len(copies) - 1).all()
    single = torch.ones(len(weight), dtype=torch.bool)
    single[copies[1:]] = False
    places = single.cumsum(0) - 1
    alone = TableRanks(weight[single], None if bias is None else bias[single]).counts(
        vectors, places[copies[0]].expand(rows)
    )
    assert torch.equal(tied, alone[1] + len(copies) - 1)
    assert torch.equal(better, alone[0])


@pytest.mark.parametrize("kind", [ByProduct, ByItself])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@settings(max_examples=10, deadline=None)
@given(case=planted(), seed=st.integers(0, 99), batch_size=st.sampled_from([1, 5, 512]))
def test_copies_tie_in_evaluate_and_come_by_code_in_recommend(
    kind: type[ByProduct],
    dtype: torch.dtype,
    case: tuple[Tensor, Tensor, Tensor | None],
    seed: int,
    batch_size: int,
) -> None:
    weight, copies, bias = case
    model = kind(weight.to(dtype), None if bias is None else bias.to(dtype))
    generator = np.random.default_rng(seed)
    last = generator.integers(0, len(weight), 6).tolist()
    targets = generator.choice(copies.numpy(), 6).tolist()
    sessions = sessions_of(len(weight), targets, last)
    report = gs.evaluate(model, sessions, batch_size=batch_size)
    assert (report.ranks["tied"] >= len(copies) - 1).all()
    asked = [[item] for item in last]
    for allow in (None, copies.tolist()) if kind is ByProduct else (None,):
        for answer in gs.recommend(model, asked, k=len(weight), batch_size=batch_size, allow=allow):
            found = dict(answer)
            order = [item for item, _ in answer if item in set(copies.tolist())]
            assert order == copies.tolist()
            assert len({found[item] for item in order}) == 1
            scores = [score for _, score in answer]
            assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("family", [ByProduct, ByItself])
def test_what_is_hidden_from_a_session_stays_hidden_beside_its_copies(family: Any) -> None:
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(rng.normal(size=(4, 20)).astype(np.float32))
    model = family(rows[torch.from_numpy(rng.integers(0, 4, 60))]).eval()
    lists = [rng.integers(0, 60, n).tolist() for n in (1, 3, 8, 20)]
    hidden = [rng.choice(60, 25, replace=False).tolist() for _ in lists]
    for k in (1, 5, 20, 60):
        found = model.recommend(lists, k, exclude=hidden, exclude_seen=True)
        for answer, session, gone in zip(found, lists, hidden, strict=True):
            scores = model.score(
                build_session_graphs(torch.tensor(session), torch.tensor([0, len(session)]))
            )
            left = set(range(60)) - set(session) - set(gone)
            rounded = {item: round(float(scores[0, item]), 3) for item in left}
            wanted = sorted(left, key=lambda item: (-rounded[item], item))
            assert [item for item, _ in answer] == wanted[:k]


@pytest.mark.parametrize("name", ["srgnn", "sasrec", "tagnn", "bst_ranker", "gru4rec"])
def test_items_that_grew_from_one_row_tie_in_every_family(name: str) -> None:
    sessions = gs.generate_sessions(300, 200, mean_length=5.0, seed=0)
    arguments: dict[str, Any] = {"bst_ranker": {"heads": 4, "mlp_channels": (32,)}}.get(name, {})
    if name in ("srgnn", "sasrec"):
        arguments = {"normalize": True}
    torch.manual_seed(0)
    model = gs.models.MODELS[name](sessions.num_items, 32, **arguments)
    model.attach(sessions.catalog())
    new = [f"new {number}" for number in range(35)]
    ids = sessions.vocabulary.ids.tolist()
    log = gs.Sessions.from_lists([[ids[i % 50], new[i]] for i in range(35)])
    grown = gs.grow(model, log)
    report = gs.evaluate(grown, log)
    assert (report.ranks["tied"] == 34).all()
    assert report.ranks["better"].nunique() > 1
    for asked in ([[ids[0]]], [[item] for item in ids[:9]]):
        for answer in gs.recommend(grown, asked, k=grown.num_items):
            assert [item for item, _ in answer if item in new] == new


def test_real_differences_of_a_table_are_kept_to_the_last_bit() -> None:
    one = np.float32(1)
    rows = [one, np.nextafter(one, np.float32(2)), one, np.nextafter(one, np.float32(0))]
    model = ByProduct(torch.tensor(rows).unsqueeze(1))
    ranks = gs.evaluate(model, sessions_of(4, [0, 1, 2, 3], [0, 0, 0, 0])).ranks
    assert ranks["better"].tolist() == [1, 0, 1, 3]
    assert ranks["tied"].tolist() == [1, 0, 1, 0]
    [answer] = gs.recommend(model, [[0]], k=4)
    assert [item for item, _ in answer] == [1, 0, 2, 3]


def test_equal_rows_with_other_biases_do_not_tie() -> None:
    bias = torch.tensor([0.0, 0.5, 0.0, 0.5])
    model = ByProduct(torch.ones(4, 3), bias)
    ranks = gs.evaluate(model, sessions_of(4, [0, 1, 2, 3], [0, 0, 0, 0])).ranks
    assert ranks[["better", "tied"]].values.tolist() == [[2, 1], [0, 1], [2, 1], [0, 1]]
    [answer] = gs.recommend(model, [[0]], k=4)
    assert [item for item, _ in answer] == [1, 3, 0, 2]


@pytest.mark.parametrize(
    ("scores", "better", "tied"),
    [
        ([0.1 + 0.2, 0.3, 0.4], [1, 1, 0], [1, 1, 0]),  # 0.30000000000000004 and 0.3
        ([1e-9, 1e-9 + 1e-12, 0.5], [2, 1, 0], [0, 0, 0]),  # real, and far above a rounding
        ([999_999.0, 1_000_000.0, 1_000_001.0], [2, 1, 0], [0, 0, 0]),
        ([-1e9, 0.25, 0.5], [2, 1, 0], [0, 0, 0]),  # what is masked makes nothing else a tie
        ([float("inf"), 1.0, float("-inf")], [0, 1, 3], [0, 0, 0]),
        ([float("-inf"), float("-inf"), 1.0], [3, 3, 0], [0, 0, 0]),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_scores_of_any_model_tie_within_a_few_roundings(
    scores: list[float], better: list[int], tied: list[int], dtype: torch.dtype
) -> None:
    told = torch.tensor(scores, dtype=dtype)
    ranks = gs.evaluate(Told(told), sessions_of(3, [0, 1, 2], [0, 0, 0])).ranks
    assert ranks["better"].tolist() == better
    assert ranks["tied"].tolist() == tied
    [answer] = gs.recommend(Told(told), [[0]], k=3)
    places = {item: place for place, (item, _) in enumerate(answer)}
    for item, (above, level) in enumerate(zip(better, tied, strict=True)):
        assert above == 3 or above <= places[item] <= above + level


def test_equal_evidence_in_another_order_ties_in_counting_models() -> None:
    class Evidence(gs.models.CountingModel):
        def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
            sums = [0.0, 0.1 + 0.2 + 0.3, 0.3 + 0.2 + 0.1, 0.6 + 1e-12]
            evidence = csr_matrix([sums] * batch.num_graphs)
            return self.evidence_scores(batch, items, [evidence], backoff=0)

    assert 0.1 + 0.2 + 0.3 != 0.3 + 0.2 + 0.1
    sessions = sessions_of(4, [1, 2, 3], [0, 0, 0])
    model = Evidence(4).fit_counts(sessions)
    ranks = gs.evaluate(model, sessions).ranks
    assert ranks[["better", "tied"]].values.tolist() == [[1, 1], [1, 1], [0, 0]]
    [answer] = gs.recommend(model, [[0]])
    assert [item for item, _ in answer] == [3, 1, 2]
    assert answer[1][1] == answer[2][1]


def test_real_differences_of_counts_are_kept() -> None:
    # b and c follow a once each; c was clicked once more among 30,000: 1.7e-8 of a click apart.
    rest = [["z"]] * 29_994
    sessions = gs.Sessions.from_lists([["a", "b"], ["a", "c"], ["c"], ["z"], *rest])
    model = gs.models.MarkovChain(sessions.num_items).fit_counts(sessions)
    [answer] = model.recommend([["a"]], k=2)
    assert [item for item, _ in answer] == ["c", "b"]
    assert answer[0][1] - answer[1][1] == pytest.approx(0.001 / 30_000 / 2.001, rel=1e-6)


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from([0.0, 1.0, 1.0 + 1e-7, 1.0 + 2e-7, 2.0, -np.inf]), min_size=1),
    st.integers(1, 30),
    st.sampled_from([0.0, 1.5e-7]),
)
def test_best_is_the_front_of_all_items_in_order_whatever_k(
    scores: list[float], k: int, reach: float
) -> None:
    def tolerance(values: Tensor, rows: Tensor) -> Tensor:
        return torch.full_like(values, reach)

    table = torch.tensor([scores], dtype=torch.float64)
    _, column, value = stable_topk(table, k, tolerance=tolerance)
    # By hand: the highest score left leads a tie of all within reach, which come by code.
    left, expected = sorted(set(scores), reverse=True), []
    while left and left[0] > -np.inf:
        members = {score for score in left if score >= left[0] - reach}
        expected += [(i, left[0]) for i, score in enumerate(scores) if score in members]
        left = [score for score in left if score not in members]
    assert list(zip(column.tolist(), value.tolist(), strict=True)) == expected[:k]


@settings(max_examples=40)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=40), st.integers(0, 6))
def test_leaders_of_any_scores_equal_a_walk_from_the_top(steps: list[int], reach: int) -> None:
    scores = sorted((float(step) for step in steps), reverse=True)
    expected: list[float] = []
    for score in scores:
        expected.append(score if not expected or expected[-1] - score > reach else expected[-1])
    table = torch.tensor([scores, scores])
    found = leaders(table, torch.full_like(table, reach))
    assert found.tolist() == [expected, expected]


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(-1, 1)), min_size=1, max_size=40),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    st.booleans(),
)
def test_first_equal_of_any_rows_equals_a_dictionary(
    rows: list[tuple[int, int]], dtype: torch.dtype, has_bias: bool
) -> None:
    table = torch.tensor(rows).to(dtype) * torch.tensor([-1.0, 1.0])  # -0.0 equals 0.0
    bias = torch.arange(len(rows)).remainder(2).to(dtype) if has_bias else None
    seen: dict[Any, int] = {}
    expected = [seen.setdefault((row, i % 2 if has_bias else 0), i) for i, row in enumerate(rows)]
    assert first_equal(table.to(dtype), bias).tolist() == expected


def test_first_equal_of_rows_whose_hashes_collide_compares_the_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gs.models.use.ties, "_hashes", lambda table, items: 0 * items)
    table = torch.tensor([[1.0], [2.0], [1.0]])
    assert first_equal(table).tolist() == [0, 1, 0]


def test_roundings_of_whole_numbers_and_infinities_leave_them_apart() -> None:
    scores = torch.tensor([1e7, 0.5, torch.inf, -torch.inf])
    found = roundings(10**6, scores, scores.abs())
    assert found[:2].tolist() == [0.25, pytest.approx(10**6 * 2**-23 * 0.5)]
    assert found.isfinite().all()
    assert roundings(4, torch.tensor([3, 4]), torch.tensor([3, 4])).tolist() == [0, 0]


@settings(max_examples=10, deadline=None)
@given(case=planted(), seed=st.integers(0, 99))
def test_copies_tie_in_a_reranking_too(
    case: tuple[Tensor, Tensor, Tensor | None], seed: int
) -> None:
    weight, copies, bias = case
    generator = np.random.default_rng(seed)
    last = generator.integers(0, len(weight), 5).tolist()
    sessions = sessions_of(len(weight), generator.choice(copies.numpy(), 5).tolist(), last)
    retriever = Told(torch.zeros(len(weight)))
    for ranker in (ByProduct(weight, bias), ByItself(weight, bias)):
        full = gs.evaluate(ranker, sessions).ranks
        found = gs.evaluation.evaluate_reranker(
            ranker, retriever, sessions, num_candidates=len(weight)
        ).ranks
        assert (found["tied"] >= len(copies) - 1).all()
        assert found[["better", "tied"]].equals(full[["better", "tied"]])


def test_sessions_without_a_known_item_get_the_same_answer_beside_any_others() -> None:
    torch.manual_seed(0)
    sessions = gs.Sessions.from_lists([["a", "b", "c"], ["a", "c"], ["a"]])
    model = gs.models.SRGNN(3, 4)
    model.attach(sessions.catalog())
    alone = model.recommend([[]], k=3)
    assert alone == [[("a", 3 / 6), ("c", 2 / 6), ("b", 1 / 6)]]
    assert model.recommend([["a"], [], ["b"]], k=3)[1] == alone[0]
