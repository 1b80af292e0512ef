"""HGRU4Rec: a recurrent network over clicks inside one over sessions (Quadrana et al., 2017)."""

from __future__ import annotations

import logging
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Embedding, GRUCell, Linear
from torch.nn.functional import pad
from torch.nn.utils.rnn import PackedSequence
from torch_geometric.data import Batch

from graphseq.arguments import check_shares, check_sizes
from graphseq.data.graphs.dataset import NO_TARGET
from graphseq.deprecation import renamed
from graphseq.models.base import SessionModel, Traits
from graphseq.models.live_clicks import codes_of
from graphseq.models.reading import TrainingRows
from graphseq.models.registry import register
from graphseq.nn.dropout import dropout
from graphseq.nn.item_table import ItemTable
from graphseq.nn.packed_gru import PackedGRU
from graphseq.nn.ragged import packed_order, ragged_range

logger = logging.getLogger(__name__)


@register("hgru4rec")
class HGRU4Rec(SessionModel):
    r"""Scores of HGRU4Rec (Quadrana et al., RecSys 2017): a user's sessions depend on earlier ones.

    The m-th session of a user starts from the state after the sessions before it:

    .. math::
        s_{m,0} = \tanh(W c_{m-1} + b), \quad
        s_{m,n} = \mathrm{GRU}_{ses}(x_{m,n}, s_{m,n-1}), \quad
        c_m = \mathrm{GRU}_{usr}(s_{m,N_m}, c_{m-1}), \quad
        \hat r_j = w_j^\top s_{m,n} + b_j

    with :math:`c_0 = 0` and, as in the authors' code, :math:`s_{1,0} = 0`. In the variant ``"all"``
    the session's network also reads :math:`c_{m-1}` at every click.

    It reads histories made by :func:`graphseq.data.join_sessions` or
    :func:`graphseq.data.with_history`: ``batch.click_session`` is the session of each click. A
    batch without it holds first sessions. The k-th sessions of all users of a batch are one packed
    pass, so a batch takes as many passes as the largest number of sessions of a user.

    Different from the authors' code: gradients flow through all sessions of a history, there
    through one click. torch's GRU applies the reset gate after the matrix product. Dropout applies
    between networks, never from click to click. The first click of a session is not a training
    target, as there, unless it is the last click of its history.

    Args:
        num_items: Items of the catalog.
        hidden_channels: Width ``d`` of embeddings and session states.
        user_channels: Width of user states; ``None``: ``hidden_channels``.
        variant: ``"init"``: a user's state initializes sessions; ``"all"``: it is also read at
            every click.
        embedding: ``"tied"``: input and output share the table :math:`w`; ``"separate"``: the input
            has a separate table.
        dropout: Dropout rate of states before scores.
        user_dropout: Dropout rate of user states and first session states.

    Raises:
        ValueError: If a size is not positive, a dropout rate is outside [0, 1), or ``variant`` or
            ``embedding`` is unknown.
    """

    traits = Traits(
        architecture="recurrent (GRU) over clicks, and over a user's sessions",
        parallel=False,
        reach="all sessions of the user, fading",
        side_features=False,
        best_for="users with many sessions that build on one another",
    )
    samples = "sessions"
    causal = True

    @renamed(values={"embedding": {"constrained": "tied"}})
    def __init__(
        self,
        num_items: int,
        hidden_channels: int = 100,
        user_channels: int | None = None,
        *,
        variant: Literal["init", "all"] = "init",
        embedding: Literal["tied", "separate"] = "tied",
        dropout: float = 0.0,
        user_dropout: float = 0.0,
    ) -> None:
        super().__init__(num_items)
        width = hidden_channels if user_channels is None else user_channels
        check_sizes(hidden_channels=hidden_channels, user_channels=width)
        check_shares(dropout=dropout, user_dropout=user_dropout)
        self.variant = variant
        self.dropout = dropout
        self.user_dropout = user_dropout
        self.items = ItemTable(num_items, hidden_channels, bias=True)  # w, b_j
        self.input_embedding = (
            Embedding(num_items, hidden_channels) if embedding == "separate" else None
        )
        in_channels = hidden_channels + (width if variant == "all" else 0)
        self.session_gru = PackedGRU(in_channels, hidden_channels)
        self.user_gru = GRUCell(hidden_channels, width)
        self.lin_init = Linear(width, hidden_channels)  # W, b
        self._warned = False
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:
                torch.nn.init.zeros_(parameter)
                continue
            gates = 3 if "_gru." in name else 1
            bound = (6 / (parameter.size(0) / gates + parameter.size(1))) ** 0.5
            torch.nn.init.uniform_(parameter, -bound, bound)

    def forward(self, batch: Batch) -> Tensor:
        """The state after the last click of every history, [num_histories, d]."""
        return self.click_states(batch)[batch.click_ptr[1:] - 1]

    def click_states(self, batch: Batch) -> Tensor:
        """The state after every click, [num_clicks, d]."""
        e = self._input(batch.click_item)  # [num_clicks, d]
        if e.size(0) == 0:
            return e
        start = _session_starts(batch).nonzero().view(-1)  # [num_sessions], first click of each
        stop = torch.cat([start[1:], start.new_tensor([e.size(0)])])
        history = batch.click_batch[start]
        counts = torch.bincount(history)  # sessions of each history
        # Histories with the most sessions come first, so that those with a k-th session are the
        # first ones.
        most_first = counts.argsort(descending=True, stable=True)
        first = (counts.cumsum(0) - counts)[most_first]  # first session of each
        counts = counts[most_first]
        alive = torch.bincount(counts).flip(0).cumsum(0).flip(0)[1:].tolist()  # with a k-th one
        c = e.new_zeros(alive[0], self.user_gru.hidden_size)  # c_0: [num_histories, d_u]
        s = e.new_zeros(alive[0], self.items.channels)  # s_{1,0}
        states, clicks = [], []
        for k, size in enumerate(alive):
            session = first[:size] + k
            if k:
                c = self.user_gru(s[:size], c[:size])  # c_k: [size, d_u]
                c = self._drop(c, self.user_dropout)
                s = self._first_states(c)  # s_{k+1,0}: [size, d]
            click, ptr = ragged_range(start[session], stop[session])
            h, s = self._walk(e[click], ptr, s, c)
            states.append(h)
            clicks.append(click)
        h = torch.cat(states)
        h = torch.empty_like(h).index_copy(0, torch.cat(clicks), h)
        return self._drop(h, self.dropout)  # [num_clicks, d]

    def training_rows(self, batch: Batch, generator: torch.Generator) -> TrainingRows:
        """The state after every click, and the next item in its session."""
        if "click_session" not in batch and not self._warned:
            self._warned = True
            logger.warning(
                "These sessions tell of none before them, so HGRU4Rec learns nothing of users: "
                "train it on gs.data.join_sessions(sessions)."
            )
        vectors, targets, of_session = super().training_rows(batch, generator)
        if targets.numel() == batch.click_index.numel():
            later = _session_starts(batch) & ~_history_starts(batch)
            targets = targets.masked_fill(pad(later[1:], (0, 1)), NO_TARGET)
        return TrainingRows(vectors, targets, of_session)

    def initial_state(self, num_sessions: int | None = None, *, user: Any = -1) -> Tensor:
        """The state before any click: zeros, [d + d_u + 1] or [num_sessions, d + d_u + 1].

        A row holds the session's state, the user's state, and whether the session has a click. It
        is the state of any user.
        """
        size = () if num_sessions is None else (num_sessions,)
        width = self.items.channels + self.user_gru.hidden_size + 1
        return self.items.weight.new_zeros(*size, width)

    def start_session(self, state: Tensor) -> Tensor:
        """The state of the next session before its first click; unchanged for a session without
        clicks.

        Args:
            state: [d + d_u + 1] of one user, or [num_users, d + d_u + 1].

        Returns:
            A new state of the same shape, which :meth:`score_state` can score directly.
        """
        s, c, clicked = self._parts(state)
        rows = c.view(-1, c.size(-1))
        c = self.user_gru(s.reshape(-1, s.size(-1)), rows).view_as(c)
        s = self._first_states(c)
        return torch.where(clicked > 0, torch.cat([s, c, torch.zeros_like(clicked)], -1), state)

    def update_state(
        self, state: Tensor, item: Any, *, ids: bool | None = None, **fields: Any
    ) -> Tensor:
        """The state after one more click of the same session, of the same shape."""
        rows = state if state.dim() == 2 else state.unsqueeze(0)
        items = codes_of(self, "item", item, len(rows), ids, one=state.dim() == 1)
        s, c, clicked = self._parts(rows)
        x = self._beside(self._input(items.clamp(min=0)), c)  # [num_sessions, d]
        s = torch.gru_cell(x, s.contiguous(), *self.session_gru.weights(0))
        later = torch.cat([s, c, torch.ones_like(clicked)], dim=-1)
        return torch.where((items >= 0).unsqueeze(-1), later, rows).view_as(state)

    def score_state(self, state: Tensor, items: Tensor | None = None) -> Tensor:
        """Scores of the next item, [num_items] or [C]; for several sessions [num_sessions, ...]."""
        s, _, _ = self._parts(state)
        if s.dim() == 2:
            return self.items.scores(s, items)
        return self.items.scores(s.unsqueeze(0), items).squeeze(0)

    def _parts(self, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        s, c, clicked = state.split([self.items.channels, self.user_gru.hidden_size, 1], dim=-1)
        return s, c, clicked

    def _walk(self, e: Tensor, ptr: Tensor, s: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """One session of each user: the states of its clicks, and the states after its last click.

        Args:
            e: Embeddings of the clicks, [n, d].
            ptr: First click of each session, and the end, int64 [num_users + 1].
            s: Initial states, [num_users, d].
            c: User states, [num_users, d_u].

        Returns:
            [n, d] and [num_users, d].
        """
        lengths = ptr.diff()
        x = self._beside(e, c.repeat_interleave(lengths, dim=0))
        place, sizes = packed_order(ptr)
        longest_first = lengths.argsort(descending=True, stable=True)  # the order of packed rows
        packed = self.session_gru(PackedSequence(x[place], sizes), s[longest_first].unsqueeze(0))
        h = torch.empty_like(packed.data).index_copy(0, place, packed.data)
        return h, h[ptr[1:] - 1]

    def _beside(self, e: Tensor, c: Tensor) -> Tensor:
        """The input of the session's network at each click, [..., d] or [..., d + d_u]."""
        return torch.cat([e, c], dim=-1) if self.variant == "all" else e

    def _first_states(self, c: Tensor) -> Tensor:
        """The initial session states from user states, [..., d]."""
        return self._drop(self.lin_init(c).tanh(), self.user_dropout)

    def _input(self, items: Tensor) -> Tensor:
        table = self.items if self.input_embedding is None else self.input_embedding
        e: Tensor = table(items)
        return e

    def _drop(self, h: Tensor, share: float) -> Tensor:
        return dropout(h, share, self.training)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.num_items}, {self.items.channels}, "
            f"variant={self.variant!r})"
        )


def _history_starts(batch: Batch) -> Tensor:
    """Which clicks are the first of their history, bool [num_clicks]."""
    return pad(batch.click_batch.diff() != 0, (1, 0), value=True)


def _session_starts(batch: Batch) -> Tensor:
    """Which clicks are the first of their session, bool [num_clicks]."""
    starts = _history_starts(batch)
    session: Tensor | None = batch.get("click_session")
    return starts if session is None else starts | pad(session.diff() != 0, (1, 0), value=True)
