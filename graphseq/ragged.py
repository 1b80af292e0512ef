"""Index arithmetic of ragged arrays: pointers from lengths, and runs of places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray

from graphseq.typing import Ints


@overload
def ptr_of(lengths: torch.Tensor) -> torch.Tensor: ...


@overload
def ptr_of(lengths: NDArray[Any] | Sequence[int]) -> Ints: ...


def ptr_of(lengths: torch.Tensor | NDArray[Any] | Sequence[int]) -> torch.Tensor | Ints:
    """Where each row begins in the flat array of all rows, and the end: int64 [n + 1].

    Args:
        lengths: Entries of each row, integers [n]; or whether each place is kept, bool [n].
    """
    if isinstance(lengths, torch.Tensor):
        return torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    ptr = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=ptr[1:])
    return ptr


def share_of(share: float, lengths: NDArray[Any]) -> NDArray[np.float64]:
    """A share of each length, to round up or down: whole where it is, as 0.07 of 100 is 7.

    Args:
        share: The share.
        lengths: Entries of each row, integers [n].
    """
    exact: NDArray[np.float64] = np.round(share * lengths, 9)  # floats make it 7.000000000000001
    return exact


def ragged_arange(start: NDArray[Any], lengths: NDArray[Any]) -> Ints:
    """``start[0], start[0] + 1, ...``, ``lengths[0]`` of them, then the same from ``start[1]``.

    Args:
        start: First place of each run, integers [n].
        lengths: Places of each run, integers [n].

    Returns:
        int64 [sum of lengths].
    """
    ptr = ptr_of(lengths)
    shift: Ints = np.repeat(start - ptr[:-1], lengths)
    return shift + np.arange(ptr[-1])
