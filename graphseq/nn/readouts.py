"""Session vectors from node states: SR-GNN's attention, a softmax form of it, and plain pooling."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import Linear
from torch_geometric.utils import softmax

from graphseq.arguments import check_choice, check_sizes
from graphseq.nn.ragged import check_ptr, sum_by_group

ReadoutKind = Literal["published", "softmax", "last", "mean", "sum"]


class SRGNNReadout(torch.nn.Module):
    r"""Session vectors of SR-GNN (Wu et al., AAAI 2019, eq. 6-7): attention without softmax.

    .. math::
        \alpha_i = q^\top \sigma(W_1 v_n + W_2 v_i + c), \quad
        s_g = \sum_i \alpha_i v_i, \quad s = W_3 [s_g ; v_n]

    The sum is over clicks, so that a repeated item counts each time. As in the authors' code, and
    unlike the paper, :math:`W_1` and :math:`W_3` have a bias.

    With ``softmax``, a simplified form: a network over :math:`[v_n ; v_i]` computes weights that
    sum to one,

    .. math::
        \alpha_i = \mathrm{softmax}_i\big(q^\top \tanh(W [v_n ; v_i] + c)\big),
        \quad W = [W_1 \; W_2]

    Args:
        hidden_channels: Width ``d`` of node states and session vectors.
        hybrid: Whether the last click is part of the session vector; if not, ``s = s_g``.
        softmax: Whether to use the softmax form of attention.

    Shapes:
        h [num_nodes, d], index and batch [num_clicks], ptr [num_sessions + 1] -> [num_sessions, d]

    Raises:
        ValueError: If a session is empty or ``ptr`` falls, where it can be read without waiting.
    """

    def __init__(self, hidden_channels: int, hybrid: bool = True, softmax: bool = False) -> None:
        super().__init__()
        check_sizes(hidden_channels=hidden_channels)
        self.softmax = softmax
        self.lin_last = Linear(hidden_channels, hidden_channels)  # W1 (bias: authors' code only)
        self.lin_click = Linear(hidden_channels, hidden_channels)  # W2, c
        self.lin_score = Linear(hidden_channels, 1, bias=False)  # q
        # W3 (bias: authors' code only)
        self.lin_out = Linear(2 * hidden_channels, hidden_channels) if hybrid else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        reset_uniform(self, self.lin_last.in_features)

    def forward(self, h: Tensor, index: Tensor, batch: Tensor, ptr: Tensor) -> Tensor:
        _check_sessions(ptr)
        size = ptr.numel() - 1
        v_last = h.index_select(0, index[ptr[1:] - 1])  # v_n: [num_sessions, d], none is empty
        # W2 v_i is the same for every click on a node, so it is computed once per node.
        w_last, w_node = self.lin_last(v_last), self.lin_click(h)
        inner = w_last.index_select(0, batch) + w_node.index_select(0, index)  # [num_clicks, d]
        if self.softmax:
            alpha = softmax(self.lin_score(inner.tanh()), batch, num_nodes=size)  # [num_clicks, 1]
        else:
            alpha = self.lin_score(inner.sigmoid())  # [num_clicks, 1]
        s_global = sum_by_group(alpha * h.index_select(0, index), batch, size)  # s_g
        if self.lin_out is None:
            return s_global
        session: Tensor = self.lin_out(torch.cat([s_global, v_last], dim=-1))  # s
        return session  # [num_sessions, d]

    def __repr__(self) -> str:
        softmax = ", softmax=True" if self.softmax else ""
        hybrid = self.lin_out is not None
        return f"{type(self).__name__}({self.lin_last.in_features}, hybrid={hybrid}{softmax})"


class PooledReadout(torch.nn.Module):
    r"""Session vectors that weigh all clicks equally, or use only the last one.

    .. math::
        s_g = \tfrac{1}{n} \sum_i v_i \; \text{or} \; \sum_i v_i, \quad s = W_3 [s_g ; v_n]

    ``"last"`` is :math:`s = v_n` and has no parameters.

    Args:
        hidden_channels: Width ``d`` of node states and session vectors.
        hybrid: Whether the last click is part of the session vector; if not, ``s = s_g``.
        pool: ``"mean"``, ``"sum"`` or ``"last"``.

    Shapes:
        h [num_nodes, d], index and batch [num_clicks], ptr [num_sessions + 1] -> [num_sessions, d]

    Raises:
        ValueError: If a session is empty or ``ptr`` falls, where it can be read without waiting.
    """

    def __init__(
        self,
        hidden_channels: int,
        hybrid: bool = True,
        pool: Literal["mean", "sum", "last"] = "mean",
    ) -> None:
        super().__init__()
        check_sizes(hidden_channels=hidden_channels)
        check_choice("pool", pool, ("mean", "sum", "last"))
        self.hidden_channels = hidden_channels
        self.pool = pool
        joins = hybrid and pool != "last"
        self.lin_out = Linear(2 * hidden_channels, hidden_channels) if joins else None  # W3
        self.reset_parameters()

    def reset_parameters(self) -> None:
        reset_uniform(self, self.hidden_channels)

    def forward(self, h: Tensor, index: Tensor, batch: Tensor, ptr: Tensor) -> Tensor:
        _check_sessions(ptr)
        v_last = h.index_select(0, index[ptr[1:] - 1])  # v_n: [num_sessions, d], none is empty
        if self.pool == "last":
            return v_last
        s_global = sum_by_group(h.index_select(0, index), batch, ptr.numel() - 1)  # s_g
        if self.pool == "mean":
            s_global = s_global / ptr.diff().unsqueeze(1)
        if self.lin_out is None:
            return s_global
        session: Tensor = self.lin_out(torch.cat([s_global, v_last], dim=-1))  # s
        return session  # [num_sessions, d]

    def __repr__(self) -> str:
        hybrid = self.lin_out is not None
        return f"{type(self).__name__}({self.hidden_channels}, hybrid={hybrid}, pool={self.pool!r})"


def session_readout(
    kind: ReadoutKind, hidden_channels: int, hybrid: bool = True
) -> SRGNNReadout | PooledReadout:
    """The readout of this kind.

    Args:
        kind: ``"published"``, ``"softmax"``, ``"last"``, ``"mean"`` or ``"sum"``.
        hidden_channels: Width of node states and session vectors.
        hybrid: Whether the last click is part of the session vector.

    Raises:
        ValueError: If there is no such readout.
    """
    if kind not in get_args(ReadoutKind):
        raise ValueError(f"readout is one of {', '.join(get_args(ReadoutKind))}, got {kind!r}.")
    if kind == "published" or kind == "softmax":
        return SRGNNReadout(hidden_channels, hybrid, softmax=kind == "softmax")
    return PooledReadout(hidden_channels, hybrid, kind)


def _check_sessions(ptr: Tensor) -> None:
    # Reading values of an accelerator would wait for it, in every step of training.
    if ptr.device.type == "cpu":
        check_ptr(ptr, least=1)


def reset_uniform(module: torch.nn.Module, hidden_channels: int) -> None:
    """Initializes every parameter as SR-GNN's code does, uniform within ``d ** -0.5`` of zero."""
    bound = hidden_channels**-0.5
    for parameter in module.parameters():
        torch.nn.init.uniform_(parameter, -bound, bound)
