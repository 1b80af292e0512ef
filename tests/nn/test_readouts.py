"""Readouts against the equations, one session at a time."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor

from graphseq.nn.readouts import PooledReadout, ReadoutKind, SRGNNReadout, session_readout

LENGTHS = [4, 1, 7, 2]
KINDS = get_args(ReadoutKind)


def ragged(lengths: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Node of each click (a session has three nodes, some clicked again), session, pointer."""
    index = torch.cat([3 * s + torch.arange(n) % 3 for s, n in enumerate(lengths)])
    batch = torch.repeat_interleave(torch.tensor(lengths))
    return index, batch, torch.tensor([0, *torch.tensor(lengths).cumsum(0)])


def naive(readout: SRGNNReadout | PooledReadout, kind: str, v: Tensor) -> Tensor:
    """``s`` of one session from the states of its clicks, [n, d]."""
    v_last = v[-1]
    if kind == "last":
        return v_last
    s_global = torch.zeros_like(v_last)
    if isinstance(readout, PooledReadout):
        for v_i in v:
            s_global = s_global + v_i / (len(v) if kind == "mean" else 1)
    else:
        q, w1, w2 = readout.lin_score.weight[0], readout.lin_last, readout.lin_click
        if kind == "published":
            alpha = [q @ torch.sigmoid(w1(v_last) + w2(v_i)) for v_i in v]
        else:
            w = torch.cat([w1.weight, w2.weight], dim=1)
            logits = [q @ torch.tanh(w @ torch.cat([v_last, v_i]) + w1.bias + w2.bias) for v_i in v]
            alpha = [x.exp() / sum(y.exp() for y in logits) for x in logits]
        for weight, v_i in zip(alpha, v, strict=True):
            s_global = s_global + weight * v_i
    if readout.lin_out is None:
        return s_global
    return readout.lin_out(torch.cat([s_global, v_last]))


@pytest.mark.parametrize("hybrid", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_readout_equals_its_equation_session_by_session(kind: str, hybrid: bool) -> None:
    torch.manual_seed(0)
    readout = session_readout(kind, 5, hybrid)
    h = torch.randn(3 * len(LENGTHS), 5)
    index, batch, ptr = ragged(LENGTHS)
    expected = [naive(readout, kind, v) for v in h[index].split(LENGTHS)]
    torch.testing.assert_close(readout(h, index, batch, ptr), torch.stack(expected))


@pytest.mark.parametrize("kind", KINDS)
def test_readout_of_no_sessions_gives_none(kind: str) -> None:
    index, batch, ptr = torch.zeros(0).long(), torch.zeros(0).long(), torch.tensor([0])
    assert session_readout(kind, 5)(torch.zeros(0, 5), index, batch, ptr).shape == (0, 5)


def test_readout_softmax_stays_finite_where_weights_are_far_apart() -> None:
    readout = session_readout("softmax", 5, hybrid=False)
    assert isinstance(readout, SRGNNReadout)
    torch.nn.init.constant_(readout.lin_score.weight, 1e4)
    h = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    assert readout(h, *ragged([3])).isfinite().all()


def test_readout_unknown_kind_raises_naming_all() -> None:
    with pytest.raises(ValueError, match="one of published, softmax, last, mean, sum, got 'max'"):
        session_readout("max", 5)  # type: ignore[arg-type]


def test_readout_repr_is_one_line() -> None:
    assert repr(session_readout("softmax", 4)) == "SRGNNReadout(4, hybrid=True, softmax=True)"
    assert repr(session_readout("sum", 4)) == "PooledReadout(4, hybrid=True, pool='sum')"
    assert repr(session_readout("last", 4)) == "PooledReadout(4, hybrid=False, pool='last')"
