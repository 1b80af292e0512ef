"""Positions of clicks: learned, sinusoidal, rotary, and times in buckets."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import embedding

from graphseq.arguments import check_choice, check_heads, check_sizes
from graphseq.nn.attention import position_angles
from graphseq.nn.ragged import DenseView

Positions = Literal["start", "end", "rotary", "sinusoidal", "time", "none"]
"""Kinds of positions. ``"start"``, ``"end"``: learned, counted from the start or the end of a row;
``"rotary"``, ``"sinusoidal"``: without parameters; ``"time"``: times between clicks; ``"none"``: no
positions, so that only a causal mask shows the order."""


class LearnedPositions(torch.nn.Module):
    """One learned vector per position in a row, added to the clicks.

    Args:
        max_length: Maximum number of clicks in a row.
        channels: Width ``d`` of the clicks.
        origin: Whether positions count from the ``"start"`` or the ``"end"`` of a row. Counted from
            the end, the position of a click changes with every later click.

    Shapes:
        x [num_clicks, d] -> [num_clicks, d], and no rotation
    """

    def __init__(
        self, max_length: int, channels: int, origin: Literal["start", "end"] = "start"
    ) -> None:
        super().__init__()
        check_sizes(max_length=max_length, channels=channels)
        check_choice("origin", origin, ("start", "end"))
        self.weight = Parameter(torch.empty(max_length, channels))
        self.origin = origin
        self.reset_parameters()

    def reset_parameters(self) -> None:
        torch.nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Tensor, view: DenseView) -> tuple[Tensor, Tensor | None]:
        place = view.position
        if self.origin == "end":
            lengths = torch.bincount(view.batch, minlength=view.num_rows)
            place = place + len(self.weight) - lengths[view.batch]
        return x + embedding(place, self.weight), None

    def __repr__(self) -> str:
        max_length, channels = self.weight.shape
        return f"{type(self).__name__}({max_length}, {channels}, {self.origin!r})"


class SinusoidalPositions(torch.nn.Module):
    r"""Sines and cosines, added to clicks times :math:`\sqrt d` (Vaswani et al., 2017).

    Section 3.4 defines the factor, section 3.5 the sines and cosines.

    Args:
        channels: Width ``d`` of the clicks, even.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_sizes(channels=channels)
        self.channels = _even("sinusoidal", channels)

    def forward(self, x: Tensor, view: DenseView) -> tuple[Tensor, Tensor | None]:
        angles = position_angles(view.position, self.channels)
        waves = torch.cat([angles.sin(), angles.cos()], dim=1)  # float32
        return (x * self.channels**0.5 + waves).to(x.dtype), None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.channels})"


class RotaryPositions(torch.nn.Module):
    """Angles by which attention rotates queries and keys (RoFormer, Su et al., 2021).

    Args:
        channels: Width ``d`` of the clicks.
        heads: Attention heads, each of an even width.

    Shapes:
        x [num_clicks, d] -> x itself, and angles [num_clicks, d / heads / 2]

    Raises:
        ValueError: If ``heads`` does not divide the width, or the width of a head is odd.
    """

    def __init__(self, channels: int, heads: int = 1) -> None:
        super().__init__()
        check_heads(channels, heads)
        self.channels = _even("rotary", channels // heads)

    def forward(self, x: Tensor, view: DenseView) -> tuple[Tensor, Tensor | None]:
        return x, position_angles(view.position, self.channels)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.channels})"


class NoPositions(torch.nn.Module):
    """No positions: only a causal mask shows the order of clicks."""

    def forward(self, x: Tensor, view: DenseView) -> tuple[Tensor, Tensor | None]:
        """The unchanged clicks, and no rotation."""
        return x, None


class TimeBuckets(torch.nn.Module):
    """One vector per bucket of a time span, two buckets per doubling; one more for a missing span.

    Args:
        num_buckets: Number of buckets; the last one holds all longer spans.
        channels: Width ``d`` of the clicks.

    Shapes:
        seconds [num_clicks] -> [num_clicks, d]
    """

    def __init__(self, num_buckets: int, channels: int) -> None:
        super().__init__()
        check_sizes(num_buckets=num_buckets, channels=channels)
        self.weight = Parameter(torch.empty(num_buckets + 1, channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        torch.nn.init.normal_(self.weight, std=0.02)

    def forward(self, seconds: Tensor, known: Tensor | None = None) -> Tensor:
        """The vectors of time spans.

        Args:
            seconds: Spans in the log's unit, [n].
            known: Which spans are known, bool [n]; ``None``: all.

        Raises:
            ValueError: If a known span is not finite.
        """
        check_times("seconds", seconds, known)
        last = len(self.weight) - 1
        bucket = time_bucket(seconds, last)
        return embedding(bucket if known is None else bucket.where(known, last), self.weight)

    def __repr__(self) -> str:
        num_buckets, channels = self.weight.shape
        return f"{type(self).__name__}({num_buckets - 1}, {channels})"


def positions_of(
    kind: Positions, max_length: int, channels: int, heads: int = 1
) -> LearnedPositions | SinusoidalPositions | RotaryPositions | NoPositions:
    """The positions of this kind, for clicks [num_clicks, channels] in rows of ``max_length``.

    Raises:
        ValueError: If the width is odd but channels are paired.
    """
    if kind == "rotary":
        return RotaryPositions(channels, heads)
    if kind == "sinusoidal":
        return SinusoidalPositions(channels)
    if kind in ("start", "end"):
        return LearnedPositions(max_length, channels, kind)
    return NoPositions()


def check_times(name: str, times: Tensor, known: Tensor | None = None) -> None:
    """Refuses times that are NaN or infinite: they are in no bucket.

    Args:
        name: What the caller calls them.
        times: [n].
        known: Which of them matter, bool [n]; ``None``: all.

    Raises:
        ValueError: If they are no numbers in a tensor, or one is not finite.
    """
    if not isinstance(times, Tensor) or times.dtype == torch.bool or times.is_complex():
        kind = times.dtype if isinstance(times, Tensor) else type(times).__name__
        raise ValueError(f"{name} is a tensor of real numbers, got {kind}: use torch.as_tensor.")
    if torch.compiler.is_compiling() or not times.is_floating_point():
        return
    wrong = ~times.isfinite() if known is None else ~times.isfinite() & known
    if bool(wrong.any()):
        first = int(wrong.nonzero()[0])
        raise ValueError(
            f"{name} must be finite, but {int(wrong.sum())} of {times.numel()} are not, the first "
            f"is {times[first].item()} at {first}."
        )


def time_bucket(seconds: Tensor, num_buckets: int) -> Tensor:
    r"""The bucket of a time span, two per doubling: :math:`\lfloor 2 \log_2(1 + t) \rfloor`.

    Args:
        seconds: Spans in the log's unit; negative spans count as 0.
        num_buckets: Number of buckets; the last one holds all longer spans.

    Returns:
        int64 of the same shape.
    """
    doublings = (seconds.clamp(min=0) + 1).log2()
    if torch.compiler.is_exporting():
        doublings = doublings + 1e-5  # a quotient of logarithms may stay below a whole number
    return (2 * doublings).long().clamp(max=num_buckets - 1)


def _even(kind: str, channels: int) -> int:
    if channels % 2:
        raise ValueError(
            f"positions={kind!r} pairs channels up and needs an even width, got {channels}: change "
            "hidden_channels or heads, or take positions='start'."
        )
    return channels
