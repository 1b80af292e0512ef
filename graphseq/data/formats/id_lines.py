"""Reads text files with lines of ids, in blocks, without a Python object per id."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from graphseq.data.logs.dialect import encoding_of
from graphseq.data.logs.ids import INTEGER, integers_of_text, series_of_arrow
from graphseq.data.logs.paths import files_of, open_bytes, readable

CHARACTERS_PER_BLOCK = 1 << 24

SUSPECT = r'[,;|\[\]{}"]|:$'
"""Characters in an id that look like another separator, or like a list."""


EMPTY_ID = -1
"""Marks a line with an empty id, instead of its number of ids."""


def read_tokens(path: Path, separator: str | None = None) -> tuple[pd.Series, NDArray[np.int64]]:
    """Reads the ids of a text file, compressed or not, and the number of ids per line.

    Ids are integers if every one is written as that integer, else text as written.

    Args:
        path: The file.
        separator: Separator of ids; blanks around it are not part of the ids. ``None``: blanks or
            tabs, and an id with a character that may be a separator raises an error. ``" "``:
            blanks or tabs.

    Returns:
        Ids of all lines [n], and ids per line, int64 [num_lines].

    Raises:
        ValueError: If the file is missing, empty, damaged or truncated, or a line or an id is
            empty. Also if other characters seem to separate the ids, or the first line seems to be
            a header.
    """
    if not path.is_file():
        raise ValueError(f"There is no file {path}.")
    chunks: list[pa.Array] = []
    counts = [np.empty(0, dtype=np.int64)]
    for lines in _lines(path):
        tokens, lengths = split_tokens(lines, separator)
        codes = tokens.dictionary_encode()
        if separator is None:
            _refuse_suspects(path, codes, lengths, before=sum(map(len, counts)))
        chunks.append(codes)
        counts.append(lengths)
    lengths = np.concatenate(counts)
    if not len(lengths):
        raise ValueError(f"{path} is empty: it needs at least one line of ids.")
    for number, what in ((0, "empty lines"), (EMPTY_ID, "lines with an empty id")):
        if (lengths == number).any():
            raise ValueError(
                f"{path} has {int((lengths == number).sum())} {what}, the first of them line "
                f"{int(np.argmax(lengths == number)) + 1}: remove them."
            )
    codes = pa.chunked_array(chunks).unify_dictionaries().combine_chunks()
    ids = ids_of_text(codes)
    if isinstance(ids.dtype, pd.CategoricalDtype):
        _refuse_header(path, codes, lengths[0])
    return ids, lengths


def ids_of_text(tokens: Any) -> pd.Series:
    """Integers if every text is written as that integer, else the texts, as codes."""
    codes = tokens if pa.types.is_dictionary(tokens.type) else tokens.dictionary_encode()
    whole = integers_of_text(codes.dictionary)
    return series_of_arrow(codes if whole is None else whole.take(codes.indices), "id")


def _lines(path: Path) -> Iterator[pa.Array]:
    """Blocks of whole lines, without line ends; there is no line after the last line end."""
    (file,) = files_of([path])
    with readable(path), open_bytes(file) as start:
        encoding = encoding_of(start.read(4), "utf-8")
    with (
        readable(path),
        open_bytes(file) as stream,
        io.TextIOWrapper(stream, encoding=encoding) as text,  # all line ends become \n
    ):
        rest = ""
        while block := text.read(CHARACTERS_PER_BLOCK):
            whole, end, rest = (rest + block).rpartition("\n")
            if end:
                yield _array(whole)
        if rest:
            yield _array(rest)


def _array(text: str) -> pa.Array:
    lines: pa.Array = pc.split_pattern(pa.array([text], pa.large_string()), "\n").flatten()
    return lines


def split_tokens(
    lines: pa.Array, separator: str | None = None
) -> tuple[pa.Array, NDArray[np.int64]]:
    """The ids of lines, and the number of ids per line; ``EMPTY_ID`` if one of them is empty."""
    between = separator is not None and separator.strip() != ""
    lists = pc.split_pattern(lines, separator) if between else pc.ascii_split_whitespace(lines)
    lengths = pc.list_value_length(lists).to_numpy().astype(np.int64)
    tokens = pc.ascii_trim_whitespace(lists.flatten()) if between else lists.flatten()
    empty = np.asarray(pc.equal(tokens, ""))
    if empty.any():
        line = np.repeat(np.arange(len(lengths)), lengths)
        tokens = tokens.filter(pa.array(~empty))
        if between:
            alone = np.asarray(pc.equal(pc.ascii_trim_whitespace(lines), ""))
            lengths[line[empty]] = EMPTY_ID
            lengths[alone] = 0
        else:  # a blank at an end of a line
            lengths -= np.bincount(line[empty], minlength=len(lengths))
    return tokens, lengths


def _refuse_suspects(path: Path, ids: Any, lengths: NDArray[np.int64], before: int) -> None:
    odd = pc.match_substring_regex(ids.dictionary, SUSPECT)
    if not pc.any(odd).as_py():
        return
    at = int(np.argmax(np.asarray(odd.take(ids.indices))))
    line = before + int(np.searchsorted(np.cumsum(lengths), at, side="right"))
    raise ValueError(
        f"{path}, line {line + 1}, holds {ids[at].as_py()!r} between blanks: pass separator=',' "
        "or whatever else separates the ids, or, if this is one id, separator=' '."
    )


def _refuse_header(path: Path, ids: Any, in_first: int) -> None:
    """Raises if the first line is a header above integers, which would turn all ids into text."""
    whole = pc.match_substring_regex(ids.dictionary, INTEGER)
    first, others = ids.indices.slice(0, in_first), ids.indices.slice(in_first)
    if len(others) and pc.all(whole.take(pc.unique(others))).as_py():
        names = ids.dictionary.take(first)
        if not pc.any(pc.match_substring_regex(names, r"[0-9]")).as_py():
            raise ValueError(
                f"{path} has only integers below line 1, which holds "
                f"{names[0].as_py()!r}: if it is a header, remove it; if an id, pass ids as text "
                "to Sessions.from_lists."
            )
