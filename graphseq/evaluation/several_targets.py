"""Cases with several targets: the next basket, or the rest of a session."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from graphseq.arguments import flag, whole
from graphseq.data.sessions.sessions import Sessions
from graphseq.evaluation.evaluate import clusters_of, counts_of, rank_by_popularity
from graphseq.evaluation.inputs import inference_mode, read_inputs
from graphseq.evaluation.metrics import cutoffs_of, metric_values, parse_metric
from graphseq.evaluation.protocol import Protocol, protocol_of
from graphseq.evaluation.report import places_of, ranks_of, read_name
from graphseq.evaluation.scoring import score_cases
from graphseq.evaluation.significance import mean_interval
from graphseq.evaluation.targets import Targets
from graphseq.models.base import SessionModel
from graphseq.ragged import ptr_of, ragged_arange
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

    All are sums over the targets, so that each target counts with its own place. In a tie, targets
    stand first (``"optimistic"``) or last (``"pessimistic"``), one after another, or each counts
    with its mean over all orders (``"expected"``).

    Args:
        metrics: Name -> mean over all cases.
        places: One row per target: ``case``, ``better`` and ``tied``; also ``unseen_better`` and
            ``unseen_tied`` if the protocol's ``seen`` is ``"both"``.
        cases: One row per case: ``session``, ``position`` of its first target, ``num_targets``.
        cluster: The session or user of each case, int64 [num_cases].
        num_items: Number of ranked items.
        relevant: Kind of targets: ``"remaining"`` or ``"basket"``.
        seconds: Duration of the evaluation.
        protocol: The rules of the evaluation.
        num_left_out: Number of cases with fewer clicks before them than ``min_history``.
    """

    metrics: dict[str, float]
    places: pd.DataFrame
    cases: pd.DataFrame
    cluster: Ints
    num_items: int
    relevant: str
    seconds: float
    protocol: Protocol = field(default_factory=Protocol)
    num_left_out: int = 0

    @property
    def num_cases(self) -> int:
        return len(self.cases)

    def values(self, metric: str) -> Floats:
        """A metric per case, at any k: float64 [num_cases].

        Args:
            metric: Name such as ``"recall@20"``; ``"unseen recall@20"`` with ``seen="both"``.

        Raises:
            ValueError: If it is not recall@k, precision@k or ndcg@k, or belongs to another
                protocol.
        """
        plain, columns = read_name(metric, self.protocol)
        kind, k = parse_metric(plain)
        if kind not in KINDS or k is None:
            raise ValueError(
                f"Metrics of several targets are recall@k, precision@k and ndcg@k, got {metric!r}."
            )
        better, tied = places_of(self.places, columns, self.protocol)
        if self.protocol.ties != "expected":
            better = better + self._turns(columns)
        gains = metric_values(plain, better, tied, self.num_items)
        total: Floats = np.zeros(self.num_cases)
        np.add.at(total, self.places["case"].to_numpy(), gains)
        number = self.cases["num_targets"].to_numpy()
        if kind == "precision":
            return total
        if kind == "recall":
            return total / number
        ideal = np.cumsum(1 / np.log2(np.arange(1, k + 1) + 1.0))
        return total / ideal[np.minimum(number, k) - 1]

    def _turns(self, columns: str) -> Ints:
        """Places from a tie's first or last one to that of each target in it, int64 [num_rows].

        Two targets of one tie cannot have the same place.
        """
        better, tied = (self.places[f"{columns}{name}"].to_numpy() for name in ("better", "tied"))
        tie = self.places.groupby(["case", f"{columns}better", f"{columns}tied"], sort=False)
        before = tie.cumcount().to_numpy(dtype=np.int64)
        after = tie["case"].transform("size").to_numpy() - 1 - before
        # Targets that are missed have one place beyond all others together.
        alone = (tied == 0) | (better >= self.num_items)
        turn = before if self.protocol.ties == "optimistic" else -after
        return np.where(alone, 0, turn)

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
    protocol: Protocol | str | None = None,
    batch_size: int = 512,
    exclude_seen: bool = False,
    cluster: Literal["session", "user"] = "session",
    device: torch.device | str | None = None,
) -> SeveralTargetsReport:
    """Ranks all items for every case, and counts all of its targets.

    The rules of :func:`~graphseq.evaluation.evaluate` apply. An unknown target is a miss that stays
    in the denominator, and every unknown click counts as a separate target.

    Args:
        model: Any :class:`~graphseq.models.base.SessionModel`.
        sessions: A part of a split, or lists of item ids.
        relevant: ``"remaining"``: after each prefix, all distinct items of the rest of the session;
            ``"basket"``: before each basket (the clicks at one time), all of its distinct items.
        ks: Cut-offs.
        protocol: As in ``evaluate``, over all items. Its ``targets`` choose cases: ``"last"`` the
            last case of each session, which is its last click or basket, and n the last n.
        batch_size, exclude_seen, cluster, device: As in ``evaluate``.

    Raises:
        ValueError: If ``relevant`` is unknown, the protocol draws candidates, baskets are asked
            for but sessions have no times, or as ``evaluate``.
    """
    started = time.perf_counter()
    cutoffs = cutoffs_of(ks)
    protocol = protocol_of(protocol, flag("exclude_seen", exclude_seen))
    batch_size = whole("batch_size", batch_size)
    if relevant not in ("remaining", "basket"):
        raise ValueError(f"relevant is 'remaining' or 'basket', got {relevant!r}.")
    if protocol.sampled:
        raise ValueError(
            "Several targets are ranked among all items, got a protocol with candidates="
            f"{protocol.candidates}: use candidates='all'."
        )
    given, sessions = read_inputs(model, sessions)
    end = _ends(sessions, relevant)
    sessions, chosen, left_out = _cases(sessions, end, protocol)
    cases = Targets(sessions)
    pair, item = _targets(cases, chosen, end)
    groups = clusters_of(given, cases, cluster)[chosen]
    rules = ranks_of(protocol)
    better = {rule: np.empty(len(pair), dtype=np.int64) for rule in rules}
    tied = {rule: np.empty(len(pair), dtype=np.int64) for rule in rules}
    without = np.flatnonzero(cases.history[pair] == 0)
    for rule in rules:
        better[rule][without], tied[rule][without] = rank_by_popularity(model, item[without])
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
                wanted = torch.from_numpy(item[part]).to(scores.device)
                of_pairs = scores[torch.from_numpy(rows).to(scores.device)]
                for rule, unseen in rules.items():
                    excluded = None
                    if unseen:
                        line, gone = (torch.from_numpy(codes) for codes in cases.seen(pair[part]))
                        excluded = line.to(scores.device), gone.to(scores.device)
                    higher, level = counts_of(model, of_pairs, wanted, excluded=excluded)
                    better[rule][part] = higher.cpu().numpy()
                    tied[rule][part] = level.cpu().numpy()
    number = np.searchsorted(chosen, pair)
    places = {f"{rule}better": better[rule] for rule in rules}
    places |= {f"{rule}tied": tied[rule] for rule in rules}
    table = pd.DataFrame({"case": number, **places})
    about = pd.DataFrame(
        {
            "session": cases.session[chosen],
            "position": cases.position[chosen],
            "num_targets": np.bincount(number, minlength=len(chosen)),
        }
    )
    report = SeveralTargetsReport(
        metrics={},
        places=table,
        cases=about,
        cluster=groups,
        num_items=model.num_items,
        relevant=relevant,
        seconds=time.perf_counter() - started,
        protocol=protocol,
        num_left_out=left_out,
    )
    names = protocol.metrics([f"{kind}@{k}" for k in cutoffs for kind in KINDS])
    report.metrics.update((name, float(report.values(name).mean())) for name in names)
    return report


def _ends(sessions: Sessions, relevant: str) -> Ints:
    """Where the targets of a case that begins with a click end, int64 [num_clicks].

    Returns:
        The number of the first click that is no target of it any more; -1: no case begins there.
    """
    if relevant == "remaining":
        return np.repeat(sessions.ptr[1:], sessions.lengths)
    if sessions.time is None:
        raise ValueError(
            "Baskets are clicks at one time, but these sessions have no times: name the log's "
            "time column when reading it."
        )
    time = np.asarray(sessions.time)
    starts = np.ones(len(time) + 1, dtype=bool)
    starts[1:-1] = time[1:] != time[:-1]
    starts[sessions.ptr[:-1]] = True
    begins = np.flatnonzero(starts)
    click = np.arange(len(time))
    end = begins[np.searchsorted(begins, click, side="right")]
    return np.where(starts[:-1], end, -1)


def _cases(sessions: Sessions, end: Ints, protocol: Protocol) -> tuple[Sessions, Ints, int]:
    """The sessions from their first chosen case on, the chosen cases' numbers among those, and the
    number of cases without enough history.
    """
    cases = Targets(sessions)
    begins = np.flatnonzero(end[cases.ptr[cases.session] + cases.position] >= 0)
    if len(begins) == 0:
        raise ValueError("No target begins a basket: all clicks of these sessions are at one time.")
    if protocol.targets != "all":
        n = 1 if protocol.targets == "last" else protocol.targets
        owner = cases.session[begins]
        later = np.searchsorted(owner, owner, side="right") - np.arange(len(begins))
        begins = begins[later <= n]
    enough = cases.position[begins] >= protocol.min_history
    if not enough.any():
        raise ValueError(
            f"There is nothing to evaluate: all {len(begins)} cases have fewer clicks before them "
            f"than min_history={protocol.min_history}: choose a smaller min_history."
        )
    chosen = begins[enough]
    session, position = cases.session[chosen], cases.position[chosen]
    first = sessions.lengths.copy()
    np.minimum.at(first, session, position)
    before = ptr_of(sessions.lengths - first)[session]
    narrow = replace(sessions, first_target=first)
    return narrow, before + position - first[session], int((~enough).sum())


def _targets(cases: Targets, chosen: Ints, end: Ints) -> tuple[Ints, Ints]:
    """The case and item of each distinct target of the chosen cases."""
    click = (cases.ptr[cases.session] + cases.position)[chosen]
    length = end[click] - click
    pair = np.repeat(chosen, length)
    item = cases.items[ragged_arange(click, length)].astype(np.int64)
    order = np.lexsort((item, pair))
    pair, item = pair[order], item[order]
    again = np.zeros(len(pair), dtype=bool)
    again[1:] = (pair[1:] == pair[:-1]) & (item[1:] == item[:-1]) & (item[1:] >= 0)
    return pair[~again], item[~again]
