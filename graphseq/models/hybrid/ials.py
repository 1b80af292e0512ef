"""iALS: implicit matrix factorization of sessions and items, with sessions folded in."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.arguments import check_sizes
from graphseq.models.base import Traits
from graphseq.models.hybrid.factors import FactorModel
from graphseq.models.registry import register
from graphseq.random import stream


@register("ials")
class IALS(FactorModel):
    r"""Implicit ALS (Hu, Koren & Volinsky, ICDM 2008): a session is a set of items, without order.

    The items' factors :math:`Y` and the factors of training sessions minimize

    .. math::
        \sum_{s,j} (1 + \alpha n_{sj}) \, (p_{sj} - x_s^\top y_j)^2
            + \lambda (\lVert X \rVert^2 + \lVert Y \rVert^2)

    with :math:`n_{sj}` clicks of session s on item j and :math:`p_{sj} = [n_{sj} > 0]`; the package
    ``implicit`` fits them. A new session gets the optimal vector given Y:

    .. math::
        x_s = (Y^\top Y + \alpha \sum_j n_{sj} y_j y_j^\top + \lambda I)^{-1}
            \sum_j (1 + \alpha n_{sj}) \, y_j, \qquad \hat y_{sj} = x_s^\top y_j

    The sums run over the items of the session.

    Args:
        num_items: Items of the catalog.
        hidden_channels: Number of factors ``d``.
        alpha: Weight of a click.
        regularization: :math:`\lambda`.
        iterations: Rounds of alternating least squares.
        seed: Seed of the initial factors.

    Raises:
        ValueError: If an argument is not positive.
        ImportError: When it is fitted, if ``implicit`` is not installed.
    """

    traits = Traits(
        architecture="matrix factorization of sessions and items",
        parallel=True,
        reach="whole session, in any order",
        side_features=False,
        best_for="long histories of tastes; the collaborative part of a hybrid",
    )

    def __init__(
        self,
        num_items: int,
        hidden_channels: int = 64,
        *,
        alpha: float = 10.0,
        regularization: float = 0.1,
        iterations: int = 15,
        seed: int = 0,
    ) -> None:
        super().__init__(num_items, hidden_channels, seed)
        check_sizes(iterations=iterations)
        for name, value in (("alpha", alpha), ("regularization", regularization)):
            if not 0 < value < float("inf"):
                raise ValueError(f"{name} must be a finite number above 0, got {value}.")
        self.alpha = alpha
        self.regularization = regularization

    def count(
        self,
        items: NDArray[np.int64],
        session: NDArray[np.int64],
        time: NDArray[np.float64] | None,
    ) -> None:
        try:
            als = import_module("implicit.cpu.als")
        except ImportError as error:
            raise ModuleNotFoundError(
                f"IALS needs {error.name}, which is not installed: pip install 'graphseq[hybrid]'."
            ) from error
        sessions, row = np.unique(session, return_inverse=True)
        shape = (len(sessions), self.num_items)
        confidence = csr_matrix((np.ones(len(items)), (row, items)), shape)  # n: sums of clicks
        confidence.data = 1 + self.alpha * confidence.data
        model = als.AlternatingLeastSquares(
            factors=self.settings["hidden_channels"],
            regularization=self.regularization,
            alpha=1.0,
            iterations=self.settings["iterations"],
            use_cg=False,
            num_threads=1,  # several threads sum in a different order each time
            dtype=np.float64,
        )
        # Initial factors follow the order of first clicks, because codes of items are only names.
        _, first = np.unique(items, return_index=True)
        place = np.full(self.num_items, len(items))
        place[items[first]] = first
        size = (self.num_items, self.settings["hidden_channels"])
        drawn = stream("first_factors", self.settings["seed"]).normal(scale=0.01, size=size)
        model.item_factors = np.empty(size)
        model.item_factors[np.argsort(place, kind="stable")] = drawn
        model.user_factors = np.zeros((len(sessions), size[1]))  # solved for first
        model.fit(confidence, show_progress=False)
        self.set_buffer("factors", np.asarray(model.item_factors, dtype=np.float64))

    def session_vectors(self, batch: Batch) -> Tensor:
        """``x_s`` of every session, float64 [num_sessions, d]."""
        y = self.factors
        d = y.size(1)
        node = y[batch.x]  # [num_nodes, d]
        times = torch.zeros(len(batch.x), dtype=y.dtype, device=y.device)
        times.index_add_(0, batch.click_index, torch.ones_like(batch.click_index, dtype=y.dtype))
        fixed = y.T @ y + self.regularization * torch.eye(d, dtype=y.dtype, device=y.device)
        number = int(batch.num_graphs)
        outer = (self.alpha * times).view(-1, 1, 1) * node.unsqueeze(2) * node.unsqueeze(1)
        left = fixed.repeat(number, 1, 1).index_add_(0, batch.batch, outer)  # [num_sessions, d, d]
        right = y.new_zeros(number, d)
        right.index_add_(0, batch.batch, (1 + self.alpha * times).unsqueeze(1) * node)
        return torch.linalg.solve(left, right)
