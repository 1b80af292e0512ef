"""SASRec: self-attentive sequential recommendation (Kang & McAuley, ICDM 2018)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, get_args, overload

import torch
from torch import Tensor
from torch.nn import Embedding, LayerNorm, ModuleList
from torch.nn.functional import normalize as unit_length
from torch_geometric.data import Batch

from graphseq.models.base import SessionModel, Traits
from graphseq.models.registry import register
from graphseq.nn.attention import (
    TransformerBlock,
    position_angles,
    recorded_attention,
)
from graphseq.nn.dropout import Dropout
from graphseq.nn.ligr import LiGRBlock
from graphseq.nn.ragged import DenseView, cut_from_end, ragged_range
from graphseq.nn.windows import Encode, last_states, states_of_windows

Blocks = Literal["pre_norm", "post_norm", "published", "ligr"]
Positions = Literal["start", "end", "rotary", "sinusoidal", "none"]


@register("sasrec")
class SASRec(SessionModel):
    r"""Scores of SASRec (Kang & McAuley, ICDM 2018): :math:`\hat r_{t,j} = h_t^\top e_j`.

    .. math::
        x_t = e_{i_t} + p_t, \quad h = \mathrm{LN}(B_N(\dots B_1(x)))

    with causal blocks :math:`B` (:class:`~graphseq.nn.attention.TransformerBlock`) over the newest
    ``max_length`` clicks. In evaluation every click's state comes from the ``max_length`` clicks
    that end with it, so states equal those of prefixes however long the session is. In training
    ``fit`` cuts a longer session from its end into consecutive windows, each click in one.

    Different from paper and program by default: pre-norm blocks with a GELU, and positions counted
    from the start of the window. ``block="published", positions="end", expansion=1`` is the program
    (:meth:`from_published`); positions from the end move with every later click, so there the
    state of a click differs from that of its prefix, also in evaluation. ``block="post_norm",
    positions="sinusoidal"`` is the textbook's transformer. ``block="ligr"`` has gated residuals and
    SwiGLU (:class:`~graphseq.nn.ligr.LiGRBlock`; Borisyuk et al., 2025), as eSASRec. Only
    sinusoidal positions come with embeddings times :math:`\sqrt d` (Vaswani et al., NeurIPS 2017,
    section 3.4), which SASRec's first program also has.

    With ``normalize``, scores are cosines times :math:`\sigma`,

    .. math::
        \hat r_{t,j} = \sigma \, \frac{h_t^\top e_j}{\lVert h_t \rVert \lVert e_j \rVert}

    as in the strongest published runs of SASRec with a sampled softmax (Zhai et al., ICML 2024),
    where :math:`\sigma = 20`; embeddings are read as they are.

    Args:
        num_items: Items of the catalogue.
        hidden_channels: Width ``d`` of embeddings and states.
        num_layers: Blocks.
        heads: Attention heads of a block.
        max_length: Clicks a state may see, itself included.
        dropout: Share dropped in training of embeddings, attention and each branch's output.
        block: ``"pre_norm"``, ``"post_norm"``, ``"published"`` or ``"ligr"``.
        positions: ``"start"`` or ``"end"``: learned, counted from there; ``"rotary"``;
            ``"sinusoidal"``; ``"none"``: order shows in what a click may see alone.
        expansion: Inner width of the feed-forward networks, in units of ``d``.
        normalize: Whether states and embeddings have length one in scores.
        scale: What :math:`\sigma` normalised scores are multiplied by: the inverse temperature.

    Raises:
        ValueError: If a size or ``scale`` is not positive, ``heads`` does not divide the width,
            ``dropout`` lies outside [0, 1), or ``block`` or ``positions`` is unknown.
    """

    traits = Traits(
        architecture="causal self-attention",
        parallel=True,
        reach="newest max_length clicks",
        side_features=False,
        best_for="the default: histories of any kind",
    )
    samples = "sessions"
    causal = True  # False of a model with positions from the end
    max_length: int

    def __init__(
        self,
        num_items: int,
        hidden_channels: int = 64,
        num_layers: int = 2,
        *,
        heads: int = 1,
        max_length: int = 50,
        dropout: float = 0.2,
        block: Blocks = "pre_norm",
        positions: Positions = "start",
        expansion: int = 4,
        normalize: bool = False,
        scale: float = 20.0,
    ) -> None:
        super().__init__(num_items)
        sizes = {
            "hidden_channels": hidden_channels,
            "num_layers": num_layers,
            "max_length": max_length,
            "expansion": expansion,
        }
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}.")
        if not scale > 0:
            raise ValueError(f"scale must be positive, got {scale}.")
        if block not in get_args(Blocks):
            raise ValueError(
                f"block is 'pre_norm', 'post_norm', 'published' or 'ligr', got {block!r}."
            )
        if positions not in get_args(Positions):
            raise ValueError(
                f"positions is 'start', 'end', 'rotary', 'sinusoidal' or 'none', got {positions!r}."
            )
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.heads = heads
        self.max_length = max_length
        self.dropout = dropout
        self.block = block
        self.positions = positions
        self.expansion = expansion
        self.normalize = normalize
        self.scale = scale
        self.causal = positions != "end"
        self.item_embedding = Embedding(num_items, hidden_channels)  # e
        learned = positions in ("start", "end")
        self.position_embedding = Embedding(max_length, hidden_channels) if learned else None  # p
        options: dict[str, Any] = {"dropout": dropout, "expansion": expansion}
        self.blocks = ModuleList(
            LiGRBlock(hidden_channels, heads, **options)
            if block == "ligr"
            else TransformerBlock(hidden_channels, heads, kind=block, **options)
            for _ in range(num_layers)
        )
        width = hidden_channels // heads if positions == "rotary" else hidden_channels
        if positions in ("rotary", "sinusoidal") and width % 2:
            raise ValueError(
                f"positions={positions!r} pairs channels up and needs an even width, got {width}: "
                "change hidden_channels or heads, or take positions='start'."
            )
        self.norm = LayerNorm(hidden_channels)
        self.drop = Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for module in self.modules():
            if isinstance(module, Embedding):
                torch.nn.init.normal_(module.weight, std=0.02)
            elif isinstance(module, TransformerBlock | LiGRBlock | LayerNorm):
                module.reset_parameters()

    @classmethod
    def from_published(cls, parameters: Mapping[str, Any], heads: int = 1) -> SASRec:
        """The model with the weights of a published program.

        Args:
            parameters: Name in the program -> array. Items are the rows 1..V of its item table of
                V + 2 rows; row 0 is unused and the last one is padding.
            heads: The program's number of heads, which its weights do not tell.

        Raises:
            ValueError: If a parameter is missing.
        """
        blocks = [int(m[1]) for m in map(PUBLISHED_BLOCK.match, parameters) if m]
        num_layers = max(blocks, default=0) + 1
        names = dict(PUBLISHED_NAMES)
        for layer in range(num_layers):
            for theirs, ours in PUBLISHED_BLOCK_NAMES.items():
                names[f"transformer_blocks.{layer}.{theirs}"] = f"blocks.{layer}.{ours}"
        absent = sorted(set(names) - set(parameters))
        if absent:
            raise ValueError(f"The weights of SASRec's program lack {', '.join(absent)}.")
        state = {ours: torch.as_tensor(parameters[name]) for name, ours in names.items()}
        state["item_embedding.weight"] = state["item_embedding.weight"][1:-1]
        num_items, hidden_channels = state["item_embedding.weight"].shape
        model = cls(
            num_items,
            hidden_channels,
            num_layers,
            heads=heads,
            max_length=state["position_embedding.weight"].size(0),
            block="published",
            positions="end",
            expansion=state["blocks.0.lin_in.weight"].size(0) // hidden_channels,
        )
        model.load_state_dict(state)
        return model

    @overload
    def forward(self, batch: Batch, return_attention: Literal[False] = False) -> Tensor: ...

    @overload
    def forward(
        self, batch: Batch, return_attention: Literal[True]
    ) -> tuple[Tensor, list[Tensor]]: ...

    def forward(
        self, batch: Batch, return_attention: bool = False
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """The state after the last click of every session, [num_sessions, d].

        Args:
            batch: Session graphs.
            return_attention: Whether to tell, too, how much each click looks at each.

        Returns:
            The states; with ``return_attention`` also, for each session, [num_layers, heads, L, L],
            L of its clicks being the newest ``max_length``: the weight, before dropout, of the
            click in the row on the click in the column, zero on later ones. Each row sums to one.
        """
        ptr = batch.click_ptr
        start = torch.maximum(ptr[:-1], ptr[1:] - self.max_length)
        states = last_states(self._encoder(batch.click_item), start, ptr[1:])
        return (states, self._attention(batch, start)) if return_attention else states

    def click_states(self, batch: Batch) -> Tensor:
        """The state after every click, [num_clicks, d]."""
        items, ptr = batch.click_item, batch.click_ptr
        if not self.causal:
            return self._encode(items, cut_from_end(ptr, self.max_length))
        return states_of_windows(self._encoder(items), ptr, self.max_length)

    def _attention(self, batch: Batch, start: Tensor) -> list[Tensor]:
        click, ptr = ragged_range(start, batch.click_ptr[1:])
        with torch.no_grad(), recorded_attention(self) as recorded:
            self._encode(batch.click_item[click], ptr)
        layers = torch.stack(recorded)  # [num_layers, num_sessions, heads, width, width]
        lengths = ptr.diff().tolist()
        return [layers[:, row, :, :length, :length] for row, length in enumerate(lengths)]

    def item_weight(self) -> Tensor:
        table = self.item_embedding.weight
        return unit_length(table) if self.normalize else table

    def item_rows(self, items: Tensor) -> Tensor:
        rows: Tensor = self.item_embedding(items)  # normalised after the look-up: no other is read
        return unit_length(rows, dim=-1) if self.normalize else rows

    def _encoder(self, items: Tensor) -> Encode:
        """The encoder of windows of these clicks."""
        return lambda click, ptr, reads: self._encode(items[click], ptr, reads)

    def _encode(self, items: Tensor, ptr: Tensor, reads: Tensor | None = None) -> Tensor:
        """The states after clicks of windows of at most ``max_length``: [num_clicks, d], or [n, d]
        for the clicks ``reads`` [n] alone."""
        view = DenseView(ptr)
        position, rotation = view.position, None
        x = self.item_embedding(items)  # e: [num_clicks, d]
        if self.positions == "end":
            position = position + self.max_length - ptr.diff()[view.batch]
        if self.position_embedding is not None:
            x = x + self.position_embedding(position)
        elif self.positions == "rotary":
            rotation = position_angles(position, self.hidden_channels // self.heads)
        elif self.positions == "sinusoidal":
            angles = position_angles(position, self.hidden_channels)
            x = x * self.hidden_channels**0.5 + torch.cat([angles.sin(), angles.cos()], dim=1)
        h = self.drop(x)
        *blocks, last = self.blocks
        for block in blocks:
            h = block(h, view, rotation)  # [num_clicks, d]
        h = last(h, view, rotation, reads)
        states: Tensor = self.norm(h)
        return self.scale * unit_length(states) if self.normalize else states

    def initial_state(self) -> Tensor:
        """The state before any click: no items, int64 [0]."""
        return torch.empty(0, dtype=torch.long, device=self.device)

    def update_state(self, state: Tensor, item: int | Tensor) -> Tensor:
        """The state one click later: the newest ``max_length`` items, oldest first.

        Args:
            state: Item codes, int64 [at most max_length].
            item: Code of the item clicked; -1: an unknown one, whose click is skipped.

        Returns:
            int64 [at most max_length].
        """
        return self._newest(state, item, self.max_length)

    def score_state(self, state: Tensor, items: Tensor | None = None) -> Tensor:
        """Scores of the next item.

        Args:
            state: Item codes, int64 [1 to max_length].
            items: ``None``: all items; else candidates, [C].

        Returns:
            [num_items] or [C].

        Raises:
            ValueError: If no item was clicked yet.
        """
        if state.numel() == 0:
            raise ValueError("SASRec has no state before the first click: update_state first.")
        start, stop = state.new_tensor([0]), state.new_tensor([state.numel()])
        return self.score_vectors(last_states(self._encoder(state), start, stop), items).squeeze(0)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.num_items}, {self.hidden_channels}, "
            f"num_layers={self.num_layers})"
        )


PUBLISHED_BLOCK = re.compile(r"transformer_blocks\.(\d+)\.")

PUBLISHED_NAMES = {
    "item_embedding.weight": "item_embedding.weight",
    "position_embedding.weight": "position_embedding.weight",
    "seq_norm.weight": "norm.weight",
    "seq_norm.bias": "norm.bias",
}
"""Parameters in the program -> here, outside its blocks."""

PUBLISHED_BLOCK_NAMES = {
    f"{theirs}.{kind}": f"{ours}.{kind}"
    for theirs, ours in {
        "first_norm": "norm_attention",
        "second_norm": "norm_feed_forward",
        "multihead_attention.query_proj": "attention.lin_query",
        "multihead_attention.key_proj": "attention.lin_key",
        "multihead_attention.val_proj": "attention.lin_value",
        "dense1": "lin_in",
        "dense2": "lin_out",
    }.items()
    for kind in ("weight", "bias")
    if ours != "attention.lin_key" or kind == "weight"
}
"""Parameters of a block in the program -> here; the softmax cancels its bias of the keys."""
