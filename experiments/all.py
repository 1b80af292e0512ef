"""Runs every study: --quick checks in minutes that all run; --full prints its cost first.

With --resume, a finished study is not run again, and a stopped one continues.
"""

from __future__ import annotations

import argparse
import importlib
import time
from pathlib import Path

from experiments.lib.arguments import out_folder

STUDIES: dict[str, list[tuple[str, int]]] = {
    "length_study": [("--dataset ml-100k", 30), ("--dataset uci-eshop", 12)],
    "graph_ablation": [
        ("--dataset uci-eshop", 10),
        ("--dataset yoochoose1_64", 12),
        ("--dataset diginetica", 20),
        ("--dataset retailrocket", 16),
        ("--dataset generated --loops 0.0", 8),
        ("--dataset generated --loops 0.4", 8),
        ("--dataset generated --loops 0.8", 8),
    ],
    "user_study": [
        ("--dataset ml-100k", 14),
        ("--dataset generated --tastes 0.0", 6),
        ("--dataset generated --tastes 0.6", 6),
    ],
    "scaling_study": [("--dataset uci-eshop", 12), ("--dataset diginetica", 40)],
    "loss_study": [("--dataset uci-eshop", 8), ("--dataset diginetica", 15)],
    "augmentation_study": [("--dataset uci-eshop", 12), ("--dataset diginetica", 30)],
}
"""Study -> the command lines of its full form, each with its CPU minutes per two seeds."""

QUICK = {
    "length_study": "--dataset uci-eshop",
    "graph_ablation": "--dataset generated",
    "user_study": "--dataset generated",
    "scaling_study": "--dataset uci-eshop",
    "loss_study": "--dataset uci-eshop",
    "augmentation_study": "--dataset uci-eshop",
}
"""The data of the quick form: those that come with the package, or are generated."""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.all", description=__doc__)
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--quick", action="store_true", help="all small, on the embedded data")
    size.add_argument("--full", action="store_true", help="all as the docs show them")
    parser.add_argument("--only", nargs="+", choices=sorted(STUDIES), help="some studies")
    parser.add_argument("--root", help="folder of the data sets (default: $GRAPHSEQ_DATA)")
    parser.add_argument("--seeds", nargs="+", default=["0", "1"])
    parser.add_argument("--out", type=out_folder, default=Path("runs"))
    parser.add_argument("--resume", action="store_true", help="continue from what --out holds")
    options = parser.parse_args(argv)
    names = options.only or list(STUDIES)
    if options.full:
        per_pair = sum(cost for name in names for _, cost in STUDIES[name])
        minutes = per_pair * len(options.seeds) / 2
        seeds = " ".join(options.seeds)
        print(f"About {minutes:.0f} minutes of one core, seeds {seeds}.", flush=True)
    for name in names:
        module = importlib.import_module(f"experiments.studies.{name}")
        lines = [QUICK[name]] if options.quick else [line for line, _ in STUDIES[name]]
        for line in lines:
            folder = "-".join(part for part in line.split() if not part.startswith("--"))
            command = [*line.split(), "--out", str(options.out / name / folder)]
            command += ["--quick"] if options.quick else ["--seeds", *options.seeds]
            command += ["--root", options.root] if options.root else []
            command += ["--resume"] if options.resume else []
            start = time.perf_counter()
            module.main(command)
            print(f"{name} {line}: {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
