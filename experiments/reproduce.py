"""Runs the rows of a published table under its protocol; sets them beside the published numbers.

``experiments/published/<table>.json`` names the data, the held-out part, the published numbers with
their source and how their epochs were chosen, and the minutes that each row takes. Settings of the
rows are those of the data set, ``graphseq/comparison/settings/<dataset>.json``, or those that the
table names. Minutes of each row are said before the first one starts. A call that was stopped goes
on with ``--resume``: finished rows of the same settings are kept, a training goes on from its
checkpoint. ``--out`` then holds ``results.json`` and, beside the published numbers, ``page.md``.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import graphseq as gs
from experiments.lib.published import TABLES, goal_of, published, side_by_side
from experiments.lib.results import command, said
from graphseq.comparison import settings_of


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.reproduce", description=__doc__)
    parser.add_argument(
        "--table", "--dataset", required=True, metavar="NAME", help=f"one of {', '.join(TABLES)}"
    )
    parser.add_argument("--root", help="folder of the data sets (default: $GRAPHSEQ_DATA)")
    parser.add_argument(
        "--models", nargs="+", metavar="NAME", help="rows of the table (default: all)"
    )
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=int,
        default=[0, 1, 2],
        help="default: 0 1 2; counted rows run once",
    )
    parser.add_argument("--out", type=Path, help="default: runs/<table>")
    parser.add_argument("--resume", action="store_true", help="go on from what --out holds")
    parser.add_argument(
        "--matmul",
        choices=("highest", "medium"),
        default="highest",
        help="float32 products of torch; on AMD's CPUs medium is about twice as fast and as exact",
    )
    parser.add_argument("--no-progress", action="store_true")
    return parser


def cost(table: Mapping[str, Any], lines: list[str], seeds: int) -> str:
    """What the rows take on two cores, in words, before the first of them starts."""
    minutes = {line: table["minutes"].get(line) for line in lines}
    known = {line: value for line, value in minutes.items() if value is not None}
    unknown = [line for line in lines if line not in known]
    each = ", ".join(f"{line} {value:g}" for line, value in known.items() if value)
    total = sum(known.values()) * seeds
    text = f"About {total:.0f} minutes for {seeds} seeds on two cores"
    text += f" (minutes per seed: {each})." if each else "."
    return text + (f" Not measured yet: {', '.join(unknown)}." if unknown else "")


def main(argv: list[str] | None = None) -> None:
    options = arguments().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_float32_matmul_precision(options.matmul)
    with said():
        table = published(options.table)
        settings = settings_of(table.get("settings", table["dataset"]))
        entries = settings.select(options.models or ["all"])
        print(cost(table, [entry.name for entry in entries], len(options.seeds)), flush=True)
        out = options.out or Path("runs") / options.table
        comparison = gs.compare(
            gs.load_split(table["dataset"], options.root, validation=table["validation"]),
            entries,
            settings=settings,
            protocol=table["protocol"],
            seeds=options.seeds,
            monitor=table["monitor"],
            cluster=table["cluster"],
            out=out,
            resume=options.resume,
            progress=not options.no_progress,
            name=table["dataset"],
            command=command("experiments.reproduce", argv),
        )
        text = side_by_side(comparison.content, table)
        if "goal" in table:
            text += f"\n\n{goal_of(comparison.content, table)}"
        (out / "page.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    print(out / "page.md")


if __name__ == "__main__":
    main()
