"""The one interface of all models: a batch of session graphs in, scores of items out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from typing import Any, Literal, Self, SupportsIndex, TypeVar, get_args, overload

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.arguments import check_annotated, flag, whole
from graphseq.data.graphs.session_graph import windows_of_clicks
from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.features import Spec
from graphseq.data.sessions.sessions import Sessions
from graphseq.deprecation import warn_of_old_name
from graphseq.models.reading import check_readers
from graphseq.models.use.ties import roundings

Samples = Literal["sessions", "prefixes", "cloze", "counts", "pairs"]
"""What a model is trained on."""

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


OLD_DECLARATIONS = {"trained_on": "samples", "states_equal_prefixes": "causal"}
"""Old name of a declaration -> its name."""

FLAGS = ("causal", "keeps_state", "shares_windows", "scores_by_table", "reads_request_time")
"""Declarations that are true or false."""

ATTACHED: dict[str, Callable[..., Any]] = {}
"""Functions that are methods of every model: those that read a model whole, as ``save`` does."""

Function = TypeVar("Function", bound=Callable[..., Any])


def model_method(function: Function) -> Function:
    """Makes a function of a model a method of :class:`SessionModel`, which declares it."""
    ATTACHED[function.__name__] = function
    return function


class Renamed:
    """A declaration under its old name: it reads and sets the new one, with a warning."""

    def __init__(self, old: str) -> None:
        self.old, self.new = old, OLD_DECLARATIONS[old]

    def __get__(self, model: SessionModel | None, family: type[SessionModel]) -> Any:
        warn_of_old_name(f"{family.__name__}.{self.old}", f"{family.__name__}.{self.new}")
        return getattr(family if model is None else model, self.new)

    def __set__(self, model: SessionModel, value: Any) -> None:
        warn_of_old_name(f"{type(model).__name__}.{self.old}", f"{type(model).__name__}.{self.new}")
        setattr(model, self.new, value)


class SessionModel(torch.nn.Module):
    """What fit, evaluate, recommend, save and load ask of a model.

    A family with an item table implements :meth:`forward` (and :meth:`click_states` where it has a
    state for every click) and :meth:`item_weight`; scores are inner products. A family that scores
    in another way defines :meth:`score`. A family that is trained neither on the vector of each
    session nor on the state of each click overrides :meth:`training_vectors`.

    What a class is, it declares. Declarations are checked when the class is made, and when a model
    sets its own; arguments of the constructor are kept as :attr:`settings`.

    Attributes:
        samples: What it is trained on: ``"sessions"`` (every click's state predicts the next one),
            ``"prefixes"`` (one graph per target), ``"cloze"``, ``"counts"`` or ``"pairs"``.
        causal: Whether the state of a click in a longer session equals the session vector of the
            prefix that ends there, so that one pass may evaluate all prefixes.
        max_length: Newest clicks of a session that it sees; ``None``: all. Training, evaluation,
            recommendation and streaming cut longer sessions.
        keeps_state: Whether a state of fixed size carries a session from click to click, so that
            it can be trained by lanes.
        shares_windows: Whether :meth:`click_states` itself reads the newest ``max_length`` clicks
            of every click, at the cost of one pass: longer sessions then need no cutting.
        scores_by_table: Whether scores are inner products of :meth:`forward` and an item table;
            not so in a class that defines :meth:`score`.
        num_roundings: How many roundings put apart scores of equal items at most, where a family
            has a :meth:`score` of its own.
        reads_request_time: Whether it is told the time of the target, ``request_time``, in training
            and evaluation: another task, whose figures stand in rows of their own.
        click_features: Specs of the features of clicks that it reads, or ``None``.
        traits: What the table of families says of it; your own model may have none.
    """

    samples: Samples = "prefixes"
    causal: bool = False
    max_length: int | None = None
    keeps_state: bool = False
    shares_windows: bool = False
    scores_by_table: bool = True
    num_roundings: int = 2
    reads_request_time: bool = False
    click_features: Sequence[Spec] | None = None
    traits: Traits | None = None

    trained_on = Renamed("trained_on")
    states_equal_prefixes = Renamed("states_equal_prefixes")

    _arguments: dict[str, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, value in list(vars(cls).items()):
            new = OLD_DECLARATIONS.get(name, name)
            check_declared(f"{cls.__name__}.{name}", new, value)
            if new != name:
                warn_of_old_name(f"{cls.__name__}.{name}", f"{cls.__name__}.{new}")
                delattr(cls, name)
                setattr(cls, new, value)
        check_readers(cls)
        if vars(cls).keys() & {"score", "score_vectors"} and "scores_by_table" not in vars(cls):
            cls.scores_by_table = False

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        model = super().__new__(cls)
        with suppress(TypeError):  # that does not fit the signature: __init__ says so better
            # Of all families at once: what a signature calls an int is one, before all else.
            model.__dict__["_arguments"] = _given_arguments(cls, args, kwargs)
        return model

    def __init__(self, num_items: int) -> None:
        super().__init__()
        if num_items < 1:
            raise ValueError(f"num_items must be at least 1, got {num_items}.")
        self.num_items = int(num_items)
        self.catalog: Catalog | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        check_declared(f"{type(self).__name__}.{name}", name, value)
        super().__setattr__(name, value)

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

    def item_weight(self) -> Tensor:
        """The output item table, [num_items, hidden_channels]."""
        raise NotImplementedError(
            f"{type(self).__name__} has no item table: define item_weight(), "
            "[num_items, hidden_channels], or score(batch, items=None)."
        )

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
        found: list[list[tuple[Any, float]]] | pd.DataFrame
        found = ATTACHED["recommend"](self, sessions, k, **options)
        return found

    def save(self, folder: str | PathLike[str]) -> None:
        """Writes the model to a folder: :func:`graphseq.models.use.persistence.save`."""
        ATTACHED["save"](self, folder)

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
        before = self.catalog
        if before is not None and len(before.delisted):
            catalog = catalog.delisted_as(before)
        self.catalog = catalog

    def delist(self, items: Iterable[Any]) -> None:
        """Makes :meth:`recommend` leave items out from now on; :meth:`save` keeps them so.

        Args:
            items: Ids, or an :class:`~graphseq.models.ItemFilter`. Those that the model does not
                know are left out, and a warning counts them.

        Raises:
            ValueError: If the model has no catalog, or none of the ids is known.
        """
        self.catalog = self._its_catalog("delist").delist(items)

    def relist(self, items: Iterable[Any] | None = None) -> None:
        """Undoes :meth:`delist` for these items.

        Args:
            items: As for :meth:`delist`; ``None``: all.

        Raises:
            ValueError: If the model has no catalog, or none of the ids is known.
        """
        self.catalog = self._its_catalog("relist").relist(items)

    def _its_catalog(self, caller: str) -> Catalog:
        if self.catalog is None:
            raise ValueError(
                f"{caller} needs the ids of the model's items, and it has no catalog: fit it, or "
                "call model.attach(train.catalog()), first."
            )
        return self.catalog

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
        if self.samples == "sessions" and targets.numel() == batch.click_index.numel():
            if self.max_length is not None and not self.shares_windows:
                batch = windows_of_clicks(batch, self.max_length)
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
    def settings(self) -> dict[str, Any]:
        """The arguments this model was built with, by name, defaults included."""
        return dict(self._arguments)

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


def _given_arguments(
    family: type[SessionModel], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """The arguments of a constructor by name, defaults included.

    Raises:
        TypeError: If they do not fit its signature.
        ValueError: If one is of another type than its annotation.
    """
    signature = inspect.signature(family.__init__)
    bound = signature.bind(None, *args, **kwargs)
    check_annotated({n: p.annotation for n, p in signature.parameters.items()}, bound.arguments)
    bound.apply_defaults()
    given: dict[str, Any] = {}
    for name, value in list(bound.arguments.items())[1:]:
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            given |= value
        elif kind is inspect.Parameter.VAR_POSITIONAL:
            # Handed on to the class above, as a rule, which has names for them.
            _, parent = [each for each in family.__mro__ if "__init__" in vars(each)][:2]
            above = inspect.signature(vars(parent)["__init__"])
            given |= list(above.bind_partial(None, *value).arguments.items())[1:]
        else:
            given[name] = value.item() if isinstance(value, np.generic) else value
    return given
