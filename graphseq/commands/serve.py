"""``graphseq serve``: a trained model as an HTTP service, with live sessions."""

from __future__ import annotations

import argparse
import logging
from typing import Any

EPILOG = """\
examples:
  graphseq serve recommender                              # sessions in memory
  graphseq serve recommender --store sessions             # in a folder, which survives a restart
  graphseq serve recommender --store redis://localhost:6379/0 --processes 4

The variable GRAPHSEQ_API_KEY, if set, holds the key that requests must send as X-API-Key.
"""


def add_to(commands: Any) -> None:
    """Adds the command to the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "serve",
        help="a trained model as an HTTP service",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", metavar="FOLDER", help="a saved recommender or model")
    parser.add_argument(
        "--beside",
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="further models, shown next to it on the page",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address (default: 127.0.0.1)")
    parser.add_argument(
        "--port", type=int, default=8_000, help="port; 0: one that is free (default: 8000)"
    )
    parser.add_argument(
        "--store",
        default="memory",
        help="where sessions are kept: memory, a folder, or redis://... (default: memory)",
    )
    parser.add_argument(
        "--processes",
        type=int,
        default=1,
        help="number of processes, which need a shared store (default: 1)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=1_800.0,
        help="how long a session is kept after its last click (default: 1800)",
    )
    parser.add_argument(
        "--max-sessions", type=int, default=1_000_000, help="most sessions kept (default: 1000000)"
    )
    parser.add_argument(
        "--max-k", type=int, default=100, help="most items per request (default: 100)"
    )
    parser.add_argument(
        "--max-waiting",
        type=int,
        default=1_024,
        help="requests that may wait; further ones get 503 (default: 1024)",
    )
    parser.add_argument(
        "--rate",
        type=float,
        default=0.0,
        help="requests per second per address (default: no limit)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Serves until it is stopped."""
    from graphseq.serving.service.run import Settings, serve  # only this command needs it

    names = Settings.__dataclass_fields__
    logging.getLogger("graphseq.serving").setLevel(logging.INFO)
    serve(Settings(**{name: getattr(options, name) for name in names}))
