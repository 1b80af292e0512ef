"""Random orders of many samples, computed only at the requested places."""

from __future__ import annotations

from math import isqrt

import numpy as np
from numpy.typing import NDArray

ROUNDS = 8
MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
"""Multipliers of splitmix64's finaliser (Steele, Lea and Flood, OOPSLA 2014)."""


class Permutation:
    r"""A random order of ``0..size - 1`` without memory: a Feistel network over pairs.

    A place is a pair :math:`(l, r)` of digits to a base :math:`b` with :math:`b^2 \ge size`. A
    round maps it to :math:`(r, l + F(r) \bmod b)` with a keyed hash :math:`F`, which can be undone.
    All rounds together are therefore a bijection of the pairs. A value outside ``0..size - 1``
    passes through all rounds again until it is inside (cycle walking; Black and Rogaway, CT-RSA
    2002).

    Args:
        size: Number of values.
        sequence: The random sequence that determines the order (:func:`graphseq.random.sequence`).
    """

    def __init__(self, size: int, sequence: np.random.SeedSequence) -> None:
        self.size = size
        self._base = np.uint64(isqrt(max(size - 1, 0)) + 1)
        self._keys = sequence.generate_state(ROUNDS, np.uint64)

    def __call__(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The values at these places, int64 [n].

        Args:
            places: In ``0..size - 1``, int64 [n].
        """
        values = self._rounds(places.astype(np.uint64))
        outside = np.flatnonzero(values >= self.size)
        while len(outside):
            values[outside] = self._rounds(values[outside])
            outside = outside[values[outside] >= self.size]
        return values.astype(np.int64)

    def _rounds(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = np.divmod(values, self._base)
        for key in self._keys:
            mixed = right + key
            for shift, factor in zip((30, 27), MIX, strict=True):
                mixed ^= mixed >> np.uint64(shift)
                mixed *= factor
            mixed ^= mixed >> np.uint64(31)
            left, right = right, (left + mixed % self._base) % self._base
        return left * self._base + right

    def __len__(self) -> int:
        return self.size
