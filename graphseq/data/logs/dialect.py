"""Detects how a delimited text file is written, from its first lines."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphseq.data.logs.paths import LogFile, open_bytes, readable
from graphseq.data.logs.source import LogOptions

BYTES_LOOKED_AT = 1 << 16
"""Size of the start of a file that determines its separator and the types to try first."""

SEPARATORS = (",", ";", "\t", "|", " ")
NATIVE = (None, "gzip", "zstd")
"""Compressions that DuckDB reads."""


@dataclass(frozen=True)
class Dialect:
    """The format of a text file.

    Args:
        separator: Separator of values.
        names: Names of its columns.
        header: Whether the first line names them.
        skip: Comment lines (``# ...``) above the header.
        padded: Whether a blank follows each separator.
        sample: The first rows.
    """

    separator: str
    names: tuple[str, ...]
    header: bool
    padded: bool
    sample: tuple[tuple[str, ...], ...]
    skip: int = 0


def first_lines(file: LogFile, encoding: str) -> tuple[str, bool]:
    """The first lines of a file, and whether it is UTF-8 with one kind of line ends.

    A line of only blanks counts as an empty line, and as another kind of line end.

    Raises:
        ValueError: If it cannot be decompressed or decoded.
    """
    with readable(file.path), open_bytes(file) as stream:
        start = stream.read(BYTES_LOOKED_AT)
        whole = not stream.read(1)
        if file.compression == "gzip":  # DuckDB does not look at its checksum
            while stream.read(1 << 20):
                pass
    encoding = encoding_of(start, encoding)
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        text = decoder.decode(start, final=whole)
    except UnicodeError as error:
        raise ValueError(
            f"{file.path} is not written in {encoding} ({error}): pass encoding=, as 'latin-1' or "
            "'cp1252'."
        ) from error
    ends = set(re.findall(r"\r\n|\r|\n", text))
    plain = codecs.lookup(encoding).name in ("utf-8", "utf-8-sig") and len(ends) <= 1
    plain = plain and re.search(r"^ +\r?$", text, re.MULTILINE) is None
    if not whole:
        last = max(text.rfind("\n"), text.rfind("\r"))
        text = text[: last + 1]
    return text.removeprefix("\ufeff"), plain and file.compression in NATIVE


def encoding_of(start: bytes, encoding: str) -> str:
    """The encoding of a text; a byte order mark at its start takes precedence.

    Raises:
        ValueError: If there is no such encoding.
    """
    if start.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    try:
        return codecs.lookup(encoding).name
    except LookupError as error:
        raise ValueError(f"There is no encoding {encoding!r}.") from error


def plain_copy(file: LogFile, encoding: str, path: Path, quote: str | None = None) -> LogFile:
    """The same text as UTF-8, not compressed, its lines ended by ``\\n``, written to ``path``.

    Line ends within quotes are part of a value and are not changed.
    """
    with readable(file.path), open_bytes(file) as peek:
        encoding = encoding_of(peek.read(4), encoding)
    with (
        readable(file.path),
        open_bytes(file) as stream,
        io.TextIOWrapper(stream, encoding=encoding, newline="") as source,
        path.open("w", encoding="utf-8", newline="") as target,
    ):
        within = False
        for line in source:
            if quote is not None and line.count(quote) % 2:
                within = not within
            # A line of blanks alone is an empty one.
            target.write(line if within else line.rstrip("\r\n" if line.strip() else None) + "\n")
    return LogFile(path, file.kind, None, file.keys)


def candidates(file: LogFile, text: str, options: LogOptions) -> list[Dialect]:
    """The possible formats of a text file, one for each possible separator.

    Raises:
        ValueError: If it is empty.
    """
    if not text.strip():
        raise ValueError(f"{file.path} is empty: it needs a header line, or names=, and clicks.")
    tried = SEPARATORS if options.separator is None else (options.separator,)
    return [_with(separator, text, options) for separator in tried]


def dialect(
    file: LogFile,
    found: Sequence[Dialect],
    options: LogOptions,
    wanted: Sequence[Any],
    keys: Sequence[str],
) -> Dialect:
    """The format of a text file in which all wanted columns exist.

    Args:
        file: The file.
        found: The possible formats.
        options: The options of the caller.
        wanted: Names of the columns to read.
        keys: Names of columns from its folders.

    Raises:
        ValueError: If its separator is ambiguous.
    """
    wanted = [name for name in wanted if name not in keys]
    fits = [d for d in found if all(name in d.names for name in wanted)]
    if options.names is not None:
        fits = [d for d in fits if d.sample and len(d.sample[0]) == len(d.names)]
    if len(fits) > 1:  # a single column matches any separator
        fits = [d for d in fits if len(d.names) > 1 and _regular(d)] or fits[:1]
    if len(fits) > 1:  # a blank also follows other separators
        fits = [d for d in fits if d.separator != " "]
    if len(fits) > 1:
        raise ValueError(
            f"{file.path} may have its values between {fits[0].separator!r} or "
            f"{fits[1].separator!r}: pass separator=."
        )
    if fits:
        return fits[0]
    # No format matches: the error names the columns of the most likely one.
    return max(found, key=lambda d: (_regular(d), len(d.names)))


def _with(separator: str, text: str, options: LogOptions) -> Dialect:
    rows = _rows(text, separator, options.quote)
    skip = _comments(text, rows)
    rows = rows[skip:]
    names_above = options.names is not None and rows and rows[0] == list(options.names)
    header = options.names is None or bool(names_above)
    first = [name.strip() for name in rows[0]] if header else []
    sample = rows[1:] if header else rows
    names = first if options.names is None else list(options.names)
    padded = separator.strip() != "" and all(
        value[:1] == " " for row in sample for value in row[1:]
    )
    return Dialect(
        separator,
        tuple(names),
        header,
        padded and any(len(row) > 1 for row in sample),
        tuple(map(tuple, sample)),
        skip,
    )


def _comments(text: str, rows: list[list[str]]) -> int:
    """Comment lines at the start; the last one is a header if it has as many values as the rows."""
    lines = text.splitlines()
    number = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    if number == 0 or number >= len(rows):
        return 0
    return number - (len(rows[number - 1]) == len(rows[number]) > 1)


def _rows(text: str, separator: str, quote: str | None) -> list[list[str]]:
    """The first lines as rows of values; the csv module supports separators of one character."""
    if len(separator) > 1:
        lines = [line.replace("\x1f", "").replace(separator, "\x1f") for line in text.splitlines()]
        text, separator = "\n".join(lines), "\x1f"
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=separator,
        quotechar='"' if quote is None else quote,
        quoting=csv.QUOTE_NONE if quote is None else csv.QUOTE_MINIMAL,
        strict=False,
    )
    try:
        return [row for row in reader if row]
    except csv.Error as error:
        raise ValueError(f"The first lines of the log are not a table: {error}.") from error


def _regular(d: Dialect) -> bool:
    """Whether most of the first rows have as many values as there are names, more than one."""
    as_many = sum(len(row) == len(d.names) for row in d.sample)
    return len(d.names) > 1 and as_many * 2 > len(d.sample)
