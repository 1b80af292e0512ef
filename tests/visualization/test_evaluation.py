"""Pictures of evaluations: what they show is what they were given."""

from pathlib import Path

import pandas as pd
import pytest

from graphseq.visualization import plot_critical_difference, plot_differences, plot_strata

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
    assert "mrr@20" in ax.get_title()
    assert (tmp_path / "d.png").stat().st_size > 0


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


def test_pictures_of_misfits_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="Both tables are models by models"):
        plot_differences(DIFFERENCE, REAL.iloc[:2])
    with pytest.raises(ValueError, match="Ranks are of two models or more, got 1"):
        plot_critical_difference(pd.Series({"a": 1.0}), 0.5)
    with pytest.raises(ValueError, match="Strata of one kind are drawn together, got gap, length"):
        plot_strata({"a": STRATA, "b": STRATA.rename_axis("gap")}, "mrr@20")
    with pytest.raises(ValueError, match="The strata of a have no 'hr@5'"):
        plot_strata({"a": STRATA}, "hr@5")
    with pytest.raises(ValueError, match=r"a model's name to its frame .* got DataFrame"):
        plot_strata(STRATA, "mrr@20")  # type: ignore[arg-type]
