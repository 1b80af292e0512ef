"""Weights of transitions, for layers over session graphs."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data.graphs.transforms import DecayedWeights
from graphseq.data.logs.times import Duration

EdgeWeight = Literal["count", "binary", "decayed"]


class EdgeWeights:
    """Weights of the edges of session graphs.

    Args:
        kind: ``"count"``: number of occurrences of a transition; ``"binary"``: 1; ``"decayed"``:
            each occurrence counts by its age (:class:`~graphseq.data.DecayedWeights`).
        half_life: Age at which a decayed transition counts half, in ``unit``.
        unit: ``"seconds"`` or ``"clicks"``.

    Raises:
        ValueError: If there is a half-life without decay, or decay without a half-life.
    """

    def __init__(
        self, kind: EdgeWeight, half_life: Duration | None, unit: Literal["seconds", "clicks"]
    ) -> None:
        if (half_life is None) == (kind == "decayed"):
            raise ValueError(
                "half_life is the age at which a decayed transition counts half: it goes with "
                f"edge_weight='decayed' and with no other, got {half_life} and {kind!r}."
            )
        self.kind = kind
        self.decay = None if half_life is None else DecayedWeights(half_life, unit)

    @property
    def half_life(self) -> float | None:
        """The half-life as a number."""
        return None if self.decay is None else self.decay.half_life

    def __call__(self, batch: Batch) -> Tensor:
        """The weight of every edge, [num_edges]."""
        weight: Tensor = batch.edge_weight
        if self.kind == "binary":
            return torch.ones_like(weight)
        if self.decay is not None:
            _, weight = self.decay.edges(batch)
            # A node whose transitions are all too old for float32 still sends messages.
            weight = weight.clamp(min=torch.finfo(weight.dtype).tiny)
        return weight
