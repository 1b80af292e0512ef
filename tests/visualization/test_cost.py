from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphseq.visualization import plot_cost
from graphseq.visualization.cost import moved_apart, neighbors, pareto


def row(model: str, mrr: float, seconds: float | None, **fields: Any) -> dict[str, Any]:
    return {"model": model, "metrics": {"mrr@20": mrr}, "train_seconds": seconds, **fields}


def results(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"data": {"name": "movielens-small"}, "rows": list(rows)}


def test_every_model_is_a_point_with_its_name_and_seeds_are_averaged() -> None:
    figure = plot_cost(results(row("a", 0.2, 10), row("a", 0.4, 30), row("b", 0.1, 1000)))
    (ax,) = figure.axes
    np.testing.assert_allclose(ax.collections[0].get_offsets(), [[20, 0.3], [1000, 0.1]])
    assert [text.get_text() for text in ax.texts] == ["a", "b"]
    assert ax.get_xscale() == "log"


def test_line_joins_the_models_that_none_beats_for_less() -> None:
    figure = plot_cost(results(row("a", 0.2, 10), row("b", 0.1, 20), row("c", 0.3, 5000)))
    np.testing.assert_allclose(figure.axes[0].lines[0].get_xydata(), [[10, 0.2], [5000, 0.3]])


def test_line_joins_the_models_that_none_beats_where_less_is_better() -> None:
    rows = [row("a", 0, 10), row("b", 0, 20), row("c", 0, 5000)]
    for each, places in zip(rows, (6.0, 7.0, 5.5), strict=True):
        each["metrics"] = {"sampled mean_rank": places}
    figure = plot_cost(results(*rows), metric="mean_rank")
    np.testing.assert_allclose(figure.axes[0].lines[0].get_xydata(), [[10, 6.0], [5000, 5.5]])
    assert figure.axes[0].get_ylabel() == "SAMPLED MEAN_RANK"


def test_counting_in_no_time_is_drawn_at_the_least_time() -> None:
    figure = plot_cost(results(row("a", 0.2, 0.0), row("b", 0.3, 5.0)))
    assert figure.axes[0].collections[0].get_offsets()[0][0] == 0.01


def test_row_without_cost_or_metric_is_named() -> None:
    with pytest.raises(ValueError, match=r"row of a has no mrr@20 or no train_seconds"):
        plot_cost(results(row("a", 0.2, None)))
    with pytest.raises(ValueError, match=r"no hr@10 .* metrics are mrr@20"):
        plot_cost(results(row("a", 0.2, 1.0)), metric="hr@10")
    with pytest.raises(ValueError, match="needs at least one row"):
        plot_cost(results())


def test_picture_is_written(tmp_path: Path) -> None:
    plot_cost(results(row("a", 0.2, 1.0), row("b", 0.2, 1.0)), path=tmp_path / "cost.png")
    assert matplotlib.image.imread(tmp_path / "cost.png").ndim == 3


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=9))
def test_pareto_holds_exactly_the_points_that_no_other_beats(points: list[tuple[int, int]]) -> None:
    cost, value = np.array(points, dtype=float).T
    front = pareto(cost, value)
    for place, (c, v) in enumerate(points):
        beaten = any((oc <= c and ov >= v) and (oc, ov) != (c, v) for oc, ov in points)
        if place in front:
            assert not beaten
        else:
            assert beaten or (c, v) in [points[i] for i in front]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_places_are_moved_apart_in_order_and_as_little_as_can_be(places: list[float]) -> None:
    before = np.array(places)
    after = moved_apart(before, 0.1)
    ordered = after[np.argsort(before, kind="stable")]
    assert (np.diff(ordered) >= 0.1 - 1e-9).all()
    if len(places) > 1 and (np.diff(np.sort(before)) >= 0.1).all():
        np.testing.assert_allclose(after, before)
    # The mean stays: no shift of all would bring them nearer in the sum of squares.
    assert after.mean() == pytest.approx(before.mean())


def test_neighbors_are_chains_in_which_each_reaches_the_next() -> None:
    chains = neighbors(np.array([5.0, 0.0, 0.9, 1.8, 9.0]), 1.0)
    assert [chain.tolist() for chain in chains] == [[1, 2, 3], [0], [4]]
