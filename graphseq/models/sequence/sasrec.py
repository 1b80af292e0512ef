"""SASRec: self-attentive sequential recommendation (Kang & McAuley, ICDM 2018)."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import LayerNorm, ModuleList
from torch_geometric.data import Batch

from graphseq.arguments import check_shares, check_sizes
from graphseq.models.base import SessionModel, Traits
from graphseq.models.published.loading import from_weights
from graphseq.models.published.sasrec import read_sasrec
from graphseq.models.registry import register
from graphseq.nn.attention import TransformerBlock, attention_of_windows
from graphseq.nn.dropout import Dropout
from graphseq.nn.item_table import ItemTable
from graphseq.nn.ligr import LiGRBlock
from graphseq.nn.positions import LearnedPositions, positions_of
from graphseq.nn.ragged import DenseView, cut_from_end
from graphseq.nn.windows import newest_states, states_of_windows


@register("sasrec")
class SASRec(SessionModel):
    r"""Scores of SASRec (Kang & McAuley, ICDM 2018): :math:`\hat r_{t,j} = h_t^\top e_j`.

    .. math::
        x_t = e_{i_t} + p_t, \quad h = \mathrm{LN}(B_N(\dots B_1(x)))

    with causal blocks :math:`B` (:class:`~graphseq.nn.attention.TransformerBlock`). The state of a
    click comes from the ``max_length`` clicks that end with it, in evaluation. In training a longer
    session is cut from its end into consecutive windows, each click in one.

    Different from paper and authors' code by default: pre-norm blocks with a GELU, and positions
    counted from the start of the window. ``block="published", positions="end", expansion=1`` is the
    authors' code (:meth:`from_published`). Positions from the end move with every later click, so
    the state of a click then differs from the state of its prefix.
    ``block="post_norm", positions="sinusoidal"`` is the transformer of Vaswani et al. (2017), with
    embeddings multiplied by :math:`\sqrt d`; ``block="ligr"`` has gated residuals and SwiGLU, as
    eSASRec (:class:`~graphseq.nn.ligr.LiGRBlock`; Borisyuk et al., 2025).

    With ``normalize``, scores are cosines times :math:`\sigma`, as in the strongest published runs
    of SASRec with a sampled softmax (Zhai et al., ICML 2024), where :math:`\sigma = 20`.

    Args:
        num_items: Items of the catalog.
        hidden_channels: Width ``d`` of embeddings and states.
        num_layers: Number of blocks.
        heads: Attention heads of a block.
        max_length: Maximum number of clicks that a state depends on, including its own.
        dropout: Dropout rate of embeddings, attention and each branch's output.
        block: ``"pre_norm"``, ``"post_norm"``, ``"published"`` or ``"ligr"``.
        positions: ``"start"``, ``"end"``, ``"rotary"``, ``"sinusoidal"`` or ``"none"``
            (:mod:`graphseq.nn.positions`).
        expansion: Inner width of the feed-forward networks, as a multiple of ``d``.
        normalize: Whether states and embeddings have length one in scores.
        scale: Factor :math:`\sigma` of normalized scores: the inverse temperature.

    Raises:
        ValueError: If a size or ``scale`` is not positive, ``heads`` does not divide the width,
            ``dropout`` is outside [0, 1), or ``block`` or ``positions`` is unknown.
    """

    traits = Traits(
        architecture="causal self-attention",
        parallel=True,
        reach="newest max_length clicks",
        side_features=False,
        best_for="the default: histories of any kind",
    )
    samples = "sessions"
    causal = True  # False for a model with positions from the end

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
        block: Literal["pre_norm", "post_norm", "published", "ligr"] = "pre_norm",
        positions: Literal["start", "end", "rotary", "sinusoidal", "none"] = "start",
        expansion: int = 4,
        normalize: bool = False,
        scale: float = 20.0,
    ) -> None:
        super().__init__(num_items)
        check_sizes(hidden_channels=hidden_channels, num_layers=num_layers, expansion=expansion)
        check_shares(dropout=dropout)
        self.max_length = max_length
        self.causal = positions != "end"
        self.items = ItemTable(num_items, hidden_channels, normalize=normalize, scale=scale)  # e
        self.positions = positions_of(positions, max_length, hidden_channels, heads)  # p
        inner: dict[str, Any] = {"dropout": dropout, "expansion": expansion}
        self.blocks = ModuleList(
            LiGRBlock(hidden_channels, heads, **inner)
            if block == "ligr"
            else TransformerBlock(hidden_channels, heads, kind=block, **inner)
            for _ in range(num_layers)
        )
        self.norm = LayerNorm(hidden_channels)
        self.drop = Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for module in self.modules():
            if isinstance(module, ItemTable | LearnedPositions):
                torch.nn.init.normal_(module.weight, std=0.02)
            elif isinstance(module, TransformerBlock | LiGRBlock | LayerNorm):
                module.reset_parameters()

    from_published = from_weights(read_sasrec, "SASRec")

    def forward(self, batch: Batch, return_attention: bool = False) -> Any:
        """The state after the last click of every session, [num_sessions, d]; with attention, also
        what :func:`~graphseq.nn.attention.attention_of_windows` gives."""
        encode = partial(self._encode, batch.click_item)
        states = newest_states(encode, batch.click_ptr, self.max_length)
        if not return_attention:
            return states
        return states, attention_of_windows(self, encode, batch.click_ptr, self.max_length)

    def click_states(self, batch: Batch) -> Tensor:
        """The state after every click, [num_clicks, d]."""
        encode, ptr = partial(self._encode, batch.click_item), batch.click_ptr
        if self.causal:
            return states_of_windows(encode, ptr, self.max_length)
        return encode(torch.arange(int(ptr[-1])).to(ptr), cut_from_end(ptr, self.max_length))

    def _encode(
        self, items: Tensor, click: Tensor, ptr: Tensor, query_index: Tensor | None = None
    ) -> Tensor:
        """The states after clicks of windows: [n, d], or [m, d] for ``query_index`` [m]."""
        view = DenseView(ptr)
        x, rotation = self.positions(self.items(items[click]), view)  # e + p: [n, d]
        h = self.drop(x)
        *blocks, last = self.blocks
        for block in blocks:
            h = block(h, view, rotation)
        h = last(h, view, rotation, query_index)  # the last block can skip the other clicks
        return self.items.vectors(self.norm(h))
