"""SGNN-HN's layer against dense equations, one session at a time."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from graphseq.data import build_session_graphs
from graphseq.nn import StarSessionConv

SESSIONS = [[0, 1, 2, 1, 3], [4], [5, 5, 5], [0, 1, 0, 1, 0, 1, 6], [6, 5, 4, 3, 2, 1, 0]]


def dense(layer: StarSessionConv, first: Tensor, clicks: list[int]) -> tuple[Tensor, Tensor]:
    conv = layer.conv
    nodes = list(dict.fromkeys(clicks))
    counts = torch.zeros(len(nodes), len(nodes))
    for a, b in itertools.pairwise(clicks):
        counts[nodes.index(a), nodes.index(b)] += 1
    a_in = counts.T / counts.sum(0).clamp(min=1e-9).view(-1, 1)
    a_out = counts / counts.sum(1).clamp(min=1e-9).view(-1, 1)
    h, star = first, first.mean(0)
    for _ in range(layer.num_layers):
        m = torch.cat(
            [a_in @ conv.lin_in(h) + conv.bias_in, a_out @ conv.lin_out(h) + conv.bias_out], dim=1
        )
        h = conv.gru(m, h)
        h = torch.stack(
            [
                (1 - a) * row + a * star
                for row in h
                for a in [(row @ star / len(row) ** 0.5).sigmoid()]
            ]
        )
        star = (h @ star).softmax(0) @ h
    gate = layer.lin_highway(torch.cat([first, h], dim=1)).sigmoid()
    return gate * first + (1 - gate) * h, star


@pytest.mark.parametrize("num_layers", [1, 3])
def test_star_conv_batch_equals_dense_equations_session_by_session(num_layers: int) -> None:
    torch.manual_seed(0)
    layer = StarSessionConv(6, num_layers)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    lengths = torch.tensor([0, *map(len, SESSIONS)])
    batch = build_session_graphs(torch.tensor(sum(SESSIONS, [])), lengths.cumsum(0))
    first = torch.randn(batch.num_nodes, 6)
    h, star = layer(first, batch.edge_index, batch.edge_weight, batch.batch, len(SESSIONS))
    sizes = torch.bincount(batch.batch).tolist()
    expected = [
        dense(layer, part, session)
        for part, session in zip(first.split(sizes), SESSIONS, strict=True)
    ]
    torch.testing.assert_close(h, torch.cat([e[0] for e in expected]), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(star, torch.stack([e[1] for e in expected]), rtol=1e-5, atol=1e-5)


def test_star_conv_wrong_argument_is_refused() -> None:
    with pytest.raises(ValueError, match="num_layers must be at least 1, got 0"):
        StarSessionConv(6, 0)
    with pytest.raises(ValueError, match="hidden_channels must be at least 1, got 0"):
        StarSessionConv(0)


def test_star_conv_repr_names_its_sizes() -> None:
    assert repr(StarSessionConv(6, 2)) == "StarSessionConv(6, num_layers=2)"
