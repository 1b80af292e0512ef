"""Ids of a user's own (strings, 64-bit integers) on one side, codes 0..n-1 on the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

UNKNOWN = -1
"""The code of an id that a vocabulary does not hold."""

IntArray = NDArray[np.integer[Any]]


class Vocabulary:
    """A two-way map between ids of any hashable type and the codes ``0..n-1``.

    Args:
        ids: Distinct ids; the id at position ``c`` gets code ``c``.

    Raises:
        ValueError: If an id is missing (NaN, None) or occurs twice.
    """

    def __init__(self, ids: Iterable[Any]) -> None:
        index = ids if isinstance(ids, pd.Index) else pd.Index(as_ids(ids))
        if index.hasnans:
            raise ValueError(
                f"A vocabulary holds no missing id, but position {int(index.isna().argmax())} is "
                "one: drop the missing ids first."
            )
        if not index.is_unique:
            repeated = index[index.duplicated()][0]
            raise ValueError(f"A vocabulary holds each id once, but {repeated!r} occurs twice.")
        self.ids: pd.Index = index

    @classmethod
    def factorize(cls, values: ArrayLike | pd.Series) -> tuple[Vocabulary, IntArray]:
        """Codes in order of first appearance, and the vocabulary that undoes them.

        Args:
            values: Ids, [n]; a missing value gets code -1.

        Returns:
            The vocabulary and the codes, int64 [n].
        """
        array = values if isinstance(values, pd.Series) else as_ids(values)
        codes, ids = pd.factorize(array)
        return cls(pd.Index(ids)), codes

    def encode(self, values: Iterable[Any]) -> IntArray:
        """Codes of ``values``, int64 [n]; -1 where the id is unknown."""
        wanted = values if isinstance(values, (pd.Index, pd.Series)) else as_ids(values)
        if len(wanted) == 0:
            return np.empty(0, dtype=np.int64)
        return self.ids.get_indexer(pd.Index(wanted)).astype(np.int64, copy=False)

    def decode(self, codes: ArrayLike) -> list[Any]:
        """Ids of ``codes`` [n], as plain Python values.

        Raises:
            ValueError: If a code lies outside ``0..n-1``.
        """
        codes = np.asarray(codes, dtype=np.int64)
        if codes.size and not (0 <= codes.min() and codes.max() < len(self)):
            raise ValueError(
                f"Codes of this vocabulary lie in 0..{len(self) - 1}, got "
                f"{codes.min()}..{codes.max()}."
            )
        return self.ids.take(codes).tolist()

    def subset(self, codes: ArrayLike) -> Vocabulary:
        """The vocabulary of these codes alone, renumbered in the order given."""
        return Vocabulary(self.ids.take(np.asarray(codes, dtype=np.int64)))

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, value: Any) -> bool:
        return value in self.ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.ids.equals(other.ids)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)})"


def as_ids(values: Iterable[Any]) -> NDArray[Any]:
    """Ids as an array in which each keeps its own type: NumPy alone would turn [1, "a"] to text."""
    if isinstance(values, np.ndarray):
        return values
    listed = list(values)
    if all(isinstance(value, (int, np.integer)) for value in listed):
        return np.asarray(listed, dtype=None if listed else np.int64)
    array = np.empty(len(listed), dtype=object)
    array[:] = listed
    return array
