"""GRU4Rec: session-based recommendation with recurrent networks (Hidasi et al., ICLR 2016)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import GRU, Embedding, Parameter
from torch.nn.utils.rnn import PackedSequence
from torch_geometric.data import Batch

from graphseq.models.base import SessionModel, TrainedOn, Traits
from graphseq.nn.ragged import packed_order


class GRU4Rec(SessionModel):
    r"""Scores of GRU4Rec (Hidasi et al., ICLR 2016; Hidasi & Karatzoglou, CIKM 2018).

    .. math::
        h_t = \mathrm{GRU}(x_t, h_{t-1}), \quad \hat r_{t,j} = w_j^\top h_t + b_j

    where :math:`x_t` is the embedding of the t-th click's item and :math:`h_0 = 0`. Scores carry
    no final activation, as in the authors' PyTorch program of 2023, and parameters start as there:
    weights uniform in :math:`\pm \sqrt{6 / (in + out)}` for each gate and table, biases zero.

    Different from the program: whole sessions are packed step by step, longest first; the lanes of
    its session-parallel batches are :meth:`update_state` on a state with one row a lane.
    ``dropout`` falls on what a layer hands to the next and to the scores; the program also drops it
    from the state carried on to the next click. All layers have one width, and the paper's one-hot
    input is left out.

    Args:
        num_items: Items of the catalogue.
        hidden_channels: Width ``d`` of embeddings and states.
        num_layers: GRU layers, one upon the other.
        embedding: ``"constrained"``: the output table :math:`w` is the input table too;
            ``"separate"``: the input has a table of its own.
        dropout: Share of each layer's output dropped in training.
        input_dropout: Share of each embedding dropped in training.

    Raises:
        ValueError: If a size is not positive, a share lies outside [0, 1), or ``embedding`` is
            neither.
    """

    traits: ClassVar[Traits] = Traits(
        architecture="recurrent (GRU)",
        parallel=False,
        reach="whole session, fading",
        side_features=False,
        best_for="live streams: a state of fixed size, one step a click",
    )
    trained_on: ClassVar[TrainedOn] = "sessions"
    states_equal_prefixes: ClassVar[bool] = True

    def __init__(
        self,
        num_items: int,
        hidden_channels: int = 100,
        num_layers: int = 1,
        *,
        embedding: Literal["constrained", "separate"] = "constrained",
        dropout: float = 0.0,
        input_dropout: float = 0.0,
    ) -> None:
        super().__init__(num_items)
        for name, value in (("hidden_channels", hidden_channels), ("num_layers", num_layers)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        for name, share in (("dropout", dropout), ("input_dropout", input_dropout)):
            if not 0 <= share < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {share}.")
        if embedding not in ("constrained", "separate"):
            raise ValueError(f"embedding is 'constrained' or 'separate', got {embedding!r}.")
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.embedding = embedding
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.item_embedding = Embedding(num_items, hidden_channels)  # w
        self.bias = Parameter(torch.empty(num_items))  # b
        self.input_embedding = (
            Embedding(num_items, hidden_channels) if embedding == "separate" else None
        )
        between = dropout if num_layers > 1 else 0.0  # torch warns of dropout after a single layer
        self.gru = GRU(hidden_channels, hidden_channels, num_layers, dropout=between)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:
                torch.nn.init.zeros_(parameter)
                continue
            gates = 3 if name.startswith("gru.") else 1
            bound = (6 / (parameter.size(0) / gates + parameter.size(1))) ** 0.5
            torch.nn.init.uniform_(parameter, -bound, bound)

    @classmethod
    def from_published(cls, parameters: Mapping[str, Any]) -> GRU4Rec:
        """The model with the weights of the authors' PyTorch program.

        Args:
            parameters: Name in the program -> array: ``G.<layer>.*``, ``Wy.weight``, ``By.weight``
                and, for a separate embedding, ``E.weight``.

        Raises:
            ValueError: If a parameter is missing, or is one this model has no place for.
        """
        num_layers = max(1, len({name for name in parameters if name.endswith(".weight_hh")}))
        names = {"Wy.weight": "item_embedding.weight", "By.weight": "bias"}
        if "E.weight" in parameters:
            names["E.weight"] = "input_embedding.weight"
        for layer in range(num_layers):
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                names[f"G.{layer}.{kind}"] = f"gru.{kind}_l{layer}"
        absent = sorted(set(names) - set(parameters))
        if absent:
            raise ValueError(f"The weights of GRU4Rec's program lack {', '.join(absent)}.")
        unknown = sorted(set(parameters) - set(names))
        if unknown:
            raise ValueError(
                f"GRU4Rec has no place for {', '.join(unknown)} of the program: run it with "
                "constrained_embedding=True, or with an embedding as wide as its layers."
            )
        state = {ours: torch.as_tensor(parameters[name]) for name, ours in names.items()}
        state["bias"] = state["bias"].view(-1)
        num_items, hidden_channels = state["item_embedding.weight"].shape
        for ours, value in state.items():
            if value.dim() == 2 and value.size(1) != hidden_channels:
                raise ValueError(
                    f"All layers must be {hidden_channels} wide as the output table is, but "
                    f"{ours} of the program has shape {list(value.shape)}."
                )
        embedding: Literal["constrained", "separate"] = (
            "separate" if "E.weight" in parameters else "constrained"
        )
        model = cls(num_items, hidden_channels, num_layers, embedding=embedding)
        model.load_state_dict(state)
        return model

    def forward(self, batch: Batch) -> Tensor:
        """The state after the last click of every session, [num_sessions, d]."""
        return self.click_states(batch)[batch.click_ptr[1:] - 1]

    def click_states(self, batch: Batch) -> Tensor:
        """The state after every click, [num_clicks, d]."""
        x = self._input(batch.click_item)  # [num_clicks, d]
        if x.size(0) == 0:
            return x
        click, sizes = packed_order(batch.click_ptr)
        packed, _ = self.gru(PackedSequence(x[click], sizes))
        h = torch.empty_like(packed.data).index_copy(0, click, packed.data)
        return self._drop(h, self.dropout)  # [num_clicks, d]

    def item_weight(self) -> Tensor:
        return self.item_embedding.weight

    def item_bias(self) -> Tensor:
        return self.bias

    def initial_state(self, num_sessions: int | None = None) -> Tensor:
        """The state before any click, zeros: [num_layers, d], or [num_layers, num_sessions, d]."""
        size = () if num_sessions is None else (num_sessions,)
        return self.bias.new_zeros(self.num_layers, *size, self.hidden_channels)

    def update_state(self, state: Tensor, item: int | Tensor) -> Tensor:
        """The state one click later: the same as that of the whole session from scratch.

        Args:
            state: [num_layers, d] of one session, or [num_layers, num_sessions, d].
            item: Code of the item clicked: one, or one a session, int64 [num_sessions].

        Returns:
            A new state of the same shape.
        """
        item = torch.as_tensor(item, device=state.device)
        if item.shape != state.shape[1:-1]:
            raise ValueError(
                f"A state of shape {list(state.shape)} needs items of shape "
                f"{list(state.shape[1:-1])}, got {list(item.shape)}."
            )
        x = self._input(item).unsqueeze(0)  # [1, d] or [1, num_sessions, d]
        _, state = self.gru(x, state)
        return state

    def score_state(self, state: Tensor, items: Tensor | None = None) -> Tensor:
        """Scores of the next item.

        Args:
            state: [num_layers, d] of one session, or [num_layers, num_sessions, d].
            items: ``None``: all items; else candidates, [C] or [num_sessions, C].

        Returns:
            [num_items] or [C] of one session, [num_sessions, ...] of several.
        """
        h = self._drop(state[-1], self.dropout)
        scores = self.score_vectors(h if h.dim() == 2 else h.unsqueeze(0), items)
        return scores if h.dim() == 2 else scores.squeeze(0)

    def _input(self, items: Tensor) -> Tensor:
        table = self.item_embedding if self.input_embedding is None else self.input_embedding
        return self._drop(table(items), self.input_dropout)

    def _drop(self, h: Tensor, share: float) -> Tensor:
        return torch.nn.functional.dropout(h, share, self.training)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.num_items}, {self.hidden_channels}, "
            f"num_layers={self.num_layers})"
        )
