"""Integrated gradients of one item's score along the embeddings of a session's clicks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.explanations.variants import margins, references, variants_of
from graphseq.models.base import SessionModel

FEW_REFERENCES = 64
"""Items whose mean score stands for the catalog where each costs a pass of its own."""


def integrated_gradients(
    model: SessionModel, batch: Batch, item: int, *, steps: int = 64
) -> NDArray[np.float64]:
    r"""The effect of each click on an item's score (Sundararajan et al., ICML 2017).

    .. math::
        a_i = (e_i - \bar e)^\top \frac{1}{S} \sum_{s=1}^{S}
            \nabla_{e_i} F\big(\bar e + \tfrac{s - 1/2}{S} (e - \bar e)\big)

    All clicks start as the mean item :math:`\bar e` and become themselves together; :math:`F` is
    the item's score above the mean of the catalog. Effects sum to what the score gains on the way,
    but for the error of the sum. All steps are one batch of copies of the session.

    Args:
        model: With embeddings of items.
        batch: The graph of one session, of clicks that the model sees.
        item: Code of the item.
        steps: Points :math:`S` on the way.

    Returns:
        float64 [num_clicks]. Clicks on one item share its effect where a model reads each item
        once.

    Raises:
        ValueError: If the model reads no embedding of its clicks.
    """
    size = batch.num_clicks
    copies = variants_of(batch, [np.arange(size)] * steps).to(model.device)
    clicked, nodes = batch.click_item.to(model.device), batch.x.to(model.device)
    share = (torch.arange(steps, device=model.device) + 0.5) / steps  # [S]
    leaves: list[tuple[Tensor, Tensor, bool]] = []

    def on_the_way(layer: torch.nn.Module, given: tuple[Any, ...], output: Tensor) -> Tensor | None:
        index = given[0]
        kind = _reads(index, steps, clicked, nodes)
        if kind is None:
            return None
        width = size if kind else len(nodes)
        whole = output.detach().unflatten(0, (steps, -1))  # [S, width or more, d]
        assert isinstance(layer, torch.nn.Embedding)
        mean = layer.weight.detach().mean(0)
        way = whole[:, :width] - mean
        leaf = (mean + share[:, None, None] * way).requires_grad_()
        leaves.append((leaf, way[0], kind))
        return torch.cat([leaf, whole[:, width:]], dim=1).flatten(0, 1)

    tables = [layer for layer in model.modules() if isinstance(layer, torch.nn.Embedding)]
    hooks = [layer.register_forward_hook(on_the_way) for layer in tables]
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        # The recurrent kernels of cuDNN have no gradient in evaluation mode.
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            if model.scores_by_table:
                scores = model.score(copies)
                gained = margins(scores, scores[:, item])
            else:  # where every candidate costs, those that stand for the catalog
                asked = torch.cat(
                    [
                        torch.tensor([item], device=model.device),
                        references(model.num_items, model.device, FEW_REFERENCES),
                    ]
                )
                scores = model.score(copies, asked)
                gained = scores[:, 0] - scores[:, 1:].mean(1)
            if not leaves:
                raise ValueError(
                    f"{type(model).__name__} reads no embedding of its clicks, so that it has no "
                    "gradient along them: take method='leave_one_out'."
                )
            slopes = torch.autograd.grad(
                gained.sum(), [leaf for leaf, _, _ in leaves], allow_unused=True
            )
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    effect = torch.zeros(size, dtype=torch.float64)
    index = batch.click_index.cpu()
    visits = torch.bincount(index, minlength=len(nodes))
    for (_, way, of_clicks), slope in zip(leaves, slopes, strict=True):
        if slope is None:
            continue
        own = (slope.mean(0) * way).sum(1).double().cpu()  # [num_clicks] or [num_nodes]
        effect += own if of_clicks else (own / visits)[index]
    return effect.numpy()


def _reads(index: Any, steps: int, clicked: Tensor, nodes: Tensor) -> bool | None:
    """Whether a look-up is of the clicks of all copies (True), their nodes (False), or neither."""
    if not isinstance(index, Tensor) or index.dim() != 1 or index.numel() % steps:
        return None
    rows = index.view(steps, -1)
    for kind, wanted in ((True, clicked), (False, nodes)):
        # A masked place may follow the clicks of each copy.
        extra = rows.size(1) - len(wanted)
        if extra in ((0, 1) if kind else (0,)) and bool((rows[:, : len(wanted)] == wanted).all()):
            return kind
    return None
