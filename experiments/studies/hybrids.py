"""Hybrids against their parts: sequential, collaborative, content, knowledge graph, two tasks.

All weights of fusions are learned on the validation part, all epochs are chosen on it; the test
part is ranked once. Differences are to the best single part, clustered by user or session.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

import graphseq as gs
from experiments.benchmarks.report import Benchmark
from experiments.lib.arguments import Once, out_folder, seed_number
from experiments.lib.results import fit_whole, said
from experiments.studies.cold_items import FEATURES
from graphseq.evaluation.significance import mean_interval, paired_test
from graphseq.models import SessionModel

METRICS = ("unseen hr@10", "unseen ndcg@10")
PARTS = ("sasrec", "ials", "lightgcn", "content kNN")

TASK = {"uci-eshop": "colour", "beauty": "attributes", "toys": "attributes"}
"""What the second task predicts of the next item, where it is not its genres."""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.studies.hybrids", description=__doc__
    )
    parser.add_argument("--dataset", default="ml-100k", choices=sorted(FEATURES))
    parser.add_argument("--root", help="folder of the data sets (default: $GRAPHSEQ_DATA)")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--max-length", type=int, default=50)
    parser.add_argument("--seeds", nargs="+", type=seed_number, action=Once, default=[0, 1])
    parser.add_argument("--out", type=out_folder, default=Path("runs/hybrids"))
    options = parser.parse_args(argv)
    with said():
        split = gs.load_split(options.dataset, root=options.root, validation=1)
    benchmark = Benchmark.start("experiments.studies.hybrids", argv, options.dataset, split.train)
    reports: dict[str, list[gs.evaluation.Report]] = {}
    weights: dict[str, str] = {}
    for seed in options.seeds:
        for name, model in models(split, options, seed):
            report = gs.evaluate(model, split.test, ks=(10,), protocol="leave-one-out")
            reports.setdefault(name, []).append(report)
            if isinstance(model, gs.models.Ensemble):
                weights[name] = ", ".join(f"{weight:g}" for weight in model.weights)
            print(f"seed {seed} {name}: {report.metrics['ndcg@10']:.4f}", flush=True)
    means = {n: np.mean([r.metrics["unseen ndcg@10"] for r in reports[n]]) for n in PARTS}
    best = max(means, key=lambda name: means[name])
    cluster = np.concatenate([report.cluster for report in reports[best]])
    for name, runs in reports.items():
        row: dict[str, Any] = {"data": options.dataset, "model": name}
        for metric in METRICS:
            values = np.concatenate([report.values(metric) for report in runs])
            rival = np.concatenate([report.values(metric) for report in reports[best]])
            low, high = mean_interval(values, cluster)
            row[metric] = f"{100 * values.mean():.2f} ({100 * low:.2f} to {100 * high:.2f})"
            test = paired_test(values, rival, cluster)
            gain, low, high = 100 * test.difference, 100 * test.low, 100 * test.high
            beyond = "-" if name == best else f"{gain:+.2f} ({low:+.2f} to {high:+.2f})"
            row[f"{metric} beyond {best}"] = beyond
        row["weights"] = weights.get(name, "-")
        benchmark.add(**row)
    benchmark.finish(options.out / "results.json")


def models(split: gs.Split, options: argparse.Namespace, seed: int) -> Any:
    """Parts, then hybrids of them, each with its name."""
    train = split.train
    number = split.num_items
    specs = gs.data.feature_specs(train, item=FEATURES[options.dataset])["item_features"]
    base = {"hidden_channels": 64, "num_layers": 1, "max_length": options.max_length}

    def fitted(
        build: Callable[[], SessionModel], data: gs.Split = split, **more: Any
    ) -> SessionModel:
        torch.manual_seed(seed)
        model = build()
        if isinstance(model, gs.models.CountingModel):
            fit_whole(model, data.train)
        else:
            fit_whole(
                model,
                data,
                max_epochs=options.epochs,
                patience=4,
                batch_size=64,
                monitor="ndcg@10",
                exclude_seen=True,
                seed=seed,
                progress=False,
                **more,
            )
        return model

    sasrec = fitted(lambda: gs.models.SASRec(number, **base))
    ials = fitted(lambda: gs.models.IALS(number, 64, seed=seed))
    lightgcn = fitted(lambda: gs.models.LightGCN(number, 64, seed=seed))
    content = fitted(lambda: gs.models.ContentKNN(number, specs))
    yield "sasrec", sasrec
    yield "ials", ials
    yield "lightgcn", lightgcn
    yield "content kNN", content

    def together(*members: SessionModel, fusion: Literal["places", "scores"] = "scores") -> Any:
        assert split.validation is not None
        joined = gs.models.Ensemble.from_models(members, fusion=fusion)
        return joined.learn_weights(split.validation, exclude_seen=True)

    yield "sasrec + ials, places", together(sasrec, ials, fusion="places")
    yield "sasrec + ials, scores", together(sasrec, ials)
    yield "sasrec + lightgcn, scores", together(sasrec, lightgcn)
    yield "sasrec + ials + content, scores", together(sasrec, ials, content)

    def starting_at(factors: torch.Tensor) -> SessionModel:
        model = gs.models.SASRec(number, **base)
        with torch.no_grad():  # the factors, at the size of the weights that they replace
            model.items.weight.copy_(factors.float() * (0.02 / factors.std()))
        return model

    for name, part in (("ials", ials), ("lightgcn", lightgcn)):
        yield f"sasrec from {name} factors", fitted(partial(starting_at, part.factors))
    yield (
        "sasrec with features",
        fitted(lambda: gs.models.WithFeatures(number, specs, arguments=base)),
    )
    yield (
        "sasrec and the next genres (multi-task)",
        fitted(
            lambda: gs.models.SASRec(number, **base),
            auxiliary=[gs.training.NextFeature(TASK.get(options.dataset, "genres"), weight=0.2)],
        ),
    )
    graph = gs.data.knowledge_graph(train, specs)
    assert train.item_features is not None
    for method in ("transe", "rgcn"):
        vectors = gs.training.relation_vectors(graph, 32, method=method, epochs=60, seed=seed)
        table = train.item_features.assign(relations=list(vectors))
        known = replace(split, train=replace(train, item_features=table))
        of_graph = gs.data.feature_specs(known.train, item=["relations"])["item_features"]
        yield (
            f"sasrec with the knowledge graph ({method})",
            fitted(partial(gs.models.WithFeatures, number, of_graph, arguments=base), known),
        )


if __name__ == "__main__":
    main()
