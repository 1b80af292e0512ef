"""Counterfactual sessions: how probable the last click had been without an earlier one."""

from __future__ import annotations

from typing import Literal

import numpy as np

from graphseq.arguments import whole
from graphseq.data.sessions.sessions import Sessions, only_sessions
from graphseq.evaluation.evaluate import evaluate
from graphseq.evaluation.protocol import Protocol
from graphseq.evaluation.significance import PairedTest, paired_test
from graphseq.evaluation.softmax_loss import LOGLOSS
from graphseq.models.base import SessionModel


def click_effect(
    model: SessionModel,
    sessions: Sessions,
    back: int = 1,
    *,
    cluster: Literal["session", "user"] = "session",
    level: float = 0.95,
) -> PairedTest:
    r"""What a click adds to the probability of the last one: with it, minus had it not been.

    .. math::
        \hat\Delta = \frac1n \sum_s \Big( p(y_s \mid i_1 \dots i_l)
            - p(y_s \mid i_1 \dots i_{l-b}, i_{l-b+2} \dots i_l) \Big)

    with :math:`y_s` the last click of session s, :math:`i_1 \dots i_l` the clicks before it, b
    ``back``, and p the softmax of the model's scores. This is an effect, not an association, only
    if everything that led to both clicks is in the session. A lasting interest of the visitor is
    not: clicks of one interest go together, and the estimate counts that too.

    Args:
        model: A fitted model whose scores are logits.
        sessions: Sessions that it was not trained on.
        back: Which click is left out; 1 is the one just before the last.
        cluster: Clusters of dependent cases: ``"session"`` or ``"user"``.
        level: Level of the interval, which holds the chance of the sessions, not of the training.

    Returns:
        The mean difference over all sessions that have this click and another before their last;
        ``num_cases`` says how many they are.

    Raises:
        ValueError: If no session is that long, or as :func:`~graphseq.evaluation.evaluate` for
            ``logloss``.
    """
    only_sessions("sessions", sessions)
    back = whole("back", back)
    least = max(back + 1, 3)  # the click, another one, and the last
    long = sessions.select(sessions.lengths >= least)
    if not len(long):
        raise ValueError(
            f"No session has {least} clicks, which it takes to leave out the one {back} before the "
            "last: take a smaller back, or longer sessions."
        )
    kept = np.ones(long.num_clicks, dtype=bool)
    kept[long.ptr[1:] - 1 - back] = False
    last = Protocol(targets="last")
    factual, without = (
        evaluate(model, each, protocol=last, cluster=cluster, logloss=True)
        for each in (long, long.keep_clicks(kept))
    )
    first, second = (np.exp(-report.values(LOGLOSS)) for report in (factual, without))
    return paired_test(first, second, factual.cluster, level=level)
