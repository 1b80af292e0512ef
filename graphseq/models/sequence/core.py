"""CORE: session vectors in the space of items (Hou et al., SIGIR 2022)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import LayerNorm, Linear, ModuleList
from torch_geometric.data import Batch

from graphseq.arguments import check_heads, check_shares, check_sizes
from graphseq.models.base import SessionModel, Traits
from graphseq.models.registry import register
from graphseq.nn.attention import TransformerBlock
from graphseq.nn.dropout import Dropout
from graphseq.nn.item_table import ItemTable
from graphseq.nn.positions import LearnedPositions
from graphseq.nn.ragged import DenseView
from graphseq.nn.windows import newest_states, states_of_windows


@register("core")
class CORE(SessionModel):
    r"""Scores of CORE (Hou et al., SIGIR 2022): cosines of items and weighted sums of items.

    .. math::
        \alpha_{t,i} = \mathrm{softmax}_{i \le t} (w^\top F(e + p)_i), \quad
        s_t = \sum_{i \le t} \alpha_{t,i} \, e_i, \quad
        \hat r_{t,j} = \frac{1}{\tau} \cos(s_t, e_j)

    A causal transformer :math:`F` gives only the weight of each click; the session vector is made
    of item embeddings alone, so that it is in the same space as items. Since :math:`F` is causal,
    one pass gives the vectors of all prefixes.

    Different from the authors' code: blocks there have the inner width 4 d. Dropout of item
    embeddings in scores, which helps cosines over all items there, is left out.

    Args:
        num_items: Items of the catalog.
        hidden_channels: Width ``d`` of embeddings and session vectors.
        num_layers: Number of transformer blocks; 0: all clicks have equal weight (CORE-ave).
        heads: Attention heads of a block.
        max_length: Number of newest clicks that the model uses.
        dropout: Dropout rate of the transformer's attention and branches.
        embedding_dropout: Dropout rate of the clicks' embeddings.
        scale: Factor of the cosines, :math:`1 / \tau`.

    Raises:
        ValueError: If a size or ``scale`` is not positive, ``heads`` does not divide the width, or
            a dropout rate is outside [0, 1).
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
    softmax = True  # softmax of lin_score over the clicks

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
        check_sizes(hidden_channels=hidden_channels, max_length=max_length)
        check_heads(hidden_channels, heads)
        check_shares(dropout=dropout, embedding_dropout=embedding_dropout)
        self.num_layers = num_layers
        self.max_length = max_length
        self.items = ItemTable(num_items, hidden_channels, normalize=True, scale=scale)  # e
        if num_layers:
            self.positions = LearnedPositions(max_length, hidden_channels)  # p
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
        torch.nn.init.uniform_(self.items.weight, -(b := self.items.channels**-0.5), b)
        for block in self.blocks:
            block.reset_parameters()  # type: ignore[operator]
        if self.num_layers:
            torch.nn.init.normal_(self.positions.weight, std=0.02)
            torch.nn.init.normal_(self.lin_score.weight, std=0.02)
            self.norm.reset_parameters()

    def forward(self, batch: Batch) -> Tensor:
        """Session vectors of length :math:`1 / \\tau`, [num_sessions, d]."""
        encode = partial(self._encode, batch.click_item)
        return newest_states(encode, batch.click_ptr, self.max_length)

    def click_states(self, batch: Batch) -> Tensor:
        """The vector of the session up to every click, [num_clicks, d]."""
        encode = partial(self._encode, batch.click_item)
        return states_of_windows(encode, batch.click_ptr, self.max_length)

    def _encode(
        self, items: Tensor, click: Tensor, ptr: Tensor, query_index: Tensor | None = None
    ) -> Tensor:
        """The vectors of windows up to clicks: [n, d], or [m, d] for ``query_index`` [m]."""
        view = DenseView(ptr)
        e = self.drop_embedding(self.items(items[click]))  # [n, d]
        logits = e.new_zeros(e.size(0), 1)
        if self.num_layers:
            h = self.drop(self.norm(self.positions(e, view)[0]))
            for block in self.blocks:
                h = block(h, view)  # [n, d]
            logits = self.lin_score(h)  # w . F: [n, 1]
        later = torch.ones(view.width, view.width, dtype=torch.bool, device=e.device).triu(1)
        rows = view.dense(logits).transpose(1, 2)  # [num_rows, 1, width]
        alpha = rows.masked_fill(later, -torch.inf).softmax(-1)  # [num_rows, width, width]
        s = view.flat(alpha @ view.dense(e))  # [n, d]
        return self.items.vectors(s if query_index is None else s[query_index])
