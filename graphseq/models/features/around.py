"""Models around another family: what they share is the base inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.sessions import Sessions
from graphseq.models.base import SessionModel
from graphseq.models.reading import TrainingRows
from graphseq.models.registry import MODELS, name_of


class AroundBase(SessionModel):
    """A model that holds another one, ``inner``, and is trained and cut as that one is.

    Args:
        num_items: Items of the catalog.
        base: Name of a family in :data:`graphseq.models.MODELS` that scores by an item table and is
            trained by gradients.
        arguments: Its arguments, beside ``num_items``.

    Raises:
        ValueError: If ``base`` is no such family, or its own arguments are wrong.
    """

    # Those of the default base; a model has those of its own.
    samples = "sessions"
    causal = True

    def __init__(
        self, num_items: int, base: str = "sasrec", arguments: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(num_items)
        if base not in MODELS or not _has_item_table(MODELS[base]):
            able = [name for name, family in MODELS.items() if _has_item_table(family)]
            raise ValueError(f"base is one of {', '.join(able)}, got {base!r}.")
        self.inner: SessionModel = MODELS[base](num_items, **(arguments or {}))
        self.samples = self.inner.samples
        self.causal = self.inner.causal
        self.keeps_state = self.inner.keeps_state
        self.shares_windows = self.inner.shares_windows
        self.reads_request_time = self.inner.reads_request_time
        self.max_length = self.inner.max_length

    def attach(self, catalog: Catalog | None, sessions: Sessions | None = None) -> None:
        """Makes model and base know their training data.

        Raises:
            ValueError: If the catalog has another number of items.
        """
        super().attach(catalog, sessions)
        self.inner.attach(catalog, sessions)

    def forward(self, batch: Batch) -> Tensor:
        """Session vectors of the base, [num_sessions, d]."""
        vectors: Tensor = self.inner(batch)
        return vectors

    def click_states(self, batch: Batch) -> Tensor:
        """The base's state after every click, [num_clicks, d]."""
        return self.inner.click_states(batch)

    def training_rows(self, batch: Batch, generator: Any) -> TrainingRows:
        """What the base trains on."""
        return self.inner.training_rows(batch, generator)

    def training_state(self) -> dict[str, Tensor]:
        return self.inner.training_state()

    def load_training_state(self, state: Mapping[str, Tensor]) -> None:
        self.inner.load_training_state(state)

    def __getattr__(self, name: str) -> Any:
        return self.inner.items if name == "items" else super().__getattr__(name)


def base_of(model: SessionModel, owner: str) -> tuple[str, dict[str, Any]]:
    """The name and the arguments of a model that is to stand inside another.

    Raises:
        ValueError: If its class is not registered.
    """
    name = name_of(type(model))
    if name is None:
        raise ValueError(f"{type(model).__name__} is no family of MODELS: {owner} needs one.")
    return name, {key: value for key, value in model.settings.items() if key != "num_items"}


def _has_item_table(family: type[SessionModel]) -> bool:
    """Whether a family scores by an item table, and is trained on vectors against it."""
    trained = family.samples in ("sessions", "prefixes", "cloze")
    return trained and family.scores_by_table and not issubclass(family, AroundBase)
