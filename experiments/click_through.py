"""BST as the ranker that it was published as: pairs of session and candidate, told apart.

Trains the ranker on clicks and drawn items, with side features and without, and compares it with
popularity by AUC and logloss on drawn pairs, and as the second stage behind sequential rules: how
well it orders the candidates that they found. Pairs are drawn, so AUC and logloss are sampled
figures; the ranking of both stages is over the whole catalog.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

import graphseq as gs
from experiments.benchmarks.report import Benchmark
from experiments.lib.arguments import Once, out_folder, seed_number
from experiments.lib.results import fit_whole
from graphseq.comparison import Settings
from graphseq.evaluation import evaluate_pairs, evaluate_reranker

FEATURES = ("click_features", "item_features")


def forms(settings: Settings) -> dict[str, dict[str, Any]]:
    """Arguments of the ranker, without side features and with those that BST has in its line."""
    (entry,) = settings.select(["bst"])
    features = {name: entry.arguments[name] for name in FEATURES if name in entry.arguments}
    plain: dict[str, Any] = {"hidden_channels": 32, "heads": 2, "mlp_channels": [256, 128]}
    return {"bst ranker": plain} | (
        {"bst ranker, side features": plain | features} if features else {}
    )


def mean_and_half(values: list[float]) -> str:
    """The mean over seeds, and half of the range."""
    return f"{np.mean(values):.4f} ± {(max(values) - min(values)) / 2:.4f}"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.click_through",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dataset", default="movielens-small")
    parser.add_argument("--root", help="folder of the data sets (default: $GRAPHSEQ_DATA)")
    parser.add_argument("--seeds", nargs="+", type=seed_number, action=Once, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--negatives", type=int, default=4)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--out", type=out_folder, default=Path("runs/click_through"))
    options = parser.parse_args(argv)
    settings = Settings.for_dataset(options.dataset)
    split = gs.load_split(options.dataset, options.root, validation=settings.validation)
    benchmark = Benchmark.start("experiments.click_through", argv, options.dataset, split.train)

    def models() -> dict[str, list[gs.models.SessionModel]]:
        popularity = gs.models.MODELS["popularity"](split.num_items)
        fit_whole(popularity, split)
        found: dict[str, list[gs.models.SessionModel]] = {"popularity": [popularity]}
        for name, arguments in forms(settings).items():
            for seed in options.seeds:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(seed)
                    ranker = gs.models.MODELS["bst_ranker"](split.num_items, **arguments)
                # Negatives drawn uniformly, as for the pairs that are measured.
                loss = gs.SampledLoss("bce", num_negatives=options.negatives, alpha=0.0)
                # Its ranking of all items would cost more than its training: epochs are fixed.
                fit_whole(
                    ranker,
                    split.train,
                    loss=loss,
                    max_epochs=options.epochs,
                    learning_rate=1e-3,
                    seed=seed,
                    progress=False,
                )
                found.setdefault(name, []).append(ranker)
        return found

    retriever = gs.models.MODELS["sequential_rules"](split.num_items, last_clicks=10)
    fit_whole(retriever, split)
    k = settings.ks[-1]
    first = gs.evaluate(retriever, split.test, ks=settings.ks, exclude_seen=settings.exclude_seen)
    for name, group in models().items():
        pairs = [evaluate_pairs(m, split.test, num_negatives=options.negatives) for m in group]
        reports = [
            evaluate_reranker(
                model,
                retriever,
                split.test,
                num_candidates=options.candidates,
                ks=(*settings.ks, options.candidates),
                exclude_seen=settings.exclude_seen,
            )
            for model in group
        ]
        ranked = [report.metrics for report in reports]
        benchmark.add(
            model=name,
            seeds=len(group),
            auc=mean_and_half([pair.auc for pair in pairs]),
            logloss=mean_and_half([pair.logloss for pair in pairs]),
            **{
                f"second_stage_{metric}": mean_and_half([metrics[metric] for metrics in ranked])
                for metric in (f"hr@{k}", f"mrr@{k}")
            },
            retrieved=round(ranked[0][f"hr@{options.candidates}"], 4),
        )
    benchmark.content["note"] = (
        f"Each figure with half of its range over seeds. Sequential rules alone, the first stage: "
        f"hr@{k} {first.metrics[f'hr@{k}']:.4f}, mrr@{k} {first.metrics[f'mrr@{k}']:.4f}."
    )
    benchmark.finish(options.out / "click_through.json")


if __name__ == "__main__":
    main()
