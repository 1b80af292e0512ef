"""Offline scoring: the next items of every session of a whole log, in Parquet, shard by shard."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from graphseq.arguments import flag, whole
from graphseq.data.loading.shards import Shards, run_tasks
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.storage.documents import parse_json, replacing_file, write_json
from graphseq.serving.item_vectors import model_version
from graphseq.serving.persistence import checksum_in, load
from graphseq.serving.recommender import Recommender

logger = logging.getLogger(__name__)

PLAN = "_scoring.json"
"""What a folder holds the answers to. Readers of Parquet skip names that begin with ``_``."""

SESSIONS = "_sessions"
"""The sessions, where other processes have to read them."""

HERE = (None, "threads", "synchronous")
"""Clients whose workers share the memory of this process."""


@dataclass(frozen=True)
class Scored:
    """What a run of :func:`score_log` did.

    Args:
        folder: Where the Parquet files are.
        sessions: Sessions of the log.
        shards: Shards of the log.
        scored: Shards that this run scored; earlier runs had scored the others.
    """

    folder: Path
    sessions: int
    shards: int
    scored: int


@dataclass(frozen=True)
class _Shard:
    """Sessions ``start..stop-1`` of a source, of which the first one is number ``first`` of all."""

    number: int
    source: Any
    start: int
    stop: int
    first: int

    @property
    def name(self) -> str:
        return f"part-{self.number:05d}.parquet"


def score_log(
    folder: str | PathLike[str],
    sessions: Sessions | Shards | str | PathLike[str],
    out: str | PathLike[str],
    *,
    k: int = 10,
    exclude_seen: bool = False,
    sessions_per_shard: int = 10_000,
    client: Any = "threads",
) -> Scored:
    """Recommends for every session of a log, and writes one Parquet file per shard.

    All files together hold the frame that ``recommend(sessions, k, as_frame=True)`` returns, in its
    order. Each file is there whole or not at all. A run that was stopped goes on where it ended
    when it is called again: a shard whose file is there is not scored again.

    Args:
        folder: A saved recommender or model.
        sessions: The log: :class:`~graphseq.Sessions`, or the folder in which ``Sessions.save`` put
            it, or :class:`~graphseq.data.Shards`.
        out: The folder to write to; all workers must see it under this name.
        k: Items per session.
        exclude_seen: Whether the items of the session itself are left out.
        sessions_per_shard: Sessions per file at most.
        client: What works: a ``dask.distributed.Client`` or an executor of ``concurrent.futures``;
            the name of a scheduler of Dask, ``"threads"``, ``"processes"`` or ``"synchronous"``; or
            ``None``: this process, one shard after the other. Sessions in memory are saved below
            ``out`` for workers in other processes.

    Returns:
        What was done.

    Raises:
        ValueError: If an argument is wrong, or ``out`` holds the answers of another model, of
            another saved recommender, other sessions, or other options.
    """
    k, exclude_seen = whole("k", k), flag("exclude_seen", exclude_seen)
    sessions_per_shard = whole("sessions_per_shard", sessions_per_shard)
    found, saved, target = load(folder), checksum_in(folder), Path(fspath(out))
    log = sessions if isinstance(sessions, (Sessions, Shards)) else Sessions.open(sessions)
    _make_plan(
        target,
        {
            "model_version": _version(found),
            "checksum": saved,
            "sessions": log.fingerprint(),
            "k": k,
            "exclude_seen": exclude_seen,
            "sessions_per_shard": sessions_per_shard,
        },
    )
    source: Any = log
    answers: Any = found
    if client not in HERE:
        answers = Path(fspath(folder)).resolve(), saved
        source = _folder_of(sessions, target).resolve()
        if isinstance(sessions, Sessions) and not source.exists():
            sessions.save(source)
    shards = list(_cut(log, source, sessions_per_shard))
    left = [shard for shard in shards if not (target / shard.name).exists()]
    if len(left) < len(shards):
        logger.info("%d of %d shards are scored already.", len(shards) - len(left), len(shards))
    tasks: list[Callable[[], None]] = [
        partial(_score, answers, shard, target, k, exclude_seen, len(shards)) for shard in left
    ]
    run_tasks(client, tasks)
    number = shards[-1].first + shards[-1].stop - shards[-1].start if shards else 0
    return Scored(target, number, len(shards), len(left))


def _folder_of(sessions: Any, target: Path) -> Path:
    """Where workers in other processes find the sessions."""
    if isinstance(sessions, Shards):
        return sessions.folder
    return target / SESSIONS if isinstance(sessions, Sessions) else Path(fspath(sessions))


def _make_plan(target: Path, plan: dict[str, Any]) -> None:
    """Writes what the folder is for, or compares it."""
    path = target / PLAN
    if not path.exists():
        if target.exists() and any(target.iterdir()):
            raise ValueError(f"{target} holds other files: name a new folder, or an empty one.")
        target.mkdir(parents=True, exist_ok=True)
        write_json(plan, path)
        return
    before = parse_json(path.read_bytes(), path)
    before = before if isinstance(before, dict) else {}
    other = [name for name, value in plan.items() if before.get(name) != value]
    if other:
        raise ValueError(
            f"{target} holds answers with {other[0]}={before.get(other[0])!r}, and this run has "
            f"{plan[other[0]]!r}: name another folder."
        )


def _cut(log: Sessions | Shards, source: Any, most: int) -> Iterator[_Shard]:
    """The shards, in the order of the sessions."""
    parts = [(log, source)]
    if isinstance(log, Shards):
        parts = [(log[number], (source, number)) for number in range(len(log))]
    number = first = 0
    for part, where in parts:
        for start in range(0, len(part), most):
            stop = min(len(part), start + most)
            yield _Shard(number, where, start, stop, first)
            number, first = number + 1, first + stop - start


def _score(
    answers: Any, shard: _Shard, target: Path, k: int, exclude_seen: bool, total: int
) -> None:
    """Scores one shard and puts its file in place in one step."""
    recommender = _loaded(*answers) if isinstance(answers, tuple) else answers
    sessions = _sessions_of(shard.source)[shard.start : shard.stop]
    frame = recommender.recommend(sessions, k, exclude_seen=exclude_seen, as_frame=True)
    if sessions.session_ids is None:  # numbers, which begin at 0 in each shard
        frame["session_id"] += shard.first
    with replacing_file(target / shard.name) as file:
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), file)
    logger.info("Shard %d of %d is scored.", shard.number + 1, total)


@lru_cache(maxsize=1)
def _loaded(folder: Path, saved: str) -> Any:
    """The recommender of a worker in another process, loaded once."""
    found, now = load(folder), checksum_in(folder)
    if now != saved:
        raise ValueError(
            f"{folder} had the checksum {saved} when scoring began, and has {now} now: put it "
            "back, or score into another folder."
        )
    return found


def _sessions_of(source: Any) -> Sessions:
    """The sessions of a source: they themselves, a folder, or a number among shards."""
    if isinstance(source, Sessions):
        return source
    if isinstance(source, tuple) and isinstance(source[0], Shards):
        shards, number = source
        return shards[number]
    return _opened(source)


@lru_cache(maxsize=1)
def _opened(source: Any) -> Sessions:
    """The sessions of a folder, or of a shard; the run that cut the log verified them."""
    if isinstance(source, tuple):
        folder, number = source
        return Shards(folder, verify=False)[number]
    return Sessions.open(source, verify=False)


def _version(found: Any) -> str:
    return found.version if isinstance(found, Recommender) else model_version(found)
