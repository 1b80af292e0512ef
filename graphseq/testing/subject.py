"""The checked model: builds it, any number of times, with the same weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from graphseq.data.sessions.sessions import Sessions
from graphseq.models.base import SessionModel
from graphseq.models.counting.counting import CountingModel
from graphseq.nn.chance import OwnDraws
from graphseq.testing.examples import NUM_ITEMS, training_sessions


class Subject:
    """A model that can be built any number of times, with the same weights each time.

    Args:
        model: A class, or a function of ``num_items``.
        arguments: Further arguments of the class.

    Raises:
        ValueError: If it does not build a model.
    """

    def __init__(
        self,
        model: type[SessionModel] | Callable[[int], SessionModel],
        arguments: Mapping[str, Any],
    ) -> None:
        if isinstance(model, torch.nn.Module):
            raise ValueError(
                f"check_model builds models itself, got one that is built: pass its class, "
                f"check_model({type(model).__name__}, ...)."
            )
        if not callable(model):
            raise ValueError(
                "check_model takes a class of models or a function of num_items that builds one, "
                f"got {model!r}."
            )
        if inspect.isclass(model) and not issubclass(model, SessionModel):
            raise ValueError(
                f"{model.__name__} is not a model: inherit from graphseq.models.SessionModel."
            )
        self.model = model
        self.arguments = dict(arguments)
        try:
            built = self.new()
        except TypeError as error:
            raise ValueError(
                f"{getattr(model, '__name__', model)}(num_items={NUM_ITEMS}) cannot be built "
                f"({error}): pass its other arguments to check_model as well."
            ) from error
        if not isinstance(built, SessionModel):
            raise ValueError(
                f"check_model needs a SessionModel, but {getattr(model, '__name__', model)}"
                f"({NUM_ITEMS}) gave {type(built).__name__}."
            )
        self.family = type(built)
        self.name = self.family.__name__

    def new(self, num_items: int = NUM_ITEMS) -> SessionModel:
        """A new model with the same initial weights each time; torch's random state is restored."""
        with OwnDraws(0):
            return self.model(num_items, **self.arguments)

    def ready(self, sessions: Sessions | None = None) -> SessionModel:
        """A model attached to its training sessions, in evaluation mode (counting: fitted).

        Args:
            sessions: Training sessions; ``None``: the sessions of the checks.
        """
        known = training_sessions() if sessions is None else sessions
        model = self.new(known.num_items)
        model.attach(known.catalog(), known)
        if isinstance(model, CountingModel):
            model.fit_counts(known)
        return model.eval()
