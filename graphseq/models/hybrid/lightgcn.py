"""LightGCN: item factors from the graph of sessions and items, with sessions folded in."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Batch
from torch_geometric.nn import LightGCN as PyGLightGCN
from torch_geometric.utils import to_torch_csr_tensor

from graphseq.arguments import check_not_negative, check_sizes
from graphseq.models.base import Traits
from graphseq.models.hybrid.factors import FactorModel
from graphseq.models.registry import register
from graphseq.nn.chance import OwnDraws
from graphseq.random import torch_stream


@register("lightgcn")
class LightGCN(FactorModel):
    r"""LightGCN (He et al., SIGIR 2020): a session is a set of items, without order.

    Embeddings of training sessions and items are propagated over the graph of who clicked what,

    .. math::
        e_j^{(k+1)} = \sum_{s \ni j} \frac{e_s^{(k)}}{\sqrt{d_s d_j}}, \qquad
        e_s^{(k+1)} = \sum_{j \in s} \frac{e_j^{(k)}}{\sqrt{d_s d_j}}, \qquad
        y_j = \frac{1}{K + 1} \sum_{k=0}^{K} e_j^{(k)}

    with :math:`d` the degree and K ``num_layers``; PyG's ``LightGCN`` computes them, and BPR trains
    them. A new session has no embedding of its own: it gets what its items pass on,

    .. math::
        x_s = \sum_{j \in s} \frac{1}{\sqrt{d_s d_j}} \sum_{k=0}^{K-1} e_j^{(k)}, \qquad
        \hat y_{sj} = x_s^\top y_j

    Args:
        num_items: Items of the catalog.
        hidden_channels: Width ``d`` of embeddings.
        num_layers: Steps of propagation, ``K``.
        epochs: Passes over the clicks.
        batch_size: Clicks per step; each step propagates over the whole graph.
        learning_rate: Of Adam.
        regularization: Weight of the squared norm of the embeddings of a step.
        seed: Seed of weights, order and negatives.

    Raises:
        ValueError: If an argument is out of range.
    """

    traits = Traits(
        architecture="graph convolution over sessions and items",
        parallel=True,
        reach="whole session, in any order",
        side_features=False,
        best_for="long histories of tastes; the collaborative part of a hybrid",
    )
    passed_on: Tensor

    def __init__(
        self,
        num_items: int,
        hidden_channels: int = 64,
        *,
        num_layers: int = 2,
        epochs: int = 30,
        batch_size: int = 4096,
        learning_rate: float = 0.01,
        regularization: float = 1e-4,
        seed: int = 0,
    ) -> None:
        super().__init__(num_items, hidden_channels, seed)
        check_sizes(
            num_layers=num_layers,
            epochs=epochs,
            batch_size=batch_size,
        )
        if not 0 < learning_rate < float("inf"):
            raise ValueError(f"learning_rate must be a finite number above 0, got {learning_rate}.")
        check_not_negative(regularization=regularization)
        self.set_buffer("passed_on", dtype=torch.double)  # of x: [num_items, d]

    def count(
        self,
        items: NDArray[np.int64],
        session: NDArray[np.int64],
        time: NDArray[np.float64] | None,
    ) -> None:
        # Items are numbered in the order of first clicks, because codes of items are only names.
        known, first = np.unique(items, return_index=True)
        order = known[np.argsort(first)]
        number = np.empty(self.num_items, dtype=np.int64)
        number[order] = np.arange(len(order))
        _, row = np.unique(session, return_inverse=True)
        clicks = np.unique(np.stack([row, number[items]]), axis=1)
        size = int(clicks[0].max()) + 1
        y, passed_on = self._trained(torch.from_numpy(clicks), size, len(order))
        for name, values in (("factors", y), ("passed_on", passed_on)):
            of_all = np.zeros((self.num_items, values.size(1)))
            of_all[order] = values.double().numpy()  # items without a click: zeros
            self.set_buffer(name, of_all)

    def _trained(self, clicks: Tensor, num_sessions: int, num_items: int) -> tuple[Tensor, Tensor]:
        """``y`` and what items pass on, of sessions and items [2, num_clicks], [num_items, d]."""
        settings = self.settings
        total = num_sessions + num_items
        user, item = clicks[0], clicks[1] + num_sessions
        degree = torch.bincount(torch.cat([user, item]), minlength=total).float()
        weight = (degree[user] * degree[item]).rsqrt()
        graph = to_torch_csr_tensor(
            torch.stack([torch.cat([user, item]), torch.cat([item, user])]),
            weight.repeat(2),
            size=(total, total),
        )
        generator = torch_stream("relations", settings["seed"])
        with OwnDraws(settings["seed"]), torch.enable_grad():
            model = PyGLightGCN(
                total, settings["hidden_channels"], settings["num_layers"], normalize=False
            )
            optimizer = torch.optim.Adam(model.parameters(), lr=settings["learning_rate"])
            for _ in range(settings["epochs"]):
                for step in torch.randperm(len(user), generator=generator).split(
                    settings["batch_size"]
                ):
                    draws = torch.randint(num_items, (len(step),), generator=generator)
                    nodes = torch.stack([user[step], item[step], num_sessions + draws])
                    x = model.get_embedding(graph)[nodes]  # [3, n, d]
                    optimizer.zero_grad()
                    model.recommendation_loss(
                        (x[0] * x[1]).sum(-1),
                        (x[0] * x[2]).sum(-1),
                        nodes.view(-1),
                        settings["regularization"],
                    ).backward()
                    optimizer.step()
        with torch.no_grad():
            e, passed_on = model.embedding.weight, torch.zeros(total, 1)
            for conv in model.convs:
                passed_on = passed_on + e
                e = conv(e, graph)
            y = model.get_embedding(graph)
            passed_on = passed_on * degree.clamp(min=1).rsqrt().unsqueeze(1)
        return y[num_sessions:], passed_on[num_sessions:]

    def session_vectors(self, batch: Batch) -> Tensor:
        """``x_s`` of every session, float64 [num_sessions, d]."""
        number = int(batch.num_graphs)
        sums = self.passed_on.new_zeros(number, self.passed_on.size(1))
        sums.index_add_(0, batch.batch, self.passed_on[batch.x])
        degree = torch.bincount(batch.batch, minlength=number).clamp(min=1)
        return sums / degree.sqrt().unsqueeze(1)
