"""The one interface of all models: a batch of session graphs in, scores of items out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.arguments import flag, whole
from graphseq.data.graphs.session_graph import windows_of_clicks
from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.features import Spec
from graphseq.data.sessions.sessions import Sessions
from graphseq.deprecation import warn_of_old_name
from graphseq.models.kept_arguments import KeptArguments
from graphseq.models.lanes import Lanes
from graphseq.models.old_interface import DECLARATIONS, OldMethods, adopt
from graphseq.models.reading import Additions, TrainingRows, additions_of, check_readers
from graphseq.models.recommender import Recommender
from graphseq.models.use.ties import roundings
from graphseq.nn.item_table import ItemTable

Samples = Literal["sessions", "prefixes", "cloze", "counts", "pairs"]
"""What a model is trained on."""

FAR_OFF = 2**10
"""A lowest score of this many times the best one is not a score: it marks hidden items."""

ROOM_IN_FLOAT64 = 64
"""Real differences are far above this many roundings of float64; of float32 they may be few."""


@dataclass(frozen=True)
class Traits:
    """What the table of families says of one, besides what its class declares.

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


FLAGS = (
    "causal",
    "keeps_state",
    "shares_windows",
    "scores_by_table",
    "adds_to_table",
    "reads_times",
    "reads_request_time",
)
"""Declarations that are true or false."""


class SessionModel(KeptArguments, Lanes, Recommender, OldMethods):
    """What fit, evaluate, recommend, save and load ask of a model.

    A family with an item table sets :attr:`items` and implements :meth:`forward`, and
    :meth:`click_states` where it has a state for every click; scores are inner products. A family
    that scores in another way defines :meth:`score`. A family that is trained neither on the vector
    of each session nor on the state of each click overrides :meth:`training_rows`. One that reads
    item features, or counts over the training sessions, overrides :meth:`attach`.

    A class declares what it is. Declarations are checked when the class is made, and when a model
    sets its own. Arguments of the constructor are kept as ``settings``. The classes above have what
    no family overrides: ``recommend``, ``save``, lanes, live sessions click by click.

    Attributes:
        samples: What it is trained on: ``"sessions"`` (every click's state predicts the next one),
            ``"prefixes"`` (one graph per target), ``"cloze"``, ``"counts"`` or ``"pairs"``.
        causal: Whether the state of a click in a longer session equals the session vector of the
            prefix that ends there, so that one pass may evaluate all prefixes.
        max_length: Newest clicks of a session that it sees; ``None``: all. Training, evaluation,
            recommendation and streaming cut longer sessions.
        keeps_state: Whether a state of fixed size carries a session from click to click, so that
            it can be trained by lanes.
        traits: What the table of families says of it; your own model may have none.
        items: The item table that vectors are compared with.
        reads_times: Whether scores depend on the times of clicks, ``click_time``. Live sessions
            give them to such models alone: with times, no two sessions share a cached answer.
        reads_request_time: Whether it reads the time of the target, ``request_time``, in training
            and evaluation: another task, whose figures stand in rows of their own.
        click_features: Specs of the features of clicks that it reads, or ``None``.
        shares_windows: Whether :meth:`click_states` itself reads the newest ``max_length`` clicks
            of every click, at the cost of one pass: longer sessions then need no cutting.
        scores_by_table: Whether scores are inner products of :meth:`forward` and an item table;
            not so in a class that defines :meth:`score`.
        adds_to_table: Whether scores are such products plus what :meth:`additions` gives for some
            items of each session; ``scores_by_table`` is ``False`` there.
        num_roundings: How many roundings put apart scores of equal items at most, where a family
            defines :meth:`score`.
    """

    samples: Samples = "prefixes"
    causal: bool = False
    max_length: int | None = None
    keeps_state: bool = False
    traits: Traits | None = None
    items: ItemTable

    # Few families declare these.
    click_features: Sequence[Spec] | None = None
    reads_times: bool = False
    reads_request_time: bool = False
    shares_windows: bool = False
    scores_by_table: bool = True
    adds_to_table: bool = False
    num_roundings: int = 2

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, value in list(vars(cls).items()):
            new = DECLARATIONS.get(name, name)
            check_declared(f"{cls.__name__}.{name}", new, value)
            if new != name:
                warn_of_old_name(f"{cls.__name__}.{name}", f"{cls.__name__}.{new}")
                delattr(cls, name)
                setattr(cls, new, value)
        check_readers(cls)
        adopt(cls)

    def __init__(self, num_items: int) -> None:
        super().__init__()
        if num_items < 1:
            raise ValueError(f"num_items must be at least 1, got {num_items}.")
        self.num_items = int(num_items)
        self.catalog: Catalog | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        check_declared(f"{type(self).__name__}.{name}", name, value)
        super().__setattr__(name, value)

    @property
    def trains_by_table(self) -> bool:
        """Whether the loss compares vectors with the item table; what a family adds to such scores
        is not trained."""
        return self.scores_by_table or self.adds_to_table

    def forward(self, batch: Batch) -> Tensor:
        """Session vectors, [num_sessions, hidden_channels]."""
        raise NotImplementedError(
            f"{type(self).__name__} defines no forward(batch), which gives the vector of every "
            "session: [num_sessions, hidden_channels]."
        )

    def click_states(self, batch: Batch) -> Tensor:
        """The state after every click, [num_clicks, hidden_channels]."""
        raise NotImplementedError(
            f"{type(self).__name__} has no state for every click: define click_states(batch), "
            "[num_clicks, hidden_channels], or train it on samples='prefixes'."
        )

    def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
        """Scores of the next item of every session.

        Args:
            batch: Session graphs.
            items: ``None``: all items; else candidates, [C] for all or [num_sessions, C].

        Returns:
            [num_sessions, num_items] or [num_sessions, C]; ``-inf`` marks what is not recommended
            at all.
        """
        scores = self.items.scores(self(batch), items)
        if not self.adds_to_table:
            return scores
        added = additions_of(self, batch)
        return added.to_scores(scores, items, self.num_items)

    def additions(self, batch: Batch) -> Additions:
        """What is added to scores of the item table, for a family that declares it."""
        raise NotImplementedError(
            f"{type(self).__name__} declares adds_to_table, but defines no additions(batch), which "
            "gives sessions, items and what is added to their scores."
        )

    def without_history(self) -> Tensor:
        """Scores of all items for a session without a known click: shares of training clicks.

        Returns:
            float64 [num_items].

        Raises:
            ValueError: If the model has no catalog.
        """
        if self.catalog is None:
            raise ValueError(
                f"This {type(self).__name__} has no catalog to tell what is popular: set "
                "model.catalog = train.catalog()."
            )
        counts = torch.from_numpy(np.asarray(self.catalog.counts, dtype=np.float64))
        return counts / counts.sum().clamp(min=1)

    def score_tolerance(self, scores: Tensor, rows: Tensor) -> Tensor:
        """How far apart scores of equal items lie, for a family that defines :meth:`score`.

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

    def attach(self, catalog: Catalog | None, sessions: Sessions | None = None) -> None:
        """Makes the model know its training data; ``fit`` calls it before training.

        A family that reads item features, or counts over the training sessions besides what it
        learns, fills its buffers here.

        Args:
            catalog: Of ``num_items`` items: ids, counts, features. ``None``: not known.
            sessions: The training sessions; ``None`` where batches come without.

        Raises:
            ValueError: If the catalog is of another number of items.
        """
        if catalog is None:
            return
        if catalog.num_items != self.num_items:
            raise ValueError(
                f"The model has {self.num_items} items, the training data {catalog.num_items}: "
                "build it with num_items=split.num_items."
            )
        before = self.catalog
        if before is not None and len(before.delisted):
            catalog = catalog.delisted_as(before)
        self.catalog = catalog

    def training_rows(self, batch: Batch, generator: torch.Generator) -> TrainingRows:
        """What one training step compares with items: the state of each click, or of each session.

        Args:
            batch: Session graphs with ``y``, one target per click or one per session.
            generator: The source of whatever is drawn, seeded for every step.
        """
        targets: Tensor = batch.y
        if self.keeps_state and "lane" in batch:
            return self.rows_of_lanes(batch)
        if self.samples != "sessions" or targets.numel() != batch.click_index.numel():
            session = torch.arange(batch.num_graphs, device=targets.device)
            return TrainingRows(self(batch), targets, session)
        windows = batch
        if self.max_length is not None and not self.shares_windows:
            windows = windows_of_clicks(batch, self.max_length)
        return TrainingRows(self.click_states(windows), targets, batch.click_batch)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name != "items":
                raise
            raise NotImplementedError(
                f"{type(self).__name__} has no item table: set self.items = "
                "gs.nn.ItemTable(num_items, hidden_channels) in its constructor, or define "
                "score(batch, items=None)."
            ) from None

    def __repr__(self) -> str:
        given = [str(self.num_items)]
        given += [str(v) for k, v in self.settings.items() if k == "hidden_channels"]
        given += [f"{k}={v}" for k, v in self.settings.items() if k == "num_layers"]
        return f"{type(self).__name__}({', '.join(given)})"


def check_declared(who: str, name: str, value: Any) -> None:
    """Refuses a declaration of a model that means nothing; other names pass.

    Args:
        who: The attribute as its owner wrote it, for the message.
        name: What is declared.
        value: A value, or a property that gives one.

    Raises:
        ValueError: If it is not of the kind declared.
    """
    if name == "samples":
        if not isinstance(value, str) or value not in get_args(Samples):
            allowed = ", ".join(map(repr, get_args(Samples)))
            raise ValueError(f"{who} is one of {allowed}, got {value!r}.")
    elif name in FLAGS:
        if not hasattr(value, "__get__"):
            flag(who, value)
    elif name in ("max_length", "num_roundings"):
        if not hasattr(value, "__get__") and not (name == "max_length" and value is None):
            whole(who, value)
    elif name == "traits" and not (value is None or isinstance(value, Traits)):
        raise ValueError(f"{who} is a graphseq.models.Traits or None, got {value!r}.")
