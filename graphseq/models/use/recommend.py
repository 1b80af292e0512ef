"""Recommendations in the user's own ids, for any model and for new sessions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.arguments import flag, whole
from graphseq.data.graphs.session_graph import newest_clicks
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.models.base import SessionModel
from graphseq.models.recommender import SessionsLike, model_method
from graphseq.models.use.inference import blocks, inference
from graphseq.models.use.item_filter import ItemLists, Items, read_items, without
from graphseq.models.use.requests import Queries, read_queries
from graphseq.models.use.ties import TableTies, Tolerance, leaders, num_reached

logger = logging.getLogger(__name__)

MAX_SCORES = 2**24
"""Maximum number of scores held at once: blocks have this number divided by the number of items."""

PICKED = 5
"""Picking the row of an allowed item costs about as much as its scores for this many sessions. If
that is more than all scores of the other items, all items are scored and the others hidden."""

Lists = list[list[tuple[Any, float]]]
"""One list per session of ``(item id, score)``, best first."""


@model_method
def recommend(
    model: SessionModel,
    sessions: SessionsLike,
    k: int = 10,
    *,
    users: Sequence[Any] | None = None,
    times: Sequence[Sequence[float]] | None = None,
    session: str | None = None,
    item: str | None = None,
    time: str | None = None,
    user: str | None = None,
    exclude: Items | Sequence[Items] | None = None,
    allow: Items | Sequence[Items] | None = None,
    exclude_seen: bool = False,
    as_frame: bool = False,
    batch_size: int = 512,
) -> Lists | pd.DataFrame:
    """The ``k`` best items of every session, best first, in the user's own ids.

    Ids are mapped by ``model.catalog``; a model without one uses integers ``0..num_items-1``.
    Unknown items and users are skipped, and a warning counts them. A session without any known
    item, or an empty list, gets the most popular items, with their share of training clicks as the
    score (:meth:`~graphseq.models.SessionModel.without_history`). Items that tie by the rule of
    :mod:`graphseq.models.use.ties` have the same score and are ordered by code. Items with score
    ``-inf`` are not recommended, so that a list may be shorter than ``k``. Items that
    :meth:`~graphseq.models.SessionModel.delist` named are never recommended.

    Args:
        model: Any model.
        sessions: Lists, arrays or tensors of item ids, oldest click first; :class:`Sessions`; or
            any log that :meth:`Sessions.from_frame` takes, with the model's click features if it
            has them. Results are in the order in which sessions first appear.
        k: Number of items to recommend; all items if the catalog or ``allow`` has fewer.
        users: The user of each session, by id, [num_sessions].
        times: Of sessions that come as lists, the time of each click, for models that read times;
            in the unit of the training log.
        session, item, time, user: Names of the log's columns; ``None``: ``session_id``, ``item_id``
            and, if they exist, ``time`` and ``user_id``.
        exclude: Items never to recommend: ids; a boolean mask [num_items] in the order of codes; a
            boolean Series by item id; a rule on item features, ``{"category": "shoes"}`` (see
            :class:`~graphseq.models.ItemFilter`); or an ``ItemFilter``. The same for all sessions,
            or a list of these, one per session.
        allow: Items to choose from, in the same forms. No item: no recommendation.
        exclude_seen: Whether the items of the session itself are left out.
        as_frame: Whether to return a frame.
        batch_size: Maximum number of sessions scored at once.

    Returns:
        One list per session of ``(item id, score)``. With ``as_frame`` one row per recommendation
        in the order of sessions and ranks: ``session_id`` (the caller's own, or its number),
        ``rank`` from 1, ``item_id``, ``score``, and ``fallback``, whether the session had no known
        item; the columns of sessions and items have the names of ``session`` and ``item``, if
        given. Sessions that :meth:`Sessions.from_events` made have no names: ``user_id``, ``start``
        and ``end`` (in seconds) follow their number.

    Raises:
        ValueError: If an argument is out of range or does not match the sessions, or no id in
            ``allow`` is known. Also if a session has no known item and the model has no catalog, or
            a score is NaN.
        TypeError: If ``model`` is not a model.
    """
    if not isinstance(model, SessionModel):
        raise TypeError(
            "recommend takes the model first, then the sessions, got "
            f"{type(model).__name__} and {type(sessions).__name__}."
        )
    k, batch_size = whole("k", k), whole("batch_size", batch_size)
    exclude_seen = flag("exclude_seen", exclude_seen)
    as_frame = flag("as_frame", as_frame)
    if k > model.num_items:
        logger.warning(
            "k=%d is larger than the catalog: all of its %d items are ranked.", k, model.num_items
        )
    vocabulary = item_vocabulary(model)
    queries = read_queries(
        model,
        sessions,
        users,
        vocabulary,
        {"session": session, "item": item, "time": time, "user": user},
        times,
    )
    hidden = None if exclude is None else read_items(model, exclude, queries.size, "exclude")
    allowed = None if allow is None else read_items(model, allow, queries.size, "allow")
    if model.catalog is not None and len(model.catalog.delisted):
        allowed, hidden = without(model.catalog.delisted, allowed, hidden)
    number, code, score = ranked(model, queries, k, hidden, allowed, exclude_seen, batch_size)
    ends = np.searchsorted(
        number, np.arange(queries.size + 1)
    )  # the first position of each session
    if as_frame:
        rank, fallback = np.arange(len(number)) - ends[number] + 1, np.diff(queries.ptr) == 0
        named = {"session": session, "item": item}
        return frame_of(queries, vocabulary, number, rank, code, score, fallback, named)
    pairs = list(zip(vocabulary.decode(code), score.tolist(), strict=True))
    return [pairs[i:j] for i, j in pairwise(ends.tolist())]


def frame_of(
    queries: Queries,
    vocabulary: Vocabulary,
    number: NDArray[np.int64],
    rank: NDArray[np.int64],
    code: NDArray[np.int64],
    score: NDArray[np.floating[Any]],
    fallback: NDArray[np.bool_],
    named: Mapping[str, str | None],
) -> pd.DataFrame:
    """One row per recommendation, as :func:`recommend` describes it.

    Args:
        queries: The sessions.
        vocabulary: The ids of the codes.
        number, rank, code, score: Session, rank from 1, item and score of each row, [n].
        fallback: Whether a session was answered by popularity, [num_sessions].
        named: Names of the columns ``session`` and ``item``, if given.
    """
    columns = {
        named.get("session") or "session_id": pd.Series(queries.names).take(number).array,
        **({} if queries.told is None else queries.told.take(number).reset_index(drop=True)),
        "rank": rank,
        named.get("item") or "item_id": vocabulary.ids.take(code).array,
        "score": score,
        "fallback": fallback[number],
    }
    return pd.DataFrame(columns)


def ranked(
    model: SessionModel,
    queries: Queries,
    k: int,
    hidden: ItemLists | None = None,
    allowed: ItemLists | None = None,
    exclude_seen: bool = False,
    batch_size: int = 512,
    vectors: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.floating[Any]]]:
    """Session, item code and score of all recommendations, by session and rank, [n] each.

    With ``vectors`` [num_sessions, hidden_channels], the model's item table scores these, and the
    clicks only tell which sessions have a known item.
    """
    candidates = outside = None
    if allowed is not None and allowed.ptr is None:
        codes = torch.from_numpy(allowed.codes)  # ascending, so that column order is code order
        at_once = min(queries.size, batch_size)
        if len(codes) * (at_once + PICKED) <= at_once * model.num_items:
            candidates = codes
        else:
            outside = torch.ones(model.num_items, dtype=torch.bool).index_fill_(0, codes, False)
    num_columns = model.num_items if candidates is None else len(candidates)
    nothing = np.empty(0, dtype=np.int64)
    if num_columns == 0 or queries.size == 0:
        return nothing, nothing, np.empty(0, dtype=np.float32)
    rows = max(1, min(batch_size, MAX_SCORES // num_columns))

    def hide(scores: Tensor, start: int, stop: int) -> None:
        if outside is not None:
            scores.masked_fill_(outside, -torch.inf)
        elif allowed is not None and allowed.ptr is not None:
            others = torch.ones_like(scores, dtype=torch.bool)
            others[allowed.cells(start, stop, candidates)] = False
            scores[others] = -torch.inf
        if hidden is not None:
            scores[hidden.cells(start, stop, candidates)] = -torch.inf
        if exclude_seen:
            seen = ItemLists(queries.items, queries.ptr)
            scores[seen.cells(start, stop, candidates)] = -torch.inf

    found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]] = []
    with inference(model):
        for part in blocks(np.diff(queries.ptr), rows):
            for place, scores, ties in _scored(model, queries, part, candidates, vectors):
                hide(scores, part.start, part.stop)
                row, column, value = stable_topk(scores[place], k, **ties)
                code = column if candidates is None else candidates[column]
                found.append(
                    ((place[row] + part.start).numpy(), code.numpy(), value.double().numpy())
                )
    number, codes_found, scores_found = (
        np.concatenate(parts) for parts in zip(*found, strict=True)
    )
    order = np.argsort(number, kind="stable")  # sessions without a known item come last in a block
    return number[order], codes_found[order], scores_found[order]


def stable_topk(
    scores: Tensor,
    k: int,
    *,
    tolerance: Tolerance | None = None,
    share: Callable[[Tensor, Tensor, Tensor], bool] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The ``k`` highest scores of every row, ties in the order of columns, ``-inf`` left out.

    Args:
        scores: [n, C]; ``share`` writes to them.
        k: At least 1.
        tolerance: Maximum distance of equal scores; ``None``: scores must be bit-equal.
        share: Function that gives equal items one score in place, and returns whether it changed
            any. Its arguments are all scores, the best ones [n, k], descending, and their columns.

    Returns:
        Row, column and score of the chosen items, best first in each row, [at most n * k] each; the
        score of a tie is its highest.
    """
    k = min(k, scores.shape[1])
    values, column = scores.topk(k)  # [n, k]
    if share is not None and share(scores, values, column):
        values, column = scores.topk(k)
    exact = torch.zeros_like
    lead = leaders(values, exact(values) if tolerance is None else tolerance(values, scores))
    last = lead[:, -1:]
    reach = exact(last) if tolerance is None else tolerance(last, scores)

    rank = torch.nn.functional.pad((lead[:, 1:] != lead[:, :-1]).cumsum(1), (1, 0))
    floor = last - reach
    if bool((rank[:, -1] < k - 1).any()) or bool((num_reached(scores, floor) > k).any()):
        # All items of the tie at the last place are compared, including items beyond that place.
        level = (scores >= floor) & (scores <= last) & (scores > -torch.inf)  # [n, C]
        before = (lead > last).sum(1, keepdim=True)
        room = k - before
        crowded = (level.sum(1, keepdim=True) > room).view(-1).nonzero().view(-1)
        level[crowded] &= level[crowded].cumsum(1, dtype=torch.int32) <= room[crowded]
        row, tied = level.nonzero(as_tuple=True)
        turn = torch.arange(len(row), device=row.device)
        first = torch.searchsorted(row, torch.arange(len(scores), device=row.device))
        column[row, before.view(-1)[row] + turn - first[row]] = tied
        column = (rank * scores.shape[1] + column).sort(1).values % scores.shape[1]
    row, place = (lead > -torch.inf).nonzero(as_tuple=True)
    return row, column[row, place], lead[row, place]


def item_vocabulary(model: SessionModel) -> Vocabulary:
    """The ids of a model: the ids of its catalog, or integers ``0..num_items-1``."""
    if model.catalog is None:
        return Vocabulary(pd.RangeIndex(model.num_items))
    return model.catalog.items


def _scored(
    model: SessionModel,
    queries: Queries,
    part: slice,
    candidates: Tensor | None,
    vectors: NDArray[np.float32] | None,
) -> Iterator[tuple[Tensor, Tensor, dict[str, Any]]]:
    """Scores of some sessions on the CPU; popularity for sessions without a known item.

    Yields:
        Which of the sessions, int64 [n]; scores of all of them, [stop - start, C], of which these
        rows count and which may be modified; and the rule for their ties.
    """
    size = part.stop - part.start
    if vectors is None:
        batch, answered = queries.batch(part.start, part.stop)
        given, ties = (None, {}) if batch is None else _of_model(model, batch, candidates)
    else:
        answered = np.flatnonzero(np.diff(queries.ptr[part.start : part.stop + 1]))
        known = torch.from_numpy(np.ascontiguousarray(vectors[part.start + answered]))
        given, ties = _of_vectors(model, known.to(model.device), candidates)
    place = torch.from_numpy(answered)
    if given is not None and len(place):
        # The sum is NaN if a score is NaN, or if both infinities occur, and is much cheaper to
        # check.
        if bool(given.sum().isnan()) and bool(given.isnan().any()):
            raise ValueError(
                f"{type(model).__name__} gave a score that is not a number: were its weights "
                "trained with too high a learning rate?"
            )
        scores = given.clone()
        if len(place) < size:
            scores = given.new_zeros(size, given.size(1)).index_copy_(0, place, given)
        yield place, scores, ties
    empty = np.setdiff1d(np.arange(size), answered)
    if len(empty) == 0:
        return
    if model.catalog is None:
        raise ValueError(
            f"Session {part.start + int(empty[0])} has no item that the model knows, and the model "
            "has no catalog to tell what is popular: set model.catalog = train.catalog()."
        )
    share = model.without_history().cpu()
    share = share if candidates is None else share[candidates]
    yield torch.from_numpy(empty), share.repeat(size, 1), {}


def _of_model(
    model: SessionModel, batch: Batch, candidates: Tensor | None
) -> tuple[Tensor, dict[str, Any]]:
    """Scores of session graphs, [num_sessions, C], and the rule for their ties."""
    device = model.device
    if model.max_length is not None:
        batch = newest_clicks(batch, model.max_length)
    batch = batch.to(device)
    wanted = None if candidates is None else candidates.to(device)
    if not model.scores_by_table:
        given = model.score(batch, wanted)
        columns = model.num_items if candidates is None else len(candidates)
        if list(given.shape) != [batch.num_graphs, columns]:
            raise ValueError(
                f"{type(model).__name__}.score must give shape {[batch.num_graphs, columns]} here, "
                f"got {list(given.shape)}."
            )
        return given.cpu(), {"tolerance": model.score_tolerance}
    return _of_vectors(model, model(batch), wanted)


def _of_vectors(
    model: SessionModel, vectors: Tensor, candidates: Tensor | None
) -> tuple[Tensor, dict[str, Any]]:
    """Scores of session vectors by the item table, and the rule for their ties."""
    device = vectors.device
    wanted = None if candidates is None else candidates.to(device)

    def rows(columns: Tensor) -> tuple[Tensor, Tensor | None]:
        items = columns.to(device) if wanted is None else wanted[columns.to(device)]
        bias = model.items.bias
        return model.items.rows(items), None if bias is None else bias[items]

    return model.items.scores(vectors, wanted).cpu(), {"share": TableTies(vectors, rows).share}
