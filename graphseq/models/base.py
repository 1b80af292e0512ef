"""The one interface of all models: a batch of session graphs in, scores of items out."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from types import NoneType, UnionType
from typing import (
    Any,
    Literal,
    NamedTuple,
    Self,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.arguments import check_annotated, check_choice, flag, whole
from graphseq.data.graphs.session_graph import windows_of_clicks
from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.features import Spec
from graphseq.data.sessions.sessions import Sessions
from graphseq.deprecation import in_new_names, warn_of_old_name
from graphseq.models.live_clicks import LiveClicks
from graphseq.models.old_interface import DECLARATIONS, OldMethods, adopt
from graphseq.models.reading import check_readers
from graphseq.models.use.ties import roundings
from graphseq.nn.item_table import ItemTable

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
        self.old, self.new = old, DECLARATIONS[old]

    def __get__(self, model: SessionModel | None, family: type[SessionModel]) -> Any:
        warn_of_old_name(f"{family.__name__}.{self.old}", f"{family.__name__}.{self.new}")
        return getattr(family if model is None else model, self.new)

    def __set__(self, model: SessionModel, value: Any) -> None:
        warn_of_old_name(f"{type(model).__name__}.{self.old}", f"{type(model).__name__}.{self.new}")
        setattr(model, self.new, value)


class TrainingRows(NamedTuple):
    """What one training step compares with items.

    Attributes:
        vectors: What is compared, [n, hidden_channels].
        targets: The item that each must find, int64 [n]; a negative one (-1: unknown, -100: none)
            takes its row out of the loss.
        session: The session of the batch that each belongs to, int64 [n].
    """

    vectors: Tensor
    targets: Tensor
    session: Tensor


class SessionModel(OldMethods, torch.nn.Module):
    """What fit, evaluate, recommend, save and load ask of a model.

    A family with an item table sets :attr:`items` and implements :meth:`forward`, and
    :meth:`click_states` where it has a state for every click; scores are inner products. A family
    that scores in another way defines :meth:`score`. A family that is trained neither on the vector
    of each session nor on the state of each click overrides :meth:`training_rows`.

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
        items: The item table that vectors are compared with.
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
    items: ItemTable

    rows_type = TrainingRows
    trained_on = Renamed("trained_on")
    states_equal_prefixes = Renamed("states_equal_prefixes")

    _arguments: dict[str, Any]

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

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        model = super().__new__(cls)
        model.__dict__["_registered"] = set()
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
        self._lanes: Tensor | None = None

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

    def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
        """Scores of the next item of every session.

        Args:
            batch: Session graphs.
            items: ``None``: all items; else candidates, [C] alike for all or [num_sessions, C].

        Returns:
            [num_sessions, num_items] or [num_sessions, C]; ``-inf`` marks what is not recommended
            at all.
        """
        return self.items.scores(self(batch), items)

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

    def initial_state(self, num_sessions: int | None = None, *, user: Any = -1) -> Any:
        """The state before any click.

        Args:
            num_sessions: Live sessions that go on together; ``None``: one, whose scores have no
                row for it.
            user: Whose session it is: a code, -1 for an unknown one, or an id that is no whole
                number; of several sessions one each.

        Returns:
            A state for :meth:`update_state` and :meth:`score_state`, which change no state.

        Raises:
            ValueError: If ``num_sessions`` is not positive, or there is no such user.
        """
        size = 1 if num_sessions is None else whole("num_sessions", num_sessions)
        users = self._codes_of("user", user, size)
        nothing = torch.empty(0, dtype=torch.long, device=self.device)
        ptr = torch.zeros(size + 1, dtype=torch.long, device=self.device)
        return LiveClicks(nothing, ptr, users, num_sessions is not None)

    def update_state(self, state: Any, item: Any, *, ids: bool | None = None, **fields: Any) -> Any:
        """The state one click later.

        Scores of the new state equal those of the whole session computed at once.

        Args:
            state: Of one session, or of several.
            item: What was clicked, of several sessions one each: codes, whole numbers, -1 for an
                unknown item, whose click is skipped; or ids that are no whole numbers.
            ids: Whether whole numbers are ids too.
            **fields: What graphs say of the click, as ``time=`` for ``click_time``.

        Raises:
            ValueError: If there is not one item per session, or one is no item.
        """
        codes = self._codes_of("item", item, state.num_sessions, ids, one=not state.is_batch)
        values = {}
        for name, value in fields.items():
            value = torch.as_tensor(value, device=self.device).reshape(-1)
            values[f"click_{name}"] = value.expand(state.num_sessions)
        return state.with_clicks(codes, self.max_length, values)

    def score_state(self, state: Any, items: Tensor | None = None) -> Tensor:
        """Scores of the next item.

        Args:
            state: Of one session, or of several; one without a click gets the items' popularity.
            items: ``None``: all items; else candidates, [C] or [num_sessions, C].

        Returns:
            [num_items] or [C] of one session, [num_sessions, ...] of several.

        Raises:
            ValueError: If a session has no click, and the model no catalog that tells what is
                popular.
        """
        batch, clicked = state.graphs()
        scores: Tensor | None = None
        if batch is not None:
            each = items is not None and items.dim() == 2
            scores = self.score(batch, items[clicked] if each and items is not None else items)
        if not bool(clicked.all()):
            if self.catalog is None:
                raise ValueError(
                    f"{type(self).__name__} has no state before the first click: update_state "
                    "first, or attach a catalog, which tells what is popular."
                )
            counts = torch.from_numpy(np.asarray(self.catalog.counts, dtype=np.float32))
            share = (counts / counts.sum().clamp(min=1)).to(self.device)
            share = share if items is None else share[items]
            rows = share.expand(state.num_sessions, share.size(-1)).clone()
            scores = (
                rows
                if scores is None
                else rows.index_copy(0, clicked.nonzero().view(-1), scores.to(rows.dtype))
            )
        assert scores is not None
        return scores if state.is_batch else scores.squeeze(0)

    def step(self, state: Any, items: Tensor) -> tuple[Tensor, Any]:
        """The vectors and the state after one more click, of a model that keeps its state.

        Args:
            state: As :meth:`initial_state` gives it for several sessions.
            items: Item codes, int64 [num_sessions].

        Returns:
            What is compared with items, [num_sessions, hidden_channels], and the new state.
        """
        raise NotImplementedError(
            f"{type(self).__name__} keeps no state from click to click: one that declares "
            "keeps_state=True defines step(state, items)."
        )

    def _codes_of(
        self, what: str, given: Any, size: int, ids: bool | None = None, *, one: bool = False
    ) -> Tensor:
        """Codes of items or users, -1 for an unknown one: int64 [size].

        Raises:
            ValueError: If there is not one per session, or one is no item or user.
        """
        known = self.num_items if what == "item" else self.num_users_known
        given = -1 if given is None and what == "user" else given
        listed = isinstance(given, (Tensor, np.ndarray, list, tuple, pd.Series, pd.Index))
        shape = list(np.shape(given)) if listed else []
        if shape and (one or shape != [size]):
            raise ValueError(
                f"{what} must be one per session, and {type(self).__name__} has the state of "
                f"{size} here, got shape {shape}."
            )
        codes = given if isinstance(given, Tensor) else np.asarray(given)
        kind = str(codes.dtype).removeprefix("torch.")
        vocabulary = None
        if self.catalog is not None:
            vocabulary = self.catalog.items if what == "item" else self.catalog.users
        numbers = kind.startswith(("int", "uint"))
        if vocabulary is not None and (ids or (ids is None and not numbers)):
            listed_ids = list(given) if listed and shape else [given]
            if ids or all(isinstance(value, (str, bytes)) for value in listed_ids):
                codes, numbers = vocabulary.encode(listed_ids, what=f"{what}s"), True
        named = "the code of an item" if what == "item" else "the code of a user"
        if not numbers:
            raise ValueError(
                f"{what} must be {named}, a whole number in 0..{known - 1}, or -1 for an unknown "
                f"one, got {given!r}: model.catalog, where there is one, knows ids, too."
            )
        found = torch.as_tensor(codes, dtype=torch.long, device=self.device)
        outside = (found < -1) | (found >= known)
        if bool(outside.any()):
            raise ValueError(
                f"{what} must be {named} in 0..{known - 1}, or -1 for an unknown one (whole "
                f"numbers that are ids go with ids=True), got {int(found[outside][0])}."
            )
        return found.reshape(-1).expand(size)

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

    def attach(self, catalog: Catalog | None, sessions: Sessions | None = None) -> None:
        """Makes the model know its training data; ``fit`` calls it before training.

        A family that reads item features, or anything of the training sessions beside what it
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

    def training_rows(self, batch: Batch, generator: torch.Generator) -> TrainingRows:
        """What one training step compares with items: the state of each click, or of each session.

        Args:
            batch: Session graphs with ``y``, one target per click or one per session.
            generator: The source of whatever is drawn, seeded for every step.
        """
        targets: Tensor = batch.y
        if self.keeps_state and "lane" in batch:
            return self._rows_of_lanes(batch)
        if self.samples != "sessions" or targets.numel() != batch.click_index.numel():
            session = torch.arange(batch.num_graphs, device=targets.device)
            return TrainingRows(self(batch), targets, session)
        windows = batch
        if self.max_length is not None and not self.shares_windows:
            windows = windows_of_clicks(batch, self.max_length)
        return TrainingRows(self.click_states(windows), targets, batch.click_batch)

    def _rows_of_lanes(self, batch: Batch) -> TrainingRows:
        """One click of every lane at work: the state goes on from where the step before left it.

        Raises:
            ValueError: If lanes go on with sessions of which this model has no state.
        """
        lane, starts = batch.lane, batch.starts_session  # [num_lanes] at work
        if self._lanes is None and not bool(starts.all()):
            raise ValueError(
                "These lanes go on with sessions whose state is not here: start with the first "
                "batch of an epoch, or load_training_state what was saved with the position."
            )
        size = int(lane.max()) + 1 if lane.numel() else 1
        if self._lanes is None or self._lanes.size(1) < size:
            self._lanes = self.initial_state(size)
        lanes: Tensor = self._lanes.to(self.device)
        state = lanes[:, lane] * ~starts.view(1, -1, 1)
        vectors, state = self.step(state, batch.click_item)
        self._lanes = lanes.index_copy(1, lane, state.detach())
        return TrainingRows(vectors, batch.y, torch.arange(lane.numel(), device=vectors.device))

    def training_state(self) -> dict[str, Tensor]:
        """What training carries from step to step beside the weights: the state of every lane."""
        return {} if self._lanes is None else {"lanes": self._lanes}

    def load_training_state(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from what :meth:`training_state` gave."""
        self._lanes = state.get("lanes")

    @property
    def num_users_known(self) -> int:
        """Users that have a code here: those of its own table, else those of the catalog."""
        users = None if self.catalog is None else self.catalog.users
        own: int | None = self.settings.get("num_users")
        return own if own is not None else 0 if users is None else len(users)

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments this model was built with, by name, defaults included."""
        return dict(self._arguments)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            arguments = self.__dict__.get("_arguments", {})
            if (
                name in arguments and name not in self.__dict__["_registered"]
            ):  # one that the constructor did not keep itself
                return arguments[name]
            if name == "items":
                raise NotImplementedError(
                    f"{type(self).__name__} has no item table: set self.items = "
                    "gs.nn.ItemTable(num_items, hidden_channels) in its constructor, or define "
                    "score(batch, items=None)."
                ) from None
            raise

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """As of every module; the name may be an argument's."""
        self.__dict__["_registered"].add(name)
        super().register_buffer(name, tensor, persistent)

    def register_parameter(self, name: str, param: torch.nn.Parameter | None) -> None:
        """As of every module; the name may be an argument's."""
        self.__dict__["_registered"].add(name)
        super().register_parameter(name, param)

    def __repr__(self) -> str:
        given = [str(self.num_items)]
        given += [str(v) for k, v in self.settings.items() if k == "hidden_channels"]
        given += [f"{k}={v}" for k, v in self.settings.items() if k == "num_layers"]
        return f"{type(self).__name__}({', '.join(given)})"

    @property
    def device(self) -> torch.device:
        tensor: Tensor | None = next(self.parameters(), None)
        tensor = next(self.buffers(), None) if tensor is None else tensor
        return torch.device("cpu") if tensor is None else tensor.device


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
    bound = signature.bind(None, *args, **in_new_names(family.__init__, kwargs))
    check_annotated({n: p.annotation for n, p in signature.parameters.items()}, bound.arguments)
    for name, allowed in _choices_of(family.__init__).items():
        if name in bound.arguments:
            check_choice(name, bound.arguments[name], allowed)
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


@functools.cache
def _choices_of(constructor: Callable[..., None]) -> dict[str, tuple[Any, ...]]:
    """The values that a constructor's annotations allow, of arguments with a few alone."""
    try:
        hints = get_type_hints(inspect.unwrap(constructor))
    except (NameError, AttributeError):  # a name that only a type checker knows
        return {}
    found = {}
    for name, hint in hints.items():
        kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        if all(kind is NoneType or get_origin(kind) is Literal for kind in kinds):
            found[name] = tuple(value for kind in kinds for value in get_args(kind) or (None,))
    found.pop("return", None)
    return found
