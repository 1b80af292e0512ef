"""The answer cache on a replayed log: hit rate, and time per answer with and without it.

Every click of real sessions asks for recommendations for the session so far. Weights are random,
which costs what trained ones cost. Times are CPU milliseconds of this process.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

import graphseq as gs
from experiments.benchmarks.report import Benchmark


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="uci-eshop")
    parser.add_argument("--models", nargs="+", default=["gru4rec", "srgnn"])
    parser.add_argument("--clicks", type=int, default=5_000)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    log = gs.load_dataset(options.dataset)
    asked = [
        session[:end]
        for session in log.select(range(min(options.clicks, log.num_sessions))).to_lists()
        for end in range(1, len(session) + 1)
    ][: options.clicks]
    benchmark = Benchmark.start("experiments.benchmarks.answer_cache", argv, options.dataset, log)
    for name in options.models:
        torch.manual_seed(0)
        model = gs.models.MODELS[name](log.num_items, hidden_channels=64).eval()
        model.attach(log.catalog())
        answers = []
        for size in (0, 100_000):
            cache = gs.serving.AnswerCache(size, seconds=3_600) if size else None
            recommender = gs.Recommender(model, cache=cache)
            started = time.process_time()
            answers.append([recommender.recommend(session, 20) for session in asked])
            seconds = time.process_time() - started
            benchmark.add(
                model=name,
                cached_answers=size,
                clicks=len(asked),
                hit_rate=None if cache is None else round(cache.hit_rate, 4),
                ms_per_answer=round(seconds / len(asked) * 1e3, 3),
            )
        if answers[0] != answers[1]:
            raise SystemExit(f"{name}: a cached answer differs from the one that was made.")
    benchmark.finish(options.out / "answer_cache.json")


if __name__ == "__main__":
    main()
