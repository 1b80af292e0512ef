"""Sparse ranking of counting models: the places of dense scores, ties and exclusions included."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

import graphseq as gs
from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.evaluation.evaluate import counts_of
from graphseq.evaluation.sparse_ranks import EvidenceRanks, has_evidence
from graphseq.models.counting.counting import CountingModel, Evidence

ITEMS = 9
FAMILIES = [
    ("popularity", {}),
    ("trending", {}),
    ("trending", {"half_life": 2.0}),
    ("session_popularity", {}),
    ("recency", {}),
    ("markov", {"order": 1}),
    ("markov", {"order": 3, "backoff": 2.0, "smoothing": 1.0}),
    ("markov", {"order": 2, "backoff": 0.0}),
    ("sequential_rules", {}),
    ("sequential_rules", {"backoff": 0.0, "last_clicks": 3, "weight": "linear"}),
    ("item_knn", {}),
    ("item_knn", {"backoff": 0.0}),
    ("vsknn", {"k": 3}),
    ("vsknn", {"backoff": 0.0}),
    ("vstan", {}),
]
LISTS = st.lists(
    st.lists(st.integers(0, ITEMS - 1), min_size=2, max_size=6), min_size=2, max_size=12
)
VOCABULARY = gs.data.Vocabulary(list(range(ITEMS)))


def sessions_of(lists):
    return gs.Sessions.from_lists(lists, vocabulary=VOCABULARY)


def dense(model, batch, targets, excluded):
    return counts_of(model, model.score(batch), targets, excluded=excluded)


@pytest.mark.parametrize(("name", "options"), FAMILIES)
@settings(max_examples=15)
@given(train=LISTS, test=LISTS, seed=st.integers(0, 99))
def test_sparse_places_of_every_counting_family_are_those_of_its_scores(
    name, options, train, test, seed
):
    model = gs.models.MODELS[name](num_items=ITEMS, **options)
    model.fit_counts(sessions_of(train))
    assert has_evidence(model)
    dataset = SessionGraphDataset(sessions_of(test))
    batch = dataset.batch(np.arange(len(dataset)))
    generator = np.random.default_rng(seed)
    targets = torch.from_numpy(generator.integers(-1, ITEMS, len(dataset)))
    gone = np.flatnonzero(generator.random(len(dataset) * ITEMS) < 0.2)
    generator.shuffle(gone)
    excluded = torch.from_numpy(gone // ITEMS), torch.from_numpy(gone % ITEMS)
    for leaving in (None, excluded):
        better, tied = EvidenceRanks(model).counts(batch, targets, excluded=leaving)
        expected = dense(model, batch, targets, leaving)
        assert better.tolist() == expected[0].tolist()
        assert tied.tolist() == expected[1].tolist()


class Given(CountingModel):
    """Evidence as a test writes it down."""

    def __init__(self, num_items, blocks=(), backoff=0.0, unit=1.0):
        super().__init__(num_items)
        self.blocks, self.backoff, self.unit = blocks, backoff, unit

    def evidence(self, batch):
        return Evidence([csr_matrix(np.array(b)) for b in self.blocks], self.backoff, self.unit)


def test_sparse_places_by_hand():
    # Popularity 4, 2, 2, 1, 1 of 10; evidence 0.3 for item 3 and 0.1 for item 2.
    model = Given(5, [[[0.0, 0.0, 0.1, 0.3, 0.0]]], backoff=1.0)
    model.fit_counts(gs.Sessions.from_lists([[0, 0, 0, 0, 1, 1, 2, 2, 3, 4]]))
    batch = SessionGraphDataset(gs.Sessions.from_lists([[0, 1, 2, 3, 4]])).batch([0])
    # Scores: 0.4, 0.2, 0.3, 0.4, 0.1.
    found = {}
    for target in range(-1, 5):
        better, tied = EvidenceRanks(model).counts(batch, torch.tensor([target]))
        found[target] = (int(better), int(tied))
    assert found == {-1: (5, 0), 0: (0, 1), 1: (3, 0), 2: (2, 0), 3: (0, 1), 4: (4, 0)}


def test_sparse_places_without_backoff_never_recommend_what_has_no_evidence():
    model = Given(4, [[[0.0, 2.0, 0.0, 1.0]]], unit=3.0)
    model.fit_counts(gs.Sessions.from_lists([[0, 1, 2, 3]]))
    batch = SessionGraphDataset(gs.Sessions.from_lists([[0, 1, 2, 3]])).batch([0])
    found = [
        tuple(int(v) for v in EvidenceRanks(model).counts(batch, torch.tensor([target])))
        for target in range(4)
    ]
    assert found == [(4, 0), (0, 0), (4, 0), (1, 0)]


def test_sparse_places_of_equal_evidence_in_another_order_tie():
    sums = [0.0, 0.1 + 0.2 + 0.3, 0.3 + 0.2 + 0.1, 0.6 + 1e-12]
    model = Given(4, [[sums]])
    model.fit_counts(gs.Sessions.from_lists([[0, 1, 2, 3]]))
    batch = SessionGraphDataset(gs.Sessions.from_lists([[0, 1, 2, 3]])).batch([0])
    better, tied = EvidenceRanks(model).counts(batch, torch.tensor([1]))
    assert (int(better), int(tied)) == (1, 1)


def test_sparse_places_of_nan_evidence_are_refused():
    model = Given(2, [[[float("nan"), 1.0]]])
    model.fit_counts(gs.Sessions.from_lists([[0, 1]]))
    with pytest.raises(ValueError, match="are NaN"):
        gs.evaluate(model, gs.Sessions.from_lists([[0, 1]]))


def test_models_that_score_in_another_way_are_ranked_by_their_scores():
    class Reversed(gs.models.SequentialRules):
        def score(self, batch, items=None):
            return -super().score(batch, items)

    class Weighed(gs.models.SequentialRules):
        def evidence_scores(self, *arguments, **options):
            return super().evidence_scores(*arguments, **options)

    class Loose(gs.models.SequentialRules):
        def score_tolerance(self, scores, rows):
            return torch.full_like(scores, 9.0)

    class Own(CountingModel):
        def score(self, batch, items=None):
            return self.popularity().repeat(batch.num_graphs, 1)

    train = sessions_of([[0, 1, 2], [0, 1], [1, 2]])
    for kind in (Reversed, Weighed, Loose, Own):
        model = kind(ITEMS).fit_counts(train)
        assert not has_evidence(model)
    assert has_evidence(gs.models.SequentialRules(ITEMS))
    assert has_evidence(gs.models.Trending(ITEMS))
    assert not has_evidence(gs.models.Trending(ITEMS, hourly=True))
    assert not has_evidence(gs.models.Trending(ITEMS, category="kind"))
    assert not has_evidence(gs.models.SRGNN(ITEMS, hidden_channels=4))
    straight = gs.evaluate(gs.models.SequentialRules(ITEMS).fit_counts(train), train)
    turned = gs.evaluate(Reversed(ITEMS).fit_counts(train), train)
    assert straight.metrics["mrr"] > 0.9 > turned.metrics["mrr"]


def test_evaluate_of_a_counting_model_never_makes_dense_scores(monkeypatch):
    train = sessions_of([[0, 1, 2], [0, 1], [1, 2]])
    model = gs.models.SequentialRules(ITEMS).fit_counts(train)
    test = replace(sessions_of([[0, 1, 2, 5], [1, 2]]), first_target=np.array([1, 1]))
    expected = [
        gs.evaluate(model, test, exclude_seen=seen, batch_size=2).ranks for seen in (False, True)
    ]

    def refuse(self, batch, items=None):
        raise AssertionError("dense scores")

    monkeypatch.setattr(CountingModel, "score", refuse)
    for seen, ranks in zip((False, True), expected, strict=True):
        assert gs.evaluate(model, test, exclude_seen=seen).ranks.equals(ranks)
