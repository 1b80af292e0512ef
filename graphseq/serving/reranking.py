"""Trains a second stage on what it will have to order: the candidates of the first one."""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from graphseq.arguments import check_positive, whole
from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.sessions.sessions import Sessions
from graphseq.evaluation.inputs import read_inputs, require_model
from graphseq.models.base import SessionModel
from graphseq.models.use.inference import inference
from graphseq.models.use.recommend import item_vocabulary
from graphseq.nn.chance import drawing_from
from graphseq.random import stream, torch_stream

logger = logging.getLogger(__name__)

SESSIONS_AT_ONCE = 512


def fit_reranker(
    reranker: SessionModel,
    retriever: SessionModel,
    sessions: Sessions,
    *,
    num_candidates: int = 100,
    max_cases: int = 200_000,
    max_epochs: int = 4,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> float:
    r"""Trains a reranker in place to find the target among the retriever's candidates.

    .. math::
        L = -\log \mathrm{softmax}_c\big(\hat r_c - a \log \mathrm{place}_c\big)_y

    over the candidates c of each history, with the reranker's score :math:`\hat r` and the place
    of the candidate in the retriever's list. The weight a of the places is learned with the
    reranker, so that it starts from the retriever's order and changes what it can improve. A
    target that the retriever does not find teaches nothing and is left out; the log counts them.

    Take sessions from which the retriever did not learn, as ``split.validation``. Of its own
    training sessions it knows the targets, and its places seem better than they are. The reranker
    itself may have been trained before, by :func:`graphseq.fit` on all training sessions.

    Args:
        reranker: A neural model, as :class:`~graphseq.models.BSTRanker` or
            :class:`~graphseq.models.BST`; it knows the items, by ``fit`` or ``attach``.
        retriever: The fitted first stage, with the same items.
        sessions: Sessions with targets.
        num_candidates: Candidates per history.
        max_cases: Histories that are read; where there are more, so many are drawn.
        max_epochs: Passes over them.
        batch_size: Histories per step.
        learning_rate: Of AdamW, falling linearly to zero.
        seed: Seed of order, draw and dropout.

    Returns:
        The weight a, for ``Recommender(place_weight=...)`` and
        ``evaluate_reranker(place_weight=...)``.

    Raises:
        ValueError: If the reranker has no weights to train, the items differ, or the retriever
            finds no target.
    """
    for name, value in (
        ("num_candidates", num_candidates),
        ("max_cases", max_cases),
        ("max_epochs", max_epochs),
        ("batch_size", batch_size),
    ):
        whole(name, value)
    check_positive(learning_rate=learning_rate)
    require_model(retriever, sessions, "retriever")
    require_model(reranker, name="reranker")
    parameters = [each for each in reranker.parameters() if each.requires_grad]
    if not parameters:
        raise ValueError(f"{type(reranker).__name__} has no weights to train: take a neural model.")
    if item_vocabulary(reranker) != item_vocabulary(retriever):
        raise ValueError("The reranker has other items than the retriever: fit both on one split.")
    _, recoded = read_inputs(reranker, sessions)
    timed = reranker.reads_request_time or retriever.reads_request_time
    dataset = SessionGraphDataset(recoded, request_time=timed)
    drawn = np.arange(len(dataset))
    if len(drawn) > max_cases:
        drawn = np.sort(stream("reranked", seed).choice(len(drawn), max_cases, replace=False))
    candidates, place = _retrieved(retriever, dataset, drawn, num_candidates)
    found = np.flatnonzero(place >= 0)
    logger.info("The retriever finds %d of %d targets.", len(found), len(drawn))
    if len(found) == 0:
        raise ValueError("The retriever finds no target among its candidates: take more of them.")
    weight = torch.nn.Parameter(torch.ones((), device=reranker.device))
    optimizer = torch.optim.AdamW([*parameters, weight], lr=learning_rate)
    steps = -(-len(found) // batch_size) * max_epochs
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1e-3, steps)
    was_training = reranker.training
    reranker.train()
    for epoch in range(max_epochs):
        order = stream("reranked_order", seed, epoch).permutation(found)
        with drawing_from(torch_stream("reranked_dropout", seed, epoch)):
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                batch = dataset.batch(drawn[rows]).to(reranker.device)
                listed = torch.from_numpy(candidates[rows]).to(reranker.device)
                scores = reranker.score(batch, listed.clamp(min=0))
                scores = with_places(scores, weight).masked_fill(listed < 0, -torch.inf)
                loss = cross_entropy(scores, torch.from_numpy(place[rows]).to(scores.device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                with torch.no_grad():
                    weight.clamp_(min=0)
    reranker.train(was_training)
    return float(weight.detach())


def with_places(scores: Tensor, weight: float | Tensor) -> Tensor:
    """Scores of candidates, best of the first stage first, less the log of their places.

    Args:
        scores: [n, C].
        weight: Of the log of places, 1 to C.
    """
    place = torch.arange(1, scores.size(1) + 1, device=scores.device, dtype=scores.dtype)
    return scores - weight * place.log()


def _retrieved(
    retriever: SessionModel, dataset: SessionGraphDataset, drawn: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Candidates of these samples, int64 [n, k], -1: none, and the place of each target, or -1."""
    items, places = [], []
    with inference(retriever):
        for start in range(0, len(drawn), SESSIONS_AT_ONCE):
            batch = dataset.batch(drawn[start : start + SESSIONS_AT_ONCE]).to(retriever.device)
            scores, listed = retriever.score(batch).topk(min(k, retriever.num_items))
            listed = listed.masked_fill(scores == -torch.inf, -1)
            hit = (listed == batch.y.unsqueeze(1)) & (batch.y >= 0).unsqueeze(1)
            places.append(torch.where(hit.any(1), hit.int().argmax(1), -1).cpu().numpy())
            items.append(listed.cpu().numpy())
    return np.concatenate(items), np.concatenate(places)
