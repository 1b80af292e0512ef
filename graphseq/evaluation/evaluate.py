"""Full ranking of every target of some sessions by any model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from rich.progress import Progress
from torch import Tensor

from graphseq.arguments import flag, whole
from graphseq.data.sessions.sessions import Sessions
from graphseq.evaluation.audit import Audit
from graphseq.evaluation.candidates import CandidateDraw
from graphseq.evaluation.inputs import inference_mode, read_inputs
from graphseq.evaluation.metrics import metric_names
from graphseq.evaluation.protocol import Protocol, protocol_of
from graphseq.evaluation.rank_counts import rank_counts
from graphseq.evaluation.report import UNSEEN_COLUMNS, Report
from graphseq.evaluation.scoring import case_batches, case_vectors, in_larger_blocks, score_cases
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
    progress: bool = False,
) -> Report:
    """Ranks all items for every target of ``sessions``, and averages the metrics over ties.

    A case is a click at or after ``first_target`` of its session; the model sees the known clicks
    before it. One rule for all models: an unknown click is skipped; an unknown target is a miss
    that stays in the denominator; a case with no known click before it is ranked by the catalog's
    training counts, or by chance where the model has no catalog; a target that the model never
    recommends (score ``-inf``) is a miss. Items tie by the rule of :mod:`graphseq.models.use.ties`.

    Where the model's ``causal`` holds, one pass over a session scores all its
    targets; else each prefix is scored on its own. Scores are made and counted block by block.

    Args:
        model: Any :class:`~graphseq.models.SessionModel`; its mode and device are restored.
        sessions: A part of a split, or lists of item ids; brought into the vocabulary of
            ``model.catalog`` if it has one.
        ks: Cut-offs of ``hr@k``, ``ndcg@k`` and ``mrr@k``; ``mrr`` without a cut-off comes always.
        protocol: Which clicks are targets, what they are ranked among and how ties go: a
            :class:`~graphseq.evaluation.Protocol`, or a preset by its name (``"srgnn"``,
            ``"gru4rec"``, ``"leave-one-out"``, ``"temporal"``, ``"rolling"``); ``None``: all
            targets that the part has, among all items.
        batch_size: Session graphs that the model reads at once.
        exclude_seen: Whether items of the whole known history leave the ranking; a target that was
            seen before is then a miss. The same as a protocol with ``seen="remove"``.
        cluster: Cases within which are not independent: those of one session, or of one user.
        device: Where to run; ``None``: where the model is.
        audit: What :func:`~graphseq.evaluation.audit` and
            :func:`~graphseq.evaluation.audit_model` found; the report carries it.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If sessions and model have different items, or ids of different types, there is
            no target, an argument is of the wrong type or out of range, or the model's scores are
            NaN or of the wrong shape.
    """
    started = time.perf_counter()
    names = metric_names(ks)
    exclude_seen = flag("exclude_seen", exclude_seen)
    protocol = protocol_of(protocol, exclude_seen)
    batch_size = whole("batch_size", batch_size)
    given, sessions = read_inputs(model, sessions)
    given, sessions, left_out = narrowed(given, sessions, protocol)
    cases = Targets(sessions)
    groups = clusters_of(given, cases, cluster)  # users unknown to the model are users all the same
    counts = None if model.catalog is None else model.catalog.counts
    draw = CandidateDraw(protocol, model.num_items, counts) if protocol.sampled else None
    num_ranked = model.num_items if draw is None else draw.size + 1
    rules = {"": protocol.seen == "remove"}  # the columns of ranks, and whether seen items leave
    if protocol.seen == "both":
        rules[UNSEEN_COLUMNS] = True
    better = {rule: np.empty(len(cases), dtype=np.int64) for rule in rules}
    tied = {rule: np.empty(len(cases), dtype=np.int64) for rule in rules}

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
        if by_table:
            count = TableRanks(model.items.rows(), model.items.bias).counts
            vectors = case_vectors(model, sessions, cases, batch_size)
            blocks: Iterable[tuple[Ints, Any]] = in_larger_blocks(vectors, ROWS_AT_ONCE)
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
                    row, item = (torch.from_numpy(part) for part in cases.seen(case))
                    options["excluded"] = row.to(model.device), item.to(model.device)
                higher, level = count(found, targets, **options)
                better[rule][case], tied[rule][case] = higher.cpu().numpy(), level.cpu().numpy()
            bar.advance(task, len(case))

    places = {
        f"{rule}{name}": values[rule]
        for rule in rules
        for name, values in (("better", better), ("tied", tied))
    }
    report = report_of(given, cases, groups, places, num_ranked, protocol, names, left_out, started)
    found = None if audit is None else audit.to_dict()
    return replace(report, audit=found, cases=cases.facts(sessions, counts))


def narrowed(
    given: Sessions, recoded: Sessions, protocol: Protocol
) -> tuple[Sessions, Sessions, int]:
    """The same sessions with the targets that the protocol has, and targets left out by history.

    Args:
        given, recoded: The sessions as given and in the codes of the model.
        protocol: Its ``targets`` and ``min_history``.
    """
    lengths = given.lengths
    first = np.clip(given.targets_from, 0, lengths)
    if protocol.targets != "all":
        n = 1 if protocol.targets == "last" else protocol.targets
        first = np.maximum(first, lengths - n)
    wanted = np.maximum(first, np.minimum(protocol.min_history, lengths))
    narrow = replace(given, first_target=wanted), replace(recoded, first_target=wanted)
    return *narrow, int((wanted - first).sum())


def counts_of(
    model: SessionModel,
    scores: Tensor,
    targets: Tensor,
    *,
    candidates: Tensor | None = None,
    excluded: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """``rank_counts`` of scores that a model made in its own way, which tie as it says.

    Args:
        model: Whose ``score_tolerance`` holds, unless its item table made the scores.
        scores: [B, num_items].
        targets: int64 [B]; -1: unknown.
        candidates: What a target is ranked among, int64 [B, n]; ``None``: all items.
        excluded: As in :func:`~graphseq.evaluation.rank_counts`.
    """
    own = scores.gather(1, targets.clamp(min=0).unsqueeze(1))
    tolerance = None if model.scores_by_table else model.score_tolerance(own, scores).squeeze(1)
    if candidates is None:
        return rank_counts(scores, targets, excluded=excluded, tolerance=tolerance)
    # The target takes the first place: the ranking of these few is one over as many items.
    among = torch.cat([own, scores.gather(1, candidates)], dim=1)  # [B, 1 + n]
    place = torch.where(targets < 0, -1, 0)
    if excluded is not None:
        codes = torch.cat([targets.unsqueeze(1), candidates], dim=1)
        gone = torch.isin(
            codes + torch.arange(len(codes), device=codes.device).unsqueeze(1) * scores.size(1),
            excluded[1] + excluded[0] * scores.size(1),
        ) & (codes >= 0)
        row, column = gone.nonzero(as_tuple=True)
        excluded = row, column
    return rank_counts(among, place, excluded=excluded, tolerance=tolerance)


def report_of(
    given: Sessions,
    cases: Targets,
    groups: Ints,
    places: Mapping[str, Ints],
    num_ranked: int,
    protocol: Protocol,
    names: list[str],
    left_out: int,
    started: float,
) -> Report:
    """The report of these places, with its metrics."""
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
    for name in protocol.metrics(names):
        report.metrics[name] = float(report.values(name).mean())
    return report


def clusters_of(sessions: Sessions, cases: Targets, cluster: str) -> Ints:
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


def rank_by_popularity(
    model: SessionModel, target: Ints, candidates: Ints | None = None
) -> tuple[Ints, Ints]:
    """Better and tied of targets [n] by training counts; all items tie where there are none.

    Args:
        model: Of whose catalog the counts are.
        target: int64 [n]; -1: unknown.
        candidates: What a target is ranked among, int64 [n, size]; ``None``: all items.
    """
    num_items = model.num_items
    counts = np.zeros(num_items) if model.catalog is None else model.catalog.counts
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
