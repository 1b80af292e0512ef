"""Dropout with random numbers that are cheap on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from graphseq.arguments import check_shares
from graphseq.nn.chance import source

LEVELS = 1 << 16
"""Steps into which a share is rounded: 16 random bits decide on a value."""


class Dropout(torch.nn.Module):
    """Dropout (Srivastava et al., JMLR 2014): in training, a fraction of the values becomes zero.

    The other values are divided by the kept fraction. torch draws one float per value, which on a
    CPU costs more than a transformer's activations. Here 64 random bits decide on four values, and
    the fraction is rounded to a multiple of 1/65,536. Inside ``fit`` the random numbers come from
    the run's generator (:func:`~graphseq.nn.chance.drawing_from`), otherwise from torch.

    Args:
        share: Fraction of values that is dropped, in [0, 1).

    Raises:
        ValueError: If ``share`` is outside this range.
    """

    def __init__(self, share: float = 0.5) -> None:
        super().__init__()
        check_shares(share=share)
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.share, self.training)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.share})"


def dropout(x: Tensor, share: float, training: bool = True) -> Tensor:
    """:class:`Dropout` as a function.

    Args:
        x: Values of any shape.
        share: Fraction that is dropped, in [0, 1).
        training: Whether values are dropped at all.
    """
    if not training or share == 0:
        return x
    generator = source(x.device)
    if x.device.type != "cpu":
        if generator is None:
            return torch.nn.functional.dropout(x, share)
        return x * torch.empty_like(x).bernoulli_(1 - share, generator=generator).div_(1 - share)
    dropped = min(round(share * LEVELS), LEVELS - 1)
    random = torch.empty(-(-x.numel() // 4), dtype=torch.int64)
    random.random_(torch.iinfo(torch.int64).min, None, generator=generator)  # all 64 bits
    keep = random.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - LEVELS // 2
    return x * keep.to(x.dtype).mul_(LEVELS / (LEVELS - dropped))
