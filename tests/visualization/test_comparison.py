from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba

from graphseq.visualization import plot_comparison
from graphseq.visualization.figures import BLUE


def row(model: str, hr: float, mrr: float = 0.1, **fields: Any) -> dict[str, Any]:
    metrics = {"hr@20": hr, "mrr@20": mrr}
    return {"model": model, "settings": {}, "seed": 0, "metrics": metrics, **fields}


def results(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"data": {"name": "movielens-small"}, "rows": list(rows)}


def names(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_yticklabels()]


def widths(ax: Axes) -> list[float]:
    return [bar.get_width() for bar in ax.patches]


def whiskers(ax: Axes) -> list[tuple[float, float]]:
    """Low and high end of each horizontal whisker."""
    ends = [c.get_segments()[0][:, 0] for c in ax.collections if hasattr(c, "get_segments")]
    return [(float(low), float(high)) for low, high in ends]


def test_bars_are_sorted_by_the_first_metric_with_one_panel_each() -> None:
    figure = plot_comparison(results(row("a", 0.2, 0.3), row("b", 0.5, 0.1), row("c", 0.4, 0.2)))
    first, second = figure.axes
    assert names(first) == ["b", "c", "a"]
    assert widths(first) == pytest.approx([0.5, 0.4, 0.2])
    assert widths(second) == pytest.approx([0.1, 0.2, 0.3])
    assert (first.get_title(), second.get_title()) == ("HR@20", "MRR@20")
    assert first.yaxis_inverted()  # the first one stands on top


def test_values_are_written_and_the_best_of_each_panel_stands_out() -> None:
    figure = plot_comparison(results(row("a", 0.2, 0.3), row("b", 0.50005, 0.1)))
    for ax, texts, best in zip(
        figure.axes, (["0.5000", "0.2000"], ["0.1000", "0.3000"]), (0, 1), strict=True
    ):
        assert [text.get_text() for text in ax.texts] == texts
        assert [bar.get_facecolor() == to_rgba(BLUE) for bar in ax.patches] == [
            place == best for place in range(2)
        ]


def metric_rows(metric: str, **values: float) -> dict[str, Any]:
    return results(*(row(m, 0.1) | {"metrics": {metric: value}} for m, value in values.items()))


@pytest.mark.parametrize("metric", ["mean_rank", "logloss", "sampled mean_rank"])
def test_the_lowest_is_on_top_and_stands_out_where_less_is_better(metric: str) -> None:
    figure = plot_comparison(metric_rows(metric, a=6.4, b=5.5, c=9.25), metrics=metric)
    (ax,) = figure.axes
    assert names(ax) == ["b", "a", "c"]
    assert [text.get_text() for text in ax.texts] == ["5.5000", "6.4000", "9.2500"]
    assert [bar.get_facecolor() == to_rgba(BLUE) for bar in ax.patches] == [True, False, False]
    assert ax.get_title() == f"{metric.upper()}, less is better"


@pytest.mark.parametrize("metrics", ["hr@20", ["hr@20"], ("sampled hr@20",)])
def test_metrics_of_drawn_candidates_say_sampled(metrics: Any) -> None:
    figure = plot_comparison(metric_rows("sampled hr@20", a=0.2, b=0.5), metrics=metrics)
    assert figure.axes[0].get_title() == "SAMPLED HR@20"
    assert names(figure.axes[0]) == ["b", "a"]
    with pytest.raises(ValueError, match="metrics holds names, such as 'hr@20', got 5"):
        plot_comparison(results(row("a", 0.1)), metrics=[5])  # type: ignore[list-item]


def test_whiskers_are_the_intervals() -> None:
    intervals = {"hr@20": [0.15, 0.3], "mrr@20": [0.05, 0.2]}
    figure = plot_comparison(results(row("a", 0.2, 0.1, intervals=intervals), row("b", 0.1)))
    for ax, metric in zip(figure.axes, intervals, strict=True):
        np.testing.assert_allclose(whiskers(ax), [intervals[metric]])


def test_seeds_of_one_model_become_one_bar_with_their_mean_and_dots() -> None:
    figure = plot_comparison(
        results(row("a", 0.2, train_seconds=2), row("a", 0.4, seed=1, train_seconds=4)),
        metrics=["hr@20"],
    )
    (ax,) = figure.axes
    assert names(ax) == ["a\ntrained in 3.0 s, 2 seeds"]
    assert widths(ax) == pytest.approx([0.3])
    np.testing.assert_allclose(ax.collections[-1].get_offsets()[:, 0], [0.2, 0.4])


def test_unlike_settings_of_one_model_stay_apart_and_are_named() -> None:
    figure = plot_comparison(
        results(
            row("a", 0.2, settings={"num_layers": 1, "dropout": 0.1}),
            row("a", 0.4, settings={"num_layers": 2, "dropout": 0.1}),
            row("b", 0.3, settings={"order": 1}),
        )
    )
    assert names(figure.axes[0]) == ["a (num_layers=2)", "b", "a (num_layers=1)"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "under 0.1 s"),
        (0.42, "0.4 s"),
        (9.96, "10 s"),
        (95, "95 s"),
        (419, "7 min"),
        (9000, "2.5 h"),
    ],
)
def test_training_time_is_written_in_a_fitting_unit(seconds: float, text: str) -> None:
    figure = plot_comparison(results(row("a", 0.2, train_seconds=seconds)))
    assert names(figure.axes[0]) == [f"a\ntrained in {text}"]


def test_title_names_the_data_set() -> None:
    figure = plot_comparison(results(row("a", 0.2)))
    assert figure.get_suptitle() == "Models compared on movielens-small"


def test_all_texts_lie_on_the_figure() -> None:
    long = row("a_model_with_a_long_name", 0.98, 0.97, train_seconds=1e6)
    figure = plot_comparison(results(long, row("b", 0.0, 0.0), row("c", 0.01, 0.0)))
    figure.draw_without_rendering()
    width, height = figure.bbox.size
    for ax in figure.axes:
        for text in [*ax.texts, *ax.get_yticklabels(), ax.title]:
            box = text.get_window_extent()
            assert box.x0 >= 0, text.get_text()
            assert box.x1 <= width, text.get_text()
            assert box.y0 >= 0, text.get_text()
            assert box.y1 <= height, text.get_text()


def test_comparison_of_zeros_and_of_one_model_is_drawn(tmp_path: Path) -> None:
    plot_comparison(results(row("a", 0.0, 0.0)), path=tmp_path / "a.png")
    assert matplotlib.image.imread(tmp_path / "a.png").std() > 0.05


def test_comparison_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="got 0 and 2"):
        plot_comparison({"rows": []})


def test_comparison_by_a_metric_that_a_row_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"row of a has no ndcg@5; it has hr@20, mrr@20"):
        plot_comparison(results(row("a", 0.1)), metrics=["ndcg@5"])
