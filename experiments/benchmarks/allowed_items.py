"""What ``allow=`` costs: recommend with some tens of thousands of allowed items against without.

Every form of the same items is asked in turn with the call without, so that both see the same
machine; the figure is the median of the ratios. A prepared ``ItemFilter``, and whatever is given
again (alone, or in turn with other ones, as the pages of a shop do), should cost next to nothing;
``new ids each time`` is what the look-up of ids that were never seen costs.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import graphseq as gs
from experiments.benchmarks.report import Benchmark
from experiments.lib.arguments import out_folder

SHOPS = 8
"""Lists that are asked for in turn."""


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmarks.allowed_items", description=__doc__
    )
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--allowed", type=int, default=30_000)
    parser.add_argument("--sessions", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--repeats", type=int, default=31)
    parser.add_argument("--out", type=out_folder, default=Path("runs/allowed_items.json"))
    return parser


def forms(model: gs.models.SessionModel, ids: Any, allowed: int) -> dict[str, Callable[[], Any]]:
    """Name -> what gives the items of a call."""
    rng = np.random.default_rng(0)
    lists = [rng.choice(ids, allowed, replace=False).tolist() for _ in range(SHOPS)]
    first, turns = lists[0], itertools.cycle(lists)
    array, series = np.array(first), pd.Series(first)
    prepared = gs.models.ItemFilter.from_items(model, first)
    chosen = set(first)
    flags = pd.Series(np.isin(ids, array), index=ids)
    mask = flags.to_numpy()
    return {
        "prepared filter": lambda: prepared,
        "list": lambda: first,
        "set": lambda: chosen,
        "array": lambda: array,
        "column": lambda: series,
        "mask": lambda: mask,
        "boolean column by id": lambda: flags,
        "rule": lambda: {"shelf": "open"},
        f"{SHOPS} lists in turn": lambda: next(turns),
        "new ids each time": lambda: rng.choice(ids, allowed, replace=False),
    }


def main(argv: list[str] | None = None) -> None:
    options = arguments().parse_args(argv)
    torch.set_num_threads(1)
    benchmark = Benchmark.start("experiments.benchmarks.allowed_items", argv)
    for kind in ("integers", "text"):
        numbers = np.arange(options.items)
        ids = numbers * 7 if kind == "integers" else np.array([f"sku-{n}" for n in numbers])
        shelf = np.where(numbers % 10 < 10 * options.allowed // options.items, "open", "closed")
        log = gs.Sessions.from_ragged(ids, np.arange(0, options.items + 1, 4))
        model = gs.models.SRGNN(options.items, 100)
        model.attach(log.with_item_features(pd.DataFrame({"shelf": shelf}, index=ids)).catalog())
        model.eval()
        rng = np.random.default_rng(1)
        for number in options.sessions:
            asked = [rng.choice(ids, 5).tolist() for _ in range(number)]
            for name, items in forms(model, ids, options.allowed).items():
                plain, ratios = [], []
                for _ in range(options.repeats + 2 * SHOPS):
                    plain.append(seconds(model, asked, {}))
                    ratios.append(seconds(model, asked, {"allow": items()}) / plain[-1])
                measured = slice(2 * SHOPS, None)  # those before warm up
                benchmark.add(
                    ids=kind,
                    sessions=number,
                    allow=name,
                    ratio=round(float(np.median(ratios[measured])), 3),
                    milliseconds_without=round(1e3 * float(np.median(plain[measured])), 2),
                )
    benchmark.finish(options.out)


def seconds(model: gs.models.SessionModel, asked: list[Any], options: dict[str, Any]) -> float:
    """Seconds of processor time of one call."""
    start = time.process_time()
    model.recommend(asked, 10, **options)
    return time.process_time() - start


if __name__ == "__main__":
    main()
