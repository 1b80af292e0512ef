"""GCE-GNN: global context enhanced graph neural networks (Wang et al., SIGIR 2020)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Embedding, Linear
from torch.nn.functional import leaky_relu
from torch_geometric.data import Batch

from graphseq.arguments import check_shares, check_sizes
from graphseq.data.graphs.item_graph import nearest_items
from graphseq.data.graphs.session_graph import newest_clicks
from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.sessions import Sessions
from graphseq.models.base import SessionModel, Traits
from graphseq.models.reading import TrainingRows
from graphseq.models.registry import register
from graphseq.nn.dropout import dropout as drop
from graphseq.nn.item_table import ItemTable
from graphseq.nn.ragged import sum_by_group
from graphseq.nn.readouts import reset_uniform
from graphseq.nn.session_attention_conv import SLOPE, SessionAttentionConv

NODES_AT_ONCE = 128
"""Nodes whose neighbors are aggregated at once, without gradients."""


class GlobalNeighbors(torch.nn.Module):
    r"""Aggregates an item's neighbors in all sessions (Wang et al., SIGIR 2020, eq. 2-5).

    .. math::
        \pi_{ij} = \mathrm{softmax}_j\big(q_1^\top \mathrm{LeakyReLU}(
            W_1 [\bar s \odot e_j ; w_{ij}])\big), \quad
        h_i = \mathrm{relu}\big(W_2 [e_i ; \sum_j \pi_{ij} e_j]\big)

    with :math:`\bar s` the mean embedding of the session's clicks. The sum of an item without
    neighbors is zero.

    Args:
        hidden_channels: Width ``d`` of embeddings and states.

    Shapes:
        e and mean [num_nodes, d], neighbors [num_nodes, M, d], weight [num_nodes, M] (0: none)
        -> [num_nodes, d]
    """

    def __init__(self, hidden_channels: int) -> None:
        super().__init__()
        self.lin_neighbor = Linear(hidden_channels + 1, hidden_channels, bias=False)  # W1
        self.lin_score = Linear(hidden_channels, 1, bias=False)  # q1
        self.lin_out = Linear(2 * hidden_channels, hidden_channels, bias=False)  # W2
        self.reset_parameters()

    def reset_parameters(self) -> None:
        reset_uniform(self, self.lin_score.in_features)

    def forward(self, e: Tensor, mean: Tensor, neighbors: Tensor, weight: Tensor) -> Tensor:
        return self.combine(e, self.around(mean, neighbors, weight))  # [num_nodes, d]

    def around(self, mean: Tensor, neighbors: Tensor, weight: Tensor) -> Tensor:
        """The sum over the neighbors, [num_nodes, d]."""
        of_item, of_weight = self.lin_neighbor.weight.split([mean.size(1), 1], dim=1)  # W1
        asked = (mean.unsqueeze(1) * neighbors).flatten(0, 1)  # [num_nodes * M, d]
        inner = torch.addmm(weight.view(-1, 1) * of_weight.view(1, -1), asked, of_item.t())
        inner = leaky_relu(inner, SLOPE, inplace=True)  # [num_nodes * M, d]
        exists = weight > 0
        logits = self.lin_score(inner).view_as(weight)  # [num_nodes, M]
        logits = logits.masked_fill(~exists, torch.finfo(logits.dtype).min)
        pi = logits.softmax(1) * exists  # [num_nodes, M]; a row without neighbors: zeros
        return (pi.unsqueeze(1) @ neighbors).squeeze(1)

    def combine(self, e: Tensor, around: Tensor) -> Tensor:
        """The state of each node by its own embedding and this sum, [num_nodes, d]."""
        h: Tensor = self.lin_out(torch.cat([e, around], dim=1)).relu()
        return h

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.lin_score.in_features})"


@register("gcegnn")
class GCEGNN(SessionModel):
    r"""Scores of GCE-GNN (Wang et al., SIGIR 2020): :math:`\hat z_j = s^\top e_j`.

    A node's state is the sum of a state from its neighbors in all training sessions
    (:class:`GlobalNeighbors`) and a state from its own session
    (:class:`~graphseq.nn.session_attention_conv.SessionAttentionConv`). Attention over the clicks
    uses their distance from the end, :math:`p_{n-i}`:

    .. math::
        z_i = \tanh(W_3 [v_i ; p_{n-i}] + b_3), \quad
        \beta_i = q_2^\top \sigma(W_4 z_i + W_5 \bar v + b_4), \quad s = \sum_i \beta_i v_i

    with :math:`\bar v` the mean of the :math:`v_i`. Every parameter is initialized uniformly in
    :math:`\pm d^{-1/2}`.

    :meth:`attach` counts the global graph of the training sessions; ``fit`` calls it before
    training. The graph is saved with the weights.

    With ``normalize``, vector lengths do not matter (NISER, Gupta et al., 2019), as in
    :class:`~graphseq.models.SRGNN`: nodes, neighbors and means are of normalized embeddings, and
    scores are cosines times ``scale``.

    Different from the paper: :math:`w_{ij}` is the logarithm of one plus the count, since counts
    grow with the log; and global neighbors lie one hop away.

    Args:
        num_items: Items of the catalog.
        hidden_channels: Width ``d`` of embeddings and states.
        num_neighbors: Number of global neighbors per item: the items that are near it most often.
        steps: Maximum distance of near items, in clicks.
        dropout: Dropout rate of the global part of node states.
        max_length: Newest clicks that the model sees; each has its own position.
        normalize: Whether embeddings and session vectors have length one in scores.
        scale: Factor :math:`\sigma` of normalized scores: the inverse temperature.

    Raises:
        ValueError: If a size or ``scale`` is not positive, or ``dropout`` is outside [0, 1).
    """

    traits = Traits(
        architecture="graph attention in the session and over all sessions",
        parallel=True,
        reach="newest max_length clicks",
        side_features=False,
        best_for="short sessions that say little without what others did",
    )
    samples = "prefixes"

    neighbors: Tensor
    neighbor_weight: Tensor
    max_length: int

    def __init__(
        self,
        num_items: int,
        hidden_channels: int = 100,
        *,
        num_neighbors: int = 12,
        steps: int = 3,
        dropout: float = 0.5,
        max_length: int = 50,
        normalize: bool = False,
        scale: float = 12.0,
    ) -> None:
        super().__init__(num_items)
        check_sizes(hidden_channels=hidden_channels, num_neighbors=num_neighbors)
        check_sizes(steps=steps, max_length=max_length)
        check_shares(dropout=dropout)
        self.num_neighbors = num_neighbors
        self.steps = steps
        self.dropout = dropout
        self.max_length = max_length
        d = hidden_channels
        self.items = ItemTable(num_items, d, normalize=normalize, scale=scale)  # e
        self.positions = Embedding(max_length, d)  # p
        self.global_neighbors = GlobalNeighbors(d)
        self.conv = SessionAttentionConv(d)
        self.lin_state = Linear(d, d)  # W3, left half, b3
        self.lin_position = Linear(d, d, bias=False)  # W3, right half
        self.lin_click = Linear(d, d)  # W4, b4
        self.lin_mean = Linear(d, d, bias=False)  # W5
        self.lin_score = Linear(d, 1, bias=False)  # q2
        shape = (num_items, num_neighbors)
        self.register_buffer("neighbors", torch.zeros(shape, dtype=torch.int32))
        self.register_buffer("neighbor_weight", torch.zeros(shape))  # 0: no neighbor
        self.knows_neighbors = False
        self.reset_parameters()

    def reset_parameters(self) -> None:
        reset_uniform(self, self.items.channels)

    def attach(self, catalog: Catalog | None, sessions: Sessions | None = None) -> None:
        """Counts the global graph of the training sessions.

        Raises:
            ValueError: If they have another number of items.
        """
        super().attach(catalog, sessions)
        if sessions is None:
            return
        if sessions.num_items != self.num_items:
            raise ValueError(
                f"The model has {self.num_items} items, the sessions {sessions.num_items}: build "
                "it with num_items=split.num_items."
            )
        neighbors, counts = nearest_items(sessions, self.steps, self.num_neighbors)
        self.neighbors.copy_(torch.from_numpy(neighbors))
        self.neighbor_weight.copy_(torch.from_numpy(counts).log1p())

    def training_rows(self, batch: Batch, generator: torch.Generator) -> TrainingRows:
        """As for every model.

        Raises:
            ValueError: If the global graph is not counted yet.
        """
        if not self.knows_neighbors:
            self.knows_neighbors = bool(self.neighbor_weight.any())
        if not self.knows_neighbors:
            raise ValueError(
                f"{type(self).__name__} counts which items stand near each other in the training "
                "sessions, and a loader of batches has none: call model.attach(sessions.catalog(), "
                "sessions) first."
            )
        return super().training_rows(batch, generator)

    def forward(self, batch: Batch) -> Tensor:
        """Session vectors ``s``, [num_sessions, d]."""
        batch = newest_clicks(batch, self.max_length)
        index, session, ptr = batch.click_index, batch.click_batch, batch.click_ptr
        lengths = ptr.diff().unsqueeze(1)  # [num_sessions, 1]
        size = lengths.size(0)
        v_node = self.node_states(batch)  # [num_nodes, d]
        v = v_node.index_select(0, index)  # v_i: [num_clicks, d]
        from_end = ptr[1:][session] - 1 - torch.arange(index.numel(), device=index.device)
        # Both halves of W3 are computed once per node and once per position, not once per click.
        p = self.lin_position(self.positions.weight)  # [max_length, d]
        z = self.lin_state(v_node).index_select(0, index) + p.index_select(0, from_end)
        mean = sum_by_group(v, session, size) / lengths  # [num_sessions, d]
        gate = self.lin_click(z.tanh()) + self.lin_mean(mean).index_select(0, session)
        beta = self.lin_score(gate.sigmoid())  # [num_clicks, 1]
        s = sum_by_group(beta * v, session, size)  # [num_sessions, d]
        return self.items.vectors(s)

    def node_states(self, batch: Batch) -> Tensor:
        """The state of every node, from all sessions and from its own session, [num_nodes, d]."""
        index, session, ptr = batch.click_index, batch.click_batch, batch.click_ptr
        e = self.items.rows(batch.x)  # [num_nodes, d]
        clicks = e.index_select(0, index)  # [num_clicks, d]
        mean = sum_by_group(clicks, session, ptr.numel() - 1) / ptr.diff().unsqueeze(1)
        node_session = index.new_empty(e.size(0)).index_copy_(0, index, session)
        near = self.neighbors.index_select(0, batch.x).long()  # [num_nodes, M]
        weight = self.neighbor_weight.index_select(0, batch.x)  # [num_nodes, M]
        mean = mean.index_select(0, node_session)  # [num_nodes, d]
        if torch.is_grad_enabled() or torch.compiler.is_exporting():  # sizes are symbols then
            around = self.global_neighbors.around(mean, self.items.rows(near), weight)
        else:  # blocks of nodes stay in the cache, which halves the time
            blocks = zip(*(part.split(NODES_AT_ONCE) for part in (mean, near, weight)), strict=True)
            around = torch.cat(
                [self.global_neighbors.around(m, self.items.rows(n), w) for m, n, w in blocks]
            )
        h = drop(self.global_neighbors.combine(e, around), self.dropout, self.training)
        states: Tensor = h + self.conv(e, batch.edge_index)
        return states  # [num_nodes, d]

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.num_items}, {self.hidden_channels}, "
            f"num_neighbors={self.num_neighbors})"
        )
