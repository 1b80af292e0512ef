"""What attention weighs by, read while a model runs: families keep nothing for it."""

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
    """Keeps what every attention layer of a module that is called meanwhile weighs by.

    Nothing is recorded outside of the block, and nothing is slower there. A block of a transformer
    of which only some clicks' states are wanted is asked for all of them, so that its weights are
    whole.

    Args:
        module: A model or a block.

    Yields:
        A list that each call adds weights to, lowest layer first: [num_rows, heads, clicks that
        ask, width], before dropout; rows of padding mean nothing.
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
    """Keeps what modules are given and give while a model runs.

    Args:
        module: A model.
        wanted: Whether a module inside is listened to, by its name and itself.

    Yields:
        A list that each call adds its tensors to: those given, then the one that it gave.
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
