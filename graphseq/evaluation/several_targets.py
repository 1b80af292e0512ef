"""Cases with several targets: the next basket, or the rest of a session."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from graphseq.arguments import flag, whole
from graphseq.data.sessions.sessions import Sessions
from graphseq.evaluation.evaluate import clusters_of, counts_of, rank_by_popularity
from graphseq.evaluation.inputs import inference_mode, read_inputs
from graphseq.evaluation.metrics import cutoffs_of, metric_values, parse_metric
from graphseq.evaluation.scoring import score_cases
from graphseq.evaluation.significance import mean_interval
from graphseq.evaluation.targets import Targets
from graphseq.models.base import SessionModel
from graphseq.ragged import ragged_arange
from graphseq.typing import Floats, Ints

KINDS = ("recall", "precision", "ndcg")
"""Metrics of several targets."""

MOST_SCORES = 2**24
"""Scores copied at once, one row per target of a case."""


@dataclass(frozen=True, eq=False)
class SeveralTargetsReport:
    r"""The ranks of all targets of every case.

    With R the distinct targets of a case and k places:

    .. math::
        \mathrm{recall@}k = \frac{|R \cap L_k|}{|R|}, \qquad
        \mathrm{precision@}k = \frac{|R \cap L_k|}{k}, \qquad
        \mathrm{ndcg@}k = \frac{\sum_{j \in R, r_j \le k} 1 / \log_2(r_j + 1)}
                               {\sum_{r \le \min(k, |R|)} 1 / \log_2(r + 1)}

    All are sums over the targets, so that ties can be averaged exactly, target by target.

    Args:
        metrics: Name -> mean over all cases.
        places: One row per target: ``case``, ``better`` and ``tied``.
        cases: One row per case: ``session``, ``position`` of its first target, ``num_targets``.
        cluster: The session or user of each case, int64 [num_cases].
        num_items: Number of ranked items.
        relevant: Kind of targets: ``"remaining"`` or ``"basket"``.
        seconds: Duration of the evaluation.
    """

    metrics: dict[str, float]
    places: pd.DataFrame
    cases: pd.DataFrame
    cluster: Ints
    num_items: int
    relevant: str
    seconds: float

    @property
    def num_cases(self) -> int:
        return len(self.cases)

    def values(self, metric: str) -> Floats:
        """A metric per case, at any k: float64 [num_cases].

        Raises:
            ValueError: If it is not recall@k, precision@k or ndcg@k.
        """
        kind, k = parse_metric(metric)
        if kind not in KINDS or k is None:
            raise ValueError(
                f"Metrics of several targets are recall@k, precision@k and ndcg@k, got {metric!r}."
            )
        gains = metric_values(metric, self.places["better"], self.places["tied"], self.num_items)
        total: Floats = np.zeros(self.num_cases)
        np.add.at(total, self.places["case"].to_numpy(), gains)
        number = self.cases["num_targets"].to_numpy()
        if kind == "precision":
            return total
        if kind == "recall":
            return total / number
        ideal = np.cumsum(1 / np.log2(np.arange(1, k + 1) + 1.0))
        return total / ideal[np.minimum(number, k) - 1]

    def confidence_interval(self, metric: str, level: float = 0.95) -> tuple[float, float]:
        """The cluster-robust interval of a metric's mean, within 0..1.

        Raises:
            ValueError: As :meth:`values`, or if ``level`` is not between 0 and 1.
        """
        low, high = mean_interval(self.values(metric), self.cluster, level=level)
        return max(low, 0.0), min(high, 1.0)

    def to_frame(self, level: float = 0.95) -> pd.DataFrame:
        """One row per metric: ``value``, and ``low`` and ``high`` of its interval."""
        rows = {
            name: (value, *self.confidence_interval(name, level))
            for name, value in self.metrics.items()
        }
        frame = pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high"])
        return frame.rename_axis("metric")

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value:.4f}" for name, value in self.metrics.items())
        return f"{type(self).__name__}({shown}, {self.relevant}, num_cases={self.num_cases})"


def evaluate_several(
    model: SessionModel,
    sessions: Sessions | Sequence[Sequence[Any]],
    relevant: Literal["remaining", "basket"] = "remaining",
    *,
    ks: int | Iterable[int] = (5, 10, 20),
    batch_size: int = 512,
    exclude_seen: bool = False,
    cluster: Literal["session", "user"] = "session",
    device: torch.device | str | None = None,
) -> SeveralTargetsReport:
    """Ranks all items for every case, and counts all of its targets.

    The rules of :func:`~graphseq.evaluation.evaluate` apply. An unknown target is a miss that stays
    in the denominator, and every unknown click counts as a separate target. Ties are averaged over.

    Args:
        model: Any :class:`~graphseq.models.base.SessionModel`.
        sessions: A part of a split, or lists of item ids.
        relevant: ``"remaining"``: after each prefix, all distinct items of the rest of the session;
            ``"basket"``: before each basket (the clicks at one time), all of its distinct items.
        ks: Cut-offs.
        batch_size, exclude_seen, cluster, device: As in ``evaluate``.

    Raises:
        ValueError: If ``relevant`` is unknown, baskets are asked for but sessions have no times, or
            as ``evaluate``.
    """
    started = time.perf_counter()
    cutoffs = cutoffs_of(ks)
    exclude_seen = flag("exclude_seen", exclude_seen)
    batch_size = whole("batch_size", batch_size)
    if relevant not in ("remaining", "basket"):
        raise ValueError(f"relevant is 'remaining' or 'basket', got {relevant!r}.")
    given, sessions = read_inputs(model, sessions)
    cases = Targets(sessions)
    chosen, pair, item = _targets(sessions, cases, relevant)
    groups = clusters_of(given, cases, cluster)[chosen]
    better = np.empty(len(pair), dtype=np.int64)
    tied = np.empty_like(better)
    without = np.flatnonzero(cases.history[pair] == 0)
    better[without], tied[without] = rank_by_popularity(model, item[without])
    order = np.argsort(pair, kind="stable")
    ordered = pair[order]
    with inference_mode(model, device):
        for case, scores in score_cases(model, sessions, cases, batch_size):
            first = np.searchsorted(ordered, case)
            number = np.searchsorted(ordered, case, side="right") - first
            found = order[ragged_arange(first, number)]
            row = np.repeat(np.arange(len(case)), number)
            step = max(1, MOST_SCORES // model.num_items)
            for start in range(0, len(found), step):
                part, rows = found[start : start + step], row[start : start + step]
                excluded = None
                if exclude_seen:
                    places, seen = cases.seen(pair[part])
                    excluded = torch.from_numpy(places), torch.from_numpy(seen)
                    excluded = excluded[0].to(scores.device), excluded[1].to(scores.device)
                wanted = torch.from_numpy(item[part]).to(scores.device)
                of_pairs = scores[torch.from_numpy(rows).to(scores.device)]
                higher, level = counts_of(model, of_pairs, wanted, excluded=excluded)
                better[part], tied[part] = higher.cpu().numpy(), level.cpu().numpy()
    number = np.searchsorted(chosen, pair)
    table = pd.DataFrame({"case": number, "better": better, "tied": tied})
    about = pd.DataFrame(
        {
            "session": cases.session[chosen],
            "position": cases.position[chosen],
            "num_targets": np.bincount(number, minlength=len(chosen)),
        }
    )
    report = SeveralTargetsReport(
        {}, table, about, groups, model.num_items, relevant, time.perf_counter() - started
    )
    names = [f"{kind}@{k}" for k in cutoffs for kind in KINDS]
    report.metrics.update((name, float(report.values(name).mean())) for name in names)
    return report


def _targets(sessions: Sessions, cases: Targets, relevant: str) -> tuple[Ints, Ints, Ints]:
    """The evaluated cases, and the case and item of each of their distinct targets."""
    click = cases.ptr[cases.session] + cases.position
    end = cases.ptr[cases.session + 1]
    chosen = np.arange(len(cases))
    if relevant == "basket":
        if sessions.time is None:
            raise ValueError(
                "Baskets are clicks at one time, but these sessions have no times: name the log's "
                "time column when reading it."
            )
        time = np.asarray(sessions.time)
        starts = np.ones(len(time) + 1, dtype=bool)
        starts[1:-1] = time[1:] != time[:-1]
        starts[sessions.ptr[:-1]] = True
        # For each click, the first later click that begins another basket.
        begins = np.flatnonzero(starts)
        end = begins[np.searchsorted(begins, click, side="right")]
        chosen = np.flatnonzero(starts[click])
        if len(chosen) == 0:
            raise ValueError(
                "No target begins a basket: all clicks of these sessions are at one time."
            )
    length = (end - click)[chosen]
    pair = np.repeat(chosen, length)
    item = cases.items[ragged_arange(click[chosen], length)].astype(np.int64)
    order = np.lexsort((item, pair))
    pair, item = pair[order], item[order]
    again = np.zeros(len(pair), dtype=bool)
    again[1:] = (pair[1:] == pair[:-1]) & (item[1:] == item[:-1]) & (item[1:] >= 0)
    return chosen, pair[~again], item[~again]
