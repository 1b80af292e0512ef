"""The study of habits: what is hidden, what a graph over the batch reads, and the table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import graphseq as gs
from experiments import habits
from experiments.lib.parts import part_of
from graphseq.comparison import Entry
from graphseq.data.graphs.dataset import NO_TARGET

LOG = gs.generate_sessions(num_sessions=80, num_items=20, mean_length=5.0, seed=0)
LONG = gs.generate_sessions(num_sessions=400, num_items=120, mean_length=6.0, seed=0)
SPLIT = gs.session_split(LONG, 0.2, validation=0.2)


def small(name: str = "SASRec") -> Entry:
    own = habits.FAMILIES[name]
    fit = {"batch_size": 32, "learning_rate": 0.1, "max_epochs": 8}
    return Entry(own.name, own.model, {"hidden_channels": 8}, fit)


def test_hidden_targets_are_the_prefixes_and_train_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(habits, "HIDDEN", 0.3)
    marked, prefixes = habits.hidden_of(LOG, seed=1)
    hidden = np.flatnonzero(marked.click_features["hidden"])
    start = LOG.ptr[np.searchsorted(LOG.ptr, hidden, side="right") - 1]
    assert len(hidden) > 20
    assert (hidden > start).all()  # never the first click of a session
    assert prefixes.num_targets == prefixes.num_sessions == len(hidden)
    for number, (first, click) in enumerate(zip(start, hidden, strict=True)):
        assert prefixes[number : number + 1].items.tolist() == LOG.items[first : click + 1].tolist()
    for samples in ("prefixes", "sessions"):
        dataset = gs.SessionGraphDataset(marked, samples, target_fields=["hidden"])
        plain = gs.SessionGraphLoader(dataset, 16)
        pairs = list(zip(plain, habits.WithoutHidden(plain), strict=True))
        gone = sum(int((after.y == NO_TARGET).sum()) for _, after in pairs)
        before = sum(int((first.y == NO_TARGET).sum()) for first, _ in pairs)
        assert gone - before == len(hidden)


@pytest.mark.parametrize("first", [0, 3])
def test_hidden_targets_are_targets_of_training_after_a_click(first: int) -> None:
    late = replace(LONG, first_target=np.minimum(first, LONG.lengths))
    marked, prefixes = habits.hidden_of(late, 0)
    assert (prefixes.targets_from >= max(first, 1)).all()
    assert len(prefixes) == marked.click_features["hidden"].sum() > 5


Cell = tuple[dict[str, Any], list[tuple[bool, bool, Tensor]]]


@pytest.fixture(scope="module")
def cell() -> Cell:
    """A training, and each evaluation: whether of drawn candidates, whether of the test, weights.

    One for all tests, as it takes seconds.
    """
    asked: list[tuple[bool, bool, Tensor]] = []
    evaluate = gs.evaluate

    def spied(model: Any, sessions: gs.Sessions, **options: Any) -> gs.evaluation.Report:
        weights = torch.cat([each.detach().flatten() for each in model.parameters()]).clone()
        protocol = options.get("protocol")
        sampled = protocol is not None and protocol.sampled
        asked.append((sampled, sessions is SPLIT.test, weights))
        return evaluate(model, sessions, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gs, "evaluate", spied)
        found = habits.run_cell(SPLIT, small(), 0)
    return found, asked


@pytest.mark.parametrize(
    ("habit", "chosen_on", "ranked"),
    [
        ("honest", "validation", "test"),
        ("test", "test", "test"),
        ("prefixes", "prefixes", "test"),
        ("their figure", "prefixes", "prefixes"),
    ],
)
def test_every_habit_is_read_from_the_epoch_that_it_chooses(
    cell: Cell, habit: str, chosen_on: str, ranked: str
) -> None:
    found, _ = cell
    column = [row[f"{chosen_on} mrr@20"] for row in found["curve"]]
    chosen = found["epochs"][chosen_on] - 1
    assert column[chosen] == max(column)
    mean = found["values"][habit]["mrr@20"].mean()
    assert found["curve"][chosen][f"{ranked} mrr@20"] == pytest.approx(mean)


@pytest.mark.parametrize("metric", habits.METRICS)
def test_best_hit_rate_and_best_reciprocal_rank_are_of_two_epochs(cell: Cell, metric: str) -> None:
    found, _ = cell
    best = max(row[f"test {metric}"] for row in found["curve"])
    assert found["values"]["two epochs"][metric].mean() == pytest.approx(best)


def test_removing_seen_items_changes_the_honest_figure(cell: Cell) -> None:
    values = cell[0]["values"]
    assert (values["unseen"]["mrr@20"] != values["honest"]["mrr@20"]).any()


def test_sampled_metrics_are_of_the_honest_epoch(cell: Cell) -> None:
    found, asked = cell
    tested = [weights for sampled, of_test, weights in asked if of_test and not sampled]
    drawn = [weights for sampled, _, weights in asked if sampled]
    assert len(tested) == len(found["curve"]) == 8
    assert len(drawn) == 2
    honest = found["epochs"]["validation"] - 1
    assert honest < 7  # else the last weights would do
    for weights in drawn:
        assert (weights == tested[honest]).all()


@pytest.mark.parametrize("family", habits.WIDE)
def test_graph_over_the_batch_reads_batch_mates_and_nothing_else(family: str) -> None:
    split = gs.session_split(LOG, 0.2)
    entry = habits.FAMILIES[family]
    entry = Entry(entry.name, entry.model, {**entry.arguments, "hidden_channels": 8})
    plain, wide = (entry.new_model(split.num_items, 0) for _ in range(2))
    for model in (plain, wide):
        model.attach(split.catalog, split.train)
        model.eval()
    habits.over_batches(wide)
    dataset = gs.SessionGraphDataset(split.test, "prefixes")
    with torch.no_grad():
        for number in range(5):  # alone, a session is the whole batch
            batch = dataset.batch([number])
            torch.testing.assert_close(wide.score(batch), plain.score(batch))
    assert gs.evaluation.audit_model(plain, split).passed
    assert gs.evaluation.audit_model(wide, split)["batch mates"].verdict == "fault"


def test_graph_over_the_batch_ranks_every_case_with_history_and_misses_the_others() -> None:
    lists = LONG.to_lists()
    unknown = ["x", lists[0][0]]
    split = gs.fixed_split(*map(gs.Sessions.from_lists, (lists[:300], [*lists[300:], unknown])))
    found = habits.run_wide(split, small("SR-GNN"), 0)
    values = found["values"]["batch graph"]["mrr@20"]
    assert len(values) == split.test.num_targets
    assert values[-1] == 0 < values.max()
    expected = np.repeat(np.arange(split.test.num_sessions), split.test.lengths - 1)
    assert (found["clusters"]["batch graph"] == expected).all()


def test_finished_trainings_are_read_back_and_wide_families_add_their_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def found(habit: str, size: int, seconds: float) -> dict[str, Any]:
        return {
            "values": {habit: {"mrr@20": np.ones(size)}},
            "clusters": {habit: np.arange(size)},
            "cpu_seconds": seconds,
        }

    def run_cell(*_: object) -> dict[str, Any]:
        made.append("cell")
        return found("honest", 3, 1.0)

    def run_wide(*_: object) -> dict[str, Any]:
        made.append("wide")
        return found("batch graph", 2, 2.0)

    monkeypatch.setattr(habits, "run_cell", run_cell)
    monkeypatch.setattr(habits, "run_wide", run_wide)
    for _ in range(2):
        plain = habits.trained(SPLIT, "log", small(), 0, tmp_path)
        graph = habits.trained(SPLIT, "log", small("SR-GNN"), 0, tmp_path)
    assert made == ["cell", "cell", "wide"]
    assert (set(plain["values"]), plain["cpu_seconds"]) == ({"honest"}, 1.0)
    assert (set(graph["values"]), graph["cpu_seconds"]) == ({"honest", "batch graph"}, 3.0)
    assert graph["clusters"]["batch graph"].tolist() == [0, 1]


def test_rows_are_differences_to_the_honest_figure_with_their_interval() -> None:
    honest, habit = np.array([1.0, 0, 0, 1]), np.array([1.0, 1, 0, 1])

    def values(figure: np.ndarray) -> dict[str, np.ndarray]:
        return dict.fromkeys(habits.METRICS, figure)

    cluster = np.array([0, 0, 1, 1])
    cells = [
        {
            "values": {"honest": values(honest), "test": values(found)},
            "clusters": {"honest": cluster, "test": cluster},
        }
        for found in (habit, np.ones(4))
    ]
    first, second = habits.rows_of("shop", "SASRec", cells)
    low, high = gs.evaluation.bootstrap_interval(100 * np.stack([honest, honest]), cluster)
    assert (first["HR@20"], first["HR more"]) == (50.0, f"± {(high - low) / 2:.2f}")
    assert (first["seeds"], second["seeds"]) == (2, 2)
    more = 100 * np.stack([habit - honest, 1 - honest])  # of both seeds: the runs are drawn too
    low, high = gs.evaluation.bootstrap_interval(more, cluster)
    assert (second["HR@20"], second["HR more"]) == (87.5, f"+37.50 ± {(high - low) / 2:.2f}")
    assert high - low > 25


def test_part_of_the_shop_is_its_newest_sessions() -> None:
    split, whole = part_of("uci-eshop"), gs.load_split("uci-eshop")
    assert split.test.num_sessions == whole.test.num_sessions
    assert split.validation is not None
    parts = (split.train, split.validation, split.test)
    total = whole.train.num_sessions + whole.test.num_sessions
    assert sum(part.num_sessions for part in parts) / total == pytest.approx(0.45, abs=0.01)
    first = whole.train.time.min()
    assert split.train.time.min() > first + 30 * 86_400
