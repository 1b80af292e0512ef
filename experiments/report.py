"""One HTML file of finished comparisons, which works without network: tables, curves, sessions."""

from __future__ import annotations

import argparse
from pathlib import Path

import graphseq as gs
from experiments.lib.html_report import html_of
from experiments.lib.results import said
from graphseq.comparison.record import write_text


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.report", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders that hold a results.json")
    parser.add_argument("--out", type=Path, default=Path("report.html"))
    parser.add_argument("--sessions", type=int, default=20, help="test sessions shown")
    parser.add_argument(
        "--dataset",
        choices=sorted(gs.data.DATASETS),
        help="data set of the sessions (default: the one that the first run names)",
    )
    parser.add_argument("--root", help="folder of the data sets (default: $GRAPHSEQ_DATA)")
    return parser


def main(argv: list[str] | None = None) -> None:
    options = arguments().parse_args(argv)
    with said():
        runs = [gs.Comparison.load(run) for run in options.runs]
        name = options.dataset or runs[0].content["data"]["name"]
        test, missing = None, f"The data of these runs, {name!r}, is no data set known by name."
        if options.sessions and name in gs.data.DATASETS:
            try:
                test = gs.load_split(name, options.root).test
            except ValueError as error:
                missing = f"The data of these runs is not here: {error}"
        text = html_of(runs, options.runs, test, sessions=options.sessions, missing=missing)
        write_text(text, options.out)
    print(options.out)


if __name__ == "__main__":
    main()
