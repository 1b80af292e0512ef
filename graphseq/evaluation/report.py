"""What an evaluation found: metrics, the place of every target, intervals and comparisons."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from graphseq.arguments import check_choice, names_of
from graphseq.data.storage import read_file, write_file
from graphseq.data.storage.rules import (
    Rule,
    absent_or,
    anything,
    check_record,
    flag,
    mapping_of,
    number,
    optional,
    record,
    whole,
)
from graphseq.evaluation.bootstrap import paired_bootstrap
from graphseq.evaluation.metrics import metric_values, parse_metric
from graphseq.evaluation.protocol import Protocol
from graphseq.evaluation.significance import PairedTest, metric_interval, paired_test
from graphseq.evaluation.softmax_loss import LOGLOSS
from graphseq.evaluation.strata import strata_of
from graphseq.metric_scale import SAMPLED, UNSEEN

FORMAT, FORMAT_VERSION = "graphseq.report", 1

UNSEEN_COLUMNS = "unseen_"
"""What stands before the names of places without seen items, where a report has both."""


_WORDS = ("name", "note")
"""Fields of a protocol that are not rules."""


def ranks_of(protocol: Protocol) -> dict[str, bool]:
    """The prefixes of a report's places, and whether seen items leave the ranking for them."""
    rules = {"": protocol.seen == "remove"}
    return {**rules, UNSEEN_COLUMNS: True} if protocol.seen == "both" else rules


def places_of(
    ranks: pd.DataFrame, columns: str, protocol: Protocol
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Better and tied items of every target, both int64 [n]; only ``ties="expected"`` leaves ties.

    Args:
        ranks: Its ``better`` and ``tied``.
        columns: Prefix of their names.
        protocol: Its ``ties``.
    """
    better, tied = (ranks[f"{columns}{name}"].to_numpy() for name in ("better", "tied"))
    if protocol.ties == "pessimistic":
        better = better + tied
    return better, tied if protocol.ties == "expected" else np.zeros_like(tied)


def read_name(metric: str, protocol: Protocol) -> tuple[str, str]:
    """A metric without the protocol's prefix, and the prefix of its columns.

    Raises:
        ValueError: If the name belongs to another protocol.
    """
    plain = metric.removeprefix(SAMPLED) if isinstance(metric, str) else metric
    if plain != metric and not protocol.sampled:
        raise ValueError(f"{metric!r} is of drawn candidates, but here all items are ranked.")
    if not isinstance(plain, str) or not plain.startswith(UNSEEN):
        return plain, ""
    if protocol.seen != "both":
        raise ValueError(
            f"{metric!r} is of a protocol with seen='both', but here it is {protocol.seen!r}: "
            "evaluate with protocol=Protocol(seen='both')."
        )
    return plain.removeprefix(UNSEEN), UNSEEN_COLUMNS


def verdict_of(audit: Mapping[str, Any]) -> str:
    """The verdict of an audit: ``"passed"``, or the names of the checks that found faults."""
    faults = [f["check"] for f in audit["findings"] if f["verdict"] == "fault"]
    return "refuted (" + ", ".join(faults) + ")" if faults else "passed"


def _places(value: Any, where: str) -> None:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iu" or value.ndim != 1:
        raise ValueError(f"{where} must be whole numbers, one per case.")


def _column(value: Any, where: str) -> None:
    if not isinstance(value, np.ndarray) or value.ndim != 1 or value.dtype.kind not in "iufb":
        raise ValueError(f"{where} must be numbers, one per case.")


def _share(value: Any, where: str) -> None:
    if type(value) is not float:  # NaN if there was no case
        raise ValueError(f"{where} must be a fraction.")


def _fingerprint(value: Any, where: str) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{where} must be text.")


METHODS = ("t", "sign_flip", "bootstrap")
"""Tests of a difference between two reports."""

RULES: dict[str, Rule] = {
    "metrics": mapping_of(_share),
    "ranks": record(
        {
            **dict.fromkeys(("session", "position", "better", "tied"), _places),
            **dict.fromkeys(
                (
                    "removed",
                    *(f"{UNSEEN_COLUMNS}{name}" for name in ("better", "tied", "removed")),
                ),
                absent_or(_places),
            ),
            LOGLOSS: absent_or(_column),
        }
    ),
    "cluster": _places,
    "num_items": whole(1),
    "num_unknown_targets": whole(0),
    "num_without_history": whole(0),
    "num_unknown_clicks": whole(0),
    "seconds": number(0),
    "fingerprint": absent_or(_fingerprint),
}
"""The rules that a saved report is checked against."""

LATER_RULES: dict[str, Rule] = {
    "exclude_seen": absent_or(flag()),
    "protocol": absent_or(mapping_of(anything())),
    "num_left_out": absent_or(whole(0)),
    "cases": absent_or(optional(mapping_of(_column))),
    "audit": absent_or(optional(mapping_of(anything()))),
}
"""Fields that only reports of graphseq 0.1 have, or that they lack."""


@dataclass(frozen=True, eq=False)
class Report:
    """The ranks of every target among all items, by one model.

    Args:
        metrics: Name -> mean over all cases, as a fraction.
        ranks: One row per case, in the order of session and position: ``session`` and ``position``
            of the target, ``better`` and ``tied`` of :func:`~graphseq.evaluation.rank_counts`, and
            ``unseen_better`` and ``unseen_tied`` if the protocol's ``seen`` is ``"both"``.
            ``removed`` or ``unseen_removed`` counts the seen items that left the ranking, where
            they do. Also ``logloss`` where it was requested.
        cluster: The cluster of each case; cases of one cluster are dependent, int64 [num_cases].
        num_items: Number of ranked items: the catalog, or the drawn candidates and the target.
        num_unknown_targets: Number of targets outside the catalog: misses that stay in the
            denominator.
        num_without_history: Number of cases with no known click before the target, ranked by
            popularity.
        num_unknown_clicks: Number of clicks outside the catalog, skipped in every history.
        protocol: The rules of the evaluation.
        seconds: Duration of the evaluation.
        fingerprint: Hash of the test cases by their item ids; empty: unknown.
        num_left_out: Number of targets with fewer clicks before them than the protocol's
            ``min_history``; they are not cases.
        audit: The findings of an audit of split and model, from ``Audit.to_dict``; ``None``: no
            audit was run.
        cases: Properties of the cases, from which :meth:`strata` are made; ``None``: unknown.
    """

    metrics: dict[str, float]
    ranks: pd.DataFrame
    cluster: NDArray[np.int64]
    num_items: int
    num_unknown_targets: int
    num_without_history: int
    num_unknown_clicks: int
    protocol: Protocol
    seconds: float
    fingerprint: str = ""
    num_left_out: int = 0
    audit: Mapping[str, Any] | None = None
    cases: pd.DataFrame | None = None

    @property
    def num_cases(self) -> int:
        return len(self.ranks)

    def values(self, metric: str) -> NDArray[np.float64]:
        """A metric per case, at any k: float64 [num_cases].

        Args:
            metric: Name such as ``"hr@20"``, with the protocol's prefix (``"sampled "``,
                ``"unseen "``); ``"sampled "`` may be left out.

        Raises:
            ValueError: If the name is not a metric, or belongs to another protocol.
        """
        plain, columns = read_name(metric, self.protocol)
        if plain == LOGLOSS:
            if columns or LOGLOSS not in self.ranks:
                raise ValueError(
                    f"This report has no {metric!r}: evaluate with logloss=True, for logloss over "
                    "all items."
                )
            return self.ranks[LOGLOSS].to_numpy(dtype=np.float64)
        better, tied = places_of(self.ranks, columns, self.protocol)
        # Reports of graphseq 0.1 do not say how many items were removed.
        removed = self.ranks.get(f"{columns}removed")
        return metric_values(plain, better, tied, self.num_items, removed)

    def full_name(self, metric: str) -> str:
        """The name of a metric as tables and plots show it: of drawn candidates, ``sampled``.

        Args:
            metric: As in :meth:`values`.

        Raises:
            ValueError: If the name is not a metric, or belongs to another protocol.
        """
        plain, columns = read_name(metric, self.protocol)
        if plain != LOGLOSS:
            parse_metric(plain)
        return self.protocol.metric(plain, unseen=bool(columns))

    @property
    def exclude_seen(self) -> bool:
        """Whether items of the history were removed from the ranking."""
        return self.protocol.seen == "remove"

    def confidence_interval(self, metric: str, level: float = 0.95) -> tuple[float, float]:
        """The cluster-robust interval of a metric's mean, within the range of the metric.

        Args:
            metric: As in :meth:`values`.
            level: Coverage probability of the interval.

        Returns:
            Lower and upper end; both are NaN if there is one cluster, or an infinite ``logloss``.

        Raises:
            ValueError: If the name is not a metric or ``level`` is not between 0 and 1.
        """
        return metric_interval(metric, self.values(metric), self.cluster, level, self.num_items)

    def compare(
        self,
        other: Report,
        metric: str,
        *,
        method: Literal["t", "sign_flip", "bootstrap"] = "t",
        level: float = 0.95,
        seed: int = 0,
    ) -> PairedTest:
        """Tests whether this model is better or worse than another on the same cases.

        Args:
            other: The other model's report on the same sessions.
            metric: As in :meth:`values`.
            method: ``"t"``, ``"sign_flip"`` (:func:`~graphseq.evaluation.paired_test`) or
                ``"bootstrap"`` (:func:`~graphseq.evaluation.paired_bootstrap`).
            level, seed: As in these tests.

        Returns:
            The test of ``self - other``.

        Raises:
            ValueError: If the reports are of different cases, under different rules or clustered
                differently, or there is no such method.
        """
        check_choice("method", method, METHODS)
        self.require_same_cases(other)
        if method == "bootstrap":
            one, two = self.values(metric), other.values(metric)
            return paired_bootstrap(one, two, self.cluster, level=level, seed=seed)
        return paired_test(
            self.values(metric),
            other.values(metric),
            self.cluster,
            method=method,
            level=level,
            seed=seed,
        )

    def require_same_cases(self, other: Report) -> None:
        """Raises if a report has other cases, another protocol or other clusters.

        Raises:
            ValueError: If it does.
        """
        if not isinstance(other, Report):
            raise ValueError(
                f"A report is compared with another report of gs.evaluate, got "
                f"{type(other).__name__}."
            )
        places = ["session", "position"]
        known = bool(self.fingerprint and other.fingerprint)
        same = self.ranks[places].equals(other.ranks[places])
        if not same or (known and self.fingerprint != other.fingerprint):
            hashes = f" ({self.fingerprint[:12]} and {other.fingerprint[:12]})" if known else ""
            raise ValueError(
                "Only reports on the same targets can be compared, but these are of "
                f"{self.num_cases} and {other.num_cases} cases that are not the same{hashes}: "
                "evaluate both models on the same sessions."
            )
        if self.protocol != other.protocol:
            here, there = self.protocol.to_dict(), other.protocol.to_dict()
            name = next(
                n for n in {**here, **there} if n not in _WORDS and here.get(n) != there.get(n)
            )
            raise ValueError(
                f"Only reports under the same protocol can be compared, but {name} is "
                f"{here.get(name)!r} here and {there.get(name)!r} there."
            )
        # By order of appearance: two numberings of the same clusters are one.
        ours, theirs = (pd.factorize(report.cluster)[0] for report in (self, other))
        if not np.array_equal(ours, theirs):
            raise ValueError(
                "Only reports with the same clusters of dependent cases can be compared, but here "
                f"are {ours.max() + 1} and there {theirs.max() + 1}, or others: evaluate both with "
                "one cluster=."
            )

    def strata(
        self,
        by: str,
        *,
        metrics: str | Sequence[str] | None = None,
        edges: Sequence[float] | None = None,
        level: float = 0.95,
    ) -> pd.DataFrame:
        """Metrics by strata of cases: where a model is good, and where it is not.

        Args:
            by: ``"length"`` of the session, ``"position"`` of the target in it (clicks before it),
                ``"popularity"`` of the target (training clicks), ``"repeat"`` (targets in their own
                history, and others), ``"gap"`` (seconds since the click before) or ``"new"``
                (targets that training does not hold, and others).
            metrics: One name or several; ``None``: the metrics of the report.
            edges: Lower edges of numeric strata, ascending; ``None``:
                :data:`~graphseq.evaluation.strata.EDGES`. Cases below the first edge are a stratum
                too.
            level: Level of the intervals.

        Returns:
            One row per stratum: ``cases``, ``clusters``, and of every metric its mean, ``<metric>
            low`` and ``<metric> high``, by its full name. Every case is in one stratum, if need be
            ``"unknown"``; strata without a case are left out.

        Raises:
            ValueError: If there is no such kind of strata or metric, the report does not know it,
                or the edges are no ascending numbers.
        """
        wanted = list(self.metrics) if metrics is None else names_of("metrics", metrics)
        values = {self.full_name(metric): self.values(metric) for metric in wanted}
        position = self.ranks["position"].to_numpy()
        return strata_of(
            by, self.cases, position, values, self.cluster, edges, level, self.num_items
        )

    def to_frame(self, level: float = 0.95) -> pd.DataFrame:
        """One row per metric: ``value``, and ``low`` and ``high`` of its interval."""
        rows = {
            name: (value, *self.confidence_interval(name, level))
            for name, value in self.metrics.items()
        }
        frame = pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high"])
        return frame.rename_axis("metric")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the report to one file, atomically, with a checksum of each part.

        Args:
            path: The file; its folder must exist.

        Raises:
            OSError: If it cannot be written.
        """
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        ranks = {str(name): column.to_numpy() for name, column in self.ranks.items()}
        values |= {"ranks": ranks, "protocol": self.protocol.to_dict()}
        if self.cases is not None:
            values["cases"] = {str(n): column.to_numpy() for n, column in self.cases.items()}
        write_file(path, FORMAT, FORMAT_VERSION, values)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, verify: bool = True) -> Report:
        """Loads a report that :meth:`save` wrote.

        Args:
            path: The file.
            verify: Whether checksums are compared. Without it, damage can go unnoticed.

        Raises:
            ValueError: If the file does not exist, is not a report, or is damaged.
        """
        content = read_file(path, FORMAT, FORMAT_VERSION, "Report.save", rules=RULES, verify=verify)
        check_record(content, LATER_RULES, str(path))
        old = content.pop("exclude_seen", False)  # the only rule of graphseq 0.1
        content.setdefault("protocol", {"seen": "remove" if old else "keep"})
        unknown = sorted(content.keys() - cls.__dataclass_fields__.keys())
        if unknown:
            raise ValueError(f"{path} is broken: a report has no field {unknown[0]!r:.60}.")
        num_cases = len(content["cluster"])
        facts = content.get("cases") or {}
        for name, values in {**facts, **content["ranks"]}.items():
            if len(values) != num_cases:
                raise ValueError(
                    f"{path} is broken: {name} has {len(values)} of {num_cases} cases."
                )
            place = name.removeprefix(UNSEEN_COLUMNS)
            if place in ("better", "tied", "removed") and num_cases:
                most = content["num_items"] if place == "better" else content["num_items"] - 1
                if values.min() < 0 or values.max() > most:
                    raise ValueError(f"{path} is broken: {name} lies outside 0..{most}.")
        try:
            protocol = Protocol.from_dict(content["protocol"])
        except ValueError as error:
            raise ValueError(f"{path} is broken: {error}") from error
        ranks = pd.DataFrame(content["ranks"])
        if (protocol.seen == "both") != (f"{UNSEEN_COLUMNS}better" in ranks):
            raise ValueError(f"{path} is broken: its places are not those of its protocol.")
        content |= {"cases": pd.DataFrame(facts) if facts else None}
        return cls(**{**content, "ranks": ranks, "protocol": protocol})

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value:.4f}" for name, value in self.metrics.items())
        told = "" if self.audit is None else f", audit={verdict_of(self.audit)}"
        return f"{type(self).__name__}({shown}, num_cases={self.num_cases}{told})"
