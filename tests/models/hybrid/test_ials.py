"""iALS: factors of the package implicit, sessions folded in by least squares."""

import sys

import numpy as np
import pytest
import torch

import graphseq as gs
from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.models import IALS

LISTS = [[0, 1, 0], [1, 2], [3, 4, 3], [4, 3, 5], [0, 2], [5, 3]]


@pytest.fixture(scope="module")
def model():
    made = IALS(6, 3, alpha=2.0, regularization=0.5)
    gs.fit(made, gs.Sessions.from_lists(LISTS))
    return made


def test_folded_in_sessions_are_the_least_squares_solution(model):
    batch = build_session_graphs(torch.tensor([0, 1, 0, 3]), torch.tensor([0, 3, 4]))
    y = model.factors.numpy()
    found = model.session_vectors(batch).numpy()
    for x, times in zip(found, ([2, 1, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0]), strict=True):
        clicks = np.array(times, float)
        confidence, wanted = 1 + 2.0 * clicks, clicks > 0
        gradient = y.T @ (confidence * (y @ x - wanted)) + 0.5 * x
        np.testing.assert_allclose(gradient, 0, atol=1e-9)


def test_factors_are_at_a_minimum_of_the_loss(model):
    """Half a round of least squares with the sessions of the training changes no item."""
    clicks = np.array([np.bincount(each, minlength=6) for each in LISTS], float)
    y = model.factors.numpy()
    x = np.array([_solve(y, row) for row in clicks])
    again = np.array([_solve(x, column) for column in clicks.T])
    np.testing.assert_allclose(again, y, atol=0.02)


def _solve(rows, clicks):
    confidence = 1 + 2.0 * clicks
    left = (rows * confidence[:, None]).T @ rows + 0.5 * np.eye(3)
    return np.linalg.solve(left, rows.T @ (confidence * (clicks > 0)))


def test_items_of_the_same_sessions_are_recommended(model):
    assert {item for item, _ in model.recommend([[3]], k=2, exclude_seen=True)[0]} == {4, 5}


def test_same_seed_same_factors(model):
    again = IALS(6, 3, alpha=2.0, regularization=0.5)
    gs.fit(again, gs.Sessions.from_lists(LISTS))
    assert torch.equal(again.factors, model.factors)


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "implicit.cpu.als", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'graphseq\[hybrid\]'"):
        gs.fit(IALS(6), gs.Sessions.from_lists(LISTS))


@pytest.mark.parametrize("name", ["alpha", "regularization", "hidden_channels", "iterations"])
def test_bad_arguments_are_named(name):
    with pytest.raises(ValueError, match=name):
        IALS(6, **{name: 0})


@pytest.mark.parametrize("family", [gs.models.IALS, gs.models.LightGCN])
def test_seeds_and_widths_out_of_range_are_named_when_it_is_built(family):
    with pytest.raises(ValueError, match="seed must be at least 0, got -1"):
        family(6, seed=-1)
    with pytest.raises(ValueError, match="hidden_channels must be at least 1"):
        family(6, 0)
