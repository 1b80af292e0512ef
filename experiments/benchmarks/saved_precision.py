"""What saving a trained model with fewer bits costs: bytes, metrics with intervals, time to load.

The same model is saved as float32, float16 and int8, loaded again and evaluated on the same test
sessions. Losses against float32 are in points, with a paired 95% interval clustered by session.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import graphseq as gs
from experiments.benchmarks.report import Benchmark

METRICS = ("hr@20", "ndcg@20")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path, help="folders of trained models")
    parser.add_argument("--dataset", default="diginetica")
    parser.add_argument("--root", default=None, help="folder of the data sets")
    parser.add_argument("--every", type=int, default=4, help="every n-th test session is evaluated")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    test = gs.load_split(options.dataset, options.root).test[:: options.every]
    benchmark = Benchmark.start("experiments.benchmarks.saved_precision", argv, options.dataset)
    path = options.out / "saved_precision.json"
    for folder in options.models:
        model = gs.load(folder)
        exact = gs.evaluate(model, test, ks=20)
        for precision in ("float32", "float16", "int8"):
            with tempfile.TemporaryDirectory() as temporary:
                small = Path(temporary) / "model"
                model.save(small, precision=precision)
                started = time.process_time()
                loaded = gs.load(small)
                seconds = time.process_time() - started
                size = (small / "weights.safetensors").stat().st_size
            report = gs.evaluate(loaded, test, ks=20)
            row: dict[str, Any] = {"model": type(model).__name__, "precision": precision}
            row |= {"bytes": size, "load_cpu_seconds": round(seconds, 2)}
            for metric in METRICS:
                test_of = exact.compare(report, metric)
                row[metric] = round(report.metrics[metric] * 100, 2)
                row[f"{metric} loss"] = round(test_of.difference * 100, 3)
                row[f"{metric} interval"] = [
                    round(end * 100, 3) for end in (test_of.low, test_of.high)
                ]
            benchmark.add(**row)
            benchmark.write(path)
    benchmark.content["note"] = f"{exact.num_cases:,} targets of {options.dataset}."
    benchmark.finish(path)


if __name__ == "__main__":
    main()
