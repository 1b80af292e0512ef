"""How each data set that has a name is read: from its files to the parts it was published in."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import as_file
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np
import pandas as pd

from graphseq.data.formats.readers import (
    read_inter,
    read_pairs,
    read_session_lines,
    read_user_lines,
)
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary


def movielens_small(
    ratings: Traversable, movies: Traversable, *, gap: str | float | None = None
) -> list[Sessions]:
    """Ratings as clicks, in the order of their times; title, year and genres of each movie.

    Args:
        ratings, movies: The Parquet files.
        gap: The longest pause within a session; ``None``: a user's whole history is one session.
    """
    with as_file(ratings) as path:
        log = pd.read_parquet(path)
    with as_file(movies) as path:
        titles = pd.read_parquet(path).set_index("movie_id")
    sessions = Sessions.from_events(
        log, item="movie_id", gap=gap, features=["rating"], item_features=titles
    )
    return [sessions]


def train_and_test(train: Path, test: Path, features: Path | None = None) -> list[Sessions]:
    """The two files of the session-based line of papers, one session a line.

    Args:
        train, test: The parts.
        features: Lines ``item field value``: one column ``field_<field>`` each, missing values NA.
    """
    parts = [read_session_lines(train), read_session_lines(test)]
    if features is None:
        return parts
    rows = pd.read_csv(features, sep=" ", header=None, names=["item", "field", "value"])
    table = rows.pivot(index="item", columns="field", values="value").astype("Int64")
    return [_described(part, table.add_prefix("field_")) for part in parts]


def amazon(reviews: Path, attributes: Path) -> list[Sessions]:
    """A user and its items a line; the attributes of each item as one text, ``"1|2|3"``."""
    with gzip.open(attributes, "rt", encoding="utf-8") as file:
        listed: dict[str, list[int]] = json.load(file)
    joined = {int(item): "|".join(map(str, numbers)) for item, numbers in listed.items()}
    table = pd.DataFrame({"attributes": pd.Series(joined)})
    return [_described(read_user_lines(reviews), table)]


def ml_1m(pairs: Path, movies: Path) -> list[Sessions]:
    """A pair ``user item`` a line; MovieLens id, title, year and genres of each movie."""
    table = pd.read_csv(movies, sep="\t").set_index("item")
    return [_described(read_pairs(pairs), table)]


def ml_100k(ratings: Path, movies: Path, *, gap: str | float | None = None) -> list[Sessions]:
    """RecBole's atomic files; title, year (NaN where the file has no number) and genres of a movie.

    Args:
        ratings, movies: The ``.inter`` and the ``.item`` file.
        gap: The longest pause within a session; ``None``: a user's whole history is one session.
    """
    sessions = read_inter(ratings, gap=gap, features=["rating"], item_file=movies)
    assert sessions.item_features is not None
    titles, years, genres = (column.astype(str) for _, column in sessions.item_features.items())
    table = pd.DataFrame(
        {
            "title": titles,
            "year": pd.to_numeric(years, errors="coerce"),
            "genres": genres.str.replace(" ", "|"),
        }
    )
    return [replace(sessions, item_features=table)]


def uci_eshop(clicks: Traversable, models: Traversable) -> list[Sessions]:
    """Clicks of an online shop, with their dates; what belongs to an item describes its clicks too.

    Args:
        clicks, models: The Parquet files; an item is a model of clothing.
    """
    with as_file(clicks) as path:
        log = pd.read_parquet(path)
    with as_file(models) as path:
        items = pd.read_parquet(path).set_index("item_id")
    sessions = Sessions.from_frame(
        log.join(items, on="item_id"),
        time="timestamp",
        features=["category", *items, "country"],
        item_features=items,
    )
    return [sessions]


def join_parts(parts: Sequence[Sessions]) -> Sessions:
    """The parts one after the other in one vocabulary: the items of the first, then what is new.

    Args:
        parts: Sessions without times, users or click features: those of the files in two parts.
    """
    if len(parts) == 1:
        return parts[0]
    ids = parts[0].vocabulary.ids
    tables = [part.item_features for part in parts if part.item_features is not None]
    for part in parts[1:]:
        ids = ids.append(part.vocabulary.ids[parts[0].vocabulary.encode(part.vocabulary.ids) < 0])
    vocabulary = Vocabulary(ids)
    items = [part.with_vocabulary(vocabulary).items for part in parts]
    lengths = [part.lengths for part in parts]
    joined = Sessions(
        np.concatenate(items),
        np.concatenate(([0], np.cumsum(np.concatenate(lengths)))),
        vocabulary,
    )
    if not tables:
        return joined
    named = [
        table.set_axis(part.vocabulary.ids, axis=0)
        for part, table in zip(parts, tables, strict=True)
    ]
    table = pd.concat(named)
    return _described(joined, table[~table.index.duplicated()])


def _described(sessions: Sessions, table: pd.DataFrame) -> Sessions:
    """The sessions with the rows of a table indexed by item id, in code order."""
    rows = table.reindex(sessions.vocabulary.ids).reset_index(drop=True)
    rows.columns.name = None
    return replace(sessions, item_features=rows)
