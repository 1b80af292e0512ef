"""GRU4Rec: session-based recommendation with recurrent networks (Hidasi et al., ICLR 2016)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, takewhile
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import GRU, Embedding, ModuleList, Parameter
from torch.nn.functional import normalize as unit_length
from torch.nn.functional import pad
from torch.nn.utils.rnn import PackedSequence
from torch_geometric.data import Batch

from graphseq.models.base import SessionModel, Traits
from graphseq.models.registry import register
from graphseq.nn.dropout import dropout
from graphseq.nn.ragged import packed_order

KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
"""Parameters of a GRU layer, as torch names them."""


@register("gru4rec")
class GRU4Rec(SessionModel):
    r"""Scores of GRU4Rec (Hidasi et al., ICLR 2016; Hidasi & Karatzoglou, CIKM 2018).

    .. math::
        h_t = \mathrm{GRU}(x_t, h_{t-1}), \quad \hat r_{t,j} = w_j^\top h_t + b_j

    where :math:`x_t` is the embedding of the t-th click's item and :math:`h_0 = 0`. Scores carry
    no final activation, as in the authors' PyTorch program of 2023, and parameters start as there:
    weights uniform in :math:`\pm \sqrt{6 / (in + out)}` for each gate and table, biases zero.

    It trains on whole sessions, packed step by step with the longest first and gradients through
    all clicks; or, on the batches of a :class:`~graphseq.data.SessionParallelLoader`, click
    by click as the program does, with a state kept for every lane from step to step and gradients
    through one click alone.

    ``dropout`` falls on what a layer hands to the next and to the scores. Click by click it falls
    on the state carried on as well, as in the program; over whole sessions it does not, since
    torch's GRU takes no mask between two clicks. The paper's one-hot input is a separate table
    with one value for each gate and unit, which :meth:`from_published` makes of it.

    With ``normalize``, scores are cosines times :math:`\sigma`, and the bias,

    .. math::
        \hat r_{t,j} = \sigma \, \frac{w_j^\top h_t}{\lVert w_j \rVert \lVert h_t \rVert} + b_j

    as NISER (Gupta et al., 2019) has them without the bias; embeddings are read as they are.

    Args:
        num_items: Items of the catalogue.
        hidden_channels: Width ``d`` of states and of the output table.
        num_layers: GRU layers of that width, one upon the other.
        embedding: ``"constrained"``: the output table :math:`w` is the input table too;
            ``"separate"``: the input has a table of its own.
        embedding_channels: Width of the table of its own; ``None``: ``hidden_channels``.
        lower_channels: Widths of further GRU layers below, the first one first.
        dropout: Share of each layer's output dropped in training.
        input_dropout: Share of each embedding dropped in training.
        normalize: Whether states and output table have length one in scores.
        scale: What :math:`\sigma` normalised scores are multiplied by: the inverse temperature.

    Raises:
        ValueError: If a size or ``scale`` is not positive, a share lies outside [0, 1),
            ``embedding`` is neither, or ``embedding_channels`` is given to a constrained one.
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

    def __init__(
        self,
        num_items: int,
        hidden_channels: int = 100,
        num_layers: int = 1,
        *,
        embedding: Literal["constrained", "separate"] = "constrained",
        embedding_channels: int | None = None,
        lower_channels: Sequence[int] | None = None,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        normalize: bool = False,
        scale: float = 20.0,
    ) -> None:
        super().__init__(num_items)
        lower = [] if lower_channels is None else list(lower_channels)
        in_channels = hidden_channels if embedding_channels is None else embedding_channels
        sizes = [("hidden_channels", hidden_channels), ("num_layers", num_layers)]
        sizes += [("embedding_channels", in_channels), *(("lower_channels", n) for n in lower)]
        for name, value in sizes:
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        for name, share in (("dropout", dropout), ("input_dropout", input_dropout)):
            if not 0 <= share < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {share}.")
        if not scale > 0:
            raise ValueError(f"scale must be positive, got {scale}.")
        if embedding not in ("constrained", "separate"):
            raise ValueError(f"embedding is 'constrained' or 'separate', got {embedding!r}.")
        if embedding == "constrained" and in_channels != hidden_channels:
            raise ValueError(
                "A constrained embedding is the output table and as wide, but embedding_channels "
                f"is {in_channels} and hidden_channels {hidden_channels}: leave it out, or take "
                "embedding='separate'."
            )
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.embedding = embedding
        self.embedding_channels = embedding_channels
        self.lower_channels = lower_channels
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.normalize = normalize
        self.scale = scale
        self.item_embedding = Embedding(num_items, hidden_channels)  # w
        self.bias = Parameter(torch.empty(num_items))  # b
        self.input_embedding = (
            Embedding(num_items, in_channels) if embedding == "separate" else None
        )
        widths = [in_channels, *lower]
        self.lower = ModuleList(GRU(*pair) for pair in pairwise(widths))
        self.gru = GRU(widths[-1], hidden_channels, num_layers)
        self._lanes: Tensor | None = None  # states that session-parallel training carries on
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:
                torch.nn.init.zeros_(parameter)
                continue
            gates = 3 if name.startswith(("gru.", "lower.")) else 1
            bound = (6 / (parameter.size(0) / gates + parameter.size(1))) ** 0.5
            torch.nn.init.uniform_(parameter, -bound, bound)

    @classmethod
    def from_published(cls, parameters: Mapping[str, Any]) -> GRU4Rec:
        """The model with the weights of the authors' PyTorch program.

        Args:
            parameters: Name in the program -> array: ``G.<layer>.*``, ``Wy.weight``, ``By.weight``
                and, for an embedding of its own, ``E.weight``, or for the one-hot input ``GE.*``.
                The one-hot input becomes a separate embedding three times as wide as the first
                layer, with the identity as its projection.

        Raises:
            ValueError: If a parameter is missing, unknown, or of a shape that does not fit.
        """
        given = {name: torch.as_tensor(value) for name, value in parameters.items()}
        one_hot = any(name.startswith("GE.") for name in given)
        cells = len({name for name in given if name.endswith(".weight_hh")})
        cells = cells if one_hot else max(1, cells)
        names = {"Wy.weight", "By.weight"}
        names |= {f"G.{layer}.{kind}" for layer in range(cells) for kind in KINDS}
        if one_hot:
            names |= {"GE.Wx0.weight", "GE.Wh0", "GE.Bh0"}
        elif "E.weight" in given:
            names.add("E.weight")
        absent = sorted(names - set(given))
        if absent:
            raise ValueError(f"The weights of GRU4Rec's program lack {', '.join(absent)}.")
        unknown = sorted(set(given) - names)
        if unknown:
            raise ValueError(f"GRU4Rec has no place for {', '.join(unknown)} of these weights.")

        # What each parameter here is made of: its name there, and its value.
        table = ("E.weight", given["E.weight"]) if "E.weight" in given else None
        layers = [
            {kind: (f"G.{layer}.{kind}", given[f"G.{layer}.{kind}"]) for kind in KINDS}
            for layer in range(cells)
        ]
        if one_hot:
            table, first = _one_hot_layer(given)
            layers.insert(0, first)
        num_items, d = given["Wy.weight"].shape
        widths = [layer["weight_hh"][1].size(-1) for layer in layers]
        num_layers = len(list(takewhile(lambda width: width == d, reversed(widths))))
        lower = widths[: len(widths) - num_layers]
        model = cls(
            num_items,
            d,
            max(1, num_layers),
            embedding="constrained" if table is None else "separate",
            embedding_channels=None if table is None else table[1].size(-1),
            lower_channels=lower or None,
        )
        made = {
            "item_embedding.weight": ("Wy.weight", given["Wy.weight"]),
            "bias": ("By.weight", given["By.weight"].view(-1)),
        }
        if table is not None:
            made["input_embedding.weight"] = table
        for number, layer in enumerate(layers):
            at = number - len(lower)
            prefix, place = ("gru", at) if at >= 0 else (f"lower.{number}", 0)
            made |= {f"{prefix}.{kind}_l{place}": layer[kind] for kind in KINDS}
        state = model.state_dict()
        for ours, (theirs, value) in made.items():
            if ours not in state or state[ours].shape != value.shape:
                wanted = list(state[ours].shape) if ours in state else f"the last one's width {d}"
                raise ValueError(
                    f"{theirs} of GRU4Rec's program has shape {list(value.shape)}, which does not "
                    f"fit the other weights: {wanted} would."
                )
        model.load_state_dict({ours: value for ours, (_, value) in made.items()})
        return model

    def forward(self, batch: Batch) -> Tensor:
        """The state after the last click of every session, [num_sessions, d]."""
        return self.click_states(batch)[batch.click_ptr[1:] - 1]

    def click_states(self, batch: Batch) -> Tensor:
        """The state after every click, [num_clicks, d]."""
        x = self._input(batch.click_item)  # [num_clicks, d]
        if x.size(0) == 0:
            return x.new_empty(0, self.hidden_channels)
        click, sizes = packed_order(batch.click_ptr)
        packed = PackedSequence(x[click], sizes)
        for layer in self.lower:
            packed = layer(packed)[0]
            packed = PackedSequence(self._drop(packed.data, self.dropout), sizes)
        states = self._upper(packed)
        h = torch.empty_like(states).index_copy(0, click, states)
        return self._scored(self._drop(h, self.dropout))  # [num_clicks, d]

    def _upper(self, packed: PackedSequence) -> Tensor:
        """States of the layers of full width, in the order of the clicks given, [num_clicks, d]."""
        if self.num_layers == 1 or not self.training or self.dropout == 0:
            states: Tensor = self.gru(packed)[0].data
            return states
        # torch's own dropout between layers draws from a state that all threads share.
        states, sizes = packed.data, packed.batch_sizes
        for place in range(self.num_layers):
            weights = [getattr(self.gru, f"{kind}_l{place}") for kind in KINDS]
            start = states.new_zeros(1, int(sizes[0]), self.hidden_channels)
            states = states if place == 0 else self._drop(states, self.dropout)
            states, _ = torch.gru(states, sizes, start, weights, True, 1, 0.0, True, False)
        return states

    def training_vectors(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The state after every click and the item that follows; click by click of lanes.

        Raises:
            ValueError: If lanes go on with sessions of which this model has no state.
        """
        if "lane" not in batch:
            return super().training_vectors(batch, generator)
        lane, starts = batch.lane, batch.starts_session  # [num_lanes] at work
        if self._lanes is None and not bool(starts.all()):
            raise ValueError(
                "These lanes go on with sessions whose state is not here: start with the first "
                "batch of an epoch, or load_training_state what was saved with the position."
            )
        size = int(lane.max()) + 1 if lane.numel() else 0
        if self._lanes is None or self._lanes.size(1) < size:
            self._lanes = self.initial_state(size)
        state = self._lanes.to(self.device)[:, lane] * ~starts.view(1, -1, 1)
        state = self._one_click_later(state, batch.click_item)
        self._lanes = self._lanes.to(self.device).index_copy(1, lane, state.detach())
        return self.vectors_of_state(state), batch.y

    def training_state(self) -> dict[str, Tensor]:
        """The state of every lane, [layers, num_lanes, widest]; nothing before the first step."""
        return {} if self._lanes is None else {"lanes": self._lanes}

    def load_training_state(self, state: Mapping[str, Tensor]) -> None:
        self._lanes = state.get("lanes")

    def item_weight(self) -> Tensor:
        table = self.item_embedding.weight
        return unit_length(table) if self.normalize else table

    def item_rows(self, items: Tensor) -> Tensor:
        rows: Tensor = self.item_embedding(items)  # normalised after the look-up: no other is read
        return unit_length(rows, dim=-1) if self.normalize else rows

    def item_bias(self) -> Tensor:
        return self.bias

    def initial_state(self, num_sessions: int | None = None) -> Tensor:
        """The state before any click, zeros: [layers, widest], or [layers, num_sessions, widest].

        A layer that is narrower than the widest fills the front of its row.
        """
        size = () if num_sessions is None else (num_sessions,)
        widths = [gru.hidden_size for gru, _ in self._cells()]
        return self.bias.new_zeros(len(widths), *size, max(widths))

    def update_state(self, state: Tensor, item: int | Tensor) -> Tensor:
        """The state one click later: the same as that of the whole session from scratch.

        In training, dropout falls on the new state of each layer.

        Args:
            state: [layers, widest] of one session, or [layers, num_sessions, widest].
            item: Code of the item clicked: one, or one a session, int64 [num_sessions]; -1: an
                unknown one, whose click is skipped.

        Returns:
            A new state of the same shape.

        Raises:
            ValueError: If the items do not fit the state, or are no codes of items.
        """
        item = self._clicked(item)
        if item.shape != state.shape[1:-1]:
            raise ValueError(
                f"A state of shape {list(state.shape)} needs items of shape "
                f"{list(state.shape[1:-1])}, got {list(item.shape)}."
            )
        known = (item >= 0).unsqueeze(-1)
        return torch.where(known, self._one_click_later(state, item.clamp(min=0)), state)

    def _one_click_later(self, state: Tensor, item: Tensor) -> Tensor:
        x = self._input(item)  # [in_channels] or [num_sessions, in_channels]
        layers = []
        for (gru, place), h in zip(self._cells(), state, strict=True):
            weights = [getattr(gru, f"{kind}_l{place}") for kind in KINDS]
            h = h[..., : gru.hidden_size]
            h = torch.gru_cell(x.view(-1, x.size(-1)), h.reshape(-1, h.size(-1)), *weights)
            x = self._drop(h.view(*item.shape, -1), self.dropout)
            layers.append(pad(x, (0, state.size(-1) - gru.hidden_size)))
        return torch.stack(layers)

    def score_state(self, state: Tensor, items: Tensor | None = None) -> Tensor:
        """Scores of the next item.

        Args:
            state: [layers, widest] of one session, or [layers, num_sessions, widest].
            items: ``None``: all items; else candidates, [C] or [num_sessions, C].

        Returns:
            [num_items] or [C] of one session, [num_sessions, ...] of several.
        """
        h = self.vectors_of_state(state)
        scores = self.score_vectors(h if h.dim() == 2 else h.unsqueeze(0), items)
        return scores if h.dim() == 2 else scores.squeeze(0)

    def vectors_of_state(self, state: Tensor) -> Tensor:
        """What is scored of a state: the last layer's part, [..., d]."""
        return self._scored(state[-1][..., : self.hidden_channels])

    def _scored(self, h: Tensor) -> Tensor:
        return self.scale * unit_length(h, dim=-1) if self.normalize else h

    def _cells(self) -> Iterator[tuple[GRU, int]]:
        """Every layer, the lowest first: the module that has its weights, and its place there."""
        for layer in self.lower:
            assert isinstance(layer, GRU)
            yield layer, 0
        for place in range(self.num_layers):
            yield self.gru, place

    def _input(self, items: Tensor) -> Tensor:
        table = self.item_embedding if self.input_embedding is None else self.input_embedding
        return self._drop(table(items), self.input_dropout)

    def _drop(self, h: Tensor, share: float) -> Tensor:
        return dropout(h, share, self.training)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.num_items}, {self.hidden_channels}, "
            f"num_layers={self.num_layers})"
        )


def _one_hot_layer(
    given: Mapping[str, Tensor],
) -> tuple[tuple[str, Tensor], dict[str, tuple[str, Tensor]]]:
    """Table and first layer that equal the program's layer over one-hot items.

    Its gates stand in the order n, r, z, and its z says how much is new, here how much stays.
    """

    def gates(name: str) -> Tensor:
        n, r, z = given[name].chunk(3, dim=-1)
        return torch.cat([r, -z, n], dim=-1)

    bias = gates("GE.Bh0")
    layer = {
        "weight_ih": ("GE.Wx0.weight", torch.eye(bias.numel(), dtype=bias.dtype)),
        "weight_hh": ("GE.Wh0", gates("GE.Wh0").t()),
        "bias_ih": ("GE.Bh0", bias),
        "bias_hh": ("GE.Bh0", torch.zeros_like(bias)),
    }
    return ("GE.Wx0.weight", gates("GE.Wx0.weight")), layer
