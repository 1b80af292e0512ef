"""Pictures of attention: what they show is what the model weighs by."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from graphseq.models import MODELS, SessionModel, attention_of, gates_of
from graphseq.testing.examples import NUM_ITEMS, training_sessions
from graphseq.visualization import (
    draw_attention,
    draw_attention_heads,
    draw_filters,
    draw_gates,
)

SESSION = [3, 5, 3, 0]
TITLES = [f"title {code}" for code in range(NUM_ITEMS)]


def model_of(name: str, **settings: Any) -> SessionModel:
    torch.manual_seed(0)
    model: SessionModel = MODELS[name](NUM_ITEMS, **settings)
    model.attach(training_sessions().catalog(), training_sessions())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def shown(ax: Axes) -> np.ndarray:
    values = ax.images[-1].get_array()
    assert values is not None
    return np.ma.filled(values, 0.0)


def names(ax: Axes, axis: str) -> list[str]:
    ticks = ax.get_xticklabels() if axis == "x" else ax.get_yticklabels()
    return [text.get_text() for text in ticks]


@pytest.mark.parametrize("head", [None, 1])
def test_heat_map_shows_the_weights_with_titles_on_both_axes(head: int | None) -> None:
    model = model_of("sasrec", heads=2)
    weights = attention_of(model, SESSION).layers[0]
    ax = draw_attention(model, SESSION, layer=0, head=head, labels=TITLES)
    expected = weights.mean(0) if head is None else weights[1]
    np.testing.assert_allclose(shown(ax), expected)
    assert names(ax, "x") == names(ax, "y") == ["title 3", "title 5", "title 3", "title 0"]
    which = "mean of all heads" if head is None else "head 1"
    assert ax.get_title() == f"SASRec, layer 0, {which}"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("is looked at", "looks")


def test_upper_triangle_of_a_causal_model_is_left_white() -> None:
    ax = draw_attention(model_of("sasrec"), SESSION)
    hidden = np.ma.getmaskarray(ax.images[-1].get_array())
    assert hidden[np.triu_indices(4, 1)].all()
    assert not hidden[np.tril_indices(4)].any()
    assert len(ax.texts) == 10  # one number per visible weight
    two_sided = draw_attention(model_of("bert4rec"), SESSION)
    assert not np.ma.getmaskarray(two_sided.images[-1].get_array()).any()
    assert names(two_sided, "y")[-1] == "(masked)"


def test_candidate_of_the_ranker_has_a_row_and_a_column() -> None:
    ax = draw_attention(model_of("bst_ranker", mlp_channels=(4,)), SESSION, item=2)
    assert names(ax, "x") == ["3", "5", "3", "0", "(candidate)"]


def test_weights_of_a_graph_model_stand_on_its_graph() -> None:
    model = model_of("srgnn")
    clicks = attention_of(model, SESSION).clicks
    assert clicks is not None
    ax = draw_attention(model, SESSION)
    inside = {t.get_gid(): t.get_text() for t in ax.texts if str(t.get_gid()).startswith("order-")}
    sums = [clicks[0] + clicks[2], clicks[1], clicks[3]]  # nodes 3, 5, 0

    def read(text: str) -> float:
        return float(text.replace(".", "0.", 1) if text.lstrip("-").startswith(".") else text)

    assert [read(inside[f"order-{n}"]) for n in range(3)] == pytest.approx(sums, abs=0.006)


def test_grid_has_a_row_per_layer_and_a_column_per_head(tmp_path: Path) -> None:
    model = model_of("bert4rec", num_layers=3, heads=2)
    figure = draw_attention_heads(model, SESSION, path=tmp_path / "a.svg")
    layers = attention_of(model, SESSION).layers
    titled = {ax.get_title(): ax for ax in figure.axes if ax.get_title()}
    assert len(titled) == 6
    for number in range(3):
        for head in range(2):
            ax = titled[f"layer {number}, head {head}"]
            np.testing.assert_allclose(shown(ax), layers[number][head])
            assert ax.images[0].get_clim() == (0, max(float(layer.max()) for layer in layers))
    assert (tmp_path / "a.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_layers_and_heads_that_do_not_exist_are_refused() -> None:
    model = model_of("sasrec")
    with pytest.raises(ValueError, match=r"layer is one of 0\.\.1 of this model, got 2"):
        draw_attention(model, SESSION, layer=2)
    with pytest.raises(ValueError, match="of this model, got 'last'"):
        draw_attention(model, SESSION, layer="last")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"head is one of 0\.\.0 of this model, got -1"):
        draw_attention(model, SESSION, head=-1)
    with pytest.raises(ValueError, match="SRGNN weighs clicks alone"):
        draw_attention_heads(model_of("srgnn"), SESSION)
    with pytest.raises(ValueError, match="Caser has no attention; these families have: sasrec"):
        draw_attention(model_of("caser"), SESSION)


def test_long_sessions_show_the_newest_places_and_say_so() -> None:
    model = model_of("sasrec", max_length=100)
    session = [n % NUM_ITEMS for n in range(80)]
    ax = draw_attention(model, session, labels=TITLES)
    np.testing.assert_allclose(shown(ax), attention_of(model, session).layers[-1][0, -60:, -60:])
    assert [text.get_text() for text in ax.texts] == ["newest 60 of 80 places"]


def test_given_axes_are_drawn_on() -> None:
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert draw_attention(model_of("sasrec"), SESSION, ax=right) is right
    assert draw_gates(model_of("gru4rec"), SESSION, ax=left) is left


def test_gates_are_drawn_as_their_means_with_bands() -> None:
    model = model_of("gru4rec", hidden_channels=6)
    gates = gates_of(model, SESSION)
    ax = draw_gates(model, SESSION, labels=TITLES)
    update, reset = ax.get_lines()
    np.testing.assert_allclose(update.get_ydata(), gates.update[-1].mean(1), rtol=1e-6)
    np.testing.assert_allclose(reset.get_ydata(), gates.reset[-1].mean(1), rtol=1e-6)
    assert len(ax.collections) == 2
    assert names(ax, "x") == ["title 3", "title 5", "title 3", "title 0"]


def test_filters_of_caser_are_its_weights() -> None:
    model = model_of("caser", max_length=4, heights=[1, 3])
    figure = draw_filters(model)
    vertical, horizontal = (ax for ax in figure.axes if ax.get_title())
    weights: Any = model.vertical.weight.detach()  # type: ignore[union-attr]
    np.testing.assert_allclose(shown(vertical), weights)
    filters: Any = model.horizontal.weights[1]  # type: ignore[union-attr,index]
    lengths = filters.detach().norm(dim=2).mean(0)
    np.testing.assert_allclose(shown(horizontal)[1], [0, *lengths], rtol=1e-6)
    assert names(horizontal, "y") == ["1", "3"]
    with pytest.raises(ValueError, match="SASRec has no filters over clicks; caser has"):
        draw_filters(model_of("sasrec"))


def test_filters_of_one_kind_alone_are_drawn() -> None:
    figure = draw_filters(model_of("caser", num_horizontal=0))
    assert [ax.get_title() for ax in figure.axes if ax.get_title()] == [
        "vertical filters: weight of a click"
    ]


def test_weights_below_zero_have_a_color_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("sasrec")
    assert draw_attention(model, SESSION).images[0].get_clim()[0] == 0.0
    found = attention_of(model, SESSION)
    layers = [found.layers[0], found.layers[1] - 0.75]
    module = importlib.import_module("graphseq.visualization.attention")
    monkeypatch.setattr(module, "attention_of", lambda *a, **k: replace(found, layers=layers))
    low, high = draw_attention(model, SESSION, layer=1).images[0].get_clim()
    assert (low, high) == (-0.75, 0.75)
    assert draw_attention(model, SESSION, layer=0).images[0].get_clim() == (0.0, 1.0)
    heads = [image for ax in draw_attention_heads(model, SESSION).axes for image in ax.images]
    assert [image.get_clim() for image in heads] == [(-1.0, 1.0), (-1.0, 1.0)]
