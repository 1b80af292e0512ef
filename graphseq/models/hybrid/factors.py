"""Families that score by products of factors: of items, and of sessions that are folded in."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.arguments import check_sizes, whole
from graphseq.models.counting.counting import CountingModel


class FactorModel(CountingModel):
    r"""A model of factors, :math:`\hat y_{sj} = x_s^\top y_j`.

    A family sets :attr:`factors` where it counts, and implements :meth:`session_vectors`. Other
    models can use :attr:`factors` as initial weights of an item table, or as a feature of the kind
    ``"vector"``.

    Args:
        num_items: Items of the catalog.
        hidden_channels: Width ``d`` of the factors.
        seed: Seed of the initial factors, at least 0.

    Raises:
        ValueError: If an argument is out of range.
    """

    num_roundings = 1024

    factors: Tensor

    def __init__(self, num_items: int, hidden_channels: int, seed: int) -> None:
        super().__init__(num_items)
        check_sizes(hidden_channels=hidden_channels)
        whole("seed", seed, at_least=0)
        self.set_buffer("factors", dtype=torch.double)  # y: [num_items, d]

    def session_vectors(self, batch: Batch) -> Tensor:
        """``x_s`` of every session, float64 [num_sessions, d]."""
        raise NotImplementedError(f"{type(self).__name__} defines no session_vectors(batch).")

    def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
        """Products of the folded-in session and the factors of items.

        Args:
            batch: Session graphs.
            items: ``None``: all items; else candidates, [C] or [num_sessions, C].

        Returns:
            float64 [num_sessions, num_items] or [num_sessions, C].

        Raises:
            ValueError: If the model is not fitted yet.
        """
        self.check_counted()
        x = self.session_vectors(batch)  # [num_sessions, d]
        if items is None or items.dim() == 1:
            return x @ (self.factors if items is None else self.factors[items]).T
        return torch.einsum("sd,scd->sc", x, self.factors[items])

    def score_tolerance(self, scores: Tensor, rows: Tensor) -> Tensor:
        """As for real numbers that may cancel: :meth:`SessionModel.score_tolerance`."""
        return super(CountingModel, self).score_tolerance(scores, rows)
