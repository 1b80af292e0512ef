"""A program that trains, is killed at random moments, goes on, and trains again without a kill.

``python killed_training.py FOLDER`` trains each way of :data:`WAYS` in ``FOLDER/<way>/whole`` and,
killed by SIGKILL several times, in ``FOLDER/<way>/killed``. Each training runs in a process of its
own, forked from this one; its moments are counted by :func:`tick`, and the moments to die are drawn
from all that the whole training has. ``FOLDER/ends.json`` tells how each process ended.
"""

from __future__ import annotations

import functools
import io
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch_geometric.loader import DataLoader

import graphseq as gs
from graphseq.data.storage import files
from graphseq.training.lightning import checkpoints, loggers, module
from graphseq.training.optim import optimizers

NUM_ITEMS = 40
KILLS = 5

WAYS: dict[str, dict[str, Any]] = {
    "dropout": {"schedule": "cosine", "warmup": 5, "checkpoint_steps": 2, "patience": 2},
    "row-sparse": {
        "loss": gs.SampledLoss(num_negatives=6),
        "optimizer": "adamw",
        "weight_decay": 0.1,
        "ema": 0.9,
        "accumulate": 2,
        "gradient_clip": 0.5,
        "checkpoint_steps": 3,
    },
    "lanes": {"lanes": 9, "loss": "sampled_softmax", "checkpoint_steps": 5, "max_epochs": 2},
    "foreign": {"checkpoint_minutes": 1e-9, "optimizer": "adagrad"},
}

moment, deadline = 0, 0
in_a_write: list[int] = []
"""Moments at which a part of a checkpoint is on the disk."""


def tick() -> None:
    """One more moment is over; dies if it was the last one to live."""
    global moment
    moment += 1
    if moment == deadline:
        os.kill(os.getpid(), signal.SIGKILL)


def ticking(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        tick()
        result = function(*args, **kwargs)
        tick()
        return result

    return called


def written_in_halves(file: Any, *content: Any) -> None:
    """A checkpoint with moments at which half of the file is there, and all but the end."""
    whole = io.BytesIO()
    write(whole, *content)
    data = whole.getvalue()
    for part in (data[: len(data) // 2], data[len(data) // 2 : -10], data[-10:]):
        file.write(part)
        file.flush()
        tick()
        in_a_write.append(moment)


write = files._write


def train(way: str, folder: Path, resume: bool) -> None:
    """Trains in a folder, and writes what came out beside the model."""
    rng = np.random.default_rng(0)
    lists = [
        [(start + int(step)) % NUM_ITEMS for step in rng.integers(0, 4, size=2 + start % 5)]
        for start in range(2 * NUM_ITEMS)
    ]
    split = gs.session_split(gs.Sessions.from_lists(lists), 0.2, seed=0, validation=0.2)
    torch.manual_seed(0)
    model: Any = gs.models.GRU4Rec(split.num_items, 6, dropout=0.2)
    data: Any = split
    if way == "dropout":
        model = gs.models.SASRec(split.num_items, 8, dropout=0.3)
    if way == "foreign":  # PyG's own loader, whose order comes from torch's random state
        model = gs.models.SRGNN(split.num_items, 8)
        data = DataLoader(gs.SessionGraphDataset(split.train), batch_size=16, shuffle=True)
    torch.manual_seed(int.from_bytes(os.urandom(4)))  # which is another one after every kill
    result = gs.fit(
        model,
        data,
        gs.TrainingSettings(max_epochs=3, batch_size=8, learning_rate=0.01).replace(**WAYS[way]),
        validation=split.validation,
        out=folder,
        resume=resume,
        progress=False,
    )
    kept = [name for name in result.history if "seconds" not in name]
    result.history[kept].to_csv(folder / "history.csv", index=False)
    (folder / "best.json").write_text(json.dumps([result.best_epoch, moment, in_a_write]))


def in_a_process(way: str, folder: Path, *, resume: bool, die_at: int) -> int:
    """Trains in a forked process; returns the signal that ended it, or 0."""
    global deadline
    pid = os.fork()
    if pid == 0:
        deadline = die_at
        try:
            train(way, folder, resume)
            os._exit(0)
        except BaseException as error:
            sys.stderr.write(repr(error))
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status)
    if os.WEXITSTATUS(status) != 0:
        raise SystemExit(f"{way} failed")
    return 0


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    files._write = written_in_halves
    for place, name in (
        (os, "fsync"),
        (checkpoints.DurableCheckpointIO, "save_checkpoint"),
        (Path, "replace"),
        (module, "evaluate"),
        (module, "seed_step"),
        (loggers.MetricsLog, "_append"),
        (optimizers.RowSparseOptimizer, "step"),
    ):
        setattr(place, name, ticking(getattr(place, name)))
    ends: dict[str, list[int]] = {}
    for number, way in enumerate(WAYS):
        whole, killed = folder / way / "whole", folder / way / "killed"
        in_a_process(way, whole, resume=False, die_at=0)
        _, moments, writes = json.loads((whole / "best.json").read_text())
        rng = np.random.default_rng(number)
        ends[way] = []
        for turn in range(KILLS):
            # First in the middle of a write, then anywhere in the sixth that may be left.
            first = int(rng.choice(writes[: len(writes) // 2]))
            die_at = first if turn == 0 else int(rng.integers(1, moments // 6))
            ends[way].append(in_a_process(way, killed, resume=turn > 0, die_at=die_at))
            if ends[way][-1] == 0:
                break
        else:
            ends[way].append(in_a_process(way, killed, resume=True, die_at=0))
    (folder / "ends.json").write_text(json.dumps(ends))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
