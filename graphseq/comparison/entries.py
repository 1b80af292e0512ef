"""The lines of a comparison: models with their settings, by name or as own classes."""

from __future__ import annotations

import copy
import hashlib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from graphseq.models import MODELS
from graphseq.models.base import SessionModel
from graphseq.models.counting.counting import CountingModel
from graphseq.training.lightning.identity import described
from graphseq.training.settings import TrainingSettings

Model = str | type[SessionModel] | SessionModel
"""A model as given by a caller: a name in ``MODELS``, a class, or an instance."""


@dataclass(frozen=True)
class Entry:
    """One line of a comparison: a model with arguments and training settings.

    Args:
        name: Name in tables.
        model: Its name in ``graphseq.models.MODELS``, or the name of the class in ``own``.
        arguments: Arguments of the model, besides ``num_items``.
        fit: Fields of ``TrainingSettings``, as in JSON, but for an optimizer or schedule of your
            own.
        own: Your own class or instance, instead of one of ``MODELS``.
    """

    name: str
    model: str
    arguments: dict[str, Any] = field(default_factory=dict)
    fit: dict[str, Any] = field(default_factory=dict)
    own: type[SessionModel] | SessionModel | None = None

    def __post_init__(self) -> None:
        for part in ("arguments", "fit"):
            object.__setattr__(self, part, plain(getattr(self, part)))

    @property
    def slug(self) -> str:
        """The name in a form that file names allow: its letters, of any script, and digits."""
        return re.sub(r"[\W_]+", "-", self.name.lower()).strip("-")

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The identity of the line, as JSON: two lines are the same if this is equal.

        It includes the source code of your own class, the weights of an instance, and what an
        optimizer or schedule of your own does, as the checkpoints of ``fit`` do.
        """
        content = {"model": self.model, "arguments": self.arguments, "fit": self.fit}
        if self.functions:
            named = self.training.to_dict()
            content["fit"] = {**self.fit, **{name: named[name] for name in self.functions}}
            told = {name: described(function) for name, function in self.functions.items()}
            content["functions"] = told
        if isinstance(self.own, SessionModel):
            return content | {"weights": _digest_of_weights(self.own)}
        return content if self.own is None else content | {"source": _digest_of_source(self.own)}

    @property
    def functions(self) -> dict[str, Callable[..., Any]]:
        """The training settings that are functions or classes of your own, which no file holds."""
        return {name: value for name, value in self.fit.items() if callable(value)}

    @property
    def training(self) -> TrainingSettings:
        """The training settings of the line.

        Raises:
            ValueError: If one is not a setting, or a value is out of range.
        """
        return TrainingSettings.from_dict(self.fit)

    @property
    def is_trained(self) -> bool:
        """Whether it is an instance that is already trained, and is only ranked."""
        return isinstance(self.own, SessionModel) and self.own.catalog is not None

    @property
    def is_drawn(self) -> bool:
        """Whether the model depends on the seed: not for counting models and trained instances."""
        family = self.own or MODELS[self.model]
        family = family if isinstance(family, type) else type(family)
        return not (self.is_trained or issubclass(family, CountingModel))

    def new_model(self, num_items: int, seed: int) -> SessionModel:
        """A new untrained model; an instance is copied and stays unchanged.

        Args:
            num_items: Items of the training part.
            seed: Seed of the initial weights.

        Raises:
            ValueError: If the arguments do not fit the model.
        """
        if isinstance(self.own, SessionModel):
            return self.own if self.is_trained else copy.deepcopy(self.own)
        family = self.own or MODELS[self.model]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                return family(num_items, **self.arguments)
            except (TypeError, ValueError) as error:
                said = str(error).rstrip(".")
                raise ValueError(f"{self.name} cannot be built: {said}.") from error


def plain(value: Any) -> Any:
    """A setting with Python's numbers in place of NumPy's, which no file holds."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return type(value)(map(plain, value)) if type(value) in (list, tuple) else value


def entries_of(
    models: Iterable[Any] | Mapping[str, Any], known: Iterable[Entry] = ()
) -> list[Entry]:
    """The lines for the models that a caller gives.

    Args:
        models: Names of ``MODELS`` or of known lines; pairs ``(name, settings)``; pairs
            ``(label, class or instance)``; classes and instances; lines. Or a mapping from labels
            to any of these.
        known: Lines with their own settings, which names refer to.

    Raises:
        ValueError: If there is no such model or setting, or two lines have one name.
    """
    known = list(known)
    if isinstance(models, (str, type, SessionModel, Entry)) or not isinstance(models, Iterable):
        models = [models]
    if isinstance(models, Mapping):
        lines = [
            replace(line, name=str(label))
            for label, model in models.items()
            for line in _lines(model, known)
        ]
    else:
        lines = [line for model in models for line in _lines(model, known)]
    lines = [line for place, line in enumerate(lines) if line not in lines[:place]]
    if not lines:
        raise ValueError("A comparison needs a model at least: pass a name such as 'srgnn'.")
    slugs: dict[str, str] = {}
    for line in lines:
        line.training  # noqa: B018 - raises for a wrong setting before anything is trained
        if line.own is None and line.model not in MODELS:
            raise ValueError(
                f"{line.name} is of no model {line.model!r}: choose from {', '.join(MODELS)}."
            )
        if line.slug in slugs:
            raise ValueError(
                f"Two lines are called {slugs[line.slug]!r} and {line.name!r}: give each a label "
                "of its own, as in models={'small': ..., 'large': ...}."
            )
        slugs[line.slug] = line.name
    return lines


def entry_of(model: Any, known: Iterable[Entry] = ()) -> Entry:
    """The one line for a model that a caller gives.

    Args:
        model, known: As for :func:`entries_of`.

    Raises:
        ValueError: As there, or if the model stands for several lines.
    """
    return _only(model, entries_of([model], known))


def _only(model: Any, lines: list[Entry]) -> Entry:
    if len(lines) > 1:
        raise ValueError(
            f"{model!r} stands for {', '.join(line.name for line in lines)}: name one of them."
        )
    return lines[0]


def _lines(model: Any, known: list[Entry]) -> list[Entry]:
    if isinstance(model, Entry):
        return [model]
    if isinstance(model, str):
        return _named(model, known)
    if isinstance(model, SessionModel):
        return [Entry(type(model).__name__, _class_name(type(model)), _arguments(model), own=model)]
    if isinstance(model, type) and issubclass(model, SessionModel):
        return [Entry(model.__name__, _class_name(model), own=model)]
    if isinstance(model, (tuple, list)) and 2 <= len(model) <= 3:
        *first, last = model
        changed = dict(last) if isinstance(last, Mapping) else None
        *label, named = first if changed is not None else [*first, last]
        if len(label) < 2:  # three names are no line
            lines = _lines(named, known)
            if label:
                lines = [replace(_only(named, lines), name=str(label[0]))]
            return [line if changed is None else _changed(line, changed) for line in lines]
    raise ValueError(
        "A model is a name, (name, settings), a class or an instance of SessionModel, or (label, "
        f"one of these), got {model!r}."
    )


def _named(name: str, known: list[Entry]) -> list[Entry]:
    """The known lines of this name or model; if none, a model of ``MODELS`` with defaults."""
    for attribute in ("name", "model"):
        found = [entry for entry in known if getattr(entry, attribute) == name]
        if found:
            return found
    if name in MODELS:
        return [Entry(name, name)]
    names = dict.fromkeys([*(entry.name for entry in known), *MODELS])
    raise ValueError(f"There is no model {name!r}: choose from {', '.join(names)}.")


def _changed(entry: Entry, settings: Mapping[str, Any]) -> Entry:
    """The line with changed settings: ``{"arguments": ..., "fit": ...}``, or one mapping."""
    parts: dict[str, dict[str, Any]] = {"arguments": {}, "fit": {}}
    if settings and set(settings) <= set(parts):
        for part, values in settings.items():
            if not isinstance(values, Mapping):
                raise ValueError(f"{part!r} of {entry.name} maps names to values, got {values!r}.")
            parts[part] = dict(values)
    else:
        for name, value in settings.items():
            parts["fit" if name in TrainingSettings.names() else "arguments"][name] = value
    if parts["arguments"] and isinstance(entry.own, SessionModel):
        raise ValueError(
            f"{entry.name} is built already and takes no {', '.join(parts['arguments'])}: pass its "
            "class instead of the instance."
        )
    check_names(entry, parts["arguments"])
    # A loss with arguments is a mapping in JSON.
    fit = {**entry.fit, **parts["fit"]}
    if "loss" in parts["fit"] and not isinstance(fit["loss"], (str, Mapping)):
        fit["loss"] = TrainingSettings(loss=fit["loss"]).to_dict()["loss"]
    return replace(entry, arguments={**entry.arguments, **parts["arguments"]}, fit=fit)


def check_names(entry: Entry, arguments: Iterable[str], fit: Iterable[str] = ()) -> None:
    """Refuses names that are no argument of the line's model, or no setting of its training.

    Raises:
        ValueError: If one is none.
    """
    family = entry.own or MODELS[entry.model]
    accepted = inspect.signature(family).parameters if isinstance(family, type) else {}
    unknown = [name for name in arguments if name not in accepted]
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values()):
        unknown = []
    unknown += [name for name in fit if name not in TrainingSettings.names()]
    if unknown:
        raise ValueError(
            f"{entry.name} has no setting {unknown[0]!r}: the model takes "
            f"{', '.join(list(accepted)[1:])}; its training {', '.join(TrainingSettings.names())}."
        )


def _class_name(family: type) -> str:
    """The name in ``MODELS``, or the name of the class with its module."""
    for name, known in MODELS.items():
        if known is family:
            return name
    return f"{family.__module__}.{family.__qualname__}"


def _arguments(model: SessionModel) -> dict[str, Any]:
    """The arguments that an instance was built with, if it stores them."""
    try:
        return {name: value for name, value in model.settings.items() if name != "num_items"}
    except AttributeError:
        return {}


def _digest_of_weights(model: SessionModel) -> str:
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _digest_of_source(family: type) -> str | None:
    try:
        return hashlib.sha256(inspect.getsource(family).encode()).hexdigest()
    except (OSError, TypeError):  # defined at a prompt
        return None
