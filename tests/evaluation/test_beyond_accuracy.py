"""Metrics of lists: by hand, by loops, and PyG's own."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch
from torch_geometric.metrics import (
    LinkPredAveragePopularity,
    LinkPredCoverage,
    LinkPredDiversity,
    LinkPredPersonalization,
)

import graphseq as gs
from graphseq.data.sessions.catalog import Catalog
from graphseq.evaluation import (
    Protocol,
    beyond_accuracy,
    evaluate_lists,
    evaluate_reranker,
    gini,
    mean_interval,
    personalization,
)
from graphseq.models.base import SessionModel

ITEMS = 12
GENERATOR = np.random.default_rng(4)
LOG = gs.Sessions.from_lists(GENERATOR.integers(0, ITEMS, (40, 5)).tolist())
SPLIT = gs.session_split(LOG, 0.4)
CATEGORIES = [item % 3 for item in SPLIT.catalog.items.ids]
TABLE = torch.randn(ITEMS, ITEMS, generator=torch.Generator().manual_seed(3))


class Fixed(SessionModel):
    """Scores by the last item, from a table."""

    def __init__(self):
        super().__init__(ITEMS)
        self.catalog = SPLIT.catalog

    def score(self, batch, items=None):
        return TABLE[batch.click_item[batch.click_ptr[1:] - 1]]


@pytest.fixture(scope="module")
def report():
    return evaluate_lists(Fixed(), SPLIT.test, k=4, categories=CATEGORIES)


def cases():
    """History and target of every case, in order."""
    for clicks in np.split(SPLIT.test.items, SPLIT.test.ptr[1:-1]):
        for position in range(1, len(clicks)):
            yield clicks[:position].tolist(), int(clicks[position])


def test_lists_are_the_best_items_of_every_case(report):
    expected = [TABLE[h[-1]].argsort(descending=True)[:4].tolist() for h, _ in cases()]
    assert report.lists.tolist() == expected
    assert len(report.lists) == SPLIT.test.num_targets


def test_list_metrics_equal_those_of_pyg(report):
    lists = torch.from_numpy(report.lists)
    nothing = torch.empty(2, 0, dtype=torch.long)
    counts = torch.from_numpy(SPLIT.catalog.counts)
    for name, metric in (
        ("coverage", LinkPredCoverage(4, ITEMS)),
        ("diversity", LinkPredDiversity(4, torch.tensor(CATEGORIES))),
        ("personalization", LinkPredPersonalization(4)),
        ("average_popularity", LinkPredAveragePopularity(4, counts)),
    ):
        metric.update(lists, nothing)
        assert report.metrics[f"{name}@4"] == pytest.approx(float(metric.compute()), rel=1e-5)


def test_list_metrics_equal_naive_loops(report):
    counts = SPLIT.catalog.counts
    popular = set(np.argsort(-counts, kind="stable")[:4].tolist())
    rows = {name: [] for name in ("novelty", "serendipity", "repeat", "explore", "miscalibration")}
    for (history, target), chosen in zip(cases(), report.lists.tolist(), strict=True):
        rows["novelty"].append(np.mean([-np.log2(counts[j] / counts.sum()) for j in chosen]))
        rows["serendipity"].append(float(target in chosen and target not in popular))
        rows["repeat"].append(np.mean([j in history for j in chosen]))
        rows["explore"].append(np.mean([j not in history for j in chosen]))
        distinct = list(dict.fromkeys(history))
        p = np.array([np.mean([CATEGORIES[j] == c for j in distinct]) for c in range(3)])
        q = np.array([np.mean([CATEGORIES[j] == c for j in chosen]) for c in range(3)])
        mixed = 0.99 * q + 0.01 * p
        held = p > 0
        rows["miscalibration"].append((p[held] * np.log(p[held] / mixed[held])).sum())
    for name, values in rows.items():
        assert report.values(f"{name}@4") == pytest.approx(np.array(values))
        assert report.metrics[f"{name}@4"] == pytest.approx(np.mean(values))
    exposure = np.bincount(report.lists.ravel(), minlength=ITEMS)
    naive = np.abs(exposure[:, None] - exposure).sum() / (2 * ITEMS * exposure.sum())
    assert report.metrics["gini@4"] == pytest.approx(naive)


@pytest.mark.parametrize("most", [1, 7, 30])
def test_list_metrics_do_not_depend_on_how_many_cases_are_held(report, most, monkeypatch):
    monkeypatch.setattr(beyond_accuracy, "MOST_CELLS", most)
    again = evaluate_lists(Fixed(), SPLIT.test, k=4, categories=CATEGORIES)
    assert again.metrics == report.metrics
    for name, values in report.cases.items():
        np.testing.assert_array_equal(again.cases[name], values)


def test_gini_and_personalization_by_hand():
    assert gini([1, 1, 1]) == 0
    assert gini([0, 0, 6]) == pytest.approx(2 / 3)
    assert np.isnan(gini([0, 0]))
    lists = np.array([[0, 1], [1, 2], [3, 4]])
    overlaps = [len(set(a) & set(b)) / 2 for a, b in combinations(lists.tolist(), 2)]
    assert personalization(lists, 2) == pytest.approx(1 - np.mean(overlaps))
    assert np.isnan(personalization(lists[:1], 2))


@pytest.mark.parametrize("k", [1, 2, 4, 9])
def test_personalization_of_lists_of_any_length_is_a_loop_over_pairs(k):
    generator = np.random.default_rng(k)
    lists = np.stack([generator.permutation(7)[:5] for _ in range(12)])
    for row, length in zip(lists, generator.integers(0, 6, 12), strict=True):
        row[length:] = -1
    sets = [{j for j in row if j >= 0} for row in lists[:, :k].tolist()]
    overlaps = [len(a & b) / max(len(a), len(b)) for a, b in combinations(filter(None, sets), 2)]
    assert personalization(lists, k) == pytest.approx(1 - np.mean(overlaps))


def test_personalization_of_the_same_list_is_zero_however_short():
    assert personalization(np.array([[2, 0, 1], [0, 1, 2], [1, 2, 0]]), 20) == 0
    assert personalization(np.array([[2, -1], [2, -1]]), 2) == 0
    assert personalization(np.array([[0, -1], [0, 1]]), 2) == pytest.approx(0.5)
    assert np.isnan(personalization(np.array([[2, -1], [-1, -1]]), 2))


def test_lists_without_seen_items_hold_none(report):
    without = evaluate_lists(Fixed(), SPLIT.test, k=4, protocol=Protocol(seen="remove"))
    assert without.metrics["repeat@4"] == 0
    assert report.metrics["repeat@4"] > 0
    assert "diversity@4" not in without.metrics


def test_lists_shorter_than_k_and_without_history():
    model = Fixed()
    sessions = gs.Sessions.from_lists([["x", SPLIT.catalog.items.ids[0]], *SPLIT.test.to_lists()])
    found = evaluate_lists(model, sessions, k=50, protocol="srgnn")
    assert found.lists.shape == (SPLIT.test.num_targets + 1, ITEMS)
    popular = np.argsort(-SPLIT.catalog.counts, kind="stable")
    assert found.lists[0].tolist() == popular.tolist()
    assert found.metrics["coverage@50"] == 1.0


def test_a_case_without_history_gets_the_list_of_the_model_and_no_calibration() -> None:
    class Own(Fixed):
        def without_history(self) -> Tensor:
            return torch.arange(ITEMS, dtype=torch.float)

    sessions = gs.Sessions.from_lists([["x", SPLIT.catalog.items.ids[0]], *SPLIT.test.to_lists()])
    found = evaluate_lists(Own(), sessions, k=3, categories=CATEGORIES)
    assert found.lists[0].tolist() == [ITEMS - 1, ITEMS - 2, ITEMS - 3]
    assert np.isnan(found.values("miscalibration@3")[0])
    assert not np.isnan(found.values("miscalibration@3")[1:]).any()


def test_lists_of_nothing_recommended_are_empty():
    class Silent(Fixed):
        def score(self, batch, items=None):
            scores = torch.full((batch.num_graphs, ITEMS), -torch.inf)
            scores[:, 2] = 0.0
            return scores

    found = evaluate_lists(Silent(), SPLIT.test, k=3, categories=CATEGORIES)
    assert (found.lists == [2, -1, -1]).all()
    assert found.metrics["coverage@3"] == pytest.approx(1 / ITEMS)
    assert found.metrics["personalization@3"] == 0  # all lists are the same
    assert np.isnan(found.metrics["diversity@3"])
    assert found.metrics["repeat@3"] + found.metrics["explore@3"] == pytest.approx(1)


def test_an_empty_list_has_no_calibration() -> None:
    class Mute(Fixed):
        def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
            return torch.full((batch.num_graphs, ITEMS), -torch.inf)

    found = evaluate_lists(Mute(), SPLIT.test, k=3, categories=CATEGORIES)
    assert np.isnan(found.values("miscalibration@3")).all()
    assert np.isnan(found.metrics["miscalibration@3"])


def test_novelty_of_an_item_without_a_click_is_that_of_one_click() -> None:
    model, found = Fixed(), []
    counts = np.maximum(SPLIT.catalog.counts, 2)
    for number in (0, 1):
        counts[0] = number
        model.catalog = Catalog(SPLIT.catalog.items, counts.copy())
        found.append(evaluate_lists(model, SPLIT.test, k=ITEMS).metrics[f"novelty@{ITEMS}"])
    # One click more in all makes every other item a little more novel.
    assert found[0] == pytest.approx(found[1], rel=0.01)


@pytest.mark.parametrize("rounding", [0.0, 1e-7])
def test_ties_of_lists_are_broken_by_the_seed(rounding: float) -> None:
    class Even(Fixed):
        def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
            return (1 + rounding * TABLE[0].sign()).repeat(batch.num_graphs, 1)

    one, again, other = (
        evaluate_lists(Even(), SPLIT.test, k=2, seed=seed).lists for seed in (0, 0, 1)
    )
    assert (one == again).all()
    assert (one != other).any()
    assert len(np.unique(one)) == ITEMS


def test_list_report_has_intervals_case_by_case(report):
    frame = report.to_frame()
    assert (
        frame.loc["novelty@4", "low"] < report.metrics["novelty@4"] < frame.loc["novelty@4", "high"]
    )
    assert np.isnan(frame.loc["coverage@4", "low"])
    assert "coverage@4=" in repr(report)
    with pytest.raises(ValueError, match="Metrics per case are average_popularity"):
        report.values("coverage@4")


@pytest.mark.parametrize("level", [0.5, 0.95])
@pytest.mark.parametrize("cluster", ["session", "user"])
def test_interval_of_a_list_metric_is_that_of_its_values(cluster: str, level: float) -> None:
    number = np.arange(SPLIT.test.num_sessions)
    users = gs.data.Vocabulary(range(len(number)))
    test = replace(SPLIT.test, users=number // 4, user_vocabulary=users)
    found = evaluate_lists(Fixed(), test, k=4, cluster=cluster)
    session = np.repeat(number, test.lengths - 1)
    groups = session if cluster == "session" else session // 4
    expected = mean_interval(found.values("novelty@4"), groups, level=level)
    assert found.confidence_interval("novelty@4", level) == pytest.approx(expected)


def test_categories_are_a_column_of_the_catalog():
    model = Fixed()
    table = pd.DataFrame({"kind": [f"k{c}" for c in CATEGORIES]})
    model.catalog = replace(SPLIT.catalog, item_features=table)
    named = evaluate_lists(model, SPLIT.test, k=4, categories="kind")
    given = evaluate_lists(model, SPLIT.test, k=4, categories=CATEGORIES)
    assert named.metrics == given.metrics


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_items_without_a_category_are_together_a_category_of_their_own(missing, caplog):
    named = ["a" if c == 0 else ("b" if c == 1 else "none") for c in CATEGORIES]
    given = [missing if name == "none" else name for name in named]
    expected = evaluate_lists(Fixed(), SPLIT.test, k=4, categories=named)
    found = evaluate_lists(Fixed(), SPLIT.test, k=4, categories=given)
    for name in ("diversity@4", "miscalibration@4"):
        assert found.values(name) == pytest.approx(expected.values(name), nan_ok=True)
    assert "4 of 12 items have no category: together they are one" in caplog.text


@pytest.mark.parametrize("text", ["", "nan", "None"])
def test_a_category_may_be_called_as_a_missing_one(text):
    given = [None if c == 0 else (text if c == 1 else "b") for c in CATEGORIES]
    expected = evaluate_lists(Fixed(), SPLIT.test, k=4, categories=CATEGORIES)
    found = evaluate_lists(Fixed(), SPLIT.test, k=4, categories=given)
    assert found.metrics == expected.metrics


def test_a_mapping_gives_the_category_of_each_item_id():
    ids = SPLIT.catalog.items.ids.tolist()
    mapping = dict(zip(reversed(ids), reversed(CATEGORIES), strict=True)) | {"elsewhere": 9}
    expected = evaluate_lists(Fixed(), SPLIT.test, k=4, categories=CATEGORIES)
    assert evaluate_lists(Fixed(), SPLIT.test, k=4, categories=mapping).metrics == expected.metrics
    same = dict.fromkeys(ids, "a")
    assert evaluate_lists(Fixed(), SPLIT.test, k=4, categories=same).metrics["diversity@4"] == 0
    lacking = {item: c for item, c in mapping.items() if c}
    assert evaluate_lists(Fixed(), SPLIT.test, k=4, categories=lacking).metrics == expected.metrics


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"categories": {"nowhere": 1}}, "no item of the catalog as a key"),
        ({"categories": {1, 2}}, "one category per item in the order .* got set"),
        ({"categories": 7}, "one category per item in the order .* got int"),
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"categories": [1, 2]}, r"one category per item, \[12\], got 2"),
        ({"categories": "kind"}, "The catalog has no item feature 'kind'; it has none"),
        ({"protocol": Protocol(candidates=3)}, "Lists are of all items"),
        ({"protocol": "leave-one-out"}, "and seen='both'"),
    ],
)
def test_lists_of_misfits_say_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate_lists(Fixed(), SPLIT.test, **options)


class Unscored(Fixed):
    """Of which one score is NaN; counts the calls."""

    calls = 0

    def score(self, batch, items=None):
        self.calls += 1
        scores = super().score(batch).clone()
        scores[:, 3] = torch.nan
        return scores


def test_lists_of_scores_that_are_nan_say_so():
    with pytest.raises(ValueError, match=r"Scores must be numbers, but .* are NaN"):
        evaluate_lists(Unscored(), SPLIT.test, k=3)
    with pytest.raises(ValueError, match=r"Scores must be numbers, but .* are NaN"):
        evaluate_reranker(Fixed(), Unscored(), SPLIT.test, num_candidates=3)


def test_clusters_of_lists_are_refused_before_anything_is_scored():
    model = Unscored()
    with pytest.raises(ValueError, match="cluster is 'session', or 'user'"):
        evaluate_lists(model, SPLIT.test, cluster="user")
    assert model.calls == 0


def test_lists_of_a_model_without_a_catalog_say_so():
    model = Fixed()
    model.catalog = None
    with pytest.raises(ValueError, match="Lists are measured by training counts"):
        evaluate_lists(model, SPLIT.test)
