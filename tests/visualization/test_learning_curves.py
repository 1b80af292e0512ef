"""Learning curves: what is drawn where, for one run and for several."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from graphseq.visualization.learning_curves import plot_learning_curves


def history(rows: int = 4, **columns: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "epoch": np.arange(1, rows + 1),
            "loss": np.linspace(5.0, 2.0, rows),
            "seconds": np.full(rows, 2.5),
            "hr@20": np.linspace(0.3, 0.6, rows),
            "mrr@20": [0.1, 0.3, 0.2, 0.25][:rows],
            "validation_seconds": np.full(rows, 9.0),
        }
        | columns
    )


def test_one_run_is_drawn_over_epochs_and_over_seconds_of_training() -> None:
    axes = plot_learning_curves(history()).axes
    assert [ax.get_ylabel() for ax in axes] == ["loss", "", "MRR@20", ""]
    assert [ax.get_xlabel() for ax in axes] == ["", "", "epoch", "seconds of training"]
    losses, over_seconds, metric, _ = (ax.get_lines()[0] for ax in axes)
    assert list(losses.get_xdata()) == [1, 2, 3, 4]
    assert list(losses.get_ydata()) == [5.0, 4.0, 3.0, 2.0]
    assert list(over_seconds.get_xdata()) == [2.5, 5.0, 7.5, 10.0]
    assert list(metric.get_ydata()) == [0.1, 0.3, 0.2, 0.25]


def test_best_epoch_of_the_metric_is_marked_and_named() -> None:
    ax = plot_learning_curves(history()).axes[2]
    mark = ax.get_lines()[1]
    assert (list(mark.get_xdata()), list(mark.get_ydata())) == ([2], [0.3])
    assert [text.get_text() for text in ax.texts] == ["0.3000"]


def test_several_runs_share_the_axes_and_have_a_legend_of_their_names() -> None:
    figure = plot_learning_curves({"slow": history(), "fast": history(seconds=[1.0] * 4)})
    assert [line.get_label() for line in figure.axes[0].get_lines()] == ["slow", "fast"]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["slow: 0.3000", "fast: 0.3000"]
    assert not figure.axes[2].texts  # numbers of several runs would cover each other
    colors = {line.get_color() for line in figure.axes[0].get_lines()}
    assert len(colors) == 2


def test_all_runs_lie_within_the_axes_in_any_order() -> None:
    low = history(**{"mrr@20": [0.01, 0.02, 0.03, 0.02], "seconds": [50.0] * 4})
    for runs in ([low, history()], [history(), low]):
        for ax in plot_learning_curves(runs).axes:
            bottom, top = ax.get_ylim()
            left, right = ax.get_xlim()
            for line in ax.get_lines():
                assert bottom <= min(line.get_ydata()) <= max(line.get_ydata()) <= top
                assert left <= min(line.get_xdata()) <= max(line.get_xdata()) <= right


def test_run_without_validation_shows_its_loss_alone() -> None:
    plain = history().drop(columns=["hr@20", "mrr@20"])
    assert len(plot_learning_curves(plain).axes) == 2
    assert len(plot_learning_curves([plain, history()]).axes) == 2  # one of them has a metric


def test_metric_is_the_one_asked_for() -> None:
    figure = plot_learning_curves(history(), metric="hr@20")
    assert figure.axes[2].get_ylabel() == "HR@20"
    with pytest.raises(ValueError, match="Not all runs have the metric 'ndcg@5'; they share hr"):
        plot_learning_curves(history(), metric="ndcg@5")


def test_folders_are_read_and_named_after_themselves(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        history().to_csv(tmp_path / name / "history.csv", index=False)
    figure = plot_learning_curves(
        [tmp_path / "first", str(tmp_path / "second")], path=tmp_path / "curves.png"
    )
    assert [line.get_label() for line in figure.axes[0].get_lines()] == ["first", "second"]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"history\.csv holds no history of a training"):
        plot_learning_curves(tmp_path)
    with pytest.raises(ValueError, match="need at least one run"):
        plot_learning_curves([])
    with pytest.raises(ValueError, match="4 rows without seconds"):
        plot_learning_curves(history().drop(columns="seconds"))
    with pytest.raises(ValueError, match="here are 0 rows"):
        plot_learning_curves(history().iloc[:0])
