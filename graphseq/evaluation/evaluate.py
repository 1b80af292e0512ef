"""Ranks every target of some sessions among all items, with any model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor

from graphseq.arguments import device_of, flag, whole
from graphseq.data.sessions.sessions import Sessions
from graphseq.evaluation.audit import Audit
from graphseq.evaluation.candidates import CandidateDraw, columns_of
from graphseq.evaluation.inputs import inference_mode, read_inputs
from graphseq.evaluation.metrics import metric_names
from graphseq.evaluation.protocol import Protocol, protocol_of
from graphseq.evaluation.rank_counts import rank_counts
from graphseq.evaluation.report import Report, ranks_of
from graphseq.evaluation.scoring import (
    case_batches,
    case_vectors,
    in_larger_blocks,
    score_cases,
    vectors_and_additions,
)
from graphseq.evaluation.softmax_loss import LOGLOSS, check_logloss, softmax_loss, table_loss
from graphseq.evaluation.sparse_ranks import EvidenceRanks, has_evidence
from graphseq.evaluation.table_ranks import ROWS_AT_ONCE, TableRanks
from graphseq.evaluation.targets import Targets, fingerprint_of
from graphseq.models.base import SessionModel
from graphseq.typing import Ints


def evaluate(
    model: SessionModel,
    sessions: Sessions | Sequence[Sequence[Any]],
    *,
    ks: int | Iterable[int] = (5, 10, 20),
    protocol: Protocol | str | None = None,
    batch_size: int = 512,
    exclude_seen: bool = False,
    cluster: Literal["session", "user"] = "session",
    device: torch.device | str | None = None,
    audit: Audit | None = None,
    logloss: bool = False,
    progress: bool = False,
) -> Report:
    """Ranks all items for every target of ``sessions``, and averages the metrics over ties.

    A case is a click at or after ``first_target`` of its session; the model sees the known clicks
    before it. The same rules hold for all models. An unknown click is skipped. An unknown target is
    a miss that stays in the denominator. A case with no known click before it is ranked by the
    catalog's training counts, or by chance if the model has no catalog. A target with score
    ``-inf`` is a miss. Items tie by the rule of :mod:`graphseq.models.use.ties`. For a ``causal``
    model, one pass over a session scores all its targets; otherwise each prefix is scored
    separately. Scores are computed and counted block by block.

    Args:
        model: Any :class:`~graphseq.models.SessionModel`; its mode and device are restored.
        sessions: A part of a split, or lists of item ids; recoded to the vocabulary of
            ``model.catalog`` if it has one.
        ks: Cut-offs of ``hr@k``, ``ndcg@k`` and ``mrr@k``; ``mrr`` without a cut-off is always
            included.
        protocol: Which clicks are targets, which candidates they are ranked among, and how ties
            count. A :class:`~graphseq.evaluation.Protocol`, or the name of a preset (``"srgnn"``,
            ``"gru4rec"``, ``"leave-one-out"``, ``"temporal"``, ``"rolling"``); ``None``: all
            targets of the part, among all items.
        batch_size: Session graphs per batch.
        exclude_seen: Whether items of the known history are removed from the ranking. A target that
            was seen before is then a miss. Equivalent to a protocol with ``seen="remove"``.
        cluster: Clusters of dependent cases: ``"session"`` or ``"user"``.
        device: Device to run on; ``None``: the model's device.
        audit: The findings of :func:`~graphseq.evaluation.audit` and
            :func:`~graphseq.evaluation.audit_model`, which the report then includes.
        logloss: Whether the report includes ``logloss``, in nats: the mean cross-entropy of the
            targets under the softmax over all items, for models whose scores are logits. A target
            that is unknown or has no known click before it costs as much as chance.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If sessions and model have different items or ids of different types, or there
            is no target. Also if an argument has the wrong type or is out of range, or the model's
            scores are NaN or have the wrong shape. Also if ``logloss`` is requested for scores that
            are no logits, or for a ranking without some of the items.
    """
    started = time.perf_counter()
    names = metric_names(ks)
    exclude_seen = flag("exclude_seen", exclude_seen)
    protocol = protocol_of(protocol, exclude_seen)
    batch_size = whole("batch_size", batch_size)
    logloss = flag("logloss", logloss)
    device = None if device is None else device_of(device)
    if audit is not None and not isinstance(audit, Audit):
        raise ValueError(
            "audit is what gs.evaluation.audit(split) or audit_model(model, split) found, got "
            f"{type(audit).__name__}."
        )
    given, sessions = read_inputs(model, sessions)
    if logloss:
        check_logloss(model, protocol)
    given, sessions, left_out = narrowed(given, sessions, protocol)
    cases = Targets(sessions)
    groups = clusters_of(given, cases, cluster)  # users unknown to the model still count as users
    counts = None if model.catalog is None else model.catalog.counts
    draw = CandidateDraw(protocol, model.num_items, counts) if protocol.sampled else None
    num_ranked = model.num_items if draw is None else draw.size + 1
    rules = ranks_of(protocol)
    better = {rule: np.empty(len(cases), dtype=np.int64) for rule in rules}
    tied = {rule: np.empty(len(cases), dtype=np.int64) for rule in rules}
    removed = {rule: cases.num_seen() for rule, unseen in rules.items() if unseen}
    loss = np.full(len(cases), np.log(model.num_items))

    without = np.flatnonzero(cases.history == 0)
    for rule in rules:
        better[rule][without], tied[rule][without] = rank_by_popularity(
            model,
            cases.target[without],
            None if draw is None else draw.of(without, cases.target[without]),
        )

    by_table = model.scores_by_table and draw is None
    with inference_mode(model, device), Progress(disable=not progress) as bar:
        task = bar.add_task("Evaluating", total=len(cases), completed=len(without))
        count: Callable[..., tuple[Tensor, Tensor]] = partial(counts_of, model)
        lose: Callable[..., Tensor] = softmax_loss
        if by_table:
            weight, bias = model.items.rows(), model.items.bias
            count, lose = TableRanks(weight, bias).counts, partial(table_loss, weight, bias)
            vectors = case_vectors(model, sessions, cases, batch_size)
            blocks: Iterable[tuple[Ints, Any]] = in_larger_blocks(vectors, ROWS_AT_ONCE)
        elif model.adds_to_table and draw is None and not logloss:
            count = TableRanks(model.items.rows(), model.items.bias).counts_with
            blocks = vectors_and_additions(model, sessions, cases, batch_size)
        elif draw is None and has_evidence(model):
            count = EvidenceRanks(model).counts
            blocks = case_batches(sessions, cases, batch_size)
        else:
            blocks = score_cases(model, sessions, cases, batch_size)
        for case, found in blocks:
            targets = torch.from_numpy(cases.target[case]).to(model.device)
            options: dict[str, Any] = {}
            if draw is not None:
                drawn = draw.of(case, cases.target[case])
                options["candidates"] = torch.from_numpy(drawn).to(model.device)
            for rule, unseen in rules.items():
                if unseen:
                    row, item = cases.seen(case)
                    if draw is not None:
                        row, item = columns_of(row, item, cases.target[case], drawn)
                        removed[rule][case] = np.bincount(row, minlength=len(case))
                    options["excluded"] = tuple(
                        torch.from_numpy(part).to(model.device) for part in (row, item)
                    )
                higher, level = count(found, targets, **options)
                better[rule][case], tied[rule][case] = higher.cpu().numpy(), level.cpu().numpy()
            if logloss:
                loss[case] = lose(found, targets).cpu().numpy()
            bar.advance(task, len(case))

    places: dict[str, NDArray[Any]] = {
        f"{rule}{name}": values[rule]
        for rule in rules
        for name, values in (("better", better), ("tied", tied), ("removed", removed))
        if rule in values
    }
    if logloss:
        places[LOGLOSS] = loss
    report = report_of(given, cases, groups, places, num_ranked, protocol, names, left_out, started)
    found = None if audit is None else audit.to_dict()
    return replace(report, audit=found, cases=cases.facts(sessions, counts))


def narrowed(
    given: Sessions, recoded: Sessions, protocol: Protocol
) -> tuple[Sessions, Sessions, int]:
    """The sessions with the protocol's targets, and the number of targets without enough history.

    Args:
        given, recoded: The sessions as given and in the codes of the model.
        protocol: Its ``targets`` and ``min_history``.

    Raises:
        ValueError: If no target has enough history.
    """
    lengths = given.lengths
    first = np.clip(given.targets_from, 0, lengths)
    if protocol.targets != "all":
        n = 1 if protocol.targets == "last" else protocol.targets
        first = np.maximum(first, lengths - n)
    wanted = np.maximum(first, np.minimum(protocol.min_history, lengths))
    left_out = int((wanted - first).sum())
    if left_out and (wanted == lengths).all():
        raise ValueError(
            f"There is nothing to evaluate: all {left_out} targets have fewer clicks before them "
            f"than min_history={protocol.min_history}, the longest session has {lengths.max()} "
            "clicks: choose a smaller min_history."
        )
    narrow = replace(given, first_target=wanted), replace(recoded, first_target=wanted)
    return *narrow, left_out


def counts_of(
    model: SessionModel,
    scores: Tensor,
    targets: Tensor,
    *,
    candidates: Tensor | None = None,
    excluded: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """``rank_counts`` of scores that a model computes itself, with the model's own tolerance.

    Args:
        model: Its ``score_tolerance`` is used, unless its item table computed the scores.
        scores: [B, num_items].
        targets: int64 [B]; -1: unknown.
        candidates: Candidates of each target, int64 [B, n]; ``None``: all items.
        excluded: As in :func:`~graphseq.evaluation.rank_counts`; with candidates, numbers of
            columns [n + 1] instead of items: 0 for the target, and the candidates from 1 on.
    """
    own = scores.gather(1, targets.clamp(min=0).unsqueeze(1))
    tolerance = None if model.scores_by_table else model.score_tolerance(own, scores).squeeze(1)
    if candidates is None:
        return rank_counts(scores, targets, excluded=excluded, tolerance=tolerance)
    # The target is column 0: the candidates are ranked like a catalog of that many items.
    among = torch.cat([own, scores.gather(1, candidates)], dim=1)  # [B, 1 + n]
    place = torch.where(targets < 0, -1, 0)
    return rank_counts(among, place, excluded=excluded, tolerance=tolerance)


def report_of(
    given: Sessions,
    cases: Targets,
    groups: Ints,
    places: Mapping[str, NDArray[Any]],
    num_ranked: int,
    protocol: Protocol,
    names: list[str],
    left_out: int,
    started: float,
) -> Report:
    """The report of these ranks, with its metrics."""
    report = Report(
        metrics={},
        ranks=pd.DataFrame({"session": cases.session, "position": cases.position, **places}),
        cluster=groups,
        num_items=num_ranked,
        num_unknown_targets=int((cases.target < 0).sum()),
        num_without_history=int((cases.history == 0).sum()),
        num_unknown_clicks=int((cases.items < 0).sum()),
        protocol=protocol,
        seconds=time.perf_counter() - started,
        fingerprint=fingerprint_of(given),
        num_left_out=left_out,
    )
    for name in protocol.metrics(names) + [LOGLOSS] * (LOGLOSS in places):
        report.metrics[name] = float(report.values(name).mean())
    return report


def clusters_of(sessions: Sessions, cases: Targets, cluster: str) -> Ints:
    """The session or the user of each case, int64 [num_cases]."""
    if cluster == "session":
        return cases.session
    if cluster != "user" or sessions.users is None:
        raise ValueError(
            "cluster is 'session', or 'user' where the sessions name their users, got "
            f"{cluster!r} and sessions {'without' if sessions.users is None else 'with'} users."
        )
    # A session of an unknown user is its own cluster.
    own = -1 - np.arange(sessions.num_sessions)
    users = np.asarray(sessions.users, dtype=np.int64)
    return np.where(users < 0, own, users)[cases.session]


def rank_by_popularity(
    model: SessionModel, target: Ints, candidates: Ints | None = None
) -> tuple[Ints, Ints]:
    """Better and tied items of targets [n] without history; without counts all items tie.

    Args:
        model: Its ``without_history`` orders the items.
        target: int64 [n]; -1: unknown.
        candidates: Candidates of each target, int64 [n, size]; ``None``: all items.
    """
    num_items = model.num_items
    known = model.catalog is not None
    counts = model.without_history().cpu().numpy() if known else np.zeros(num_items)
    own = counts[target]
    if candidates is None:
        ordered = np.sort(counts)
        above = num_items - np.searchsorted(ordered, own, side="right")
        tied = num_items - above - np.searchsorted(ordered, own, side="left") - 1
    else:
        num_items = candidates.shape[1] + 1
        theirs = counts[candidates]
        above, tied = (theirs > own[:, None]).sum(1), (theirs == own[:, None]).sum(1)
    return np.where(target < 0, num_items, above), np.where(target < 0, 0, tied)
