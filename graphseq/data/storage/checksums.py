"""Checksums of written data, compared when it is read."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

STEP = 1 << 22
"""Number of bytes that are read or hashed at once."""


def bytes_of(array: NDArray[Any]) -> memoryview:
    """The bytes of an array, not copied if it is contiguous."""
    data: Any = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return memoryview(data)


def checksum(data: bytes | NDArray[Any]) -> str:
    """XXH3-128, in hex, of bytes or of the bytes of an array.

    It detects damage and mixtures at the speed of memory; it is not a signature.
    """
    view = memoryview(data) if isinstance(data, bytes) else bytes_of(data)
    digest = xxhash.xxh3_128()
    for start in range(0, len(view), STEP):
        digest.update(view[start : start + STEP])
    return digest.hexdigest()


def checksum_of_file(handle: int) -> str:
    """The checksum of an open file; read, not mapped, since it may be truncated meanwhile."""
    digest = xxhash.xxh3_128()
    buffer = bytearray(STEP)
    view, at = memoryview(buffer), 0
    while count := os.preadv(handle, [buffer], at):
        digest.update(view[:count])
        at += count
    return digest.hexdigest()
