"""BERT4Rec: sequential recommendation with a bidirectional encoder (Sun et al., CIKM 2019)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import LayerNorm, Linear, ModuleList, Parameter
from torch.nn.functional import gelu
from torch_geometric.data import Batch
from torch_geometric.utils import segment

from graphseq.arguments import check_shares, check_sizes
from graphseq.data.graphs.dataset import NO_TARGET
from graphseq.models.base import SessionModel, Traits
from graphseq.models.reading import TrainingRows
from graphseq.models.registry import register
from graphseq.nn.attention import TransformerBlock
from graphseq.nn.dropout import Dropout
from graphseq.nn.item_table import ItemTable
from graphseq.nn.positions import LearnedPositions
from graphseq.nn.ragged import DenseView, cut_from_end, ragged_range
from graphseq.ragged import ptr_of
from graphseq.random import Words, integers, session_streams_of, uniform

Masking = Literal["mask", "80_10_10"]
Positions = Literal["start", "end"]


@register("bert4rec")
class BERT4Rec(SessionModel):
    r"""Scores of BERT4Rec (Sun et al., CIKM 2019): the session followed by a masked click.

    .. math::
        x_t = \mathrm{LN}(e_{i_t} + p_t) \ \text{or} \ \mathrm{LN}(m + p_t), \quad
        h = B_N(\dots B_1(x)), \quad
        \hat r_{t,j} = e_j^\top \mathrm{LN}(\mathrm{GELU}(W h_t + c)) + b_j

    where :math:`m` stands for a masked click, and is a separate parameter, not an item.
    Blocks :math:`B` (:class:`~graphseq.nn.attention.TransformerBlock`) are bidirectional, post-norm
    with a GELU. To rank the next item, :math:`m` is appended to the newest ``max_length - 1``
    clicks and its output is used; a longer session loses its oldest clicks.

    Training (:meth:`training_rows`) gives each session two kinds of rows: windows from its end with
    randomly masked clicks, and the newest window with only its last item masked, as in ranking.
    Blocks and head compute the last layer only for masked clicks.

    Different from the authors' code: each epoch draws new masks, while the authors' code draws ten
    for all epochs. Windows do not overlap. Each click is masked independently with ``mask_prob``,
    while the authors' code masks that share of each window. There are no segment embeddings.
    Projections are initialized with standard deviation :math:`1 / \sqrt{in}` instead of 0.02.

    Args:
        num_items: Items of the catalog.
        hidden_channels: Width ``d`` of embeddings and states.
        num_layers: Number of blocks.
        heads: Attention heads of a block.
        max_length: Positions in a row, including the appended masked click: ranking uses one click
            less.
        dropout: Dropout rate of embeddings, attention and each branch's output.
        expansion: Inner width of the feed-forward networks, as a multiple of ``d``.
        mask_prob: Probability of masking a click in training.
        masking: Input at a randomly masked click. ``"mask"``: always :math:`m`; ``"80_10_10"``:
            :math:`m` in 80 %, a random item in 10 %, its own item in 10 %.
        positions: Whether learned positions count from the ``"start"`` or the ``"end"`` of a row.
        norm_input: Whether the sum of embedding and position is normalized, as in the authors'
            code and in BERT; the paper does not specify it.

    Raises:
        ValueError: If a size is not positive, ``max_length`` leaves no room for a click, or
            ``heads`` does not divide the width. Also if ``dropout`` or ``mask_prob`` is out of
            range, or ``masking`` or ``positions`` is unknown.
    """

    traits = Traits(
        architecture="bidirectional self-attention",
        parallel=True,
        reach="newest max_length - 1 clicks",
        side_features=False,
        best_for="large corpora and long training",
    )
    samples = "cloze"
    max_length: int

    def __init__(
        self,
        num_items: int,
        hidden_channels: int = 64,
        num_layers: int = 2,
        *,
        heads: int = 2,
        max_length: int = 50,
        dropout: float = 0.2,
        expansion: int = 4,
        mask_prob: float = 0.2,
        masking: Masking = "mask",
        positions: Positions = "start",
        norm_input: bool = True,
    ) -> None:
        super().__init__(num_items)
        check_sizes(hidden_channels=hidden_channels, num_layers=num_layers, expansion=expansion)
        check_shares(dropout=dropout)
        if max_length < 2:
            raise ValueError(
                f"max_length must be at least 2, a click and the masked one, got {max_length}."
            )
        if not 0 < mask_prob < 1:
            raise ValueError(f"mask_prob must lie in (0, 1), got {mask_prob}.")
        self.max_length = max_length
        self.mask_prob = mask_prob
        self.masking = masking
        self.items = ItemTable(num_items, hidden_channels, bias=True)  # e, b
        self.positions = LearnedPositions(max_length, hidden_channels, positions)  # p
        self.mask_embedding = Parameter(torch.empty(hidden_channels))  # m
        self.norm = LayerNorm(hidden_channels) if norm_input else None
        self.blocks = ModuleList(
            TransformerBlock(
                hidden_channels,
                heads,
                kind="post_norm",
                causal=False,
                activation="gelu",
                dropout=dropout,
                expansion=expansion,
            )
            for _ in range(num_layers)
        )
        self.lin_head = Linear(hidden_channels, hidden_channels)  # W, c
        self.norm_head = LayerNorm(hidden_channels)
        self.drop = Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        torch.nn.init.normal_(self.mask_embedding, std=0.02)
        torch.nn.init.zeros_(self.items.bias)  # type: ignore[arg-type]
        for module in self.modules():
            if isinstance(module, ItemTable | LearnedPositions):
                torch.nn.init.normal_(module.weight, std=0.02)
            elif isinstance(module, LayerNorm):
                module.reset_parameters()
            elif isinstance(module, Linear):
                # A masked position learns about the others only through projections. BERT's
                # standard deviation, 0.02, suits a width of 768; at 64 almost no signal would pass
                # at first.
                torch.nn.init.normal_(module.weight, std=module.in_features**-0.5)
                if module.bias is not None:
                    torch.nn.init.zeros_(module.bias)

    def forward(self, batch: Batch) -> Tensor:
        """The output at a masked click after the last one of every session, [num_sessions, d]."""
        return self._next(batch.click_item, batch.click_ptr)

    def training_rows(self, batch: Batch, generator: torch.Generator) -> TrainingRows:
        """Outputs at masked clicks, the items that were there, and the clicks' sessions.

        A session with its final target is split from its end into windows of ``max_length``
        positions. In each window every click is masked with ``mask_prob``; at least one is masked,
        and at least one is not. The newest window is used once more, with only its last item
        masked. Clicks that are not targets (``y = -100``: before the split's ``first_target``) are
        inputs but never masked. The first click, for which ``y`` has no value, can be masked if the
        second can. A window of one click, or without a target, is left out.

        Batches of prefixes, with one target per session, mask only that target.

        Args:
            batch: Session graphs with ``y``, one target per click or per session.
            generator: The source of the masks; a session's masks depend on its number in the step.

        """
        if batch.has_one_target:
            return super().training_rows(batch, generator)
        items, ptr, may = whole_sessions(batch.click_item, batch.click_ptr, batch.y)
        window = cut_from_end(ptr, self.max_length)
        start, stop = window[:-1], window[1:]
        some = segment(may.float(), window, reduce="max") > 0
        some &= stop - start > 1
        last_start = torch.maximum(ptr[:-1], ptr[1:] - self.max_length)
        last = may[ptr[1:] - 1] & (ptr[1:] - last_start > 1)

        start = torch.cat([start[some], last_start[last]])
        stop = torch.cat([stop[some], ptr[1:][last]])
        click, row_ptr = ragged_range(start, stop)  # rows: first windows, then last items
        items, may = items[click], may[click]
        session = torch.searchsorted(ptr, click, right=True) - 1
        windows = int(some.sum())
        drawn = row_ptr[: windows + 1]
        end = int(drawn[-1])
        streams = session_streams_of(generator, session[:end].cpu().numpy())
        place = 3 * (click - ptr[session])[:end].cpu().numpy()  # of three random numbers
        draw = torch.from_numpy(uniform(streams, place)).to(items.device)
        masked = torch.zeros_like(may)
        masked[:end] = draw_masks(may[:end], drawn, self.mask_prob, draw)
        masked[row_ptr[windows + 1 :] - 1] = True
        query_index = masked.nonzero().view(-1)  # [n]
        targets, session = items[query_index], session[query_index]
        if self.masking == "80_10_10":
            items, masked = self._replace(items, masked, streams, place)
        return TrainingRows(self._encode(items, masked, row_ptr, query_index), targets, session)

    def _replace(
        self, items: Tensor, masked: Tensor, streams: Words, place: NDArray[np.int64]
    ) -> tuple[Tensor, Tensor]:
        """Puts a random item in 10 % of the masked positions of windows and unmasks another 10
        %."""
        at = masked[: len(place)].nonzero().view(-1)
        here = at.cpu().numpy()
        share = torch.from_numpy(uniform(streams[here], place[here] + 1)).to(at.device)
        other = torch.from_numpy(integers(streams[here], place[here] + 2, self.num_items))
        other = other.to(at.device)
        items = items.index_copy(0, at, torch.where(share < 0.9, other, items[at]))
        return items, masked.index_copy(0, at, share < 0.8)

    def _next(self, items: Tensor, ptr: Tensor) -> Tensor:
        """The output at a masked click after the last one of every session, [num_sessions, d]."""
        start = torch.maximum(ptr[:-1], ptr[1:] - (self.max_length - 1))
        click, row_ptr = ragged_range(start, ptr[1:] + 1)  # one position more than there are clicks
        place = row_ptr[1:] - 1
        masked = torch.zeros_like(click, dtype=torch.bool)
        masked[place] = True
        # Any item can be in the masked position: its embedding is not used.
        return self._encode(items[click.clamp(max=items.numel() - 1)], masked, row_ptr, place)

    def _encode(self, items: Tensor, masked: Tensor, ptr: Tensor, query_index: Tensor) -> Tensor:
        """Outputs at clicks ``query_index`` of rows of at most ``max_length`` positions: [n, d]."""
        view = DenseView(ptr)
        x = self.items(items)  # e: [num_clicks, d]
        x = torch.where(masked.unsqueeze(1), self.mask_embedding, x)
        x, _ = self.positions(x, view)
        h = self.drop(x if self.norm is None else self.norm(x))
        *blocks, last = self.blocks
        for block in blocks:
            h = block(h, view)  # [num_clicks, d]
        h = last(h, view, query_index=query_index)  # [n, d]
        out: Tensor = self.norm_head(gelu(self.lin_head(h)))
        return out


def whole_sessions(items: Tensor, ptr: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sessions with their final targets appended, and which of their clicks are targets.

    Args:
        items: The clicks' items, int64 [num_clicks].
        ptr: First click of each session, and the end, int64 [num_sessions + 1].
        y: The item after each click, int64 [num_clicks]: -1 unknown, -100 no target.

    Returns:
        Items, int64 [n], the sessions' pointer, int64 [num_sessions + 1], and bool [n]. An unknown
        final target is left out.
    """
    lengths, last = ptr.diff(), ptr[1:] - 1
    has_final = y[last] >= 0
    whole = ptr_of(lengths + has_final)
    place = torch.arange(items.numel(), device=items.device)
    place = place + torch.repeat_interleave(whole[:-1] - ptr[:-1], lengths)  # [num_clicks]
    everything = items.new_empty(int(whole[-1]))
    everything[place] = items
    everything[whole[1:][has_final] - 1] = y[last[has_final]]
    # A click is a target if the y before it is one. After an unknown final target comes the first
    # click of the next session, which depends on its own y and is set afterwards.
    may = torch.zeros(everything.numel() + 1, dtype=torch.bool, device=items.device)
    may[place + 1] = y != NO_TARGET
    may[whole[:-1]] = y[ptr[:-1]] != NO_TARGET
    return everything, whole, may[:-1]


def draw_masks(may: Tensor, ptr: Tensor, share: float, draw: Tensor) -> Tensor:
    """Clicks to mask: each with a probability, at least one per row, and never a whole row.

    Args:
        may: Which clicks may be masked, bool [num_clicks], at least one in each row.
        ptr: First click of each row, and the end, int64 [num_rows + 1]; rows of two or more.
        share: The probability.
        draw: A random number in [0, 1) for each click, [num_clicks].

    Returns:
        bool [num_clicks].
    """
    row = torch.repeat_interleave(ptr.diff())
    lowest = segment(draw.masked_fill(~may, 2.0), ptr, reduce="min")  # [num_rows]
    masked = may & ((draw < share) | (draw == lowest[row]))
    # If all clicks of a row are masked, the click with the highest draw is unmasked.
    highest = segment(draw.masked_fill(~masked, 2.0), ptr, reduce="max")
    return masked & (draw != highest[row])
