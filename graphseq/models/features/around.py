"""Base class of models that contain another model."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.sessions import Sessions
from graphseq.deprecation import in_new_names
from graphseq.models.base import Samples, SessionModel
from graphseq.models.reading import TrainingRows
from graphseq.models.registry import MODELS, name_of


class AroundBase(SessionModel):
    """A model that contains another one, ``inner``, with the same samples and ``max_length``.

    Args:
        num_items: Items of the catalog.
        base: Name of a family in :data:`graphseq.models.MODELS` that scores by an item table and is
            trained by gradients.
        arguments: Arguments of the base, besides ``num_items``.

    Raises:
        ValueError: If ``base`` is no such family, or its own arguments are wrong.
    """

    # Declarations of the default base; an instance has the declarations of its own base.
    samples: Samples = "sessions"
    causal = True

    def __init__(
        self, num_items: int, base: str = "sasrec", arguments: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(num_items)
        if base not in MODELS or not _has_item_table(MODELS[base]):
            able = [name for name, family in MODELS.items() if _has_item_table(family)]
            raise ValueError(f"base is one of {', '.join(able)}, got {base!r}.")
        given = {} if arguments is None else arguments
        check_arguments(base, given)
        self.inner: SessionModel = MODELS[base](num_items, **given)
        self.samples = self.inner.samples
        self.causal = self.inner.causal
        self.keeps_state = self.inner.keeps_state
        self.shares_windows = self.inner.shares_windows
        self.reads_times = self.inner.reads_times
        self.reads_request_time = self.inner.reads_request_time
        self.max_length = self.inner.max_length

    def attach(self, catalog: Catalog | None, sessions: Sessions | None = None) -> None:
        """Attaches the training data to model and base.

        Raises:
            ValueError: If the catalog has another number of items.
        """
        super().attach(catalog, sessions)
        self.inner.attach(catalog, sessions)

    def taking_over(self, model: SessionModel, *, strict: bool = True) -> Self:
        """This model, with the weights, training data, device and mode of an existing base.

        Args:
            model: A model of the base's family and arguments.
            strict: Whether both have the same parameters.
        """
        self.inner.load_state_dict(model.state_dict(), strict=strict)
        if model.catalog is not None:
            self.attach(model.catalog)
        return self.to(model.device).train(model.training)

    def forward(self, batch: Batch) -> Tensor:
        """Session vectors of the base, [num_sessions, d]."""
        vectors: Tensor = self.inner(batch)
        return vectors

    def click_states(self, batch: Batch) -> Tensor:
        """The base's state after every click, [num_clicks, d]."""
        return self.inner.click_states(batch)

    def training_rows(self, batch: Batch, generator: Any) -> TrainingRows:
        """The training rows of the base."""
        return self.inner.training_rows(batch, generator)

    def training_state(self) -> dict[str, Tensor]:
        return self.inner.training_state()

    def load_training_state(self, state: Mapping[str, Tensor]) -> None:
        self.inner.load_training_state(state)

    def __getattr__(self, name: str) -> Any:
        return self.inner.items if name == "items" else super().__getattr__(name)


def base_of(model: SessionModel, owner: str) -> tuple[str, dict[str, Any]]:
    """The name and the arguments of a model to be contained in another.

    Raises:
        ValueError: If its class is not registered.
    """
    name = name_of(type(model))
    if name is None:
        raise ValueError(f"{type(model).__name__} is not a family of MODELS: {owner} needs one.")
    return name, {key: value for key, value in model.settings.items() if key != "num_items"}


def check_arguments(base: str, given: Any) -> None:
    """Refuses what is no arguments of a base.

    Raises:
        ValueError: If it is no mapping, or has a name that the family does not take from it.
    """
    if not isinstance(given, Mapping):
        raise ValueError(f"arguments is a mapping of arguments of {base} by name, got {given!r}.")
    constructor = MODELS[base].__init__
    _, *parameters = inspect.signature(constructor).parameters.values()
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters):
        return
    taken = [each.name for each in parameters if each.name != "num_items"]
    wrong = [name for name in in_new_names(constructor, given) if name not in taken]
    if wrong:
        raise ValueError(
            f"arguments has {wrong[0]!r}, which {base} does not take from it: it takes "
            f"{', '.join(taken)}."
        )


def _has_item_table(family: type[SessionModel]) -> bool:
    """Whether a family scores by an item table, and is trained on vectors against it."""
    trained = family.samples in ("sessions", "prefixes", "cloze")
    return trained and family.scores_by_table and not issubclass(family, AroundBase)
