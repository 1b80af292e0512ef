"""Index arithmetic of ragged arrays: sessions by number, windows of sessions as clicks."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphseq.ragged import ptr_of, ragged_arange

CODES_PER_PIECE = 1 << 22
"""Number of codes that NumPy copies to 64 bits at once."""


def session_numbers(index: ArrayLike, num_sessions: int) -> NDArray[np.int64]:
    """Session numbers ``0..num_sessions-1`` from an index (negative: from the end) or a mask.

    Args:
        index: int [n], or bool [num_sessions].
        num_sessions: Number of sessions.

    Raises:
        ValueError: If the mask has another length, or the index is not an integer or out of range.
    """
    index = np.asarray(index)
    if index.dtype == bool:
        if index.shape != (num_sessions,):
            raise ValueError(
                f"A mask over sessions must be bool [{num_sessions}], got {list(index.shape)}."
            )
        return np.flatnonzero(index)
    if index.ndim != 1 or (index.size and index.dtype.kind not in "iu"):
        raise ValueError(
            f"Session numbers are int [n], or a mask, got {index.dtype} {list(index.shape)}."
        )
    index = index.astype(np.int64)
    outside = (index < -num_sessions) | (index >= num_sessions)
    if outside.any():
        raise ValueError(
            f"Session {index[np.argmax(outside)]} does not exist: there are {num_sessions} "
            f"({int(outside.sum())} such in all)."
        )
    return np.where(index < 0, index + num_sessions, index)


def window_clicks(
    ptr: NDArray[np.int64],
    index: NDArray[np.int64],
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
) -> tuple[NDArray[np.int64], slice | NDArray[np.int64]]:
    """Clicks ``start..stop-1`` of each of these sessions.

    Args:
        ptr: First click of each session, and the end, [num_sessions + 1].
        index: Numbers of sessions, [n].
        start, stop: Positions within the session, [n].

    Returns:
        The pointer of the windows, int64 [n + 1], and the places of their clicks in the flat
        arrays: a slice, without a copy, if they are adjacent and in order, else an index.

    Raises:
        ValueError: If a window is empty or outside its session.
    """
    lengths = stop - start
    first = ptr[index] + start
    outside = (start < 0) | (lengths <= 0) | (first + lengths > ptr[index + 1])
    if outside.any():
        bad = int(np.argmax(outside))
        raise ValueError(
            f"A window must lie in its session and hold a click, but of session {index[bad]} with "
            f"{ptr[index[bad] + 1] - ptr[index[bad]]} clicks, {start[bad]}..{stop[bad]} were asked "
            f"for ({int(outside.sum())} such in all)."
        )
    window_ptr = ptr_of(lengths)
    if len(index) and (first[1:] == first[:-1] + lengths[:-1]).all():
        return window_ptr, slice(int(first[0]), int(first[0] + window_ptr[-1]))
    return window_ptr, ragged_arange(first, lengths)


def count_codes(codes: NDArray[np.int32], size: int) -> NDArray[np.int64]:
    """How often each code ``0..size - 1`` occurs, int64 [size]; counted piece by piece.

    Args:
        codes: Codes, -1 for none, int32 [n].
        size: Number of codes.
    """
    counts = np.zeros(size + 1, dtype=np.int64)
    for start in range(0, len(codes), CODES_PER_PIECE):
        piece = codes[start : start + CODES_PER_PIECE]
        counts += np.bincount(piece + 1, minlength=size + 1)  # 0: none
    return counts[1:]
