"""Metrics by strata of cases: short and long sessions, rare and popular targets, new and seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from graphseq.evaluation.significance import metric_interval

EDGES: Mapping[str, Sequence[float]] = MappingProxyType(
    {
        "length": (1, 2, 3, 4, 6, 11, 21, 51),
        "position": (0, 1, 2, 3, 5, 10, 20, 50),
        "popularity": (0, 1, 5, 10, 50, 250, 1000),
        "gap": (0, 10, 60, 600, 3600, 86_400),
    }
)
"""Lower edges of numeric strata: clicks, clicks, training clicks, seconds."""

FLAGS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {"repeat": ("new to the session", "repeat"), "new": ("known item", "new item")}
)
"""Names of the strata of flags: false, true."""

UNKNOWN = "unknown"
"""Name of the stratum of cases without the property, such as a gap where no click has a time."""


def strata_of(
    by: str,
    cases: pd.DataFrame | None,
    position: NDArray[np.int64],
    values: Mapping[str, NDArray[np.float64]],
    groups: NDArray[np.int64],
    edges: Sequence[float] | None,
    level: float,
    num_items: int,
) -> pd.DataFrame:
    """The frame of :meth:`graphseq.evaluation.Report.strata`.

    Args:
        by, edges, level: As there.
        cases: Properties of the cases, if known.
        position: Position of each target in its session, int64 [num_cases].
        values: Metric -> its values per case.
        groups: The cluster of each case, int64 [num_cases].
        num_items: Number of ranked items.
    """
    number, names = _strata(by, cases, position, edges)
    rows = {}
    for stratum in np.unique(number):
        inside = number == stratum
        cluster = groups[inside]
        row: dict[str, Any] = {"cases": int(inside.sum()), "clusters": len(np.unique(cluster))}
        for metric, of_case in values.items():
            low, high = metric_interval(metric, of_case[inside], cluster, level, num_items)
            mean = float(of_case[inside].mean())
            row |= {metric: mean, f"{metric} low": low, f"{metric} high": high}
        rows[names[stratum]] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(by)


def _strata(
    by: str,
    cases: pd.DataFrame | None,
    position: NDArray[np.int64],
    edges: Sequence[float] | None,
) -> tuple[NDArray[np.int64], list[str]]:
    """The stratum of each case, and the names of all strata."""
    known = (*EDGES, *FLAGS)
    if not isinstance(by, str) or by not in known:
        raise ValueError(f"Strata are by {', '.join(known)}, got {by!r}.")
    if by == "position":
        values: NDArray[Any] = position
    elif cases is None:
        raise ValueError(
            f"This report does not know the {by} of its cases: evaluate the model again, reports "
            "of graphseq 0.1 hold places alone."
        )
    elif by == "new":
        values = _counted(cases, by) == 0
    elif by == "popularity":
        values = _counted(cases, by)
    else:
        values = cases[by].to_numpy()
    if by in FLAGS:
        if edges is not None:
            raise ValueError(f"Strata by {by} are two, they have no edges.")
        return np.asarray(values, dtype=bool).astype(np.int64), list(FLAGS[by])
    starts = _edges(EDGES[by] if edges is None else edges)
    numbers = np.asarray(values, dtype=np.float64)
    if np.isnan(numbers).all():
        raise ValueError("These sessions have no times: there are no gaps between clicks.")
    place = np.searchsorted(starts, numbers, side="right")  # 0: below the first edge
    place[np.isnan(numbers)] = len(starts) + 1
    if by != "gap":  # whole numbers: those from 1.5 up to 4 are 2 and 3
        starts = np.ceil(starts)
    ends = starts[1:] - (by != "gap")
    names = [
        f"{start:.15g}" if start == end else f"{start:.15g}-{end:.15g}"
        for start, end in zip(starts[:-1].tolist(), ends.tolist(), strict=True)
    ]
    first, last = starts[[0, -1]]
    return place, [f"below {first:.15g}", *names, f"{last:.15g} or more", UNKNOWN]


def _edges(edges: Any) -> NDArray[np.float64]:
    """Lower edges, float64 [n], checked."""
    starts = None
    with suppress(TypeError, ValueError):  # no numbers, or lists of different lengths
        starts = None if isinstance(edges, str) else np.asarray(list(edges), dtype=np.float64)
    fits = starts is not None and starts.ndim == 1 and len(starts) > 0
    if starts is None or not fits or not np.isfinite(starts).all() or (np.diff(starts) <= 0).any():
        raise ValueError(f"edges must be ascending numbers, as (1, 5, 10), got {edges!r:.60}.")
    return starts


def _counted(cases: pd.DataFrame, by: str) -> NDArray[np.int64]:
    """Training clicks of each target."""
    counts: NDArray[np.int64] = cases["popularity"].to_numpy()
    if (counts < 0).any():
        raise ValueError(
            f"This report does not know {by} items: the model has no catalog, attach that of "
            "training as model.catalog."
        )
    return counts
