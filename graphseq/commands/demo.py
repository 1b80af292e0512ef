"""``graphseq demo``: three models of the embedded e-shop on a page, trained in under a minute."""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path
from typing import Any


def add_to(commands: Any) -> None:
    """Adds the command to the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "demo",
        help="a page with three models of the embedded e-shop",
        description="Trains three small models on the data that comes with the package, and "
        "serves them on a page where you click a session together.",
        epilog="example: graphseq demo --folder runs/demo --port 8080",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address (default: 127.0.0.1)")
    parser.add_argument(
        "--port", type=int, default=8_000, help="port; 0: one that is free (default: 8000)"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        help="where the models are kept for the next time (default: they are not kept)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Trains, then serves until it is stopped."""
    from graphseq.serving.service.demo import make_demo  # only this command needs it
    from graphseq.serving.service.run import Settings, listening, serve

    logging.getLogger("graphseq.serving").setLevel(logging.INFO)
    with (
        listening(options.host, options.port) as socket,
        tempfile.TemporaryDirectory() as temporary,
    ):
        first, *beside = map(str, make_demo(options.folder or Path(temporary)))
        settings = Settings(first, beside=beside, host=options.host, port=options.port)
        serve(settings, socket)
