"""What a model knows of the world: the items, users and features of its training data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from graphseq.data.sessions.vocabulary import Vocabulary

S_co = TypeVar("S_co", covariant=True)


class Recodable(Protocol[S_co]):
    """What a catalog encodes: :class:`~graphseq.data.Sessions`."""

    def in_codes_of(self, catalog: Catalog) -> S_co:
        """The same in the codes of the catalog."""


@dataclass(frozen=True, eq=False)
class Catalog:
    """Items (and users) of the training data, with their training counts.

    Args:
        items: Ids of the items; codes are ``0..num_items-1``.
        counts: Training clicks of each item, int64 [num_items].
        users: Ids of the users, if the log names them.
        item_features: One row an item in code order, if the log has item features.
        click_vocabularies: Name of a categorical click feature -> the values behind its codes.

    Raises:
        ValueError: If counts or features are not one to an item.
    """

    items: Vocabulary
    counts: NDArray[np.int64]
    users: Vocabulary | None = None
    item_features: pd.DataFrame | None = None
    click_vocabularies: Mapping[str, Vocabulary] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.counts.shape != (len(self.items),):
            raise ValueError(
                f"A catalog needs one count an item: {len(self.items)} items, counts of shape "
                f"{self.counts.shape}."
            )
        if self.item_features is not None and len(self.item_features) != len(self.items):
            raise ValueError(
                f"Item features need one row an item in code order: {len(self.items)} items, "
                f"{len(self.item_features)} rows."
            )

    @property
    def num_items(self) -> int:
        return len(self.items)

    def encode(self, sessions: Recodable[S_co]) -> S_co:
        """The same sessions in the codes of these items, users and values of click features.

        What the catalog lacks becomes -1. An item keeps the features that the sessions have of it;
        the catalog gives those of the others.

        Args:
            sessions: In codes of their own.

        Raises:
            ValueError: If none of the ids is known, and all are of another type.
        """
        return sessions.in_codes_of(self)

    def __repr__(self) -> str:
        users = 0 if self.users is None else len(self.users)
        return f"{type(self).__name__}(num_items={self.num_items}, num_users={users})"
