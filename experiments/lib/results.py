"""Shared by the scripts: the command line as text, and errors."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
    except (ValueError, OSError, ModuleNotFoundError) as error:
        raise SystemExit(str(error)) from error
    except KeyboardInterrupt as error:
        raise SystemExit(
            f"{error or 'Stopped.'} What is finished is in --out: run it again to go on, with "
            "--resume where the script has it."
        ) from error


def fit_whole(model: gs.models.SessionModel, *data: Any, **settings: Any) -> gs.training.FitResult:
    """:func:`graphseq.fit` to its end: a training that was stopped is no result of a script.

    Raises:
        KeyboardInterrupt: After Ctrl-C or SIGTERM, on which ``fit`` itself returns.
    """
    result = gs.fit(model, *data, **settings)
    if result.interrupted:
        raise KeyboardInterrupt(f"Stopped in the training of {type(model).__name__}.")
    return result


def print_table(comparison: gs.Comparison) -> None:
    """Prints the table in per cent, best first, and the tests of the best model in words."""
    print("\n".join([comparison.to_markdown(), "", *comparison.sentences()]))
