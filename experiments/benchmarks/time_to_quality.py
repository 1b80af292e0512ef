"""CPU seconds to quality, of RecBole's SR-GNN and RecTools' SASRec beside ours, on the same parts.

Each peer is run in a separate environment, never a part of this project. Set them up once (torch
first, so that nothing picks another build of it), then name their Pythons::

    python -m venv ../recbole && ../recbole/bin/pip install torch==2.13.0
    ../recbole/bin/pip install recbole==1.2.1 "setuptools<80" "numpy<2" "pandas<2.3" "scipy<1.14"
    python -m venv ../rectools && ../rectools/bin/pip install torch==2.13.0
    ../rectools/bin/pip install "rectools[torch]==0.19.0"
    python -m experiments.benchmarks.time_to_quality --recbole-python ../recbole/bin/python \\
        --rectools-python ../rectools/bin/python

Parts, families, budget and marks are those of ``experiments.budget``: one thread, process time,
rankings not counted. The peers have the same width, window, layers, heads and dropout, and their
own loss, optimizer and loop, at a constant rate: two rates each, of which validation chooses one
per data set. Ours have the settings of ``experiments.budget``. Sessions with a click that training
has not seen are left out of validation and test, since the peers cannot read them. Finished
trainings are kept in ``--out``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import graphseq as gs
from experiments.benchmarks.report import Benchmark
from experiments.budget import (
    ENOUGH,
    FAMILIES,
    MARKS,
    MONITOR,
    PREFIXES,
    SESSIONS,
    WIDTH,
    few,
    run_cell,
    seconds_to,
)
from experiments.lib.arguments import out_folder, seed_number
from experiments.lib.parts import PARTS, part_of
from experiments.lib.results import said
from graphseq.comparison.record import write_json

MODULE = "experiments.benchmarks.time_to_quality"
SIDES = Path(__file__).with_name("peer_sides.py")
RATES = (0.001, 0.005)
PEERS: dict[str, tuple[str, list[str]]] = {
    "RecBole 1.2.1, SR-GNN": ("recbole", ["--batch-size", str(PREFIXES["batch_size"])]),
    "RecTools 0.19.0, SASRec": ("rectools", ["--batch-size", str(SESSIONS["batch_size"])]),
    "RecTools 0.19.0, SASRec, 128 negatives": (
        "rectools",
        ["--batch-size", str(SESSIONS["batch_size"]), "--negatives", "128"],
    ),
}
"""The peer's name and its options; RecTools draws negatives per position, at a price."""
OURS = {"graphseq, SR-GNN": "SR-GNN", "graphseq, SASRec": "SASRec"}


def readable(sessions: gs.Sessions) -> gs.Sessions:
    """The sessions of which training has seen every item."""
    unknown = np.add.reduceat(np.asarray(sessions.items) < 0, sessions.ptr[:-1])
    return sessions.select(unknown == 0)


def prefixes(sessions: gs.Sessions) -> tuple[pd.DataFrame, np.ndarray]:
    """What stands before each target as rows of ``case`` and ``item_id``; the targets."""
    items, ptr = np.asarray(sessions.items), sessions.ptr
    first = np.repeat(ptr[:-1], sessions.lengths)
    target = np.flatnonzero(np.arange(len(items)) > first)  # every click after the first
    lengths = target - first[target]
    ends = np.cumsum(lengths)
    click = np.arange(ends[-1]) - np.repeat(ends - lengths - first[target], lengths)
    frame = pd.DataFrame(
        {"case": np.repeat(np.arange(len(target)), lengths), "item_id": items[click]}
    )
    return frame, items[target]


def write_parts(split: gs.Split, folder: Path) -> None:
    """Training clicks, cases and their targets as CSV files."""
    train = split.train
    pd.DataFrame(
        {
            "session_id": train.session_index,
            "item_id": np.asarray(train.items),
            "timestamp": np.arange(train.num_clicks),  # order alone matters
        }
    ).to_csv(folder / "train.csv", index=False)
    assert split.validation is not None
    for part, sessions in (("validation", few(split.validation)), ("test", split.test)):
        frame, targets = prefixes(sessions)
        frame.to_csv(folder / f"{part}.csv", index=False)
        pd.DataFrame({"item_id": targets}).to_csv(folder / f"{part}_targets.csv", index=False)


def run_peer(
    python: Path,
    peer: str,
    options: list[str],
    rate: float,
    seconds: float,
    folder: Path,
    seed: int,
) -> list[dict[str, Any]]:
    """What a peer says, a line for each ranking."""
    words = [str(python), str(SIDES), peer, "--folder", str(folder), "--seed", str(seed)]
    words += ["--learning-rate", str(rate), *options]
    words += ["--width", str(WIDTH["hidden_channels"])]
    words += ["--marks", *(f"{share * seconds:.4g}" for share in MARKS)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{peer} failed:\n{done.stderr[-4000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def run_rates(python: Path, name: str, seconds: float, folder: Path, seed: int) -> dict[str, Any]:
    """The better of two rates by validation."""
    peer, options = PEERS[name]
    runs = []
    for rate in RATES:
        _, *curve, test = run_peer(python, peer, options, rate, seconds, folder, seed)
        runs.append({"learning_rate": rate, "curve": curve, "test": test})
    return max(runs, key=lambda run: max(row[MONITOR] for row in run["curve"]))


def run_ours(split: gs.Split, family: str, seconds: float, seed: int) -> dict[str, Any]:
    """Our model by the settings of ``experiments.budget``."""
    cell = run_cell(split, FAMILIES[family], seconds, seed)
    rate = FAMILIES[family].fit["learning_rate"]
    return {"learning_rate": rate, "curve": cell["curve"], "test": cell["metrics"]}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog=f"python -m {MODULE}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--recbole-python", type=Path, required=True)
    parser.add_argument("--rectools-python", type=Path, required=True)
    parser.add_argument("--root", help="folder of the data sets (default: $GRAPHSEQ_DATA)")
    parser.add_argument(
        "--datasets", nargs="+", choices=list(PARTS), default=["uci-eshop", "diginetica"]
    )
    parser.add_argument("--seconds", type=float, default=40.0, help="CPU seconds of a training")
    parser.add_argument("--seed", type=seed_number, default=0)
    parser.add_argument("--out", type=out_folder, default=Path("runs/benchmarks"))
    options = parser.parse_args(argv)
    pythons = {"recbole": options.recbole_python, "rectools": options.rectools_python}
    benchmark = Benchmark.start(MODULE, argv)
    with said():
        for data in options.datasets:
            split = part_of(data, options.root)
            assert split.validation is not None
            split = replace(split, validation=readable(split.validation), test=readable(split.test))
            found = {}
            with tempfile.TemporaryDirectory() as folder:
                for model in (*PEERS, *OURS):
                    path = options.out / "cells" / f"{data}, {model}, seed {options.seed}.json"
                    if not path.exists():
                        if model in OURS:
                            run = run_ours(split, OURS[model], options.seconds, options.seed)
                        else:
                            write_parts(split, Path(folder))
                            python = pythons[PEERS[model][0]]
                            run = run_rates(
                                python, model, options.seconds, Path(folder), options.seed
                            )
                        write_json(run, path)
                    found[model] = json.loads(path.read_text(encoding="utf-8"))
                    sys.stderr.write(f"{data} {model} {found[model]['test']}\n")
            for name, run in found.items():
                best = max(row[MONITOR] for row in run["curve"])
                family = name.split(", ")[1]
                peers = [peer for peer in PEERS if peer.split(", ")[1] == family]
                theirs = max(row[MONITOR] for peer in peers for row in found[peer]["curve"])
                to_theirs = seconds_to(run["curve"], ENOUGH * theirs)
                benchmark.add(
                    data=data,
                    model=name,
                    rate=run["learning_rate"],
                    **{f"test {m}": round(100 * run["test"][m], 2) for m in ("hr@20", "mrr@20")},
                    **{"best on validation": round(100 * best, 2)},
                    **{"s to 95 % of its best": seconds_to(run["curve"], ENOUGH * best)},
                    **{"s to 95 % of the peer's best": "-" if to_theirs is None else to_theirs},
                )
            benchmark.content.setdefault("curves", {})[data] = {
                name: run["curve"] for name, run in found.items()
            }
            benchmark.write(options.out / "time_to_quality.json")
    benchmark.finish(options.out / "time_to_quality.json")


if __name__ == "__main__":
    main()
