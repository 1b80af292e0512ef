"""The study of habits: what is hidden, what a graph over the batch reads, and the table."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import graphseq as gs
from experiments import habits
from experiments.lib.parts import part_of
from graphseq.comparison import Entry
from graphseq.data.graphs.dataset import NO_TARGET

LOG = gs.generate_sessions(num_sessions=80, num_items=20, mean_length=5.0, seed=0)


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
