"""The input of every command: a data set by name or a log, and its split."""

from __future__ import annotations

import argparse
import glob
from pathlib import Path
from typing import Any

import numpy as np

from graphseq.data import (
    DATASETS,
    Sessions,
    Split,
    leave_last_split,
    load_dataset,
    load_split,
    session_split,
    temporal_split,
)
from graphseq.models import suggest

NEWEST = 0.1
"""Share of the newest sessions that form the test part if no size is given. The same share of the
rest is the validation part."""


def add_log(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Adds options for the path of the log and the meaning of its columns."""
    parser.add_argument(
        "log",
        nargs="?" if default else None,
        default=default,
        metavar="LOG",
        help="a CSV, TSV, JSON lines or Parquet file or a folder of these, or the name of a data "
        f"set: {', '.join(DATASETS)}" + (" (default: %(default)s)" if default else ""),
    )
    group = parser.add_argument_group("columns of your own log")
    group.add_argument("--session", metavar="COLUMN", help="the session (default: session_id)")
    group.add_argument("--item", metavar="COLUMN", help="the item (default: item_id)")
    group.add_argument("--time", metavar="COLUMN", help="the time, which orders the clicks")
    group.add_argument(
        "--user",
        metavar="COLUMN",
        help="the user; without --session, a user's clicks are cut into sessions by --gap",
    )
    group.add_argument(
        "--gap",
        metavar="PAUSE",
        help="the longest pause within a session, as 30min (the default), or none: one session a "
        "user",
    )
    group.add_argument(
        "--features", nargs="+", default=[], metavar="COLUMN", help="columns that describe a click"
    )
    group.add_argument(
        "--item-features",
        nargs="+",
        default=[],
        metavar="COLUMN",
        help="columns that describe an item",
    )
    group.add_argument("--separator", help="separator of a CSV file (default: detected)")
    parser.add_argument(
        "--root", help="folder of the data sets with a name (default: $GRAPHSEQ_DATA)"
    )


def add_split(parser: argparse.ArgumentParser) -> None:
    """Adds options for the test part."""
    group = parser.add_argument_group("parts of the log")
    group.add_argument(
        "--split",
        choices=["temporal", "last", "sessions"],
        help="the test: the newest sessions, the last clicks of every session, or sessions drawn "
        "at random (default: that of the data set; else the last clicks of histories, the newest "
        "sessions where there are times, sessions drawn at random where there are none)",
    )
    group.add_argument(
        "--test",
        type=float,
        metavar="SIZE",
        help="days (temporal), clicks of a session or a share of them (last), or a share of the "
        "sessions (sessions) that are the test (default: the newest tenth, 1, 0.1)",
    )
    group.add_argument(
        "--validation",
        type=float,
        metavar="SIZE",
        help="the same for the validation part, which chooses the epoch (default: the same size)",
    )


def is_named(log: str) -> bool:
    """Whether this is the name of a data set and not a file."""
    return log in DATASETS and not Path(log).exists()


def read(options: argparse.Namespace) -> Sessions:
    """Reads the sessions of the log.

    Raises:
        ValueError: If there is no such log, or it cannot be read with these options.
    """
    columns = ("session", "item", "time", "user", "gap", "separator", "features", "item_features")
    given = [name for name in columns if getattr(options, name)]
    if is_named(options.log):
        if given:
            raise ValueError(
                f"{options.log} is a data set with a name, and its columns are known: leave "
                f"out --{given[0].replace('_', '-')}."
            )
        return load_dataset(options.log, options.root)
    if not Path(options.log).exists() and not glob.glob(options.log):
        raise ValueError(
            f"There is no file {options.log}, and no data set of that name: the data sets are "
            f"{', '.join(DATASETS)}."
        )
    try:
        return _of_columns(options)
    except ValueError as error:
        if " has no column " not in str(error):
            raise
        said = str(error).rstrip(".")
        raise ValueError(
            f"{said}: name its columns with --session, --item, --time and --user."
        ) from error


def _of_columns(options: argparse.Namespace) -> Sessions:
    more: dict[str, Any] = {"features": options.features}
    more["item_features"] = options.item_features or None
    if options.separator:
        more["separator"] = options.separator.replace("\\t", "\t")
    item = options.item or "item_id"
    if options.user and not options.session:
        if not options.time:
            raise ValueError(
                "A log of users needs the time of each click: pass --time, or --session."
            )
        gap = options.gap or "30min"
        return Sessions.from_events(
            options.log,
            user=options.user,
            item=item,
            time=options.time,
            gap=None if gap == "none" else gap,
            **more,
        )
    if options.gap:
        raise ValueError(
            "--gap cuts a user's clicks into sessions: pass --user instead of --session."
        )
    return Sessions.from_frame(
        options.log,
        session=options.session or "session_id",
        item=item,
        time=options.time,
        user=options.user,
        **more,
    )


def read_split(options: argparse.Namespace, validation: float | None = None) -> Split:
    """Reads the log and splits it.

    Args:
        options: Options of :func:`add_log` and :func:`add_split`.
        validation: Size of the validation part of a named data set, if the options give none.

    Raises:
        ValueError: As :func:`read`; or if a part would be empty.
    """
    if is_named(options.log) and options.split is None:
        if options.test is not None:
            raise ValueError(f"{options.log} has a standard split: --test goes with --split.")
        size = validation if options.validation is None else options.validation
        if size is not None and DATASETS[options.log].validation >= 1:
            size = _clicks(size)
        return load_split(options.log, options.root, validation=size)
    return split_of(read(options), options.split, options.test, options.validation)


def split_of(
    sessions: Sessions, kind: str | None, test: float | None, validation: float | None
) -> Split:
    """Splits sessions into training, validation and test.

    Args:
        sessions: The log.
        kind: ``"temporal"``, ``"last"``, ``"sessions"``; ``None``: chosen by the sessions.
        test, validation: Sizes in the unit of the split; ``None``: a tenth, or one click.

    Raises:
        ValueError: If a part would be empty.
    """
    if kind is None:
        if test is not None or validation is not None:
            raise ValueError("--test and --validation are in the unit of the split: pass --split.")
        days = suggest(sessions).measured["median_days"]
        kind = "sessions" if days is None else "last" if days > 1 else "temporal"
    if kind == "last":
        return leave_last_split(sessions, _clicks(test), validation=_clicks(validation))
    if kind == "sessions":
        share = NEWEST if test is None else test
        return session_split(
            sessions, share, validation=share if validation is None else validation
        )
    if sessions.time is None:
        raise ValueError("A temporal split needs the time of each click: pass --time.")
    if test is not None:
        return temporal_split(
            sessions, test_days=test, validation=test if validation is None else validation
        )
    end = np.sort(np.maximum.reduceat(sessions.time, sessions.ptr[:-1]))
    held, cut = (end[-max(1, round(len(end) * share))] for share in (1 - (1 - NEWEST) ** 2, NEWEST))
    before = end[end < cut]
    if validation is None and before.size:
        validation = float(before[-1] - min(held, before[-1] - 1)) / 86_400
    return temporal_split(sessions, at=float(cut), validation=validation)


def _clicks(size: float | None) -> int | float:
    """A number of clicks, or a share of them; argparse returns floats for both."""
    return 1 if size is None else int(size) if float(size).is_integer() else size
