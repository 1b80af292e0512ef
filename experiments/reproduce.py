"""Runs the rows of a published table under its protocol; sets them beside the published numbers.

``experiments/published/<table>.json`` names the data, the held-out part, the published numbers with
their source and how their epochs were chosen, and the minutes that each row takes. Settings of the
rows are those of the data set, ``graphseq/comparison/settings/<dataset>.json``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import graphseq as gs
from experiments.lib.results import command, said
from graphseq.comparison import settings_of

FOLDER = Path(__file__).parent / "published"
TABLES = sorted(file.stem for file in FOLDER.glob("*.json"))


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.reproduce", description=__doc__)
    parser.add_argument("--table", "--dataset", required=True, choices=TABLES)
    parser.add_argument("--root", help="folder of the data sets (default: $GRAPHSEQ_DATA)")
    parser.add_argument(
        "--models", nargs="+", metavar="NAME", help="rows of the table (default: all)"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, help="default: runs/<table>")
    parser.add_argument("--resume", action="store_true", help="go on from what --out holds")
    parser.add_argument("--no-progress", action="store_true")
    return parser


def published(table: str) -> dict[str, Any]:
    """What is published on a table, from its committed file."""
    content: dict[str, Any] = json.loads((FOLDER / f"{table}.json").read_text(encoding="utf-8"))
    return content


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


def page(content: Mapping[str, Any], table: Mapping[str, Any]) -> str:
    """Our mean and interval beside the published number of each row, as a table of Markdown."""
    metrics = table["metrics"]
    frame = gs.Comparison(content).to_frame()
    lines = [
        "| model | ours: " + " / ".join(metrics) + " | published | source | epochs chosen on |",
        "| --- | --- | --- | --- | --- |",
    ]
    rows = [dict(row) for row in table["rows"]]
    named = {row["line"] for row in rows}
    rows = [{"line": str(name)} for name in frame.index if name not in named] + rows
    order = {str(name): place for place, name in enumerate(frame.index)}
    for row in sorted(rows, key=lambda row: order.get(row["line"], len(order))):
        ours = "not run here"
        if row["line"] in frame.index:
            found = frame.loc[row["line"]]
            ours = " / ".join(
                f"{found[name]:.4f} ± {(found[f'{name} high'] - found[f'{name} low']) / 2:.4f}"
                for name in metrics
            )
            ours += f" ({found['seeds']:.0f} seeds)" if found["seeds"] > 1 else ""
        theirs = " / ".join(f"{row[name]:.4f}" for name in metrics if name in row) or "-"
        lines.append(
            f"| {row['line']} | {ours} | {theirs} | {row.get('source', '-')} "
            f"| {row.get('chosen', '-')} |"
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    options = arguments().parse_args(argv)
    with said():
        table = published(options.table)
        settings = settings_of(table["dataset"])
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
        text = page(comparison.content, table)
        (out / "page.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    print(out / "page.md")


if __name__ == "__main__":
    main()
