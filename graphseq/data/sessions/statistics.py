"""Statistics of a set of sessions."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

LENGTH_QUANTILES = (0.25, 0.5, 0.75, 0.9, 0.99)
"""Quantiles of the session length that :func:`graphseq.data.describe` gives."""


class Clicks(Protocol):
    """The fields that statistics need; :class:`~graphseq.data.Sessions` has them."""

    @property
    def items(self) -> NDArray[np.int32]: ...
    @property
    def time(self) -> NDArray[np.float64] | None: ...
    @property
    def users(self) -> NDArray[np.int32] | None: ...
    @property
    def lengths(self) -> NDArray[np.int64]: ...
    @property
    def session_index(self) -> NDArray[np.int64]: ...
    @property
    def num_sessions(self) -> int: ...
    @property
    def num_clicks(self) -> int: ...
    @property
    def num_targets(self) -> int: ...


def statistics_of(sessions: Clicks) -> pd.DataFrame:
    """Statistics of sessions; :func:`graphseq.data.describe` lists them.

    Raises:
        ValueError: If there is no session.
    """
    if sessions.num_sessions == 0:
        raise ValueError("There is no session to describe.")
    known = np.flatnonzero(np.asarray(sessions.items) >= 0)
    items = sessions.items[known]
    pairs, repeated, transitions = _repeats(items, sessions.session_index[known])
    num_items = len(np.unique(items))
    lengths = sessions.lengths
    statistics: dict[str, Any] = {
        "sessions": sessions.num_sessions,
        "clicks": sessions.num_clicks,
        "items": num_items,
        "users": None if sessions.users is None else _distinct(sessions.users),
        "targets": sessions.num_targets,
        "unknown_clicks": sessions.num_clicks - len(items),
        "length_min": int(lengths.min()),
        "length_mean": float(lengths.mean()),
    }
    quantiles = np.quantile(lengths, LENGTH_QUANTILES, method="inverted_cdf")
    for share, length in zip(LENGTH_QUANTILES, quantiles, strict=True):
        statistics[f"length_{share:.0%}"] = int(length)
    statistics["length_max"] = int(lengths.max())
    statistics["repeat_rate"] = _ratio(len(items) - pairs, len(items))
    statistics["repeated_transitions"] = _ratio(repeated, transitions)
    statistics["density"] = _ratio(pairs, sessions.num_sessions * num_items)
    first_click, last_click, days = None, None, None
    if sessions.time is not None:
        first, last = float(np.min(sessions.time)), float(np.max(sessions.time))
        first_click, last_click, days = date_of(first), date_of(last), (last - first) / 86_400
    statistics.update(first_click=first_click, last_click=last_click, days=days)
    values = pd.Series(statistics, name="value", dtype=object)
    return values.rename_axis("statistic").to_frame()


def date_of(seconds: float) -> str:
    """Seconds since 1970 as a date in UTC, or the number itself if that is not a date."""
    try:
        return pd.Timestamp(seconds, unit="s").isoformat(sep=" ", timespec="seconds")
    except (ValueError, OverflowError):
        return repr(float(seconds))


def _repeats(items: NDArray[np.int32], session: NDArray[np.int64]) -> tuple[int, int, int]:
    """Numbers of pairs (session, item), of repeated transitions, and of all transitions."""
    if len(items) == 0:
        return 0, 0, 0
    key = session * (int(items.max()) + 1) + items
    _, node, clicks_of_node = np.unique(key, return_inverse=True, return_counts=True)
    follows = session[1:] == session[:-1]
    # A transition can only be repeated if both its clicks are on repeated items.
    often = clicks_of_node[node] > 1
    suspect = np.flatnonzero(follows & often[1:] & often[:-1])
    pair = node[suspect] * len(clicks_of_node) + node[suspect + 1]
    return len(clicks_of_node), len(pair) - len(np.unique(pair)), int(follows.sum())


def _distinct(codes: NDArray[np.int32]) -> int:
    return len(np.unique(codes[codes >= 0]))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
