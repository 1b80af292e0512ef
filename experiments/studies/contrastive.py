"""Contrastive terms with the exact loss fixed: what is left of their gain?

CL4SRec and DuoRec were published beside a loss of one drawn negative per click. Here the loss of
the next item is the exact cross-entropy, the same in every row, and only the term differs:
none, two augmented views (CL4SRec), two draws of dropout, and another session with the same next
item as well (DuoRec). The epoch is chosen on validation.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import graphseq as gs
from experiments.benchmarks.report import Benchmark
from experiments.lib.arguments import Once, out_folder, seed_number
from experiments.lib.results import fit_whole, said
from graphseq.data.graphs.augment import ItemMask, OneOf, RandomCrop, SegmentReorder
from graphseq.evaluation.significance import mean_interval, paired_test
from graphseq.training import Contrastive

METRICS = ("hr@10", "ndcg@10")
PLAIN = "SASRec"


def terms(temperature: float | None) -> dict[str, list[Contrastive]]:
    """Name of a row -> its further losses; with a temperature, vectors are compared by angle."""
    by: dict[str, Any] = {} if temperature is None else {"temperature": temperature, "cosine": True}
    dropout = Contrastive(name="dropout", **by)
    changes = OneOf([RandomCrop(0.6), ItemMask(0.3), SegmentReorder(0.6)])
    return {
        PLAIN: [],
        "CL4SRec": [Contrastive(changes, **by)],
        "DuoRec, dropout alone": [dropout],
        "DuoRec": [dropout, Contrastive(same_target=True, name="same target", **by)],
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.studies.contrastive", description=__doc__
    )
    parser.add_argument("--dataset", default="uci-eshop")
    parser.add_argument("--root", help="folder of the data sets (default: $GRAPHSEQ_DATA)")
    parser.add_argument("--sessions", type=int, help="only so many of the newest of training")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument(
        "--angle",
        type=float,
        help="temperature of vectors compared by angle (default: products, as in the papers)",
    )
    parser.add_argument("--seeds", nargs="+", type=seed_number, action=Once, default=[0, 1, 2])
    parser.add_argument("--out", type=out_folder, default=Path("runs/contrastive"))
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    with said():
        split = gs.load_split(options.dataset, root=options.root, validation=0.1)
    train = split.train if options.sessions is None else split.train[-options.sessions :]
    benchmark = Benchmark.start("experiments.studies.contrastive", argv, options.dataset, train)
    reports: dict[str, list[gs.evaluation.Report]] = {}
    seconds: dict[str, float] = {}
    for seed in options.seeds:
        for name, auxiliary in terms(options.angle).items():
            torch.manual_seed(seed)
            model = gs.models.SASRec(split.num_items, 64, num_layers=1, max_length=20, dropout=0.2)
            start = time.process_time()
            fit_whole(
                model,
                train,
                validation=split.validation,
                auxiliary=auxiliary,
                max_epochs=options.epochs,
                batch_size=options.batch_size,
                learning_rate=0.002,
                monitor="ndcg@10",
                seed=seed,
                progress=False,
            )
            seconds[name] = seconds.get(name, 0.0) + time.process_time() - start
            report = gs.evaluate(model, split.test, ks=(10,))
            reports.setdefault(name, []).append(report)
            print(f"seed {seed} {name}: {report.metrics['ndcg@10']:.4f}", flush=True)
    cluster = np.concatenate([report.cluster for report in reports[PLAIN]])
    for name, runs in reports.items():
        row: dict[str, object] = {"data": options.dataset, "loss": "exact", "model": name}
        for metric in METRICS:
            values = np.concatenate([report.values(metric) for report in runs])
            plain = np.concatenate([report.values(metric) for report in reports[PLAIN]])
            low, high = mean_interval(values, cluster)
            row[metric] = f"{100 * values.mean():.2f} ({100 * low:.2f} to {100 * high:.2f})"
            test = paired_test(values, plain, cluster)
            gain, low, high = 100 * test.difference, 100 * test.low, 100 * test.high
            beyond = "-" if name == PLAIN else f"{gain:+.2f} ({low:+.2f} to {high:+.2f})"
            row[f"{metric} beyond {PLAIN}"] = beyond
        row["training, of SASRec's"] = round(seconds[name] / seconds[PLAIN], 1)
        benchmark.add(**row)
    benchmark.finish(options.out / "results.json")


if __name__ == "__main__":
    main()
