"""The picture of a search: what it shows of each trial, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphseq.visualization import plot_tuning


def row(value: float, state: str = "complete", **chosen: Any) -> dict[str, Any]:
    metrics = {"mrr@20": value}
    return {"model": "m", "metrics": metrics, "state": state, "chosen": chosen}


def test_search_shows_every_trial_and_the_best_complete_one_so_far(tmp_path: Path) -> None:
    rows = [
        row(0.1, **{"fit.learning_rate": 0.001, "fit.schedule": "linear"}),
        row(0.3, "pruned", **{"fit.learning_rate": 0.1, "fit.schedule": "constant"}),
        row(0.2, **{"fit.learning_rate": 0.01, "fit.schedule": "linear"}),
        row(0.15, **{"fit.learning_rate": 0.02}),
    ]
    path = tmp_path / "tuning.png"
    figure = plot_tuning({"monitor": "mrr@20", "rows": rows, "data": {"name": "x"}}, path=path)
    history, rate, schedule = figure.axes
    complete, pruned = (each.get_offsets() for each in history.collections)
    np.testing.assert_allclose(complete, [[0, 0.1], [2, 0.2], [3, 0.15]])
    np.testing.assert_allclose(pruned, [[1, 0.3]])
    (best,) = history.lines
    np.testing.assert_allclose(best.get_ydata(), [0.1, 0.1, 0.2, 0.2])
    assert (rate.get_xlabel(), rate.get_xscale()) == ("learning_rate", "log")
    assert [label.get_text() for label in schedule.get_xticklabels()] == ["constant", "linear"]
    np.testing.assert_allclose(schedule.collections[0].get_offsets(), [[1, 0.1], [1, 0.2]])
    assert "4 trials on the validation part of x" in figure.get_suptitle()
    assert path.stat().st_size > 0


def test_search_without_trials_or_metric_is_refused() -> None:
    with pytest.raises(ValueError, match="needs at least one trial"):
        plot_tuning({"monitor": "mrr@20", "rows": []})
    with pytest.raises(ValueError, match="trial 'm' has no metric 'hr@5'"):
        plot_tuning({"monitor": "hr@5", "rows": [row(0.1)]})
