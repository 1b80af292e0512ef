"""Records attention weights and outputs while a model runs, without support in the families."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from graphseq.nn.attention import SelfAttention, TransformerBlock, recorded_attention
from graphseq.nn.hstu import HSTULayer
from graphseq.nn.ligr import LiGRBlock


@contextmanager
def recorded_weights(module: torch.nn.Module) -> Iterator[list[Tensor]]:
    """Records the attention weights of every layer of a module that is called in the context.

    Outside the context nothing is recorded, at no cost. A transformer block that needs only some
    clicks' states computes all of them in the context, so that its weights are complete.

    Args:
        module: A model or a block.

    Yields:
        A list to which each call adds weights, lowest layer first: [num_rows, heads, queries,
        width], before dropout; rows of padding are undefined.
    """
    recorded: list[Tensor] = []

    def of_block(block: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
        with recorded_attention(block) as weights:
            block.forward(*arguments[:3])
        recorded.extend(weights)

    def of_layer(layer: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
        assert isinstance(layer, SelfAttention | HSTULayer)
        recorded.append(layer.weights(*arguments))

    inside: set[torch.nn.Module] = set()
    hooks = []
    for layer in module.modules():
        if isinstance(layer, TransformerBlock | LiGRBlock):
            inside.add(layer.attention)
            hooks.append(layer.register_forward_pre_hook(of_block))
        elif isinstance(layer, SelfAttention | HSTULayer) and layer not in inside:
            hooks.append(layer.register_forward_pre_hook(of_layer))
    try:
        yield recorded
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def recorded_outputs(
    module: torch.nn.Module, wanted: Callable[[str, torch.nn.Module], bool]
) -> Iterator[list[tuple[Tensor, ...]]]:
    """Records inputs and outputs of modules while a model runs.

    Args:
        module: A model.
        wanted: Function of a submodule's name and the submodule that selects what to record.

    Yields:
        A list to which each call adds its tensors: the inputs, then the output.
    """
    recorded: list[tuple[Tensor, ...]] = []

    def keep(_: torch.nn.Module, given: tuple[Any, ...], output: Any) -> None:
        recorded.append((*(each for each in given if isinstance(each, Tensor)), output))

    hooks = [
        layer.register_forward_hook(keep)
        for name, layer in module.named_modules()
        if wanted(name, layer)
    ]
    try:
        yield recorded
    finally:
        for hook in hooks:
            hook.remove()
