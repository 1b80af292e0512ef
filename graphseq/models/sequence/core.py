"""CORE: session vectors in the space of items (Hou et al., SIGIR 2022)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Embedding, LayerNorm, Linear, ModuleList
from torch.nn.functional import normalize
from torch_geometric.data import Batch

from graphseq.models.base import SessionModel, Traits
from graphseq.models.registry import register
from graphseq.nn.attention import TransformerBlock
from graphseq.nn.dropout import Dropout
from graphseq.nn.ragged import DenseView
from graphseq.nn.windows import Encode, last_states, states_of_windows


@register("core")
class CORE(SessionModel):
    r"""Scores of CORE (Hou et al., SIGIR 2022): cosines of items and weighted sums of items.

    .. math::
        \alpha_{t,i} = \mathrm{softmax}_{i \le t} (w^\top F(e + p)_i), \quad
        s_t = \sum_{i \le t} \alpha_{t,i} \, e_i, \quad
        \hat r_{t,j} = \frac{1}{\tau} \cos(s_t, e_j)

    A causal transformer :math:`F` only tells how much each click weighs; the session vector is made
    of item embeddings alone, so that it lies where items lie. Since :math:`F` is causal, one pass
    gives the vectors of all prefixes.

    Different from the authors' code: positions count from the start of the newest ``max_length``
    clicks there, too, but blocks have the inner width 4 d; and dropout of item embeddings in
    scores, which helps with cosines over all items there, is left out.

    Args:
        num_items: Items of the catalog.
        hidden_channels: Width ``d`` of embeddings and session vectors.
        num_layers: Blocks of the transformer; 0: all clicks weigh the same (CORE-ave).
        heads: Attention heads of a block.
        max_length: Newest clicks that the model sees.
        dropout: Share dropped in training of the transformer's attention and branches.
        embedding_dropout: Share dropped in training of the clicks' embeddings.
        scale: What cosines are multiplied by, :math:`1 / \tau`.

    Raises:
        ValueError: If a size or ``scale`` is not positive, ``heads`` does not divide the width, or
            a dropout lies outside [0, 1).
    """

    traits = Traits(
        architecture="weighted sum of item embeddings, weights by causal self-attention",
        parallel=True,
        reach="newest max_length clicks",
        side_features=False,
        best_for="short sessions, where which items came says more than their order",
    )
    samples = "sessions"
    causal = True

    max_length: int

    def __init__(
        self,
        num_items: int,
        hidden_channels: int = 100,
        num_layers: int = 2,
        *,
        heads: int = 2,
        max_length: int = 50,
        dropout: float = 0.5,
        embedding_dropout: float = 0.2,
        scale: float = 14.0,
    ) -> None:
        super().__init__(num_items)
        if num_layers < 0:
            raise ValueError(f"num_layers must be at least 0, got {num_layers}.")
        for name, value in (("hidden_channels", hidden_channels), ("max_length", max_length)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        if not scale > 0:
            raise ValueError(f"scale must be positive, got {scale}.")
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.heads = heads
        self.max_length = max_length
        self.dropout = dropout
        self.embedding_dropout = embedding_dropout
        self.scale = scale
        self.item_embedding = Embedding(num_items, hidden_channels)  # e
        if num_layers:
            self.position_embedding = Embedding(max_length, hidden_channels)  # p
            self.norm = LayerNorm(hidden_channels)
            self.lin_score = Linear(hidden_channels, 1, bias=False)  # w; its softmax needs no bias
        self.blocks = ModuleList(
            TransformerBlock(
                hidden_channels,
                heads,
                kind="post_norm",
                activation="gelu",
                dropout=dropout,
                expansion=4,
            )
            for _ in range(num_layers)
        )
        self.drop = Dropout(dropout)
        self.drop_embedding = Dropout(embedding_dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        torch.nn.init.uniform_(self.item_embedding.weight, -(b := self.hidden_channels**-0.5), b)
        for block in self.blocks:
            block.reset_parameters()  # type: ignore[operator]
        if self.num_layers:
            torch.nn.init.normal_(self.position_embedding.weight, std=0.02)
            torch.nn.init.normal_(self.lin_score.weight, std=0.02)
            self.norm.reset_parameters()

    def forward(self, batch: Batch) -> Tensor:
        """Session vectors of length :math:`1 / \\tau`, [num_sessions, d]."""
        ptr = batch.click_ptr
        start = torch.maximum(ptr[:-1], ptr[1:] - self.max_length)
        return last_states(self._encoder(batch.click_item), start, ptr[1:])

    def click_states(self, batch: Batch) -> Tensor:
        """The vector of the session up to every click, [num_clicks, d]."""
        items, ptr = batch.click_item, batch.click_ptr
        return states_of_windows(self._encoder(items), ptr, self.max_length)

    def _encoder(self, items: Tensor) -> Encode:
        return lambda click, ptr, reads: self._encode(items[click], ptr, reads)

    def _encode(self, items: Tensor, ptr: Tensor, reads: Tensor | None = None) -> Tensor:
        view = DenseView(ptr)
        e = self.drop_embedding(self.item_embedding(items))  # [num_clicks, d]
        logits = e.new_zeros(len(e), 1)
        if self.num_layers:
            h = self.drop(self.norm(e + self.position_embedding(view.position)))
            for block in self.blocks:
                h = block(h, view)  # [num_clicks, d]
            logits = self.lin_score(h)  # w . F: [num_clicks, 1]
        later = torch.ones(view.width, view.width, dtype=torch.bool, device=e.device).triu(1)
        rows = view.dense(logits).transpose(1, 2)  # [num_rows, 1, width]
        alpha = rows.masked_fill(later, -torch.inf).softmax(-1)  # [num_rows, width, width]
        s = view.flat(alpha @ view.dense(e))  # [num_clicks, d]
        return self.scale * normalize(s if reads is None else s[reads])

    def item_weight(self) -> Tensor:
        return normalize(self.item_embedding.weight)

    def item_rows(self, items: Tensor) -> Tensor:
        return normalize(self.item_embedding(items), dim=-1)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.num_items}, {self.hidden_channels}, "
            f"num_layers={self.num_layers})"
        )
