"""Which items may be recommended: ids, masks, rules on item features, in the codes of a model."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphseq.data.logs.ids import id_column
from graphseq.data.logs.memory import column_of
from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.models.base import SessionModel

logger = logging.getLogger(__name__)

MAX_IDS_NAMED = 5
"""How many unknown ids a warning names."""

KEPT_FROM = 1_000
"""Ids from which a list is kept in the codes of the model that it was read for: the next call with
the same ids only compares them."""

Rule = Mapping[str, Any]
"""Column of the item features -> the value wanted, a collection of values, or a function from the
column to a boolean one; an item must match all of them."""

Items = Iterable[Any] | Rule
"""Items of one catalog: ids; a boolean mask [num_items] in code order; a boolean Series by item id;
a rule on item features; or an :class:`ItemFilter`."""


@dataclass(frozen=True, eq=False)
class ItemFilter:
    """Items of one catalog, looked up once: ``allow=`` and ``exclude=`` take it at no further cost.

    Args:
        codes: Their codes, ascending, int64 [n].
        vocabulary: The items that they are codes of.
    """

    codes: NDArray[np.int64]
    vocabulary: Vocabulary

    @classmethod
    def of(cls, model: SessionModel, items: Items) -> ItemFilter:
        """The items as this model knows them; unknown ids go, and a warning counts them.

        Args:
            model: A model, with a catalog where ids or features are its own.
            items: Ids; a boolean mask [num_items] in code order; a boolean Series by item id; or a
                rule on item features such as ``{"category": "shoes", "price": lambda p: p < 50}``.

        Raises:
            ValueError: If the items cannot be read, or none of them is known.
        """
        return _chosen(items, _Known.of(model), "items")

    def __len__(self) -> int:
        return len(self.codes)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} of {len(self.vocabulary)} items)"


@dataclass(frozen=True)
class ItemLists:
    """Item codes, the same for all sessions or, with ``ptr`` [num_sessions + 1], a list for each.

    Those that are the same for all are ascending and distinct.
    """

    codes: NDArray[np.int64]
    ptr: NDArray[np.int64] | None

    def cells(self, start: int, stop: int, candidates: Tensor | None) -> tuple[Any, Tensor]:
        """Index of these items in the scores of sessions ``start..stop-1``."""
        if self.ptr is None:
            row: Any = slice(None)
            code = torch.from_numpy(self.codes)
        else:
            lengths = torch.from_numpy(np.diff(self.ptr[start : stop + 1]))
            row = torch.repeat_interleave(lengths)
            code = torch.from_numpy(self.codes[self.ptr[start] : self.ptr[stop]])
        if candidates is None:
            return row, code
        place = torch.searchsorted(candidates, code).clamp(max=len(candidates) - 1)
        present = candidates[place] == code
        return (row if self.ptr is None else row[present]), place[present]


def read_items(
    model: SessionModel,
    items: Items | Sequence[Items],
    num_sessions: int,
    what: str,
) -> ItemLists:
    """``exclude`` or ``allow`` (``what``) as codes; unknown ids go, and a warning counts them.

    Raises:
        ValueError: If they are neither items for all sessions nor items for each of them; or if
            they are allowed ones, and none is known.
    """
    known = _Known.of(model)
    if isinstance(items, (str, bytes)):
        raise ValueError(f"{what} is a collection of ids, got {items!r}: write [{items!r}].")
    if isinstance(items, Tensor):
        items = items.detach().cpu().numpy()
    if isinstance(items, np.ndarray) and items.ndim == 2 and items.dtype == np.bool_:
        return _of_masks(items, num_sessions, known, what)
    if isinstance(items, (Mapping, pd.Series, ItemFilter)):
        return ItemLists(_chosen(items, known, what).codes, None)
    if hasattr(items, "__arrow_c_stream__") or hasattr(items, "__arrow_c_array__"):
        items = column_of(items, what).array  # a column of polars or Arrow, which has no index
    if isinstance(items, pd.api.extensions.ExtensionArray):
        return ItemLists(_chosen(items, known, what).codes, None)
    if not hasattr(items, "__iter__"):
        raise ValueError(f"{what} is a collection of ids, got {items!r}.")
    if not isinstance(items, (list, tuple, set, frozenset, np.ndarray, pd.Index)):
        items = list(items)
    kinds = items[:1] if isinstance(items, (np.ndarray, pd.Index)) else _kinds(items)
    if not any(map(_is_collection, kinds)):
        before, chosen = _read.get(model, (None, None))
        if chosen is None or chosen.vocabulary is not known.vocabulary or not _same(items, before):
            chosen = _chosen(items, known, what)
            if len(items) >= KEPT_FROM:
                _read[model] = (copy.copy(items), chosen)
        return ItemLists(chosen.codes, None)
    entries = list(items)
    if not all(map(_is_collection, entries)) or len(entries) != num_sessions:
        raise ValueError(
            f"{what} is one collection of ids, or one for each of the {num_sessions} sessions; "
            f"got {len(entries)} entries, {sum(map(_is_collection, entries))} of them "
            "collections."
        )
    return _of_each(entries, known, what)


@dataclass(frozen=True)
class _Known:
    """What a model knows of its items."""

    vocabulary: Vocabulary
    features: pd.DataFrame | None

    @classmethod
    def of(cls, model: SessionModel) -> _Known:
        catalog: Catalog | None = model.catalog
        if catalog is None:
            return cls(Vocabulary.from_unique(pd.RangeIndex(model.num_items)), None)
        return cls(catalog.items, catalog.item_features)


def _chosen(items: Items, known: _Known, what: str) -> ItemFilter:
    """The items of any form."""
    vocabulary = known.vocabulary
    if isinstance(items, ItemFilter):
        if items.vocabulary is not vocabulary and items.vocabulary != vocabulary:
            raise ValueError(
                f"{what} was made for a model of {len(items.vocabulary)} other items: make it "
                "again by ItemFilter.of(model, ...)."
            )
        return items
    if isinstance(items, Tensor):
        items = items.detach().cpu().numpy()
    if isinstance(items, Mapping):
        return ItemFilter(_of_rule(items, known, what), vocabulary)
    if isinstance(items, pd.Series) and _is_boolean(items):
        if items.hasnans:
            raise ValueError(f"{what} is neither true nor false for {int(items.isna().sum())} ids.")
        return _of_ids(items.index[items.to_numpy(dtype=bool)], known, what)
    mask = _mask(items, vocabulary)
    if mask is None:
        return _of_ids(items, known, what)
    if mask.shape != (len(vocabulary),):
        raise ValueError(
            f"A mask of items has one value for each of the model's {len(vocabulary)} items, in "
            f"the order of their codes, but {what} has {mask.size}."
        )
    return ItemFilter(np.flatnonzero(mask), vocabulary)


def _mask(items: Any, vocabulary: Vocabulary) -> NDArray[np.bool_] | None:
    """The items as a mask, if they are one: ids that are true or false themselves are not."""
    if pd.api.types.is_bool_dtype(vocabulary.ids.dtype):
        return None
    if isinstance(items, (list, tuple)):
        is_mask = bool(items) and all(isinstance(value, (bool, np.bool_)) for value in items)
        return np.array(items, dtype=bool) if is_mask else None
    array = isinstance(items, (np.ndarray, pd.Index, pd.api.extensions.ExtensionArray))
    return np.asarray(items, dtype=bool) if array and _is_boolean(items) else None


def _is_boolean(values: Any) -> bool:
    return bool(pd.api.types.is_bool_dtype(values.dtype))


def _of_ids(ids: Any, known: _Known, what: str) -> ItemFilter:
    flat = id_column(column_of(ids, what))
    codes = np.asarray(known.vocabulary.encode(flat, what=f"ids in {what}"), dtype=np.int64)
    unknown = np.flatnonzero(codes < 0)
    if what != "exclude" and len(unknown) == len(codes) > 0:
        raise ValueError(
            f"{what} names no item that the model knows: it has {_named(flat, unknown)}, and the "
            f"model's items are as {known.vocabulary.decode([0])[0]!r}."
        )
    if unknown.size:
        _warn(what, len(unknown), _named(flat, unknown))
    return ItemFilter(np.unique(codes[codes >= 0]), known.vocabulary)


def _of_rule(rule: Rule, known: _Known, what: str) -> NDArray[np.int64]:
    features = known.features
    if features is None:
        raise ValueError(
            f"{what} is a rule on item features, and the model knows none: train it on sessions "
            "with item_features, or pass ids."
        )
    if not rule:
        raise ValueError(f"{what} is a rule without a condition: it needs a column and a value.")
    matches = np.ones(len(features), dtype=bool)
    for name, wanted in rule.items():
        if name not in features:
            raise ValueError(
                f"{what} has a rule on {name!r}, but the item features are "
                f"{', '.join(map(str, features))}."
            )
        matches &= _matching(features[name], wanted)
    if not matches.any() and what != "exclude":
        raise ValueError(f"{what} fits no item: no item has {dict(rule)!r}.")
    return np.flatnonzero(matches)


def _matching(column: pd.Series, wanted: Any) -> NDArray[np.bool_]:
    if callable(wanted):
        found = np.asarray(wanted(column))
        if found.shape != (len(column),) or found.dtype != np.bool_:
            raise ValueError(
                f"The rule on {column.name!r} gives one boolean for each of {len(column)} items; "
                f"got {found.dtype} {list(found.shape)}."
            )
        return found
    values = list(wanted) if _is_collection(wanted) else [wanted]
    return column.isin(values).to_numpy(dtype=bool)


def _of_masks(masks: NDArray[np.bool_], num_sessions: int, known: _Known, what: str) -> ItemLists:
    if masks.shape != (num_sessions, len(known.vocabulary)):
        raise ValueError(
            f"Masks of items are [num_sessions, num_items], {num_sessions} x "
            f"{len(known.vocabulary)} here, but {what} has {masks.shape[0]} x {masks.shape[1]}."
        )
    return ItemLists(np.nonzero(masks)[1], np.append(0, masks.sum(axis=1).cumsum()))


def _of_each(entries: list[Any], known: _Known, what: str) -> ItemLists:
    """Items for each session; plain ids of all of them are looked up together."""
    if not all(isinstance(entry, (list, tuple, set, frozenset)) for entry in entries) or any(
        _mask(entry, known.vocabulary) is not None for entry in entries
    ):
        parts = [
            _chosen(entry, known, what if what == "exclude" else f"{what} of session {number}")
            for number, entry in enumerate(entries)
        ]
        ends = np.cumsum([0, *(len(part) for part in parts)], dtype=np.int64)
        return ItemLists(np.concatenate([part.codes for part in parts]), ends)
    ptr = np.cumsum([0, *map(len, entries)], dtype=np.int64)
    flat = id_column(column_of([value for entry in entries for value in entry], what))
    codes = np.asarray(known.vocabulary.encode(flat, what=f"ids in {what}"), dtype=np.int64)
    unknown = np.flatnonzero(codes < 0)
    if unknown.size:
        ends = np.concatenate(([0], np.cumsum(codes >= 0)))[ptr]
        lost = (np.diff(ends) == 0) & (np.diff(ptr) > 0)
        if what != "exclude" and lost.any():
            raise ValueError(
                f"{what} of session {int(np.argmax(lost))} names no item that the model knows "
                f"({int(lost.sum())} such sessions in all): it has {_named(flat, unknown)}, and "
                f"the model's items are as {known.vocabulary.decode([0])[0]!r}."
            )
        _warn(what, len(unknown), _named(flat, unknown))
        codes, ptr = codes[codes >= 0], ends
    return ItemLists(codes, ptr)


_read: WeakKeyDictionary[SessionModel, tuple[Any, ItemFilter]] = WeakKeyDictionary()
"""A copy of the last long list of ids that each model was asked with, and what it stands for."""


def _same(items: Any, before: Any) -> bool:
    if type(items) is not type(before) or len(items) != len(before):
        return False
    if isinstance(items, np.ndarray):
        return items.dtype == before.dtype and np.array_equal(items, before)
    if isinstance(items, pd.Index):
        return items.dtype == before.dtype and items.equals(before)
    # Values of one object, or equal ones of one type: 1, 1.0 and True are equal, and no same ids.
    return bool(items == before) and (
        isinstance(items, (set, frozenset)) or type(items[0]) is type(before[0])
    )


def _kinds(items: Iterable[Any]) -> list[Any]:
    """One of the items of each type."""
    return list({type(item): item for item in items}.values())


def _is_collection(value: Any) -> bool:
    listed = isinstance(value, Iterable) and not isinstance(value, (str, bytes))
    listed = listed and getattr(value, "ndim", 1) > 0  # a tensor of one number is no collection
    return listed or isinstance(value, ItemFilter)


def _named(ids: pd.Series, places: NDArray[np.int64]) -> str:
    first = ids.iloc[places[:MAX_IDS_NAMED]].tolist()
    return ", ".join(map(repr, first)) + (", ..." if len(places) > len(first) else "")


def _warn(what: str, count: int, named: str) -> None:
    logger.warning("recommend skipped %d unknown ids in %s: %s", count, what, named)
