"""SR-GNN: session-based recommendation with graph neural networks (Wu et al., AAAI 2019)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.arguments import check_shares, check_sizes
from graphseq.data.graphs.session_graph import newest_clicks
from graphseq.data.logs.times import Duration
from graphseq.models.base import SessionModel, Traits
from graphseq.models.published.loading import from_weights
from graphseq.models.published.srgnn import read_srgnn
from graphseq.models.registry import register
from graphseq.nn.dropout import dropout as drop
from graphseq.nn.edge_weights import EdgeWeight, EdgeWeights
from graphseq.nn.gated_session_conv import GatedSessionConv
from graphseq.nn.item_table import ItemTable
from graphseq.nn.positions import LearnedPositions
from graphseq.nn.ragged import DenseView
from graphseq.nn.readouts import ReadoutKind, session_readout


@register("srgnn")
class SRGNN(SessionModel):
    r"""Scores of SR-GNN (Wu et al., AAAI 2019): :math:`\hat z_j = s^\top e_j`.

    Node states come from :class:`~graphseq.nn.gated_session_conv.GatedSessionConv`, session vectors
    from :mod:`graphseq.nn.readouts`; every parameter is initialized uniformly in
    :math:`\pm d^{-1/2}`.

    With ``normalize``, vector lengths do not matter (NISER, Gupta et al., 2019), so that popular
    items are not preferred. Node states start from normalized embeddings, and scores are cosines
    times ``scale`` (:class:`~graphseq.nn.item_table.ItemTable`). With ``positions`` and ``dropout``
    as well it is NISER+: the readout then uses the position of each click.

    The authors' code counts a repeated transition once; here transitions weigh by their count
    unless ``edge_weight="binary"``, which :meth:`from_published` sets. The authors' code keeps a
    padding item 0; there is no padding item here.

    Args:
        num_items: Items of the catalog.
        hidden_channels: Width ``d`` of embeddings and states.
        num_layers: Number of propagation steps.
        edge_weight: ``"count"``, ``"binary"`` or ``"decayed"``: a transition counts by its age
            before the session's last click (:class:`~graphseq.data.DecayedWeights`).
        half_life: Age at which a decayed transition counts half, in ``half_life_unit``.
        half_life_unit: ``"seconds"``, for graphs with ``click_time``, or ``"clicks"``.
        readout: ``"published"``, ``"softmax"``, ``"last"``, ``"mean"``, ``"sum"``.
        hybrid: Whether the last click is part of the session vector; ``"last"`` uses only that
            click.
        normalize: Whether embeddings and session vectors have length one in scores.
        scale: Factor :math:`\sigma` of normalized scores: the inverse temperature.
        dropout: Dropout rate of node embeddings.
        max_length: Number of newest clicks in the graph, for long histories; ``None``: all.
        positions: ``"start"`` or ``"end"``: learned positions, counted from there, added to the
            clicks' states before the readout; ``"none"``.

    Raises:
        ValueError: If a size, ``scale`` or a half-life is not positive, or ``dropout`` is outside
            [0, 1). Also if ``half_life`` and ``edge_weight`` do not match, positions have no
            ``max_length``, or a name is unknown.
    """

    traits = Traits(
        architecture="gated graph network, attention over clicks",
        parallel=True,
        reach="whole session",
        side_features=False,
        best_for="sessions with repeats and loops",
    )
    samples = "prefixes"

    def __init__(
        self,
        num_items: int,
        hidden_channels: int = 100,
        num_layers: int = 1,
        *,
        edge_weight: EdgeWeight = "count",
        half_life: Duration | None = None,
        half_life_unit: Literal["seconds", "clicks"] = "seconds",
        readout: ReadoutKind = "published",
        hybrid: bool = True,
        normalize: bool = False,
        scale: float = 12.0,
        dropout: float = 0.0,
        max_length: int | None = None,
        positions: Literal["start", "end", "none"] = "none",
    ) -> None:
        super().__init__(num_items)
        check_sizes(max_length=max_length)
        check_shares(dropout=dropout)
        if positions != "none" and max_length is None:
            raise ValueError(
                f"positions={positions!r} have one vector per place: give max_length, the newest "
                "clicks that the model sees, or take positions='none'."
            )
        self.edge_weights = EdgeWeights(edge_weight, half_life, half_life_unit)
        self.reads_times = edge_weight == "decayed" and half_life_unit == "seconds"
        self.conv = GatedSessionConv(hidden_channels, num_layers)
        self.session_readout = session_readout(readout, hidden_channels, hybrid)
        self.items = ItemTable(num_items, hidden_channels, normalize=normalize, scale=scale)  # e
        self.click_positions: LearnedPositions | None = None  # p
        if positions != "none" and max_length is not None:
            self.click_positions = LearnedPositions(max_length, hidden_channels, positions)
        self.dropout = dropout
        self.max_length = max_length
        self.reset_parameters()

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments, with the half-life as a number."""
        return {**super().settings, "half_life": self.edge_weights.half_life}

    def reset_parameters(self) -> None:
        bound = self.items.channels**-0.5
        torch.nn.init.uniform_(self.items.weight, -bound, bound)
        self.conv.reset_parameters()
        self.session_readout.reset_parameters()
        if self.click_positions is not None:
            torch.nn.init.uniform_(self.click_positions.weight, -bound, bound)

    from_published = from_weights(read_srgnn, "SR-GNN")

    def forward(self, batch: Batch) -> Tensor:
        """Session vectors ``s``, [num_sessions, d]."""
        if self.max_length is not None:
            batch = newest_clicks(batch, self.max_length)
        h = self.node_states(batch)  # [num_nodes, d]
        index, session, ptr = batch.click_index, batch.click_batch, batch.click_ptr
        if self.click_positions is not None:
            h, _ = self.click_positions(h.index_select(0, index), DenseView(ptr))  # v_i + p_i
            index = torch.arange(len(h), device=h.device)  # each click is a separate node now
        s: Tensor = self.session_readout(h, index, session, ptr)  # [num_sessions, d]
        return self.items.vectors(s)

    def node_states(self, batch: Batch) -> Tensor:
        """The state of every node, [num_nodes, d]."""
        e = drop(self.items.rows(batch.x), self.dropout, self.training)  # [num_nodes, d]
        h: Tensor = self.conv(e, batch.edge_index, self.edge_weights(batch))
        return h  # [num_nodes, d]
