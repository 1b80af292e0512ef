"""GRU4Rec: session-based recommendation with recurrent networks (Hidasi et al., ICLR 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Embedding, ModuleList
from torch.nn.functional import pad
from torch.nn.utils.rnn import PackedSequence
from torch_geometric.data import Batch

from graphseq.arguments import check_shares, check_sizes
from graphseq.deprecation import renamed
from graphseq.models.base import SessionModel, Traits
from graphseq.models.live_clicks import LayeredState
from graphseq.models.published.gru4rec import read_gru4rec
from graphseq.models.published.loading import from_weights
from graphseq.models.registry import register
from graphseq.nn.dropout import dropout
from graphseq.nn.item_table import ItemTable
from graphseq.nn.packed_gru import PackedGRU
from graphseq.nn.ragged import packed_order


@register("gru4rec")
class GRU4Rec(LayeredState, SessionModel):
    r"""Scores of GRU4Rec (Hidasi et al., ICLR 2016; Hidasi & Karatzoglou, CIKM 2018).

    .. math::
        h_t = \mathrm{GRU}(x_t, h_{t-1}), \quad \hat r_{t,j} = w_j^\top h_t + b_j

    where :math:`x_t` is the embedding of the t-th click's item and :math:`h_0 = 0`. Scores have no
    final activation, as in the authors' PyTorch code of 2023, and parameters are initialized as
    there: weights uniform in :math:`\pm \sqrt{6 / (in + out)}` for each gate and table, biases
    zero.

    It trains on whole sessions, packed step by step with the longest first, with gradients through
    all clicks. On batches of a :class:`~graphseq.data.SessionParallelLoader` it trains click by
    click, as the authors' code does: each lane keeps its state from step to step, and gradients
    flow through one click only.

    ``dropout`` applies to a layer's output to the next layer and to the scores. Click by click it
    also applies to the carried state, as in the authors' code. Over whole sessions it does not,
    because torch's GRU supports no mask between two clicks. The paper's one-hot input equals a
    separate table with one value per gate and unit; :meth:`from_published` converts it.

    With ``normalize``, scores are cosines times :math:`\sigma`, and the bias,

    .. math::
        \hat r_{t,j} = \sigma \, \frac{w_j^\top h_t}{\lVert w_j \rVert \lVert h_t \rVert} + b_j

    as in NISER (Gupta et al., 2019), which has no bias; input embeddings are not normalized.

    Args:
        num_items: Items of the catalog.
        hidden_channels: Width ``d`` of states and of the output table.
        num_layers: Number of stacked GRU layers of that width.
        embedding: ``"tied"``: the output table :math:`w` is the input table too;
            ``"separate"``: the input has its own table.
        embedding_channels: Width of the input's own table; ``None``: ``hidden_channels``.
        lower_channels: Widths of further GRU layers below, lowest first.
        dropout: Dropout rate of each layer's output.
        input_dropout: Dropout rate of embeddings.
        normalize: Whether states and output table have length one in scores.
        scale: Factor :math:`\sigma` of normalized scores: the inverse temperature.

    Raises:
        ValueError: If a size or ``scale`` is not positive, a dropout rate is outside [0, 1),
            ``embedding`` is unknown, or ``embedding_channels`` is given for a tied table.
    """

    traits = Traits(
        architecture="recurrent (GRU)",
        parallel=False,
        reach="whole session, fading",
        side_features=False,
        best_for="live streams: a state of fixed size, one step a click",
    )
    samples = "sessions"
    causal = True
    keeps_state = True

    @renamed(values={"embedding": {"constrained": "tied"}})
    def __init__(
        self,
        num_items: int,
        hidden_channels: int = 100,
        num_layers: int = 1,
        *,
        embedding: Literal["tied", "separate"] = "tied",
        embedding_channels: int | None = None,
        lower_channels: Sequence[int] | None = None,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        normalize: bool = False,
        scale: float = 20.0,
    ) -> None:
        super().__init__(num_items)
        d, lower = hidden_channels, list(lower_channels or ())
        width = d if embedding_channels is None else embedding_channels
        check_sizes(hidden_channels=d, num_layers=num_layers, embedding_channels=width)
        for channels in lower:
            check_sizes(lower_channels=channels)
        check_shares(dropout=dropout, input_dropout=input_dropout)
        if embedding == "tied" and width != d:
            raise ValueError(
                "A tied embedding is the output table and as wide, but embedding_channels is "
                f"{width} and hidden_channels {d}: leave it out, or take embedding='separate'."
            )
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.items = ItemTable(num_items, d, bias=True, normalize=normalize, scale=scale)  # w, b
        self.input_embedding = Embedding(num_items, width) if embedding == "separate" else None
        widths = [width, *lower]
        self.lower = ModuleList(PackedGRU(*pair) for pair in pairwise(widths))
        self.gru = PackedGRU(widths[-1], d, num_layers)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:
                torch.nn.init.zeros_(parameter)
                continue
            gates = 3 if name.startswith(("gru.", "lower.")) else 1
            bound = (6 / (parameter.size(0) / gates + parameter.size(1))) ** 0.5
            torch.nn.init.uniform_(parameter, -bound, bound)

    from_published = from_weights(read_gru4rec, "GRU4Rec")

    def forward(self, batch: Batch) -> Tensor:
        """The state after the last click of every session, [num_sessions, d]."""
        return self.click_states(batch)[batch.click_ptr[1:] - 1]

    def click_states(self, batch: Batch) -> Tensor:
        """The state after every click, [num_clicks, d]."""
        x = self._input(batch.click_item)  # [num_clicks, d]
        if x.size(0) == 0:
            return x.new_empty(0, self.items.channels)
        click, sizes = packed_order(batch.click_ptr)
        packed = PackedSequence(x[click], sizes)
        for layer in self.lower:
            packed = PackedSequence(self._drop(layer(packed).data), sizes)
        states = self._upper(packed)
        h = torch.empty_like(states).index_copy(0, click, states)
        return self.items.vectors(self._drop(h))  # [num_clicks, d]

    def _upper(self, packed: PackedSequence) -> Tensor:
        """States of the layers of full width, in the order of the given clicks, [num_clicks, d]."""
        if self.gru.num_layers == 1 or not self.training or self.dropout == 0:
            states: Tensor = self.gru(packed).data
            return states
        # torch's own dropout between layers draws from a generator that all threads share.
        states, sizes = packed.data, packed.batch_sizes
        for place in range(self.gru.num_layers):
            states = states if place == 0 else self._drop(states)
            states = self.gru.layer(place, states, sizes)
        return states

    def initial_state(self, num_sessions: int | None = None, *, user: Any = -1) -> Tensor:
        """The state before any click, zeros: [layers, widest], or [layers, num_sessions, widest].

        A layer narrower than the widest uses the front of its row.
        """
        size = () if num_sessions is None else (num_sessions,)
        widths = [gru.hidden_size for gru, _ in self._cells()]
        return self.items.weight.new_zeros(len(widths), *size, max(widths))

    def step(self, state: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors [num_sessions, d] and state [layers, num_sessions, widest] one click later.

        In training, dropout falls on the new state of each layer. An item of -1 is not a click.
        """
        x = self._input(items.clamp(min=0))  # [num_sessions, in_channels]
        layers = []
        for (gru, place), h in zip(self._cells(), state, strict=True):
            h = h[:, : gru.hidden_size].contiguous()
            x = self._drop(torch.gru_cell(x, h, *gru.weights(place)))
            layers.append(pad(x, (0, state.size(-1) - gru.hidden_size)))
        state = torch.where((items >= 0).unsqueeze(-1), torch.stack(layers), state)
        return self.vectors_of_state(state), state

    def vectors_of_state(self, state: Tensor) -> Tensor:
        """The part of a state that is scored: the last layer's, [num_sessions, d]."""
        return self.items.vectors(state[-1][:, : self.items.channels])

    def _cells(self) -> list[tuple[PackedGRU, int]]:
        """Every layer, lowest first: the module that has its weights, and its number there."""
        lower = [(layer, 0) for layer in self.lower if isinstance(layer, PackedGRU)]
        return [*lower, *((self.gru, place) for place in range(self.gru.num_layers))]

    def _input(self, items: Tensor) -> Tensor:
        table = self.items if self.input_embedding is None else self.input_embedding
        return dropout(table(items), self.input_dropout, self.training)

    def _drop(self, h: Tensor) -> Tensor:
        return dropout(h, self.dropout, self.training)
