"""One file with named arrays and a tree of plain values, each with a checksum."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from os import PathLike
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphseq.data.storage.arrays import dtype_named, savable
from graphseq.data.storage.checksums import bytes_of, checksum
from graphseq.data.storage.documents import (
    MOST_BYTES,
    json_text,
    open_regular,
    parse_json,
    replacing_file,
    seal,
    unseal,
)
from graphseq.data.storage.folders import shape
from graphseq.data.storage.rules import Rule, anything, mapping_of, record, text

ALIGNMENT = 64
"""Arrays begin at multiples of this number of bytes, so that they can be mapped."""

MARK = "$"
"""The key that distinguishes values without a JSON form from mappings."""

VIEWED: dict[torch.dtype, torch.dtype] = {torch.bfloat16: torch.int16}
"""Tensor types that NumPy lacks, and the type of their written bytes."""


def write_file(
    path: str | PathLike[str], format: str, version: int, content: Mapping[str, Any]
) -> None:
    """Writes plain values, arrays and tensors, nested in mappings, lists and tuples, to one file.

    The file begins with a header, a line of JSON: the values, and type, shape, place and checksum
    of each array. The bytes of the arrays follow. It is written to a temporary file, made durable,
    and then renamed in one step.

    Args:
        path: The file; its folder must exist.
        format, version: The format and version that :func:`read_file` expects.
        content: The values. Keys may be text, numbers or ``None``; values ``None``, booleans,
            numbers, text, dense tensors of any device, and arrays of numbers.

    Raises:
        ValueError: If something in the content cannot be written.
        OSError: If the file cannot be written, as when the disk is full.
    """
    arrays: list[Tensor | NDArray[Any]] = []
    tree = _packed(dict(content), arrays, {})
    with replacing_file(path) as file:
        _write(file, format, version, tree, arrays)


def read_file(
    path: str | PathLike[str],
    format: str,
    version: int,
    made_by: str,
    *,
    rules: Mapping[str, Rule] | None = None,
    verify: bool = True,
) -> dict[str, Any]:
    """Reads a file of :func:`write_file`, with tensors on the CPU; no code is ever run.

    Tensors and arrays are memory-mapped; writing to them changes memory only, never the file.

    Args:
        path: The file; a link is followed.
        format, version: The expected ones.
        made_by: The function that makes such files, for errors.
        rules: Key of the content -> its rule.
        verify: Whether checksums of arrays are compared.

    Raises:
        ValueError: If it is missing, not a regular file, of another format or version, cut off,
            damaged, or a value breaks its rule.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        line = file.readline(MOST_BYTES)
        if not line.startswith(b"{") or not line.endswith(b"\n"):
            raise ValueError(f"{path} is not a {format} file, or truncated: {made_by} makes one.")
        header = unseal(parse_json(line, path), format, version, HEADER, path, made_by)
        broken = f"{path} is broken or cut off: make it again with {made_by}"
        mapped: dict[str, NDArray[Any]] = {}
        at = len(line)
        end, places = _places(at, header["arrays"])
        if os.fstat(file.fileno()).st_size != end:
            raise ValueError(
                f"{broken} (it has {os.fstat(file.fileno()).st_size:,} bytes, not {end:,})."
            )
        for name, about in header["arrays"].items():
            array = _mapped(file, places[name], np.dtype(about["dtype"]), about["shape"])
            if verify and checksum(array) != about["checksum"]:
                raise ValueError(f"{broken} (the checksum of a part differs).")
            mapped[name] = array
    try:
        content = _unpacked(header["content"], mapped)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise ValueError(f"{broken} ({str(error).rstrip('.')}).") from error
    if not isinstance(content, dict):
        raise ValueError(f"{broken} (its content is not a mapping).")
    for name, rule in (rules or {}).items():
        if name not in content:
            raise ValueError(f"{path} lacks {name}: make it again with {made_by}.")
        rule(content[name], f"{name} of {path}")
    return content


def _dtype(value: Any, where: str) -> None:
    dtype_named(value, where)


HEADER: dict[str, Rule] = {
    "content": anything(),
    "arrays": mapping_of(record({"dtype": _dtype, "shape": shape, "checksum": text()})),
}


def _write(
    file: BinaryIO, format: str, version: int, tree: Any, arrays: list[Tensor | NDArray[Any]]
) -> None:
    """Writes arrays one by one, so that arrays of a GPU are not all in memory; then the header."""
    about: dict[str, dict[str, Any]] = {}
    for number, array in enumerate(arrays):
        dtype = _numpy_type(array)
        about[str(number)] = {"dtype": dtype.str, "shape": list(array.shape), "checksum": "0" * 32}
    content = {"content": tree, "arrays": about}
    start = len(_header(content, format, version))
    end, places = _places(start, about)
    for name, array in zip(about, arrays, strict=True):
        values = _as_numpy(array)
        about[name]["checksum"] = checksum(values)
        file.seek(places[name])
        file.write(bytes_of(values))
    file.truncate(end)
    file.seek(0)
    header = _header(content, format, version)
    assert len(header) == start
    file.write(header)


def _header(content: Mapping[str, Any], format: str, version: int) -> bytes:
    return (json_text(seal(content, format, version)) + "\n").encode()


def _places(start: int, arrays: Mapping[str, Any]) -> tuple[int, dict[str, int]]:
    """Start of each array after the header, and the end of the last one."""
    places = {}
    for name, about in arrays.items():
        size = np.dtype(about["dtype"]).itemsize * math.prod(about["shape"])
        if size:
            start = -(-start // ALIGNMENT) * ALIGNMENT
        places[name] = start
        start += size
    return start, places


def _mapped(file: BinaryIO, at: int, dtype: np.dtype[Any], shape: list[int]) -> NDArray[Any]:
    if math.prod(shape) == 0:
        return np.empty(shape, dtype)
    return np.memmap(file, dtype=dtype, mode="c", offset=at, shape=tuple(shape))


def _numpy_type(array: Tensor | NDArray[Any]) -> np.dtype[Any]:
    if isinstance(array, np.ndarray):
        return array.dtype
    kind = VIEWED.get(array.dtype, array.dtype)
    return np.dtype(torch.empty(0, dtype=kind).numpy().dtype)


def _as_numpy(array: Tensor | NDArray[Any]) -> NDArray[Any]:
    if isinstance(array, np.ndarray):
        return array
    tensor = array.detach().cpu().contiguous()
    kind = VIEWED.get(tensor.dtype)
    values: NDArray[Any] = (tensor if kind is None else tensor.view(kind)).numpy()
    return values


def _packed(value: Any, arrays: list[Tensor | NDArray[Any]], seen: dict[Any, str]) -> Any:
    """A value as JSON; arrays are moved to a list, each only once."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {MARK: "float", "value": repr(value)}
    if isinstance(value, Tensor):
        return _packed_tensor(value, arrays, seen)
    if isinstance(value, np.ndarray):
        arrays.append(savable(value, "An array"))
        return {MARK: "array", "at": str(len(arrays) - 1)}
    if isinstance(value, tuple):
        return {MARK: "tuple", "values": [_packed(each, arrays, seen) for each in value]}
    if isinstance(value, list):
        return [_packed(each, arrays, seen) for each in value]
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value) and MARK not in value:
            return {key: _packed(each, arrays, seen) for key, each in value.items()}
        pairs = [[_packed(k, arrays, seen), _packed(v, arrays, seen)] for k, v in value.items()]
        return {MARK: "mapping", "pairs": pairs}
    raise ValueError(f"A {type(value).__name__}, {value!r:.60}, cannot be written to a file.")


def _packed_tensor(
    tensor: Tensor, arrays: list[Tensor | NDArray[Any]], seen: dict[Any, str]
) -> dict[str, Any]:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex():
        raise ValueError(f"A tensor of {tensor.layout} {tensor.dtype} cannot be written to a file.")
    savable(np.empty(0, _numpy_type(tensor)), "A tensor")
    place = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride(), tensor.device)
    if tensor.numel() == 0 or place not in seen:
        arrays.append(tensor)
        seen[place] = str(len(arrays) - 1)
    packed = {MARK: "tensor", "at": seen[place]}
    return packed if tensor.dtype not in VIEWED else {**packed, "dtype": str(tensor.dtype)}


def _unpacked(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    if isinstance(value, list):
        return [_unpacked(each, arrays) for each in value]
    if not isinstance(value, dict):
        return value
    kind = value.get(MARK)
    if kind is None:
        return {key: _unpacked(each, arrays) for key, each in value.items()}
    if kind == "float":
        if value["value"] not in ("nan", "inf", "-inf"):
            raise ValueError(f"{value['value']!r:.60} is not a float")
        return float(value["value"])
    if kind == "array":
        return arrays[value["at"]]
    if kind == "tuple":
        return tuple(_unpacked(each, arrays) for each in value["values"])
    if kind == "mapping":
        return {_unpacked(key, arrays): _unpacked(each, arrays) for key, each in value["pairs"]}
    if kind == "tensor":
        tensor = torch.from_numpy(arrays[value["at"]])
        names = {str(dtype): dtype for dtype in VIEWED}
        return tensor.view(names[value["dtype"]]) if "dtype" in value else tensor
    raise ValueError(f"{kind!r:.60} is not a kind of value")
