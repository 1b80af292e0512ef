"""Reads the command line, and reports errors in one sentence."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from graphseq.commands import compare, demo, describe, recommend, score, serve, tune
from graphseq.comparison.record import versions

EPILOG = """\
examples:
  graphseq describe clicks.csv --session sid --item sku --time ts
  graphseq compare clicks.parquet --session sid --item sku --time ts --out runs
  graphseq recommend runs clicks.parquet --session sid --item sku --time ts -k 10
  graphseq compare uci-eshop                       # a data set that comes with the package
"""

WRONG, STOPPED = 2, 130
"""Exit codes: an argument or a file is wrong; Ctrl-C, by shell convention."""


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="graphseq",
        description="Compare, tune and use models of sessions: which item comes next?",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=versions()["graphseq"])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (describe, compare, tune, recommend, score, serve, demo):
        command.add_to(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: The arguments; ``None``: the arguments of the process.

    Returns:
        The exit code: 0; 2 if an argument or a file is wrong; 130 after Ctrl-C.
    """
    options = arguments().parse_args(argv)
    options.line = shlex.join(["graphseq", *(sys.argv[1:] if argv is None else argv)])
    try:
        with lines_on_stderr():
            options.run(options)
    except KeyboardInterrupt as stop:
        sys.stderr.write(f"{str(stop) or 'Stopped.'}\n")
        return STOPPED
    except BrokenPipeError:  # the reader closed the pipe, as `head` does
        sys.stderr.close()
        return 0
    except (ValueError, OSError, ModuleNotFoundError) as error:
        sys.stderr.write(f"graphseq: {' '.join(str(error).split())}\n")
        return WRONG
    return 0


@contextmanager
def lines_on_stderr() -> Iterator[None]:
    """Writes the progress of a command and all warnings of the package to standard error."""
    package, ours = logging.getLogger("graphseq"), logging.getLogger("graphseq.comparison")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    levels = [(logger, logger.level) for logger in (package, ours)]
    package.addHandler(handler)
    package.setLevel(logging.WARNING)
    ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        package.removeHandler(handler)
        for logger, level in levels:
            logger.setLevel(level)
