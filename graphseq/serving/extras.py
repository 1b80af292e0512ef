"""Libraries that only some installations have: imported when first used, named when missing."""

from __future__ import annotations

import importlib
from typing import Any


def need(module: str, what: str, *, extra: str = "serving") -> Any:
    """A library that an extra of graphseq brings.

    Args:
        module: The module to import.
        what: What needs it, as the error begins.
        extra: The extra that brings it.

    Raises:
        ValueError: If it is not installed; the message names the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"{what} needs {module.partition('.')[0]}, which is not installed: "
            f"pip install 'graphseq[{extra}]'."
        ) from error
