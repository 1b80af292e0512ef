"""Pictures of evaluations: what they show is what they were given."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from graphseq.evaluation import Protocol, Report, critical_difference, differences
from graphseq.visualization import plot_critical_difference, plot_differences, plot_strata
from graphseq.visualization.figures import BLUE, ORANGE

NAMES = ["good", "fair", "poor"]
DIFFERENCE = pd.DataFrame(
    [[0.0, 0.01, 0.2], [-0.01, 0.0, 0.19], [-0.2, -0.19, 0.0]], index=NAMES, columns=NAMES
)
REAL = DIFFERENCE.abs() > 0.1
STRATA = pd.DataFrame(
    {"cases": [30, 12], "mrr@20": [0.3, 0.1], "mrr@20 low": [0.2, 0.0], "mrr@20 high": [0.4, 0.3]},
    index=pd.Index(["2", "3 or more"], name="length"),
)


def test_differences_show_every_pair_and_color_the_real_ones(tmp_path: Path) -> None:
    figure = plot_differences(DIFFERENCE, REAL, metric="mrr@20", path=tmp_path / "d.png")
    (ax,) = figure.axes
    assert sorted(text.get_text() for text in ax.texts) == sorted(
        ["+1.0", "+20.0", "-1.0", "+19.0", "-20.0", "-19.0"]
    )
    colors = [patch.get_facecolor() for patch in ax.patches]
    assert len(colors) == 6
    assert len(set(colors)) == 3  # better, worse, not told apart
    assert ax.get_title() == "mrr@20 of row minus column, points"
    assert (tmp_path / "d.png").stat().st_size > 0


def report_of(better: list[int], **protocol: Any) -> Report:
    number = np.arange(len(better))
    columns = {"session": number, "position": 1, "better": better, "tied": 0, "logloss": better}
    rules = Protocol(**protocol)
    return Report({}, pd.DataFrame(columns), number, 50, 0, 0, 0, rules, 0.0)


def colors_of(figure: Figure) -> dict[str, str]:
    """The text of each cell, and its color."""
    (ax,) = figure.axes
    cells = zip(ax.texts, ax.patches, strict=True)
    return {text.get_text(): to_hex(patch.get_facecolor()) for text, patch in cells}


@pytest.mark.parametrize(
    ("metric", "unit", "lower", "higher"),
    [
        ("mean_rank", "places", "-1.90", "+1.90"),
        ("logloss", "nats", "-1.90", "+1.90"),
    ],
)
def test_differences_are_blue_where_less_is_better_and_less(
    metric: str, unit: str, lower: str, higher: str
) -> None:
    good = [3, 4, 5, 4, 3, 4, 5, 4, 5, 4]
    poor = [5, 6, 7, 6, 5, 6, 7, 6, 7, 5]
    found = differences({"poor": report_of(poor), "good": report_of(good)}, metric)
    for figure in (
        plot_differences(found),
        plot_differences(found.difference, found.real),
        plot_differences(found.difference, found.real, metric=metric),
    ):
        assert colors_of(figure) == {lower: BLUE.lower(), higher: ORANGE.lower()}
        assert figure.axes[0].get_title() == f"{metric} of row minus column, {unit}"
        assert figure.get_supxlabel().endswith("row's model is better, less is better")
        figure.draw_without_rendering()
        (below,) = figure.texts
        box = below.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width


def test_differences_of_drawn_candidates_say_sampled() -> None:
    good, poor = (report_of([place] * 9, candidates=49) for place in (0, 9))
    found = differences({"poor": poor, "good": good}, "hr@5")
    for figure in (
        plot_differences(found),
        plot_differences(found, metric="hr@5"),
        plot_differences(found.difference, found.real, metric="hr@5"),
    ):
        assert colors_of(figure) == {"+100.0": BLUE.lower(), "-100.0": ORANGE.lower()}
        assert figure.axes[0].get_title() == "sampled hr@5 of row minus column, points"


def test_models_that_are_the_same_differ_by_nothing() -> None:
    found = differences({"a": report_of([1, 2, 3]), "b": report_of([1, 2, 3])}, "mrr")
    assert colors_of(plot_differences(found)) == {"+0.0": "#eceff2"}


def test_critical_difference_is_drawn_from_what_was_found() -> None:
    scores = pd.DataFrame({"a": [0.3, 0.4, 0.5], "b": [0.1, 0.2, 0.3], "c": [0.2, 0.1, 0.4]})
    found = critical_difference(scores, metric="sampled hr@5")
    figure, same = (
        plot_critical_difference(found),
        plot_critical_difference(found.ranks, found.distance, groups=found.groups),
    )
    assert figure.axes[0].get_title() == "Mean ranks by sampled hr@5 over data sets"
    for one in (figure, same):
        texts = [text.get_text() for text in one.axes[0].texts]
        distance = f"critical difference {found.distance:.2f}"
        assert texts == ["a (1.00)", "c (2.33)", "b (2.67)", distance]
        assert sum(line.get_linewidth() == 4 for line in one.axes[0].lines) == len(found.groups)
    unnamed = plot_critical_difference(critical_difference(scores))
    assert unnamed.axes[0].get_title() == "Mean ranks over data sets"


def test_critical_difference_names_models_with_their_ranks() -> None:
    ranks = pd.Series({"good": 1.25, "fair": 1.9, "poor": 2.85})
    figure = plot_critical_difference(ranks, 0.8, groups=[["good", "fair"]])
    (ax,) = figure.axes
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["good (1.25)", "fair (1.90)", "poor (2.85)", "critical difference 0.80"]
    bars = [line for line in ax.lines if line.get_linewidth() == 4]
    assert [list(bar.get_xdata()) for bar in bars] == [pytest.approx([1.22, 1.93])]


def test_strata_show_a_line_per_model_and_the_cases() -> None:
    figure = plot_strata({"one": STRATA, "two": STRATA.iloc[:1]}, "mrr@20")
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_xticklabels()] == ["2\n30", "3 or more\n12"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["one", "two"]
    assert ax.get_ylabel() == "mrr@20"


def test_strata_of_drawn_candidates_say_sampled() -> None:
    drawn = STRATA.rename(columns=lambda name: f"sampled {name}" if "mrr" in name else name)
    for metric in ("mrr@20", "sampled mrr@20"):
        (ax,) = plot_strata({"one": drawn, "two": drawn}, metric).axes
        assert ax.get_ylabel() == "sampled mrr@20"
    with pytest.raises(ValueError, match="The strata of a have no 'mrr@20'"):
        plot_strata({"a": drawn, "b": STRATA}, "mrr@20")


def test_pictures_of_misfits_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="Both tables are models by models"):
        plot_differences(DIFFERENCE, REAL.iloc[:2])
    for given in ((DIFFERENCE,), (DIFFERENCE, None), ([[0.0]], REAL)):
        with pytest.raises(ValueError, match=r"plot_differences\(found.difference, found.real\)"):
            plot_differences(*given)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"plot_critical_difference\(found.ranks, found.dist"):
        plot_critical_difference(pd.Series({"a": 1.0, "b": 2.0}))
    with pytest.raises(ValueError, match="Ranks are of two models or more, got 1"):
        plot_critical_difference(pd.Series({"a": 1.0}), 0.5)
    with pytest.raises(ValueError, match="Strata of one kind are drawn together, got gap, length"):
        plot_strata({"a": STRATA, "b": STRATA.rename_axis("gap")}, "mrr@20")
    with pytest.raises(ValueError, match="The strata of a have no 'hr@5'"):
        plot_strata({"a": STRATA}, "hr@5")
    with pytest.raises(ValueError, match=r"a model's name to its frame .* got DataFrame"):
        plot_strata(STRATA, "mrr@20")  # type: ignore[arg-type]
