"""What the scripts share: how a command line is told, and how a script ends."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import graphseq as gs


def part_size(text: str) -> float:
    """The size of a validation part on a command line: clicks are whole, shares and days not."""
    return int(text) if text.isdigit() else float(text)


def command(module: str, argv: list[str] | None) -> str:
    """The command line that makes the same file again."""
    return f"python -m {module} {shlex.join(sys.argv[1:] if argv is None else argv)}".strip()


@contextmanager
def said() -> Iterator[None]:
    """Ends the script with one sentence where an argument or a file is wrong, or by Ctrl-C."""
    try:
        yield
    except (ValueError, ModuleNotFoundError) as error:
        raise SystemExit(str(error)) from error
    except KeyboardInterrupt as error:
        raise SystemExit(
            f"{error or 'Stopped.'} What is finished is in --out; see --resume."
        ) from error


def print_table(comparison: gs.Comparison) -> None:
    """The table in per cent, best first, and the tests of the best model in words."""
    print("\n".join([comparison.to_markdown(), "", *comparison.sentences()]))
