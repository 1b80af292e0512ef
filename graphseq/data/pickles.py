"""Pickled sessions of the SR-GNN line of papers, read without executing any pickle code.

``pickle.load`` runs whatever a file tells it to. Here the opcodes are interpreted by a reader that
knows lists, tuples, integers and text, and nothing that could import or call anything.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np

from graphseq.data.sessions import Sessions
from graphseq.data.vocabulary import as_ids

ALLOWED = frozenset((int, str))
"""Types of item ids."""


def read_published_pickle(path: str | PathLike[str]) -> Sessions:
    """Sessions of a pickled list of lists of item ids, such as ``all_train_seq.txt``.

    Wu et al., "Session-based Recommendation with Graph Neural Networks" (AAAI 2019), and the papers
    that use its preparation, publish whole training sessions so.

    Args:
        path: The pickle, of any protocol.

    Raises:
        ValueError: If the file is missing, no pickle, or cut off; if it holds anything but lists,
            tuples, integers and text (the opcode is named); or is no list of lists of ids.
    """
    path = Path(fspath(path))
    return Sessions.from_lists(_lists_of_ids(read_plain_pickle(path), f"{path}"))


def read_published_prefixes(path: str | PathLike[str]) -> Sessions:
    """Sessions of a pickle ``(prefixes, targets)``, such as ``test.txt`` or ``train.txt``.

    Wu et al. (AAAI 2019) write a session of n clicks as n - 1 neighbouring samples, the longest
    prefix first. A sample whose prefix and target together are the prefix of the sample before it
    belongs to the same session. Each run of such samples becomes one session: the prefix and the
    target of its longest sample, with ``first_target`` at the target of its shortest. Any other
    sample is a session by itself, and its last click is its only target. So the targets of all
    sessions, with the clicks before each, are exactly the samples of the file, and
    ``num_targets`` is their number; within a session they run from the shortest to the longest.

    Args:
        path: The pickle, of any protocol.

    Raises:
        ValueError: As :func:`read_published_pickle`; or if there is not one target a prefix.
    """
    path = Path(fspath(path))
    content = read_plain_pickle(path)
    if not isinstance(content, (tuple, list)) or len(content) != 2:
        size = f" of {len(content)}" if isinstance(content, (tuple, list)) else ""
        raise ValueError(f"{path} needs a pair (prefixes, targets), got {_name(content)}{size}.")
    prefixes = _lists_of_ids(content[0], f"{path}, prefixes")
    targets = content[1]
    if not isinstance(targets, (tuple, list)) or not ALLOWED.issuperset(map(type, targets)):
        raise ValueError(f"{path}, targets, needs one item id a prefix.")
    if len(prefixes) != len(targets):
        raise ValueError(
            f"{path} needs one target a prefix, got {len(prefixes)} prefixes and {len(targets)} "
            "targets."
        )
    sessions: list[list[Any]] = []
    first_target: list[int] = []
    before: list[Any] | None = None
    for prefix, target in zip(prefixes, targets, strict=True):
        whole = [*prefix, target]
        if whole == before:
            first_target[-1] = len(prefix)
        else:
            sessions.append(whole)
            first_target.append(len(prefix))
        before = whole[:-1]
    lengths = [len(session) for session in sessions]
    return Sessions.from_ragged(
        as_ids([item for session in sessions for item in session]),
        np.append(0, np.cumsum(lengths, dtype=np.int64)),
        first_target=np.array(first_target, dtype=np.int64),
    )


def read_plain_pickle(path: Path) -> Any:
    """The lists, tuples, integers and texts of a pickle, whose code is never run.

    Raises:
        ValueError: If the file is missing, no pickle, cut off, or holds anything else.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error}.") from error
    try:
        return parse_plain_pickle(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def parse_plain_pickle(data: bytes) -> Any:
    """As :func:`read_plain_pickle`, from bytes.

    Raises:
        ValueError: If this is no pickle, cut off, or holds anything else.
    """
    try:
        return _run(data)
    except _NotPlainError:
        raise
    # Whatever fails, an opcode past the end or an append to no list, fails for one reason.
    except (IndexError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError("this is no pickle, or one that is broken or cut off.") from error


class _NotPlainError(ValueError):
    """A pickle holds an opcode that plain data has no need of."""


def _run(data: bytes) -> Any:
    """The stack machine of pickle, restricted to plain data; frequent opcodes come first."""
    stack: list[Any] = []
    marked: list[list[Any]] = []  # stacks below the marks
    memo: dict[int, Any] = {}
    at = 0
    while True:
        code = data[at]
        at += 1
        if code == 0x4D:  # BININT2
            stack.append(data[at] | data[at + 1] << 8)
            at += 2
        elif code == 0x4B:  # BININT1
            stack.append(data[at])
            at += 1
        elif code == 0x4A:  # BININT
            stack.append(int.from_bytes(data[at : at + 4], "little", signed=True))
            at += 4
        elif code == 0x5D:  # EMPTY_LIST
            stack.append([])
        elif code == 0x72:  # LONG_BINPUT
            memo[int.from_bytes(data[at : at + 4], "little")] = stack[-1]
            at += 4
        elif code == 0x71:  # BINPUT
            memo[data[at]] = stack[-1]
            at += 1
        elif code == 0x94:  # MEMOIZE
            memo[len(memo)] = stack[-1]
        elif code == 0x28:  # MARK
            marked.append(stack)
            stack = []
        elif code == 0x65:  # APPENDS
            values, stack = stack, marked.pop()
            stack[-1].extend(values)
        elif code == 0x61:  # APPEND
            value = stack.pop()
            stack[-1].append(value)
        elif code == 0x68:  # BINGET
            stack.append(memo[data[at]])
            at += 1
        elif code == 0x6A:  # LONG_BINGET
            stack.append(memo[int.from_bytes(data[at : at + 4], "little")])
            at += 4
        elif code in SIZED:  # a length, then as many bytes
            start = at + SIZED[code][0]
            at = start + int.from_bytes(data[at:start], "little")
            stack.append(SIZED[code][1](data[start:at]))
        elif code in (0x74, 0x6C):  # TUPLE, LIST
            values, stack = stack, marked.pop()
            stack.append(tuple(values) if code == 0x74 else values)
        elif 0x85 <= code <= 0x87:  # TUPLE1, TUPLE2, TUPLE3
            size = code - 0x84
            stack[-size:] = [tuple(stack[-size:])]
        elif code == 0x29:  # EMPTY_TUPLE
            stack.append(())
        elif code == 0x80:  # PROTO
            at += 1
        elif code == 0x95:  # FRAME
            at += 8
        elif code == 0x2E:  # STOP
            (value,) = stack
            return value
        elif code in LINES:  # protocol 0: text up to the end of the line
            end = data.index(b"\n", at)
            line, at = data[at:end], end + 1
            if code == 0x70:  # PUT
                memo[int(line)] = stack[-1]
            elif code == 0x67:  # GET
                stack.append(memo[int(line)])
            elif code == 0x56:  # UNICODE
                stack.append(line.decode("raw-unicode-escape"))
            elif code == 0x49 and line in (b"00", b"01"):
                raise _NotPlainError(_refusal("INT as a boolean", at - 4))
            else:  # INT, LONG
                stack.append(int(line.removesuffix(b"L")))
        elif code in OPCODES:
            raise _NotPlainError(_refusal(OPCODES[code], at - 1))
        else:
            raise ValueError(f"no opcode {code}")


def _integer(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


OPCODES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}
LINES = frozenset(map(ord, "pgVIL"))
SIZED: dict[int, tuple[int, Callable[[bytes], Any]]] = {
    0x8A: (1, _integer),  # LONG1
    0x8B: (4, _integer),  # LONG4
    0x8C: (1, _text),  # SHORT_BINUNICODE
    0x58: (4, _text),  # BINUNICODE
    0x8D: (8, _text),  # BINUNICODE8
    0x55: (1, _text),  # SHORT_BINSTRING, of Python 2
    0x54: (4, _text),  # BINSTRING, of Python 2
}
"""Opcode -> bytes of the length that follows it, and what the bytes after that stand for."""


def _refusal(opcode: str, position: int) -> str:
    return (
        f"this pickle holds more than lists, tuples, integers and text: opcode {opcode} at byte "
        f"{position} is not executed. If you trust the file, load it yourself, turn all ids into "
        "int or str, and use Sessions.from_lists."
    )


def _lists_of_ids(content: Any, what: str) -> Sequence[Sequence[Any]]:
    """``content``, if it is a list of lists of ids."""
    if not isinstance(content, (list, tuple)):
        raise ValueError(f"{what}: needs a list of lists of item ids, got {_name(content)}.")
    for number, ids in enumerate(content):
        if not isinstance(ids, (list, tuple)):
            raise ValueError(f"{what}: entry {number} is no list of item ids, but {_name(ids)}.")
        if not ids:
            raise ValueError(f"{what}: entry {number} is empty.")
        if not ALLOWED.issuperset(map(type, ids)):
            raise ValueError(f"{what}: entry {number} holds more than integers and text.")
    return content


def _name(value: Any) -> str:
    return type(value).__name__
