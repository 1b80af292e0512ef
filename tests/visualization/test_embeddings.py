"""Embeddings in two dimensions, and nearest neighbors."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from graphseq.models import MODELS, SessionModel
from graphseq.testing.examples import NUM_ITEMS, training_sessions
from graphseq.visualization import draw_embeddings, nearest_items
from graphseq.visualization.embeddings import pca

KINDS = [f"kind {code % 3}" for code in range(NUM_ITEMS)]


def model_of(name: str = "sasrec") -> SessionModel:
    torch.manual_seed(0)
    model: SessionModel = MODELS[name](NUM_ITEMS)
    model.attach(training_sessions().catalog(), training_sessions())
    return model


def test_pca_finds_the_two_directions_of_most_variance() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(200, 5)) * [0.1, 9.0, 0.2, 3.0, 0.1] + 7
    points, share = pca(values)
    _, singular, right = np.linalg.svd(values - values.mean(0), full_matrices=False)
    np.testing.assert_allclose(share, (singular**2 / (singular**2).sum())[:2])
    np.testing.assert_allclose(np.abs(points), np.abs((values - values.mean(0)) @ right[:2].T))
    again, _ = pca(values.copy())
    np.testing.assert_array_equal(points, again)


@pytest.mark.parametrize("shape", [(1, 4), (3, 1)])
def test_pca_of_too_few_values_still_has_two_columns(shape: tuple[int, int]) -> None:
    points, share = pca(np.arange(np.prod(shape)).reshape(shape))
    assert points.shape == (shape[0], 2)
    assert share.shape == (2,)


def test_drawing_shows_every_item_in_the_color_of_its_category() -> None:
    model = model_of()
    ax = draw_embeddings(model, categories=KINDS, named=2)
    assert sorted(len(c.get_offsets()) for c in ax.collections) == [4, 4, 4]
    assert len({tuple(c.get_facecolor()[0]) for c in ax.collections}) == 3
    assert len(ax.texts) == 2
    assert ax.get_title() == "SASRec: embeddings of 12 items"
    points, _ = pca(model.items.weight.detach().numpy())
    drawn = np.concatenate([np.asarray(c.get_offsets()) for c in ax.collections])
    assert {tuple(p.round(6)) for p in drawn} == {tuple(p.round(6)) for p in points}


def test_large_catalog_shows_the_most_clicked_items_and_says_so() -> None:
    ax = draw_embeddings(model_of(), max_items=5)
    assert len(ax.collections[0].get_offsets()) == 5
    assert ax.get_title() == "SASRec: embeddings of the 5 most clicked of 12 items"


def test_umap_is_used_where_installed_and_named_where_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ValueError, match="umap-learn, which is not installed"):
        draw_embeddings(model_of(), method="umap")

    class UMAP:
        def __init__(self, **_: Any) -> None: ...

        def fit_transform(self, values: Any) -> Any:
            return values[:, :2] * 100

    fake: Any = ModuleType("umap")
    fake.UMAP = UMAP
    monkeypatch.setitem(sys.modules, "umap", fake)
    model = model_of()
    ax = draw_embeddings(model, method="umap", categories=None)
    weight = model.items.weight.detach().numpy()
    drawn = np.asarray(ax.collections[0].get_offsets())
    np.testing.assert_allclose(np.sort(drawn[:, 0]), np.sort(100 * weight[:, 0]), rtol=1e-5)


def test_neighbors_are_those_of_highest_cosine() -> None:
    model = model_of()
    table = nearest_items(model, [3, 7], 4)
    rows = model.items.weight.detach().numpy()
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for item in (3, 7):
        cosines = rows @ rows[item]
        cosines[item] = -2
        order = np.argsort(-cosines)[:4]
        of_item = table[table["item"] == item]
        assert of_item["neighbor"].tolist() == order.tolist()
        assert of_item["rank"].tolist() == [1, 2, 3, 4]
        np.testing.assert_allclose(of_item["cosine"], cosines[order], rtol=1e-5)


def test_neighbors_of_few_items_are_all_others() -> None:
    assert len(nearest_items(model_of(), [0], 99)) == NUM_ITEMS - 1
    assert nearest_items(model_of(), 3, 2).equals(nearest_items(model_of(), [3], 2))
    with pytest.raises(ValueError, match="knows no item 'x'"):
        nearest_items(model_of(), ["x"])
    with pytest.raises(ValueError, match="knows no item 'shoe'"):
        nearest_items(model_of(), "shoe")  # one id, not four letters
    with pytest.raises(ValueError, match="VSKNN has no item table"):
        nearest_items(MODELS["vsknn"](NUM_ITEMS), [0])
