"""Published kinds of files, each read by one call, and counted again without graphseq.

Where ``--root`` holds the published file, that is read; else a small file in its layout, written by
``experiments.lib.file_layouts`` with made-up values. The call of a row is the text that runs. Its
counts stand beside those that pandas, json and pickle give.
"""

from __future__ import annotations

import argparse
import gzip
import json
import pickle
import tempfile
import zipfile
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

import graphseq as gs
from experiments.benchmarks.report import Benchmark
from experiments.lib import file_layouts as layouts
from graphseq.data.datasets.registry import embedded_folder
from graphseq.data.formats import readers

Counts = tuple[int, int, int]
"""Sessions, clicks, items."""

COUNTED = ("sessions", "clicks", "items")
MODULE = "experiments.file_kinds"


@dataclass(frozen=True)
class Kind:
    """A published kind of file.

    Args:
        name: What it is.
        make: Writes a small file of this layout into a folder.
        call: Reads it, from ``path``; with ``Sessions``, ``readers`` and, after glue, ``frame``.
        count: Counts it without graphseq.
        published: The published file below the root.
        glue: A line that must run before the call.
    """

    name: str
    make: Callable[[Path], Path]
    call: str
    count: Callable[[Path], Counts]
    published: str | None = None
    glue: str | None = None


# -- counting without graphseq -------------------------------------------------------------------


def _table(session: Hashable, item: Hashable, **how: Any) -> Callable[[Path], Counts]:
    """Of a text file with one click per row."""

    def count(path: Path) -> Counts:
        files = [path] if path.is_file() else sorted(path.glob("*.csv"))
        options: dict[str, Any] = {"dtype": str, "keep_default_na": False, "na_values": [""]}
        frame = pd.concat([pd.read_csv(file, **(options | how)) for file in files])
        return frame[session].nunique(), len(frame), frame[item].nunique()

    return count


def _by_pause(user: Hashable, item: Hashable, time: Hashable, pause: float) -> Any:
    """Of a text file of users' clicks, cut where a pause is longer, in the unit of its times."""

    def count(path: Path) -> Counts:
        header = 0 if isinstance(user, str) else None
        return _cut(pd.read_csv(path, header=header), user, item, time, pause)

    return count


def _cut(frame: pd.DataFrame, user: Any, item: Any, time: Any, pause: Any) -> Counts:
    frame = frame.sort_values([user, time], kind="stable")
    starts = (frame[user] != frame[user].shift()) | (frame[time].diff() > pause)
    return int(starts.sum()), len(frame), frame[item].nunique()


def _flat(sessions: Sequence[Sequence[Any]]) -> Counts:
    flat = [item for session in sessions for item in session]
    return len(sessions), len(flat), len(set(flat))


def _words(path: Path) -> list[list[str]]:
    data = path.read_bytes()
    text = gzip.decompress(data) if path.suffix == ".gz" else data
    return [line.split() for line in text.decode().splitlines()]


def _json(user: str, item: str) -> Callable[[Path], Counts]:
    def count(path: Path) -> Counts:
        data = path.read_bytes()
        text = gzip.decompress(data) if path.suffix == ".gz" else data
        rows = [json.loads(line) for line in text.decode().split("\n") if line]
        return len({row[user] for row in rows}), len(rows), len({row[item] for row in rows})

    return count


def _pickled_samples(*, growing: bool) -> Callable[[Path], Counts]:
    """Of prefixes and targets in one order."""

    def count(path: Path) -> Counts:
        prefixes, targets = pickle.loads(path.read_bytes())
        whole = [(*prefix, target) for prefix, target in zip(prefixes, targets, strict=True)]
        return _flat(_longest(whole[::-1] if growing else whole))

    return count


def _longest(samples: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The samples that are not the one before them without its last click."""
    shorter = [now == before[:-1] for before, now in pairwise(samples)]
    return [sample for sample, on in zip(samples, [False, *shorter], strict=True) if not on]


def _recbole_split(folder: Path) -> Counts:
    """Sessions and clicks of all parts, items of the training part."""
    counts = []
    for part in ("train", "valid", "test"):
        frame = pd.read_csv(folder / f"diginetica.{part}.inter", sep="\t", dtype=str)
        lists, targets = frame["item_id_list:token_seq"], frame["item_id:token"]
        samples = [(*a.split(" "), b) for a, b in zip(lists, targets, strict=True)]
        counts.append(_flat(_longest(samples)))
    return sum(c[0] for c in counts), sum(c[1] for c in counts), counts[0][2]


def _otto(path: Path) -> Counts:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return _flat([[event["aid"] for event in row["events"]] for row in rows])


def _mind(path: Path) -> Counts:
    history = pd.read_csv(path, sep="\t", header=None)[3].dropna()
    return _flat([text.split(" ") for text in history])


def _last_fm(path: Path) -> Counts:
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    return len({row[0] for row in rows}), len(rows), len({row[5] for row in rows})


def _movielens_1m(path: Path) -> Counts:
    rows = [line.split("::") for line in path.read_text().splitlines()]
    return len({row[0] for row in rows}), len(rows), len({row[1] for row in rows})


def _parquet(session: str, item: str) -> Callable[[Path], Counts]:
    def count(path: Path) -> Counts:
        frame = pd.read_parquet(path)
        return frame[session].nunique(), len(frame), frame[item].nunique()

    return count


def _eshop(path: Path) -> Counts:
    with zipfile.ZipFile(path) as archive, archive.open("e-shop clothing 2008.csv") as file:
        frame = pd.read_csv(file, sep=";")
    return (
        frame["session ID"].nunique(),
        len(frame),
        frame["page 2 (clothing model)"].nunique(),
    )


# -- the kinds -----------------------------------------------------------------------------------

USERS = 'user="user", item="item", time="time"'

KINDS = (
    Kind(
        "Yoochoose (RecSys 2015) clicks, no header",
        layouts.yoochoose,
        'Sessions.from_frame(path, names=["session", "time", "item", "category"], '
        'session="session", item="item", time="time")',
        _table(0, 2, header=None),
    ),
    Kind(
        "RSC15 as GRU4Rec prepares it, TSV",
        layouts.rsc15,
        "readers.read_clicks(path)",
        _table("SessionId", "ItemId", sep="\t"),
        "yoochoose_100k_clicks/yoochoose-clicks-100k_train_tr.txt.gz",
    ),
    Kind(
        "Diginetica views, snake_case header",
        layouts.diginetica_snake,
        "readers.read_diginetica_views(path)",
        _table("session_id", "item_id", sep=";"),
        "diginetica_raw_sample/sample_train-item-views.csv",
    ),
    Kind(
        "Diginetica views (CIKM Cup 2016), camelCase header",
        layouts.diginetica_camel,
        "readers.read_diginetica_views(path)",
        _table("sessionId", "itemId", sep=";"),
    ),
    Kind(
        "SR-GNN pickle of sessions, Diginetica",
        layouts.pickled_sessions,
        "readers.read_published_pickle(path)",
        lambda path: _flat(pickle.loads(path.read_bytes())),
        "diginetica/all_train_seq.txt",
    ),
    Kind(
        "SR-GNN pickle of prefixes, longest first, Diginetica",
        layouts.pickled_longest_first,
        "readers.read_published_prefixes(path)",
        _pickled_samples(growing=False),
        "diginetica/test.txt",
    ),
    Kind(
        "SR-GNN pickle of prefixes, longest first, RetailRocket",
        layouts.pickled_longest_first,
        "readers.read_published_prefixes(path)",
        _pickled_samples(growing=False),
        "retailrocket/test.txt",
    ),
    Kind(
        "SR-GNN pickle of prefixes, shortest first",
        layouts.pickled_shortest_first,
        "readers.read_published_prefixes(path)",
        _pickled_samples(growing=True),
    ),
    Kind(
        "Session lines, gzip, Yoochoose 1/64",
        layouts.session_lines,
        "readers.read_session_lines(path)",
        lambda path: _flat(_words(path)),
        "yoochoose1_64/train_sessions.txt.gz",
    ),
    Kind(
        "Session lines, gzip, Tmall",
        layouts.session_lines,
        "readers.read_session_lines(path)",
        lambda path: _flat(_words(path)),
        "tmall/train_sessions.txt.gz",
    ),
    Kind(
        "Tmall user log (IJCAI 2015), days as MMDD",
        layouts.tmall,
        'Sessions.from_frame(path, session="user_id", item="item_id", time="time_stamp")',
        _table("user_id", "item_id"),
    ),
    Kind(
        "Tmall log with month and day in two columns",
        layouts.tmall_province,
        'Sessions.from_frame(frame, session="user_id", item="item_id")',
        _table("user_id", "item_id"),
        glue='frame = pd.read_csv(path).sort_values(["month", "day"], kind="stable")',
    ),
    Kind(
        "RetailRocket events.csv, milliseconds",
        layouts.retailrocket,
        'Sessions.from_events(path, user="visitorid", item="itemid", time="timestamp", '
        'time_unit="ms")',
        _by_pause("visitorid", "itemid", "timestamp", 30 * 60 * 1000),
    ),
    Kind(
        "Taobao UserBehavior.csv, no header",
        layouts.taobao,
        'Sessions.from_events(path, names=["user", "item", "category", "behavior", "time"], '
        f"{USERS})",
        _by_pause(0, 1, 4, 30 * 60),
    ),
    Kind(
        "Amazon 5-core, user lines, gzip",
        layouts.user_lines,
        "readers.read_user_lines(path)",
        lambda path: _flat([words[1:] for words in _words(path)]),
        "amazon_5core/Beauty.txt.gz",
    ),
    Kind(
        "Amazon reviews 5-core, JSON lines, gzip",
        layouts.amazon_reviews,
        'Sessions.from_frame(path, session="reviewerID", item="asin", time="unixReviewTime")',
        _json("reviewerID", "asin"),
    ),
    Kind(
        "Amazon ratings only, no header",
        layouts.amazon_ratings,
        f'Sessions.from_events(path, names=["user", "item", "rating", "time"], {USERS}, gap=None)',
        _table(0, 1, header=None),
    ),
    Kind(
        "Amazon Reviews 2023, timed CSV with history",
        layouts.amazon_2023,
        'Sessions.from_frame(path, session="user_id", item="parent_asin", time="timestamp", '
        'time_unit="ms")',
        _table("user_id", "parent_asin"),
    ),
    Kind(
        "MovieLens 100k u.data, no header",
        layouts.movielens_100k,
        f'Sessions.from_events(path, names=["user", "item", "rating", "time"], {USERS}, gap=None)',
        _table(0, 1, header=None, sep="\t"),
    ),
    Kind(
        "MovieLens 1M ratings.dat, `::` between values",
        layouts.movielens_1m,
        f'Sessions.from_events(path, names=["user", "item", "rating", "time"], {USERS}, gap=None, '
        'separator="::")',
        _movielens_1m,
    ),
    Kind(
        "MovieLens 20M ratings.csv",
        layouts.movielens_20m,
        'Sessions.from_events(path, user="userId", item="movieId", gap=None)',
        _table("userId", "movieId"),
    ),
    Kind(
        "MovieLens small, Parquet",
        lambda _: Path(str(embedded_folder("movielens-small"))) / "ratings.parquet",
        'Sessions.from_events(path, item="movie_id", gap=None)',
        _parquet("user_id", "movie_id"),
    ),
    Kind(
        "Pairs of user and item, MovieLens 1M",
        layouts.pairs,
        "readers.read_pairs(path)",
        _table(0, 1, header=None, sep=" "),
        "ml-1m/ml-1m.txt.gz",
    ),
    Kind(
        "RecBole atomic file .inter, MovieLens 100k",
        layouts.recbole_inter,
        "readers.read_inter(path)",
        _table("user_id:token", "item_id:token", sep="\t"),
        "ml-100k/ml-100k.inter.gz",
    ),
    Kind(
        "RecBole benchmark files .train.inter, .valid.inter, .test.inter",
        layouts.recbole_benchmark,
        "readers.read_recbole_split(path)",
        _recbole_split,
    ),
    Kind(
        "OTTO (Kaggle 2022), JSON lines of nested events",
        layouts.otto,
        'Sessions.from_frame(path, session="session", item="events.aid", time="events.ts", '
        'features=["events.type"], time_unit="ms")',
        _otto,
    ),
    Kind(
        "H&M transactions_train.csv, ids with leading zeros",
        layouts.hm,
        'Sessions.from_frame(path, session="customer_id", item="article_id", time="t_dat")',
        _table("customer_id", "article_id"),
    ),
    Kind(
        "H&M transactions_train.csv, article ids in quotes",
        layouts.hm_quoted,
        'Sessions.from_frame(path, session="customer_id", item="article_id", time="t_dat")',
        _table("customer_id", "article_id"),
    ),
    Kind(
        "Last.fm 1K users, TSV with stray quotes",
        layouts.lastfm_1k,
        'Sessions.from_events(path, names=["user", "time", "artist_id", "artist", "track_id", '
        f'"item"], quote=None, {USERS}, gap=None)',
        _last_fm,
    ),
    Kind(
        "Gowalla check-ins, TSV, no header",
        layouts.gowalla,
        f'Sessions.from_events(path, names=["user", "time", "lat", "lon", "item"], {USERS}, '
        "gap=None)",
        _table(0, 4, header=None, sep="\t"),
    ),
    Kind(
        "Foursquare check-ins (TSMC 2014), Latin-1, `Tue Apr 03 18:00:09 +0000 2012`",
        layouts.foursquare,
        'Sessions.from_events(path, names=["user", "item", "category", "name", "lat", "lon", '
        f'"offset", "time"], {USERS}, gap=None, encoding="latin-1", '
        'time_format="%a %b %d %H:%M:%S %z %Y")',
        _table(0, 1, header=None, sep="\t", encoding="latin-1"),
    ),
    Kind(
        "Steam 200k, quoted titles, no times",
        layouts.steam_200k,
        'Sessions.from_frame(path, names=["user", "item", "behavior", "hours", "zero"], '
        'session="user", item="item")',
        _table(0, 1, header=None),
    ),
    Kind(
        "Globo.com clicks, a folder of hourly CSV",
        layouts.globo,
        'Sessions.from_frame(path, session="session_id", item="click_article_id", '
        'time="click_timestamp", user="user_id", time_unit="ms")',
        _table("session_id", "click_article_id"),
    ),
    Kind(
        "Adressa, JSON lines without a suffix",
        layouts.adressa,
        'Sessions.from_events(path, user="userId", item="url", time="time", gap=None)',
        _json("userId", "url"),
    ),
    Kind(
        "MIND behaviors.tsv, histories as text",
        layouts.mind,
        'Sessions.from_frame(path, names=["impression", "user", "time", "history", "shown"], '
        'session="impression", item="history", user="user", item_separator=" ")',
        _mind,
    ),
    Kind(
        "trivago (RecSys 2019) train.csv",
        layouts.trivago,
        'Sessions.from_frame(path, session="session_id", item="reference", time="timestamp")',
        _table("session_id", "reference"),
    ),
    Kind(
        "KuaiRec big_matrix.csv, fractions of seconds",
        layouts.kuairec,
        'Sessions.from_events(path, item="video_id")',
        _by_pause("user_id", "video_id", "timestamp", 30 * 60),
    ),
    Kind(
        "Parquet in hive partitions",
        layouts.hive,
        'Sessions.from_frame(path, session="session", item="item", time="time", features=["day"])',
        _parquet("session", "item"),
    ),
    Kind(
        "Spotify skip prediction, positions for times",
        layouts.spotify,
        'Sessions.from_frame(path, item="track_id_clean", time="session_position")',
        _table("session_id", "track_id_clean"),
    ),
    Kind(
        "Criteo attribution, TSV, gzip",
        layouts.criteo,
        'Sessions.from_frame(path, session="uid", item="campaign", time="timestamp")',
        _table("uid", "campaign", sep="\t"),
    ),
    Kind(
        "Yelp reviews, JSON lines",
        layouts.yelp,
        'Sessions.from_events(path, item="business_id", time="date", gap=None)',
        _json("user_id", "business_id"),
    ),
    Kind(
        "Book-Crossing, semicolons and quotes, Latin-1",
        layouts.book_crossing,
        'Sessions.from_frame(path, session="User-ID", item="ISBN", encoding="latin-1")',
        _table("User-ID", "ISBN", sep=";", encoding="latin-1"),
    ),
    Kind(
        "UCI e-shop clickstream, zip",
        layouts.uci_eshop,
        "readers.read_uci_eshop(path)",
        _eshop,
        "uci_eshop/clickstream+data+for+online+shopping.zip",
    ),
)


def read(kind: Kind, path: Path) -> Counts:
    """The counts of what the call of a kind gives."""
    names: dict[str, Any] = {"path": path, "pd": pd, "Sessions": gs.Sessions, "readers": readers}
    if kind.glue is not None:
        exec(kind.glue, names)
    found = eval(kind.call, names)
    if isinstance(found, gs.Split):
        report = found.report
        return int(report["sessions"].sum()), int(report["clicks"].sum()), found.num_items
    return found.num_sessions, found.num_clicks, found.num_items


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--root", type=Path, help="folder of the published data sets")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder")
    arguments = parser.parse_args(argv)
    benchmark = Benchmark.start(MODULE, argv)
    engine = {name: version(name) for name in ("duckdb", "pyarrow")}
    benchmark.content["versions"] |= engine
    benchmark.content["note"] = f"DuckDB {engine['duckdb']}, pandas {version('pandas')}."
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            path = kind.make(Path(folder))
            real = (
                None
                if kind.published is None
                else arguments.root and arguments.root / kind.published
            )
            if real:
                path = real
            benchmark.add(
                file=kind.name,
                source="published" if real else "its layout",
                call=f"`{kind.glue}` `{kind.call}`" if kind.glue else f"`{kind.call}`",
                **dict(zip(COUNTED, read(kind, path), strict=True)),
                **dict(zip((f"pandas_{n}" for n in COUNTED), kind.count(path), strict=True)),
                lines_of_glue=0 if kind.glue is None else 1,
            )
    benchmark.finish(arguments.out / "file_kinds.json")


if __name__ == "__main__":
    main()
