"""The logloss of next-item prediction: cross-entropy under the softmax over all items."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import linear

from graphseq.evaluation.protocol import Protocol
from graphseq.models.base import SessionModel

LOGLOSS = "logloss"
"""The name of the metric, and of its column in the places of a report."""

MOST_SCORES = 2**24
"""Maximum number of scores held at once if they are computed from vectors and an item table."""


def check_logloss(model: SessionModel, protocol: Protocol) -> None:
    """Raises for a model whose scores are not logits, and for a protocol without all items.

    Raises:
        ValueError: If the model or the protocol does not allow it.
    """
    ways_out = {
        "counts": "its scores are counts: leave logloss out",
        "pairs": "its scores are logits of single pairs: use gs.evaluation.evaluate_pairs",
    }
    if model.samples in ways_out:
        raise ValueError(
            f"logloss is of logits over all items, which {type(model).__name__} does not give; "
            f"{ways_out[model.samples]}."
        )
    if protocol.sampled or protocol.seen == "remove":
        rule = f"candidates={protocol.candidates!r}" if protocol.sampled else "seen='remove'"
        raise ValueError(
            f"logloss is of the softmax over all items, but the protocol has {rule}: leave logloss "
            "out, or rank all items with seen='keep' or 'both'."
        )


def softmax_loss(scores: Tensor, targets: Tensor) -> Tensor:
    r"""The cross-entropy of each target, :math:`\log \sum_j e^{s_j} - s_y`, as in torch.

    The loss of an unknown target is chance level, :math:`\log` of the number of items, for all
    models of one catalog.

    Args:
        scores: Logits, [n, num_items].
        targets: Item codes, int64 [n]; -1: unknown.

    Returns:
        float64 [n], in nats.
    """
    own = scores.gather(1, targets.clamp(min=0).unsqueeze(1)).squeeze(1)
    loss = (scores.logsumexp(1) - own).double()
    return torch.where(targets < 0, math.log(scores.size(1)), loss)


def table_loss(weight: Tensor, bias: Tensor | None, vectors: Tensor, targets: Tensor) -> Tensor:
    """:func:`softmax_loss` of scores by an item table, computed in bounded blocks.

    Args:
        weight: The item table, [num_items, d].
        bias: Bias of each item, [num_items], or ``None``.
        vectors: [n, d].
        targets: Item codes, int64 [n]; -1: unknown.
    """
    rows = max(1, MOST_SCORES // len(weight))
    parts = zip(vectors.split(rows), targets.split(rows), strict=True)
    return torch.cat([softmax_loss(linear(x, weight, bias), y) for x, y in parts])
