"""Memory and seconds of the kNN families where histories are long: MovieLens 1M, and one user of
4,000 items.

Each case is a separate process on one thread: peak resident memory in all and before the model
was asked, seconds of the call, and the rank of the targets, which must not change. ``--before``
names a checkout of an earlier commit, whose code is measured in the same way. Rows that the file
in ``--out`` has already, of the same case and commit, are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import graphseq as gs
from experiments.benchmarks.losses import peak_resident_bytes
from experiments.benchmarks.report import Benchmark
from experiments.lib.arguments import out_folder

PEAK_LIMIT_GB = 2.0
ANSWERED = 512
"""Sessions that are given recommendations."""

LONG_USER = "a user of 4,000 items"
CASES = {
    "v-sknn, evaluate": ("vsknn", {}, "evaluate", "ml-1m"),
    "item-knn of all clicks, evaluate": ("item_knn", {"last_clicks": None}, "evaluate", "ml-1m"),
    "vstan, recommend": ("vstan", {}, "recommend", "ml-1m"),
    "item-knn of all clicks, long user": ("item_knn", {"last_clicks": None}, "evaluate", LONG_USER),
    "vstan, evaluate": ("vstan", {}, "evaluate", "ml-1m"),
}
"""Model, its arguments, what it is asked for, and of what."""


def parts(data: str, root: str | None) -> tuple[gs.Sessions, gs.Sessions]:
    """Training and test sessions."""
    if data != LONG_USER:
        split = gs.load_split(data, root=root)
        return split.train, split.test
    train = gs.generate_sessions(20_000, 60_000, mean_length=20.0, seed=0)
    items = np.random.default_rng(0).permutation(train.num_items)[:4000]
    ids = train.vocabulary.decode(items)
    user = gs.Sessions.from_lists([list(ids)], vocabulary=train.vocabulary)
    return train, replace(user, first_target=np.array([4000 - 256]))


def measure(case: str, root: str | None) -> dict[str, Any]:
    """One row, in this process."""
    name, arguments, call, data = CASES[case]
    train, test = parts(data, root)
    model = gs.models.MODELS[name](train.num_items, **arguments).fit_counts(train)
    before = peak_resident_bytes()
    start, cpu = time.perf_counter(), time.process_time()
    if call == "evaluate":
        found = gs.evaluate(model, test).metrics["mrr"]
    else:
        answers = model.recommend(test.select(np.arange(min(ANSWERED, test.num_sessions))), k=20)
        found = float(np.mean([score for answer in answers for _, score in answer]))
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "peak_gb": round(peak_resident_bytes() / 1e9, 2),
        "peak_gb_wanted": PEAK_LIMIT_GB,
        "before_the_call_gb": round(before / 1e9, 2),
        "mrr_or_mean_score": round(found, 6),
    }


def measured(case: str, root: str | None, checkout: Path) -> dict[str, Any]:
    """One row by the code of a checkout, in a separate process."""
    command = [sys.executable, __file__, "--case", case]
    if root is not None:
        command += ["--root", str(Path(root).resolve())]
    paths = os.pathsep.join([str(checkout), str(Path(__file__).parents[2])])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def commit_of(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmarks.knn_memory", description=__doc__
    )
    parser.add_argument("--root", help="the folder of the shared data sets")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--before", type=Path, help="a checkout of an earlier commit")
    parser.add_argument("--out", type=out_folder, default=Path("runs/benchmarks"))
    parser.add_argument("--note", help="said beside the results: a busy machine, ...")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.case:
        torch.set_num_threads(1)
        print(json.dumps(measure(options.case, options.root)))
        return
    benchmark = Benchmark.start("experiments.benchmarks.knn_memory", argv)
    if options.note:
        benchmark.content["note"] = options.note
    here = Path(__file__).parents[2]
    path = options.out / "knn_memory.json"
    kept = json.loads(path.read_text())["rows"] if path.exists() else []
    for case in options.cases:
        for checkout in [options.before, here] if options.before else [here]:
            named = {"case": case, "data": CASES[case][3], "code": commit_of(checkout)}
            same = (row for row in kept if named.items() <= row.items())
            row = next(same, None) or named | measured(case, options.root, checkout)
            benchmark.add(**row)
            benchmark.write(path)
    benchmark.finish(path)


if __name__ == "__main__":
    main()
