"""Two processes that train together equal one with the double batch, for every kind of loss."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.loading.loader import SessionGraphLoader
from graphseq.data.loading.samplers import ClickBatchSampler, SessionBatchSampler
from graphseq.data.loading.shards import build_shards
from graphseq.data.sessions.sessions import Sessions
from graphseq.models import SRGNN
from graphseq.training.fit import fit
from graphseq.training.lightning.collectives import (
    SINGLE_PROCESS,
    Collectives,
    ShareOfBatches,
    share_of,
)
from graphseq.training.lightning.distributed import LaunchConfig

SCRIPT = Path(__file__).with_name("train_together.py")
CASES = 13
SHARDS = {10: 2, 11: 3, 12: 3}
"""Cases that train on shards, and how many."""

Finished = Callable[[str], tuple[Path, int, str]]
Runs = dict[str, list[dict[str, Any]]]


def found(out: Path, *ranks: int) -> Runs:
    """What each process wrote, by the name of the run and its rank."""
    paths = [out.with_name(f"{out.name}-{rank}.json") for rank in ranks]
    return {path.stem: json.loads(path.read_text()) for path in paths}


def log() -> pd.DataFrame:
    """45 sessions of 60 items, each of which occurs."""
    generator = np.random.default_rng(1)
    lengths = generator.integers(1, 9, 45)
    session = np.repeat(np.arange(45), lengths)
    item = np.concatenate([np.arange(60), generator.integers(60, size=len(session) - 60)])
    return pd.DataFrame({"session_id": session, "item_id": item, "user_id": session % 5})


def programs(folder: Path) -> dict[str, list[str]]:
    pq.write_table(pa.Table.from_pandas(log()), folder / "log.parquet")
    for number in (2, 3):
        build_shards(folder / "log.parquet", folder / f"{number}-shards", number, user="user_id")
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port={port}"]
    return {
        "one": [str(SCRIPT), str(folder / "one"), "1"],
        "two": [*torchrun, str(SCRIPT), str(folder / "two"), "2"],
        "own": [str(SCRIPT), str(folder / "own"), "2", "launch"],
    }


@pytest.fixture(scope="module")
def runs(finished: Finished) -> Runs:
    """What one process, and each of two that torchrun starts, found in every case."""
    folder = Path()
    for name in ("one", "two"):
        folder, code, output = finished(name)
        assert code == 0, output
    return found(folder / "one", 0) | found(folder / "two", 0, 1)


@pytest.mark.parametrize("case", range(CASES))
def test_two_processes_find_what_one_with_the_double_batch_does(case: int, runs: Runs) -> None:
    one, first, second = (runs[name][case] for name in ("one-0", "two-0", "two-1"))
    assert len(one["history"]) == 2
    for epoch, other in zip(one["history"], first["history"], strict=True):
        assert epoch.keys() == other.keys()
        for name, value in epoch.items():
            if "seconds" not in name:
                assert other[name] == pytest.approx(value, rel=1e-5, abs=1e-6), (one["case"], name)
    np.testing.assert_allclose(first["weights"], one["weights"], rtol=0, atol=1e-5)
    assert first["weights"] == second["weights"]  # replicas, bit by bit
    # Rows travel, and never the table, where a step reads some rows of a large one.
    sampled = one["case"][1].get("loss") is not None
    assert (first["row_sparse"] > 0) == (second["row_sparse"] > 0) == sampled


@pytest.mark.parametrize("case", SHARDS)
def test_two_processes_read_each_sample_of_shards_once_an_epoch(case: int, runs: Runs) -> None:
    samples = "prefixes" if case == 12 else "sessions"
    lengths = log().groupby("session_id").size()
    targets = int((lengths - 1).sum())
    count = targets if samples == "prefixes" else int((lengths > 1).sum())
    read = {name: [tuple(each) for each in runs[name][case]["read"]] for name in runs}
    both = read["two-0"] + read["two-1"]
    assert len(both) == len(set(both)) == 2 * count
    assert sorted(both) == sorted(read["one-0"])
    shards = [{shard for _, shard, _ in read[f"two-{rank}"]} for rank in (0, 1)]
    assert not shards[0] & shards[1]
    assert shards[0] | shards[1] == set(range(SHARDS[case]))
    if case != 11:  # BERT4Rec draws its targets
        assert runs["two-0"][case]["history"][0]["targets"] == targets


def test_two_processes_leave_one_model_and_one_log(runs: Runs) -> None:
    first, second = runs["two-0"][0], runs["two-1"][0]
    assert {"checkpoints", "logs", "model", "settings.json"} <= set(first["files"])
    assert first["files"] == second["files"]
    assert first["log"] == second["log"]
    assert len(first["log"]) == len(set(first["log"]))


def test_training_of_two_processes_goes_on_from_its_checkpoint(runs: Runs) -> None:
    assert runs["two-0"][0]["resumed"] == runs["two-0"][0]["weights"]


def test_script_that_asks_for_two_devices_is_run_twice(runs: Runs, finished: Finished) -> None:
    folder, code, output = finished("own")
    assert code == 0, output
    own = found(folder / "own", 0, 1)
    for rank in (0, 1):
        assert own[f"own-{rank}"][0]["weights"] == runs["two-0"][0]["weights"]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_shares_of_batches_are_those_of_one_process_each_sample_once(size: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 9, 23)

    def samplers() -> list[Any]:
        options: dict[str, Any] = {"shuffle": True, "seed": 3, "rank": 0, "world_size": 1}
        return [
            SessionBatchSampler(lengths, 11, bucket=True, **options),
            SessionBatchSampler(len(lengths), 11, **options),
            ClickBatchSampler(lengths, 20, **options),
        ]

    for number, whole in enumerate(samplers()):
        shares = [
            ShareOfBatches(samplers()[number], Collectives(rank, size)) for rank in range(size)
        ]
        for epoch in range(2):
            for sampler in (whole, *shares):
                sampler.set_epoch(epoch)
            steps = list(whole)
            assert all(len(share) == len(steps) for share in shares)
            for together, *parts in zip(steps, *shares, strict=True):
                np.testing.assert_array_equal(np.concatenate(parts), together)
            shares[0].first_step = 1
            assert len(list(shares[0])) == len(steps) - 1
            shares[0].first_step = 0


def test_shares_of_sessions_hold_each_once_and_about_as_many_clicks() -> None:
    generator = np.random.default_rng(0)
    sessions = Sessions.from_lists([[s] * int(generator.integers(2, 9)) for s in range(200)])
    parts = [share_of(sessions, Collectives(rank, 3)) for rank in range(3)]
    assert [session for part in parts for session in part] == sessions.to_lists()
    assert max(part.num_clicks for part in parts) < 1.1 * sessions.num_clicks / 3
    few = Sessions.from_lists([[0, 1], [1, 0]])
    assert [share_of(few, Collectives(rank, 5)).num_targets for rank in range(5)].count(0) == 3
    assert share_of(few, SINGLE_PROCESS) is few


def test_one_process_exchanges_nothing() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    parameter.grad = torch.arange(3.0)
    SINGLE_PROCESS.add_gradients([parameter])
    assert parameter.grad.tolist() == [0, 1, 2]
    assert (SINGLE_PROCESS.numbers(7), SINGLE_PROCESS.before(7), SINGLE_PROCESS.any(True)) == (
        [7],
        0,
        True,
    )
    assert torch.equal(SINGLE_PROCESS.gathered(parameter.grad), parameter.grad)


def test_world_is_what_torchrun_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert LaunchConfig.from_arguments("cpu").size == 1
    assert LaunchConfig.from_arguments("cpu", 3).size == 3
    for name, value in (("WORLD_SIZE", 4), ("LOCAL_WORLD_SIZE", 2), ("LOCAL_RANK", 1), ("RANK", 3)):
        monkeypatch.setenv(name, str(value))
    assert LaunchConfig.from_arguments("cpu") == LaunchConfig("cpu", 2, 2, 3)
    assert LaunchConfig.from_arguments("cpu", 2, 2) == LaunchConfig.from_arguments("cpu")
    with pytest.raises(ValueError, match="4 processes were started, but devices=3"):
        LaunchConfig.from_arguments("cpu", 3)


def test_devices_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    with pytest.raises(ValueError, match=r"devices=3 needs as many cores .* here are 2"):
        LaunchConfig.from_arguments("cpu", 3)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"devices=2 needs as many GPUs .* here are 1"):
        LaunchConfig.from_arguments("cuda", 2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="leave out its number"):
        LaunchConfig.from_arguments("cuda:1", 2)
    with pytest.raises(ValueError, match="num_nodes must be at least 1, got 0"):
        LaunchConfig.from_arguments("cpu", 1, 0)


def test_machines_that_do_not_know_of_each_other_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(ValueError, match="num_nodes=2, but this machine does not know the others"):
        LaunchConfig.from_arguments("cpu", None, 2)
    monkeypatch.setenv("MASTER_ADDR", "first")
    monkeypatch.setenv("NODE_RANK", "1")
    assert LaunchConfig.from_arguments("cpu", 1, 2) == LaunchConfig("cpu", 1, 2, 1)


def test_what_processes_cannot_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    sessions = Sessions.from_lists([[0, 1, 2], [2, 1]])
    loader = SessionGraphLoader(SessionGraphDataset(sessions), 2)
    with pytest.raises(ValueError, match="not of a SessionGraphLoader: pass a split"):
        fit(SRGNN(3, 4), loader, devices=2)
