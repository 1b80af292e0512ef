"""LightGCN: factors of PyG's LightGCN, sessions folded in by its own propagation."""

import numpy as np
import pytest
import torch

import graphseq as gs
from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.models import LightGCN

BLOCKS = [[0, 1, 2], [3, 4, 5]]


def two_tastes(number=40, seed=0):
    """Sessions of three of the items of one block, of which there are two."""
    random = np.random.default_rng(seed)
    rows = [random.choice(BLOCKS[n % 2], 2, replace=False).tolist() for n in range(number)]
    return gs.Sessions.from_lists(rows, vocabulary=gs.data.Vocabulary(range(7)))


@pytest.fixture(scope="module")
def model():
    made = LightGCN(7, 8, epochs=15, batch_size=16)
    gs.fit(made, two_tastes())
    return made


def test_items_of_the_same_taste_are_recommended(model):
    assert {item for item, _ in model.recommend([[0]], k=2, exclude_seen=True)[0]} == {1, 2}
    assert {item for item, _ in model.recommend([[5]], k=2, exclude_seen=True)[0]} == {3, 4}


def test_folded_in_session_gets_what_its_items_pass_on(model):
    batch = build_session_graphs(torch.tensor([0, 1, 0, 3]), torch.tensor([0, 3, 4]))
    x = model.session_vectors(batch)
    torch.testing.assert_close(x[0], (model.passed_on[0] + model.passed_on[1]) / 2**0.5)
    torch.testing.assert_close(x[1], model.passed_on[3])
    torch.testing.assert_close(model.score(batch), x @ model.factors.T)


def test_training_session_gets_its_propagated_embedding_without_its_own_part():
    """One step of propagation by hand: y_j = (e_j + A^T e_s) / 2, x_s = A e_j."""
    clicks = torch.tensor([[0, 0, 1], [0, 1, 1]])
    made = LightGCN(2, 3, num_layers=1, epochs=1, batch_size=8, learning_rate=1e-9)
    y, passed_on = made._trained(clicks, 2, 2)
    a = torch.tensor([[2**-0.5, 1 / 2], [0, 2**-0.5]])  # degrees 2, 1 of sessions, 1, 2 of items
    e = passed_on * torch.tensor([1.0, 2.0]).sqrt().unsqueeze(1)  # items' own embeddings
    e_s = torch.linalg.solve(a.T, 2 * y - e)
    assert (e_s.abs() < 2).all()
    x = torch.stack([(passed_on[0] + passed_on[1]) / 2**0.5, passed_on[1]])
    torch.testing.assert_close(x, a @ e)


def test_item_without_a_click_has_no_factors(model):
    assert model.factors[6].abs().sum() == 0
    assert model.factors[:6].abs().sum(1).min() > 0


def test_same_seed_same_factors_and_another_seed_others(model):
    again = LightGCN(7, 8, epochs=15, batch_size=16).fit_counts(two_tastes())
    assert torch.equal(again.factors, model.factors)
    other = LightGCN(7, 8, epochs=15, batch_size=16, seed=1).fit_counts(two_tastes())
    assert not torch.equal(other.factors, model.factors)


def test_saved_and_loaded_it_scores_the_same(model, tmp_path):
    model.save(tmp_path / "model")
    loaded = gs.load(tmp_path / "model")
    assert loaded.recommend([[0, 4]], k=5) == model.recommend([[0, 4]], k=5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden_channels", 0),
        ("num_layers", 0),
        ("epochs", 0),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("regularization", -1.0),
    ],
)
def test_bad_arguments_are_named(name, value):
    with pytest.raises(ValueError, match=name):
        LightGCN(6, **{name: value})
