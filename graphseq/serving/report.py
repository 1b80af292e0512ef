"""What an index costs in quality and saves in time: every index against exact search."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from graphseq.arguments import whole
from graphseq.data.sessions.sessions import Sessions
from graphseq.evaluation.inputs import read_inputs
from graphseq.evaluation.metrics import metric_values
from graphseq.evaluation.scoring import case_vectors
from graphseq.evaluation.significance import paired_test
from graphseq.evaluation.targets import Targets
from graphseq.models.base import SessionModel
from graphseq.models.use.inference import inference
from graphseq.random import stream
from graphseq.serving.indexes import ExactIndex, Index, build_index
from graphseq.serving.item_vectors import Codes, Floats, ItemVectors, query_vectors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUERIES_AT_ONCE = 256
"""Queries that are searched together, where queries per second are counted."""

LEAST_SEARCHED = 50
"""Single queries whose latency is measured, at least, where there are so many."""


@dataclass(frozen=True, eq=False)
class ServingReport:
    """Every index beside exact search.

    Args:
        frame: One row per index: ``index``; ``overlap``, the share of the exact top k that it
            finds; ``hr`` and ``ndcg`` at k; ``hr_loss`` and ``ndcg_loss`` against exact search, a
            fraction, with ``_low`` and ``_high`` of their 95% intervals, clustered by session;
            ``p50_ms``, ``p90_ms``, ``p99_ms`` of one query; ``queries_per_second`` of batches;
            ``build_seconds``; ``bytes_per_item`` of its files.
        k: Items found per query.
        num_cases: Targets whose sessions were queries.
        num_items: Items in each index.
    """

    frame: pd.DataFrame
    k: int
    num_cases: int
    num_items: int

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """The picture of it: :func:`graphseq.visualization.plot_serving`."""
        from graphseq.visualization.serving import plot_serving  # matplotlib, when it is wanted

        return plot_serving(self.frame, self.k, path=path)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(k={self.k}, {self.num_cases} cases, {self.num_items} items)\n"
            f"{self.frame.to_string(index=False, float_format='{:.4g}'.format)}"
        )


def serving_report(
    model: SessionModel,
    sessions: Sessions | Iterable[Iterable[Any]],
    indexes: Iterable[str] | Mapping[str, Index | Mapping[str, Any]] = (
        "exact",
        "faiss_hnsw",
        "faiss_sq8",
    ),
    *,
    k: int = 20,
    max_cases: int = 2_000,
    seed: int = 0,
) -> ServingReport:
    """Measures indexes on the targets of real sessions: quality, latency, throughput, size.

    Args:
        model: A model whose scores are inner products with one item table.
        sessions: A test part, or lists of item ids, with targets as ``evaluate`` has them.
        indexes: Names in :data:`~graphseq.serving.INDEXES`; or a label -> the settings of the index
            (``{"kind": "faiss_hnsw", "ef_search": 64}``) or an index of this model.
        k: Items found per query.
        max_cases: Targets looked at; where there are more, so many are drawn.
        seed: Seed of that draw.

    Raises:
        ValueError: If an index is unknown, of another model version, or its library is missing; or
            there is no target.
    """
    k, max_cases = whole("k", k), whole("max_cases", max_cases)
    vectors = ItemVectors.of(model)
    queries, targets, cluster = _queries(model, sessions, vectors.has_bias, max_cases, seed)
    exact, _ = ExactIndex(vectors).search(queries, k)
    rows = []
    for label, wanted in _wanted(indexes).items():
        started = time.perf_counter()
        if isinstance(wanted, Index):
            index, seconds = wanted, float("nan")
            index.check_version(model)
        else:
            settings = dict(wanted)
            index = build_index(model, settings.pop("kind", label), **settings)
            seconds = time.perf_counter() - started
        found, speed = _search(index, queries, k)
        row: dict[str, Any] = {"index": label, "overlap": _overlap(found, exact)}
        for metric in ("hr", "ndcg"):
            own, best = (
                _values(metric, each, targets, len(vectors.rows)) for each in (found, exact)
            )
            test = paired_test(best, own, cluster)
            row |= {
                metric: own.mean(),
                f"{metric}_loss": test.difference,
                f"{metric}_loss_low": test.low,
                f"{metric}_loss_high": test.high,
            }
        rows.append({**row, **speed, "build_seconds": seconds, "bytes_per_item": _bytes(index)})
    return ServingReport(pd.DataFrame(rows), k, len(targets), len(vectors.rows))


def _wanted(indexes: Any) -> dict[str, Index | Mapping[str, Any]]:
    if isinstance(indexes, Mapping) and indexes:
        return dict(indexes)
    names = [indexes] if isinstance(indexes, str) else list(indexes)
    if not names:
        raise ValueError("A report needs an index: name some of gs.serving.INDEXES.")
    return {name: {"kind": name} for name in names}


def _queries(
    model: SessionModel, sessions: Any, has_bias: bool, max_cases: int, seed: int
) -> tuple[Floats, Codes, Codes]:
    """Session vectors of targets with a history, those targets, and the session of each."""
    _, recoded = read_inputs(model, sessions)
    cases = Targets(recoded)
    numbers, vectors = [], []
    with inference(model):
        for case, found in case_vectors(model, recoded, cases, 512):
            numbers.append(case)
            vectors.append(query_vectors(found, has_bias))
    if not numbers:
        raise ValueError("No target of these sessions has a known click before it.")
    case, rows = np.concatenate(numbers), np.concatenate(vectors)
    order = np.argsort(case)
    if len(order) > max_cases:
        drawn = stream("served_cases", seed).choice(len(order), max_cases, replace=False)
        order = order[np.sort(drawn)]
    case = case[order]
    return rows[order], cases.target[case], cases.session[case]


def _search(index: Index, queries: Floats, k: int) -> tuple[Codes, dict[str, float]]:
    """What is found, and how fast: query after query, then in batches."""
    index.search(queries[:1], k)  # whatever is made ready at first use
    times = []
    for place in range(min(len(queries), max(LEAST_SEARCHED, len(queries) // 4))):
        started = time.perf_counter()
        index.search(queries[place : place + 1], k)
        times.append(time.perf_counter() - started)
    started = time.perf_counter()
    parts = range(0, len(queries), QUERIES_AT_ONCE)
    found = [index.search(queries[at : at + QUERIES_AT_ONCE], k)[0] for at in parts]
    seconds = time.perf_counter() - started
    p50, p90, p99 = (float(v) * 1e3 for v in np.quantile(times, (0.5, 0.9, 0.99)))
    speed = {"p50_ms": p50, "p90_ms": p90, "p99_ms": p99}
    return np.concatenate(found), {**speed, "queries_per_second": len(queries) / seconds}


def _overlap(found: Codes, exact: Codes) -> float:
    """Share of the exact items that were found too; places without an item do not count."""
    present = exact >= 0
    hit = (found[:, None, :] == exact[:, :, None]).any(2) & present
    return float(hit.sum() / present.sum())


def _values(metric: str, found: Codes, targets: Codes, num_items: int) -> NDArray[np.float64]:
    """The metric of each list: its target's place in it, a miss where it is not."""
    hit = found == targets[:, None]
    place = np.where(hit.any(1) & (targets >= 0), hit.argmax(1), num_items)
    k = found.shape[1]
    return metric_values(f"{metric}@{k}", place, np.zeros_like(place), num_items)


def _bytes(index: Index) -> float:
    with tempfile.TemporaryDirectory() as folder:
        index.save(Path(folder) / "index")
        size = sum(path.stat().st_size for path in (Path(folder) / "index").iterdir())
    return size / len(index)
