"""CPU seconds to rank a test part by counting models: by their evidence, and by dense scores."""

from __future__ import annotations

import argparse
import time
from importlib import import_module
from pathlib import Path
from unittest import mock

import numpy as np
import torch

import graphseq as gs
from experiments.benchmarks.report import Benchmark
from experiments.lib.arguments import out_folder

MODELS = ("sequential_rules", "markov", "item_knn", "vsknn", "vstan")

evaluation = import_module("graphseq.evaluation.evaluate")


def seconds(
    model: gs.models.SessionModel, sessions: gs.Sessions
) -> tuple[float, gs.evaluation.Report]:
    """CPU seconds of one evaluation, which other work on the machine does not change, and report.

    The process has one thread.
    """
    start = time.process_time()
    report = gs.evaluate(model, sessions)
    return time.process_time() - start, report


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.counting_ranks")
    parser.add_argument("--dataset", help="default: generated sessions")
    parser.add_argument("--root")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--items", type=int, default=40_000, help="items of generated sessions")
    parser.add_argument("--sessions", type=int, default=100_000, help="generated sessions")
    parser.add_argument("--every", type=int, default=1, help="only every n-th test session")
    parser.add_argument("--out", type=out_folder, default=Path("runs/benchmarks"))
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    if options.dataset is None:
        log = gs.generate_sessions(options.sessions, options.items, seed=0)
        split = gs.session_split(log, 0.1)
    else:
        split = gs.load_split(options.dataset, options.root)
    test = split.test.select(np.arange(0, split.test.num_sessions, options.every))
    benchmark = Benchmark.start(
        "experiments.benchmarks.counting_ranks", argv, options.dataset, test
    )
    for name in options.models:
        model = gs.models.MODELS[name](num_items=split.num_items)
        gs.fit(model, split)
        sparse, found = seconds(model, test)
        with mock.patch.object(evaluation, "has_evidence", return_value=False):
            dense, expected = seconds(model, test)
        if not found.ranks.equals(expected.ranks):
            raise AssertionError(f"{name}: the two rankings differ.")
        benchmark.add(
            model=name,
            cases=found.num_cases,
            items=split.num_items,
            sparse_cpu_seconds=round(sparse, 2),
            dense_cpu_seconds=round(dense, 2),
            microseconds_a_case=round(1e6 * sparse / found.num_cases, 1),
            ratio=round(dense / sparse, 1),
        )
    benchmark.finish(options.out / "counting_ranks.json")


if __name__ == "__main__":
    main()
