"""Arrays of numbers in ``.npy`` files: written piece by piece, memory-mapped when read."""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

ALLOWED = re.compile(r"[<|](b1|u1|i1|[iu][248]|f[248])|<[Mm]8\[(D|s|ms|us|ns)\]")
"""Types of arrays that are saved: numbers, dates and durations in one byte order; no objects."""


def dtype_named(name: Any, where: str) -> np.dtype[Any]:
    """The type of an array, by its name in a file.

    Raises:
        ValueError: If it is not a type that can be saved.
    """
    if not isinstance(name, str) or ALLOWED.fullmatch(name) is None:
        raise ValueError(f"{where} has a type that is not read, {name!r:.60}.")
    return np.dtype(name)


def savable(array: NDArray[Any], name: str) -> NDArray[Any]:
    """An array, contiguous and in little-endian order.

    Raises:
        ValueError: If it holds Python objects or has another type that cannot be saved.
    """
    if array.dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, which are not saved: give it a type.")
    array = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    if ALLOWED.fullmatch(array.dtype.str) is None:
        raise ValueError(f"{name} is of type {array.dtype}, which is not saved.")
    return array


class ArrayFile:
    """A one-dimensional array written piece by piece to a new file.

    Args:
        path: The file, ``<name>.npy``.
        dtype: Type of the numbers.
        size: Expected number of values, checked at the end, if given.
    """

    def __init__(self, path: Path, dtype: DTypeLike, size: int | None = None) -> None:
        self.path, self.dtype, self.expected = path, np.dtype(dtype), size
        self.size = 0

    def __enter__(self) -> ArrayFile:
        """Opens the file to append to."""
        self._file: BinaryIO = self.path.open("wb")
        self._file.write(npy_start(self.dtype, (0,)))
        return self

    def append(self, values: NDArray[Any]) -> None:
        """Adds values [n]."""
        values = np.ascontiguousarray(values, dtype=self.dtype)
        self._file.write(values.view(np.uint8).data if values.dtype.kind in "Mm" else values.data)
        self.size += len(values)

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        try:
            if error is None:
                if self.expected not in (None, self.size):
                    raise ValueError(f"{self.path} got {self.size} values, not {self.expected}.")
                self._file.seek(0)
                self._file.write(npy_start(self.dtype, (self.size,)))
        finally:
            self._file.close()


def npy_start(dtype: np.dtype[Any], shape: Sequence[int]) -> bytes:
    """The header of a ``.npy`` file of this type and shape, with the same size for any length."""
    buffer = io.BytesIO()
    header = {"descr": dtype.str, "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()


def num_bytes(dtype: np.dtype[Any], shape: Sequence[int]) -> int:
    """Size in bytes of a ``.npy`` file of this type and shape."""
    return len(npy_start(dtype, shape)) + dtype.itemsize * math.prod(shape)


def map_array(handle: int, dtype: np.dtype[Any], shape: Sequence[int], shown: str) -> NDArray[Any]:
    """The array in an open ``.npy`` file of known type and shape, memory-mapped and read only.

    The file is not trusted: it must have the size that type and shape imply, and NumPy's header for
    them.

    Args:
        handle: The file; it stays open.
        dtype, shape: The expected ones.
        shown: Name of the file in errors.

    Raises:
        ValueError: If the file is of another size, type or shape.
    """
    start, size = npy_start(dtype, shape), num_bytes(dtype, shape)
    found = os.fstat(handle).st_size
    if found != size:
        raise ValueError(f"{shown} is broken or cut off: it has {found:,} bytes, not {size:,}.")
    if os.pread(handle, len(start), 0) != start:
        raise ValueError(f"{shown} is broken: it does not begin as {dtype} {list(shape)} does.")
    if size == len(start):  # nothing to map
        return np.empty(tuple(shape), dtype=dtype)
    with os.fdopen(os.dup(handle), "rb") as file:
        return np.memmap(file, dtype=dtype, mode="r", offset=len(start), shape=tuple(shape))
