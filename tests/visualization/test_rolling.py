"""The picture of periods: means of seeds, and training added up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphseq.visualization import plot_periods


def row(model: str, period: int, value: float, seconds: float) -> dict[str, Any]:
    intervals = {"mrr@20": [value - 0.01, value + 0.01]}
    metrics = {"mrr@20": value}
    return {"model": model, "period": period, "metrics": metrics, "intervals": intervals} | {
        "train_seconds": seconds
    }


def test_periods_show_means_over_seeds_and_seconds_added_up(tmp_path: Path) -> None:
    rows = [
        row("a", 6, 0.1, 10.0),
        row("a", 6, 0.2, 20.0),
        row("a", 7, 0.3, 1.0),
        row("b", 6, 0.2, 0.0),
        row("b", 7, 0.1, 0.0),
    ]
    figure = plot_periods({"rows": rows}, path=tmp_path / "periods.png")
    left, right = figure.axes
    np.testing.assert_allclose(left.lines[0].get_xydata(), [[6, 0.15], [7, 0.3]])
    np.testing.assert_allclose(left.lines[1].get_ydata(), [0.2, 0.1])
    np.testing.assert_allclose(right.lines[0].get_ydata(), [15.0, 16.0])
    assert (tmp_path / "periods.png").stat().st_size > 0


def test_periods_of_drawn_candidates_say_sampled() -> None:
    drawn = row("a", 6, 0.1, 1.0)
    for part in ("metrics", "intervals"):
        drawn[part] = {"sampled mrr@20": drawn[part]["mrr@20"]}
    assert plot_periods({"rows": [drawn]}).axes[0].get_title() == "SAMPLED MRR@20"


def test_rows_without_period_or_metric_are_refused() -> None:
    with pytest.raises(ValueError, match="there is none"):
        plot_periods({"rows": []})
    lacking = {key: value for key, value in row("a", 1, 0.1, 1.0).items() if key != "period"}
    with pytest.raises(ValueError, match="that of 'a' has not"):
        plot_periods({"rows": [lacking]})
