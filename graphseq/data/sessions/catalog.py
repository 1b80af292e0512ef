"""The catalog of a model: the items, users and features of its training data."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from graphseq.data.logs.ids import id_column
from graphseq.data.logs.memory import column_of
from graphseq.data.sessions.item_table import check_columns
from graphseq.data.sessions.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

S_co = TypeVar("S_co", covariant=True)


class Recodable(Protocol[S_co]):
    """The interface that a catalog encodes, as :class:`~graphseq.data.Sessions` has it."""

    def in_codes_of(self, catalog: Catalog) -> S_co:
        """The same data in the codes of the catalog."""


@dataclass(frozen=True, eq=False)
class Catalog:
    """Items (and users) of the training data, with their training counts.

    Args:
        items: Ids of the items; codes are ``0..num_items-1``.
        counts: Training clicks of each item, int64 [num_items].
        users: Ids of the users, if the log has users.
        item_features: One row per item in code order, if the log has item features.
        click_vocabularies: Name of a categorical click feature -> the values behind its codes.
        delisted: Codes of items that are no longer recommended, ascending, int64 [n].

    Raises:
        ValueError: If there is not one count and one row of features per item, or a code does not
            exist.
    """

    items: Vocabulary
    counts: NDArray[np.int64]
    users: Vocabulary | None = None
    item_features: pd.DataFrame | None = None
    click_vocabularies: Mapping[str, Vocabulary] = field(default_factory=dict)
    delisted: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def __post_init__(self) -> None:
        if self.counts.shape != (len(self.items),):
            raise ValueError(
                f"A catalog needs one count per item: {len(self.items)} items, counts of shape "
                f"{self.counts.shape}."
            )
        if self.item_features is not None:
            check_columns(self.item_features)
            if len(self.item_features) != len(self.items):
                raise ValueError(
                    f"Item features need one row per item in code order: {len(self.items)} items, "
                    f"{len(self.item_features)} rows."
                )
        codes = self.delisted
        if codes.size and (
            codes[0] < 0 or codes[-1] >= len(self.items) or (np.diff(codes) <= 0).any()
        ):
            raise ValueError(
                f"Delisted items are codes in 0..{len(self.items) - 1}, ascending and distinct: "
                "catalog.delist takes ids."
            )

    @property
    def num_items(self) -> int:
        return len(self.items)

    def delist(self, items: Iterable[Any]) -> Catalog:
        """The same catalog with these items added to the items that are never recommended.

        Args:
            items: Ids; unknown ids are ignored, and a warning counts them.

        Raises:
            ValueError: If none of the ids is known.
        """
        return replace(self, delisted=np.union1d(self.delisted, self._codes_of(items, "delist")))

    def relist(self, items: Iterable[Any] | None = None) -> Catalog:
        """The same catalog in which these items, or all items, can be recommended again.

        Args:
            items: Ids, as for :meth:`delist`; ``None``: all.

        Raises:
            ValueError: If none of the ids is known.
        """
        again = self.delisted if items is None else self._codes_of(items, "relist")
        return replace(self, delisted=np.setdiff1d(self.delisted, again))

    def delisted_as(self, other: Catalog) -> Catalog:
        """The same catalog in which the delisted items of another catalog are also delisted."""
        codes = self.items.encode(other.items.ids.take(other.delisted))
        return replace(self, delisted=np.union1d(self.delisted, codes[codes >= 0]))

    def _codes_of(self, items: Iterable[Any], what: str) -> NDArray[np.int64]:
        if isinstance(items, (str, bytes)):
            raise ValueError(f"{what} takes a collection of ids, got {items!r}: write [{items!r}].")
        ids = id_column(column_of(items, f"items to {what}"))
        codes = np.asarray(self.items.encode(ids, what=f"ids to {what}"), dtype=np.int64)
        unknown = codes < 0
        if len(codes) and unknown.all():
            raise ValueError(
                f"None of the {len(codes)} items to {what} is in the catalog, {ids.iloc[0]!r} the "
                f"first: its items are as {self.items.ids[0]!r}."
            )
        if unknown.any():
            logger.warning(
                "%d of %d items to %s are not in the catalog, %r the first.",
                int(unknown.sum()),
                len(codes),
                what,
                ids[unknown].iloc[0],
            )
        return codes[~unknown]

    def encode(self, sessions: Recodable[S_co]) -> S_co:
        """The same sessions in the codes of these items, users and values of click features.

        Unknown ids become -1. An item keeps the features from the sessions; other items get the
        catalog's features.

        Args:
            sessions: Sessions in their own codes.

        Raises:
            ValueError: If none of the ids is known, and all have another type.
        """
        return sessions.in_codes_of(self)

    def __repr__(self) -> str:
        users = 0 if self.users is None else len(self.users)
        gone = f", {len(self.delisted)} delisted" if len(self.delisted) else ""
        return f"{type(self).__name__}(num_items={self.num_items}{gone}, num_users={users})"
