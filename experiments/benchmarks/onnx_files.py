"""ONNX files of trained models: bytes, milliseconds per session, and what eight bits cost.

Each file answers the targets of test sessions, session by session; the loss against the file of
float32 is a fraction, with a 95% interval clustered by session.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

import graphseq as gs
from experiments.benchmarks.report import Benchmark
from experiments.lib.results import fit_whole
from graphseq.evaluation.metrics import metric_values
from graphseq.evaluation.significance import paired_test


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="uci-eshop")
    parser.add_argument("--models", nargs="+", default=["gru4rec", "srgnn", "sasrec"])
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--cases", type=int, default=2_000)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    split = gs.session_split(gs.load_dataset(options.dataset), test_fraction=0.1, seed=0)
    benchmark = Benchmark.start("experiments.benchmarks.onnx_files", argv, options.dataset)
    path = options.out / "onnx_files.json"
    sessions = split.test.with_vocabulary(split.train.vocabulary).to_lists()
    codes = split.train.vocabulary
    encoded = [np.asarray(codes.encode(session)) for session in sessions]
    cases = [
        (number, session[:end], session[end])
        for number, session in enumerate(encoded)
        for end in range(1, len(session))
        if (session >= 0).all()
    ]
    rng = np.random.default_rng(0)
    drawn = rng.choice(len(cases), min(options.cases, len(cases)), replace=False)
    cluster = np.array([cases[n][0] for n in drawn])
    prefixes, targets = [cases[n][1] for n in drawn], np.array([cases[n][2] for n in drawn])
    for name in options.models:
        model = gs.models.MODELS[name](split.num_items, hidden_channels=64)
        fit_whole(model, split, max_epochs=options.epochs, progress=False)
        exact: dict[str, np.ndarray] = {}
        for precision in ("float32", "int8"):
            with tempfile.TemporaryDirectory() as folder:
                file = gs.serving.export_onnx(
                    model, Path(folder) / "model.onnx", k=20, precision=precision
                )
                served, size = gs.serving.OnnxModel(file), file.stat().st_size
                served.search(prefixes[:1])
                times, found = [], []
                for prefix in prefixes:
                    started = time.perf_counter()
                    found.append(served.search([prefix])[0][0])
                    times.append(time.perf_counter() - started)
            hit = np.stack(found) == targets[:, None]
            place = np.where(hit.any(1), hit.argmax(1), split.num_items)
            p50, p99 = np.quantile(times, (0.5, 0.99)) * 1e3
            row = {
                "model": name,
                "precision": precision,
                "bytes": size,
                "p50_ms": round(float(p50), 2),
                "p99_ms": round(float(p99), 2),
            }
            for metric in ("hr", "ndcg"):
                values = metric_values(f"{metric}@20", place, np.zeros_like(place), split.num_items)
                exact.setdefault(metric, values)
                test = paired_test(exact[metric], values, cluster)
                row |= {
                    f"{metric}@20": round(float(values.mean()), 4),
                    f"{metric}_loss": round(test.difference, 5),
                    f"{metric}_loss_interval": [round(test.low, 5), round(test.high, 5)],
                }
            benchmark.add(**row)
            benchmark.write(path)
    benchmark.finish(path)


if __name__ == "__main__":
    main()
