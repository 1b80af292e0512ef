from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import torch
import torch_geometric.utils
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.text import Text
from PIL import Image
from torch_geometric.data import Batch, Data

import graphseq.visualization
from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.visualization import (
    animate_session,
    draw_session_graph,
    draw_session_graphs,
    to_networkx,
)
from graphseq.visualization.figures import BLUE, ORANGE, VERMILION

AGG = "matplotlib.backends.backend_agg"
TITLES = [
    "Toy Story (1995)",
    "Star Wars: Episode IV - A New Hope (1977)",
    "Dr. Strangelove or: How I Learned to Stop Worrying and Love the Bomb (1964)",
    "Fargo (1996)",
    "Good, the Bad and the Ugly, The (Buono, il brutto, il cattivo, Il) (1966)",
]


def graph_of(*items: int) -> Data:
    return build_session_graphs(torch.tensor(items), torch.tensor([0, len(items)])).get_example(0)


def edges_of(ax: Axes) -> dict[str, FancyArrowPatch]:
    return {
        str(patch.get_gid()): patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)
    }


def texts_of(ax: Axes, kind: str) -> dict[int | str, str]:
    """Texts by the end of their group id."""
    marked = {str(text.get_gid()): text.get_text() for text in ax.texts}
    return {gid.partition("-")[2]: text for gid, text in marked.items() if gid.startswith(kind)}


def middle(ax: Axes, gid: str) -> np.ndarray:
    """Where the curve of an edge has its middle, in pixels."""
    start, control, stop = edges_of(ax)[gid].get_path().vertices[:3]
    return ax.transData.transform((start + 2 * control + stop) / 4)


# -- to_networkx -----------------------------------------------------------------------------------


def test_to_networkx_of_a_b_c_b_d_has_its_edges_and_orders() -> None:
    graph = to_networkx(graph_of(0, 1, 2, 1, 3), labels=list("ABCD"))
    assert set(graph.edges) == {(0, 1), (1, 2), (2, 1), (1, 3)}
    assert [graph.nodes[n]["label"] for n in graph] == ["A", "B", "C", "D"]
    assert [graph.nodes[n]["order"] for n in graph] == [1, 2, 3, 4]
    assert [graph.nodes[n]["clicks"] for n in graph] == [1, 2, 1, 1]
    assert [graph.nodes[n]["last"] for n in graph] == [False, False, False, True]


@given(st.lists(st.integers(0, 6), min_size=1, max_size=20))
@settings(max_examples=40)
def test_to_networkx_weights_count_transitions(items: list[int]) -> None:
    graph = to_networkx(graph_of(*items))
    item = {node: graph.nodes[node]["item"] for node in graph}
    weights = {(item[a], item[b]): weight for a, b, weight in graph.edges(data="weight")}
    assert weights == Counter(itertools.pairwise(items))
    assert [item[node] for node in graph] == list(dict.fromkeys(items))


def test_to_networkx_and_back_keeps_edges_and_weights() -> None:
    data = graph_of(0, 1, 0, 1, 1, 2, 0)
    back = torch_geometric.utils.from_networkx(to_networkx(data))
    order = (back.edge_index[0] * 10 + back.edge_index[1]).argsort()
    expected = (data.edge_index[0] * 10 + data.edge_index[1]).argsort()
    assert torch.equal(back.edge_index[:, order], data.edge_index[:, expected])
    assert back.weight[order].tolist() == data.edge_weight[expected].tolist()
    assert torch.equal(back.item, data.x)


@pytest.mark.parametrize(
    "labels",
    [{7: "a", 9: "b"}, pd.Index([None] * 7 + ["a", None, "b"]), pd.Series({7: "a", 9: "b"})],
    ids=["dict", "index", "series"],
)
def test_to_networkx_labels_of_any_kind_are_found_by_item(labels: object) -> None:
    graph = to_networkx(graph_of(9, 7), labels=labels)
    assert [graph.nodes[n]["label"] for n in graph] == ["b", "a"]


def test_to_networkx_missing_label_falls_back_to_the_code() -> None:
    graph = to_networkx(graph_of(0, 1), labels=["a", float("nan")])
    assert [graph.nodes[n]["label"] for n in graph] == ["a", 1]


def test_to_networkx_item_that_a_dict_lacks_falls_back_to_the_code() -> None:
    graph = to_networkx(graph_of(0, 5), labels={5: "a"})
    assert [graph.nodes[n]["label"] for n in graph] == [0, "a"]


def test_to_networkx_labels_without_an_item_are_refused() -> None:
    with pytest.raises(ValueError, match=r"labels is keyed by item codes.*got the key 'a'"):
        to_networkx(graph_of(0, 5), labels={"a": "title"})
    with pytest.raises(ValueError, match="labels has none for item 5"):
        to_networkx(graph_of(0, 5), labels=["a", "b"])


def test_to_networkx_batch_of_several_is_refused_and_of_one_is_taken() -> None:
    batch = build_session_graphs(torch.tensor([0, 1, 2]), torch.tensor([0, 2, 3]))
    with pytest.raises(ValueError, match="batch of 2"):
        to_networkx(batch)
    alone = build_session_graphs(torch.tensor([4, 5]), torch.tensor([0, 2]))
    assert list(to_networkx(alone).edges) == [(0, 1)]


def test_to_networkx_data_without_clicks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"this Data has edge_index, x"):
        to_networkx(Data(x=torch.tensor([0]), edge_index=torch.zeros(2, 0, dtype=torch.long)))


@pytest.mark.parametrize("given", [[1, 2, 3], None, "session.csv"])
def test_to_networkx_of_something_else_says_what_is_needed(given: Any) -> None:
    with pytest.raises(ValueError, match=f"graph is needed, got {type(given).__name__}"):
        to_networkx(given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": [1, 2]}, r"candidates are pairs \(name, score\).*got 1"),
        ({"candidates": [("a", "b")]}, r"pairs \(name, score\).*got \('a', 'b'\)"),
        ({"candidates": [("a", float("nan"))]}, "score of candidate 'a' is NaN"),
        ({"click_weights": [1.0, float("nan")]}, "click_weights holds nan at place 1"),
        ({"edge_weights": [float("inf")]}, "edge_weights holds inf at place 0"),
    ],
)
def test_strengths_and_candidates_that_cannot_be_drawn_are_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        draw_session_graph(graph_of(0, 1), **options)


# -- draw_session_graph ----------------------------------------------------------------------------


@given(st.lists(st.integers(0, 15), min_size=1, max_size=30))
@settings(max_examples=15)
def test_drawing_has_one_node_order_and_label_an_item_and_one_arrow_an_edge(
    items: list[int],
) -> None:
    data = graph_of(*items)
    ax = draw_session_graph(data, labels=[f"item {code}" for code in range(16)])
    nodes = next(c for c in ax.collections if c.get_gid() == "nodes")
    assert len(nodes.get_offsets()) == data.num_nodes
    assert len(edges_of(ax)) == data.num_edges
    assert list(texts_of(ax, "order").values()) == [str(n + 1) for n in range(data.num_nodes)]
    assert list(texts_of(ax, "label").values()) == [f"item {code}" for code in data.x.tolist()]


def test_edge_widths_and_numbers_grow_with_weights() -> None:
    # 0->1 once, 1->0 twice, 0->0 three times, 0->2 four times
    items = [0, 1, 0, 0, 0, 0, 2, 1, 0, 2, 1, 2, 0, 2, 0, 2]
    data = graph_of(*items)
    ax = draw_session_graph(data)
    drawn = {
        f"edge-{a}-{b}": weight
        for (a, b), weight in zip(
            data.edge_index.T.tolist(), data.edge_weight.tolist(), strict=True
        )
    }
    widths = {gid: patch.get_linewidth() for gid, patch in edges_of(ax).items()}
    assert len(set(drawn.values())) >= 3
    for one, other in itertools.combinations(drawn, 2):
        assert np.sign(drawn[one] - drawn[other]) == np.sign(widths[one] - widths[other])
    assert texts_of(ax, "weight") == {
        gid.removeprefix("edge-"): f"{weight:g}" for gid, weight in drawn.items()
    }


def test_numbers_of_a_crowded_drawing_leave_out_the_ones() -> None:
    ax = draw_session_graph(graph_of(*range(25), 3, 4))
    assert texts_of(ax, "weight") == {"3-4": "2"}


def test_there_and_back_are_drawn_apart() -> None:
    for items in ([0, 1, 0], [0, 1, 2, 1, 3], [0, 1, 2, 3, 1, 3, 0], [*range(20), 5, 19, 5, 8, 5]):
        ax = draw_session_graph(graph_of(*items))
        ax.figure.draw_without_rendering()
        for gid in edges_of(ax):
            _, a, b = gid.split("-")
            if a < b and f"edge-{b}-{a}" in edges_of(ax):
                apart = np.linalg.norm(middle(ax, gid) - middle(ax, f"edge-{b}-{a}"))
                assert apart > 5


def test_last_click_is_orange_and_ringed() -> None:
    ax = draw_session_graph(graph_of(0, 1, 2, 1))
    nodes = next(c for c in ax.collections if c.get_gid() == "nodes")
    ring = next(c for c in ax.collections if c.get_gid() == "last")
    orange = [tuple(color) == to_rgba(ORANGE) for color in nodes.get_facecolors()]
    assert orange == [False, True, False]
    np.testing.assert_allclose(ring.get_offsets(), nodes.get_offsets()[1:2])
    legend = ax.get_legend()
    assert legend is not None
    assert "last click" in [text.get_text() for text in legend.get_texts()]


def test_single_click_is_one_node_without_arrows() -> None:
    ax = draw_session_graph(graph_of(3))
    assert edges_of(ax) == {}
    assert texts_of(ax, "label") == {"0": "3"}
    assert ax.get_title() == "1 click on 1 item"
    legend = ax.get_legend()
    assert legend is not None
    assert len(legend.get_texts()) == 2  # no transition to explain


def test_self_loop_reaches_outside_its_node() -> None:
    ax = draw_session_graph(graph_of(0, 0, 0))
    ax.figure.draw_without_rendering()
    pixels = ax.transData.transform(edges_of(ax)["edge-0-0"].get_path().vertices)
    center = ax.transData.transform((0, 0))
    node = 13 * ax.figure.dpi / 72  # radius in pixels
    assert np.linalg.norm(pixels - center, axis=1).max() > 2 * node
    assert texts_of(ax, "weight") == {"0-0": "2"}


@pytest.mark.parametrize(
    "items",
    [[0], [0, 0, 1], [0, 1, 2, 1, 3], [0, 0, 1, 2, 2, 3, 4], list(range(30)), list(range(60))],
    ids=["one", "two", "four", "loops", "thirty", "sixty"],
)
def test_all_texts_lie_on_the_figure_and_labels_apart(items: list[int]) -> None:
    ax = draw_session_graph(graph_of(*items), labels=[TITLES[code % 5] for code in range(60)])
    figure = ax.figure
    figure.draw_without_rendering()
    legend = ax.get_legend()
    assert legend is not None
    texts: list[Text] = [*ax.texts, ax.title, *legend.get_texts()]
    width, height = figure.bbox.size
    boxes = [text.get_window_extent() for text in texts]
    for text, box in zip(texts, boxes, strict=True):
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
        assert inside, text.get_text()
    upright = [b for t, b in zip(texts, boxes, strict=True) if not t.get_rotation()]
    if len(items) <= 12:
        assert not [1 for a, b in itertools.combinations(upright, 2) if a.overlaps(b)]


def test_long_title_is_wrapped_and_shortened() -> None:
    ax = draw_session_graph(graph_of(2, 1), labels=TITLES)
    lines = texts_of(ax, "label")["0"].split("\n")
    assert len(lines) == 3
    assert max(map(len, lines)) <= 22
    assert lines[-1].endswith("…")


def test_drawing_twice_gives_the_same_picture(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        draw_session_graph(graph_of(0, 1, 2, 1, 3), labels=TITLES, path=tmp_path / name)
    first, second = (matplotlib.image.imread(tmp_path / name) for name in ("a.png", "b.png"))
    np.testing.assert_array_equal(first, second)
    assert first[..., :3].std() > 0.05  # something is on it


def test_drawing_on_given_axes_stays_on_them() -> None:
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert draw_session_graph(graph_of(0, 1), ax=right) is right
    assert right.texts
    assert not left.texts


def test_drawing_leaves_nothing_in_pyplot() -> None:
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    draw_session_graph(graph_of(0, 1))
    draw_session_graphs([graph_of(0, 1)])
    assert plt.get_fignums() == before


# -- draw_session_graphs ---------------------------------------------------------------------------


def test_grid_has_one_drawing_a_session_and_hides_the_rest() -> None:
    sessions = [
        graph_of(0, 1, 2, 1, 3),
        graph_of(4),
        graph_of(1, 1),
        graph_of(0, 1),
        graph_of(2, 3),
    ]
    figure = draw_session_graphs(sessions, columns=3)
    assert len(figure.axes) == 6
    assert [len(edges_of(ax)) for ax in figure.axes] == [4, 0, 1, 1, 1, 0]
    assert [bool(ax.texts) for ax in figure.axes] == [True] * 5 + [False]
    assert not any(ax.axison for ax in figure.axes)
    assert len(figure.legends) == 1


def test_grid_uses_one_scale_of_widths() -> None:
    figure = draw_session_graphs([graph_of(0, 1, 0, 1), graph_of(*[2, 3] * 9)])
    light, heavy = (edges_of(ax)["edge-0-1"].get_linewidth() for ax in figure.axes)
    alone = edges_of(draw_session_graph(graph_of(0, 1, 0, 1)))["edge-0-1"].get_linewidth()
    assert light < alone < heavy


def test_grid_of_a_batch_equals_grid_of_its_graphs() -> None:
    batch = build_session_graphs(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 2, 4]))
    assert isinstance(batch, Batch)
    figure = draw_session_graphs(batch, titles=["first", "second"])
    assert [ax.get_title() for ax in figure.axes] == ["first", "second"]
    assert [list(edges_of(ax)) for ax in figure.axes] == [["edge-0-1"], ["edge-0-0"]]


@pytest.mark.parametrize(
    ("graphs", "options", "message"),
    [
        ([], {}, "got 0 and 3"),
        ([graph_of(0)], {"columns": 0}, "got 1 and 0"),
        ([graph_of(0)], {"titles": ["a", "b"]}, "one text per session: 1, got 2"),
        ([graph_of(0)], {"max_items": 0}, "max_items must be at least 1, got 0"),
    ],
    ids=["no graph", "no column", "titles", "no item"],
)
def test_grid_with_a_wrong_argument_is_refused(
    graphs: list[Data], options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        draw_session_graphs(graphs, **options)


# -- time, categories, weights, candidates ---------------------------------------------------------


def spots_of(ax: Axes) -> np.ndarray:
    return np.asarray(next(c for c in ax.collections if c.get_gid() == "nodes").get_offsets())


@given(st.lists(st.integers(0, 9), min_size=1, max_size=25))
@settings(max_examples=15)
def test_items_run_from_left_to_right_in_the_order_of_their_first_visit(items: list[int]) -> None:
    x, y = spots_of(draw_session_graph(graph_of(*items))).T
    assert (np.diff(x) > 0).all()
    assert len(set(y)) == 1


def test_arcs_back_are_vermilion_and_steps_to_the_next_item_straight() -> None:
    ax = draw_session_graph(graph_of(0, 1, 2, 0, 3, 3))
    color = {gid: patch.get_edgecolor() for gid, patch in edges_of(ax).items()}
    back = {gid for gid, each in color.items() if each == to_rgba(VERMILION)}
    assert back == {"edge-2-0", "edge-3-3"}
    ax.figure.draw_without_rendering()
    line = spots_of(ax)[0, 1]

    def height(gid: str) -> float:
        return ax.transData.inverted().transform(middle(ax, gid))[1] - line

    assert height("edge-0-1") == pytest.approx(0, abs=1e-6)
    assert height("edge-2-0") > 20  # over the line, as every arc
    assert height("edge-0-3") > 20


def test_size_grows_with_visits() -> None:
    ax = draw_session_graph(graph_of(0, 1, 0, 2, 0))
    sizes = next(c for c in ax.collections if c.get_gid() == "nodes").get_sizes()
    assert sizes[0] > sizes[1] == sizes[2]


def test_categories_color_nodes_and_stand_in_the_legend() -> None:
    kinds = ["shoes", "hats", "shoes", None]
    ax = draw_session_graph(graph_of(0, 1, 2, 3), categories=kinds)
    colors = [tuple(c) for c in ax.collections[0].get_facecolors()]
    assert colors[0] == colors[2]
    assert len(set(colors)) == 3
    legend = ax.get_legend()
    assert legend is not None
    assert {"shoes", "hats", "unknown"} <= {text.get_text() for text in legend.get_texts()}
    grid = draw_session_graphs([graph_of(0), graph_of(1), graph_of(2)], categories=kinds)
    own = [tuple(ax.collections[0].get_facecolors()[0]) for ax in grid.axes]
    assert own[0] == own[2] != own[1]


def test_category_that_is_a_number_is_known_for_the_item_of_that_number_too() -> None:
    ax = draw_session_graph(graph_of(0, 1, 2), categories=[0, 1, 1])
    colors = [tuple(c) for c in ax.collections[0].get_facecolors()]
    assert colors[1] == colors[2] != colors[0]
    legend = ax.get_legend()
    assert legend is not None
    texts = {text.get_text() for text in legend.get_texts()}
    assert {"0", "1"} <= texts
    assert "unknown" not in texts


def test_labels_and_categories_of_several_values_are_one_text() -> None:
    genres = pd.Series([["Comedy", "Drama"], np.array(["War"]), []])
    ax = draw_session_graph(graph_of(0, 1, 2), labels=genres, categories=genres)
    assert texts_of(ax, "label") == {"0": "Comedy, Drama", "1": "War", "2": "2"}
    legend = ax.get_legend()
    assert legend is not None
    texts = {text.get_text() for text in legend.get_texts()}
    assert {"Comedy, Drama", "War", "unknown"} <= texts


def test_candidates_are_ghosts_with_their_scores_best_on_top() -> None:
    ax = draw_session_graph(graph_of(0, 1), candidates=[("x", 2.5), (7, 0.25)])
    assert texts_of(ax, "score") == {"0": "x  2.5", "1": "7  0.25"}
    ghosts = [c for c in ax.collections if str(c.get_gid()).startswith("ghost")]
    (x0, y0), (x1, y1) = (c.get_offsets()[0] for c in ghosts)
    assert x0 == x1 > spots_of(ax)[:, 0].max()
    assert y0 > y1
    links = [gid for gid in edges_of(ax) if gid.startswith("candidate")]
    assert len(links) == 2


def test_click_weights_are_summed_on_nodes_and_edge_weights_stand_on_edges() -> None:
    data = graph_of(0, 1, 0)
    ax = draw_session_graph(data, click_weights=[0.5, -0.2, 0.25], edge_weights=[1.0, -0.5])
    assert list(texts_of(ax, "order").values()) == [".75", "-.20"]
    assert list(texts_of(ax, "weight").values()) == ["1.00", "-.50"]
    strong, weak = ax.collections[0].get_facecolors()
    assert tuple(strong) == pytest.approx(to_rgba(BLUE))
    assert weak[0] > weak[2]  # negative: towards vermilion
    with pytest.raises(ValueError, match="one number per click of the session, 3, got 2"):
        draw_session_graph(data, click_weights=[1, 2])
    with pytest.raises(ValueError, match="one number per edge of the session, 2, got 1"):
        draw_session_graph(data, edge_weights=[1])


def test_session_too_large_shows_the_most_visited_items_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    items = [*range(30), 7, 12, 7, 12, 3, 29, 0, 18]
    ax = draw_session_graph(graph_of(*items), max_items=6)
    assert set(texts_of(ax, "label").values()) == {"7", "12", "3", "29", "0", "18"}
    assert ax.get_title() == "14 clicks on 6 items, the most visited of 30"
    assert "30 items: the 6 most visited are drawn" in caplog.text
    x = spots_of(ax)[:, 0]
    assert (np.diff(x) > 0).all()
    with pytest.raises(ValueError, match="max_items"):
        draw_session_graph(graph_of(0), max_items=0)


@pytest.mark.parametrize("suffix", ["svg", "pdf"])
def test_drawing_is_written_as_vectors(tmp_path: Path, suffix: str) -> None:
    draw_session_graph(graph_of(0, 1, 0), labels=TITLES, path=tmp_path / f"a.{suffix}")
    assert (tmp_path / f"a.{suffix}").stat().st_size > 1000


def test_drawings_need_no_display() -> None:
    sources = Path(graphseq.visualization.__file__).parent.glob("*.py")
    texts = {file.name: file.read_text(encoding="utf-8") for file in sources}
    assert not [name for name, text in texts.items() if "import matplotlib.pyplot" in text]
    canvas = draw_session_graph(graph_of(0)).figure.canvas
    assert type(canvas).__module__ in ("matplotlib.backend_bases", AGG)


# -- animate_session -------------------------------------------------------------------------------


def test_animation_has_a_frame_per_click_and_items_keep_their_places(tmp_path: Path) -> None:
    path = animate_session(graph_of(0, 1, 2, 1), tmp_path / "deep" / "a.gif", seconds=0.5)
    with Image.open(path) as film:
        assert film.n_frames == 4
        assert film.info["loop"] == 0
        frames = []
        times = []
        for number in range(4):
            film.seek(number)
            frames.append(np.asarray(film.convert("L"), dtype=float))
            times.append(film.info["duration"])
    assert times == [500, 500, 500, 1000]
    ink = [float((frame < 128).sum()) for frame in frames]
    assert ink[0] < ink[1] < ink[2]
    assert [file.name for file in path.parent.iterdir()] == ["a.gif"]


def test_animation_of_another_kind_or_pace_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"name it like session\.gif"):
        animate_session(graph_of(0), tmp_path / "a.mp4")
    with pytest.raises(ValueError, match="seconds is how long each click is shown"):
        animate_session(graph_of(0), tmp_path / "a.gif", seconds=0)
    with pytest.raises(ValueError, match="above 0 and finite, got inf"):
        animate_session(graph_of(0), tmp_path / "a.gif", seconds=float("inf"))
    with pytest.raises(ValueError, match="max_items must be at least 1, got 0"):
        animate_session(graph_of(0), tmp_path / "a.gif", max_items=0)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="could not be written"):
        animate_session(graph_of(0), tmp_path / "file" / "a.gif")
