"""Names of families: each family registers its class, so that no module imports them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

MODELS: dict[str, type[Any]] = {}
"""Name of a family -> its class, a :class:`graphseq.models.SessionModel`."""

Family = TypeVar("Family", bound=type[Any])


def register(name: str) -> Callable[[Family], Family]:
    """Gives a class of models a name: ``compare``, ``load`` and the scripts then know it by that.

    Args:
        name: Lower case, digits and ``_``, as ``"sasrec"``.

    Raises:
        ValueError: If the name belongs to another class or has another form, or the decorated
            object is not a class of models.

    Example:
        >>> from graphseq.models import SessionModel
        >>> @register("nearest")
        ... class Nearest(SessionModel):
        ...     samples = "counts"
        >>> MODELS.pop("nearest").__name__
        'Nearest'
    """
    if not (name.isidentifier() and name == name.lower()):
        raise ValueError(
            f"A family is registered under a name of lower-case letters, digits and '_', got "
            f"{name!r}."
        )

    def decorate(family: Family) -> Family:
        if not (isinstance(family, type) and hasattr(family, "training_rows")):
            raise ValueError(
                f"register({name!r}) goes above a class that inherits from "
                f"graphseq.models.SessionModel, got {family!r}."
            )
        known = MODELS.get(name)
        if known is not None and _place(known) != _place(family):
            raise ValueError(
                f"The name {name!r} belongs to {_place(known)}: register {family.__name__} "
                "under another one."
            )
        MODELS[name] = family  # a cell of a notebook that runs again replaces its own class
        return family

    return decorate


def name_of(family: type[Any]) -> str | None:
    """The name of a class itself, not of one that it inherits from; ``None``: not registered."""
    return next((name for name, known in MODELS.items() if known is family), None)


def _place(family: type[Any]) -> str:
    return f"{family.__module__}.{family.__qualname__}"
