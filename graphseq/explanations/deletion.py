"""Whether explanations name the clicks that matter: deletion curves on sessions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from graphseq.arguments import whole
from graphseq.explanations.explain import explain, seen_of, without
from graphseq.explanations.explanation import Method
from graphseq.explanations.variants import score_variants
from graphseq.models.base import SessionModel
from graphseq.models.use.attention import code_of
from graphseq.random import stream


def deletion_curves(
    model: SessionModel,
    sessions: Sequence[Sequence[Any]],
    *,
    method: Method = "leave_one_out",
    deletions: int = 4,
    k: int = 10,
    draws: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """What is left of the first recommendation when clicks go, named ones or random ones.

    Each session is explained once. Then its clicks are taken away one by one, the strongest first;
    and, ``draws`` times, in random order. Sessions need more clicks than are taken away.

    Args:
        model: Any model.
        sessions: Lists of item ids; those with too few clicks are left out.
        method: As in :func:`explain`.
        deletions: Clicks taken away, at most.
        k: The item counts as still recommended while it is among the best ``k``.
        draws: Random orders per session.
        seed: Of the random orders.

    Returns:
        One row per number of clicks taken away, from 0: ``named`` and ``random``, the mean
        reciprocal rank of the item; ``difference`` of both, random minus named, with ``low`` and
        ``high`` of its 95 % interval over the sessions; ``named kept`` and ``random kept``, the
        share in which it is still among the best ``k``; and ``sessions``.

    Raises:
        ValueError: If no session is long enough, or as :func:`explain`.
    """
    deletions, draws = whole("deletions", deletions), whole("draws", draws)
    k = whole("k", k)
    named, random = [], []
    for number, session in enumerate(sessions):
        batch, _ = seen_of(model, session)
        size = batch.num_clicks
        if size <= deletions:
            continue
        found = explain(model, session, method=method, seed=seed)
        generator = stream("deletion", seed, number)
        orders = [found.order(), *(generator.permutation(size) for _ in range(draws))]
        variants = [
            without(size, order[:count].tolist())
            for order in orders
            for count in range(deletions + 1)
        ]
        ranks = score_variants(model, batch, variants, code_of(model, found.item)).rank
        ranks = ranks.reshape(1 + draws, deletions + 1)
        named.append(ranks[0])
        random.append(ranks[1:])
    if not named:
        raise ValueError(
            f"No session has more than {deletions} clicks that the model sees: take fewer away."
        )
    ours, theirs = np.stack(named), np.stack(random)  # [sessions, counts], [sessions, draws, ...]
    gain = (1 / theirs).mean(1) - 1 / ours
    spread = 1.96 * gain.std(0, ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else np.nan
    return pd.DataFrame(
        {
            "deleted": np.arange(deletions + 1),
            "named": (1 / ours).mean(0),
            "random": (1 / theirs).mean((0, 1)),
            "difference": gain.mean(0),
            "low": gain.mean(0) - spread,
            "high": gain.mean(0) + spread,
            "named kept": (ours <= k).mean(0),
            "random kept": (theirs <= k).mean((0, 1)),
            "sessions": len(ours),
        }
    )
