"""Reads each named data set from its files into its published parts."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from importlib.resources import as_file
from importlib.resources.abc import Traversable
from pathlib import Path

import pandas as pd

from graphseq.data.formats.readers import (
    read_inter,
    read_pairs,
    read_published_pickle,
    read_published_prefixes,
    read_session_lines,
    read_user_lines,
)
from graphseq.data.sessions.sessions import Sessions


def movielens_small(
    ratings: Traversable, movies: Traversable, *, gap: str | float | None = None
) -> list[Sessions]:
    """Ratings as clicks, ordered by time; title, year and genres of each movie.

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
    """The two files of the session-based papers, one session per line.

    Args:
        train, test: The parts.
        features: Lines ``item field value``: one column ``field_<field>`` each, missing values NA.
    """
    parts = [read_session_lines(train), read_session_lines(test)]
    if features is None:
        return parts
    rows = pd.read_csv(features, sep=" ", header=None, names=["item", "field", "value"])
    table = rows.pivot(index="item", columns="field", values="value").astype("Int64")
    return [
        part.with_item_features(table.add_prefix("field_").rename_axis(columns=None))
        for part in parts
    ]


def published_pickles(train: Path, test: Path) -> list[Sessions]:
    """The two pickles of the session-based papers: training sessions, and test samples.

    Args:
        train, test: ``all_train_seq.txt`` and ``test.txt``.
    """
    return [read_published_pickle(train), read_published_prefixes(test)]


def amazon(reviews: Path, attributes: Path) -> list[Sessions]:
    """One user and its items per line; the attributes of each item as one text, ``"1|2|3"``."""
    with gzip.open(attributes, "rt", encoding="utf-8") as file:
        listed: dict[str, list[int]] = json.load(file)
    joined = {int(item): "|".join(map(str, numbers)) for item, numbers in listed.items()}
    table = pd.DataFrame({"attributes": pd.Series(joined)})
    return [read_user_lines(reviews).with_item_features(table)]


def ml_1m(pairs: Path, movies: Path) -> list[Sessions]:
    """A pair ``user item`` per line; MovieLens id, title, year and genres of each movie."""
    table = pd.read_csv(movies, sep="\t").set_index("item")
    return [read_pairs(pairs).with_item_features(table)]


def ml_100k(ratings: Path, movies: Path, *, gap: str | float | None = None) -> list[Sessions]:
    """RecBole's atomic files; title, year (NaN if missing) and genres of a movie.

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
    """Clicks of an online shop with dates; features of an item also describe its clicks.

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
