"""Figures that belong to the caller: pyplot is not used, so no figure stays open in it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Literal

from matplotlib.figure import Figure

BLUE, ORANGE, INK, GRAY = "#0072B2", "#E69F00", "#1F2933", "#6B7785"
"""Blue and orange of Okabe and Ito (2008), safe for color-blind readers; text; lines."""

DOTS_PER_INCH = 150


def new_figure(width: float, height: float, *, constrained: bool = False) -> Figure:
    """An empty figure of this size in inches, if ``constrained`` with constrained layout."""
    layout: Literal["constrained"] | None = "constrained" if constrained else None
    return Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout=layout)


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Writes a figure atomically.

    Args:
        figure: The figure.
        path: File to write; its suffix names the format (png, svg, pdf).

    Returns:
        The file written.

    Raises:
        ValueError: If matplotlib does not write this format, or the folder cannot be written to.
    """
    path = Path(path)
    suffix = path.suffix.lstrip(".").lower()
    formats = figure.canvas.get_supported_filetypes()
    if suffix not in formats:
        raise ValueError(
            f"Figures are written as {', '.join(sorted(formats))}, but {path.name!r} ends in "
            f"{path.suffix!r}: name it like {path.stem}.png."
        )
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}.{suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(unfinished, format=suffix, dpi=DOTS_PER_INCH, facecolor="white")
        unfinished.replace(path)
    except OSError as error:
        raise ValueError(
            f"The figure could not be written to {path}: {error.strerror or error}. Name a file in "
            "a folder that can be written to."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()
    return path
