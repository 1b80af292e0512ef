"""Reads pickled sessions of SR-GNN and later papers, without executing any pickle code.

``pickle.load`` runs any code that a file names, and allocates any memory that a file asks for. Here
the opcodes are checked first: only the opcodes of lists, tuples, integers and text are allowed. The
standard library's ``Unpickler`` then reads them, without looking up any name.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from itertools import chain
from os import fspath
from pathlib import Path
from typing import Any, Never

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from graphseq.data.logs.ids import id_column
from graphseq.data.sessions.samples import merge_samples
from graphseq.data.sessions.sessions import Sessions
from graphseq.typing import StrPath


def read_published_pickle(path: StrPath) -> Sessions:
    """Sessions of a pickled list of lists of item ids, such as ``all_train_seq.txt``.

    Wu et al., "Session-based Recommendation with Graph Neural Networks" (AAAI 2019), and papers
    that use its preparation, publish whole training sessions in this format.

    Args:
        path: The pickle, of any protocol.

    Raises:
        ValueError: If the file is missing, not a pickle, or truncated. Also if it holds anything
            but lists, tuples, integers and text (the opcode is named). Also if it is not a list of
            lists of ids, or expands to more clicks than it has bytes.
    """
    path = Path(fspath(path))
    content, size = read_plain_pickle(path)
    lengths = _lengths(content, size, f"{path}")
    return _sessions(chain.from_iterable(content), lengths, f"{path}")


def read_published_prefixes(path: StrPath) -> Sessions:
    """Sessions of a pickle ``(prefixes, targets)``, such as ``test.txt`` or ``train.txt``.

    Wu et al. (AAAI 2019) write a session of n clicks as n - 1 neighboring samples, the longest
    prefix first; others write the shortest first. They become sessions again, see
    :func:`~graphseq.data.sessions.samples.merge_samples`: the targets of all sessions, with the
    clicks
    before each, are exactly the samples of the file, and ``num_targets`` is their number.

    Args:
        path: The pickle, of any protocol.

    Raises:
        ValueError: As :func:`read_published_pickle`; or if there is not one target per prefix.
    """
    path = Path(fspath(path))
    content, size = read_plain_pickle(path)
    if not isinstance(content, (tuple, list)) or len(content) != 2:
        count = f" of {len(content)}" if isinstance(content, (tuple, list)) else ""
        raise ValueError(f"{path} needs a pair (prefixes, targets), got {_name(content)}{count}.")
    prefixes, targets = content
    lengths = _lengths(prefixes, size, f"{path}, prefixes")
    if not isinstance(targets, (tuple, list)) or not set(map(type, targets)) <= {int, str}:
        raise ValueError(f"{path}, targets, needs one item id per prefix.")
    if len(prefixes) != len(targets):
        raise ValueError(
            f"{path} needs one target per prefix, got {len(prefixes)} prefixes and {len(targets)} "
            "targets."
        )
    # Each sample is first a session: its prefix, then its target.
    clicks = chain.from_iterable(chain.from_iterable(zip(prefixes, zip(targets), strict=True)))
    return merge_samples(_sessions(clicks, lengths + 1, f"{path}, prefixes"))


# -- reading a pickle ----------------------------------------------------------------------------


def read_plain_pickle(path: Path) -> tuple[Any, int]:
    """The lists, tuples, integers and texts of a pickle, and its number of bytes.

    Raises:
        ValueError: If the file is missing, not a pickle, truncated, or holds anything else.
    """
    if not path.is_file():
        raise ValueError(f"{path} cannot be read: there is no such file.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error}.") from error
    try:
        return parse_plain_pickle(data), len(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def parse_plain_pickle(data: bytes) -> Any:
    """The lists, tuples, integers and texts of a pickle; its code is never run.

    Raises:
        ValueError: If this is not a pickle, is truncated, or holds anything else.
    """
    _check_opcodes(data)
    # A mark before and TUPLE at the end return the whole stack, not only its top.
    stream = io.BufferedReader(io.BytesIO(b"(" + data[:-1] + b"t."))
    try:
        (value,) = _PlainUnpickler(stream, encoding="utf-8").load()
        return value
    # Any failure, such as an append without a list or text that is not UTF-8, has the same reason.
    except (
        pickle.UnpicklingError,
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
        MemoryError,
        TypeError,
        ValueError,
    ) as error:
        raise ValueError(BROKEN) from error


class _PlainUnpickler(pickle.Unpickler):
    """The standard library's unpickler, without the two ways in which it looks up objects."""

    def find_class(self, module: str, name: str) -> Never:
        raise pickle.UnpicklingError(f"{module}.{name} is not looked up.")

    def persistent_load(self, pid: Any) -> Never:
        raise pickle.UnpicklingError(f"The object {pid!r} is not looked up.")


BROKEN = "this is not a pickle, or it is damaged or truncated."
OPCODES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}
PLAIN = frozenset(b"(])eatl\x85\x86\x87\x94.Kqh\x80MJjrX\x8c\x8dTU\x8a\x95pgVIL")
"""The opcodes of lists, tuples, integers, text, and of the memo by which a pickle shares them."""
SIZES = {0x58: 4, 0x54: 4, 0x8D: 8}
"""BINUNICODE, BINSTRING, BINUNICODE8 -> bytes of the length that follows the opcode."""


def _check_opcodes(data: bytes) -> None:
    """Raises ValueError unless all opcodes are plain, whole, and in proportion to the file."""
    plain = _plain_opcodes(min(max(len(data).bit_length(), 1), 32))
    at = 0
    while True:
        match = plain.match(data, at)
        assert match is not None  # it may be empty
        at = match.end()
        code = data[at] if at < len(data) else -1
        if code not in SIZES:
            break
        start = at + 1 + SIZES[code]
        at = start + int.from_bytes(data[at + 1 : start], "little")
    if code == ord("."):
        if at + 1 < len(data):
            raise ValueError(
                f"{len(data) - at - 1} bytes follow the end of this pickle: put one in each file."
            )
    elif code == ord("I") and data[at + 1 : at + 4] in (b"00\n", b"01\n"):
        raise ValueError(_refusal("INT as a boolean", at))
    elif code in OPCODES and code not in PLAIN and at > 0:
        raise ValueError(_refusal(OPCODES[code], at))
    else:
        raise ValueError(BROKEN)


@cache
def _plain_opcodes(bits: int) -> re.Pattern[bytes]:
    """A pattern of any number of plain opcodes with their arguments; memo numbers have ``bits``.

    For a memo number the unpickler allocates a place for every smaller number. No pickler numbers
    more objects than its pickle has bytes, so much larger numbers are not matched.
    """
    zeros = 3 - (bits - 1) // 8  # bytes of the number that are zero
    number = b"." * (3 - zeros) + rb"[\x00-\x%02x]" % (2 ** (bits - 8 * (3 - zeros)) - 1)
    number += rb"\x00" * zeros
    short = b"|".join(rb"\x%02x.{%d}" % (n, n) for n in range(256))
    short4 = b"|".join(rb"\x%02x\x00\x00\x00.{%d}" % (n, n) for n in range(256))
    opcodes = (
        rb"M..",  # BININT2: the most frequent come first
        rb"[Kqh\x80].",  # BININT1, BINPUT, BINGET, PROTO
        rb"[(\])eatl\x85\x86\x87\x94]",  # marks, lists, tuples, MEMOIZE
        rb"[Jj].{4}",  # BININT, LONG_BINGET
        rb"r" + number,  # LONG_BINPUT
        rb"[\x8cU\x8a](?:%b)" % short,  # SHORT_BINUNICODE, SHORT_BINSTRING, LONG1
        rb"[XT](?:%b)" % short4,  # BINUNICODE, BINSTRING; the longer ones stop the match
        rb"\x95.{8}",  # FRAME
        rb"I(?!0[01]\n)-?[0-9]{1,640}\n|L-?[0-9]{1,640}L?\n|V[^\n]*\n|g[0-9]{1,10}\n",
        rb"p[0-9]{1,%d}\n" % len(str(2**bits)),
    )
    return re.compile(rb"(?s:%b)*+" % b"|".join(opcodes))


def _refusal(opcode: str, position: int) -> str:
    return (
        f"this pickle holds more than lists, tuples, integers and text: opcode {opcode} at byte "
        f"{position} is not executed. If you trust the file, load it yourself, turn all ids into "
        "int or str, and use Sessions.from_lists."
    )


# -- from lists to sessions ----------------------------------------------------------------------


def _lengths(content: Any, size: int, what: str) -> NDArray[np.int64]:
    """Number of ids in each list of ``content``, if a file of this size can hold these lists.

    A pickle can refer to the same list many times, so a short file could expand to any size.
    """
    if not isinstance(content, (list, tuple)):
        raise ValueError(f"{what}: needs a list of lists of item ids, got {_name(content)}.")
    if not set(map(type, content)) <= {list, tuple}:
        number, ids = next((n, x) for n, x in enumerate(content) if type(x) not in (list, tuple))
        raise ValueError(f"{what}: entry {number} is not a list of item ids but {_name(ids)}.")
    lengths = np.fromiter(map(len, content), dtype=np.int64, count=len(content))
    if not lengths.all():
        raise ValueError(f"{what}: entry {int(np.argmin(lengths))} is empty.")
    if lengths.sum() > size:
        raise ValueError(
            f"{what}: {len(content)} lists stand for {lengths.sum()} clicks in a file of {size} "
            "bytes, as it repeats the same lists: write each session out."
        )
    return lengths


def _sessions(clicks: Iterable[Any], lengths: NDArray[np.int64], what: str) -> Sessions:
    """Sessions with these numbers of clicks."""
    ids = list(clicks)
    kinds = set(map(type, ids))
    if not kinds <= {int, str}:
        bad = next(n for n, value in enumerate(ids) if type(value) not in (int, str))
        number = int(np.searchsorted(np.cumsum(lengths), bad, side="right"))
        pair = "; read a pair (prefixes, targets) by read_published_prefixes"
        raise ValueError(
            f"{what}: entry {number} holds more than integers and text, {_name(ids[bad])}"
            f"{pair if len(lengths) == 2 else ''}."
        )
    ptr = np.append(0, np.cumsum(lengths))
    if kinds == {int}:
        with suppress(OverflowError):  # an id of more than 63 bits
            return Sessions.from_ragged(np.fromiter(ids, np.int64, count=len(ids)), ptr)
    try:
        "".join(value for value in set(ids) if isinstance(value, str)).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{what}: the ids hold text that is not Unicode ({error}).") from error
    objects = pd.Series(np.fromiter(ids, dtype=object, count=len(ids)))
    return Sessions.from_ragged(id_column(objects, what=f"content of {what}"), ptr)


def _name(value: Any) -> str:
    return type(value).__name__
