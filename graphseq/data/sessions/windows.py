"""Splits long histories into overlapping windows, so that each click is predicted once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from graphseq.arguments import whole
from graphseq.data.sessions.sessions import Sessions, only_sessions


def sliding_windows(sessions: Sessions, length: int, stride: int | None = None) -> Sessions:
    """Windows of at most ``length`` clicks, placed from the end of each session, oldest first.

    Each target of a session is a target of exactly one window. It has at least ``length - stride``
    clicks before it, if the session has them. The authors' code of BERT4Rec (Sun et al., CIKM 2019)
    splits long histories in the same way. Use it for training parts: evaluation needs no windows.
    Clicks in several windows are copied, at most ``length / stride`` times.

    Args:
        sessions: Training sessions.
        length: Maximum number of clicks per window, including its targets, at least 2.
        stride: Clicks from one window to the next, 1 to ``length - 1``; ``None``: half of
            ``length``.

    Raises:
        ValueError: If a number is out of range.
    """
    only_sessions("sessions", sessions)
    length = whole("length", length, at_least=0)
    if length < 2:
        raise ValueError(f"length must be at least 2 clicks, one of them a target, got {length}.")
    stride = length // 2 if stride is None else stride
    if not 1 <= whole("stride", stride, at_least=0) < length:
        raise ValueError(f"stride lies in 1..{length - 1}, below length, got {stride}.")
    lengths, first_target = sessions.lengths, sessions.targets_from
    # Windows end at the session's end, and every stride before it as long as targets are left.
    more = -(-np.maximum(lengths - length, 0) // stride)
    windows = 1 + more  # [num_sessions]
    session = np.repeat(np.arange(sessions.num_sessions), windows)
    place = np.arange(len(session)) - np.repeat(np.cumsum(windows) - windows, windows)
    stop = lengths[session] - stride * (more[session] - place)
    start = np.maximum(stop - length, 0)
    # Targets before this one belong to the window before.
    first = np.where(place == 0, 1, stop - stride)
    first = np.maximum(first, first_target[session])
    kept = first < stop
    cut = sessions.window(session[kept], start[kept], stop[kept])
    return replace(cut, first_target=(first - start)[kept])
