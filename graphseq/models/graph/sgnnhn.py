"""SGNN-HN: star graph neural networks with highway networks (Pan et al., CIKM 2020)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Embedding, Linear
from torch_geometric.data import Batch

from graphseq.arguments import check_shares, check_sizes
from graphseq.data.graphs.session_graph import newest_clicks
from graphseq.models.base import SessionModel, Traits
from graphseq.models.published.loading import from_weights
from graphseq.models.published.sgnnhn import read_sgnnhn
from graphseq.models.registry import register
from graphseq.nn.dropout import dropout as drop
from graphseq.nn.item_table import ItemTable
from graphseq.nn.ragged import sum_by_group
from graphseq.nn.readouts import reset_uniform
from graphseq.nn.star_session_conv import StarSessionConv


@register("sgnnhn")
class SGNNHN(SessionModel):
    r"""Scores of SGNN-HN (Pan et al., CIKM 2020).

    Node states :math:`h` and the star node :math:`x_s` come from
    :class:`~graphseq.nn.star_session_conv.StarSessionConv`. Clicks have positions in the window of
    the newest ``max_length`` clicks, and attention over them has no softmax:

    .. math::
        v_i &= h_{n(i)} + p_i, \quad
        \alpha_i = q^\top \sigma(W_1 v_n + W_2 x_s + W_3 v_i + b) \\
        s &= W_4 \big[\textstyle\sum_i \alpha_i v_i ; v_n\big] + b_4, \quad
        \hat z_j = \tau \cos(s - \bar s, \; e_j - \bar e_j)

    where :math:`\bar s` and :math:`\bar e_j` are the means of a vector's own channels. Every
    parameter is initialized uniformly in :math:`\pm d^{-1/2}`.

    As in the authors' code, and unlike the paper: vectors are centered before they are normalized,
    and repeated transitions count once (``edge_weight="binary"`` of SR-GNN).

    Args:
        num_items: Items of the catalog.
        hidden_channels: Width ``d`` of embeddings and states.
        num_layers: Number of propagation steps.
        scale: Factor :math:`\tau` of the cosines: the inverse temperature.
        dropout: Dropout rate of node embeddings.
        max_length: Newest clicks that the model sees; each has its own position.

    Raises:
        ValueError: If a size or ``scale`` is not positive, or ``dropout`` is outside [0, 1).
    """

    traits = Traits(
        architecture="gated graph network with a star node, attention over clicks",
        parallel=True,
        reach="newest max_length clicks",
        side_features=False,
        best_for="short sessions whose clicks belong together however far apart they are",
    )
    samples = "prefixes"

    max_length: int

    def __init__(
        self,
        num_items: int,
        hidden_channels: int = 100,
        num_layers: int = 1,
        *,
        scale: float = 12.0,
        dropout: float = 0.0,
        max_length: int = 10,
    ) -> None:
        super().__init__(num_items)
        check_sizes(max_length=max_length)
        check_shares(dropout=dropout)
        self.dropout = dropout
        self.max_length = max_length
        d = hidden_channels
        self.conv = StarSessionConv(d, num_layers)
        self.items = ItemTable(num_items, d, normalize=True, center=True, scale=scale)  # e
        self.positions = Embedding(max_length, d)  # p
        self.lin_last = Linear(d, d)  # W1
        self.lin_star = Linear(d, d)  # W2
        self.lin_click = Linear(d, d)  # W3; the three biases are b together
        self.lin_score = Linear(d, 1, bias=False)  # q
        self.lin_out = Linear(2 * d, d)  # W4, b4
        self.reset_parameters()

    def reset_parameters(self) -> None:
        reset_uniform(self, self.items.channels)

    from_published = from_weights(read_sgnnhn, "SGNN-HN")

    def forward(self, batch: Batch) -> Tensor:
        """Session vectors, centered, of length :math:`\tau`: [num_sessions, d]."""
        batch = newest_clicks(batch, self.max_length)
        index, session, ptr = batch.click_index, batch.click_batch, batch.click_ptr
        size = ptr.numel() - 1
        e = drop(self.items(batch.x), self.dropout, self.training)  # [num_nodes, d]
        once = torch.ones_like(batch.edge_weight)
        h, star = self.conv(e, batch.edge_index, once, batch.batch, size)
        place = torch.arange(index.numel(), device=index.device) - ptr[session]
        v = h.index_select(0, index) + self.positions(place)  # v_i: [num_clicks, d]
        v_last = v.index_select(0, ptr[1:] - 1)  # v_n: [num_sessions, d]
        of_session = self.lin_last(v_last) + self.lin_star(star)  # [num_sessions, d]
        inner = of_session.index_select(0, session) + self.lin_click(v)  # [num_clicks, d]
        alpha = self.lin_score(inner.sigmoid())  # [num_clicks, 1]
        s_global = sum_by_group(alpha * v, session, size)  # [num_sessions, d]
        s = self.lin_out(torch.cat([s_global, v_last], dim=1))  # [num_sessions, d]
        return self.items.vectors(s)
