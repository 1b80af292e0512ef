"""The usual metrics over ranked lists of ids; they agree with the rank-based metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
import pandas as pd

from graphseq.arguments import whole


def hit_rate_at_k(predictions: Iterable[Iterable[Any]], truth: Iterable[Any], k: int) -> float:
    """The fraction of cases in which a true id is among the first k predicted ids.

    Args:
        predictions: One ranked list of ids per case, best first; a list may be shorter than k.
        truth: The true id of each case, or a set or list of them.
        k: Cut-off.

    Raises:
        ValueError: If there is no case, numbers of cases differ, a case has no true id, or a list
            contains an id twice. Also if all ids have another type than the true ids, or k is not a
            whole number of at least 1.
    """
    k = whole("k", k)
    return _mean(predictions, truth, k, lambda places, num_true: float(bool(places)))


def ndcg_at_k(predictions: Iterable[Iterable[Any]], truth: Iterable[Any], k: int) -> float:
    r"""Normalized discounted cumulative gain (Järvelin & Kekäläinen, ACM TOIS 2002), binary.

    .. math::
        \mathrm{NDCG@}k = \frac{\sum_{r \le k} \mathrm{hit}_r / \log_2(r + 1)}
                               {\sum_{r \le \min(k, |T|)} 1 / \log_2(r + 1)}

    Args:
        predictions, truth, k: As in :func:`hit_rate_at_k`.

    Raises:
        ValueError: As :func:`hit_rate_at_k`.
    """

    k = whole("k", k)

    def value(places: list[int], num_true: int) -> float:
        ideal = range(1, min(k, num_true) + 1)
        return sum(map(_discount, places)) / sum(map(_discount, ideal))

    return _mean(predictions, truth, k, value)


def mrr(predictions: Iterable[Iterable[Any]], truth: Iterable[Any], k: int | None = None) -> float:
    """The mean of 1 / place of the first true id; 0 if none is predicted.

    Args:
        predictions, truth: As in :func:`hit_rate_at_k`.
        k: Cut-off; ``None``: the whole list.

    Raises:
        ValueError: As :func:`hit_rate_at_k`.
    """
    return _mean(predictions, truth, k, lambda places, num_true: 1 / places[0] if places else 0.0)


def _discount(place: int) -> float:
    return 1 / math.log2(place + 1)


def _mean(
    predictions: Iterable[Iterable[Any]],
    truth: Iterable[Any],
    k: int | None,
    value: Callable[[list[int], int], float],
) -> float:
    """The mean over cases of ``value(places of true ids within k, number of true ids)``."""
    k = None if k is None else whole("k", k)
    for name, given, way_out in (
        ("predictions", predictions, "a list of ids for each case, best first"),
        ("truth", truth, "one id, or a set of them, for each case"),
    ):
        if isinstance(given, (str, bytes, pd.DataFrame, Mapping)) or not np.iterable(given):
            raise ValueError(f"{name} is {way_out}, got {given!r} ({type(given).__name__}).")
    listed = _plain(predictions)
    for case, ids in enumerate(listed):
        if isinstance(ids, (str, bytes)) or not np.iterable(ids):
            raise ValueError(
                f"predictions is a list of ids for each case, best first, got {ids!r} for case "
                f"{case}: write [[...]] for one case."
            )
    ranked = [_plain(ids) for ids in listed]
    for case, ids in enumerate(ranked):
        _refuse_lists(ids, f"the ranked list of case {case}")
    wanted = [_true_ids(ids, case) for case, ids in enumerate(_plain(truth))]
    if not ranked or len(ranked) != len(wanted):
        raise ValueError(
            f"A metric needs at least one ranked list and one truth per list, got {len(ranked)} "
            f"lists and {len(wanted)} truths."
        )
    if not any(not true.isdisjoint(ids) for ids, true in zip(ranked, wanted, strict=True)):
        _refuse_other_type(ranked, wanted)
    total = 0.0
    for case, (ids, true) in enumerate(zip(ranked, wanted, strict=True)):
        if len(set(ids)) < len(ids):
            raise ValueError(f"The ranked list of case {case} names an id twice.")
        places = [place for place, item in enumerate(ids[:k], start=1) if item in true]
        total += value(places, len(true))
    return total / len(ranked)


def _refuse_other_type(ranked: Iterable[Iterable[Any]], wanted: Iterable[Iterable[Any]]) -> None:
    """Raises if no id can ever be found, such as text "1" for 1."""
    kinds: list[dict[str, Any]] = [{}, {}]
    for shown, lists in zip(kinds, (ranked, wanted), strict=True):
        for ids in lists:
            for item in ids:
                shown.setdefault(_kind(item), item)
    if all(kinds) and kinds[0].keys().isdisjoint(kinds[1]):
        (one, given), (other, true) = (next(iter(kind.items())) for kind in kinds)
        way_out = "give lists of ids of one type"
        if isinstance(given, tuple) and len(given) == 2 and _kind(given[0]) == other:
            way_out = (
                "of pairs of an id and a score keep the ids, as in "
                "[[item for item, _ in answer] for answer in model.recommend(sessions)]"
            )
        raise ValueError(
            f"No true id is predicted, as they are of another type: {given!r}, of type {one}, is "
            f"predicted, {true!r}, of type {other}, is true; {way_out}."
        )


def _refuse_lists(ids: Iterable[Any], where: str) -> None:
    """Raises if an id is a list, such as a pair of an id and a score that was read from JSON."""
    lists = [item for item in ids if isinstance(item, (list, dict, set))]
    if lists:
        raise ValueError(
            f"An id is text or a number, got {lists[0]!r} in {where}: of pairs of an id and a "
            "score keep the ids, as in [[item for item, _ in answer] for answer in answers]."
        )


def _kind(item: Any) -> str:
    return "number" if isinstance(item, (int, float)) else type(item).__name__


def _plain(values: Any) -> Sequence[Any]:
    """A list of plain Python values, from any sequence, array or tensor."""
    listed = values.tolist() if hasattr(values, "tolist") else list(values)
    if not isinstance(listed, list):
        return [listed]
    # Tensors of one number are hashed by identity, not by value.
    return [value.item() if getattr(value, "ndim", None) == 0 else value for value in listed]


def _true_ids(ids: Any, case: int) -> AbstractSet[Any]:
    """The set of true ids of a case, from a set, list, array or tensor, or a single id."""
    many = isinstance(ids, (AbstractSet, list, np.ndarray)) or hasattr(ids, "tolist")
    listed = _plain(ids) if many else [ids]
    _refuse_lists(listed, f"the truth of case {case}")
    true = set(listed)
    if not true or any(item is None or item != item for item in true):
        raise ValueError(
            f"Case {case} has no true id ({ids!r}): a metric is not defined there, leave it out or "
            "count it as a miss with an id that no list names."
        )
    return true
