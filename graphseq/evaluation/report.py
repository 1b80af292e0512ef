"""What an evaluation found: metrics, the place of every target, intervals and comparisons."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from graphseq.evaluation.metrics import metric_values
from graphseq.evaluation.significance import PairedTest, mean_interval, paired_test

FORMAT = b"graphseq.report"
"""Where a saved report keeps, within its Parquet file, what is not a case."""


@dataclass(frozen=True, eq=False)
class Report:
    """The full ranking of every target by one model.

    Args:
        metrics: Name -> mean over all cases, as a fraction.
        ranks: One row a case, in the order of session and position: ``session`` and ``position`` of
            the target, ``better`` and ``tied`` of :func:`~graphseq.evaluation.rank_counts`.
        cluster: The group of each case within which cases are not independent, int64 [num_cases].
        num_items: Items ranked.
        num_unknown_targets: Targets outside the catalogue: misses that stay in the denominator.
        num_without_history: Cases with no known click before the target, ranked by popularity.
        num_unknown_clicks: Clicks outside the catalogue, skipped in every history.
        exclude_seen: Whether items of the history were taken out of the ranking.
        seconds: Time that the evaluation took.
    """

    metrics: dict[str, float]
    ranks: pd.DataFrame
    cluster: NDArray[np.int64]
    num_items: int
    num_unknown_targets: int
    num_without_history: int
    num_unknown_clicks: int
    exclude_seen: bool
    seconds: float

    @property
    def num_cases(self) -> int:
        return len(self.ranks)

    def values(self, metric: str) -> NDArray[np.float64]:
        """A metric case by case, at any k: float64 [num_cases].

        Raises:
            ValueError: If the name is no metric.
        """
        return metric_values(metric, self.ranks["better"], self.ranks["tied"], self.num_items)

    def confidence_interval(self, metric: str, level: float = 0.95) -> tuple[float, float]:
        """The cluster-robust interval of a metric's mean, within 0..1.

        Args:
            metric: ``"hr@k"``, ``"ndcg@k"``, ``"mrr@k"`` or ``"mrr"``, at any k.
            level: Probability that the interval covers.

        Raises:
            ValueError: If the name is no metric or ``level`` is not between 0 and 1.
        """
        low, high = mean_interval(self.values(metric), self.cluster, level=level)
        return max(low, 0.0), min(high, 1.0)  # in this order, so that NaN stays NaN

    def compare(
        self,
        other: Report,
        metric: str,
        *,
        method: Literal["t", "sign_flip"] = "t",
        level: float = 0.95,
        seed: int = 0,
    ) -> PairedTest:
        """Tests whether this model is better or worse than another on the same cases.

        Args:
            other: The other model's report on the same sessions.
            metric: ``"hr@k"``, ``"ndcg@k"``, ``"mrr@k"`` or ``"mrr"``, at any k.
            method, level, seed: As in :func:`~graphseq.evaluation.paired_test`.

        Returns:
            The test of ``self - other``.

        Raises:
            ValueError: If the reports are of different cases or under different rules.
        """
        places = ["session", "position"]
        if not self.ranks[places].equals(other.ranks[places]):
            raise ValueError(
                "Only reports on the same targets can be compared, but these are of "
                f"{self.num_cases} and {other.num_cases} cases that are not the same: evaluate "
                "both models on the same sessions."
            )
        if self.exclude_seen != other.exclude_seen:
            raise ValueError(
                "Only reports under the same rule can be compared, but exclude_seen is "
                f"{self.exclude_seen} here and {other.exclude_seen} there."
            )
        return paired_test(
            self.values(metric),
            other.values(metric),
            self.cluster,
            method=method,
            level=level,
            seed=seed,
        )

    def to_frame(self, level: float = 0.95) -> pd.DataFrame:
        """One row a metric: ``value``, and ``low`` and ``high`` of its interval."""
        rows = {
            name: (value, *self.confidence_interval(name, level))
            for name, value in self.metrics.items()
        }
        frame = pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high"])
        return frame.rename_axis("metric")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the report to a Parquet file, whole or not at all: a row a case, and the rest.

        Args:
            path: The file; its folder exists.

        Raises:
            OSError: If it cannot be written.
        """
        table = pa.Table.from_pandas(self.ranks.assign(cluster=self.cluster), preserve_index=False)
        about = {
            name: getattr(self, name)
            for name in self.__dataclass_fields__
            if name not in ("ranks", "cluster")
        }
        path = Path(path)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            metadata = {**(table.schema.metadata or {}), FORMAT: json.dumps(about).encode()}
            pq.write_table(table.replace_schema_metadata(metadata), unfinished)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Report:
        """The report that :meth:`save` wrote.

        Raises:
            ValueError: If the file is not there or holds no report.
        """
        try:
            table = pq.read_table(path)
            about = json.loads((table.schema.metadata or {})[FORMAT])
            frame = table.to_pandas()
            return cls(
                ranks=frame.drop(columns="cluster"), cluster=frame["cluster"].to_numpy(), **about
            )
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} holds no report of an evaluation: {error}") from error

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value:.4f}" for name, value in self.metrics.items())
        return f"{type(self).__name__}({shown}, num_cases={self.num_cases})"
