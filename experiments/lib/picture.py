"""Draws the session graph of the README: one visit to a shop, as a graph."""

from __future__ import annotations

import argparse
from pathlib import Path

import graphseq as gs

VISIT = [
    "phone",
    "case",
    "phone",
    "charger",
    "case",
    "phone",
    "charger",
    "headphones",
    "phone",
    "case",
]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.lib.picture", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images/session_graph.png"))
    options = parser.parse_args(argv)
    sessions = gs.Sessions.from_lists([[*VISIT, "case"]])
    graph = gs.SessionGraphDataset(sessions)[-1]  # all clicks but the last, which is the target
    options.out.parent.mkdir(parents=True, exist_ok=True)
    gs.visualization.draw_session_graph(graph, labels=sessions.vocabulary.ids, path=options.out)


if __name__ == "__main__":
    main()
