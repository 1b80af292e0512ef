"""SR-GNN the dense way: one padded adjacency matrix a session, filled session by session.

The usual way to program it, and the peer of the training benchmark: the same equations and the
same parameters as ``graphseq.models.SRGNN``, so that scores are equal, on padded matrices with a
padding item and a plain cross-entropy over [batch, items].
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor

from graphseq.models import SRGNN
from graphseq.nn.readouts import SRGNNReadout

Padded = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def pad(sessions: list[list[int]]) -> Padded:
    """Nodes [B, N], both adjacency matrices [B, N, N], node of each click [B, L], mask [B, L]."""
    uniques = [list(dict.fromkeys(session)) for session in sessions]
    num_nodes, num_clicks = max(map(len, uniques)), max(map(len, sessions))
    x = np.zeros((len(sessions), num_nodes), dtype=np.int64)
    a_in = np.zeros((len(sessions), num_nodes, num_nodes), dtype=np.float32)
    a_out = np.zeros_like(a_in)
    click = np.zeros((len(sessions), num_clicks), dtype=np.int64)
    mask = np.zeros((len(sessions), num_clicks), dtype=bool)
    for row, (session, unique) in enumerate(zip(sessions, uniques, strict=True)):
        place = {item: node for node, item in enumerate(unique)}
        nodes = [place[item] for item in session]
        counts = np.zeros((num_nodes, num_nodes), dtype=np.float32)
        for source, target in itertools.pairwise(nodes):
            counts[source, target] += 1
        x[row, : len(unique)] = unique
        a_out[row] = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        a_in[row] = counts.T / np.maximum(counts.sum(0)[:, None], 1)
        click[row, : len(session)] = nodes
        mask[row, : len(session)] = True
    t = torch.from_numpy
    return t(x), t(a_in), t(a_out), t(click), t(mask)


def scores(model: SRGNN, padded: Padded) -> Tensor:
    """Scores [B, V] of SR-GNN's equations on padded matrices.

    Raises:
        ValueError: If the readout of the model has no attention.
    """
    x, a_in, a_out, click, mask = padded
    conv, readout = model.conv, model.session_readout
    if not isinstance(readout, SRGNNReadout):
        raise ValueError(f"The dense form reads by attention, got {readout}: take 'published'.")
    h = model.items.rows(x)  # [B, N, d]
    for _ in range(conv.num_layers):
        m_in = a_in @ conv.lin_in(h) + conv.bias_in
        m_out = a_out @ conv.lin_out(h) + conv.bias_out
        m = torch.cat([m_in, m_out], dim=-1)  # [B, N, 2d]
        h = conv.gru(m.flatten(0, 1), h.flatten(0, 1)).view_as(h)
    v = h.gather(1, click.unsqueeze(-1).expand(-1, -1, h.size(-1)))  # [B, L, d]
    v_last = v[torch.arange(len(v)), mask.sum(1) - 1]  # [B, d]
    gate = (readout.lin_last(v_last).unsqueeze(1) + readout.lin_click(v)).sigmoid()
    alpha = readout.lin_score(gate) * mask.unsqueeze(-1)  # [B, L, 1]
    session = (alpha * v).sum(1)  # [B, d]
    if readout.lin_out is not None:
        session = readout.lin_out(torch.cat([session, v_last], dim=-1))
    return model.items.scores(session)
