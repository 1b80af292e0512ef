"""Joins the sessions of a user into histories, in which sessions can still be distinguished."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphseq.arguments import whole
from graphseq.data.sessions.ragged import window_clicks
from graphseq.data.sessions.sessions import Sessions, only_sessions
from graphseq.ragged import ptr_of
from graphseq.typing import Ints

SESSION = "session"
"""Click feature of joined histories: which of its history's sessions a click belongs to, from 0."""


def join_sessions(sessions: Sessions) -> Sessions:
    """The sessions of each user in the order of time, as one history.

    For training: any family then looks back over all sessions of the user. The click feature
    ``session`` (``batch.click_session``) is the number of the session within its history; families
    that distinguish sessions, as HGRU4Rec, read it. It is a number and not a mark at the first
    click, so that it stays valid if clicks are left out.

    Clicks of a session stay together even if sessions overlap: the session that starts first comes
    first. With equal times, or without times, the order of the sessions decides. A session whose
    user is unknown (-1) is a separate history. Session ids are dropped.

    A history's targets start with the first target of its first session that has one. From there on
    all clicks are targets, including the first click of a later session, which separate sessions
    cannot predict. :func:`with_history` keeps the targets as they are.

    Args:
        sessions: Sessions with users.

    Returns:
        One history per user, by user code, then the histories of unknown users.

    Raises:
        ValueError: If the sessions name no users or have a click feature ``session`` already. Also
            if clicks between targets are not targets, which one history cannot express.
    """
    _check(sessions)
    assert sessions.users is not None
    users = np.asarray(sessions.users, dtype=np.int64)
    alone = users.max(initial=-1) + 1 + np.arange(len(users))
    owner = np.where(users < 0, alone, users)
    order = np.lexsort((_starts(sessions), owner))
    first = np.flatnonzero(np.diff(owner[order], prepend=-1))  # clicks of each history, in order
    counts = np.diff(first, append=len(order))
    lengths = sessions.lengths[order]
    session_ptr, clicks = window_clicks(sessions.ptr, order, np.zeros_like(order), lengths)
    number = np.arange(len(order)) - np.repeat(first, counts)  # of each session in its history
    ptr = np.append(session_ptr[first], session_ptr[-1])
    first_target = None
    if sessions.first_target is not None:
        first_target = _first_targets(sessions.first_target[order], lengths, session_ptr, first)
    return _gathered(
        sessions,
        clicks,
        ptr,
        np.repeat(number, lengths),
        sessions.users[order[first]],
        first_target,
    )


def with_history(
    sessions: Sessions, history: Sessions | None = None, *, max_clicks: int | None = None
) -> Sessions:
    """Each session with the earlier sessions of its user before it; its targets stay the same.

    For evaluation: the scores can then be compared with the scores of single sessions, target by
    target. Earlier sessions, in ``history`` and in ``sessions``, end before the first click of this
    one, so that nothing later is ever seen. Without times, all sessions of ``history`` are earlier,
    and in ``sessions`` those that come before. Joined clicks carry ``session`` as in
    :func:`join_sessions`.

    Args:
        sessions: Sessions with users, the test part for one.
        history: Further sessions with users, the training part for one.
        max_clicks: Number of newest clicks of the earlier sessions to keep, which limits the cost
            of users with thousands of clicks; ``None``: all.

    Returns:
        One history per session, in the order of ``sessions``.

    Raises:
        ValueError: If either names no users, has a click feature ``session`` already or lacks a
            feature of the other, or ``max_clicks`` is negative.
    """
    _check(sessions)
    if max_clicks is not None:
        max_clicks = whole("max_clicks", max_clicks, at_least=0)
    pool, begin = sessions, 0
    if history is not None:
        _check(history)
        pool, begin = _after(history, sessions), history.num_sessions
    assert pool.users is not None
    start, end = _starts(pool), _ends(pool)
    own = np.arange(begin, pool.num_sessions)  # the sessions themselves, in the pool

    # Ends of all sessions and starts of these in one order. At equal times starts come first: a
    # session that ends with the first click of another is not before it.
    is_end = np.repeat([True, False], [pool.num_sessions, len(own)])
    who = np.concatenate((np.arange(pool.num_sessions), own))
    when = np.concatenate((end, start[own]))
    order = np.lexsort((is_end, when, pool.users[who]))
    place = np.empty_like(order)
    place[order] = np.cumsum(is_end[order])  # ends up to here
    by_end = who[order[is_end[order]]]  # sessions by user, then by end
    stop = place[pool.num_sessions :]  # ends before each session: [num_sessions]
    first = np.searchsorted(pool.users[by_end], pool.users[own], side="left")
    first = np.where(pool.users[own] < 0, stop, first)  # an unknown user has no history

    flat_ptr, flat = window_clicks(pool.ptr, by_end, np.zeros_like(by_end), pool.lengths[by_end])
    flat = np.arange(pool.num_clicks)[flat] if isinstance(flat, slice) else flat
    past = flat_ptr[stop] - flat_ptr[first]  # clicks before each session
    if max_clicks is not None:
        past = np.minimum(past, max_clicks)
    lengths = pool.lengths[own]
    ptr = ptr_of(past + lengths)
    row = np.repeat(np.arange(len(own)), past + lengths)
    position = np.arange(ptr[-1]) - ptr[row]
    before = position < past[row]
    clicks = pool.ptr[own][row] + position - past[row]
    place_in_flat = (flat_ptr[stop] - past)[row[before]] + position[before]
    clicks[before] = flat[place_in_flat]
    number = (stop - first)[row]
    number[before] = np.searchsorted(flat_ptr, place_in_flat, side="right") - 1 - first[row[before]]
    return _gathered(
        pool, clicks, ptr, number, pool.users[own], past + np.maximum(sessions.targets_from, 1)
    )


def _check(sessions: Sessions) -> None:
    only_sessions("sessions", sessions)
    if sessions.users is None:
        raise ValueError("These sessions name no users: read the log with user=.")
    if SESSION in sessions.click_features:
        raise ValueError(
            f"These sessions have a click feature {SESSION!r} already, as joined ones do: join "
            "sessions once, or give that feature another name."
        )


def _starts(sessions: Sessions) -> NDArray[Any]:
    """The key that orders sessions: time of the first click, or their number."""
    if sessions.time is None:
        return np.arange(sessions.num_sessions)
    return np.asarray(sessions.time[sessions.ptr[:-1]])


def _ends(sessions: Sessions) -> NDArray[Any]:
    if sessions.time is None:
        return np.arange(sessions.num_sessions)
    return np.asarray(sessions.time[sessions.ptr[1:] - 1])


def _first_targets(first_target: Ints, lengths: Ints, session_ptr: Ints, first: Ints) -> Ints:
    """Position of the first target of each history; its length if there is none."""
    target = np.maximum(first_target, 1)
    history = np.repeat(np.arange(len(first)), np.diff(first, append=len(lengths)))
    has = np.flatnonzero(target < lengths)
    begins, which = np.unique(history[has], return_index=True)
    opening = np.full(len(first), len(lengths))  # the first session with a target
    opening[begins] = has[which]
    torn = (np.arange(len(lengths)) > opening[history]) & (target > 1)
    if torn.any():
        raise ValueError(
            f"{int(torn.sum())} sessions have clicks that are not targets after targets of their "
            "user's earlier sessions: one history cannot hold them, with_history can."
        )
    ends = np.append(session_ptr[first[1:]], session_ptr[-1])
    made = ends - session_ptr[first]
    place = opening[begins]
    made[begins] = session_ptr[place] + target[place] - session_ptr[first[begins]]
    return made


def _after(history: Sessions, sessions: Sessions) -> Sessions:
    """Both parts in one, history first, in the codes of ``sessions``."""
    history = history.with_vocabulary(sessions.vocabulary)
    history = history.with_feature_vocabularies(sessions.feature_vocabularies)
    if sessions.user_vocabulary is not None and history.user_vocabulary is not None:
        history = history.with_user_vocabulary(sessions.user_vocabulary)
    parts = [replace(part, session_ids=None, first_target=None) for part in (history, sessions)]
    try:
        return Sessions.concat(parts)
    except ValueError as error:
        raise ValueError(
            f"The history, parts[0], does not fit the sessions, parts[1]: {error}"
        ) from error


def _gathered(
    sessions: Sessions,
    clicks: slice | Ints,
    ptr: Ints,
    number: Ints,
    users: NDArray[np.int32],
    first_target: Ints | None,
) -> Sessions:
    features = {name: values[clicks] for name, values in sessions.click_features.items()}
    return replace(
        sessions,
        items=sessions.items[clicks],
        ptr=ptr,
        time=None if sessions.time is None else sessions.time[clicks],
        users=users,
        click_features={**features, SESSION: number.astype(np.int32)},
        session_ids=None,
        first_target=first_target,
    )
