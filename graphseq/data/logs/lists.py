"""Reads sessions from lists, arrays, tensors or columns: one column of ids, and session starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Number
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from graphseq.data.logs.ids import id_column, series_of_arrow
from graphseq.data.logs.memory import column_of
from graphseq.ragged import ptr_of

WAY_OUT = "sessions is a list of sessions, each a list of item ids, oldest first"


def read_lists(sessions: Any, *, empty: bool = False) -> tuple[pd.Series, NDArray[np.int64]]:
    """The ids of all sessions, and the first click of each session.

    Args:
        sessions: A list of lists, arrays, tensors or columns; an array or tensor of two
            dimensions, one session per row; or a column of lists of pandas, polars or Arrow.
        empty: Whether a session may be empty.

    Returns:
        Item ids [num_clicks], as :func:`~graphseq.data.logs.ids.id_column` makes them, and int64
        [num_sessions + 1].

    Raises:
        ValueError: If it is something else, or a session or a click is missing.
    """
    listed = _listed(sessions)
    missing = [n for n, session in enumerate(listed) if _is_missing(session)]
    if missing:
        raise ValueError(
            f"Session {missing[0]} is missing: it is {listed[missing[0]]!r} ({len(missing)} such "
            f"in all); leave it out{', or write []' if empty else ''}."
        )
    for number, session in enumerate(listed):
        if not is_session(session):
            raise ValueError(
                f"{WAY_OUT}, but session {number} is {session!r:.60}: write [[...]] for one "
                "session."
            )
    parts = [_array(session) for session in listed]
    lengths = np.fromiter(map(len, parts), np.int64, count=len(parts))
    if not empty and (lengths == 0).any():
        raise ValueError(
            f"Session {int(np.argmax(lengths == 0))} is empty ({int((lengths == 0).sum())} in "
            "all): leave empty sessions out."
        )
    ptr = ptr_of(lengths)
    kinds = {part.dtype if isinstance(part, np.ndarray) else None for part in parts}
    if len(kinds) == 1 and None not in kinds:
        flat = pd.Series(np.concatenate(parts))
    else:
        flat = column_of([value for part in parts for value in _values(part)])
    flat = flat.rename("item")

    def place(click: int) -> str:
        session = int(np.searchsorted(ptr, click, side="right")) - 1
        return f"click {click - ptr[session]} of session {session}"

    gone = flat.isna().to_numpy()
    if gone.any():
        first = int(np.argmax(gone))
        raise ValueError(
            f"The item of {place(first)} is missing: it is {flat.iloc[first]!r} "
            f"({int(gone.sum())} such in all, counted from 0); leave it out."
        )
    return id_column(flat, what="item column", place=place), ptr


def _listed(sessions: Any) -> list[Any]:
    """The sessions, one by one."""
    if isinstance(sessions, (str, bytes, Mapping, set, frozenset, Number)) or sessions is None:
        raise ValueError(f"{WAY_OUT}; got {_short(sessions)}.")
    if hasattr(sessions, "columns") or isinstance(sessions, pa.RecordBatch):
        raise ValueError(
            f"{WAY_OUT}; got {_short(sessions)}: Sessions.from_frame reads logs with a click a row."
        )
    if hasattr(sessions, "detach"):
        sessions = sessions.detach().cpu().numpy()
    if isinstance(sessions, np.ndarray) and sessions.dtype != object:
        if sessions.ndim != 2:
            raise ValueError(
                f"{WAY_OUT}; got an array of the shape {list(sessions.shape)}: write [...] around "
                "it for one session."
            )
        return list(sessions)
    if hasattr(sessions, "to_arrow") and not isinstance(sessions, pd.Series):  # of polars
        sessions = sessions.to_arrow()
    if isinstance(sessions, pa.ChunkedArray):
        sessions = sessions.combine_chunks()
    if isinstance(sessions, pa.Array):
        if not pa.types.is_nested(sessions.type):
            raise ValueError(f"{WAY_OUT}; got a column of {sessions.type}.")
        return [scalar.values for scalar in sessions]
    if not isinstance(sessions, Iterable):
        raise ValueError(f"{WAY_OUT}; got {_short(sessions)}.")
    return list(sessions)


def _is_missing(session: Any) -> bool:
    return (
        session is None
        or session is pd.NA
        or session is pd.NaT
        or (isinstance(session, float) and session != session)
    )


def is_session(session: Any) -> bool:
    """Whether a value is a list, an array, a tensor or a column of ids."""
    if isinstance(session, (str, bytes, Mapping, set, frozenset)):
        return False
    if hasattr(session, "ndim"):
        return bool(session.ndim == 1)
    return isinstance(session, Iterable)


def _array(session: Any) -> Any:
    """A session as a NumPy array, or as a list if its values are Python objects."""
    if isinstance(session, (list, tuple)):
        return session
    if hasattr(session, "detach"):
        return session.detach().cpu().numpy()
    if isinstance(session, np.ndarray):
        return session
    if isinstance(session, (pa.Array, pa.ChunkedArray)):
        session = series_of_arrow(session, "item")
    elif hasattr(session, "to_arrow") and not isinstance(session, pd.Series):
        session = series_of_arrow(session.to_arrow(), "item")
    if isinstance(session, (pd.Series, pd.Index)):
        plain = isinstance(session.dtype, np.dtype) and session.dtype != object
        return session.to_numpy() if plain else session.tolist()
    return list(session)


def _values(part: Any) -> list[Any]:
    """Single values, as Python numbers or text where possible."""
    if isinstance(part, np.ndarray):
        return list(part) if part.dtype.kind in "mM" else part.tolist()
    return list(part)


def _short(value: Any) -> str:
    text = repr(value).replace("\n", " ")
    text = text if len(text) <= 60 else text[:57] + "..."
    return f"{text} ({type(value).__name__})"
