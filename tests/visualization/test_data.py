"""Pictures and numbers of sessions: what they say is what a loop counts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from graphseq.data import Sessions, Vocabulary
from graphseq.visualization import graph_statistics, plot_lengths

LISTS = [["a", "b", "a", "c", "c"], ["b"], ["c", "d", "c"]]


def test_histogram_counts_every_session_once_and_marks_the_90th_percentile() -> None:
    lengths = [2] * 6 + [3] * 3 + [9]
    ax = plot_lengths(Sessions.from_lists([["a"] * n for n in lengths]))
    heights = {round(b.get_x() + b.get_width() / 2): b.get_height() for b in ax.patches}
    assert {n: h for n, h in heights.items() if h} == {2: 6, 3: 3, 9: 1}
    marked = [line.get_xdata()[0] for line in ax.get_lines()]
    np.testing.assert_allclose(marked, np.percentile(lengths, [50, 90]))
    legend = ax.get_legend()
    assert legend is not None
    assert legend.get_texts()[1].get_text() == "90th percentile: 3.6 clicks"


def test_tail_of_long_sessions_shares_the_last_bar_and_says_so() -> None:
    lengths = [*range(1, 200), 5000]
    ax = plot_lengths(Sessions.from_lists([["a"] * n for n in lengths]))
    heights = [bar.get_height() for bar in ax.patches]
    assert sum(heights) == 200
    assert len(heights) <= 51
    assert ax.get_xlabel().endswith("the last bar holds all longer ones, up to 5,000")


def test_graph_statistics_equal_those_of_a_loop() -> None:
    table = graph_statistics(Sessions.from_lists(LISTS))
    edges = [set(itertools.pairwise(each)) for each in LISTS]
    nodes = [len(set(each)) for each in LISTS]
    expected = {
        "clicks": [5, 1, 3],
        "items": nodes,
        "transitions": [len(each) for each in edges],
        "repeated clicks": [0.4, 0, 1 / 3],
        "loops": [1, 0, 0],
        "returns": [1, 0, 1],
        "out-degree": [len(e) / n for e, n in zip(edges, nodes, strict=True)],
    }
    for name, values in expected.items():
        assert table.loc[name, "mean"] == pytest.approx(np.mean(values)), name
        assert table.loc[name, "max"] == pytest.approx(max(values)), name
        assert table.loc[name, "p90"] == pytest.approx(np.percentile(values, 90)), name


def test_statistics_skip_unknown_clicks_and_take_some_sessions_of_many() -> None:
    sessions = Sessions.from_lists(LISTS)
    known = Vocabulary(["a", "b"])
    few = Sessions.from_lists([["a", "x", "a", "b"], ["x"]], vocabulary=known)
    table = graph_statistics(few)
    assert table.loc["clicks", "mean"] == 3
    assert table.loc["loops", "mean"] == 1  # what an unknown click parts becomes a transition
    assert graph_statistics(sessions, max_sessions=1).loc["clicks", "max"] == 5
    with pytest.raises(ValueError, match="No session has a known click"):
        graph_statistics(few.select([1]))


def test_one_session_of_one_click_is_called_so() -> None:
    ax = plot_lengths(Sessions.from_lists([["a"]]))
    assert ax.get_title() == "Lengths of 1 session"
    legend = ax.get_legend()
    assert legend is not None
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == ["median: 1 click", "90th percentile: 1 click"]
