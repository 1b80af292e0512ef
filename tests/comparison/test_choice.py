"""Lines for any log: the suggested families, and as many epochs as the time allows."""

from __future__ import annotations

from importlib import import_module
from typing import Any

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
