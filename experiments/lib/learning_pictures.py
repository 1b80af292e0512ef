"""Draws the learning curves of a table's trained rows, from the histories in its results."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path

import pandas as pd

import graphseq as gs
from experiments.lib.results import said

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def histories_of(
    comparison: gs.Comparison, models: Collection[str] | None = None
) -> dict[str, pd.DataFrame]:
    """The history of the first seed of each trained row, by its name.

    Args:
        comparison: The results of a table.
        models: Names of the rows; ``None``: all that were trained.

    Raises:
        ValueError: If there is no such row, or it was not trained.
    """
    rows: dict[str, pd.DataFrame] = {}
    for row in comparison.content["rows"]:
        if row.get("history"):
            rows.setdefault(row["model"], pd.DataFrame(row["history"]))
    if missing := [name for name in models or () if name not in rows]:
        raise ValueError(f"No row {missing[0]!r} was trained; trained are {', '.join(rows)}.")
    return {name: rows[name] for name in models or rows}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.lib.learning_pictures", description=__doc__
    )
    parser.add_argument("--table", required=True, help="name of its file in docs/results")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="rows (default: all trained)")
    parser.add_argument("--metric", default="ndcg@10", help="of the validation part")
    parser.add_argument("--out", type=Path, help="default: docs/images/learning_<table>.png")
    options = parser.parse_args(argv)
    with said():
        comparison = gs.Comparison.load(RESULTS / f"{options.table}.json")
        out = options.out or RESULTS.parent / "images" / f"learning_{options.table}.png"
        histories = histories_of(comparison, options.models)
        gs.visualization.plot_learning_curves(histories, metric=options.metric, path=out)
        print(out)


if __name__ == "__main__":
    main()
