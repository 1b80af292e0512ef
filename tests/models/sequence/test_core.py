"""CORE against its equations, prefix by prefix."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu
from torch_geometric.data import Batch

from graphseq.data import build_session_graphs
from graphseq.models import CORE
from graphseq.nn import DenseView

NUM_ITEMS = 9
SESSIONS = [[3, 5, 3, 0], [7], [2, 2, 2], [8, 1, 4, 1, 8, 1, 6, 0]]


def batch_of(sessions: list[list[int]]) -> Batch:
    ptr = torch.tensor([0, *map(len, sessions)]).cumsum(0)
    return build_session_graphs(torch.tensor(sum(sessions, [])), ptr)


def build(**options: object) -> CORE:
    torch.manual_seed(0)
    model = CORE(NUM_ITEMS, 8, **options)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


def naive_vector(model: CORE, prefix: list[int]) -> Tensor:
    newest = prefix[-model.max_length :]
    e = model.items.weight[newest]
    h = model.norm(e + model.positions.weight[: len(newest)])
    view = DenseView(torch.tensor([0, len(newest)]))
    for block in model.blocks:  # post-norm, with a GELU, 4 d wide
        assert (block.lin_in.out_features, block.attention.heads) == (4 * 8, 2)
        h = block.norm_attention(h + block.attention(h, h, view))
        h = block.norm_feed_forward(h + block.lin_out(gelu(block.lin_in(h))))
    s = (model.lin_score(h).softmax(0) * e).sum(0)
    return model.scale * s / s.norm()


@pytest.mark.parametrize("max_length", [3, 20])
def test_core_states_equal_equations_prefix_by_prefix(max_length: int) -> None:
    model = build(max_length=max_length)
    prefixes = [session[: end + 1] for session in SESSIONS for end in range(len(session))]
    expected = torch.stack([naive_vector(model, prefix) for prefix in prefixes])
    states = model.click_states(batch_of(SESSIONS))
    torch.testing.assert_close(states, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model(batch_of(prefixes)), expected, rtol=1e-5, atol=1e-5)


def test_core_without_blocks_is_the_mean_of_clicks() -> None:
    model = build(num_layers=0)
    e = model.items.weight
    mean = torch.stack([e[session].mean(0) for session in SESSIONS])
    expected = model.scale * torch.nn.functional.cosine_similarity(mean[:, None], e[None], dim=2)
    torch.testing.assert_close(model.score(batch_of(SESSIONS)), expected, rtol=1e-5, atol=1e-5)


class Nothing(torch.nn.Module):
    """A dropout that drops everything."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def test_core_dropouts_act_on_what_the_weights_read_and_on_what_they_sum() -> None:
    model = build(dropout=0.5, embedding_dropout=0.3)
    assert (model.drop.share, model.drop_embedding.share) == (0.5, 0.3)
    assert all(block.drop.share == block.attention.dropout == 0.5 for block in model.blocks)
    plain = build(num_layers=0)
    plain.items.load_state_dict(model.items.state_dict())
    model.drop = Nothing()  # all clicks look alike to the weights
    batch = batch_of(SESSIONS)
    torch.testing.assert_close(model(batch), plain(batch), rtol=1e-5, atol=1e-5)
    model.drop_embedding = Nothing()
    assert not model(batch).any()


def test_core_dropouts_work_in_training_alone() -> None:
    batch = batch_of(SESSIONS)
    for shares in ((0.5, 0.0), (0.0, 0.5)):
        model = build(dropout=shares[0], embedding_dropout=shares[1])
        assert torch.equal(model(batch), model(batch))
        model.train()
        assert not torch.equal(model(batch), model(batch))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden_channels": 0}, "hidden_channels must be at least 1, got 0"),
        ({"max_length": 0}, "max_length must be at least 1, got 0"),
        ({"num_layers": -1}, "num_layers must be at least 0, got -1"),
        ({"heads": 3}, "heads must divide hidden_channels, got 3 heads for 8"),
        ({"heads": 3, "num_layers": 0}, "heads must divide hidden_channels, got 3 heads for 8"),
        ({"scale": 0.0}, "scale must be positive, got 0.0"),
        ({"embedding_dropout": 1.0}, r"\[0, 1\), got 1.0"),
    ],
)
def test_core_wrong_argument_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CORE(**{"num_items": NUM_ITEMS, "hidden_channels": 8, **arguments})


def test_core_repr_names_its_sizes() -> None:
    assert repr(CORE(9, 8)) == "CORE(9, 8, num_layers=2)"
