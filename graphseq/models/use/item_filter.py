"""Filters of recommended items: ids, masks and rules on item features, in the codes of a model."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from graphseq.deprecation import old_classmethod
from graphseq.models.base import SessionModel
from graphseq.ragged import ptr_of

logger = logging.getLogger(__name__)

PART = "a part of a rule"
"""Name of items inside a rule in errors; unknown items are not an error there."""

MAX_IDS_NAMED = 5
"""Number of unknown ids that a warning lists."""

KEPT_FROM = 1_000
"""From this number of ids on, the codes of a collection are cached per model: a later call with the
same ids only compares them."""

KEPT = 16
"""Number of collections cached per model, the most recently used ones."""

Rule = Mapping[str, Any]
"""Column of the item features -> the value wanted, a collection of values, or a function from the
column to a boolean one; an item must match all of them. The keys ``"and"``, ``"or"`` and ``"not"``,
unless they are columns, take a list of items in any form; ``"not"`` takes them alone as well."""

Items = Iterable[Any] | Rule
"""Items of one catalog: ids; a boolean mask [num_items] in code order; a boolean Series by item id;
a rule on item features; or an :class:`ItemFilter`."""


@dataclass(frozen=True, eq=False)
class ItemFilter:
    """Items of one catalog, looked up once; ``allow=`` and ``exclude=`` accept it at no further
    cost.

    Filters of one model are combined by ``&``, ``|``, ``-`` and ``~``; a filter lists its ids.

    Args:
        codes: Codes of the items, ascending, int64 [n].
        vocabulary: The vocabulary of the codes.
    """

    codes: NDArray[np.int64]
    vocabulary: Vocabulary

    @classmethod
    def from_items(cls, model: SessionModel, items: Items) -> ItemFilter:
        """The items in the codes of this model; unknown ids are dropped, and a warning counts them.

        Args:
            model: A model; ids and features need its catalog.
            items: Ids; a boolean mask [num_items] in code order; a boolean Series by item id; or a
                rule on item features such as ``{"category": "shoes", "price": lambda p: p < 50}``.

        Raises:
            ValueError: If the items cannot be read, or none of them is known.
        """
        return _chosen(items, _Known.of(model), "items")

    of = old_classmethod("ItemFilter.of", "from_items")

    def __and__(self, other: ItemFilter) -> ItemFilter:
        return self._combined(other, np.intersect1d)

    def __or__(self, other: ItemFilter) -> ItemFilter:
        return self._combined(other, np.union1d)

    def __sub__(self, other: ItemFilter) -> ItemFilter:
        return self._combined(other, np.setdiff1d)

    def __invert__(self) -> ItemFilter:
        everything = ItemFilter(np.arange(len(self.vocabulary)), self.vocabulary)
        return everything - self

    def _combined(self, other: ItemFilter, of: Callable[..., NDArray[np.int64]]) -> ItemFilter:
        if not isinstance(other, ItemFilter):
            raise TypeError(
                f"An ItemFilter is combined with another one, got {type(other).__name__}: "
                "ItemFilter.from_items(model, items) makes one."
            )
        if self.vocabulary is not other.vocabulary and self.vocabulary != other.vocabulary:
            raise ValueError(
                f"Filters of two models cannot be combined: one is of {len(self.vocabulary)} "
                f"items, the other of {len(other.vocabulary)} other ones."
            )
        return ItemFilter(of(self.codes, other.codes), self.vocabulary)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.vocabulary.decode(self.codes))

    def __len__(self) -> int:
        return len(self.codes)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} of {len(self.vocabulary)} items)"


@dataclass(frozen=True)
class ItemLists:
    """Item codes, the same for all sessions or, with ``ptr`` [num_sessions + 1], one list per
    session.

    Codes for all sessions are ascending and distinct.
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
    """``exclude`` or ``allow`` (``what``) as codes; unknown ids are dropped, and a warning counts
    them.

    Raises:
        ValueError: If they are neither items for all sessions nor items per session, or if no
            allowed item is known.
    """
    known = _Known.of(model)
    if isinstance(items, (str, bytes)):
        raise ValueError(f"{what} is a collection of ids, got {items!r}: write [{items!r}].")
    if isinstance(items, Tensor):
        items = items.detach().cpu().numpy()
    arrow = hasattr(items, "__arrow_c_stream__") or hasattr(items, "__arrow_c_array__")
    if arrow and not isinstance(items, (pd.Series, pd.api.extensions.ExtensionArray)):
        items = column_of(items, what).array  # a column of polars or Arrow, which has no index
    kept = _kept(model, items, known, what)
    if kept is not None:
        return ItemLists(kept.codes, None)
    if isinstance(items, np.ndarray) and items.ndim == 2 and items.dtype == np.bool_:
        return _of_masks(items, num_sessions, known, what)
    single = (Mapping, pd.Series, ItemFilter, pd.api.extensions.ExtensionArray)
    if isinstance(items, single):
        return ItemLists(_keep(model, items, known, _chosen(items, known, what)).codes, None)
    if not hasattr(items, "__iter__"):
        raise ValueError(f"{what} is a collection of ids, got {items!r}.")
    if not isinstance(items, (list, tuple, set, frozenset, np.ndarray, pd.Index)):
        items = list(items)
    kinds = items[:1] if isinstance(items, (np.ndarray, pd.Index)) else _kinds(items)
    if not any(map(_is_collection, kinds)):
        return ItemLists(_keep(model, items, known, _chosen(items, known, what)).codes, None)
    entries = list(items)
    if not all(map(_is_collection, entries)) or len(entries) != num_sessions:
        raise ValueError(
            f"{what} is one collection of ids, or one for each of the {num_sessions} sessions; "
            f"got {len(entries)} entries, {sum(map(_is_collection, entries))} of them "
            "collections."
        )
    return _of_each(entries, known, what)


def without(
    delisted: NDArray[np.int64], allowed: ItemLists | None, hidden: ItemLists | None
) -> tuple[ItemLists | None, ItemLists | None]:
    """Allowed and hidden items without delisted items; a warning counts delisted ones.

    Args:
        delisted: Codes, ascending.
        allowed, hidden: From :func:`read_items`; ``None``: all are allowed, none hidden.
    """
    if allowed is not None:
        stays = ~np.isin(allowed.codes, delisted)
        if not stays.all():
            logger.warning("recommend skipped %d delisted items in allow.", int((~stays).sum()))
            ptr = allowed.ptr
            ptr = None if ptr is None else np.append(0, np.cumsum(stays))[ptr]
            allowed = ItemLists(allowed.codes[stays], ptr)
        return allowed, hidden
    if hidden is None or hidden.ptr is None:
        codes = delisted if hidden is None else np.union1d(delisted, hidden.codes)
        return None, ItemLists(codes, None)
    lengths = np.diff(hidden.ptr)
    row = np.repeat(np.arange(len(lengths)), lengths)
    rows = np.concatenate([row, np.repeat(np.arange(len(lengths)), len(delisted))])
    codes = np.concatenate([hidden.codes, np.tile(delisted, len(lengths))])
    order = np.argsort(rows, kind="stable")
    return None, ItemLists(codes[order], hidden.ptr + len(delisted) * np.arange(len(hidden.ptr)))


@dataclass(frozen=True)
class _Known:
    """What a model knows about its items."""

    vocabulary: Vocabulary
    features: pd.DataFrame | None

    @classmethod
    def of(cls, model: SessionModel) -> _Known:
        catalog: Catalog | None = model.catalog
        if catalog is None:
            return cls(Vocabulary.from_unique(pd.RangeIndex(model.num_items)), None)
        return cls(catalog.items, catalog.item_features)


def _chosen(items: Items, known: _Known, what: str) -> ItemFilter:
    """The items given in any form."""
    vocabulary = known.vocabulary
    if isinstance(items, ItemFilter):
        if items.vocabulary is not vocabulary and items.vocabulary != vocabulary:
            raise ValueError(
                f"{what} was made for a model of {len(items.vocabulary)} other items: make it "
                "again by ItemFilter.from_items(model, ...)."
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
    """The items as a mask, if they are a mask; boolean ids are not a mask."""
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
    if what not in ("exclude", PART) and len(unknown) == len(codes) > 0:
        raise ValueError(
            f"{what} names no item that the model knows: it has {_named(flat, unknown)}, and the "
            f"model's items are as {known.vocabulary.decode([0])[0]!r}."
        )
    if unknown.size:
        _warn(what, len(unknown), _named(flat, unknown))
    codes = np.sort(codes[codes >= 0])  # faster than np.unique, which hashes
    return ItemFilter(codes[np.diff(codes, prepend=-1) > 0], known.vocabulary)


def _of_rule(rule: Rule, known: _Known, what: str) -> NDArray[np.int64]:
    if not rule:
        raise ValueError(f"{what} is a rule without a condition: it needs a column and a value.")
    features = known.features
    matches = np.ones(len(known.vocabulary), dtype=bool)
    for name, wanted in rule.items():
        if name in ("and", "or", "not") and (features is None or name not in features):
            matches &= _combined(name, wanted, known, what)
            continue
        if features is None:
            raise ValueError(
                f"{what} is a rule on item features, and the model knows none: train it on "
                "sessions with item_features, or pass ids."
            )
        if name not in features:
            raise ValueError(
                f"{what} has a rule on {name!r}, but the item features are "
                f"{', '.join(map(str, features))}."
            )
        matches &= _matching(features[name], wanted)
    if not matches.any() and what not in ("exclude", PART):
        raise ValueError(f"{what} fits no item: no item has {dict(rule)!r}.")
    return np.flatnonzero(matches)


def _combined(name: str, parts: Any, known: _Known, what: str) -> NDArray[np.bool_]:
    """Items in all parts, in any part, or in no part, bool [num_items]."""
    several = isinstance(parts, (list, tuple)) and parts and all(map(_is_collection, parts))
    if name == "not" and not several and _is_collection(parts):
        parts, several = [parts], True
    if not several:
        raise ValueError(
            f"{what} has {name!r}, which takes a list of rules, ids, masks or filters, got "
            f"{parts!r}."
        )
    masks = np.zeros((len(parts), len(known.vocabulary)), dtype=bool)
    for mask, part in zip(masks, parts, strict=True):
        mask[_chosen(part, known, PART).codes] = True
    found: NDArray[np.bool_] = np.logical_or.reduce(masks)
    if name == "and":
        found = np.logical_and.reduce(masks)
    return ~found if name == "not" else found


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
    """Items per session; plain ids of all sessions are looked up together."""
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
        ends = ptr_of(codes >= 0)[ptr]
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


_read: WeakKeyDictionary[SessionModel, list[tuple[Any, _Known, ItemFilter]]] = WeakKeyDictionary()
"""Copies of the long collections that each model was asked with, the last one first, what was known
of its items, and what they stand for."""


def _kept(model: SessionModel, items: Any, known: _Known, what: str) -> ItemFilter | None:
    """The cached result for equal items in an earlier call."""
    entries = _read.get(model, [])
    for place, (before, knew, chosen) in enumerate(entries):
        if not _same(items, before):
            continue
        if knew.features is not known.features or knew.vocabulary != known.vocabulary:
            continue
        if len(chosen) == 0 and what != "exclude":
            return None  # read again, it is an error
        if place:
            _read[model] = [entries[place], *entries[:place], *entries[place + 1 :]]
        return chosen
    return None


def _keep(model: SessionModel, items: Any, known: _Known, chosen: ItemFilter) -> ItemFilter:
    """Caches a copy of a long collection, since its owner may change it, with its result."""
    size = len(known.vocabulary) if _is_plain_rule(items) else len(items)
    if isinstance(items, ItemFilter) or size < KEPT_FROM:
        return chosen
    if isinstance(items, Mapping) and not _is_plain_rule(items):
        return chosen
    before: Any = copy.copy(items)
    if isinstance(items, pd.api.extensions.ExtensionArray):
        before = items.copy()
    _read[model] = [(before, known, chosen), *_read.get(model, [])[: KEPT - 1]]
    return chosen


def _is_plain_rule(rule: Any) -> bool:
    """Whether its values determine the result: a function may return something else next time."""
    if not isinstance(rule, Mapping):
        return False
    return all(isinstance(value, (str, int, float)) for value in rule.values())


def _same(items: Any, before: Any) -> bool:
    if type(items) is not type(before):
        return False
    if isinstance(items, np.ndarray):
        return items.dtype == before.dtype and np.array_equal(items, before)
    if len(items) != len(before):
        return False
    if isinstance(items, pd.Series):
        if _is_boolean(items) and not items.index.equals(before.index):
            return False
        items, before = items.array, before.array
    if isinstance(items, (pd.Index, pd.api.extensions.ExtensionArray)):
        ids: Any = items
        return ids.dtype == before.dtype and bool(ids.equals(before))
    if isinstance(items, Mapping):
        kinds = [[type(value) for value in rule.values()] for rule in (items, before)]
        return kinds[0] == kinds[1] and bool(items == before)
    # The same object, or equal values of one type: 1, 1.0 and True are equal, but not the same ids.
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
