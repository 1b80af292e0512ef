"""Two stages: a retrieval model finds the candidates of every case, another model ranks them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from graphseq.arguments import check_not_negative, flag, whole
from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.sessions.sessions import Sessions
from graphseq.evaluation.evaluate import (
    clusters_of,
    narrowed,
    rank_by_popularity,
    report_of,
)
from graphseq.evaluation.inputs import inference_mode, read_inputs, require_model
from graphseq.evaluation.metrics import metric_names
from graphseq.evaluation.protocol import Protocol, protocol_of
from graphseq.evaluation.rank_counts import refuse_nan
from graphseq.evaluation.report import Report, ranks_of
from graphseq.evaluation.scoring import score_cases, table_of
from graphseq.evaluation.shortlist import shortlist
from graphseq.evaluation.targets import Targets
from graphseq.models.base import SessionModel
from graphseq.models.use.inference import blocks
from graphseq.random import torch_stream
from graphseq.typing import Ints


def evaluate_reranker(
    ranker: SessionModel,
    retriever: SessionModel,
    sessions: Sessions,
    *,
    num_candidates: int = 100,
    place_weight: float = 0.0,
    ks: int | Iterable[int] = (5, 10, 20),
    protocol: Protocol | str | None = None,
    batch_size: int = 512,
    exclude_seen: bool = False,
    cluster: Literal["session", "user"] = "session",
    seed: int = 0,
    device: torch.device | str | None = None,
) -> Report:
    """Ranks the candidates that one model retrieves by the scores of another.

    Cases, ties and misses follow :func:`~graphseq.evaluation.evaluate`, so that reports can be
    compared. A target that is not among the candidates is a miss; ``hr@num_candidates`` is
    therefore the fraction that the retrieval finds. Ties for the last places among the candidates
    are broken at random; ties of the ranker's scores count by the protocol. A case with no known
    click before it is ranked by training counts, as in ``evaluate``.

    Args:
        ranker: Any model; it scores candidates [num_sessions, num_candidates].
        retriever: Any model with the same items; it chooses the candidates.
        sessions: A part of a split; recoded to the models' vocabulary.
        num_candidates: Candidates per case; all items if there are fewer.
        place_weight: What the log of a candidate's place in the retriever's list takes from the
            ranker's score, as :func:`~graphseq.serving.fit_reranker` learns it.
        ks, batch_size, exclude_seen, cluster, device: As in ``evaluate``.
        protocol: As in ``evaluate``; seen items leave before the retriever chooses.
        seed: Seed of the random tie breaking.

    Raises:
        ValueError: If the models have different items, the protocol draws candidates,
            ``place_weight`` is negative or not finite, or as ``evaluate``.
    """
    started = time.perf_counter()
    names = metric_names(ks)
    num_candidates = whole("num_candidates", num_candidates)
    check_not_negative(place_weight=place_weight)
    batch_size, seed = whole("batch_size", batch_size), whole("seed", seed, at_least=0)
    protocol = protocol_of(protocol, flag("exclude_seen", exclude_seen))
    if protocol.sampled:
        raise ValueError(
            "The retriever chooses the candidates, from all items, got a protocol with candidates="
            f"{protocol.candidates}: set num_candidates instead."
        )
    require_model(ranker, sessions, "ranker")
    require_model(retriever, name="retriever")
    _check_items(ranker, retriever)
    given, sessions = read_inputs(retriever, sessions)
    given, sessions, left_out = narrowed(given, sessions, protocol)
    cases = Targets(sessions)
    groups = clusters_of(given, cases, cluster)
    rules = ranks_of(protocol)
    without = np.flatnonzero(cases.history == 0)
    missed = np.full(len(cases), ranker.num_items, dtype=np.int64)  # until found
    better = {rule: missed.copy() for rule in rules}
    tied = {rule: np.zeros_like(missed) for rule in rules}
    for rule in rules:
        better[rule][without], tied[rule][without] = rank_by_popularity(
            retriever, cases.target[without]
        )
    sample_of = np.cumsum(cases.history > 0) - 1  # the sample of each case that has a history
    # One stream each: the places of one rule do not depend on the other.
    generators = {rule: torch_stream("shortlist", seed) for rule in rules}
    dataset = None
    with inference_mode(retriever, device), inference_mode(ranker, device):
        first = table_of(ranker)[2] if ranker.scores_by_table else None
        for case, of_all in score_cases(retriever, sessions, cases, batch_size):
            if dataset is None:
                dataset = SessionGraphDataset(
                    sessions,
                    max_length=ranker.max_length,
                    request_time=ranker.reads_request_time,
                )
            for rule, unseen in rules.items():
                scores = _without_seen(of_all, cases, case) if unseen else of_all
                tolerance = None if retriever.scores_by_table else retriever.score_tolerance
                candidates, present = shortlist(scores, num_candidates, generators[rule], tolerance)
                target = torch.from_numpy(cases.target[case]).to(candidates.device)
                hits = (candidates == target.unsqueeze(1)) & present  # [n, num_candidates]
                # A target that was not retrieved is a miss, independent of the ranker.
                found = hits.any(1).nonzero().view(-1)
                clicks = cases.history[case[found.cpu().numpy()]]
                for part in (found[cut] for cut in blocks(clicks, batch_size)):
                    number = case[part.cpu().numpy()]
                    batch = dataset.batch(sample_of[number]).to(ranker.device)
                    order = ranker.score(batch, candidates[part].to(ranker.device)).to(hits.device)
                    refuse_nan(order, column="candidate")
                    if place_weight:
                        place = torch.arange(1, order.size(1) + 1, device=order.device)
                        order = order - place_weight * place.to(order.dtype).log()
                    same = _equal(
                        ranker, None if place_weight else first, order, candidates[part], hits[part]
                    )
                    better[rule][number], tied[rule][number] = _places(
                        order, hits[part], present[part], same
                    )
    places = {}
    for rule, unseen in rules.items():
        lost = better[rule] < 0
        places[f"{rule}better"] = np.where(lost, ranker.num_items, better[rule])
        places[f"{rule}tied"] = tied[rule]
        if unseen:
            places[f"{rule}removed"] = cases.num_seen()
    report = report_of(
        given, cases, groups, places, ranker.num_items, protocol, names, left_out, started
    )
    counts = None if retriever.catalog is None else retriever.catalog.counts
    return replace(report, cases=cases.facts(sessions, counts))


def _without_seen(scores: Tensor, cases: Targets, case: Ints) -> Tensor:
    """The scores [n, num_items] with -inf for the items of each case's history."""
    row, item = (torch.from_numpy(part).to(scores.device) for part in cases.seen(case))
    return scores.index_put((row, item), scores.new_tensor(-torch.inf))


def _equal(
    ranker: SessionModel, first: Tensor | None, order: Tensor, candidates: Tensor, hits: Tensor
) -> Tensor:
    """Which candidates tie with the target, bool [n, C]; ``first`` maps equal items."""
    own = order[hits].unsqueeze(1)  # one hit per row
    if first is None:
        close = (order - own).abs() <= ranker.score_tolerance(own, order)
    else:
        first = first.to(candidates.device)
        close = first[candidates] == first[candidates[hits]].unsqueeze(1)
    return close | (order == own)  # infinities have no difference


def _places(
    order: Tensor, hits: Tensor, present: Tensor, same: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of better and tied candidates, int64 [n]; better = -1: not recommended."""
    own = order[hits].unsqueeze(1)  # one hit per row
    better = ((order > own) & present & ~same).sum(1)
    tied = (same & present).sum(1) - 1
    missed = own.squeeze(1) == -torch.inf
    better, tied = better.masked_fill(missed, -1), tied.masked_fill(missed, 0)
    return better.cpu().numpy(), tied.cpu().numpy()


def _check_items(ranker: SessionModel, retriever: SessionModel) -> None:
    one, other = ranker.catalog, retriever.catalog
    if ranker.num_items != retriever.num_items or (
        one is not None and other is not None and one.items != other.items
    ):
        raise ValueError(
            f"Ranker and retriever need the same items, got {ranker.num_items} and "
            f"{retriever.num_items} of their own: fit both on the same split."
        )
