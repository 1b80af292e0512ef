"""The serving report: an index that loses something is seen to lose it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from graphseq.evaluation import evaluate
from graphseq.models import GRU4Rec
from graphseq.serving import ExactIndex, ItemVectors, serving_report


@pytest.fixture(scope="module")
def trained(world: Any) -> GRU4Rec:
    """A model that knows which item follows which: each one's vector is that of its follower."""
    model = world.neural
    assert isinstance(model, GRU4Rec)
    return model


def test_exact_search_loses_nothing_and_has_the_metrics_of_evaluate(
    world: Any, trained: GRU4Rec
) -> None:
    report = serving_report(trained, world.sessions, ["exact"], k=20, max_cases=10**6)
    row = report.frame.iloc[0]
    assert row["index"] == "exact"
    assert row["overlap"] == 1
    for metric in ("hr", "ndcg"):
        whole = evaluate(trained, world.sessions, ks=20)
        assert report.num_cases == whole.num_cases
        assert row[metric] == pytest.approx(whole.metrics[f"{metric}@20"], abs=1e-9)
        assert row[f"{metric}_loss"] == row[f"{metric}_loss_low"] == 0
    assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
    assert row["queries_per_second"] > 0
    # Rows of 17 float32, a code and a flag, and headers of the files.
    assert 17 * 4 + 9 <= row["bytes_per_item"] < 17 * 4 + 9 + 5


def test_index_without_half_of_the_items_loses_what_their_targets_gave(
    world: Any, trained: GRU4Rec
) -> None:
    index = ExactIndex(ItemVectors.of(trained))
    index.remove(np.arange(0, 640, 2))
    frame = serving_report(
        trained, world.sessions, {"all": {"kind": "exact"}, "odd": index}, k=100, max_cases=10**6
    ).frame
    every, odd = frame.iloc[0], frame.iloc[1]
    assert odd["overlap"] == pytest.approx(0.5, abs=0.05)
    assert odd["hr_loss"] == pytest.approx(every["hr"] - odd["hr"])
    assert odd["ndcg_loss"] == pytest.approx(every["ndcg"] - odd["ndcg"])
    assert odd["hr_loss_low"] < odd["hr_loss"] < odd["hr_loss_high"]
    assert np.isnan(odd["build_seconds"])
    assert every["build_seconds"] > 0


def test_cases_are_drawn_by_seed_where_there_are_more(world: Any, trained: GRU4Rec) -> None:
    first, again, other = (
        serving_report(trained, world.sessions, ["exact"], k=50, max_cases=60, seed=seed)
        for seed in (0, 0, 1)
    )
    assert first.num_cases == 60
    assert first.frame["hr"][0] == again.frame["hr"][0]
    assert first.frame["ndcg"][0] != other.frame["ndcg"][0]


def test_index_of_another_version_is_refused(world: Any, trained: GRU4Rec) -> None:
    torch.manual_seed(7)
    other = GRU4Rec(640, 16, embedding="separate")
    with pytest.raises(ValueError, match=r"vectors of model version .*, and the model is version"):
        serving_report(trained, world.sessions, {"old": ExactIndex(ItemVectors.of(other))})


@pytest.mark.parametrize("none", [[], {}])
def test_report_of_no_index_is_refused(world: Any, trained: GRU4Rec, none: Any) -> None:
    with pytest.raises(ValueError, match="A report needs an index"):
        serving_report(trained, world.sessions, none)


def test_plot_draws_a_bar_per_index_and_figure(
    world: Any, trained: GRU4Rec, tmp_path: Path
) -> None:
    report = serving_report(
        trained, world.sessions, {"a": {"kind": "exact"}, "b": {"kind": "exact"}}, max_cases=50
    )
    figure = report.plot(tmp_path / "serving.png")
    assert (tmp_path / "serving.png").read_bytes().startswith(b"\x89PNG")
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["a", "b"]
    widths = [bar.get_width() for bar in figure.axes[2].patches]
    assert widths == [1.0, 1.0]
    assert "overlap" in repr(report)
