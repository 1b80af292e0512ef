"""Rebuilds sessions from published samples, each a prefix and its target."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from graphseq.data.sessions.ragged import window_clicks
from graphseq.data.sessions.sessions import Sessions


def merge_samples(samples: Sessions) -> Sessions:
    """Sessions whose targets, with the clicks before each, are exactly these samples.

    A session of n clicks is published as consecutive samples, with the longest or the shortest
    prefix first. Each run of samples that lose (or gain) one click at the end becomes one session:
    the clicks of its longest sample, with ``first_target`` at the target of its shortest. If a
    sample could join either neighbor, the more common order decides, and at a tie the longest
    prefix comes first. A sample that joins no neighbor is a session by itself, with its last click
    as the only target.

    Args:
        samples: One session per sample: its prefix, then its target.
    """
    first, last = _runs(samples.items, samples.ptr, samples.users)
    lengths = samples.lengths
    longest = np.where(lengths[first] > lengths[last], first, last)
    return replace(
        samples.select(longest), first_target=np.minimum(lengths[first], lengths[last]) - 1
    )


def _runs(
    items: NDArray[np.int32], ptr: NDArray[np.int64], users: NDArray[np.int32] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last sample of each run that loses (or gains) one click per step."""
    lengths = np.diff(ptr)
    step = np.diff(lengths)
    step[np.abs(step) != 1] = 0
    if users is not None:
        step[users[1:] != users[:-1]] = 0
    at = np.flatnonzero(step)
    longer, shorter = np.where(step[at] < 0, (at, at + 1), (at + 1, at))
    start = np.zeros(len(at), dtype=np.int64)
    window, left = window_clicks(ptr, longer, start, lengths[shorter])
    _, right = window_clicks(ptr, shorter, start, lengths[shorter])
    if len(at):
        step[at] *= np.logical_and.reduceat(items[left] == items[right], window[:-1])
    usual = step == (1 if (step > 0).sum() > (step < 0).sum() else -1)
    taken = (
        usual.copy()
    )  # steps next to a step of the common order: their samples already have a neighbor
    taken[1:] |= usual[:-1]
    taken[:-1] |= usual[1:]
    joined = usual | ((step != 0) & ~taken)
    first = np.append(0, np.flatnonzero(~joined) + 1)
    return first, np.append(first[1:] - 1, len(lengths) - 1)
