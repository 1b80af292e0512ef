"""Two stages: a retrieval model finds the candidates of every case, another model ranks them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from graphseq.arguments import flag, whole
from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.sessions.sessions import Sessions
from graphseq.evaluation.evaluate import (
    clusters_of,
    rank_by_popularity,
    report_of,
)
from graphseq.evaluation.inputs import inference_mode, read_inputs, require_model
from graphseq.evaluation.metrics import metric_names
from graphseq.evaluation.protocol import Protocol
from graphseq.evaluation.rank_counts import refuse_nan
from graphseq.evaluation.report import Report
from graphseq.evaluation.scoring import score_cases, table_of
from graphseq.evaluation.shortlist import shortlist
from graphseq.evaluation.targets import Targets
from graphseq.models.base import SessionModel
from graphseq.models.use.inference import blocks
from graphseq.random import torch_stream


def evaluate_reranker(
    ranker: SessionModel,
    retriever: SessionModel,
    sessions: Sessions,
    *,
    num_candidates: int = 100,
    place_weight: float = 0.0,
    ks: int | Iterable[int] = (5, 10, 20),
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
    are broken at random; ties of the ranker's scores are averaged over. A case with no known click
    before it is ranked by training counts, as in ``evaluate``.

    Args:
        ranker: Any model; it scores candidates [num_sessions, num_candidates].
        retriever: Any model with the same items; it chooses the candidates.
        sessions: A part of a split; recoded to the models' vocabulary.
        num_candidates: Candidates per case; all items if there are fewer.
        place_weight: What the log of a candidate's place in the retriever's list takes from the
            ranker's score, as :func:`~graphseq.serving.fit_reranker` learns it.
        ks, batch_size, exclude_seen, cluster, device: As in ``evaluate``.
        seed: Seed of the random tie breaking.

    Raises:
        ValueError: If the models have different items, or as ``evaluate``.
    """
    started = time.perf_counter()
    names = metric_names(ks)
    num_candidates = whole("num_candidates", num_candidates)
    batch_size, seed = whole("batch_size", batch_size), whole("seed", seed, at_least=0)
    exclude_seen = flag("exclude_seen", exclude_seen)
    require_model(ranker, sessions, "ranker")
    require_model(retriever, name="retriever")
    _check_items(ranker, retriever)
    given, sessions = read_inputs(retriever, sessions)
    cases = Targets(sessions)
    groups = clusters_of(given, cases, cluster)
    better = np.full(len(cases), ranker.num_items, dtype=np.int64)  # missed, until found
    tied = np.zeros(len(cases), dtype=np.int64)
    without = np.flatnonzero(cases.history == 0)
    better[without], tied[without] = rank_by_popularity(retriever, cases.target[without])
    sample_of = np.cumsum(cases.history > 0) - 1  # the sample of each case that has a history
    generator = torch_stream("shortlist", seed)
    dataset = None
    with inference_mode(retriever, device), inference_mode(ranker, device):
        first = table_of(ranker)[2] if ranker.scores_by_table else None
        for case, scores in score_cases(retriever, sessions, cases, batch_size):
            if dataset is None:
                dataset = SessionGraphDataset(
                    sessions,
                    max_length=ranker.max_length,
                    request_time=ranker.reads_request_time,
                )
            if exclude_seen:
                row, item = (torch.from_numpy(part) for part in cases.seen(case))
                scores = scores.index_put(
                    (row.to(scores.device), item.to(scores.device)), scores.new_tensor(-torch.inf)
                )
            tolerance = None if retriever.scores_by_table else retriever.score_tolerance
            candidates, present = shortlist(scores, num_candidates, generator, tolerance)
            target = torch.from_numpy(cases.target[case]).to(candidates.device)
            hits = (candidates == target.unsqueeze(1)) & present  # [n, num_candidates]
            # A target that was not retrieved is a miss, independent of the ranker.
            found = hits.any(1).nonzero().view(-1)
            clicks = cases.history[case[found.cpu().numpy()]]
            for part in (found[cut] for cut in blocks(clicks, batch_size)):
                batch = dataset.batch(sample_of[case[part.cpu().numpy()]]).to(ranker.device)
                order = ranker.score(batch, candidates[part].to(ranker.device)).to(hits.device)
                number = case[part.cpu().numpy()]
                refuse_nan(order, column="candidate")
                if place_weight:
                    place = torch.arange(1, order.size(1) + 1, device=order.device)
                    order = order - place_weight * place.to(order.dtype).log()
                same = _equal(
                    ranker, None if place_weight else first, order, candidates[part], hits[part]
                )
                better[number], tied[number] = _places(order, hits[part], present[part], same)
    better[better < 0] = ranker.num_items
    places = {"better": better, "tied": tied}
    if exclude_seen:
        places["removed"] = cases.num_seen()
    protocol = Protocol(seen="remove" if exclude_seen else "keep")
    return report_of(given, cases, groups, places, ranker.num_items, protocol, names, 0, started)


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
