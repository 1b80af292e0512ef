"""SR-GNN: session-based recommendation with graph neural networks (Wu et al., AAAI 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import Embedding
from torch.nn.functional import normalize as unit_length
from torch_geometric.data import Batch

from graphseq.data.graphs.session_graph import newest_clicks
from graphseq.data.graphs.transforms import DecayedWeights
from graphseq.data.logs.times import Duration
from graphseq.models.base import SessionModel, Traits
from graphseq.models.registry import register
from graphseq.nn.dropout import dropout as drop
from graphseq.nn.gated_session_conv import GatedSessionConv
from graphseq.nn.readouts import ReadoutKind, session_readout

EdgeWeight = Literal["count", "binary", "decayed"]


@register("srgnn")
class SRGNN(SessionModel):
    r"""Scores of SR-GNN (Wu et al., AAAI 2019): :math:`\hat z_j = s^\top e_j`.

    Node states come from :class:`~graphseq.nn.gated_session_conv.GatedSessionConv`, session vectors
    from :mod:`graphseq.nn.readouts`; every parameter starts uniform in
    :math:`\pm d^{-1/2}`.

    With ``normalize``, lengths say nothing (NISER, Gupta et al., 2019), so that items are not
    preferred for being popular:

    .. math::
        \hat z_j = \sigma \, \frac{s^\top e_j}{\lVert s \rVert \lVert e_j \rVert}

    and node states start from normalised embeddings. :meth:`forward` then gives the normalised
    session vector times :math:`\sigma`, :meth:`item_weight` the normalised table: scores are inner
    products as ever.

    The authors' program counts a repeated transition once; here transitions weigh by their count
    unless ``edge_weight="binary"``, which :meth:`from_published` sets. The program keeps a padding
    item 0; here there is none.

    Args:
        num_items: Items of the catalogue.
        hidden_channels: Width ``d`` of embeddings and states.
        num_layers: Steps of propagation.
        edge_weight: ``"count"``, ``"binary"`` or ``"decayed"``: a transition counts by its age
            before the session's last click (:class:`~graphseq.data.DecayedWeights`).
        half_life: Age at which a decayed transition counts half, in ``half_life_unit``.
        half_life_unit: ``"seconds"``, for graphs with ``click_time``, or ``"clicks"``.
        readout: ``"published"``, ``"softmax"`` (the textbook's), ``"last"``, ``"mean"``, ``"sum"``.
        hybrid: Whether the last click joins the session vector; ``"last"`` is that click alone.
        normalize: Whether embeddings and session vectors have length one in scores.
        scale: What :math:`\sigma` normalised scores are multiplied by: the inverse temperature.
        dropout: Share of each node's embedding dropped in training.
        max_length: Newest clicks that make the graph, for histories of hundreds; ``None``: all.

    Raises:
        ValueError: If a size, ``scale`` or a half-life is not positive, ``dropout`` lies outside
            [0, 1), ``half_life`` and ``edge_weight`` do not go together, or a name is unknown.
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
    ) -> None:
        super().__init__(num_items)
        if max_length is not None and max_length < 1:
            raise ValueError(f"max_length must be at least 1, got {max_length}: None cuts nothing.")
        if edge_weight not in get_args(EdgeWeight):
            raise ValueError(f"edge_weight is 'count', 'binary' or 'decayed', got {edge_weight!r}.")
        if (half_life is None) == (edge_weight == "decayed"):
            raise ValueError(
                "half_life is the age at which a decayed transition counts half: it goes with "
                f"edge_weight='decayed' and with no other, got {half_life} and {edge_weight!r}."
            )
        if not scale > 0:
            raise ValueError(f"scale must be positive, got {scale}.")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}.")
        if half_life_unit not in ("seconds", "clicks"):
            raise ValueError(f"half_life_unit is 'seconds' or 'clicks', got {half_life_unit!r}.")
        self._decay = None if half_life is None else DecayedWeights(half_life, half_life_unit)
        self.conv = GatedSessionConv(hidden_channels, num_layers)
        self.session_readout = session_readout(readout, hidden_channels, hybrid)
        self.embedding = Embedding(num_items, hidden_channels)
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.edge_weight = edge_weight
        self.half_life = None if self._decay is None else self._decay.half_life
        self.half_life_unit = half_life_unit
        self.readout = readout
        self.hybrid = hybrid
        self.normalize = normalize
        self.scale = scale
        self.dropout = dropout
        self.max_length = max_length
        self.reset_parameters()

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments, with the half-life as a number."""
        return {**super().settings, "half_life": self.half_life}

    def reset_parameters(self) -> None:
        bound = self.hidden_channels**-0.5
        torch.nn.init.uniform_(self.embedding.weight, -bound, bound)
        self.conv.reset_parameters()
        self.session_readout.reset_parameters()

    @classmethod
    def from_published(
        cls, parameters: Mapping[str, Any], num_layers: int = 1, hybrid: bool = True
    ) -> SRGNN:
        """The model with the weights of the authors' program.

        Args:
            parameters: Name in the program -> array; row 0 of ``embedding.weight`` is its padding.
            num_layers: The program's ``step``.
            hybrid: Whether the program ran without ``nonhybrid``.

        Raises:
            ValueError: If a parameter is missing.
        """
        absent = sorted(set(PUBLISHED_NAMES) - set(parameters))
        if absent:
            raise ValueError(f"The weights of SR-GNN's program lack {', '.join(absent)}.")
        state = {
            ours: torch.as_tensor(parameters[name])
            for name, ours in PUBLISHED_NAMES.items()
            if hybrid or not ours.startswith("session_readout.lin_out")
        }
        state["embedding.weight"] = state["embedding.weight"][1:]
        num_items, hidden_channels = state["embedding.weight"].shape
        model = cls(num_items, hidden_channels, num_layers, edge_weight="binary", hybrid=hybrid)
        model.load_state_dict(state)
        return model

    def forward(self, batch: Batch) -> Tensor:
        """Session vectors ``s``, [num_sessions, d]."""
        if self.max_length is not None:
            batch = newest_clicks(batch, self.max_length)
        h = self.node_states(batch)  # [num_nodes, d]
        index, session, ptr = batch.click_index, batch.click_batch, batch.click_ptr
        s: Tensor = self.session_readout(h, index, session, ptr)  # [num_sessions, d]
        return self.scale * unit_length(s) if self.normalize else s

    def node_states(self, batch: Batch) -> Tensor:
        """The state of every node, [num_nodes, d]."""
        e = drop(self.item_rows(batch.x), self.dropout, self.training)  # [num_nodes, d]
        h: Tensor = self.conv(e, batch.edge_index, self._edge_weights(batch))
        return h  # [num_nodes, d]

    def item_weight(self) -> Tensor:
        table = self.embedding.weight
        return unit_length(table) if self.normalize else table

    def item_rows(self, items: Tensor) -> Tensor:
        rows = self.embedding(items)  # normalised after the look-up: the rest is left alone
        return unit_length(rows, dim=-1) if self.normalize else rows

    def _edge_weights(self, batch: Batch) -> Tensor:
        """[num_edges], as ``edge_weight`` has them."""
        weight: Tensor = batch.edge_weight
        if self.edge_weight == "binary":
            return torch.ones_like(weight)
        if self._decay is not None:
            _, weight = self._decay.edges(batch)
            # A node whose transitions are all too old for float32 still shares out something.
            weight = weight.clamp(min=torch.finfo(weight.dtype).tiny)
        return weight

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.num_items}, {self.hidden_channels}, "
            f"num_layers={self.num_layers})"
        )


PUBLISHED_NAMES = {
    "embedding.weight": "embedding.weight",
    "gnn.linear_edge_in.weight": "conv.lin_in.weight",
    "gnn.linear_edge_in.bias": "conv.lin_in.bias",
    "gnn.linear_edge_out.weight": "conv.lin_out.weight",
    "gnn.linear_edge_out.bias": "conv.lin_out.bias",
    "gnn.b_iah": "conv.bias_in",
    "gnn.b_oah": "conv.bias_out",
    "gnn.w_ih": "conv.gru.weight_ih",
    "gnn.w_hh": "conv.gru.weight_hh",
    "gnn.b_ih": "conv.gru.bias_ih",
    "gnn.b_hh": "conv.gru.bias_hh",
    "linear_one.weight": "session_readout.lin_last.weight",
    "linear_one.bias": "session_readout.lin_last.bias",
    "linear_two.weight": "session_readout.lin_click.weight",
    "linear_two.bias": "session_readout.lin_click.bias",
    "linear_three.weight": "session_readout.lin_score.weight",
    "linear_transform.weight": "session_readout.lin_out.weight",
    "linear_transform.bias": "session_readout.lin_out.bias",
}
"""Parameters in the authors' program -> here; its ``linear_edge_f`` is never used."""
