"""TAGNN: target attentive graph neural networks for session recommendation (Yu et al., 2020)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Linear
from torch.utils.checkpoint import checkpoint
from torch_geometric.data import Batch
from torch_geometric.utils import scatter

from graphseq.data.graphs.session_graph import newest_clicks
from graphseq.data.logs.times import Duration
from graphseq.models.base import Traits
from graphseq.models.graph.srgnn import SRGNN
from graphseq.models.registry import register
from graphseq.nn.edge_weights import EdgeWeight
from graphseq.nn.ragged import DenseView
from graphseq.ragged import ptr_of

BLOCK_ELEMENTS = 2**22
"""Maximum number of nodes x items held at once: a few such blocks fit in a CPU's cache."""

BLOCK_ELEMENTS_EACH = 2**24
"""Maximum size of embeddings of per-session candidates: every block of them has a gradient of the
whole table, so blocks should be few."""


@register("tagnn")
class TAGNN(SRGNN):
    r"""Scores of TAGNN (Yu et al., SIGIR 2020): a separate session vector for every candidate.

    Node states, :math:`s_g` and :math:`v_n` are the same as in SR-GNN. Each candidate :math:`j`
    attends to the session's clicks, and a repeated item counts once per click (eq. 8-11):

    .. math::
        \beta_{ij} = \mathrm{softmax}_i(e_j^\top W v_i), \quad
        s_j = W_t \sum_i \beta_{ij} v_i + W_3 [s_g ; v_n], \quad \hat z_j = s_j^\top e_j

    No :math:`s_j` is ever computed: with :math:`r = W_3 [s_g ; v_n]`,

    .. math::
        \hat z_j = r^\top e_j + \sum_i \beta_{ij} (W_t v_i)^\top e_j

    which needs two products of node states with item embeddings, block by block of items. In
    training the backward pass recomputes each block.

    Different from the authors' code, which adds the attended states directly (:math:`W_t = 1`),
    also uses a softmax for :math:`s_g`, and includes padded clicks in both.

    Args:
        num_items: Items of the catalog.
        hidden_channels: Width ``d`` of embeddings and states.
        num_layers: Number of propagation steps.
        edge_weight, half_life, half_life_unit: As in :class:`~graphseq.models.SRGNN`.
        dropout: Dropout rate of node embeddings.
        max_length: Number of newest clicks in the graph; ``None``: all.

    Raises:
        ValueError: As in :class:`~graphseq.models.SRGNN`.
    """

    traits = Traits(
        architecture="gated graph network, attention of each candidate over clicks",
        parallel=True,
        reach="whole session",
        side_features=False,
        best_for="re-ranking, or catalogs small enough for several products of all items",
    )

    num_roundings = 16

    def __init__(
        self,
        num_items: int,
        hidden_channels: int = 100,
        num_layers: int = 1,
        *,
        edge_weight: EdgeWeight = "count",
        half_life: Duration | None = None,
        half_life_unit: Literal["seconds", "clicks"] = "seconds",
        dropout: float = 0.0,
        max_length: int | None = None,
    ) -> None:
        super().__init__(
            num_items,
            hidden_channels,
            num_layers,
            edge_weight=edge_weight,
            half_life=half_life,
            half_life_unit=half_life_unit,
            dropout=dropout,
            max_length=max_length,
        )
        self.lin_attention = Linear(hidden_channels, hidden_channels, bias=False)  # W
        self.lin_target = Linear(hidden_channels, hidden_channels, bias=False)  # W_t

    def reset_parameters(self) -> None:
        super().reset_parameters()
        for module in self.children():
            if isinstance(module, Linear):
                module.reset_parameters()  # torch's default, uniform within d ** -0.5

    def forward(self, batch: Batch) -> Tensor:
        """The part of the session vectors that all candidates share, [num_sessions, d]."""
        return super().forward(batch)

    def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
        """Scores of the next item of every session.

        Args:
            batch: Session graphs.
            items: ``None``: all items; else candidates, [C] for all or [num_sessions, C].

        Returns:
            [num_sessions, num_items] or [num_sessions, C].
        """
        if self.max_length is not None:
            batch = newest_clicks(batch, self.max_length)
        h = self.node_states(batch)  # v: [num_nodes, d]
        index, click_session, ptr = batch.click_index, batch.click_batch, batch.click_ptr
        rest = self.session_readout(h, index, click_session, ptr)  # W_3 [s_g ; v_n]
        session = index.new_empty(h.size(0)).index_copy_(0, index, click_session)  # [num_nodes]
        # A node counts once for each of its clicks, inside the softmax.
        log_clicks = torch.bincount(index, minlength=h.size(0)).to(h.dtype).log()  # [num_nodes]
        states = (self.lin_attention(h), self.lin_target(h), rest, log_clicks, session)
        if items is None or items.dim() == 1:
            table = self.items.rows(items)
            width = len(table)
            if not torch.compiler.is_exporting():  # sizes are symbols then
                width = max(1, BLOCK_ELEMENTS // max(1, h.size(0)))
            blocks = [_checkpoint(_alike, *states, rows) for rows in table.split(width)]
        else:
            view = DenseView(_pointer(session, rest.size(0)))
            longest = max(self.items.channels, view.width)
            width = max(1, BLOCK_ELEMENTS_EACH // (longest * max(1, rest.size(0))))
            blocks = [
                _checkpoint(self._of_each, view, *states, part) for part in items.split(width, 1)
            ]
        return torch.cat(blocks, dim=1)

    def _of_each(
        self,
        view: DenseView,
        asks: Tensor,
        gives: Tensor,
        rest: Tensor,
        log_clicks: Tensor,
        session: Tensor,
        items: Tensor,
    ) -> Tensor:
        """Scores of separate candidates per session, [num_sessions, C]."""
        e = self.items.rows(items).transpose(1, 2)  # [num_sessions, d, C]
        absent = torch.where(view.mask, 0.0, -torch.inf).unsqueeze(2)  # [num_sessions, nodes, 1]
        logits = view.dense(asks) @ e + view.dense(log_clicks).unsqueeze(2) + absent
        target = (logits.softmax(1) * (view.dense(gives) @ e)).sum(1)
        return (rest.unsqueeze(1) @ e).squeeze(1) + target


def _alike(
    asks: Tensor, gives: Tensor, rest: Tensor, log_clicks: Tensor, session: Tensor, rows: Tensor
) -> Tensor:
    """Scores of the same items for all sessions.

    Args:
        asks: :math:`W v_i`, [num_nodes, d].
        gives: :math:`W_t v_i`, [num_nodes, d].
        rest: The part of the session vectors that all candidates share, [num_sessions, d].
        log_clicks: Logarithm of the clicks on each node, [num_nodes].
        session: The session of each node, int64 [num_nodes].
        rows: Item embeddings, [C, d].

    Returns:
        [num_sessions, C].
    """
    size, e = rest.size(0), rows.t()
    logits = asks @ e + log_clicks.unsqueeze(1)  # [num_nodes, C]
    top = scatter(logits.detach(), session, dim_size=size, reduce="max")  # [num_sessions, C]
    beta = (logits - top.index_select(0, session)).exp()  # [num_nodes, C], not yet divided
    attended = scatter(beta * (gives @ e), session, dim_size=size)  # [num_sessions, C]
    return rest @ e + attended / scatter(beta, session, dim_size=size)


def _checkpoint(function: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """The function's value; the backward pass recomputes its intermediate results."""
    if not torch.is_grad_enabled():
        return function(*arguments)
    value: Tensor = checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
    return value


def _pointer(session: Tensor, num_sessions: int) -> Tensor:
    """First node of each session, and the end, int64 [num_sessions + 1]."""
    lengths = torch.bincount(session, minlength=num_sessions)
    return ptr_of(lengths)
