"""A knowledge graph beside what it is made of: attributes of items, and who clicked what.

Relations are the attributes of items. Their vectors, by TransE or R-GCN, alone or refining the
factors of iALS, recommend by nearness (content kNN), and in fusion with iALS. All weights are
learned on the validation part; the test part, the last item of each history, is ranked once.
Differences are paired, clustered by user.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

import graphseq as gs
from experiments.benchmarks.report import Benchmark
from experiments.lib.arguments import Once, out_folder, seed_number
from experiments.lib.results import said
from experiments.studies.cold_items import FEATURES, drawn, per_cent
from graphseq.evaluation.significance import mean_interval, paired_test
from graphseq.models import SessionModel

METRICS = ("unseen hr@20", "unseen ndcg@20")
CHANNELS = 64
IALS, ATTRIBUTES = "iALS", "attributes"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.studies.knowledge_graph", description=__doc__
    )
    parser.add_argument("--dataset", default="beauty", choices=sorted(FEATURES))
    parser.add_argument("--root", help="folder of the data sets (default: $GRAPHSEQ_DATA)")
    parser.add_argument("--histories", type=int, help="only so many, drawn")
    parser.add_argument("--epochs", type=int, default=30, help="passes over the relations")
    parser.add_argument("--seeds", nargs="+", type=seed_number, action=Once, default=[0, 1])
    parser.add_argument("--out", type=out_folder, default=Path("runs/knowledge_graph"))
    options = parser.parse_args(argv)
    with said():
        histories = gs.load_dataset(options.dataset, root=options.root)
        split = gs.leave_last_split(drawn(histories, options.histories), 1, validation=1)
    benchmark = Benchmark.start(
        "experiments.studies.knowledge_graph", argv, options.dataset, split.train
    )
    reports: dict[str, list[gs.evaluation.Report]] = {}
    weights: dict[str, str] = {}
    for seed in options.seeds:
        for name, model in models(split, options, seed):
            report = gs.evaluate(model, split.test, ks=(20,), protocol="leave-one-out")
            reports.setdefault(name, []).append(report)
            if isinstance(model, gs.models.Ensemble):
                weights[name] = ", ".join(f"{weight:g}" for weight in model.weights)
            print(f"seed {seed} {name}: {report.metrics['unseen hr@20']:.4f}", flush=True)
    for name, runs in reports.items():
        row: dict[str, Any] = {"data": options.dataset, "model": name}
        rival = IALS if IALS in name else ATTRIBUTES
        cluster = np.concatenate([report.cluster for report in runs])
        for metric in METRICS:
            values, others = (
                np.concatenate([report.values(metric) for report in reports[each]])
                for each in (name, rival)
            )
            row[metric] = per_cent(values.mean(), *mean_interval(values, cluster))
            test = paired_test(values, others, cluster)
            gain = per_cent(test.difference, test.low, test.high, sign="+")
            row[f"{metric}, beyond"] = "-" if name == rival else f"{rival}: {gain}"
        row["weights"] = weights.get(name, "-")
        benchmark.add(**row)
    benchmark.finish(options.out / "results.json")


def models(
    split: gs.Split, options: argparse.Namespace, seed: int
) -> Iterator[tuple[str, SessionModel]]:
    """Popularity, iALS, nearness by attributes and by the graph, and fusions with iALS."""
    train, number = split.train, split.num_items
    popularity, ials = gs.models.Popularity(number), gs.models.IALS(number, CHANNELS, seed=seed)
    parts: dict[str, SessionModel] = {"popularity": popularity, IALS: ials}
    for name, part in parts.items():
        gs.fit(part, train)
        yield name, part
    specs = gs.data.feature_specs(train, item=FEATURES[options.dataset])["item_features"]
    graph = gs.data.knowledge_graph(train, specs)
    vectors: dict[str, Any] = {}
    methods: list[tuple[str, Literal["transe", "rgcn"], Any]] = [
        ("TransE", "transe", None),
        ("R-GCN", "rgcn", None),
        ("R-GCN refining factors", "rgcn", ials.factors.numpy()),
    ]
    for name, method, start in methods:
        vectors[name] = gs.training.relation_vectors(
            graph, CHANNELS, method=method, start=start, epochs=options.epochs, seed=seed
        )
    assert train.item_features is not None
    columns = {name: list(found) for name, found in vectors.items()}
    told = replace(train, item_features=train.item_features.assign(**columns))
    near: dict[str, SessionModel] = {}
    for name in (ATTRIBUTES, *vectors):
        own = specs
        if name != ATTRIBUTES:
            own = gs.data.feature_specs(told, item=[name])["item_features"]
        near[name] = gs.models.ContentKNN(number, own)
        gs.fit(near[name], told)
        yield name, near[name]
    for name, model in near.items():
        joined = gs.models.Ensemble.from_models([ials, model], fusion="scores")
        assert split.validation is not None
        yield f"{IALS} + {name}", joined.learn_weights(split.validation, exclude_seen=True)


if __name__ == "__main__":
    main()
