"""What a trained model is asked for: recommendations, a folder with it, items left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from os import PathLike
from typing import Any, Literal, TypeVar, overload

import pandas as pd
import torch

from graphseq.data.sessions.catalog import Catalog

SessionsLike = Any
"""Sessions as a caller has them: lists, arrays or tensors of ids, :class:`Sessions`, or a log, one
click a row, of any kind that :meth:`Sessions.from_frame` takes."""

ATTACHED: dict[str, Callable[..., Any]] = {}
"""Functions that are methods of every model: those that read a model whole, as ``save`` does."""

Function = TypeVar("Function", bound=Callable[..., Any])


def model_method(function: Function) -> Function:
    """Makes a function of a model a method of :class:`SessionModel`, which declares it."""
    ATTACHED[function.__name__] = function
    return function


class Recommender(torch.nn.Module):
    """The methods of a model that nobody overrides."""

    catalog: Catalog | None

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

    def save(self, folder: str | PathLike[str], **options: Any) -> None:
        """Writes the model to a folder: :func:`graphseq.models.use.persistence.save`."""
        ATTACHED["save"](self, folder, **options)

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
