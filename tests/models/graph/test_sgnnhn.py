"""SGNN-HN against the authors' recorded scores, loss and gradients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data import build_session_graphs
from graphseq.models import SGNNHN
from graphseq.models.published.sgnnhn import NAMES as PUBLISHED_NAMES

FIXTURES = Path(__file__).parents[2] / "fixtures"


@pytest.fixture(params=["a", "b"])
def published(request: pytest.FixtureRequest) -> dict[str, np.ndarray]:
    return dict(np.load(FIXTURES / f"sgnnhn_published_{request.param}.npz"))


def part(published: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in published.items() if k.startswith(prefix)}


def model_and_batch(published: dict[str, np.ndarray]) -> tuple[SGNNHN, Batch, Tensor]:
    model = SGNNHN.from_published(
        part(published, "param."), num_layers=int(published["steps"]), scale=float(published["tau"])
    )
    items = torch.from_numpy(published["clicks"]) - 1
    batch = build_session_graphs(items, torch.from_numpy(published["ptr"]))
    return model, batch, torch.from_numpy(published["target"]) - 1


def batch_of(sessions: list[list[int]]) -> Batch:
    ptr = torch.tensor([0, *map(len, sessions)]).cumsum(0)
    return build_session_graphs(torch.tensor(sum(sessions, [])), ptr)


def test_sgnnhn_published_weights_give_published_scores(published: dict[str, np.ndarray]) -> None:
    model, batch, _ = model_and_batch(published)
    expected = torch.from_numpy(published["scores"])
    torch.testing.assert_close(model.score(batch), expected, rtol=1e-5, atol=1e-5)
    some = torch.tensor([3, 0, 7])
    torch.testing.assert_close(model.score(batch, some), expected[:, some], rtol=1e-5, atol=1e-5)


def test_sgnnhn_published_weights_give_published_loss_and_gradients(
    published: dict[str, np.ndarray],
) -> None:
    model, batch, target = model_and_batch(published)
    loss = torch.nn.functional.cross_entropy(model.score(batch), target)
    loss.backward()
    assert loss.item() == pytest.approx(float(published["loss"]), abs=1e-5)
    recorded = part(published, "grad.")
    recorded["embedding.weight"] = recorded["embedding.weight"][1:]
    named = {PUBLISHED_NAMES[name]: torch.from_numpy(value) for name, value in recorded.items()}
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert gradients.keys() == named.keys()
    for name, expected in named.items():
        torch.testing.assert_close(gradients[name], expected, rtol=1e-5, atol=1e-5, msg=name)


def test_sgnnhn_looks_at_the_newest_clicks_alone() -> None:
    torch.manual_seed(0)
    model = SGNNHN(9, 8, max_length=3)
    torch.testing.assert_close(model(batch_of([[0, 1, 2, 3, 4]])), model(batch_of([[2, 3, 4]])))
    assert not torch.allclose(model(batch_of([[4, 2, 4]])), model(batch_of([[2, 4]])))


def test_sgnnhn_place_of_a_click_counts_from_the_first() -> None:
    torch.manual_seed(0)
    model = SGNNHN(9, 8)
    batch, before = batch_of([[0, 1], [0, 1, 2]]), None
    before = model(batch)
    with torch.no_grad():
        model.positions.weight[2] += 1
    changed = (model(batch) != before).any(1)
    assert changed.tolist() == [False, True]


def test_sgnnhn_transition_made_often_counts_once() -> None:
    torch.manual_seed(0)
    model = SGNNHN(9, 8)
    with torch.no_grad():
        model.positions.weight.zero_()
        model.lin_score.weight.zero_()  # then the last click and the graph are all there is
    often, once = batch_of([[0, 1, 0, 1, 0, 2]]), batch_of([[0, 1, 0, 2]])
    torch.testing.assert_close(model(often), model(once))


def test_sgnnhn_start_is_uniform_within_the_inverse_root_of_the_width() -> None:
    torch.manual_seed(0)
    for name, parameter in SGNNHN(500, 16).named_parameters():
        assert 0.15 < parameter.abs().max() <= 0.25, name
        if parameter.numel() > 100:
            assert parameter.std().item() == pytest.approx(0.25 / 3**0.5, rel=0.15), name


def test_sgnnhn_dropout_works_in_training_alone() -> None:
    model, batch = SGNNHN(9, 8, dropout=0.5), batch_of([[0, 1, 2]])
    assert not torch.equal(model(batch), model(batch))
    model.eval()
    assert torch.equal(model(batch), model(batch))


def test_sgnnhn_published_weights_missing_are_refused(published: dict[str, np.ndarray]) -> None:
    given = part(published, "param.")
    del given["linear_hn.bias"]
    with pytest.raises(ValueError, match=r"SGNN-HN lack linear_hn\.bias\."):
        SGNNHN.from_published(given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_length": 0}, "max_length must be at least 1, got 0"),
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
        ({"scale": 0.0}, "scale must be positive, got 0.0"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
    ],
)
def test_sgnnhn_wrong_argument_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SGNNHN(9, 8, **arguments)


def test_sgnnhn_repr_names_its_sizes() -> None:
    assert repr(SGNNHN(9, 8, 2)) == "SGNNHN(9, 8, num_layers=2)"
