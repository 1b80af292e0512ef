"""The optimizer and the schedule of some settings: by name, or your own of torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from graphseq.training.optim.optimizers import RowSparseOptimizer
from graphseq.training.optim.schedules import share_of_rate, steps_of
from graphseq.training.settings import TrainingSettings


def make_optimizer(parameters: Sequence[Parameter], settings: TrainingSettings) -> Optimizer:
    """The optimizer of some settings.

    Args:
        parameters: What it changes.
        settings: A name, a class of torch, which gets the learning rate and the weight decay, or a
            function of the parameters.

    Raises:
        ValueError: If your own function does not return an optimizer.
    """
    chosen = settings.optimizer
    if isinstance(chosen, str):
        return RowSparseOptimizer(
            parameters, chosen, settings.learning_rate, weight_decay=settings.weight_decay
        )
    if isinstance(chosen, type):
        options: dict[str, Any] = {"lr": settings.learning_rate}
        if settings.weight_decay:
            options["weight_decay"] = settings.weight_decay
        made = chosen(parameters, **options)
    else:
        made = chosen(parameters)
    if not isinstance(made, Optimizer):
        raise ValueError(
            "optimizer is a name, a class of torch.optim or a function from parameters to an "
            f"optimizer, got a function that gives a {type(made).__name__}."
        )
    return made


def make_schedule(
    optimizer: Optimizer,
    settings: TrainingSettings,
    epoch_of: Callable[[int], int],
    num_updates: Callable[[], int | None],
) -> dict[str, Any]:
    """The schedule of some settings, as Lightning takes it.

    Args:
        optimizer: Its optimizer.
        settings: A name, or a function from the optimizer to a scheduler of torch, which steps
            after each update, or to Lightning's mapping of one.
        epoch_of: The epoch of an update, from 0.
        num_updates: Counts all updates; ``None``: nobody knows.

    Raises:
        ValueError: If your own function does not return a scheduler, or the number of updates is
            needed and unknown.
    """
    chosen = settings.schedule
    if isinstance(chosen, str):
        name = chosen
        warmup, total = steps_of(chosen, settings.warmup, num_updates)

        def share(update: int) -> float:
            return share_of_rate(name, update, epoch_of(update), warmup=warmup, total=total)

        return {"scheduler": LambdaLR(optimizer, share), "interval": "step"}
    made = chosen(optimizer)
    if isinstance(made, Mapping):
        return dict(made)
    if isinstance(made, ReduceLROnPlateau):
        return {"scheduler": made, "monitor": settings.monitor, "interval": "epoch"}
    if not isinstance(made, LRScheduler):
        raise ValueError(
            "schedule is a name or a function from the optimizer to a scheduler of torch, got a "
            f"function that gives a {type(made).__name__}."
        )
    return {"scheduler": made, "interval": "step"}
