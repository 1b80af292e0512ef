"""Lines for any log: the suggested families, and as many epochs as the time allows."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import graphseq as gs
from graphseq.comparison import choose

choice = import_module("graphseq.comparison.choice")


@pytest.fixture
def pilots(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[float, float]]:
    """Seconds of an epoch and of the ranking by family; 1 and 0 by default."""
    seconds: dict[str, tuple[float, float]] = {}
    monkeypatch.setattr(
        choice, "_pilot", lambda entry, split, seed: seconds.get(entry.model, (1.0, 0.0))
    )
    return seconds


def epochs(lines: list[Any]) -> dict[str, int]:
    return {entry.model: entry.training.max_epochs for entry in lines if entry.fit}


def test_choose_counts_first_and_trains_what_the_figures_suggest(
    ring: gs.Split, pilots: dict[str, tuple[float, float]]
) -> None:
    lines = choose(ring, 1e6)
    assert [entry.model for entry in lines] == [
        "popularity",
        "markov",
        "sequential_rules",
        "srgnn",
        "caser",
        "sasrec",
    ]
    assert set(epochs(lines).values()) == {choice.MOST_EPOCHS}


@pytest.mark.parametrize("seconds", [0.0, -1.0, "a", float("nan")])
def test_choose_needs_some_time(ring: gs.Split, seconds: Any) -> None:
    with pytest.raises(ValueError, match=f"seconds must be positive, got {seconds!r}"):
        choose(ring, seconds)


def test_choose_without_an_end_of_the_time_takes_all_epochs(
    ring: gs.Split, pilots: dict[str, tuple[float, float]]
) -> None:
    assert choose(ring, float("inf")) == choose(ring, 1e6)
    assert choose(ring, np.int64(1_000)) == choose(ring, 1e3)


def test_choose_epochs_are_those_that_fit_into_the_time(
    ring: gs.Split, pilots: dict[str, tuple[float, float]], caplog: pytest.LogCaptureFixture
) -> None:
    pilots |= {"srgnn": (2.0, 1.0), "caser": (0.25, 2.6), "sasrec": (19.0, 1.5)}
    # caser takes 10.1 s of its 10.2 s, srgnn 9 s of 10.2 s, and 11.4 s are left for sasrec
    assert epochs(choose(ring, 30.5)) == {"srgnn": 4, "caser": 30}
    assert "sasrec is left out: an epoch takes about 19 s and the ranking 2 s, of 11 s" in (
        caplog.text
    )
    assert epochs(choose(ring, 30.5, seeds=2)) == {"srgnn": 2, "caser": 9}
    with pytest.raises(ValueError, match="seconds must be positive, got 0"):
        choose(ring, 0)


def test_choose_many_items_are_trained_against_drawn_ones(
    ring: gs.Split, pilots: dict[str, tuple[float, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all("loss" not in entry.fit for entry in choose(ring))
    monkeypatch.setattr(choice, "MANY_ITEMS", ring.num_items)
    losses = [entry.fit["loss"]["name"] for entry in choose(ring) if entry.fit]
    assert losses == ["sampled_softmax"] * 3


def test_choose_features_are_read_by_the_family_that_can(
    pilots: dict[str, tuple[float, float]],
) -> None:
    split = gs.load_split("uci-eshop", validation=14)
    lines = {entry.model: entry for entry in choose(split)}
    assert [f["name"] for f in lines["bst"].arguments["click_features"]] == ["category", "country"]
    assert "colour" in {f["name"] for f in lines["bst"].arguments["item_features"]}
    assert all(entry.new_model(217, 0).num_items == 217 for entry in lines.values())
    assert lines["bst"].training.max_epochs == 1_500_000 // split.train.num_clicks
    batches = {name: lines[name].training.batch_size for name in ("srgnn", "bst")}
    assert batches == {"srgnn": 256, "bst": 64}  # 110,000 prefixes, 19,000 sessions


def test_pilot_scales_a_sample_to_the_whole(ring: gs.Split) -> None:
    (entry,) = gs.comparison.entries_of([("sasrec", {"hidden_channels": 4, "batch_size": 16})])
    epoch, ranking = choice._pilot(entry, ring, 0)
    assert epoch > 0
    assert ranking > 0
    part = choice._sample(ring.train, ring.train.num_clicks, ring.train.num_clicks // 2, 0)
    assert part.num_sessions == pytest.approx(ring.train.num_sessions / 2, abs=1)
    assert choice._sample(ring.train, 100, 100, 0) is ring.train


def test_pilot_draws_different_sessions_in_their_order() -> None:
    log = gs.Sessions.from_lists([[2 * s, 2 * s + 1] for s in range(50)])
    firsts = choice._sample(log, log.num_clicks, 80, 0).items[::2].tolist()
    assert len(firsts) == 40
    assert firsts == sorted(set(firsts))


def test_pilot_counts_validation_of_an_epoch_and_the_ranking_of_the_test(
    ring: gs.Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = pd.DataFrame({"seconds": [5.0, 3.0]})  # the first epoch warms up
    monkeypatch.setattr(choice, "PILOT_CLICKS", ring.train.num_clicks // 2)
    clicks: list[int] = []

    def fitted(model: Any, train: gs.Sessions, *_: Any, **options: Any) -> SimpleNamespace:
        clicks.append(train.num_clicks)
        return SimpleNamespace(history=history)

    monkeypatch.setattr(choice, "fit", fitted)
    monkeypatch.setattr(
        choice, "evaluate", lambda model, test: SimpleNamespace(seconds=2.0 * test.num_targets)
    )
    (entry,) = gs.comparison.entries_of(["popularity"])
    epoch, ranking = choice._pilot(entry, ring, 0)
    assert ranking == 2.0 * ring.test.num_targets
    assert ring.validation is not None
    assert clicks[0] < ring.train.num_clicks
    whole = 3.0 * ring.train.num_clicks / clicks[0]
    assert epoch == pytest.approx(whole + 2.0 * ring.validation.num_targets)


def test_batches_of_a_small_log_are_not_below_the_smallest(
    ring: gs.Split, pilots: dict[str, tuple[float, float]]
) -> None:
    sizes = {entry.training.batch_size for entry in choose(ring) if entry.fit}
    assert sizes == {32}
