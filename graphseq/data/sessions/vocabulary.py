"""Maps a user's ids (strings, 64-bit integers) to codes 0..n-1 and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

UNKNOWN = -1
"""The code of an unknown id."""

IntArray = NDArray[np.integer[Any]]


class Vocabulary:
    """A two-way map between ids of any hashable type and the codes ``0..n-1``.

    Ids of one type are stored in an array of that type (text in Arrow's memory, not as Python
    objects). All integers become int64, and all text ``str``.

    Args:
        ids: Distinct ids; the id at position ``c`` gets code ``c``.

    Raises:
        ValueError: If an id is missing (NaN, None) or occurs twice.
    """

    def __init__(self, ids: Iterable[Any]) -> None:
        index = as_index(ids)
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
    def from_unique(cls, ids: Iterable[Any]) -> Vocabulary:
        """The vocabulary of ids that are known to be distinct and present; they are not checked."""
        vocabulary = cls.__new__(cls)
        vocabulary.ids = as_index(ids)
        return vocabulary

    @classmethod
    def factorize(cls, values: Iterable[Any]) -> tuple[Vocabulary, IntArray]:
        """Codes in order of first appearance, and the vocabulary that decodes them.

        Args:
            values: Ids, [n]; a missing value gets code -1.

        Returns:
            The vocabulary and the codes, int64 [n].
        """
        array = values if isinstance(values, pd.Series) else as_ids(values)
        codes, ids = pd.factorize(array)
        return cls.from_unique(ids), codes

    def encode(self, values: Iterable[Any], *, what: str | None = None) -> IntArray:
        """Codes of ``values``, int64 [n]; -1 for unknown ids.

        Args:
            values: Ids, [n].
            what: Name of the ids in messages. If given, an error is raised when no id is known
                because all have another type (text "1" for 1).

        Raises:
            ValueError: If no id is known and all have another type.
        """
        wanted = values if isinstance(values, (pd.Index, pd.Series)) else as_ids(values)
        if len(wanted) == 0 or len(self) == 0:
            return np.full(len(wanted), UNKNOWN, dtype=np.int64)
        if isinstance(wanted.dtype, np.dtype) and isinstance(self.ids.dtype, np.dtype):
            kinds = {wanted.dtype.kind in "iu", self.ids.dtype.kind in "iu"}
            if "f" in (wanted.dtype.kind, self.ids.dtype.kind) and kinds == {True, False}:
                return self._encode_by_value(np.asarray(wanted))
        if isinstance(wanted.dtype, np.dtype) and wanted.dtype.kind in "iu":
            codes = self.ids.get_indexer(pd.Index(wanted)).astype(np.int64, copy=False)
        else:  # Each distinct id is looked up once, because text becomes a Python object for it.
            place, distinct = pd.factorize(wanted)
            table = self.ids.get_indexer(as_index(distinct)).astype(np.int64, copy=False)
            codes = np.append(table, UNKNOWN)[place]
        if what is not None and not (codes >= 0).any():
            self._refuse_other_type(wanted, what)
        return codes

    def map_to(self, other: Vocabulary, what: str = "ids") -> IntArray:
        """The code in ``other`` of every code here, int64 [n + 1]; the last entry maps -1 to -1.

        Args:
            other: The other vocabulary; ids that it lacks become -1.
            what: Name of the ids in messages.

        Raises:
            ValueError: If the ids have another type than the ids of ``other``.
        """
        if other is self or other == self:
            return np.append(np.arange(len(self)), UNKNOWN)
        return np.append(other.encode(self.ids, what=what), UNKNOWN)

    def _refuse_other_type(self, values: Any, what: str) -> None:
        theirs, ours = as_index(values).dropna(), self.ids
        kinds = _kind(theirs), _kind(ours)
        if None in kinds or kinds[0] == kinds[1]:
            return
        one, known = theirs[:1].tolist()[0], ours[:1].tolist()[0]
        raise ValueError(
            f"None of these {len(theirs)} {what} is known, as they are of another type: "
            f"{one!r} is {kinds[0]}, the known {known!r} is {kinds[1]}; read both in the same way, "
            "or convert one with astype."
        )

    def _encode_by_value(self, wanted: NDArray[Any]) -> IntArray:
        """Codes of floats in a vocabulary of integers, or of integers in one of floats.

        Beyond 53 bits one float represents several integers, so that none of them matches.
        """
        exact = (wanted >= -(2**53)) & (wanted <= 2**53) & (wanted == np.floor(wanted))
        whole = np.where(exact, wanted, 0).astype(np.int64)
        codes = self.ids.get_indexer(pd.Index(whole)).astype(np.int64, copy=False)
        return np.where(exact, codes, UNKNOWN)

    def decode(self, codes: ArrayLike) -> list[Any]:
        """Ids of ``codes`` [n], as plain Python values.

        Raises:
            ValueError: If a code is outside ``0..n-1``.
        """
        codes = np.asarray(codes, dtype=np.int64)
        if codes.size and not (0 <= codes.min() and codes.max() < len(self)):
            raise ValueError(
                f"Codes of this vocabulary lie in 0..{len(self) - 1}, got "
                f"{codes.min()}..{codes.max()}."
            )
        return self.ids.take(codes).tolist()

    def column(self, codes: ArrayLike) -> pd.Series:
        """Ids of ``codes`` [n] as a column that keeps their type; a code of -1 is missing."""
        codes = np.asarray(codes, dtype=np.int64)
        if (codes >= 0).all():
            return pd.Series(self.ids.take(codes).array)
        # NumPy integers have no missing value, and floats would lose the last digits.
        ids = self.ids.astype("Int64") if self.ids.dtype.kind in "iu" else self.ids
        return pd.Series(pd.api.extensions.take(ids.array, codes, allow_fill=True))

    def subset(self, codes: ArrayLike) -> Vocabulary:
        """The vocabulary of only these codes, renumbered in the given order."""
        return Vocabulary(self.ids.take(np.asarray(codes, dtype=np.int64)))

    def extended(self, others: Iterable[Vocabulary], what: str = "ids") -> Vocabulary:
        """These ids under their codes, followed by the new ids of the others, in order.

        Args:
            others: Vocabularies of ids of the same kind.
            what: Name of the ids in messages.

        Raises:
            ValueError: If the ids of one have another type than the ids before it.
        """
        found = self
        for other in others:
            foreign = other.ids[other.map_to(found, what)[:-1] < 0]
            if len(foreign):
                found = Vocabulary.from_unique(found.ids.append(foreign))
        return found

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, value: Any) -> bool:
        return value in self.ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.ids.equals(other.ids)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)})"


def _kind(ids: pd.Index) -> str | None:
    """The type of ids in words; ``None``: no ids, or ids of several types."""
    if len(ids) == 0:
        return None
    if isinstance(ids.dtype, pd.StringDtype):
        return "text"
    names = {"i": "a whole number", "u": "a whole number", "f": "a float", "b": "a bool"}
    kind = getattr(ids.dtype, "kind", "O")
    if kind in names:
        return names[kind]
    if kind != "O":
        return f"a {ids.dtype}"
    inferred = pd.api.types.infer_dtype(ids, skipna=False)
    named = {"string": "text", "integer": "a whole number", "floating": "a float"}
    if inferred.startswith("mixed"):  # also for objects of one class
        classes = {type(value).__name__ for value in ids}
        return f"a {classes.pop()}" if len(classes) == 1 else None
    return named.get(inferred, f"of type {inferred}")


def as_ids(values: Iterable[Any]) -> Any:
    """Ids as an array in which each keeps its type: NumPy would convert [1, "a"] to text."""
    if isinstance(values, (np.ndarray, pd.api.extensions.ExtensionArray)):
        return values
    listed = list(values)
    if all(isinstance(value, (int, np.integer)) for value in listed):
        array = np.asarray(listed, dtype=None if listed else np.int64)
        if array.dtype.kind in "iub":  # mixed signs beyond 63 bits would become floats
            return array
    return np.fromiter(listed, dtype=object, count=len(listed))


def as_index(values: Iterable[Any]) -> pd.Index:
    """Ids as an index of int64, ``str`` or their own type; missing ids stay missing."""
    if isinstance(values, (pd.Categorical, pd.CategoricalIndex)):
        values = values.categories.take(values.codes)
    if isinstance(values, (pd.Index, pd.api.extensions.ExtensionArray)):
        index = pd.Index(values)
    else:
        index = pd.Index(as_ids(values), tupleize_cols=False)
    if isinstance(index.dtype, pd.ArrowDtype):
        index = pd.Index(pa.array(index.array).to_pandas())
    if isinstance(index.dtype, pd.StringDtype):
        return index.astype("str")
    if index.hasnans or len(index) == 0:
        return index
    if index.dtype == object:
        kind = pd.api.types.infer_dtype(index, skipna=False)
        if kind == "string":
            return index.astype("str")
        least, most = np.iinfo(np.int64).min, np.iinfo(np.int64).max
        fits = kind == "integer" and least <= index.min() and index.max() <= most
        return index.astype("int64") if fits else index
    if pd.api.types.is_unsigned_integer_dtype(index) and index.max() > np.iinfo(np.int64).max:
        return index.astype("uint64")
    if pd.api.types.is_integer_dtype(index):
        return index.astype("int64")
    if isinstance(index.dtype, (pd.Float64Dtype, pd.Float32Dtype, pd.BooleanDtype)):
        return index.astype(index.dtype.numpy_dtype)
    return index
