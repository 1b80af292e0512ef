"""The second stage: other scores for the candidates, and rules of your own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.models.base import SessionModel
from graphseq.models.use.inference import inference
from graphseq.serving.candidates import Candidates
from graphseq.serving.item_vectors import Floats
from graphseq.serving.queries import Asked
from graphseq.serving.reranking import with_places
from graphseq.serving.retrieval import check_scores

Rules = Callable[[pd.DataFrame], pd.DataFrame]
"""Frame of ``session``, ``item``, ``score`` -> the rows of it to keep, in the order to keep."""


def reranked(
    model: SessionModel, asked: Asked, found: Candidates, place_weight: float = 0.0
) -> Candidates:
    """The candidates in the order of a model's scores, where a session has a known item.

    Args:
        model: The second stage.
        asked: The sessions.
        found: What the first stage found, best first.
        place_weight: What the log of a candidate's place there takes from its score.
    """
    batch, answered = asked.queries.batch(0, asked.queries.size)
    if batch is None or found.items.shape[1] == 0:
        return found
    scores = found.scores.copy()
    with inference(model):
        wanted = torch.from_numpy(found.items[answered]).clamp(min=0).to(model.device)
        given = model.score(batch.to(model.device), wanted)
        check_scores(model, given)
        given = with_places(given.cpu().double(), place_weight)
        scores[answered] = given.numpy()
    return found.rescored(scores)


def vectors_of(model: SessionModel, found: Candidates) -> Floats:
    """Item vectors of the candidates, [num_sessions, m, d]; any where there is none.

    Raises:
        ValueError: If the model has no item vectors.
    """
    with inference(model):
        items = torch.from_numpy(found.items).clamp(min=0).to(model.device)
        try:
            rows: Floats = model.items.rows(items).float().cpu().numpy()
        except (AttributeError, NotImplementedError) as error:
            raise ValueError(
                f"diversity compares item vectors, and {type(model).__name__} has none: leave it "
                "at 0, or let such a model be a retriever."
            ) from error
    return rows


def ruled(rules: Rules, vocabulary: Vocabulary, asked: Asked, found: Candidates) -> Candidates:
    """What rules keep of the candidates, in their order.

    Raises:
        ValueError: If rules return an unknown item or session, an item twice, or a frame without
            these columns.
    """
    session, place = np.nonzero(found.items >= 0)
    frame = pd.DataFrame(
        {
            "session": session,
            "item": vocabulary.ids.take(found.items[session, place]).array,
            "score": found.scores[session, place],
        }
    )
    kept = rules(frame)
    absent = [name for name in frame if not isinstance(kept, pd.DataFrame) or name not in kept]
    if absent:
        raise ValueError(f"rules must return a frame with session, item and score, lacks {absent}.")
    codes = np.asarray(vocabulary.encode(kept["item"]), dtype=np.int64)
    numbers = kept["session"].to_numpy(dtype=np.int64)
    if (codes < 0).any() or ((numbers < 0) | (numbers >= asked.queries.size)).any():
        raise ValueError("rules returned an item or a session that was not among the candidates.")
    if len(np.unique(numbers * len(vocabulary) + codes)) < len(codes):
        raise ValueError("rules returned an item of a session twice: keep each once.")
    order = np.argsort(numbers, kind="stable")
    scores = kept["score"].to_numpy(dtype=np.float64)[order]
    return Candidates.of_pairs(numbers[order], codes[order], scores, asked.queries.size)
