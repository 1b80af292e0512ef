"""``torch.set_float32_matmul_precision("medium")`` beside ``"highest"``, torch's default.

The products are those of the loss over all items: scores from states and the item table, and from
the gradient of the scores those of states and table. Both precisions take turns, and seconds are of
the processor: the median. ``error`` is the distance from the product in 64 bits, as a share of its
norm. The last rows are an epoch of SASRec on generated sessions; their error is the distance of the
trained model's scores from those at ``"highest"``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

import graphseq as gs
from experiments.benchmarks.report import Benchmark
from experiments.lib.arguments import out_folder

PRECISIONS = ("highest", "medium")


def timed(
    function: Callable[[], Tensor], repeats: int
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """The median processor seconds and the last result of each precision, which take turns."""
    seconds: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    results: dict[str, Tensor] = {}
    for repeat in range(repeats + 1):
        for precision in PRECISIONS:
            torch.set_float32_matmul_precision(precision)
            start = time.process_time()
            results[precision] = function()
            if repeat:  # the first one warms up
                seconds[precision].append(time.process_time() - start)
    torch.set_float32_matmul_precision("highest")
    return {name: statistics.median(each) for name, each in seconds.items()}, results


def distance(found: Tensor, wanted: Tensor) -> float:
    """The distance as a share of the norm."""
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=12_000)
    parser.add_argument("--rows", type=int, default=1_000, help="states of a step")
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--sessions", type=int, default=1_000)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=out_folder, default=Path("runs/benchmarks"))
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    benchmark = Benchmark.start("experiments.benchmarks.matmul_precision", argv)

    def add(what: str, seconds: dict[str, float], errors: dict[str, float]) -> None:
        for precision in PRECISIONS:
            benchmark.add(
                what=what,
                precision=precision,
                cpu_seconds=round(seconds[precision], 4),
                ratio=round(seconds[precision] / seconds["highest"], 2),
                error=float(f"{errors[precision]:.1e}"),
            )

    generator = torch.Generator().manual_seed(0)
    states = torch.randn(options.rows, options.channels, generator=generator)
    table = torch.randn(options.items, options.channels, generator=generator)
    gradient = torch.randn(options.rows, options.items, generator=generator).softmax(1)
    products: dict[str, tuple[Tensor, Tensor]] = {
        "scores": (states, table.T),
        "gradient of states": (gradient, table),
        "gradient of the table": (gradient.T, states),
    }
    for what, (left, right) in products.items():
        seconds, results = timed(partial(torch.matmul, left, right), options.repeats)
        exact = left.double() @ right.double()
        add(what, seconds, {name: distance(found, exact) for name, found in results.items()})

    sessions = gs.generate_sessions(options.sessions, options.items, seed=0)

    def scores() -> Tensor:
        """The scores after one epoch of training from the same weights."""
        torch.manual_seed(0)
        model = gs.models.SASRec(sessions.num_items, options.channels)
        gs.fit(model, sessions, max_epochs=1, batch_size=64, progress=False)
        model.eval()
        with torch.no_grad():
            return model.score(gs.data.SessionGraphDataset(sessions, "prefixes").batch(range(64)))

    seconds, results = timed(scores, max(options.repeats // 3, 1))
    errors = {name: distance(found, results["highest"]) for name, found in results.items()}
    add("an epoch of SASRec, all items in the loss", seconds, errors)
    benchmark.finish(options.out / "matmul_precision.json")


if __name__ == "__main__":
    main()
