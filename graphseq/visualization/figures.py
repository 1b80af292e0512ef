"""Figures that belong to the caller: pyplot is not used, so no figure stays open in it."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

BLUE, ORANGE, INK, GRAY = "#0072B2", "#E69F00", "#1F2933", "#6B7785"
"""Blue and orange of Okabe and Ito (2008), safe for color-blind readers; text; lines."""

PALE_BLUE, VERMILION = "#DCEBF7", "#D55E00"

CATEGORIES = (
    "#56B4E9",
    "#F0E442",
    "#009E73",
    "#CC79A7",
    "#D55E00",
    "#0072B2",
    "#E69F00",
    "#999999",
)
"""Colors of categories, of Okabe and Ito too; what comes after the seventh shares the gray."""

DOTS_PER_INCH = 150


def colors_of(values: Sequence[Any]) -> dict[Any, str]:
    """A color for each value, the most frequent first; the same values always get the same."""
    order = sorted(Counter(values).items(), key=lambda entry: (-entry[1], str(entry[0])))
    last = len(CATEGORIES) - 1
    return {value: CATEGORIES[min(place, last)] for place, (value, _) in enumerate(order)}


def blend(share: float) -> tuple[float, float, float]:
    """White at 0, blue at 1, vermilion at -1: strengths with a sign."""
    target = np.array(to_rgb(BLUE if share >= 0 else VERMILION))
    red, green, blue = 1 + min(abs(share), 1.0) * (target - 1)
    return float(red), float(green), float(blue)


def numbers_of(values: Iterable[float]) -> list[str]:
    """Strengths of one picture as short text: two decimals, or powers of ten where all are small.

    Args:
        values: Finite numbers.
    """
    given = [float(value) for value in values]
    if 0 < max(map(abs, given), default=0.0) < 0.05:
        texts = [f"{value:.0e}".replace("e-0", "e-") if value else "0" for value in given]
    else:
        texts = [f"{value:.2f}" if abs(value) < 10 else f"{value:.3g}" for value in given]
        texts = ["0" if float(text) == 0 else text for text in texts]
    return [text.replace("0.", ".", 1) if text.lstrip("-")[:2] == "0." else text for text in texts]


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
    with whole_file(path) as unfinished:
        figure.savefig(unfinished, format=suffix, dpi=DOTS_PER_INCH, facecolor="white")
    return path


def image_of(figure: Figure) -> Image.Image:
    """A figure as it would be on a screen, for an animation."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])


def save_frames(
    frames: Sequence[Image.Image], path: str | os.PathLike[str], seconds: float
) -> Path:
    """Writes a GIF whole or not at all, which starts over after twice the time of a frame.

    Args:
        frames: Images of one size.
        path: File to write.
        seconds: How long each is shown.

    Returns:
        The file written.

    Raises:
        ValueError: If the folder cannot be written to.
    """
    path = Path(path)
    first, *others = [frame.quantize(64) for frame in frames]
    duration = [round(1000 * seconds)] * len(others) + [round(2000 * seconds)]
    with whole_file(path) as unfinished:
        first.save(
            unfinished, format="GIF", save_all=True, append_images=others, duration=duration, loop=0
        )
    return path


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Where to write a file, which takes the place of ``path`` once it is whole."""
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix.lower()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        unfinished.replace(path)
    except OSError as error:
        raise ValueError(
            f"The figure could not be written to {path}: {error.strerror or error}. Name a file in "
            "a folder that can be written to."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()
