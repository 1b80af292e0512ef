"""Shards of a large log, built in parallel: saved sessions of each part, in one vocabulary."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from graphseq.arguments import check_sizes
from graphseq.data.loading.samplers import place_among_ranks
from graphseq.data.logs.coded_log import CodedLog, code_log, must_be_held
from graphseq.data.logs.conversion import BUILD, log_columns, write_sessions
from graphseq.data.logs.door import open_log
from graphseq.data.logs.source import Log, LogOptions
from graphseq.data.logs.times import Duration
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import UNKNOWN
from graphseq.data.storage import (
    SESSIONS,
    Folder,
    FolderKind,
    check_replaceable,
    fill_folder,
    open_folder,
    open_sessions,
    write_folder,
)
from graphseq.data.storage.rules import list_of, record, whole

SHARDS = FolderKind(
    format="graphseq.shards",
    version=3,
    header="shards.json",
    holds="shards",
    made_by="build_shards",
    rules={
        "shards": list_of(
            record({"sessions": whole(1), "clicks": whole(1), "with_targets": whole(0)})
        )
    },
    within=SESSIONS,
)

COUNTS = "item_counts"
"""Clicks of each item in all shards, an array beside the header."""


def build_shards(
    log: Log,
    out: str | PathLike[str],
    num_shards: int,
    *,
    session: str | None = "session_id",
    item: str = "item_id",
    time: str | None = None,
    user: str | None = None,
    gap: Duration | None = None,
    features: Sequence[str] = (),
    item_features: pd.DataFrame | None = None,
    client: Any = None,
    **options: Any,
) -> None:
    """Builds shards of a log: each session is in one shard, and all shards share the item codes.

    The shard of a session depends only on its id and the number of shards (``session=None``: on the
    id of its user, whose sessions stay together). Codes of items, users and features follow their
    first appearance in the whole log, in every shard. Otherwise a shard equals what
    :meth:`Sessions.from_frame` makes of its sessions. The log is read and split in this process
    with all cores, then shards are sorted in parallel; the folder is created atomically.

    Args:
        log, session, item, time, user, gap, features: As in :meth:`Sessions.from_frame`.
        out: The folder to create, which all workers must see under this name.
        num_shards: Number of shards: the future number of ranks, or a multiple of it.
        item_features: As in :meth:`Sessions.from_frame`, but a frame only.
        client: Executor: ``None``: this process, one task after the other; a
            ``dask.distributed.Client`` or an executor of ``concurrent.futures``; or the name of a
            scheduler of Dask, ``"threads"``, ``"processes"`` or ``"synchronous"``.
        **options: How the log is read, as in :meth:`Sessions.from_frame`.

    Raises:
        ValueError: As :meth:`Sessions.from_frame`, or if a shard would have no session.
    """
    folder = Path(fspath(out))
    check_sizes(num_shards=num_shards)
    check_replaceable(folder, SHARDS)
    columns = log_columns(session, item, time, user, gap, features, item_features)
    with (
        open_log(log, LogOptions.from_options(options)) as source,
        write_folder(folder, SHARDS) as writer,
    ):
        if must_be_held(source, columns):
            source.read(
                list(dict.fromkeys(columns.sources.values()))
            )  # raises if something is wrong
            raise ValueError(
                "Shards are built from logs with one click per row, columns that have names of "
                "their own, and times that are numbers or ISO 8601: write the log in this form."
            )
        coded = code_log(source, columns, writer.path / BUILD, num_shards)
        names = [_name(number) for number in range(num_shards)]
        tasks = [
            partial(_shard, coded, number, writer.path / name, item_features)
            for number, name in enumerate(names)
        ]
        writer.content = {"shards": run_tasks(client, tasks)}
        writer.write_array(COUNTS, coded.counts())
        shutil.rmtree(coded.folder)
        for name in names:
            writer.add_folder(name, SESSIONS)


class Shards:
    """All shards of a folder, as training data for :func:`~graphseq.training.fit.fit`.

    Each process reads only some of them, memory-mapped.

    Args:
        folder: A folder made by :func:`build_shards`.
        verify: Whether checksums and all values are checked, as in :meth:`Sessions.open`.

    Attributes:
        counts: Clicks of each item in all shards, int64 [num_items].

    Raises:
        ValueError: If the folder holds no shards.
    """

    def __init__(self, folder: str | PathLike[str], *, verify: bool = True) -> None:
        self.folder, self.verify = Path(fspath(folder)), verify
        with open_folder(folder, SHARDS, verify=verify) as opened:
            self._sizes, self._checksums = _read_header(opened)
            self.counts: NDArray[np.int64] = opened.array(COUNTS, np.int64)
        if len(self.counts) and self.counts.min() < 0:
            raise ValueError(f"{self.folder / COUNTS}.npy is broken: a count is negative.")

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def num_items(self) -> int:
        return len(self.counts)

    def __getitem__(self, number: int) -> Sessions:
        """The sessions of one shard, memory-mapped."""
        if not 0 <= number < len(self):
            raise IndexError(f"Shard {number} does not exist: there are {len(self)}.")
        return _open(self.folder, number, self._checksums[number], self.verify)

    def fingerprint(self) -> str:
        """SHA-256 over the checksums of all shards, which are in the header."""
        return hashlib.sha256(repr([len(self), self._checksums]).encode()).hexdigest()

    def num_samples(self, samples: str) -> list[int]:
        """Number of samples of each shard; ``samples`` as in the dataset."""
        return _num_samples(self._sizes, samples)

    def each_item_once(self) -> Sessions:
        """One session per clicked item, without times, with the vocabularies of all shards.

        Gives information about the items without reading a log.
        """
        first, items = self[0], np.flatnonzero(self.counts).astype(np.int32)
        return replace(
            first,
            items=items,
            ptr=np.array([0, len(items)]),
            time=None,
            users=None if first.users is None else np.array([UNKNOWN], dtype=np.int32),
            click_features={
                name: np.full(len(items), UNKNOWN, dtype=np.int32)
                for name in first.feature_vocabularies
            },
            session_ids=None,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)}, num_items={self.num_items})"


def open_shards(
    folder: str | PathLike[str],
    *,
    rank: int | None = None,
    world_size: int | None = None,
    verify: bool = True,
) -> Sessions:
    """The sessions of one rank: its shard, memory-mapped, or its shards, copied into memory.

    Args:
        folder: A folder made by :func:`build_shards`.
        rank, world_size: This process among how many; by default those of ``torch.distributed``.
        verify: Whether checksums and all values are checked, as in :meth:`Sessions.open`.

    Raises:
        ValueError: If the folder holds no shards or damaged ones, or the ranks cannot have equally
            many.
    """
    folder = Path(fspath(folder))
    rank, world_size = place_among_ranks(rank, world_size)
    with open_folder(folder, SHARDS, verify=verify) as opened:
        _, checksums = _read_header(opened)
    num_shards = len(checksums)
    if num_shards % world_size:
        raise ValueError(
            f"{num_shards} shards cannot be shared by {world_size} ranks: build a multiple of that."
        )
    shards = range(rank, num_shards, world_size)
    try:
        mine = [_open(folder, number, checksums[number], verify) for number in shards]
    except ValueError:
        with open_folder(folder, SHARDS, verify=False) as again:
            if _read_header(again)[1] == checksums:
                raise
        # The folder was replaced meanwhile: read all shards from the new one.
        return open_shards(folder, rank=rank, world_size=world_size, verify=verify)
    return Sessions.concat(mine)


def shard_sizes(folder: str | PathLike[str]) -> list[dict[str, int]]:
    """Sessions, clicks and sessions of two clicks or more of each shard.

    Args:
        folder: A folder made by :func:`build_shards`.

    Raises:
        ValueError: If it holds no shards.
    """
    with open_folder(folder, SHARDS, verify=False) as opened:
        return _read_header(opened)[0]


def steps_of_shards(
    folder: str | PathLike[str],
    batch_size: int,
    samples: str = "prefixes",
    *,
    world_size: int | None = None,
) -> int:
    """Number of steps per epoch for all ranks, enough for the rank with the most samples.

    For ``num_steps`` of :class:`~graphseq.data.SessionGraphLoader`, with ``rank=0`` and
    ``world_size=1``, since each rank has its own data.

    Args:
        folder: A folder made by :func:`build_shards`.
        batch_size: Maximum number of samples per batch of one rank.
        samples: ``"prefixes"`` or ``"sessions"``, as in the dataset.
        world_size: Number of processes; by default from ``torch.distributed``.
    """
    _, world_size = place_among_ranks(None if world_size is None else 0, world_size)
    counts = _num_samples(shard_sizes(folder), samples)
    return max(-(-sum(counts[rank::world_size]) // batch_size) for rank in range(world_size))


def _num_samples(sizes: Sequence[dict[str, int]], samples: str) -> list[int]:
    if samples == "sessions":
        return [size["with_targets"] for size in sizes]
    return [size["clicks"] - size["sessions"] for size in sizes]


def run_tasks(client: Any, tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """The results of tasks, in their order.

    Args:
        client: Executor, as in :func:`build_shards`.
        tasks: Functions without arguments; the data they hold is sent to the workers.

    Raises:
        ValueError: If a Dask scheduler is named and Dask is not installed.
    """
    if client is None:
        return [task() for task in tasks]
    if hasattr(client, "submit"):
        return [future.result() for future in [client.submit(task) for task in tasks]]
    try:
        from dask.base import compute
        from dask.delayed import delayed
    except ModuleNotFoundError as error:
        raise ValueError(
            f"client={client!r} names a scheduler of Dask, which is not installed: pip install "
            "'graphseq[dask]', or pass an executor of concurrent.futures."
        ) from error
    return list(compute(*[delayed(task)() for task in tasks], scheduler=client))


def _shard(
    log: CodedLog, number: int, folder: Path, item_features: pd.DataFrame | None
) -> dict[str, int]:
    """Builds one shard; returns its sizes."""
    shutil.rmtree(folder, ignore_errors=True)  # left by a worker that died
    with fill_folder(folder, SESSIONS) as writer:
        write_sessions(writer, log, item_features, number)
    lengths = Sessions.open(folder, verify=False).lengths
    return {
        "sessions": len(lengths),
        "clicks": int(lengths.sum()),
        "with_targets": int((lengths > 1).sum()),
    }


def _name(number: int) -> str:
    return f"shard-{number:05d}"


def _read_header(opened: Folder) -> tuple[list[dict[str, int]], list[str]]:
    """Sizes of the shards, and the checksums of their headers."""
    sizes, folders = opened.header["shards"], opened.header["folders"]
    names = [_name(number) for number in range(len(sizes))]
    if not sizes or list(folders) != names:
        raise ValueError(f"{opened.path / SHARDS.header} is broken: it lists other shards.")
    return sizes, [folders[name] for name in names]


def _open(folder: Path, number: int, checksum: str, verify: bool) -> Sessions:
    return open_sessions(folder / _name(number), Sessions, verify=verify, expected=checksum)
