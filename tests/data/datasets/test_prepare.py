"""Each data set's script prepares its files from a small download in the publisher's layout."""

from __future__ import annotations

import gzip
import importlib.util
import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphseq.data import DATASETS, load_dataset, load_split
from graphseq.data.datasets.preparation import DAY, sessions_by_date

SCRIPTS = Path(__file__).resolve().parents[3] / "datasets"


def prepare(name: str, *arguments: Any) -> None:
    """Runs a script with these arguments."""
    spec = importlib.util.spec_from_file_location("prepare", SCRIPTS / name / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main([str(argument) for argument in arguments])


def test_every_data_set_has_a_script_and_its_card_says_so() -> None:
    for name in DATASETS:
        assert (SCRIPTS / name / "prepare.py").is_file()
        assert "prepare.py" in (SCRIPTS / name / "README.md").read_text(encoding="utf-8")


# -- the preparation of SR-GNN -----------------------------------------------------------------


def naive(
    clicks: list[tuple[int, str, int]], seconds: int, newest: float | None
) -> tuple[list[list[int]], list[list[int]]]:
    """The same with loops over sessions."""
    lists: dict[int, list[str]] = {}
    date: dict[int, int] = {}
    for session, item, day in clicks:
        lists.setdefault(session, []).append(item)
        date[session] = day
    lists = {s: items for s, items in lists.items() if len(items) > 1}
    support = Counter(item for items in lists.values() for item in items)
    lists = {s: [i for i in items if support[i] >= 2] for s, items in lists.items()}
    order = sorted((s for s in lists if len(lists[s]) > 1), key=date.__getitem__)
    cut = max((date[s] for s in order), default=0) - seconds
    number: dict[str, int] = {}
    train = [
        [number.setdefault(item, len(number) + 1) for item in lists[s]]
        for s in order
        if date[s] < cut
    ]
    test = [[number[i] for i in lists[s] if i in number] for s in order if date[s] > cut]
    if newest is not None:
        samples = [place for place, items in enumerate(train) for _ in items[1:]]
        kept = int(len(samples) * newest)
        train = train[samples[-kept] :] if kept else []
    return train, [items for items in test if len(items) > 1]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.sampled_from("abcde"), st.integers(0, 4)),
        min_size=1,
        max_size=40,
    ),
    st.sampled_from([None, 0.5]),
)
def test_sessions_by_date_equal_the_naive_loops(
    clicks: list[tuple[int, str, int]], newest: float | None
) -> None:
    train, test = naive(clicks, 2, newest)
    frame = pd.DataFrame(clicks, columns=["session", "item", "date"])
    if not train or not test:
        if newest is None:
            with pytest.raises(ValueError, match=r"No session of this log|a part has no session"):
                sessions_by_date(frame, test_seconds=2, min_support=2)
        return
    found = sessions_by_date(frame, test_seconds=2, newest=newest, min_support=2)
    assert [part.to_lists() for part in found[:2]] == [train, test]


def test_sessions_by_date_of_a_log_without_a_part_is_refused() -> None:
    one = pd.DataFrame({"session": [1, 1], "item": [7, 7], "date": [0, 0]})
    with pytest.raises(ValueError, match="No session of this log has two clicks"):
        sessions_by_date(one, test_seconds=DAY)
    with pytest.raises(ValueError, match="too short: a part has no session"):
        sessions_by_date(one, test_seconds=DAY, min_support=1)


def views(header: list[str]) -> str:
    """Six days of views of two items by two sessions, and on day 8 and 9 one session each."""
    rows = [
        (s, "NA", item, frame, f"2016-05-{day:02}")
        for s, day in [(1, 1), (2, 1), (3, 2), (4, 9), (5, 10)]
        for item, frame in [(20 + s % 2, 900), (10, 5), (10, 400)]
    ]
    rows += [(6, "NA", 10, 1, "2016-05-10"), (5, "NA", 77, 1000, "2016-05-10")]
    lines = [";".join(map(str, row)) for row in [header, *rows]]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "header",
    [
        ["sessionId", "userId", "itemId", "timeframe", "eventdate"],
        ["session_id", "user_id", "item_id", "timeframe", "eventdate"],
    ],
)
def test_diginetica_by_hand(header: list[str], tmp_path: Path) -> None:
    source = tmp_path / "train-item-views.csv"
    source.write_text(views(header))
    prepare("diginetica", source, "--out", tmp_path)
    split = load_split("diginetica", tmp_path, verify=False)
    # Views by time frame; items 20, 21 and 77 have fewer than five views; session 6 has one.
    assert split.train.to_lists() == [[1, 1], [1, 1], [1, 1]]
    assert split.test.to_lists() == [[1, 1], [1, 1]]


def test_yoochoose_by_hand(tmp_path: Path) -> None:
    rows = [
        f"{s},2014-04-{day:02}T10:{s % 60:02}:{n:02}.277Z,{item},0"
        for s, day in [*((n, 1 + n % 20) for n in range(200)), (500, 27)]
        for n, item in enumerate([9, 8, 9])
    ]
    source = tmp_path / "yoochoose-clicks.dat"
    source.write_text("\n".join(rows) + "\n")
    prepare("yoochoose1_64", source, "--out", tmp_path)
    split = load_split("yoochoose1_64", tmp_path, verify=False)
    # 400 samples, of which the newest 6 are those of 3 sessions.
    assert split.train.to_lists() == [[1, 2, 1]] * 3
    assert split.test.to_lists() == [[1, 2, 1]]


def test_retailrocket_by_hand(tmp_path: Path) -> None:
    hour = 3_600_000
    rows = []
    for visitor in range(5):
        start = visitor * 24 * hour + 1_430_000_000_000
        rows += [(start + n * hour, visitor, "view", item, "") for n, item in enumerate([5, 6])]
    late = 1_430_000_000_000 + 20 * 24 * hour
    rows += [
        (late + n * hour, 9, "view", item, "") for n, item in [(0, 6), (1, 5), (10, 5), (11, 6)]
    ]
    frame = pd.DataFrame(
        rows, columns=["timestamp", "visitorid", "event", "itemid", "transactionid"]
    )
    frame.sample(frac=1, random_state=0).to_csv(tmp_path / "events.csv", index=False)
    prepare("retailrocket", tmp_path / "events.csv", "--out", tmp_path)
    split = load_split("retailrocket", tmp_path, verify=False)
    assert split.train.to_lists() == [[1, 2]] * 5
    assert split.test.to_lists() == [[2, 1], [1, 2]]  # a pause of nine hours is between them


def test_tmall_by_hand(tmp_path: Path) -> None:
    names = ["user_id", "item_id", "cat_id", "seller_id", "brand_id", "time_stamp", "action_type"]
    rows = [
        (user, item, item * 10, item * 100, np.nan if item == 3 else 7, day, 0)
        for user, day in [(1, 511), (2, 511), (1, 512), (2, 512), (1, 1111), (2, 1111)]
        for item in (3, 4)
    ]
    rows += [(3, 4, 40, 400, 7, 511, 2)]  # a purchase is no click
    pd.DataFrame(rows, columns=names).to_csv(tmp_path / "log.csv", index=False)
    prepare("tmall", tmp_path / "log.csv", "--out", tmp_path)
    split = load_split("tmall", tmp_path, verify=False)
    assert split.train.to_lists() == [[1, 2]] * 4
    assert split.test.to_lists() == [[1, 2]] * 2
    table = split.train.item_features
    assert table is not None
    assert table.fillna(-1).to_numpy().tolist() == [[30, 300, -1], [40, 400, 7]]


# -- histories ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "category"),
    [("beauty", "Beauty"), ("sports", "Sports_and_Outdoors"), ("toys", "Toys_and_Games")],
)
def test_amazon_by_hand(name: str, category: str, tmp_path: Path) -> None:
    reviews = [
        {"reviewerID": f"u{user}", "asin": f"i{item}", "unixReviewTime": 100 - item}
        for user in range(5)
        for item in range(5)
    ]
    reviews += [{"reviewerID": "u9", "asin": "i0", "unixReviewTime": 1}]  # one review alone
    about: list[dict[str, Any]] = [
        {"asin": "i4", "brand": "acme", "categories": [[category, "soap"]]},
        {"asin": "i3", "categories": [[category, "soap", "bars"], [category, "gifts"]]},
        {"asin": "other", "categories": [[category, "none"]]},
    ]
    with gzip.open(tmp_path / "reviews.json.gz", "wt") as file:
        file.write("\n".join(map(json.dumps, reviews)))
    with gzip.open(tmp_path / "meta.json.gz", "wt") as file:
        file.write("\n".join(map(repr, about)))  # literals of Python, as published
    sources = (tmp_path / "reviews.json.gz", tmp_path / "meta.json.gz")
    prepare(name, *sources, "--out", tmp_path)
    sessions = load_dataset(name, tmp_path, verify=False)
    assert sessions.to_lists() == [[1, 2, 3, 4, 5]] * 5  # i4, the oldest, first
    assert sessions.item_features is not None
    assert sessions.item_features["attributes"].fillna("-").tolist() == ["1|2", "2|3|4", *"---"]
    prepare(name, *sources, "--attribute-support", 2, "--out", tmp_path)
    few = load_dataset(name, tmp_path, verify=False).item_features
    assert few is not None
    assert few["attributes"].fillna("-").tolist() == ["1", "1", *"---"]


def test_ml_1m_by_hand(tmp_path: Path) -> None:
    rated = [(u, m, 5, 1000 - m) for u in (2, 1) for m in (10, 20, 30, 40, 50)]
    rated += [(u, m, 5, 2000) for u in (3, 4, 5) for m in (10, 20, 30, 40, 50)]
    rated += [(1, 60, 5, 1)]  # rated once
    ratings = "\n".join("::".join(map(str, row)) for row in rated)
    movies = "\n".join(f"{m}::Été {m} (19{m})::Drama|War" for m in (10, 20, 30, 40, 50, 60))
    with zipfile.ZipFile(tmp_path / "ml-1m.zip", "w") as archive:
        archive.writestr("ml-1m/ratings.dat", ratings.encode("latin-1"))
        archive.writestr("ml-1m/movies.dat", movies.encode("latin-1"))
    prepare("ml-1m", tmp_path / "ml-1m.zip", "--out", tmp_path)
    sessions = load_dataset("ml-1m", tmp_path, verify=False)
    assert sessions.to_lists()[:3] == [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [5, 4, 3, 2, 1]]
    table = sessions.item_features
    assert table is not None
    assert table.iloc[0].tolist() == [50, "Été 50 (1950)", 1950, "Drama|War"]


def test_ml_100k_by_hand(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "ml-100k.zip", "w") as archive:
        archive.writestr("ml-100k/u.data", "7\t2\t3\t50\n7\t1\t4\t40\n")
        archive.writestr("ml-100k/u.genre", "unknown|0\nAction|1\nDrama|2\n\n")
        lines = "1|Été (1995)|01-Jan-1995||url|0|1|1\n2|unknown|||url|1|0|0\n"
        archive.writestr("ml-100k/u.item", lines.encode("latin-1"))
    prepare("ml-100k", tmp_path / "ml-100k.zip", "--out", tmp_path)
    sessions = load_dataset("ml-100k", tmp_path, verify=False)
    assert sessions.to_lists() == [[1, 2]]
    assert sessions.click_features["rating"].tolist() == [4.0, 3.0]
    table = sessions.item_features
    assert table is not None
    assert table["title"].tolist() == ["Été", "unknown"]
    assert table["year"].fillna(0).tolist() == [1995, 0]
    assert table["genres"].tolist() == ["Action|Drama", "unknown"]
