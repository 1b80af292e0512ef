"""What a checkpoint holds besides Lightning's own state, and how it is checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from graphseq.data.storage.rules import absent_or, anything, check_record, mapping_of
from graphseq.training.lightning.data_module import SessionDataModule
from graphseq.training.lightning.identity import check_identity, described
from graphseq.training.optim.layout import check_layout, check_names
from graphseq.training.optim.optimizers import RowSparseOptimizer
from graphseq.training.optim.schedules import ends_with_training
from graphseq.training.settings import TrainingSettings

SessionModule = Any
"""A :class:`~graphseq.training.lightning.module.SessionModule`, which imports this file."""

STATE = "session_training"
"""The key of a checkpoint of Lightning under which this state lies."""

FREE = ("max_epochs", "patience", "checkpoint_steps", "checkpoint_minutes")
"""Settings that may differ when training resumes; ``max_epochs`` not with every schedule."""


KEPT = (
    *("step", "num_targets", "num_without_negatives", "data_seconds", "measured", "history"),
    *("best_epoch", "best_value", "best_weights"),
)
"""Attributes of a module that a checkpoint has as they are."""


def state_of(module: SessionModule) -> dict[str, Any]:
    """The state of a training between two updates, as tensors and plain values.

    Taking it changes nothing: rows of tables that wait for missed steps keep waiting. So a training
    whose state was taken gives the same bits as one without.

    Args:
        module: A module between two updates.
    """
    data = module.trainer.datamodule
    own = isinstance(data, SessionDataModule)
    return {
        "identity": data.identity if own else {},
        "settings": module.settings.to_dict(),
        "run": module.run,
        "model": type(module.model).__name__,
        "training_state": module.model.training_state(),
        "loss_state": module.objective.training_state(),
        "average": None if module.average is None else module.average.state_dict(),
        "num_steps": data.num_batches if own else None,
        "loss_sum": module.sums[0],
        "part_sums": module.sums[1:],
        "seconds": module.seconds,
        **{name: getattr(module, name) for name in KEPT},
    }


def run_of(module: SessionModule) -> dict[str, Any]:
    """What decides the updates besides the settings, by the name that an error gives it.

    It is taken before the first step: callbacks and your own functions may change some of it.

    Args:
        module: A module that the trainer has set up.
    """
    settings, trainer = module.settings, module.trainer
    most = module.most_gradient(trainer.gradient_clip_val)
    how = "value" if trainer.gradient_clip_algorithm == "value" else "norm"
    told = {
        "the clipping of gradients": f"{float(most)} by {how}" if most else None,
        "accumulate_grad_batches of the trainer": trainer.accumulate_grad_batches,
        "precision of the trainer": trainer.precision,
    }
    if ends_with_training(settings.schedule, settings.warmup):
        name = "the updates in all (max_epochs, max_steps, limit_train_batches)"
        told[name] = module.num_updates()
    own = {"the optimizer": settings.optimizer, "the schedule": settings.schedule}
    return told | {name: described(v) for name, v in own.items() if not isinstance(v, str)}


def load_state(module: SessionModule, checkpoint: Mapping[str, Any]) -> None:
    """Resumes a module from a checkpoint; Lightning loads the rest.

    What needs the optimizer follows in :func:`load_rest`.

    Raises:
        ValueError: If the checkpoint is of another training, lacks something or holds tensors of
            another type or shape; nothing has changed then.
    """
    state = checkpoint.get(STATE)
    if not isinstance(state, Mapping):
        raise ValueError("The checkpoint is not one of a SessionModule: train without resume.")
    check_names(state)
    check_settings(state["settings"], module.settings)
    data = module.trainer.datamodule
    if isinstance(data, SessionDataModule):
        check_identity(state["identity"], data.identity)
        steps = state.get("num_steps")
        if steps != data.num_batches:
            raise ValueError(
                f"The checkpoint was made with {steps} batches per epoch, here are "
                f"{data.num_batches}: the data differ; give it the same, or train without resume."
            )
    check_record(dict(state), {"run": absent_or(mapping_of(anything()))}, "the checkpoint")
    check_identity(state.get("run", {}), run_of(module))  # earlier checkpoints have none
    check_layout(
        checkpoint,
        state,
        weights=module.model.state_dict(),
        trained=module.trained,
        method=module.settings.optimizer,
        num_parts=len(module.part_names),
    )
    _check_end(module, state["history"])
    own = {name: value.shape for name, value in module.state_dict().items()}
    there = {name: value.shape for name, value in checkpoint["state_dict"].items()}
    if there != own:
        raise ValueError(
            f"The checkpoint does not fit this training, its model ({state['model']}) or auxiliary "
            "losses have other weights: give it the same, or train without resume."
        )
    if (state["average"] is None) != (module.settings.ema is None):
        raise ValueError("average of the checkpoint must be there where ema is set, and only then.")
    try:
        module.objective.load_training_state(state["loss_state"])
        module.model.load_training_state(state["training_state"])
    except (KeyError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"The checkpoint does not fit this training, what {state['model']} or the loss carries "
            f"from step to step is of another kind ({error!r}): train without resume."
        ) from error
    for name in KEPT:
        setattr(module, name, state[name])
    module.sums = torch.cat([state["loss_sum"].view(1), state["part_sums"]])
    module.earlier_seconds = state["seconds"]
    module.loaded = dict(state)


def load_rest(module: SessionModule) -> None:
    """The second part of :func:`load_state`, when there is an optimizer."""
    if module.loaded is None:
        return
    if module.average is not None:
        module.average.load_state_dict(module.loaded["average"])
    if isinstance(module.optimizer, RowSparseOptimizer):
        module.optimizer.clocks_to_cpu()
    module.loaded = None


def check_settings(saved: Mapping[str, Any], settings: TrainingSettings) -> None:
    """Refuses settings that would have made another training.

    Args:
        saved: The settings of the checkpoint, as :meth:`TrainingSettings.to_dict` gave them.
        settings: The settings of the training to resume.

    Raises:
        ValueError: If one differs that matters.
    """
    free = set(FREE)
    if ends_with_training(settings.schedule, settings.warmup):
        free.discard("max_epochs")  # learning rates depend on it from the first step on
    for name, value in settings.to_dict().items():
        if name not in free and saved.get(name) != value:
            raise ValueError(
                f"The checkpoint was made with {name} {saved.get(name)}, this training has {value}:"
                f" give it the same, or train without resume. {', '.join(sorted(free))} may differ."
            )


def _check_end(module: SessionModule, history: list[dict[str, float]]) -> None:
    """Refuses a checkpoint of more epochs than the current settings allow.

    Raises:
        ValueError: If it has more: the best of them may be one that this training never reaches.
    """
    metric, patience = module.settings.monitor, module.settings.patience
    most = module.trainer.max_epochs
    end = len(history) if most in (None, -1) else most
    if patience is not None:
        best, since = -math.inf, 0
        for epoch, row in enumerate(row for row in history if metric in row):
            best, since = (row[metric], 0) if row[metric] > best else (best, since + 1)
            if since >= patience:
                end = min(end, epoch + 1)
                break
    if len(history) > end:
        raise ValueError(
            f"The checkpoint is of {len(history)} epochs, and this training ends after {end} "
            f"(max_epochs={most}, patience={patience}): give it the settings that it had, or train "
            "without resume."
        )
