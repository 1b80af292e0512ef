"""Full ranking of every target of some sessions by any model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from rich.progress import Progress
from torch import Tensor

from graphseq.arguments import flag, whole
from graphseq.data.sessions.sessions import Sessions
from graphseq.evaluation.inputs import read_inputs, ready
from graphseq.evaluation.metrics import metric_names
from graphseq.evaluation.rank_counts import rank_counts
from graphseq.evaluation.report import Report
from graphseq.evaluation.scoring import case_vectors, in_larger_blocks, score_cases
from graphseq.evaluation.table_ranks import ROWS_AT_ONCE, TableRanks
from graphseq.evaluation.targets import IntArray, Targets, fingerprint_of
from graphseq.models.base import SessionModel


def evaluate(
    model: SessionModel,
    sessions: Sessions | Sequence[Sequence[Any]],
    *,
    ks: int | Iterable[int] = (5, 10, 20),
    batch_size: int = 512,
    exclude_seen: bool = False,
    cluster: Literal["session", "user"] = "session",
    device: torch.device | str | None = None,
    progress: bool = False,
) -> Report:
    """Ranks all items for every target of ``sessions``, and averages the metrics over ties.

    A case is a click at or after ``first_target`` of its session; the model sees the known clicks
    before it. One rule for all models: an unknown click is skipped; an unknown target is a miss
    that stays in the denominator; a case with no known click before it is ranked by the catalogue's
    training counts, or by chance where the model has no catalogue; a target that the model never
    recommends (score ``-inf``) is a miss. Items tie by the rule of :mod:`graphseq.models.use.ties`.

    Where the model's ``states_equal_prefixes`` holds, one pass over a session scores all its
    targets; else each prefix is scored on its own. Scores are made and counted block by block.

    Args:
        model: Any :class:`~graphseq.models.SessionModel`; its mode and device are restored.
        sessions: A part of a split, or lists of item ids; brought into the vocabulary of
            ``model.catalog`` if it has one.
        ks: Cut-offs of ``hr@k``, ``ndcg@k`` and ``mrr@k``; ``mrr`` without a cut-off comes always.
        batch_size: Session graphs that the model reads at once.
        exclude_seen: Whether items of the whole known history leave the ranking; a target that was
            seen before is then a miss.
        cluster: Cases within which are not independent: those of one session, or of one user.
        device: Where to run; ``None``: where the model is.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If sessions and model have different items, or ids of different types, there is
            no target, an argument is of the wrong type or out of range, or the model's scores are
            NaN or of the wrong shape.
    """
    started = time.perf_counter()
    names = metric_names(ks)
    exclude_seen = flag("exclude_seen", exclude_seen)
    batch_size = whole("batch_size", batch_size)
    given, sessions = read_inputs(model, sessions)
    cases = Targets(sessions)
    groups = clusters_of(given, cases, cluster)  # users unknown to the model are users all the same
    better = np.empty(len(cases), dtype=np.int64)
    tied = np.empty(len(cases), dtype=np.int64)

    without = np.flatnonzero(cases.history == 0)
    better[without], tied[without] = rank_by_popularity(model, cases.target[without])

    def counts() -> Iterator[tuple[IntArray, tuple[Tensor, Tensor]]]:
        ranks: Callable[..., tuple[Tensor, Tensor]] = partial(counts_of, model)
        if model.scores_by_table:
            ranks = TableRanks(model.item_weight(), model.item_bias()).counts
            vectors = case_vectors(model, sessions, cases, batch_size)
            blocks = in_larger_blocks(vectors, ROWS_AT_ONCE)
        else:
            blocks = score_cases(model, sessions, cases, batch_size)
        for case, found in blocks:
            targets = torch.from_numpy(cases.target[case]).to(found.device)
            excluded = None
            if exclude_seen:
                row, item = (torch.from_numpy(part) for part in cases.seen(case))
                excluded = row.to(found.device), item.to(found.device)
            yield case, ranks(found, targets, excluded=excluded)

    with ready(model, device), Progress(disable=not progress) as bar:
        task = bar.add_task("Evaluating", total=len(cases), completed=len(without))
        for case, (counted_better, counted_tied) in counts():
            better[case], tied[case] = counted_better.cpu().numpy(), counted_tied.cpu().numpy()
            bar.advance(task, len(case))

    report = report_of(given, cases, groups, better, tied, model.num_items, exclude_seen, started)
    report.metrics.update((name, float(report.values(name).mean())) for name in names)
    return report


def counts_of(
    model: SessionModel,
    scores: Tensor,
    targets: Tensor,
    *,
    excluded: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """``rank_counts`` of scores that a model made in its own way, which tie as it says."""
    own = scores.gather(1, targets.clamp(min=0).unsqueeze(1))
    tolerance = model.score_tolerance(own, scores).squeeze(1)
    return rank_counts(scores, targets, excluded=excluded, tolerance=tolerance)


def report_of(
    given: Sessions,
    cases: Targets,
    groups: IntArray,
    better: IntArray,
    tied: IntArray,
    num_items: int,
    exclude_seen: bool,
    started: float,
) -> Report:
    """The report of these places, without metrics yet."""
    places = {"session": cases.session, "position": cases.position, "better": better, "tied": tied}
    return Report(
        metrics={},
        ranks=pd.DataFrame(places),
        cluster=groups,
        fingerprint=fingerprint_of(given),
        num_items=num_items,
        num_unknown_targets=int((cases.target < 0).sum()),
        num_without_history=int((cases.history == 0).sum()),
        num_unknown_clicks=int((cases.items < 0).sum()),
        exclude_seen=exclude_seen,
        seconds=time.perf_counter() - started,
    )


def clusters_of(sessions: Sessions, cases: Targets, cluster: str) -> IntArray:
    """The session, or the user, of each case, int64 [num_cases]."""
    if cluster == "session":
        return cases.session
    if cluster != "user" or sessions.users is None:
        raise ValueError(
            "cluster is 'session', or 'user' where the sessions name their users, got "
            f"{cluster!r} and sessions {'without' if sessions.users is None else 'with'} users."
        )
    # A session of an unknown user stands for itself.
    own = -1 - np.arange(sessions.num_sessions)
    users = np.asarray(sessions.users, dtype=np.int64)
    return np.where(users < 0, own, users)[cases.session]


def rank_by_popularity(model: SessionModel, target: IntArray) -> tuple[IntArray, IntArray]:
    """Better and tied of targets [n] by training counts; all items tie where there are none."""
    num_items = model.num_items
    counts = np.zeros(num_items) if model.catalog is None else model.catalog.counts
    ordered, own = np.sort(counts), counts[target]
    above = num_items - np.searchsorted(ordered, own, side="right")
    tied = num_items - above - np.searchsorted(ordered, own, side="left") - 1
    return np.where(target < 0, num_items, above), np.where(target < 0, 0, tied)
