"""Shared by the scripts: the command line as text, and errors."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import graphseq as gs


def part_size(text: str) -> float:
    """The size of a validation part on a command line: a whole number of clicks, or a share or
    days."""
    return int(text) if text.isdigit() else float(text)


def command(module: str, argv: list[str] | None) -> str:
    """The command line that reproduces the file."""
    return f"python -m {module} {shlex.join(sys.argv[1:] if argv is None else argv)}".strip()


@contextmanager
def said() -> Iterator[None]:
    """Ends the script with one sentence if an argument or a file is wrong, or on Ctrl-C."""
    try:
        yield
    except (ValueError, ModuleNotFoundError) as error:
        raise SystemExit(str(error)) from error
    except KeyboardInterrupt as error:
        raise SystemExit(
            f"{error or 'Stopped.'} What is finished is in --out; see --resume."
        ) from error


def print_table(comparison: gs.Comparison) -> None:
    """Prints the table in per cent, best first, and the tests of the best model in words."""
    print("\n".join([comparison.to_markdown(), "", *comparison.sentences()]))
