"""The whole evaluation against loops and by hand, for all kinds of models."""

import math
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.evaluation import evaluate
from graphseq.models.base import SessionModel
from graphseq.models.graph.srgnn import SRGNN

ITEMS = "abcdef"
VOCABULARY = Vocabulary(list(ITEMS))


class LastAndMean(SessionModel):
    """State of a click: its item's vector, plus half the mean of all up to it."""

    causal: ClassVar[bool] = True

    def __init__(self, num_items: int = len(ITEMS)) -> None:
        super().__init__(num_items)
        # Small whole numbers: sums are exact whatever their order, and ties abound.
        generator = torch.Generator().manual_seed(0)
        table = torch.randint(-2, 3, (num_items, 3), generator=generator).double()
        self.weight = torch.nn.Parameter(table)

    def item_weight(self):
        return self.weight

    def click_states(self, batch):
        items, ptr = batch.click_item, batch.click_ptr
        total = torch.nn.functional.pad(self.weight[items].cumsum(0), (0, 0, 1, 0))
        start = ptr[:-1][batch.click_batch]
        click = torch.arange(len(items), device=items.device)
        mean = (total[1:] - total[start]) / (click - start + 1)[:, None]
        return self.weight[items] + mean.float().double() / 2

    def forward(self, batch):
        return self.click_states(batch)[batch.click_ptr[1:] - 1]


class PrefixByPrefix(LastAndMean):
    causal: ClassVar[bool] = False

    def click_states(self, batch):
        assert (batch.y >= -1).all(), "only prefixes have one target each"
        return super().click_states(batch)


class NextLetter(SessionModel):
    """Has no counts: recommends the letters after the last one, never the letters before it."""

    def score(self, batch, items=None):
        last = batch.click_item[batch.click_ptr[1:] - 1, None]
        ahead = torch.arange(self.num_items, device=last.device) - last
        return torch.where(ahead > 0, -ahead.double(), -torch.inf)


class Constant(SessionModel):
    def score(self, batch, items=None):
        return torch.zeros(1).expand(batch.num_graphs, self.num_items)


def sessions_of(lists, first_target=None, vocabulary=VOCABULARY):
    sessions = Sessions.from_lists(lists, vocabulary=vocabulary)
    return replace(sessions, first_target=None if first_target is None else np.array(first_target))


def naive_ranks(model, lists, first_target, exclude_seen):
    """Better and tied of every case, one case at a time, by the model's own score of one prefix."""
    better, tied = [], []
    for clicks, first in zip(lists, first_target, strict=True):
        for position in range(first, len(clicks)):
            known = [item for item in clicks[:position] if item in ITEMS]
            target = ITEMS.find(clicks[position])
            if known:
                prefix = sessions_of([[*known, "a"]])
                batch = dataset_batch(prefix)
                scores = model.score(batch)[0].tolist()
            else:
                scores = model.catalog.counts.tolist()
            gone = {ITEMS.index(item) for item in known} if exclude_seen else set()
            if target < 0 or target in gone or scores[target] == -math.inf:
                better.append(len(ITEMS))
                tied.append(0)
                continue
            rest = [s for item, s in enumerate(scores) if item != target and item not in gone]
            better.append(sum(s > scores[target] for s in rest))
            tied.append(sum(s == scores[target] for s in rest))
    return better, tied


def dataset_batch(sessions):
    dataset = SessionGraphDataset(sessions)
    return dataset.batch([len(dataset) - 1])


@st.composite
def logs(draw):
    clicks = st.lists(st.sampled_from(ITEMS + "xy"), min_size=1, max_size=7)
    lists = draw(st.lists(clicks, min_size=1, max_size=5))
    first = [draw(st.integers(0, len(clicks))) for clicks in lists]
    return lists, first


@pytest.mark.parametrize("kind", [LastAndMean, PrefixByPrefix, NextLetter, Constant])
@settings(max_examples=25)
@given(
    log=logs().filter(lambda log: any(f < len(c) for c, f in zip(*log, strict=True))),
    exclude_seen=st.booleans(),
    batch_size=st.integers(1, 6),
)
def test_evaluate_of_any_sessions_equals_a_naive_loop(kind, log, exclude_seen, batch_size):
    lists, first = log
    model = kind(len(ITEMS))
    model.catalog = Catalog(VOCABULARY, np.array([3, 1, 4, 1, 5, 0]))
    report = evaluate(
        model, sessions_of(lists, first), batch_size=batch_size, exclude_seen=exclude_seen
    )
    expected = naive_ranks(model, lists, first, exclude_seen)
    assert (report.ranks["better"].tolist(), report.ranks["tied"].tolist()) == expected
    targets = [clicks[p] for clicks, f in zip(*log, strict=True) for p in range(f, len(clicks))]
    assert report.num_cases == len(targets)
    assert report.num_unknown_targets == sum(target not in ITEMS for target in targets)


def test_evaluate_with_unknown_clicks_and_targets_by_hand():
    # Targets: b (after a: place 1), x (unknown), c (after the last known click b: place 1),
    # and in the second session, b after nothing known: popularity puts it at place 2.
    model = NextLetter(3)
    vocabulary = Vocabulary(["a", "b", "c"])
    model.catalog = Catalog(vocabulary, np.array([9, 5, 2]))
    report = evaluate(
        model, sessions_of([["a", "b", "x", "c"], ["y", "b"]], None, vocabulary), ks=[1]
    )
    assert report.ranks["session"].tolist() == [0, 0, 0, 1]
    assert report.ranks["position"].tolist() == [1, 2, 3, 1]
    assert report.ranks["better"].tolist() == [0, 3, 0, 1]
    assert report.metrics["hr@1"] == 2 / 4
    assert report.metrics["mrr"] == (1 + 0 + 1 + 1 / 2) / 4
    assert (report.num_unknown_targets, report.num_without_history) == (1, 1)
    assert (report.num_unknown_clicks, report.num_items) == (2, 3)


def test_evaluate_with_seen_items_excluded_by_hand():
    model = NextLetter(len(ITEMS))
    sessions = sessions_of([["e", "d", "f", "f"]], [2])
    kept = evaluate(model, sessions, ks=[1])
    without = evaluate(model, sessions, ks=[1], exclude_seen=True)
    # f after e, d: second to e, but e was seen. f after f: never recommended either way.
    assert kept.ranks["better"].tolist() == [1, 6]
    assert without.ranks["better"].tolist() == [0, 6]
    assert (kept.exclude_seen, without.exclude_seen) == (False, True)


def test_evaluate_with_seen_items_excluded_counts_a_repeated_target_as_a_miss():
    model = Constant(len(ITEMS))
    report = evaluate(model, sessions_of([["a", "b", "a"]]), ks=[99], exclude_seen=True)
    # b among 5 unseen items; a was seen.
    assert report.ranks[["better", "tied"]].values.tolist() == [[0, 4], [6, 0]]
    assert report.metrics["hr@99"] == 1 / 2


def test_evaluate_without_history_and_with_tied_popularity_averages_over_the_tie():
    model = Constant(4)
    vocabulary = Vocabulary(["a", "b", "c", "d"])
    model.catalog = Catalog(vocabulary, np.array([7, 2, 2, 0]))
    report = evaluate(model, sessions_of([["x", "c"], ["x", "d"], ["y", "x"]], None, vocabulary))
    assert report.ranks[["better", "tied"]].values.tolist() == [[1, 1], [3, 0], [4, 0]]
    assert report.num_without_history == 3
    assert report.metrics["mrr"] == pytest.approx(((1 / 2 + 1 / 3) / 2 + 1 / 4) / 3)


def test_evaluate_without_history_and_catalog_is_chance():
    report = evaluate(Constant(6), sessions_of([["x", "c"]]), ks=[3])
    assert report.metrics["hr@3"] == 3 / 6
    assert report.num_without_history == 1


def test_evaluate_of_a_constant_model_is_chance():
    lists = [["a", "b", "c", "d"], ["f", "e"]]
    report = evaluate(Constant(6), sessions_of(lists), ks=[1, 4, 60])
    assert report.metrics["hr@1"] == pytest.approx(1 / 6)
    assert report.metrics["hr@4"] == pytest.approx(4 / 6)
    assert report.metrics["hr@60"] == 1
    assert report.metrics["mrr"] == pytest.approx(sum(1 / r for r in range(1, 7)) / 6)


def test_evaluate_with_items_renumbered_is_the_same():
    generator = np.random.default_rng(3)
    lists = [list(generator.choice(list(ITEMS + "x"), 5)) for _ in range(20)]
    order = [3, 5, 0, 1, 4, 2]
    model, renumbered = LastAndMean(), LastAndMean()
    counts = np.array([3, 1, 4, 1, 5, 0])
    model.catalog = Catalog(VOCABULARY, counts)
    renumbered.catalog = Catalog(VOCABULARY.subset(order), counts[order])
    renumbered.weight.data = model.weight.data[order]
    for exclude_seen in (False, True):
        first = evaluate(model, sessions_of(lists), exclude_seen=exclude_seen)
        # The sessions keep their codes: evaluate brings them into those of the catalog.
        second = evaluate(renumbered, sessions_of(lists), exclude_seen=exclude_seen)
        assert second.ranks.equals(first.ranks)
        assert second.metrics == first.metrics


def test_evaluate_with_an_item_beyond_the_catalog_takes_it_as_unknown():
    model = NextLetter(3)
    model.catalog = Catalog(Vocabulary(["a", "b", "c"]), np.array([1, 1, 1]))
    report = evaluate(model, Sessions.from_lists([["z", "a", "b", "z"]]))
    assert report.num_unknown_targets == 1
    assert report.num_unknown_clicks == 2
    assert report.ranks["better"].tolist() == [0, 0, 3]


def test_evaluate_of_a_neural_model_restores_its_modes_and_leaves_no_gradients():
    model = SRGNN(len(ITEMS), hidden_channels=4)
    model.train()
    model.conv.eval()
    modes = []
    model.register_forward_pre_hook(
        lambda module, args: modes.append((module.training, torch.is_inference_mode_enabled()))
    )
    report = evaluate(model, sessions_of([["a", "b", "a", "c"]]), device="cpu")
    assert modes == [(False, True)]
    readout = model.session_readout
    assert (model.training, model.conv.training, readout.training) == (True, False, True)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert report.num_cases == 3


def test_evaluate_that_fails_restores_the_mode():
    model = SRGNN(len(ITEMS), hidden_channels=4)
    model.items.weight.data[2] = torch.nan
    with pytest.raises(ValueError, match="are NaN"):
        evaluate(model.train(), sessions_of([["a", "b"]]))
    assert model.training


def test_evaluate_with_progress_gives_the_same_report(capsys):
    sessions = sessions_of([["a", "b", "c"]])
    shown = evaluate(LastAndMean(), sessions, progress=True)
    assert "Evaluating" in capsys.readouterr().out
    assert shown.ranks.equals(evaluate(LastAndMean(), sessions).ranks)


def test_evaluate_with_clusters_of_users_keeps_unknown_users_apart():
    sessions = Sessions.from_lists(
        [["a", "b", "c"], ["a", "b"], ["b", "a"], ["c", "a"], ["b", "a", "c"]],
        vocabulary=VOCABULARY,
        users=["u", "v", "u", "w", "x"],
    )
    sessions = replace(sessions, users=np.array([0, 1, 0, -1, -1], dtype=np.int32))
    by_user = evaluate(Constant(6), sessions, cluster="user").cluster
    assert by_user.tolist()[:4] == [0, 0, 1, 0]
    assert by_user.max() == 1
    assert by_user[4] != by_user[5] == by_user[6]
    assert (by_user[4:] < 0).all()
    assert evaluate(Constant(6), sessions).cluster.tolist() == [0, 0, 1, 2, 3, 4, 4]


def test_evaluate_in_the_codes_of_the_models_users_hands_those_to_the_model():
    users = []

    class Watching(Constant):
        def score(self, batch, items=None):
            users.extend(batch.user.tolist())
            return super().score(batch, items)

    model = Watching(6)
    model.catalog = Catalog(VOCABULARY, np.ones(6, dtype=np.int64), users=Vocabulary(["v", "u"]))
    sessions = Sessions.from_lists(
        [["a", "b"], ["a", "b"], ["a", "b"]], vocabulary=VOCABULARY, users=["u", "v", "new"]
    )
    report = evaluate(model, sessions, cluster="user")
    assert users == [1, 0, -1]
    assert report.cluster.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ks": ()}, "ks must be whole numbers"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"cluster": "user"}, "cluster is 'session', or 'user' where .* sessions without users"),
        ({"cluster": "item"}, "got 'item'"),
    ],
)
def test_evaluate_with_options_out_of_range_says_so(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(Constant(6), sessions_of([["a", "b"]]), **options)


def test_evaluate_of_sessions_with_other_items_says_the_way_out():
    with pytest.raises(ValueError, match=r"ranks 5 items, the sessions count 6: attach"):
        evaluate(Constant(5), sessions_of([["a", "b"]]))
    model = Constant(5)
    model.catalog = Catalog(VOCABULARY, np.ones(6, dtype=np.int64))
    with pytest.raises(ValueError, match="its catalog is of other data"):
        evaluate(model, sessions_of([["a", "b"]]))
