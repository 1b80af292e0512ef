"""States of clicks from windows of the newest clicks, for models with a ``max_length``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from graphseq.nn.ragged import ragged_range

CLICKS_AT_ONCE = 65_536
"""Clicks encoded at once if every click has its own window; this bounds memory."""

Encode = Callable[..., Tensor]
"""From clicks [n], the windows' pointer into them and the query places [m] or ``None`` (all), to
states [m, d] or [n, d]."""


def last_states(encode: Encode, start: Tensor, stop: Tensor) -> Tensor:
    """The state after the last click of the windows ``start..stop - 1``, [num_windows, d]."""
    click, ptr = ragged_range(start, stop)
    return encode(click, ptr, ptr[1:] - 1)


def states_of_windows(encode: Encode, ptr: Tensor, max_length: int) -> Tensor:
    """The state after every click, each computed from the ``max_length`` clicks that end with it.

    The first ``max_length`` clicks of a session share a window, which a causal model reads in one
    pass; each later click has its own window.

    Args:
        encode: The model: a state depends only on its own window, and not on later clicks.
        ptr: First click of each session, and the end, int64 [num_sessions + 1].
        max_length: Maximum number of clicks per window.

    Returns:
        [num_clicks, d].
    """
    head, head_ptr = ragged_range(ptr[:-1], torch.minimum(ptr[1:], ptr[:-1] + max_length))
    states = encode(head, head_ptr)
    num_clicks = int(ptr[-1])
    if head.numel() == num_clicks:
        return states
    later = torch.ones(num_clicks, dtype=torch.bool, device=ptr.device)
    later[head] = False
    parts, places = [states], [head]
    for last in torch.split(later.nonzero().view(-1), max(1, CLICKS_AT_ONCE // max_length)):
        parts.append(last_states(encode, last + 1 - max_length, last + 1))
        places.append(last)
    states = torch.cat(parts)
    return torch.empty_like(states).index_copy(0, torch.cat(places), states)


def newest_states(encode: Encode, ptr: Tensor, max_length: int) -> Tensor:
    """The state after the last click of every session, from its newest clicks: [num_sessions, d].

    Args:
        encode, ptr, max_length: As in :func:`states_of_windows`.
    """
    return last_states(encode, torch.maximum(ptr[:-1], ptr[1:] - max_length), ptr[1:])
