"""Checks whether a model reads what it must not know: batch mates, later clicks, targets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from graphseq.arguments import whole
from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.splits.split_parts import Split
from graphseq.evaluation.audit import MOST_EXAMPLES, Audit, Finding
from graphseq.evaluation.inputs import inference_mode, read_inputs
from graphseq.evaluation.rank_counts import refuse_nan
from graphseq.evaluation.scoring import checked
from graphseq.evaluation.targets import Targets
from graphseq.models.base import SessionModel
from graphseq.random import stream
from graphseq.typing import Ints

CLOSE = 1e-4
"""Share of the spread of a session's scores below which a difference is rounding."""

MOST_SCORES = 2**25
"""Maximum number of scores of one batch, except that one session is always allowed."""

NO_CASE = "audit_model needs sessions of two clicks or more that the model knows"

PREFIXES = 8
"""Number of last prefixes of a session that are scored in one batch."""

CHECKS = ("batch mates", "targets")
"""The checks of every model."""


class NothingToScoreError(ValueError):
    """No session has a click that the model knows before its target."""


def audit_model(
    model: SessionModel,
    sessions: Split | Sessions | Any,
    *,
    num_sessions: int = 32,
    seed: int = 0,
) -> Audit:
    """Scores the prefixes of sessions in one batch and again one by one: nothing may change.

    ============ =================================================================================
    check        fault if
    ============ =================================================================================
    batch mates  scores of a prefix, or where one pass gives the states of all prefixes
                 (``causal``) its state there, depend on what is in its batch: a longer prefix of
                 the same session there holds the very click that is asked for
    targets      scores depend on the target of the batch, ``batch.y``
    later clicks the state of a click in one pass depends on the clicks after it
    ============ =================================================================================

    A graph over the whole batch is a fault of the first kind. With it, 72 % of the targets of one
    published test set could be read from batch mates.

    Args:
        model: A model, trained or untrained.
        sessions: Sessions to check it on, or a split, of which the test part is used.
        num_sessions: Number of sessions drawn; at most the 8 last prefixes of each are scored.
        seed: Seed of the draw.

    Raises:
        ValueError: If model and sessions do not match, no session has two clicks that the model
            knows, or a score is NaN.
    """
    num_sessions = whole("num_sessions", num_sessions)
    given = sessions.test if isinstance(sessions, Split) else sessions
    part = _drawn(read_inputs(model, given)[1], num_sessions, whole("seed", seed, at_least=0))
    cases = Targets(part)
    case = np.flatnonzero(cases.history > 0)
    if len(case) == 0:
        raise NothingToScoreError(f"{NO_CASE}, but none of these has a click before its target.")
    dataset = SessionGraphDataset(part, "prefixes", request_time=model.reads_request_time)
    in_order = stream("audit_order", seed)
    moved: dict[_Comparison, list[_Moved]] = {}
    at_once = max(1, MOST_SCORES // (PREFIXES * model.num_items))  # sessions
    number = pd.factorize(cases.session[case])[0]
    with inference_mode(model, None):
        for first in range(0, int(number.max()) + 1, at_once):
            sample = np.flatnonzero((number >= first) & (number < first + at_once))
            sample = in_order.permutation(sample)  # batch mates in random order
            for comparison, found in _compared(model, dataset, cases, case, sample, seed):
                moved.setdefault(comparison, []).append(found)
    findings = [_finding(comparison, parts) for comparison, parts in moved.items()]
    if model.causal and model.scores_by_table:
        mates = findings.pop()
        if findings[0].verdict == "ok":
            findings[0] = mates
    return Audit(tuple(findings))


def audit_where_possible(model: SessionModel, split: Split) -> Audit:
    """:func:`audit_model` of a test part; of unknown verdict where no session can be scored.

    Args:
        model: A trained model.
        split: Its split.

    Raises:
        ValueError: If a score is NaN.
    """
    try:
        return audit_model(model, split)
    except NothingToScoreError as error:
        return Audit(tuple(Finding(name, "unknown", 0, 0, str(error)) for name in CHECKS))


def _drawn(part: Sessions, num_sessions: int, seed: int) -> Sessions:
    """Some of the sessions with at least two clicks, with their last prefixes as cases."""
    fit = np.flatnonzero(part.lengths >= 2)
    chosen = stream("audit_sessions", seed).permutation(fit)[:num_sessions]
    if len(chosen) == 0:
        raise NothingToScoreError(f"{NO_CASE}, but these {part.num_sessions} have one click each.")
    part = part.select(np.sort(chosen))
    return replace(part, first_target=np.maximum(1, part.lengths - PREFIXES))


def _longest(cases: Targets, case: Ints, sample: Ints, seed: int) -> Ints:
    """The longest prefix of each session of the sample, in random order."""
    session = cases.session[case]
    last = np.flatnonzero(np.diff(session, append=-1))
    last = last[np.isin(session[last], session[sample])]
    return stream("audit_order", seed, 1).permutation(last)


def _states(
    model: SessionModel,
    dataset: SessionGraphDataset,
    cases: Targets,
    case: Ints,
    sample: Ints,
    batches: Ints,
) -> Tensor:
    """The state of the last click of each prefix, from one pass over each batch.

    Args:
        batches: The longest prefix of every session, in batches, int64 [num_batches, size].
    """
    session, history = cases.session[case], cases.history[case]
    states: dict[int, Tensor] = {}
    for part in batches:
        batch = dataset.batch(part).to(model.device)
        found = model.click_states(batch).split(batch.click_ptr.diff().tolist())
        states.update(zip(session[part].tolist(), found, strict=True))
    return torch.stack([states[session[one]][history[one] - 1] for one in sample])


class _Comparison(NamedTuple):
    """What is compared, in the words of a finding."""

    check: str
    values: Literal["Scores", "States"]
    said: str


class _Moved(NamedTuple):
    """By how much the values of prefixes moved.

    Attributes:
        where: The session and position of the target of each prefix.
        most: The largest change of a value, float64 [num_prefixes].
        spread: The largest value less the smallest, float64 [num_prefixes].
    """

    where: list[tuple[int, int]]
    most: Tensor
    spread: Tensor


def _compared(
    model: SessionModel,
    dataset: SessionGraphDataset,
    cases: Targets,
    case: Ints,
    sample: Ints,
    seed: int,
) -> Iterator[tuple[_Comparison, _Moved]]:
    """The prefixes of a sample in one batch, and again one by one; states by table come last."""
    home = model.device
    where = list(zip(cases.session[case[sample]], cases.position[case[sample]], strict=True))
    expected, source = [len(sample), model.num_items], f"{type(model).__name__}.score"
    together = checked(model.score(dataset.batch(sample).to(home)), expected, source)
    alone = torch.cat([model.score(dataset.batch([number]).to(home)) for number in sample])
    asked = dataset.batch(sample)
    asked.y = (asked.y + 1 + torch.arange(len(asked.y))) % model.num_items
    other = model.score(asked.to(home))
    mates = _Comparison("batch mates", "Scores", "with and without batch mates")
    yield mates, _moved(mates, where, alone, together)
    targets = _Comparison("targets", "Scores", "after other targets in batch.y")
    yield targets, _moved(targets, where, together, other)
    if model.causal and model.scores_by_table:
        vectors = torch.cat([model(dataset.batch([number]).to(home)) for number in sample])
        longest = _longest(cases, case, sample, seed)
        states = _states(model, dataset, cases, case, sample, longest.reshape(-1, 1))
        later = _Comparison("later clicks", "States", "before and after later clicks")
        yield later, _moved(later, where, vectors, states)
        # evaluate reads these states from one pass over many sessions.
        joined = _states(model, dataset, cases, case, sample, longest.reshape(1, -1))
        mates = _Comparison("batch mates", "States", "in one pass with and without batch mates")
        yield mates, _moved(mates, where, states, joined)


def _moved(
    comparison: _Comparison, where: list[tuple[int, int]], expected: Tensor, found: Tensor
) -> _Moved:
    """By how much rows differ.

    Raises:
        ValueError: If a value is NaN, which equals nothing.
    """
    values = comparison.values
    for each in (expected, found):
        refuse_nan(each, values=values, column="channel" if values == "States" else "item")
    one, other = expected.double().cpu(), found.double().cpu()
    finite = one.isfinite() & other.isfinite()
    low = one.masked_fill(~finite, torch.inf).amin(1)
    high = one.masked_fill(~finite, -torch.inf).amax(1)
    spread = torch.where(high > low, high - low, high.abs()).nan_to_num(0.0, 0.0, 0.0)
    change = torch.where(finite, (one - other).abs(), torch.where(one == other, 0.0, torch.inf))
    return _Moved(where, change.amax(1), spread)


def _finding(comparison: _Comparison, parts: list[_Moved]) -> Finding:
    """Whether rows are equal up to rounding."""
    check, values, said = comparison
    where = [place for part in parts for place in part.where]
    most = torch.cat([part.most for part in parts])
    spread = torch.cat([part.spread for part in parts])
    differs = (most > CLOSE * spread + torch.finfo(torch.float32).tiny).numpy()
    count = int(differs.sum())
    worst = np.argsort(-most.numpy(), kind="stable")[: MOST_EXAMPLES if count else 0]
    return Finding(
        check,
        "fault" if count else "ok",
        count,
        len(where),
        f"{count:,} of {len(where):,} prefixes have other {values.lower()} {said}.",
        tuple(
            f"session {where[row][0]} of those drawn, target at click {where[row][1]}: moved by "
            f"{most[row]:.3g} of a spread of {spread[row]:.3g}"
            for row in worst
            if differs[row]
        ),
    )
