"""Shared steps from a publisher's download to the files of a data set."""

from __future__ import annotations

import ast
import gzip
import json
import logging
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from graphseq.data.sessions.sessions import Sessions

logger = logging.getLogger(__name__)

DAY = 86_400


def sessions_by_date(
    clicks: pd.DataFrame,
    *,
    test_seconds: float,
    newest: float | None = None,
    most_clicks: int | None = None,
    min_support: int = 5,
) -> tuple[Sessions, Sessions, pd.Index]:
    """Training and test sessions, split as in the code of SR-GNN (Wu et al., AAAI 2019).

    First sessions of one click are dropped, then clicks on items with fewer than ``min_support``
    clicks, then sessions with fewer than two remaining clicks. The date of a session is the date of
    its last row. Sessions within ``test_seconds`` of the newest one are the test; a session dated
    exactly at the cut is in neither part, as in that code. Both parts are ordered by date. Items
    are numbered from 1 in the order of training clicks. Test clicks on other items are dropped, and
    then test sessions with fewer than two clicks.

    Args:
        clicks: Columns ``session``, ``item`` and ``date`` (seconds), in the order of clicks within
            each session.
        test_seconds: Length of the test part.
        newest: Share of the newest training samples (a prefix and its target) to keep; the session
            of the oldest one is kept whole. ``None``: all.
        most_clicks: Longer sessions are dropped; ``None``: no limit.
        min_support: Minimum number of clicks per item.

    Returns:
        Both parts, and the log's own id of each item, starting with item 1.

    Raises:
        ValueError: If a part is empty.
    """
    clicks = clicks.assign(date=clicks.groupby("session")["date"].transform("last"))
    size = clicks.groupby("session")["item"].transform("size")
    clicks = clicks[size > 1]
    clicks = clicks[clicks.groupby("item")["item"].transform("size") >= min_support]
    size = clicks.groupby("session")["item"].transform("size")
    clicks = clicks[(size > 1) & (size <= (most_clicks or np.inf))]
    dates = clicks.groupby("session", sort=False)["date"].last().sort_values(kind="stable")
    if len(dates) == 0:
        raise ValueError("No session of this log has two clicks on items that are clicked enough.")
    cut = dates.max() - test_seconds
    if (dates == cut).any():
        logger.info("%d sessions at the very cut are in neither part.", int((dates == cut).sum()))
    train, test = (
        clicks[clicks["session"].isin(part.index)]
        .assign(place=lambda part: part["session"].map({s: n for n, s in enumerate(dates.index)}))
        .sort_values("place", kind="stable")
        for part in (dates[dates < cut], dates[dates > cut])
    )
    codes, ids = pd.factorize(train["item"])
    train = train.assign(item=codes + 1)
    known = pd.Index(ids).get_indexer(pd.Index(test["item"])) + 1
    test = test.assign(item=known)[known > 0]
    test = test[test.groupby("session")["item"].transform("size") > 1]
    if not len(train) or not len(test):
        raise ValueError("The log is too short: a part has no session.")
    if newest is not None:
        targets = train.groupby("place")["item"].size() - 1
        kept = int(targets.sum() * newest)
        from_end = targets[::-1].cumsum()[::-1] - targets  # samples of later sessions
        train = train[train["place"].isin(targets.index[from_end < kept])]
    first, second = (
        Sessions.from_frame(part, session="place", item="item") for part in (train, test)
    )
    return first, second, pd.Index(ids)


def write_lines(sessions: Sessions, path: Path, *, numbered: bool = False) -> None:
    """Writes one session per line, its items separated by blanks, gzip-compressed.

    Args:
        sessions: The sessions.
        path: The file; its bytes depend only on the sessions.
        numbered: Whether each line begins with the number of its session, from 1, like a user id.
    """
    lines = (
        " ".join(map(str, [number, *items] if numbered else items))
        for number, items in enumerate(sessions.to_lists(), start=1)
    )
    write_gzip("".join(f"{line}\n" for line in lines), path)


def write_pickles(train: Sessions, test: Sessions, folder: Path) -> None:
    """Writes ``all_train_seq.txt`` and ``test.txt``, pickled as for SR-GNN and later papers.

    Args:
        train: Written as a list of lists.
        test: Written as samples, a prefix and its target each, the longest prefix first.
        folder: Folder to write to.
    """
    samples = [
        (items[:stop], items[stop])
        for items in test.to_lists()
        for stop in range(len(items) - 1, 0, -1)
    ]
    prefixes, targets = ([each[part] for each in samples] for part in (0, 1))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "all_train_seq.txt").write_bytes(pickle.dumps(train.to_lists(), protocol=4))
    (folder / "test.txt").write_bytes(pickle.dumps((prefixes, targets), protocol=4))


def write_gzip(text: str, path: Path) -> None:
    """Writes gzip-compressed text, without gzip's timestamp."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def amazon_files(reviews: Path, metadata: Path, attribute_support: int = 0) -> tuple[Sessions, str]:
    """Users' histories and the attributes of items of a category of Amazon's reviews.

    Users and items with fewer than five reviews are dropped repeatedly until none is left (5-core).
    Reviews of a user are ordered by time; reviews of equal time keep the order of the file. Users
    are numbered from 1 by their first line, items by their first place in the histories. Attributes
    are the brand, then all categories except the main one, numbered from 1 in the order of
    ``metadata``.

    Args:
        reviews: ``reviews_<category>_5.json.gz``.
        metadata: ``meta_<category>.json.gz``.
        attribute_support: Minimum number of items per attribute.

    Returns:
        The histories, and JSON: number of an item -> numbers of its attributes.
    """
    rows = pd.DataFrame(
        (row["reviewerID"], row["asin"], row["unixReviewTime"]) for row in json_rows(reviews)
    ).set_axis(["user", "item", "time"], axis=1)
    while True:
        few = [rows.groupby(name)[name].transform("size") < 5 for name in ("user", "item")]
        if not (few[0] | few[1]).any():
            break
        rows = rows[~(few[0] | few[1])]
    histories = Sessions.from_frame(rows, session="user", item="item", time="time")
    number = {asin: code + 1 for code, asin in enumerate(histories.vocabulary.ids)}
    named: dict[str, list[str]] = {}
    for row in json_rows(metadata):
        if row["asin"] in number:
            brand = [row["brand"]] if row.get("brand") else []
            lists = row.get("categories", [])
            named[row["asin"]] = [*brand, *(name for names in lists for name in names[1:])]
    counts = pd.Series([name for names in named.values() for name in names]).value_counts()
    code_of: dict[str, int] = {}
    attributes = {
        str(number[asin]): [
            code_of.setdefault(name, len(code_of) + 1)
            for name in names
            if counts[name] >= attribute_support
        ]
        for asin, names in named.items()
    }
    numbered = Sessions.from_ragged(histories.items + 1, histories.ptr)
    return numbered, json.dumps(attributes)


def json_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a gzip-compressed file, one per line, as JSON or as literals of Python."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                yield ast.literal_eval(line)
