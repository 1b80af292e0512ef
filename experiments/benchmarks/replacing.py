"""Folders that are saved over while others open them: how many loads found a mixture or nothing.

One process saves two models, and two logs, in turn and without a pause over the same two folders;
this one loads both again and again. A mixture has weights of one model and ids of the other, or
arrays of one log and ids of the other.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import graphseq as gs
from experiments.benchmarks.report import Benchmark
from experiments.lib.arguments import out_folder

NAMES = ("one", "other")
NUM_ITEMS = 2_000


def log_of(name: str) -> gs.Sessions:
    """Sessions whose ids all begin with the name; those of the other are in reverse order."""
    ids = [f"{name} {number}" for number in range(NUM_ITEMS)]
    return gs.Sessions.from_lists([ids if name == NAMES[0] else ids[::-1]])


def model_of(name: str) -> gs.models.GRU4Rec:
    """A model that knows the log of this name, with one number in all its weights."""
    model = gs.models.GRU4Rec(NUM_ITEMS, hidden_channels=8)
    model.attach(log_of(name).catalog())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(NAMES.index(name) + 1.0)
    return model


def model_found(folder: Path) -> str:
    """The name of the model in a folder, or what is wrong with it."""
    model = gs.load(folder)
    assert model.catalog is not None
    owners = {str(item).partition(" ")[0] for item in model.catalog.items.ids}
    owners |= {NAMES[int(n) - 1] for p in model.parameters() for n in p.unique().tolist()}
    return owners.pop() if len(owners) == 1 else "mixture"


def log_found(folder: Path) -> str:
    """The name of the log in a folder, or what is wrong with it."""
    clicked = gs.Sessions.open(folder)[0]
    return next((name for name in NAMES if clicked == log_of(name)[0]), "mixture")


def save_forever(folder: Path, stop: Any) -> None:
    """Saves one and the other in turn."""
    logs, models = [log_of(name) for name in NAMES], [model_of(name) for name in NAMES]
    while not stop.is_set():
        for log, model in zip(logs, models, strict=True):
            log.save(folder / "log")
            model.save(folder / "model")


def tally(found: Callable[[Path], str], folder: Path, times: int) -> Counter[str]:
    """What a folder held, so many times."""
    counts: Counter[str] = Counter()
    for _ in range(times):
        try:
            counts[found(folder)] += 1
        except (ValueError, OSError):
            counts["error"] += 1
    return counts


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmarks.replacing", description=__doc__
    )
    parser.add_argument("--times", type=int, default=2000)
    parser.add_argument("--out", type=out_folder, default=Path("runs"))
    options = parser.parse_args(argv)
    benchmark = Benchmark.start("experiments.benchmarks.replacing", argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log_of(NAMES[0]).save(folder / "log")
        model_of(NAMES[0]).save(folder / "model")
        first = (folder / "model" / "model.json").stat().st_ino
        stop = multiprocessing.Event()
        saver = multiprocessing.Process(target=save_forever, args=(folder, stop))
        saver.start()
        while (folder / "model" / "model.json").stat().st_ino == first:
            time.sleep(0.01)  # until it saves
        for kind, found in (("model", model_found), ("log", log_found)):
            counts = tally(found, folder / kind, options.times)
            benchmark.add(
                folder=kind,
                loads=options.times,
                **{each: counts[each] for each in (*NAMES, "mixture", "error")},
            )
        stop.set()
        saver.join()
    benchmark.finish(options.out / "replacing.json")


if __name__ == "__main__":
    main()
