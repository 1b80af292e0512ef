"""Caser: sequences of clicks as images under convolutions (Tang & Wang, WSDM 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import Embedding, Linear
from torch_geometric.data import Batch

from graphseq.arguments import check_shares, check_sizes
from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.sessions import Sessions
from graphseq.deprecation import renamed
from graphseq.models.base import SessionModel, Traits
from graphseq.models.published.caser import read_caser
from graphseq.models.published.loading import from_weights
from graphseq.models.reading import TrainingRows
from graphseq.models.registry import register
from graphseq.nn.dropout import Dropout
from graphseq.nn.item_table import ItemTable
from graphseq.nn.ragged import WindowView, ragged_range
from graphseq.nn.window_conv import HorizontalConv, VerticalConv

CLICKS_AT_ONCE = 65_536
"""Number of clicks whose windows are built at once outside training; this bounds memory."""


@register("caser")
class Caser(SessionModel):
    r"""Scores of Caser (Tang & Wang, WSDM 2018): :math:`y_j = W'_j [z ; P_u] + b'_j`.

    .. math::
        z = \mathrm{ReLU}(W [\tilde o ; o] + b)

    where :math:`o` and :math:`\tilde o` are the horizontal and vertical convolutions
    (:mod:`graphseq.nn.window_conv`) of the image of the newest ``max_length``
    clicks, and :math:`P_u` is the user's embedding; without users, :math:`W'_j` is half as wide.
    Every click has the window that ends with it, so states equal the states of prefixes.

    Different from the authors' code, which pads short sequences with a special item: places
    before
    the first click are zeros, and no horizontal filter ends there. Parameters start as in the
    authors' code (a tied table: wider, and biases at zero). Its loss is ``SampledLoss("bce", 3)``
    with ``num_targets=3``; it draws negatives for each window, here a batch shares them.
    ``dropout`` falls on the convolutions' outputs.

    The user of a session is ``batch.user``; an unknown user (-1), and all users of a batch without
    that field, have the zero vector.

    Args:
        num_items: Items of the catalog.
        hidden_channels: Width ``d`` of embeddings and of ``z``.
        max_length: Number ``L`` of clicks that a state depends on, including its own.
        num_horizontal: Horizontal filters of each height; 0: none.
        num_vertical: Vertical filters; 0: none.
        heights: Heights of horizontal filters in clicks, ascending; ``None``: 1 to ``max_length``.
        dropout: Dropout rate of the convolutions' outputs.
        num_users: Number of users; ``None``: no user embedding. With users, states have width
            ``2 d``.
        num_targets: Number of next clicks that a window is trained to predict. More than one needs
            batches of whole sessions, as ``fit`` makes them.
        embedding: ``"separate"``: :math:`W'` is a separate table, as in paper and code;
            ``"tied"``: input and output share one table, which needs far fewer clicks per item.
            Tied tables are possible only without users.

    Raises:
        ValueError: If a size is out of range, there are no filters, or ``heights`` are not
            ascending within 1 to ``max_length``. Also if ``dropout`` is outside [0, 1), or
            ``embedding`` is unknown, or tied with users.
    """

    traits = Traits(
        architecture="convolutions over a window",
        parallel=True,
        reach="newest max_length clicks",
        side_features=False,
        best_for="short sessions with local patterns",
    )
    samples = "sessions"
    causal = True
    shares_windows = True
    max_length: int

    @renamed(targets="num_targets", values={"embedding": {"constrained": "tied"}})
    def __init__(
        self,
        num_items: int,
        hidden_channels: int = 50,
        *,
        max_length: int = 5,
        num_horizontal: int = 16,
        num_vertical: int = 4,
        heights: Sequence[int] | None = None,
        dropout: float = 0.5,
        num_users: int | None = None,
        num_targets: int = 1,
        embedding: Literal["separate", "tied"] = "separate",
    ) -> None:
        super().__init__(num_items)
        check_sizes(hidden_channels=hidden_channels, max_length=max_length)
        check_sizes(num_targets=num_targets, num_users=num_users)
        check_shares(dropout=dropout)
        if min(num_horizontal, num_vertical) < 0 or num_horizontal + num_vertical == 0:
            raise ValueError(
                "num_horizontal and num_vertical must not be negative, nor both be 0, got "
                f"{num_horizontal} and {num_vertical}."
            )
        if embedding == "tied" and num_users is not None:
            raise ValueError(
                "embedding='tied' needs an output table as wide as the input's, but users "
                f"make it twice as wide, got num_users={num_users}: take 'separate'."
            )
        spans = list(range(1, max_length + 1) if heights is None else heights)
        if not spans or spans != sorted(set(spans)) or spans[0] < 1 or spans[-1] > max_length:
            raise ValueError(
                f"heights must rise within 1..{max_length}, the max_length, got {spans}."
            )
        self.max_length = max_length
        self.num_users = num_users
        self.num_targets = num_targets
        d, width = hidden_channels, num_vertical * hidden_channels + num_horizontal * len(spans)
        tied = embedding == "tied"
        self.input_embedding = None if tied else Embedding(num_items, d)  # E
        self.user_embedding = None if num_users is None else Embedding(num_users, d)  # P
        self.horizontal = (
            HorizontalConv(d, spans, num_horizontal, max_length) if num_horizontal else None
        )
        self.vertical = VerticalConv(num_vertical, max_length) if num_vertical else None
        self.drop = Dropout(dropout)
        self.lin = Linear(width, d)  # W, b
        self.items = ItemTable(num_items, d if num_users is None else 2 * d, bias=True)  # W', b'
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for module in self.children():
            if isinstance(module, Embedding):
                torch.nn.init.normal_(module.weight, std=1 / module.embedding_dim)
            elif isinstance(module, HorizontalConv | VerticalConv | Linear):
                module.reset_parameters()
        torch.nn.init.zeros_(self.items.bias)  # type: ignore[arg-type]
        if self.input_embedding is None:
            # If biases dominate the inputs, most units of z die within a few hundred steps.
            torch.nn.init.normal_(self.items.weight, std=self.items.channels**-0.5)
            for name, parameter in self.named_parameters():
                if name.endswith("bias"):
                    torch.nn.init.zeros_(parameter)

    from_published = from_weights(read_caser, "Caser")

    def attach(self, catalog: Catalog | None, sessions: Sessions | None = None) -> None:
        """Attaches the training data to the model.

        Raises:
            ValueError: If the catalog has another number of items, or more users.
        """
        known = 0 if catalog is None or catalog.users is None else len(catalog.users)
        if self.num_users is not None and known > self.num_users:
            raise ValueError(
                f"The model has {self.num_users} users, the catalog {known}: build the model with "
                f"num_users={known}."
            )
        super().attach(catalog, sessions)

    def forward(self, batch: Batch) -> Tensor:
        """The state after the last click of every session, [num_sessions, d] or [.., 2 d]."""
        ptr = batch.click_ptr
        start = torch.maximum(ptr[:-1], ptr[1:] - self.max_length)
        click, ptr = ragged_range(start, ptr[1:])
        position = torch.arange(click.numel(), device=click.device)
        position = position - torch.repeat_interleave(ptr[:-1], ptr.diff())
        z = self._convolve(batch.click_item[click], position, wanted=ptr[1:] - 1)
        return self._with_user(z, self._users_of(batch))

    def click_states(self, batch: Batch) -> Tensor:
        """The state after every click, [num_clicks, d] or, with users, [num_clicks, 2 d]."""
        items, session = batch.click_item, batch.click_batch
        position = torch.arange(items.numel(), device=items.device) - batch.click_ptr[session]
        if self.training or items.numel() <= CLICKS_AT_ONCE:
            z = self._convolve(items, position)
        else:
            parts = []
            for start in range(0, items.numel(), CLICKS_AT_ONCE):
                # The first windows of a part use clicks of the part before.
                part = slice(max(0, start - self.max_length + 1), start + CLICKS_AT_ONCE)
                parts.append(self._convolve(items[part], position[part])[start - part.start :])
            z = torch.cat(parts)
        return self._with_user(z, self._users_of(batch)[session])

    def training_rows(self, batch: Batch, generator: torch.Generator) -> TrainingRows:
        """The state of each click, repeated for each of its targets, which are the next
        ``num_targets`` clicks.

        Raises:
            ValueError: If there are several targets per click, but the batch has one per session.
        """
        if self.num_targets == 1:
            return super().training_rows(batch, generator)
        ptr, y = batch.click_ptr, batch.y
        if batch.has_one_target:
            raise ValueError(
                f"num_targets={self.num_targets} needs a target for every click, but the batch has "
                f"{y.numel()} for {int(ptr[-1])} clicks: train on sessions, or on a dataset with "
                'samples="sessions".'
            )
        click = torch.arange(y.numel(), device=y.device)
        stop = torch.minimum(click + self.num_targets, ptr[1:][batch.click_batch])
        target, target_ptr = ragged_range(click, stop)
        counts = target_ptr.diff()
        vectors = self.click_states(batch).repeat_interleave(counts, dim=0)
        return TrainingRows(vectors, y[target], batch.click_batch.repeat_interleave(counts))

    def _convolve(self, items: Tensor, position: Tensor, wanted: Tensor | None = None) -> Tensor:
        """``z`` of every click, or of the wanted ones, [n, d]."""
        view = WindowView(position, self.max_length)
        table = self.items if self.input_embedding is None else self.input_embedding
        x = table(items)
        blocks = view.blocks(x)  # E: [n, L or fewer, d] each
        ends = view if wanted is None else WindowView(position, self.max_length, wanted)
        o = []
        if self.vertical is not None:
            own = blocks if wanted is None else ends.blocks(x)
            o.append(torch.cat([self.vertical(window) for window in own]))  # o~: [n, n_v d]
        if self.horizontal is not None:
            # A filter may end at any click of a window, so that all are needed.
            o.append(self.horizontal(blocks, view, ends))  # o: [n, H n_h]
        z: Tensor = self.lin(self.drop(torch.cat(o, dim=1).index_select(0, ends.window))).relu()
        return z

    @staticmethod
    def _users_of(batch: Batch) -> Tensor:
        """The user of every session, int64 [num_sessions]; -1: unknown."""
        user: Tensor | None = batch.get("user")
        return batch.ptr.new_full((batch.num_graphs,), -1) if user is None else user

    def _with_user(self, z: Tensor, user: Tensor) -> Tensor:
        """``[z ; P_u]``, [n, 2 d], for a model with users; else ``z``."""
        if self.user_embedding is None:
            return z
        p = self.user_embedding(user.clamp(min=0)) * (user >= 0).unsqueeze(1)  # P_u: [n, d]
        return torch.cat([z, p], dim=1)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.num_items}, {self.hidden_channels}, "
            f"max_length={self.max_length})"
        )
