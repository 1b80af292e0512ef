"""Search for items by title."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from graphseq.models.use.recommend import item_vocabulary
from graphseq.serving.live.sessions import ItemCodes
from graphseq.serving.recommender import Recommender

COLUMNS = ("title", "name")
"""Item features that are used as titles; the first one present counts."""

MOST_FOUND = 10


class Titles:
    """Items of a recommender by title, or by id where the catalog has no titles.

    Args:
        recommender: Its catalog holds the titles.
    """

    def __init__(self, recommender: Recommender) -> None:
        model = recommender.model
        self.ids, self._codes = item_vocabulary(model).ids, ItemCodes(recommender)
        features = None if model.catalog is None else model.catalog.item_features
        named = [name for name in COLUMNS if features is not None and name in features]
        values: Any = self.ids if not named else features[named[0]].array  # type: ignore[index]
        self.titles = pd.Series(values).astype("str").fillna("")
        self._lower = self.titles.str.casefold()
        self._lower_ids = pd.Series(self.ids.astype("str")).str.casefold()
        counts = np.zeros(len(self.ids)) if model.catalog is None else model.catalog.counts
        self._popular = np.argsort(-counts, kind="stable")

    def find(self, query: str) -> list[dict[str, Any]]:
        """Items whose id or title equals the query, then the most clicked that contain it."""
        wanted = query.casefold().strip()
        whole = ((self._lower_ids == wanted) | (self._lower == wanted)).to_numpy(dtype=bool)
        holds = self._lower.str.contains(wanted, regex=False).to_numpy(dtype=bool)
        found = np.concatenate(
            [self._popular[part[self._popular]] for part in (whole, holds & ~whole)]
        )
        return self.of(self.ids.take(found[:MOST_FOUND]).tolist())

    def of(self, items: list[Any]) -> list[dict[str, Any]]:
        """Items with their titles; with their ids where they are of another model."""
        places = self._codes.encode(items)
        return [
            {"item": item, "title": self.titles.iloc[place] if place >= 0 else str(item)}
            for item, place in zip(items, places, strict=True)
        ]
