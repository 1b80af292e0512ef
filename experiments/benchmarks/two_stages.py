"""A second stage that improves on the first: BST on features behind sequential rules.

A ranker that learns clicks from random items never sees what it will have to order: candidates
that are all plausible. Rows add one change after the other: trained on the first stage's own
candidates, of sessions it did not count; then the place in the first stage's list counts too.
Differences to the first stage are in points with a paired 95% interval, clustered by session;
milliseconds are processor time per answer.
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
from experiments.click_through import forms
from experiments.lib.arguments import seed_number
from experiments.lib.results import fit_whole
from graphseq.comparison import Settings
from graphseq.evaluation import evaluate_reranker
from graphseq.models import BSTRanker
from graphseq.serving import fit_reranker

METRICS = ("hr@20", "mrr@20", "ndcg@20")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="uci-eshop")
    parser.add_argument("--root", default=None, help="folder of the data sets")
    parser.add_argument("--held", type=float, default=0.2, help="newest share that is reranked")
    parser.add_argument("--candidates", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=3, help="of each training")
    parser.add_argument("--seed", type=seed_number, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    split = gs.load_split(options.dataset, options.root)
    benchmark = Benchmark.start("experiments.benchmarks.two_stages", argv, options.dataset)
    path = options.out / "two_stages.json"
    train, test = split.train, split.test
    kept = round((1 - options.held) * train.num_sessions)
    if train.time is not None:  # the newest sessions are held back
        train = train.select(np.argsort(np.asarray(train.time)[train.ptr[:-1]], kind="stable"))
    older, newer = train[:kept], train[kept:]

    def rules(sessions: gs.Sessions) -> gs.models.SessionModel:
        model = gs.models.MODELS["sequential_rules"](split.num_items)
        fit_whole(model, sessions, progress=False)
        return model

    retriever, of_older = rules(train), rules(older)
    arguments = list(forms(Settings.for_dataset(options.dataset)).values())[-1]

    def ranker() -> BSTRanker:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            return BSTRanker(split.num_items, **arguments)

    first = gs.evaluate(retriever, test, ks=(20, options.candidates))
    asked = [test[place : place + 1] for place in range(200)]

    def add(name: str, second: gs.models.SessionModel | None, weight: float = 0.0) -> None:
        row: dict[str, Any] = {"stages": name, "place_weight": round(weight, 2)}
        report = first
        if second is not None:
            report = evaluate_reranker(
                second,
                retriever,
                test,
                num_candidates=options.candidates,
                place_weight=weight,
                ks=(20, options.candidates),
            )
        for metric in METRICS:
            test_of = report.compare(first, metric)
            row[metric] = round(report.metrics[metric] * 100, 2)
            row[f"{metric} gain"] = round(test_of.difference * 100, 2)
            ends = (test_of.low, test_of.high)
            row[f"{metric} interval"] = [round(end * 100, 2) for end in ends]
        benchmark.add(**row, **seconds_of(second, weight))
        benchmark.write(path)

    def seconds_of(second: gs.models.SessionModel | None, weight: float) -> dict[str, float]:
        recommender = gs.Recommender(
            retriever, reranker=second, place_weight=weight, candidates=options.candidates
        )
        started = time.process_time()
        for session in asked:
            recommender.recommend(session, 20)
        whole = (time.process_time() - started) * 1e3 / len(asked)
        share = recommender.seconds.get("reranking", 0.0) / sum(recommender.seconds.values())
        return {"cpu_ms": round(whole, 2), "share_of_second_stage": round(share, 2)}

    add("sequential rules alone", None)
    today = ranker()
    loss = gs.SampledLoss("bce", num_negatives=4, alpha=0.0)
    fitting: dict[str, Any] = {"max_epochs": options.epochs, "seed": options.seed}
    fit_whole(today, train, loss=loss, learning_rate=1e-3, progress=False, **fitting)
    add("clicks against random items", today)
    more: dict[str, Any] = {"num_candidates": options.candidates, "seed": options.seed}
    more |= {"max_epochs": options.epochs}
    own = ranker()
    own.attach(train.catalog(), train)
    weight = fit_reranker(own, retriever, newer, **more)
    add("candidates of sessions it had counted, with places", own, weight)
    held = ranker()
    held.attach(train.catalog(), train)
    weight = fit_reranker(held, of_older, newer, **more)
    add("candidates of sessions held back, without places", held)
    add("candidates of sessions held back, with places", held, weight)
    weight = fit_reranker(today, of_older, newer, **more)
    add("the same, after clicks against random items", today, weight)
    benchmark.content["note"] = (
        f"{first.num_cases:,} targets; the first stage finds "
        f"{first.metrics[f'hr@{options.candidates}'] * 100:.1f} % of them among "
        f"{options.candidates} candidates, which bounds the second."
    )
    benchmark.finish(path)


if __name__ == "__main__":
    main()
