"""Vectors and scores of all cases by any model, block by block, in as few passes as possible."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.sessions.sessions import Sessions
from graphseq.evaluation.targets import Targets
from graphseq.models.base import SessionModel
from graphseq.models.reading import Additions, additions_of
from graphseq.models.use.inference import blocks as blocks_of
from graphseq.models.use.ties import first_equal
from graphseq.ragged import ragged_arange
from graphseq.typing import Ints

MOST_SCORES = 2**24
"""Maximum number of scores held at once; :data:`FEWEST_ROWS` rows are always allowed."""

FEWEST_ROWS = 8
"""Minimum number of rows scored at once: a pass over the item table should serve several cases."""

Blocks = Iterator[tuple[Ints, Tensor]]
"""Case numbers [n] and their scores [n, num_items] or vectors [n, d], block by block."""


def score_cases(model: SessionModel, sessions: Sessions, cases: Targets, batch_size: int) -> Blocks:
    """The scores of all cases that have a history.

    A model that overrides ``score`` scores prefix by prefix; for other models the vectors come from
    :func:`case_vectors`. Items with equal rows in the item table share one score.

    Args:
        model: A model in evaluation mode.
        sessions: Sessions in the codes of the model.
        cases: Cases of these sessions.
        batch_size: Session graphs per batch.

    Raises:
        ValueError: If the model returns scores or states of the wrong shape.
    """
    rows = max(FEWEST_ROWS, MOST_SCORES // model.num_items)
    if not model.scores_by_table:
        for case, batch in _windows(model, sessions, cases, min(batch_size, rows)):
            scores = model.score(batch)
            expected = [len(case), model.num_items]
            yield case, checked(scores, expected, f"{type(model).__name__}.score")
        return

    score = partial(_by_table, *table_of(model))
    for case, vectors in case_vectors(model, sessions, cases, batch_size):
        for start in range(0, len(case), rows):
            part = case[start : start + rows]
            scores = score(vectors[start : start + rows])
            expected = [len(part), model.num_items]
            yield part, checked(scores, expected, f"{type(model).__name__} by its item table")


def case_batches(
    sessions: Sessions, cases: Targets, batch_size: int
) -> Iterator[tuple[Ints, Batch]]:
    """The prefixes of all cases that have a history, as batches of session graphs.

    Args:
        sessions: Sessions in the codes of the model.
        cases: Cases of these sessions.
        batch_size: Session graphs per batch.
    """
    case = np.flatnonzero(cases.history > 0)  # the dataset has the same samples in the same order
    if len(case):
        dataset = SessionGraphDataset(sessions, samples="prefixes")
        for sample in _batches(cases.history[case], batch_size):
            yield case[sample], dataset.batch(sample)


def case_vectors(
    model: SessionModel, sessions: Sessions, cases: Targets, batch_size: int
) -> Blocks:
    """The session vectors of all cases that have a history.

    For a causal model, one pass over a session gives the vectors of all its cases. This is not done
    for a session with only one case, or with more clicks than ``max_length``. There a pass would
    compute a window for every click, although only some are needed. If windows share their work,
    the pass is still used.

    Args:
        model: A model in evaluation mode.
        sessions: Sessions in the codes of the model.
        cases: Cases of these sessions.
        batch_size: Session graphs per batch.

    Raises:
        ValueError: If the model returns states of the wrong shape.
    """
    case = np.flatnonzero(cases.history > 0)  # the dataset has the same samples in the same order
    if len(case) == 0:
        return
    window = model.max_length
    session, history = cases.session[case], cases.history[case]
    last = np.flatnonzero(np.diff(session, append=-1))  # the last sample of each session
    counts = np.diff(last, prepend=-1)
    shared = (counts > 1) & model.causal
    if window is not None and not model.shares_windows:
        shared &= history[last] <= window

    alone = np.flatnonzero(np.repeat(~shared, counts))
    dataset = SessionGraphDataset(
        sessions, "prefixes", max_length=window, request_time=model.reads_request_time
    )
    for batch in _batches(history[alone], batch_size):
        sample = alone[batch]
        vectors = model(dataset.batch(sample).to(model.device))
        expected = [len(sample), vectors.size(-1)]
        yield case[sample], checked(vectors, expected, f"{type(model).__name__}.forward")

    last, counts = last[shared], counts[shared]
    dataset = SessionGraphDataset(sessions, "prefixes")
    for batch in _batches(history[last], batch_size):
        # The prefix of a session's last sample holds every known click that its other samples see.
        whole, size, lengths = last[batch], counts[batch], history[last[batch]]
        states = model.click_states(dataset.batch(whole).to(model.device))
        expected = [int(lengths.sum()), states.size(-1)]
        checked(states, expected, f"{type(model).__name__}.click_states")
        sample = ragged_arange(whole - size + 1, size)
        # The state of the last known click before each target.
        row = np.repeat(np.cumsum(lengths) - lengths, size) + history[sample] - 1
        yield case[sample], states[torch.from_numpy(row).to(states.device)]


def vectors_and_additions(
    model: SessionModel, sessions: Sessions, cases: Targets, batch_size: int
) -> Iterator[tuple[Ints, tuple[Tensor, Additions]]]:
    """The session vectors of all cases that have a history, with what is added to their scores.

    Args:
        model: A model in evaluation mode that declares ``adds_to_table``.
        sessions: Sessions in the codes of the model.
        cases: Cases of these sessions.
        batch_size: Session graphs per batch.

    Raises:
        TypeError: If what the model adds is no ``Additions``.
        ValueError: If the model returns vectors of the wrong shape.
    """
    for case, batch in _windows(model, sessions, cases, batch_size):
        yield case, (model(batch), additions_of(model, batch))


def _windows(
    model: SessionModel, sessions: Sessions, cases: Targets, batch_size: int
) -> Iterator[tuple[Ints, Batch]]:
    """What a model reads of the cases that have a history, on its device."""
    case = np.flatnonzero(cases.history > 0)  # the dataset has the same samples in the same order
    if len(case) == 0:
        return
    dataset = SessionGraphDataset(
        sessions, "prefixes", max_length=model.max_length, request_time=model.reads_request_time
    )
    for sample in _batches(cases.history[case], batch_size):
        yield case[sample], dataset.batch(sample).to(model.device)


def table_of(model: SessionModel) -> tuple[Tensor, Tensor | None, Tensor]:
    """The item table, its biases, and for every item the first item with an equal row."""
    weight, bias = model.items.rows(), model.items.bias
    return weight, bias, first_equal(weight, bias)


def _by_table(weight: Tensor, bias: Tensor | None, first: Tensor, vectors: Tensor) -> Tensor:
    scores = torch.nn.functional.linear(vectors, weight, bias)
    repeats = (first != torch.arange(len(first), device=first.device)).nonzero().view(-1)
    scores[:, repeats] = scores[:, first[repeats]]
    return scores


def in_larger_blocks(blocks: Blocks, rows: int) -> Blocks:
    """The same cases and values, with small blocks joined to at least this many rows."""
    cases: list[Ints] = []
    values: list[Tensor] = []
    held = 0
    for case, found in blocks:
        cases.append(case)
        values.append(found)
        held += len(case)
        if held >= rows:
            yield np.concatenate(cases), torch.cat(values)
            cases, values, held = [], [], 0
    if held:
        yield np.concatenate(cases), torch.cat(values)


def _batches(lengths: Ints, batch_size: int) -> Iterator[Ints]:
    """Sample numbers ordered by length, in batches with little padding and bounded memory."""
    order = np.argsort(lengths, kind="stable")
    return (order[part] for part in blocks_of(lengths[order], batch_size))


def checked(values: Tensor, expected: list[int], source: str) -> Tensor:
    """The values themselves, if they have the expected shape.

    Args:
        values: Scores or states of a model.
        expected: The shape.
        source: What gave the values, for the message.

    Raises:
        ValueError: If the shape is another one.
    """
    if list(values.shape) != expected:
        raise ValueError(f"{source} must give shape {expected} here, got {list(values.shape)}.")
    return values
