"""Scores of all cases by any model, block after block, in the fewest passes it allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from graphseq.data.dataset import SessionGraphDataset
from graphseq.data.sessions import Sessions
from graphseq.evaluation.cases import Cases, IntArray, ranges
from graphseq.models.base import SessionModel

MOST_SCORES = 2**24
"""Scores held at once, unless :data:`FEWEST_ROWS` of a very large catalogue are more."""

CACHED_SCORES = 2**22
"""Scores that a CPU compares soon after they are made, while its cache still holds most of them."""

ITEMS_AT_ONCE = 2048
"""Items that a CPU scores at once: their part of the item table stays in its cache."""

FEWEST_ROWS = 8
"""Rows scored at once at least: each pass over the item table should serve several cases."""

Blocks = Iterator[tuple[IntArray, Tensor]]
"""Case numbers [n] and their scores [n, num_items], block after block; one may be written over the
last, so that each is good until the next is asked for."""


def score_cases(model: SessionModel, sessions: Sessions, cases: Cases, batch_size: int) -> Blocks:
    """The scores of all cases that have a history.

    A model with a ``score`` of its own is asked for it prefix by prefix. Where states equal
    prefixes, one pass over a session gives the vectors of all its cases, unless the session has
    only one, or more clicks than a model with a ``max_length`` sees at once: there a pass would
    compute a window for every click, but only some are wanted. Where windows share their work, it
    pays all the same.

    Args:
        model: In evaluation mode.
        sessions: In the codes of the model.
        cases: Of these sessions.
        batch_size: Session graphs that the model reads at once.

    Raises:
        ValueError: If the model gives scores or states of the wrong shape.
    """
    case = np.flatnonzero(cases.history > 0)  # these are the dataset's samples, in its order
    if len(case) == 0:
        return
    dataset = SessionGraphDataset(sessions, samples="prefixes")
    if type(model).score is not SessionModel.score:
        rows = min(batch_size, _rows(model, MOST_SCORES))
        for sample in _batches(cases.history[case], rows):
            scores = model.score(dataset.batch(sample).to(model.device))
            expected = [len(sample), model.num_items]
            yield case[sample], _checked(scores, expected, f"{type(model).__name__}.score")
        return

    rows = _rows(model, CACHED_SCORES if model.device.type == "cpu" else MOST_SCORES)
    score = _vector_scores(model, rows)
    for sample, vectors in _vectors(model, dataset, cases, case, batch_size):
        for start in range(0, len(sample), rows):
            part = sample[start : start + rows]
            scores = score(vectors[start : start + rows])
            expected = [len(part), model.num_items]
            yield case[part], _checked(scores, expected, f"{type(model).__name__}.score_vectors")


def _vectors(
    model: SessionModel, dataset: SessionGraphDataset, cases: Cases, case: IntArray, batch_size: int
) -> Blocks:
    """Sample numbers [n] and their vectors [n, d]."""
    session, history = cases.session[case], cases.history[case]
    last = np.flatnonzero(np.diff(session, append=-1))  # the last sample of each session
    counts = np.diff(last, prepend=-1)
    shared = (counts > 1) & model.states_equal_prefixes
    window = getattr(model, "max_length", None)
    if window is not None and not model.shares_windows:
        shared &= history[last] <= window

    alone = np.flatnonzero(np.repeat(~shared, counts))
    for batch in _batches(history[alone], batch_size):
        sample = alone[batch]
        vectors = model(dataset.batch(sample).to(model.device))
        expected = [len(sample), vectors.size(-1)]
        yield sample, _checked(vectors, expected, f"{type(model).__name__}.forward")

    last, counts = last[shared], counts[shared]
    for batch in _batches(history[last], batch_size):
        # The prefix of a session's last sample holds every known click that its others see.
        whole, size, lengths = last[batch], counts[batch], history[last[batch]]
        states = model.click_states(dataset.batch(whole).to(model.device))
        expected = [int(lengths.sum()), states.size(-1)]
        _checked(states, expected, f"{type(model).__name__}.click_states")
        sample = ranges(whole - size + 1, size)
        # The state of the last known click before each target.
        row = np.repeat(np.cumsum(lengths) - lengths, size) + history[sample] - 1
        yield sample, states[torch.from_numpy(row).to(states.device)]


def _batches(lengths: IntArray, batch_size: int) -> Iterator[IntArray]:
    """Numbers of samples by length, so that a batch needs little padding."""
    order = np.argsort(lengths, kind="stable")
    return (order[start : start + batch_size] for start in range(0, len(order), batch_size))


def _rows(model: SessionModel, scores: int) -> int:
    return max(FEWEST_ROWS, scores // model.num_items)


def _vector_scores(model: SessionModel, rows: int) -> Callable[[Tensor], Tensor]:
    """``model.score_vectors`` of at most so many rows.

    Where it is the inner product, its item table is computed once, and a CPU writes all scores to
    one place: memory that is fetched anew for each block costs as much as half of the product.
    """
    if type(model).score_vectors is not SessionModel.score_vectors:
        return model.score_vectors
    weight, bias = model.item_weight().detach(), model.item_bias()
    bias = None if bias is None else bias.detach()
    if weight.device.type != "cpu":
        return lambda vectors: torch.nn.functional.linear(vectors, weight, bias)
    scores = weight.new_empty(rows, len(weight))
    blocks = list(zip(weight.split(ITEMS_AT_ONCE), scores.split(ITEMS_AT_ONCE, dim=1), strict=True))

    def score(vectors: Tensor) -> Tensor:
        for items, place in blocks:
            torch.mm(vectors, items.t(), out=place[: len(vectors)])
        found = scores[: len(vectors)]
        return found if bias is None else found.add_(bias)

    return score


def _checked(values: Tensor, expected: list[int], source: str) -> Tensor:
    if list(values.shape) != expected:
        raise ValueError(f"{source} must give shape {expected} here, got {list(values.shape)}.")
    return values
