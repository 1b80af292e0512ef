"""Attention, linear attention and the linear recurrent unit: cost against length, and quality.

Cost: CPU seconds of training steps over the same number of clicks, cut into rows of one length, in
one thread. Quality: each model on a data set with long histories, the epoch chosen on validation.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch

import graphseq as gs
from experiments.benchmarks.report import Benchmark
from experiments.lib.arguments import Once, out_folder, seed_number
from experiments.lib.results import fit_whole, said

CLICKS = 20_000
"""Clicks of a measured step."""

Build = Callable[[int, int], gs.models.SessionModel]

MODELS: dict[str, Build] = {
    "SASRec": lambda n, length: gs.models.SASRec(n, 64, max_length=length),
    "LRURec": lambda n, length: gs.models.LRURec(n, 64),
    "LRURec, linear attention": lambda n, length: gs.models.LRURec(
        n, 64, layer="linear_attention", heads=2
    ),
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.studies.linear_attention", description=__doc__
    )
    parser.add_argument("--dataset", default="ml-100k", help="of the quality; 'none': cost alone")
    parser.add_argument("--root", help="folder of the data sets (default: $GRAPHSEQ_DATA)")
    parser.add_argument("--lengths", nargs="*", type=int, default=[50, 200, 1000, 5000])
    parser.add_argument(
        "--models",
        nargs="+",
        default=sorted(MODELS),
        choices=sorted(MODELS),
        help="whose quality is measured",
    )
    parser.add_argument("--max-length", type=int, default=200, help="clicks that SASRec sees")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", nargs="+", type=seed_number, action=Once, default=[0, 1])
    parser.add_argument("--out", type=out_folder, default=Path("runs/linear_attention"))
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    benchmark = Benchmark.start("experiments.studies.linear_attention", argv)
    path = options.out / "results.json"
    for length in options.lengths:
        seconds = {name: cost(build, length) for name, build in MODELS.items()}
        for name, (training, live) in seconds.items():
            benchmark.add(
                model=name,
                length=length,
                cpu_ms_per_1000_clicks=round(1e6 * training / CLICKS, 1),
                of_sasrec=round(training / seconds["SASRec"][0], 2),
                live_click_ms=round(1000 * live, 2),
            )
        benchmark.write(path)
    if options.dataset != "none":
        with said():
            split = gs.load_split(options.dataset, root=options.root, validation=1)
        for name in options.models:
            build = MODELS[name]
            for seed in options.seeds:
                benchmark.add(**quality(name, build, split, options, seed))
                benchmark.write(path)
    benchmark.finish(path)


def cost(build: Build, length: int) -> tuple[float, float]:
    """CPU seconds of a step over :data:`CLICKS` clicks, the best of three, and of a live click."""
    torch.manual_seed(0)
    model = build(1000, length).train()
    items = torch.randint(1000, (CLICKS,))
    graphs = gs.data.build_session_graphs(items, torch.arange(0, CLICKS + 1, length))
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        model.click_states(graphs).square().mean().backward()
        best = min(best, time.process_time() - start)
    model.eval()
    with torch.no_grad():
        state = model.initial_state()
        for item in items[:length].tolist():
            state = model.update_state(state, item)
        start = time.process_time()
        for item in items[:5].tolist():
            state = model.update_state(state, item)
            model.score_state(state)
    return best, (time.process_time() - start) / 5


def quality(
    name: str, build: Build, split: gs.Split, options: argparse.Namespace, seed: int
) -> dict[str, object]:
    torch.manual_seed(seed)
    model = build(split.num_items, options.max_length)
    start = time.process_time()
    result = fit_whole(
        model,
        split,
        max_epochs=options.epochs,
        batch_size=64,
        monitor="ndcg@10",
        patience=5,
        seed=seed,
        progress=False,
    )
    seconds = time.process_time() - start
    report = gs.evaluate(model, split.test, ks=(10,), protocol="leave-one-out")
    low, high = report.confidence_interval("ndcg@10")
    return {
        "data": options.dataset,
        "model": name,
        "seed": seed,
        "hr@10": round(100 * report.metrics["hr@10"], 2),
        "ndcg@10": f"{100 * report.metrics['ndcg@10']:.2f} ({100 * low:.2f} to {100 * high:.2f})",
        "best epoch": result.best_epoch,
        "training, CPU s": round(seconds, 1),
    }


if __name__ == "__main__":
    main()
