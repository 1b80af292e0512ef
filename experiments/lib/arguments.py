"""Values of the scripts' options, checked before any work begins."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graphseq.comparison.record import writable


def seed_number(text: str) -> int:
    """A seed: a whole number of at least 0."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"a seed is a whole number of at least 0, got {text!r}")
    return value


def positive_number(text: str) -> float:
    """A finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"it is a finite number above 0, got {text!r}")
    return value


def whole_number(text: str) -> int:
    """A whole number of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"it is a whole number of at least 1, got {text!r}")
    return value


def out_folder(text: str) -> Path:
    """A folder of results, which is created."""
    try:
        return writable(Path(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


class Once(argparse.Action):
    """Several values, each of them once: a seed that counts twice is no second seed."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        given = [] if values is None else list(values)
        again = next((value for value in given if given.count(value) > 1), None)
        if again is not None:
            parser.error(f"argument {option_string}: {again!r} is given twice: name it once")
        setattr(namespace, self.dest, given)
