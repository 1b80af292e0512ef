"""The one interface of all models: a batch of session graphs in, scores of items out."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from typing import Any, ClassVar, Literal, Self, SupportsIndex, overload

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.arguments import check_annotated, whole
from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.sessions import Sessions
from graphseq.models.use.ties import roundings

TrainedOn = Literal["sessions", "prefixes", "cloze", "counts", "pairs"]

SessionsLike = Any
"""Sessions as a caller has them: lists, arrays or tensors of ids, :class:`Sessions`, or a log, one
click a row, of any kind that :meth:`Sessions.from_frame` takes."""


FAR_OFF = 2**10
"""A lowest score so many times the best one is no score, but marks items that are hidden."""

ROOM_IN_FLOAT64 = 64
"""Real differences are far above so many roundings of float64, of float32 they may be few."""


@dataclass(frozen=True)
class Traits:
    """What the table of families says of one, beside what its class tells by itself.

    Args:
        architecture: What it is made of, in a few words.
        parallel: Whether all clicks of a session are computed at once in training.
        reach: How far back it looks: ``"last click"``, ``"newest max_length clicks"``, ...
        side_features: Whether it reads features of clicks or items.
        best_for: When to take it, in half a sentence.
    """

    architecture: str
    parallel: bool
    reach: str
    side_features: bool
    best_for: str


class SessionModel(torch.nn.Module):
    """What fit, evaluate, recommend, save and load ask of a model.

    A family with an item table implements :meth:`forward` (and :meth:`click_states` where it has a
    state for every click) and :meth:`item_weight`; scores are inner products. A family that scores
    in another way overrides :meth:`score`. A family that is trained neither on the vector of each
    session nor on the state of each click overrides :meth:`training_vectors`.

    Class attributes:
        trained_on: ``"sessions"`` (every click's state predicts the next one), ``"prefixes"`` (one
            graph a target), ``"cloze"``, ``"counts"`` or ``"pairs"``.
        states_equal_prefixes: Whether the state of a click in a longer session equals the session
            vector of the prefix that ends there, so that one pass may evaluate all prefixes.
        shares_windows: Whether windows of ``max_length`` clicks share their work, so that one pass
            also pays over a session that is longer.
        num_roundings: How many roundings put apart scores of equal items at most, where a family
            has a :meth:`score` of its own.
        traits: What the table of families says of it; a model of one's own may have none.
    """

    traits: ClassVar[Traits | None] = None
    trained_on: ClassVar[TrainedOn] = "prefixes"
    states_equal_prefixes: ClassVar[bool] = False
    shares_windows: ClassVar[bool] = False
    num_roundings: ClassVar[int] = 2

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        # Of all families at once: what a signature calls an int is one, before anything is built.
        signature = inspect.signature(cls.__init__)
        with suppress(TypeError):  # that does not fit the signature: __init__ says so better
            given = signature.bind_partial(None, *args, **kwargs).arguments
            kinds = {name: p.annotation for name, p in signature.parameters.items()}
            check_annotated(kinds, given)
        return super().__new__(cls)

    def __init__(self, num_items: int) -> None:
        super().__init__()
        if num_items < 1:
            raise ValueError(f"num_items must be at least 1, got {num_items}.")
        self.num_items = int(num_items)
        self.catalog: Catalog | None = None

    def forward(self, batch: Batch) -> Tensor:
        """Session vectors, [num_sessions, hidden_channels]."""
        raise AttributeError(f"{type(self).__name__} defines no forward(batch).")

    def click_states(self, batch: Batch) -> Tensor:
        """The state after every click, [num_clicks, hidden_channels]."""
        raise AttributeError(f"{type(self).__name__} has no state for every click.")

    def item_weight(self) -> Tensor:
        """The output item table, [num_items, hidden_channels]."""
        raise AttributeError(f"{type(self).__name__} has no item table.")

    def item_rows(self, items: Tensor) -> Tensor:
        """Rows of the output item table, ``item_weight()[items]``: [..., hidden_channels].

        Where the table is that of an embedding, nothing else of it is read and its gradient can be
        row-sparse. A family that computes its table overrides this with the rows alone.

        Args:
            items: Item codes, int64 of any shape.
        """
        weight = self.item_weight()
        for module in self.modules():
            if isinstance(module, torch.nn.Embedding) and module.weight is weight:
                rows: Tensor = module(items)
                return rows
        return weight[items]

    def item_bias(self) -> Tensor | None:
        """The bias of each item's score, [num_items], or ``None``."""
        return None

    def score_vectors(self, vectors: Tensor, items: Tensor | None = None) -> Tensor:
        """Scores of session vectors or click states against items.

        Args:
            vectors: [n, hidden_channels].
            items: ``None``: all items; else candidates, [C] alike for all or [n, C].

        Returns:
            [n, num_items] or [n, C].
        """
        bias = self.item_bias()
        if items is None:
            return torch.nn.functional.linear(vectors, self.item_weight(), bias)
        rows = self.item_rows(items)  # [C, d] or [n, C, d]
        bias = None if bias is None else bias[items]
        if items.dim() == 1:
            return torch.nn.functional.linear(vectors, rows, bias)
        scores = torch.einsum("nd,ncd->nc", vectors, rows)
        return scores if bias is None else scores + bias

    def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
        """Scores of the next item of every session.

        Args:
            batch: Session graphs.
            items: ``None``: all items; else candidates, [C] alike for all or [num_sessions, C].

        Returns:
            [num_sessions, num_items] or [num_sessions, C]; ``-inf`` marks what is not recommended
            at all.
        """
        return self.score_vectors(self(batch), items)

    def score_tolerance(self, scores: Tensor, rows: Tensor) -> Tensor:
        """How far apart scores of equal items lie, for a family with a :meth:`score` of its own.

        Where no score of a session is negative, they are taken for sums without cancellation, each
        exact but for ``2 * num_roundings`` of itself. Else terms may be as large as the ends of the
        row are, unless the lower one is far off, as what marks an item as hidden is. See
        :mod:`graphseq.models.use.ties`.

        Args:
            scores: [n, m].
            rows: All scores of these sessions, [n, C].

        Returns:
            [n, m].
        """
        lowest, highest = rows.aminmax(dim=1, keepdim=True)
        size, depth = highest.abs(), lowest.abs()
        size = size + torch.where(depth <= FAR_OFF * size, depth, 0)
        size = torch.where(lowest < 0, size, scores.abs())
        number = self.num_roundings * (ROOM_IN_FLOAT64 if scores.dtype == torch.float64 else 1)
        return roundings(number, scores, scores.abs() + size)

    def _clicked(self, item: Any) -> Tensor:
        """Codes of clicked items, checked: int64 of their shape, -1 for what is unknown.

        Raises:
            ValueError: If they are no whole numbers, or lie outside ``-1..num_items-1``.
        """
        codes = item if isinstance(item, Tensor) else np.asarray(item)
        kind = str(codes.dtype).removeprefix("torch.")
        if not kind.startswith(("int", "uint")):
            raise ValueError(
                f"item must be the code of an item, a whole number in 0..{self.num_items - 1}, or "
                f"-1 for an unknown one, got {item!r}: model.catalog.items.encode([id]) tells the "
                "code of an id."
            )
        found = torch.as_tensor(codes, dtype=torch.long, device=self.device)
        outside = (found < -1) | (found >= self.num_items)
        if bool(outside.any()):
            raise ValueError(
                f"item must be the code of an item in 0..{self.num_items - 1}, or -1 for an "
                f"unknown one, got {int(found[outside][0])}."
            )
        return found

    def _newest(self, state: Tensor, item: Any, most: int) -> Tensor:
        """The newest clicks of one session with one more, of a family whose state they are.

        Args:
            state: Item codes, oldest first, int64 [at most ``most``].
            item: The code of an item; -1: an unknown one, whose click is skipped.
            most: Clicks kept.

        Raises:
            ValueError: If it is not the code of one item.
        """
        code = self._clicked(item)
        if code.numel() != 1:
            raise ValueError(
                f"item must be one code, as {type(self).__name__} keeps the state of one session, "
                f"got shape {list(code.shape)}."
            )
        if int(code) < 0:
            return state
        clicks = torch.cat([state, code.view(1)])
        return clicks[max(0, len(clicks) - most) :]

    @overload
    def recommend(
        self,
        sessions: SessionsLike,
        k: int = 10,
        *,
        as_frame: Literal[False] = False,
        **options: Any,
    ) -> list[list[tuple[Any, float]]]: ...

    @overload
    def recommend(
        self, sessions: SessionsLike, k: int = 10, *, as_frame: Literal[True], **options: Any
    ) -> pd.DataFrame: ...

    def recommend(
        self, sessions: SessionsLike, k: int = 10, **options: Any
    ) -> list[list[tuple[Any, float]]] | pd.DataFrame:
        """The ``k`` best items of every session:
        :func:`graphseq.models.use.recommend.recommend`."""
        from graphseq.models.use.recommend import recommend  # it imports this file

        return recommend(self, sessions, k, **options)

    def save(self, folder: str | PathLike[str]) -> None:
        """Writes the model to a folder: :func:`graphseq.models.use.persistence.save`."""
        from graphseq.models.use.persistence import save  # it imports this file

        save(self, folder)

    def attach(self, catalog: Catalog) -> None:
        """Makes the model know its training data: ids, counts, item features.

        A family that holds item features as buffers fills them here.

        Args:
            catalog: Of ``num_items`` items.

        Raises:
            ValueError: If the catalog is of another number of items.
        """
        if catalog.num_items != self.num_items:
            raise ValueError(
                f"The model has {self.num_items} items, the catalog {catalog.num_items}: build the "
                "model with num_items=split.num_items."
            )
        self.catalog = catalog

    def prepare(self, sessions: Sessions | None) -> None:
        """Reads the training sessions before training; ``fit`` calls it after :meth:`attach`.

        A family that holds something of them beside its weights fills its buffers here.

        Args:
            sessions: The training sessions; ``None`` where batches come without.
        """

    def training_vectors(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """What one training step compares with items: vectors, and the item each must find.

        Args:
            batch: Session graphs with ``y``.
            generator: The source of whatever is drawn, seeded anew for every step.

        Returns:
            Vectors [n, hidden_channels] and items, int64 [n]; a negative item (-1: unknown, -100:
            none) takes its row out of the loss.
        """
        targets: Tensor = batch.y
        if self.trained_on == "sessions" and targets.numel() == batch.click_index.numel():
            return self.click_states(batch), targets
        return self(batch), targets

    def training_rows(
        self, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """:meth:`training_vectors`, and the session that each of them belongs to.

        A family that trains on other vectors than one a session or one a click overrides this.

        Returns:
            Vectors [n, hidden_channels], items, int64 [n], and sessions, int64 [n].

        Raises:
            ValueError: If there is neither one vector a session nor one a click.
        """
        vectors, targets = self.training_vectors(batch, generator)
        if len(vectors) == batch.num_graphs:
            return vectors, targets, torch.arange(batch.num_graphs, device=vectors.device)
        if len(vectors) != batch.click_index.numel():
            raise ValueError(
                f"{type(self).__name__} trains on {len(vectors)} vectors for {batch.num_graphs} "
                f"sessions of {batch.click_index.numel()} clicks, and does not tell by "
                "training_rows which session each belongs to."
            )
        return vectors, targets, batch.click_batch

    def training_state(self) -> dict[str, Tensor]:
        """What training carries from step to step beside the weights; a checkpoint keeps it."""
        return {}

    def load_training_state(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from what :meth:`training_state` gave."""

    @property
    def scores_by_table(self) -> bool:
        """Whether scores are inner products with an item table, so that none need be kept."""
        family = type(self)
        return (
            family.item_weight is not SessionModel.item_weight
            and family.score is SessionModel.score
            and family.score_vectors is SessionModel.score_vectors
        )

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments this model was built with."""
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        return {name: getattr(self, name) for name in names}

    @property
    def device(self) -> torch.device:
        tensor: Tensor | None = next(self.parameters(), None)
        tensor = next(self.buffers(), None) if tensor is None else tensor
        return torch.device("cpu") if tensor is None else tensor.device


def code_of_user(user: SupportsIndex, num_users: int) -> int:
    """The code of a user, or -1.

    Raises:
        ValueError: If it is no whole number in ``-1..num_users-1``.
    """
    code = whole("user", user, at_least=-1)
    if code >= num_users:
        raise ValueError(
            f"user must be the code of a user below {num_users}, or -1 for an unknown one, got "
            f"{code}."
        )
    return code
