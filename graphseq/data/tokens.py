"""Text files whose lines are ids between blanks, read in blocks without a Python object an id."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from graphseq.data.tables import BYTES_A_CHUNK, readable


def read_tokens(path: Path) -> tuple[pd.Series, NDArray[np.int64]]:
    """The ids of a text file, compressed or not, and how many each line has.

    Blanks and tabs separate ids. Ids are integers if all are, else text as it stands in the file.

    Returns:
        Ids of all lines [n], and ids a line, int64 [num_lines].

    Raises:
        ValueError: If the file is missing, empty, broken or cut off, or a line of it is empty.
    """
    if not path.is_file():
        raise ValueError(f"There is no file {path}.")
    with readable(path):
        try:
            ids, lengths = _tokens(path, pa.int64())
        except pa.ArrowInvalid:
            ids, lengths = _tokens(path, None)
    if not len(lengths):
        raise ValueError(f"{path} is empty: it needs at least one line of ids.")
    if (lengths == 0).any():
        raise ValueError(
            f"{path} has {int((lengths == 0).sum())} empty lines, the first of them line "
            f"{int(np.argmax(lengths == 0)) + 1}: take them out."
        )
    return ids.to_pandas(), lengths


def _tokens(path: Path, kind: pa.DataType | None) -> tuple[pa.ChunkedArray, NDArray[np.int64]]:
    """The ids, cast to ``kind`` or as text, and ids a line."""
    chunks: list[pa.Array] = []
    lengths = [np.empty(0, dtype=np.int64)]
    for lines in _lines(path):
        lists = pc.utf8_split_whitespace(lines)
        counts = pc.list_value_length(lists).to_numpy()
        tokens = lists.flatten()
        # A blank at either end of a line, and an empty line, make empty ids.
        empty = pc.equal(tokens, "").to_numpy(zero_copy_only=False)
        if empty.any():
            line = np.repeat(np.arange(len(counts)), counts)
            counts = counts - np.bincount(line[empty], minlength=len(counts))
            tokens = tokens.filter(pa.array(~empty))
        chunks.append(tokens.dictionary_encode() if kind is None else tokens.cast(kind))
        lengths.append(counts)
    ids = pa.chunked_array(chunks, type=None if chunks else pa.int64())
    return (ids if kind else ids.unify_dictionaries()), np.concatenate(lengths).astype(np.int64)


def _lines(path: Path) -> Iterator[pa.Array]:
    """Blocks of whole lines, without their ends; no line after the last line end."""
    rest = b""
    stream: Any
    with pa.input_stream(path, compression="detect") as stream:
        while block := stream.read(BYTES_A_CHUNK):
            block = rest + block
            end = block.rfind(b"\n") + 1
            rest = block[end:]
            if end:
                yield _split(block[: end - 1])
    if rest:
        yield _split(rest)


def _split(text: bytes) -> pa.Array:
    lines: pa.Array = pc.split_pattern(pa.array([text.decode()], pa.large_string()), "\n").flatten()
    return lines
