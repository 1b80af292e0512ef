"""Side features of clicks and items: their specs, and the codes of their values."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from graphseq.arguments import whole
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import UNKNOWN, Vocabulary
from graphseq.ragged import ptr_of

logger = logging.getLogger(__name__)

FeatureKind = Literal["categorical", "numeric", "multi_hot", "vector"]

BELONGS: dict[str, tuple[str, ...]] = {
    "categorical": ("size", "values"),
    "numeric": ("boundaries",),
    "multi_hot": ("size", "values", "separator"),
    "vector": ("size",),
}
"""The arguments that describe a feature of each kind, besides its name."""

Spec = Mapping[str, Any]
"""A feature as a dict of numbers, text and lists: the keys are the arguments of Feature."""


@dataclass(frozen=True)
class Feature:
    """One side feature of clicks or of items.

    A missing value, and a value outside ``size`` or ``values``, is encoded as a zero vector.

    Args:
        name: The column of ``item_features``, or the key of ``click_features``.
        kind: ``"categorical"``: one of several values; ``"numeric"``: a number, encoded by its
            bucket; ``"multi_hot"``: several values at once; ``"vector"``: numbers from another
            model.
        size: Number of values, if the data holds their codes ``0..size-1``; for a vector, its
            width.
        values: The values themselves, in the order of their codes.
        boundaries: Ascending; bucket ``i`` holds ``boundaries[i-1] <= x < boundaries[i]``.
        separator: Separator of the values in one text, as in ``"Comedy|Drama"``.

    Raises:
        ValueError: If the kind is unknown, or an argument is missing or does not belong to the
            kind.
    """

    name: str
    kind: FeatureKind
    size: int | None = None
    values: Sequence[Any] | None = None
    boundaries: Sequence[float] | None = None
    separator: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise ValueError(f"The name of a feature is text, got {self.name!r}.")
        if self.kind not in BELONGS:
            raise ValueError(
                f"The kind of feature {self.name!r} is one of {', '.join(BELONGS)}, got "
                f"{self.kind!r}."
            )
        given = [key for key, value in asdict(self).items() if value is not None]
        foreign = sorted(set(given) - {"name", "kind", *BELONGS[self.kind]})
        if foreign:
            raise ValueError(f"Feature {self.name!r} is {self.kind} and takes no {foreign[0]}.")
        if self.kind == "numeric":
            edges = np.asarray(self.boundaries or [], dtype=np.float64)
            if len(edges) == 0 or not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
                raise ValueError(
                    f"Feature {self.name!r} needs boundaries, finite and ascending, got "
                    f"{self.boundaries!r}: feature_specs finds some in the data."
                )
        elif (self.size is None) == (self.values is None):
            wanted = "a size" if self.kind == "vector" else "either a size or its values"
            raise ValueError(f"Feature {self.name!r} is {self.kind} and needs {wanted}.")
        elif self.num_codes < 1 or (self.values and len(set(self.values)) < len(self.values)):
            raise ValueError(
                f"Feature {self.name!r} needs a size of at least 1, or distinct values, got "
                f"{self.size if self.values is None else self.values!r}."
            )

    @classmethod
    def from_spec(cls, spec: Spec) -> Feature:
        """The feature that a dict describes.

        Raises:
            ValueError: If the dict has no name or kind, or an unknown key.
        """
        known = [field.name for field in fields(cls)]
        wrong = [key for key in spec if key not in known]
        if wrong or "name" not in spec or "kind" not in spec:
            raise ValueError(
                f"A feature is a dict with name, kind and what else of {', '.join(known[2:])} "
                f"belongs to it, got {dict(spec)!r}."
            )
        return cls(**spec)

    def to_spec(self) -> dict[str, Any]:
        """The dict that describes this feature: a setting of a model, ready for JSON."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @property
    def num_codes(self) -> int:
        """Number of embeddings; for a vector, its width."""
        if self.kind == "numeric":
            return len(self.boundaries or ()) + 1
        return len(self.values) if self.values is not None else int(self.size or 0)


def encode_column(feature: Feature, column: pd.Series) -> list[NDArray[Any]]:
    """The values of a column as codes; a missing value is -1, or empty.

    Args:
        feature: The feature that the column holds.
        column: Values, [n]. For a multi-hot feature lists or joined texts, for a vector arrays of
            numbers.

    Returns:
        Codes, int32 [n], of a categorical or numeric feature. Codes [num_values] and the rows'
        pointer into them, int64 [n + 1], of a multi-hot one. float32 [n, size] of a vector.

    Raises:
        ValueError: If values do not match the kind, or codes are outside ``0..size-1``.
    """
    if feature.kind == "categorical":
        return [_codes(feature, column).astype(np.int32)]
    if feature.kind == "numeric":
        return [_buckets(feature, column)]
    if feature.kind == "multi_hot":
        return _several(feature, column)
    return [_vectors(feature, column)]


def feature_specs(
    sessions: Sessions,
    *,
    click: Iterable[str | Spec] = (),
    item: Iterable[str | Spec] = (),
    num_buckets: int = 16,
) -> dict[str, list[dict[str, Any]]]:
    """The features of training sessions as models take them: ``BST(n, **feature_specs(...))``.

    Numbers become numeric features with quantiles of the data as boundaries. Cells with lists
    become multi-hot features, arrays of numbers vectors, and everything else categorical features
    with the values that occur. A dict can give more than a name; the rest is found in the data:
    ``{"name": "genres", "kind": "multi_hot", "separator": "|"}``.

    Args:
        sessions: The training part, so that nothing is learned from the test part.
        click: Click features to use, from ``sessions.click_features``.
        item: Item features to use, columns of ``sessions.item_features``.
        num_buckets: Maximum number of buckets of a numeric feature.

    Returns:
        ``click_features`` and ``item_features``, lists of JSON-able dicts.

    Raises:
        ValueError: If there is no such feature, or its data does not determine its spec.
    """
    num_buckets = whole("num_buckets", num_buckets, at_least=2)
    table = sessions.item_features
    columns = {} if table is None else {str(name): table[name] for name in table}
    found: dict[str, list[dict[str, Any]]] = {}
    for owner, wanted, present in (
        ("click", click, sessions.click_features),
        ("item", item, columns),
    ):
        specs = []
        for request in wanted:
            given: dict[str, Any] = dict({"name": request} if isinstance(request, str) else request)
            name = str(given.get("name"))
            if name not in present:
                raise ValueError(
                    f"These sessions have no {owner} feature {name!r}, but "
                    f"{', '.join(map(repr, present)) or 'none at all'}."
                )
            known = sessions.feature_vocabularies.get(name) if owner == "click" else None
            values = present[name]
            completed = (
                _completed(given, values, num_buckets)
                if isinstance(values, pd.Series)
                else _completed_clicks(given, np.asarray(values), known, num_buckets)
            )
            specs.append(Feature.from_spec(completed).to_spec())
        found[f"{owner}_features"] = specs
    return found


# -- finding out what a feature is -------------------------------------------------------------


def _completed_clicks(
    given: dict[str, Any], values: NDArray[Any], known: Vocabulary | None, num_buckets: int
) -> dict[str, Any]:
    """The spec of a click feature, whose values are codes or numbers."""
    kinds = {"b": "multi_hot", "f": "vector"}
    kind = kinds.get(values.dtype.kind, "vector") if values.ndim == 2 else "numeric"
    spec = {"kind": "categorical" if known is not None else kind, **given}
    if spec["kind"] == "numeric":
        spec.setdefault("boundaries", _quantiles(spec["name"], values, num_buckets))
    elif known is not None:
        spec.setdefault("size", len(known))
    elif values.ndim == 2:
        spec.setdefault("size", values.shape[1])
    elif spec["kind"] == "categorical" and "values" not in spec:
        spec.setdefault("size", int(values[values >= 0].max(initial=-1)) + 1)
    return spec


def _completed(given: dict[str, Any], column: pd.Series, num_buckets: int) -> dict[str, Any]:
    """The spec of an item feature, from its column."""
    cells = column.dropna()
    first = cells.iloc[0] if len(cells) else None
    numbers = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    kind = "numeric" if numbers else "categorical"
    if isinstance(first, (list, tuple, np.ndarray)):
        is_vector = np.asarray(first).dtype.kind == "f"
        kind = "vector" if is_vector else "multi_hot"
    spec = {"kind": kind, **given}
    if spec["kind"] == "numeric":
        if "boundaries" not in spec:
            spec["boundaries"] = _quantiles(spec["name"], _numbers(column), num_buckets)
    elif spec["kind"] == "vector":
        spec.setdefault("size", 0 if first is None else int(np.size(first)))
    elif "size" not in spec and "values" not in spec:
        if spec["kind"] == "multi_hot":
            cells = _exploded(spec.get("separator"), cells)
        # In the order of values, not of items: the order of items may reveal their popularity.
        spec["values"] = sorted(pd.unique(cells).tolist(), key=lambda v: (str(type(v)), v))
    return spec


def _quantiles(name: str, values: NDArray[Any], num_buckets: int) -> list[float]:
    numbers = values.astype(np.float64)
    numbers = numbers[np.isfinite(numbers)]
    if numbers.size == 0:
        raise ValueError(f"Feature {name!r} has no values, so it has no quantiles: leave it out.")
    edges = np.unique(np.quantile(numbers, np.linspace(0, 1, num_buckets + 1)[1:-1]))
    above = edges[edges > numbers.min()]  # a boundary at the minimum would make an empty bucket
    return (above if len(above) else edges[:1]).tolist()


# -- codes of values ---------------------------------------------------------------------------


def _codes(feature: Feature, values: pd.Series) -> NDArray[np.int64]:
    missing = values.isna().to_numpy()
    if feature.values is not None:
        codes = np.asarray(Vocabulary(feature.values).encode(values), dtype=np.int64)
        unknown = int(((codes < 0) & ~missing).sum())
        if unknown:
            logger.info("%d values of feature %r are not among its own.", unknown, feature.name)
        return codes
    numbers = _numbers(values)
    codes = np.where(missing, UNKNOWN, numbers).astype(np.int64)
    wrong = ~missing & ((codes != numbers) | (codes < UNKNOWN) | (codes >= feature.num_codes))
    if wrong.any():
        raise ValueError(
            f"Feature {feature.name!r} holds codes 0..{feature.num_codes - 1} by its size, or -1 "
            f"where unknown, but row {int(wrong.argmax())} is {values.iloc[int(wrong.argmax())]!r}:"
            " give its values instead of the size."
        )
    return codes


def _numbers(values: pd.Series) -> NDArray[np.float64]:
    try:
        numbers = pd.to_numeric(values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"Feature {values.name!r} holds no numbers: {error}.") from error
    return np.asarray(numbers.to_numpy(dtype=np.float64, na_value=np.nan))


def _buckets(feature: Feature, column: pd.Series) -> NDArray[np.int32]:
    numbers = _numbers(column)
    edges = np.asarray(feature.boundaries, dtype=np.float64)
    bucket = np.searchsorted(edges, numbers, side="right")
    return np.where(np.isnan(numbers), UNKNOWN, bucket).astype(np.int32)


def _several(feature: Feature, column: pd.Series) -> list[NDArray[Any]]:
    """Distinct known codes of each row, ascending, and the pointer."""
    rows = pd.Series(column.to_numpy(), name=column.name)
    cells = _exploded(feature.separator, rows.dropna())
    codes, row = _codes(feature, cells), cells.index.to_numpy()
    pair = np.unique(row[codes >= 0] * feature.num_codes + codes[codes >= 0])
    counts = np.bincount(pair // feature.num_codes, minlength=len(column))
    ptr = ptr_of(counts)
    return [(pair % feature.num_codes).astype(np.int32), ptr.astype(np.int64)]


def _exploded(separator: str | None, cells: pd.Series) -> pd.Series:
    """One row per value; an empty cell has no row."""
    lists = cells if separator is None else cells.astype(str).str.split(separator, regex=False)
    values = lists.explode().dropna()
    return values[values != ""] if values.dtype == object or values.dtype == "str" else values


def _vectors(feature: Feature, column: pd.Series) -> NDArray[np.float32]:
    width = feature.num_codes
    vectors = np.zeros((len(column), width), dtype=np.float32)
    present = np.flatnonzero(column.notna().to_numpy())
    rows = [_one_vector(feature.name, int(i), column.iloc[i]) for i in present]
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    if (lengths != width).any():
        bad = int(np.argmax(lengths != width))
        raise ValueError(
            f"Feature {feature.name!r} holds vectors of {width} numbers by its size, but row "
            f"{present[bad]} has {lengths[bad]}."
        )
    if len(rows):
        vectors[present] = np.stack(rows)
    broken = int((~np.isfinite(vectors)).any(1).sum())
    if broken:
        logger.warning(
            "Feature %r: %d of %d vectors hold numbers that are not finite; these count as 0.",
            feature.name,
            broken,
            len(present),
        )
    return np.nan_to_num(vectors, nan=0.0, posinf=0.0, neginf=0.0)


def _one_vector(name: str, row: int, value: Any) -> NDArray[np.float32]:
    found: NDArray[np.float32] | None = None
    with suppress(ValueError, TypeError):
        found = np.asarray(value, dtype=np.float32)
    if found is None or found.ndim != 1:
        raise ValueError(
            f"Feature {name!r} holds one vector of numbers per item, but row {row} has "
            f"{value!r:.60}."
        )
    return found
