"""Shards: each session is in one shard, with one vocabulary, for every kind of executor."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graphseq.data.graphs.dataset import Samples, SessionGraphDataset
from graphseq.data.loading import shards
from graphseq.data.loading.loader import SessionGraphLoader
from graphseq.data.loading.shards import build_shards, open_shards, shard_sizes, steps_of_shards
from graphseq.data.logs import coded_log
from graphseq.data.sessions.sessions import Sessions

COLUMNS: dict[str, Any] = {"time": "t", "user": "user", "features": ["colour", "price"]}


@pytest.fixture
def frame() -> pd.DataFrame:
    random = np.random.default_rng(0)
    session = random.integers(0, 30, 200)
    return pd.DataFrame(
        {
            "session_id": [f"s{n}" for n in session],
            "item_id": random.integers(0, 25, 200) * 1000,
            "t": random.integers(0, 50, 200),
            "user": session % 7,
            "colour": random.choice(["red", "blue", None], 200),
            "price": random.choice([1.5, np.nan], 200),
        }
    )


@pytest.fixture
def log(frame: pd.DataFrame, tmp_path: Path) -> Path:
    folder = tmp_path / "log"
    folder.mkdir()
    for number, part in enumerate(np.array_split(np.arange(200), 4)):
        table = pa.Table.from_pandas(frame.iloc[part], preserve_index=False)
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=20)
    return folder


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coded_log, "ROWS_PER_BATCH", 16)


def rows(sessions: Sessions) -> list[tuple[Any, ...]]:
    """The log, one tuple per click; missing values as text, which equals itself."""
    return list(
        sessions.to_frame().astype(object).fillna("missing").itertuples(index=False, name=None)
    )


def same_folders(one: Path, other: Path) -> None:
    for path in (p for p in one.rglob("*") if p.is_file()):
        assert path.read_bytes() == (other / path.relative_to(one)).read_bytes(), path.name
    assert len(list(one.rglob("*"))) == len(list(other.rglob("*")))


@pytest.mark.parametrize("num_shards", [1, 3])
def test_each_session_is_in_one_shard_with_the_codes_of_the_whole_log(
    log: Path, frame: pd.DataFrame, tmp_path: Path, num_shards: int
) -> None:
    build_shards(log, tmp_path / "out", num_shards, **COLUMNS)
    parts = [
        open_shards(tmp_path / "out", rank=rank, world_size=num_shards)
        for rank in range(num_shards)
    ]
    whole = Sessions.from_frame(frame, **COLUMNS)
    assert sorted(row for part in parts for row in map(repr, rows(part))) == sorted(
        map(repr, rows(whole))
    )
    names = [set(part.session_ids) for part in parts if part.session_ids is not None]
    assert sum(map(len, names)) == len(set().union(*names)) == len(whole)
    for part in parts:
        assert isinstance(part.items, np.memmap)
        assert part.vocabulary.ids.tolist() == frame["item_id"].unique().tolist()
        assert part.user_vocabulary == whole.user_vocabulary
        assert part.feature_vocabularies["colour"].ids.tolist() == list(
            frame["colour"].dropna().unique()
        )
        # Sessions keep the order in which they begin in the log.
        order = [list(whole.session_ids).index(name) for name in part.session_ids]  # type: ignore
        assert order == sorted(order)
    assert [size["clicks"] for size in shard_sizes(tmp_path / "out")] == [
        part.num_clicks for part in parts
    ]


def test_shards_are_the_same_bytes_whoever_builds_them(log: Path, tmp_path: Path) -> None:
    pytest.importorskip("dask")
    build_shards(log, tmp_path / "alone", 3, **COLUMNS)
    with ThreadPoolExecutor(2) as executor:
        for name, client in (
            ("synchronous", "synchronous"),
            ("threads", "threads"),
            ("processes", "processes"),
            ("executor", executor),
        ):
            build_shards(log, tmp_path / name, 3, client=client, **COLUMNS)
            same_folders(tmp_path / "alone", tmp_path / name)


@pytest.mark.parametrize("kind", [str, int])
def test_shard_of_a_session_is_the_md5_of_its_id_modulo_their_number(
    frame: pd.DataFrame, tmp_path: Path, kind: type
) -> None:
    frame["session_id"] = frame["session_id"].str[1:].astype("int64")
    if kind is str:
        frame["session_id"] = "s" + frame["session_id"].astype("str")
    build_shards(frame, tmp_path / "out", 3)
    for rank in range(3):
        ids = open_shards(tmp_path / "out", rank=rank, world_size=3).session_ids
        assert ids is not None
        for name in ids:
            assert type(name) in (str, np.int64)
            assert int(hashlib.md5(str(name).encode()).hexdigest()[:15], 16) % 3 == rank


def test_shards_of_any_log_are_those_of_its_parquet(
    log: Path, frame: pd.DataFrame, tmp_path: Path
) -> None:
    build_shards(log, tmp_path / "parquet", 3, **COLUMNS)
    frame.to_csv(tmp_path / "log.tsv", index=False, sep="\t")
    build_shards(tmp_path / "log.tsv", tmp_path / "text", 3, separator="\t", **COLUMNS)
    build_shards(frame, tmp_path / "frame", 3, **COLUMNS)
    for name in ("text", "frame"):
        same_folders(tmp_path / "parquet", tmp_path / name)
    with pytest.raises(TypeError, match="There is no option 'seperator'"):
        build_shards(frame, tmp_path / "frame", 3, seperator=",")


def test_shards_of_users_logs_keep_a_user_together(
    log: Path, frame: pd.DataFrame, tmp_path: Path
) -> None:
    build_shards(log, tmp_path / "out", 2, session=None, user="user", time="t", gap=3)
    parts = [open_shards(tmp_path / "out", rank=rank, world_size=2) for rank in (0, 1)]
    whole = Sessions.from_events(frame, user="user", time="t", gap=3)
    assert sum(map(len, parts)) == len(whole)
    users = [set(part.users.tolist()) for part in parts if part.users is not None]
    assert not users[0] & users[1]
    assert all(part.user_vocabulary == whole.user_vocabulary for part in parts)
    assert all(part.session_ids is None for part in parts)
    lists = sorted(zip(whole.users.tolist(), whole.to_lists(), strict=True))  # type: ignore
    assert lists == sorted(
        pair
        for part in parts
        for pair in zip(part.users.tolist(), part.to_lists(), strict=True)  # type: ignore
    )


def test_name_of_the_folder_may_hold_any_sign_but_one(log: Path, tmp_path: Path) -> None:
    build_shards(log, tmp_path / "plain", 2, **COLUMNS)
    build_shards(log, tmp_path / "a[1]*'" / "grp=5" / "out", 2, **COLUMNS)
    same_folders(tmp_path / "plain", tmp_path / "a[1]*'" / "grp=5" / "out")
    with pytest.raises(ValueError, match="holds no '\\?', got"):
        build_shards(log, tmp_path / "a?b", 2, **COLUMNS)
    assert not (tmp_path / "a?b").exists()


def test_several_shards_of_a_rank_are_joined(log: Path, tmp_path: Path) -> None:
    build_shards(log, tmp_path / "out", 4, **COLUMNS)
    parts = [open_shards(tmp_path / "out", rank=rank, world_size=4) for rank in (1, 3)]
    joined = open_shards(tmp_path / "out", rank=1, world_size=2)
    assert repr(rows(joined)) == repr([row for part in parts for row in rows(part)])
    assert joined.vocabulary == parts[0].vocabulary


@pytest.mark.parametrize("samples", ["prefixes", "sessions"])
def test_ranks_take_equal_steps_and_each_sample_once(
    log: Path, tmp_path: Path, samples: Samples
) -> None:
    build_shards(log, tmp_path / "out", 3)
    steps = steps_of_shards(tmp_path / "out", 4, samples, world_size=3)
    seen, largest = 0, 0
    for rank in range(3):
        dataset = SessionGraphDataset(
            open_shards(tmp_path / "out", rank=rank, world_size=3), samples
        )
        loader = SessionGraphLoader(dataset, 4, shuffle=True, num_steps=steps, rank=0, world_size=1)
        sizes = [batch.num_graphs for batch in loader]
        assert len(sizes) == steps
        assert max(sizes) - min(sizes) <= 1
        assert sum(sizes) == len(dataset)
        seen, largest = seen + sum(sizes), max(largest, *sizes)
    assert largest == 4
    everything = open_shards(tmp_path / "out", rank=0, world_size=1)
    assert seen == len(SessionGraphDataset(everything, samples))


def test_item_features_are_those_of_all_items_in_every_shard(log: Path, tmp_path: Path) -> None:
    table = pd.DataFrame({"weight": np.arange(25.0)}, index=np.arange(25) * 1000)
    build_shards(log, tmp_path / "out", 2, item_features=table)
    for rank in (0, 1):
        part = open_shards(tmp_path / "out", rank=rank, world_size=2)
        assert part.item_features is not None
        assert (part.item_features["weight"] * 1000 == part.vocabulary.ids).all()


def test_more_shards_than_sessions_are_refused_and_leave_nothing(log: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Shard \d+ would have no session: build fewer"):
        build_shards(log, tmp_path / "out", 90)
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_wrong_numbers_and_folders_are_refused(log: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="num_shards must be at least 1"):
        build_shards(log, tmp_path / "out", 0)
    with pytest.raises(ValueError, match="something other than shards"):
        build_shards(log, log, 2)
    build_shards(log, tmp_path / "out", 2)
    with pytest.raises(ValueError, match="2 shards cannot be shared by 3 ranks"):
        open_shards(tmp_path / "out", rank=0, world_size=3)
    with pytest.raises(ValueError, match="holds no shards"):
        open_shards(log)
    (tmp_path / "out" / "shards.json").write_text("{}")
    with pytest.raises(ValueError, match=r"shards\.json is not a graphseq\.shards file"):
        open_shards(tmp_path / "out")


def test_missing_dask_is_said_with_the_way_out(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "dask.base", None)
    with pytest.raises(ValueError, match=r"pip install 'graphseq\[dask\]'"):
        build_shards(log, tmp_path / "out", 2, client="threads")


def test_retried_task_of_a_dead_worker_starts_anew(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_shards(log, tmp_path / "out", 2, **COLUMNS)
    run = shards.run_tasks

    def twice(client: Any, tasks: Any) -> list[Any]:
        for task in tasks[:1]:
            task()
        return run(client, tasks)

    monkeypatch.setattr(shards, "run_tasks", twice)
    build_shards(log, tmp_path / "again", 2, **COLUMNS)
    same_folders(tmp_path / "out", tmp_path / "again")


def test_ranks_find_the_old_or_the_new_shards_while_the_folder_is_replaced(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    build_shards(log, out, 2, **COLUMNS)
    stale = shards.Shards(out)
    opened = shards._open

    def open_as_it_is_replaced(*args: Any) -> Sessions:
        monkeypatch.setattr(shards, "_open", opened)
        build_shards(log, out, 2, item="item_id", session="session_id")  # without times
        return opened(*args)

    monkeypatch.setattr(shards, "_open", open_as_it_is_replaced)
    assert open_shards(out, rank=0, world_size=1).time is None
    with pytest.raises(ValueError, match=r"belongs to another build .*: open that folder again"):
        stale[0]
