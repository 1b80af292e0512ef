"""Metrics of a ranking from (better, tied), averaged over the possible places of a tie."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphseq.arguments import whole

Floats = NDArray[np.floating[Any]]
Gain = Callable[[Floats], Floats]

GAINS: dict[str, Gain] = {
    "hr": np.ones_like,
    "recall": np.ones_like,
    "precision": np.ones_like,
    "ndcg": lambda place: 1.0 / np.log2(place + 1.0),
    "mrr": lambda place: 1.0 / place,
}
"""The gain of each metric for a target at a place, counted from 1, if the place is within k."""

SHOWN = ("hr", "ndcg", "mrr")
"""The metrics of every report; with one target, recall is the hit rate, precision a k-th of it."""

WITHOUT_CUTOFF = ("mrr", "mean_rank", "auc")
"""Metrics over all places."""


def parse_metric(name: str) -> tuple[str, int | None]:
    """The metric and its cut-off: ``"hr@20"`` -> ``("hr", 20)``, ``"mrr"`` -> ``("mrr", None)``.

    Raises:
        ValueError: If the name is none of ``hr@k``, ``recall@k``, ``precision@k``, ``ndcg@k``,
            ``mrr@k``, ``mrr``, ``mean_rank`` and ``auc``.
    """
    if isinstance(name, str) and name in WITHOUT_CUTOFF:
        return name, None
    kind, at, k = name.partition("@") if isinstance(name, str) else ("", "", "")
    if kind not in GAINS or not at or not (k.isascii() and k.isdigit()) or int(k) < 1:
        raise ValueError(
            "A metric is hr@k, ndcg@k or mrr@k with a whole number k of at least 1, as hr@20, so "
            f"too recall@k or precision@k, or mean_rank, auc or mrr; got {name!r}."
        )
    return kind, int(k)


def metric_values(
    name: str,
    better: ArrayLike,
    tied: ArrayLike,
    num_items: int,
    removed: ArrayLike | None = None,
) -> NDArray[np.float64]:
    r"""One metric per case, exactly averaged over the places of a tie.

    With one relevant item at place :math:`r` the gain is 1 for the hit rate,
    :math:`1 / \log_2(r + 1)` for NDCG (Järvelin & Kekäläinen, ACM TOIS 2002) and :math:`1 / r` for
    the reciprocal rank, and 0 beyond place k. A target tied with t others is equally likely at each
    place ``better + 1 .. better + 1 + t``. Its value is therefore the mean of their gains. A model
    with equal scores for all items gets chance level, for the hit rate k / num_items.

    ``recall@k`` of one relevant item is ``hr@k``, ``precision@k`` is ``hr@k / k``. ``mean_rank`` is
    the mean place, with a miss at place ``num_items + 1``. ``auc`` is the fraction of other items
    in the ranking that score lower, with ties counted half: the area under the ROC curve of one
    target against all others. A removed item is not in the ranking.

    Args:
        name: A metric name as in :func:`parse_metric`; k may exceed ``num_items``.
        better: Items that score higher than the target, int [num_cases]; ``num_items``: a miss.
        tied: Other items that score the same, int [num_cases].
        num_items: Number of items.
        removed: Items removed from the ranking of each case, such as seen ones, int [num_cases];
            ``None``: none.

    Returns:
        Values in 0..1, places for ``mean_rank``; float64 [num_cases].

    Raises:
        ValueError: If the name is not a metric, or the counts are not those of a ranking: whole
            numbers, one of each per case, with ``better + tied`` below the number of ranked items.
    """
    kind, k = parse_metric(name)
    num_items = whole("num_items", num_items)
    before = _counts("better", better)
    size = _counts("tied", tied) + 1
    gone = np.zeros_like(before) if removed is None else _counts("removed", removed)
    if not before.shape == size.shape == gone.shape:
        raise ValueError(
            "There is one better, tied and removed per case, got shapes "
            f"{list(before.shape)}, {list(size.shape)} and {list(gone.shape)}."
        )
    fits = (before + size <= num_items - gone) | ((before == num_items) & (size == 1))
    if not fits.all():
        bad = int(np.argmin(fits))
        without = f" without {gone.ravel()[bad]} removed ones" if gone.any() else ""
        raise ValueError(
            f"Case {bad} has {before.ravel()[bad]} better and {size.ravel()[bad] - 1} tied of "
            f"{num_items} items{without}: they and the target are too many for this ranking; a "
            f"miss has better = {num_items} and tied = 0."
        )
    cutoff = num_items if k is None else min(k, num_items)
    if kind == "mean_rank":
        return np.asarray(before + (size + 1) / 2, dtype=np.float64)
    if kind == "auc":
        beaten = 1 - (before + (size - 1) / 2) / np.maximum(1, num_items - gone - 1)
        return np.where(before < num_items, beaten, 0.0)
    low, high = np.minimum(before, cutoff), np.minimum(before + size, cutoff)
    if kind in ("hr", "recall", "precision"):
        share = (high - low) / size
        # The list is k places long, however few items there are.
        return np.asarray(share / k if kind == "precision" else share, dtype=np.float64)
    gain = GAINS[kind]
    if not (size > 1).any():  # no sums, so no table as long as the catalog
        return np.where(before < cutoff, gain(before + 1.0), 0.0)
    longest = int(high.max(initial=0))
    total = np.concatenate(([0.0], np.cumsum(gain(np.arange(1.0, longest + 1.0)))))
    mean = (total[high] - total[low]) / size
    # A single place needs no difference of sums, which would lose digits.
    return np.where((size == 1) & (before < cutoff), gain(before + 1.0), mean)


def _counts(name: str, values: ArrayLike) -> NDArray[np.int64]:
    given = np.asarray(values)
    if given.dtype.kind not in "iuf":
        raise ValueError(f"{name} holds whole numbers, one per case, got values of {given.dtype}.")
    fits = (given >= 0) & (given == np.floor(given)) & (given < np.inf)
    if not fits.all():
        bad = int(np.argmin(fits))
        raise ValueError(
            f"{name} holds whole numbers of at least 0, but {given.ravel()[bad]} in case {bad}."
        )
    return given.astype(np.int64)


def metric_names(ks: Any) -> list[str]:
    """``hr@k``, ``ndcg@k`` and ``mrr@k`` for each k, and ``mrr``.

    Raises:
        ValueError: If ``ks`` is empty, or one of them is not a whole number of at least 1.
    """
    return [f"{kind}@{k}" for k in cutoffs_of(ks) for kind in SHOWN] + ["mrr"]


def cutoffs_of(ks: Any) -> list[int]:
    """Distinct cut-offs in the given order; a single number is allowed.

    Raises:
        ValueError: If there is none, or one is not a whole number of at least 1.
    """
    cutoffs = list(ks) if np.iterable(ks) else [ks]
    whole = all(isinstance(k, (int, np.integer)) and not isinstance(k, bool) for k in cutoffs)
    if not cutoffs or not whole or min(cutoffs) < 1:
        raise ValueError(f"ks must be whole numbers of at least 1, as in (5, 10, 20), got {ks!r}.")
    return [int(k) for k in dict.fromkeys(cutoffs)]
