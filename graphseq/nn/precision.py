"""Values of half precision, where a computation needs more bits."""

from __future__ import annotations

import torch
from torch import Tensor


def in_32_bits(values: Tensor) -> Tensor:
    """Values of half precision in 32 bits; others as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
