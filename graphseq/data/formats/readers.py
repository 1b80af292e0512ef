"""Readers of the file formats of public session and recommendation data."""

from __future__ import annotations

import logging
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from os import fspath
from pathlib import Path

import numpy as np
import pandas as pd

from graphseq.data.formats.id_lines import read_tokens
from graphseq.data.formats.pickles import read_published_pickle, read_published_prefixes
from graphseq.data.formats.recbole import read_atomic, read_inter, read_recbole_split
from graphseq.data.logs.door import open_log
from graphseq.data.logs.paths import readable
from graphseq.data.logs.source import LogOptions
from graphseq.data.logs.times import instants
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.typing import StrPath

logger = logging.getLogger(__name__)


__all__ = [
    "read_atomic",
    "read_clicks",
    "read_diginetica_views",
    "read_inter",
    "read_pairs",
    "read_published_pickle",
    "read_published_prefixes",
    "read_recbole_split",
    "read_session_lines",
    "read_uci_eshop",
    "read_user_lines",
]

DIGINETICA = {
    "sessionid": "session_id",
    "userid": "user_id",
    "itemid": "item_id",
    "timeframe": "timeframe",
    "eventdate": "eventdate",
}
"""Columns of the views of Diginetica without case and underscores, and the names they get."""

ESHOP_COLUMNS = {
    "session ID": "session",
    "page 2 (clothing model)": "item",
    "order": "order",
    "year": "year",
    "month": "month",
    "day": "day",
    "page 1 (main category)": "category",
    "colour": "colour",
    "location": "location",
    "model photography": "photography",
    "price": "price",
    "price 2": "above_average_price",
    "page": "page",
    "country": "country",
}
"""Columns of the UCI e-shop log, and the names they get."""


def read_session_lines(path: StrPath, *, separator: str | None = None) -> Sessions:
    """Sessions of a text file with one session per line: its item ids, oldest first.

    Ids are integers if every one is written as that integer, else text.

    Args:
        path: The file, compressed (``.gz``, ``.zst``, ``.bz2``, ``.xz``, ``.lz4``) or not.
        separator: Separator of the ids of a line; ``None``: blanks or tabs, and characters that
            look like another separator raise an error.

    Raises:
        ValueError: If the file is missing, empty, damaged or truncated, or a line is empty.
    """
    ids, lengths = read_tokens(Path(fspath(path)), separator)
    return Sessions.from_ragged(ids, np.append(0, np.cumsum(lengths)))


def read_user_lines(path: StrPath, *, separator: str | None = None) -> Sessions:
    """Sessions of a text file with one user per line: the user's id, then its item ids in order.

    Kang and McAuley's Amazon files have this format. Each user is one session.

    Args:
        path, separator: As for :func:`read_session_lines`.

    Raises:
        ValueError: If the file is missing, empty, damaged or truncated, a line has no item, or a
            user has two lines.
    """
    path = Path(fspath(path))
    ids, lengths = read_tokens(path, separator)
    if (lengths < 2).any():
        raise ValueError(
            f"{path} needs a user and at least one item per line, but line "
            f"{int(np.argmax(lengths < 2)) + 1} has one id only."
        )
    is_user = np.zeros(len(ids), dtype=bool)
    is_user[np.cumsum(lengths) - lengths] = True
    users, codes = Vocabulary.factorize(ids[is_user])
    if len(users) < len(codes):
        line = int(np.argmax(codes != np.arange(len(codes))))
        raise ValueError(
            f"{path} needs one line per user, but user {users.decode([codes[line]])[0]!r} has line "
            f"{int(np.argmax(codes == codes[line])) + 1} and line {line + 1}."
        )
    return Sessions.from_ragged(
        ids[~is_user].reset_index(drop=True),
        np.append(0, np.cumsum(lengths - 1)),
        users=codes.astype(np.int32),
        user_vocabulary=users,
    )


def read_pairs(path: StrPath, *, separator: str | None = None) -> Sessions:
    """Sessions of a text file with a pair ``user item`` per line, in the order of the lines.

    Each user is one session. Users are in the order of their first line; lines of a user need not
    be adjacent.

    Args:
        path, separator: As for :func:`read_session_lines`.

    Raises:
        ValueError: If the file is missing, empty, damaged or truncated, or a line does not have two
            ids.
    """
    path = Path(fspath(path))
    ids, lengths = read_tokens(path, separator)
    if (lengths != 2).any():
        bad = int(np.argmax(lengths != 2))
        raise ValueError(
            f"{path} needs a user and an item per line, but line {bad + 1} has {lengths[bad]} ids; "
            "of a log with more columns, pass their names=[...] to Sessions.from_events."
        )
    pairs = pd.DataFrame(
        {"user": ids[0::2].reset_index(drop=True), "item": ids[1::2].reset_index(drop=True)}
    )
    sessions = Sessions.from_frame(pairs, session="user", item="item", user="user")
    return replace(sessions, session_ids=None)


def read_clicks(
    path: StrPath,
    *,
    session: str = "SessionId",
    item: str = "ItemId",
    time: str = "Time",
    user: str | None = None,
    features: Sequence[str] = (),
    separator: str = "\t",
) -> Sessions:
    """Sessions of a click log with a header line, as prepared for GRU4Rec and later papers.

    Args:
        path: The file, compressed or not.
        session, item, time, user: Names of its columns.
        features: Columns that describe the click.
        separator: Separator of the values of a line.

    Raises:
        ValueError: As :meth:`Sessions.from_frame`.
    """
    return Sessions.from_frame(
        path,
        session=session,
        item=item,
        time=time,
        user=user,
        features=features,
        separator=separator,
    )


def read_diginetica_views(path: StrPath) -> Sessions:
    """Sessions of ``train-item-views.csv`` of the CIKM Cup 2016 (Diginetica), as published.

    The time of a click is its ``eventdate`` plus its ``timeframe``, milliseconds since the session
    began. A few sessions have two users; their user is unknown and becomes -1.

    Args:
        path: The file, compressed or not, with the columns ``sessionId``, ``userId``, ``itemId``,
            ``timeframe`` and ``eventdate``, or ``session_id`` and so on.

    Raises:
        ValueError: As :meth:`Sessions.from_frame`.
    """
    with open_log(path, LogOptions(null_values=["NA"])) as source:
        called = {str(name).replace("_", "").lower(): name for name in source.names}
        columns = [called.get(key, name) for key, name in DIGINETICA.items()]
        frame = source.read(columns, ids=columns[:3]).set_axis(list(DIGINETICA.values()), axis=1)
        began = instants(frame["eventdate"], place=source.place)
        passed = instants(frame["timeframe"], "ms", place=source.place)
    users = frame.groupby("session_id")["user_id"].transform("nunique")
    if (users > 1).any():
        several = frame.loc[users > 1, "session_id"].nunique()
        logger.info("%s: %d sessions have several users; their user is unknown.", path, several)
    return Sessions.from_frame(
        frame.assign(
            time=began.seconds() + passed.seconds(), user_id=frame["user_id"].where(users <= 1)
        ),
        time="time",
        user="user_id",
    )


def read_uci_eshop(path: StrPath) -> Sessions:
    """Sessions of the UCI "Clickstream Data for Online Shopping" (Łapczyński, Białowąs, 2013).

    An item is a clothing model (page 2). Clicks follow the log's ``order``; its times are dates
    only.
    Click features: category (page 1), colour, location, photography, price, above_average_price,
    page, country. Color, location, photography, price, above_average_price and page belong to the
    model and are item features too.

    Args:
        path: The zip file as published by UCI, or the CSV file in it.

    Raises:
        ValueError: If the file is missing, damaged or truncated, or lacks a column.
    """
    path = Path(fspath(path))
    if not path.is_file():
        raise ValueError(f"There is no file {path}.")
    with _csv_of_zip(path) as file, open_log(file, LogOptions(separator=";")) as source:
        columns = list(ESHOP_COLUMNS)
        frame = source.read(columns, ids=["session ID", "page 2 (clothing model)"])
    frame = frame.rename(columns=ESHOP_COLUMNS)
    frame = frame.sort_values(["session", "order"], kind="stable", ignore_index=True)
    frame = frame.assign(time=pd.to_datetime(frame[["year", "month", "day"]], utc=True))
    model = ["colour", "location", "photography", "price", "above_average_price", "page"]
    return Sessions.from_frame(
        frame,
        session="session",
        item="item",
        time="time",
        features=["category", *model, "country"],
        item_features=model,
    )


@contextmanager
def _csv_of_zip(path: Path) -> Iterator[Path]:
    """A context with the CSV file of a zip archive, unpacked temporarily, or the path itself."""
    if path.suffix.lower() != ".zip":
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="graphseq-") as folder:
        file = Path(folder) / "log.csv"
        with readable(path):
            try:
                with zipfile.ZipFile(path) as archive:
                    names = [n for n in archive.namelist() if n.lower().endswith(".csv")]
                    if len(names) != 1:
                        raise ValueError(f"{path} needs one CSV file in it, it holds {names}.")
                    with archive.open(names[0]) as packed, file.open("wb") as plain:
                        shutil.copyfileobj(packed, plain)
            except (zipfile.BadZipFile, zlib.error) as error:
                raise OSError(str(error)) from error
        yield file
