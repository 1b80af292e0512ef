"""Trainings that are killed at random times and go on, against the same ones left alone.

Each training is a separate process that writes a checkpoint every few steps. One is left alone;
the other is killed by SIGKILL some seconds after its first checkpoint, several times, goes on each
time with ``resume=True``, and ends. Then weights, optimizer, averages, history and log are compared
bit by bit, apart from times. ``share`` is the part of the whole training that checkpoints took.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

import graphseq as gs
from experiments.benchmarks.report import Benchmark
from experiments.lib.arguments import out_folder
from graphseq.training.fit import CHECKPOINT
from graphseq.training.lightning.checkpoints import DurableCheckpointIO, read

WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "SASRec, dropout": ("sasrec", {"schedule": "cosine", "warmup": 0.1}),
    "GRU4Rec, sampled, averaged, groups of two": (
        "gru4rec",
        {"loss": "sampled_softmax", "ema": 0.99, "accumulate": 2},
    ),
}


def train(way: str, folder: Path) -> None:
    """Trains in this process, and notes how long checkpoints took."""
    torch.set_num_threads(1)
    name, options = WAYS[way]
    split = gs.leave_last_split(gs.load_dataset("movielens-small"), n=5, validation=1)
    torch.manual_seed(0)
    arguments = {"dropout": 0.2} if name == "sasrec" else {}
    model = gs.models.MODELS[name](split.num_items, hidden_channels=32, **arguments)
    write, seconds = DurableCheckpointIO.save_checkpoint, []

    def timed(self: DurableCheckpointIO, checkpoint: dict[str, Any], *where: Any) -> None:
        start = time.perf_counter()
        write(self, checkpoint, *where)
        seconds.append(time.perf_counter() - start)

    settings = gs.TrainingSettings(max_epochs=2, batch_size=16, checkpoint_steps=5).replace(
        **options
    )
    with patch.object(DurableCheckpointIO, "save_checkpoint", timed):
        result = gs.fit(model, split, settings, out=folder, resume=True, progress=False)
    told = {"checkpoints": len(seconds), "seconds": sum(seconds), "training": result.seconds}
    (folder / "told.json").write_text(json.dumps(told))


def killed(way: str, folder: Path, kills: int, seed: int) -> int:
    """Trains in processes that are killed, then in one that is not; returns how many were."""
    rng, done = np.random.default_rng(seed), 0
    path = folder / CHECKPOINT
    for last in [False] * kills + [True]:
        before = path.stat().st_mtime_ns if path.exists() else 0
        process = start(way, folder)
        while not last and process.poll() is None:
            if path.exists() and path.stat().st_mtime_ns != before:
                time.sleep(rng.uniform(0, 1))  # somewhere in a step or in the next checkpoint
                process.kill()
                break
            time.sleep(0.01)
        done += process.wait() == -9
    return done


def start(way: str, folder: Path) -> subprocess.Popen[bytes]:
    module = "experiments.benchmarks.interruption"
    return subprocess.Popen([sys.executable, "-m", module, "--train", way, str(folder)])


def same(one: Any, other: Any) -> bool:
    """Equal to the last bit, apart from times."""
    if isinstance(one, dict):
        names = [name for name in one if not str(name).endswith("seconds")]
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in names)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmarks.interruption", description=__doc__
    )
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--out", type=out_folder, default=Path("runs"))
    parser.add_argument("--train", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.train:
        train(options.train[0], Path(options.train[1]))
        return
    sessions = gs.load_dataset("movielens-small")
    module = "experiments.benchmarks.interruption"
    benchmark = Benchmark.start(module, argv, "movielens-small", sessions)
    for seed, way in enumerate(WAYS):
        with tempfile.TemporaryDirectory() as name:
            whole, broken = Path(name) / "whole", Path(name) / "broken"
            start(way, whole).wait()
            kills = killed(way, broken, options.kills, seed)
            told = json.loads((whole / "told.json").read_text())
            states = [read(f / CHECKPOINT) for f in (whole, broken)]
            logs = [(f / "logs" / "metrics.csv").read_bytes() for f in (whole, broken)]
            benchmark.add(
                training=way,
                steps=states[0]["global_step"],
                kills=kills,
                bit_equal=same(*states) and logs[0] == logs[1],
                checkpoints=told["checkpoints"],
                checkpoint_mb=round((whole / CHECKPOINT).stat().st_size / 1e6, 1),
                checkpoint_ms=round(1000 * told["seconds"] / told["checkpoints"], 1),
                share=round(told["seconds"] / told["training"], 3),
            )
            benchmark.write(options.out / "interruption.json")
    benchmark.finish(options.out / "interruption.json")


if __name__ == "__main__":
    main()
