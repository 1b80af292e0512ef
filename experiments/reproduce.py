"""Runs the rows of a published table under its protocol; sets them beside the published numbers.

``experiments/published/<table>.json`` names the data, the held-out part, the published numbers with
their source and how their epochs were chosen, and the minutes that each row takes. Settings of the
rows are those of the data set, ``graphseq/comparison/settings/<dataset>.json``, or those that the
table names. The minutes of what is left to train are printed first. ``--resume`` keeps finished
rows of the same settings, and an interrupted training resumes from its checkpoint. ``--out`` then
holds ``results.json`` and ``page.md``, which has the published numbers beside ours.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

import graphseq as gs
from experiments.lib.published import TABLES, goal_of, published, side_by_side
from experiments.lib.results import command, said
from graphseq.comparison import Entry, settings_of


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
    parser.add_argument(
        "--epochs",
        type=int,
        metavar="N",
        help="epochs of every trained row (default: as its settings say); with --resume, a training"
        " at a constant rate resumes from its checkpoint, one at a falling rate starts again",
    )
    parser.add_argument("--out", type=Path, help="default: runs/<table>")
    parser.add_argument("--resume", action="store_true", help="resume from what --out holds")
    parser.add_argument(
        "--matmul",
        choices=("highest", "medium"),
        default="highest",
        help="float32 products of torch: medium is faster and as exact on AMD's CPUs",
    )
    parser.add_argument("--no-progress", action="store_true")
    return parser


def left(entries: Iterable[Entry], seeds: Iterable[int], out: Path | None) -> dict[str, int]:
    """How many rows of each line are to be run: those that the folder lacks.

    Args:
        entries: The lines.
        seeds: Seeds of drawn lines; the others run once.
        out: Folder of finished rows; ``None``: none is taken over.
    """
    wanted = list(seeds)
    rows = [] if out is None else gs.Comparison.load(out).content["rows"]

    def lacking(entry: Entry) -> int:
        line = (entry.name, json.loads(json.dumps(entry.settings)))
        done = {row["seed"] for row in rows if (row["model"], row["settings"]) == line}
        return len(set(wanted) - done) if entry.is_drawn else int(not done)

    return {entry.name: lacking(entry) for entry in entries}


def cost(minutes: Mapping[str, float], rows: Mapping[str, int]) -> str:
    """What the rows that are left take, in words, before the first of them starts.

    Args:
        minutes: Minutes of one row of each line that was measured.
        rows: Rows that are left of each line.
    """
    lines = [line for line, number in rows.items() if number]
    known = {line: minutes[line] for line in lines if line in minutes}
    unknown = [line for line in lines if line not in known]
    each = ", ".join(f"{line} {value:g}" for line, value in known.items() if value)
    total = sum(value * rows[line] for line, value in known.items())
    text = f"Rows left to run: {sum(rows.values())}, about {total:.0f} minutes on one thread"
    text += f" (minutes per row: {each})." if each else "."
    return text + (f" Not measured yet: {', '.join(unknown)}." if unknown else "")


def with_epochs(entries: Collection[Entry], epochs: int | None) -> list[Entry]:
    """The lines, those that are trained with this number of epochs."""
    if epochs is None:
        return list(entries)
    return [
        replace(entry, fit={**entry.fit, "max_epochs": epochs}) if entry.is_drawn else entry
        for entry in entries
    ]


def main(argv: list[str] | None = None) -> None:
    options = arguments().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_float32_matmul_precision(options.matmul)
    with said():
        table = published(options.table)
        settings = settings_of(table.get("settings", table["dataset"]))
        out = options.out or Path("runs") / options.table
        chosen = settings.select(options.models or ["all"])
        entries = with_epochs(chosen, options.epochs)
        begun = options.resume and (out / "results.json").is_file()
        minutes = {
            now.name: value * now.training.max_epochs / then.training.max_epochs
            for then, now in zip(chosen, entries, strict=True)
            if (value := table["minutes"].get(now.name)) is not None
        }
        print(cost(minutes, left(entries, options.seeds, out if begun else None)), flush=True)
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
