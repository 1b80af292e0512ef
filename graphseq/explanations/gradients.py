"""Integrated gradients of one item's score along the embeddings of a session's clicks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
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
    but for the error of the sum. All steps are one batch of copies of the session. Where Captum is
    installed (``pip install graphseq[explain]``), its ``IntegratedGradients`` takes the sum.

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
    asked = None  # where every candidate costs, the item and those that stand for the catalog
    if not model.scores_by_table:
        several = references(model.num_items, model.device, FEW_REFERENCES)
        asked = torch.cat([several.new_tensor([item]), several])
    ends: list[tuple[Tensor, Tensor, bool]] = []  # of each look-up: its rows, their mean, its kind
    on_the_way: Iterator[Tensor] | None = None

    def replaced(layer: torch.nn.Module, given: tuple[Any, ...], output: Tensor) -> Tensor | None:
        kind = _reads(given[0], steps, clicked, nodes)
        if kind is None:
            return None
        width = size if kind else len(nodes)
        rows = output.detach().unflatten(0, (steps, -1))  # [S, width or more, d]
        if on_the_way is None:
            assert isinstance(layer, torch.nn.Embedding)
            mean = layer.weight.detach().mean(0)
            ends.append((rows[:1, :width], mean.expand_as(rows[:1, :width]), kind))
            return None
        return torch.cat([next(on_the_way), rows[:, width:]], dim=1).flatten(0, 1)

    def gained(*rows: Tensor) -> Tensor:
        """The item's score above the mean of the catalog for rows [S, n, d] of each look-up."""
        nonlocal on_the_way
        on_the_way = iter(rows) if rows else None
        scores = model.score(copies, asked)
        if asked is None:
            return margins(scores, scores[:, item])
        return scores[:, 0] - scores[:, 1:].mean(1)

    tables = [layer for layer in model.modules() if isinstance(layer, torch.nn.Embedding)]
    hooks = [layer.register_forward_hook(replaced) for layer in tables]
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            gained()
        if not ends:
            raise ValueError(
                f"{type(model).__name__} reads no embedding of its clicks, so that it has no "
                "gradient along them: take method='leave_one_out'."
            )
        inputs, means, kinds = zip(*ends, strict=True)
        # The recurrent kernels of cuDNN have no gradient in evaluation mode.
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            effects = _along_the_way(gained, inputs, means, steps)
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    effect = torch.zeros(size, dtype=torch.float64)
    index = batch.click_index.cpu()
    visits = torch.bincount(index, minlength=len(nodes))
    for of_rows, of_clicks in zip(effects, kinds, strict=True):
        own = of_rows.double().cpu()  # [num_clicks] or [num_nodes]
        effect += own if of_clicks else (own / visits)[index]
    return effect.numpy()


def _along_the_way(
    gained: Callable[..., Tensor],
    inputs: tuple[Tensor, ...],
    means: tuple[Tensor, ...],
    steps: int,
) -> list[Tensor]:
    """The effect of every row of every input: Captum's where it is installed, the same by hand.

    Args:
        gained: From rows [S, n, d] per input to one number per step, [S].
        inputs, means: Both ends of the way, [1, n, d] per input.
        steps: Points :math:`S` on the way, in the middle of their parts.

    Returns:
        [n] per input.
    """

    def of_all(*rows: Tensor) -> Tensor:
        """Every input counts, by nothing: a look-up may not reach the score."""
        return gained(*rows) + sum(0 * each.sum((1, 2)) for each in rows)

    captum = captum_attr()
    if captum is not None:
        found = captum.IntegratedGradients(of_all).attribute(
            inputs, means, n_steps=steps, method="riemann_middle"
        )
        return [each.detach()[0].sum(1) for each in found]
    share = (torch.arange(steps, device=inputs[0].device) + 0.5) / steps
    rows = [
        (mean + share[:, None, None] * (end - mean)).requires_grad_()
        for end, mean in zip(inputs, means, strict=True)
    ]
    slopes = torch.autograd.grad(of_all(*rows).sum(), rows)
    return [
        (slope.mean(0) * (end - mean)[0]).sum(1)
        for slope, end, mean in zip(slopes, inputs, means, strict=True)
    ]


def captum_attr() -> Any:
    """Captum's module of attributions; ``None`` where Captum is not installed."""
    try:
        return import_module("captum.attr")
    except ImportError:
        return None


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
