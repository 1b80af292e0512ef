"""What a training is in the middle of: everything that its next steps depend on."""

from __future__ import annotations

import math
import time
from typing import Any

from graphseq.training.lightning.checkpoints import check_settings
from graphseq.training.lightning.identity import check_identity
from graphseq.training.lightning.loop import SessionTraining
from graphseq.training.optim.layout import check_layout, check_names


def state_of(training: SessionTraining) -> dict[str, Any]:
    """The state of a training between two updates, as tensors and plain values.

    Nothing is changed for it: rows of tables that wait for their missed steps go on waiting, so
    that a training of which the state was taken makes the same bits as one of which it was not.

    Args:
        training: A training that waits.
    """
    optimizer = training.optimizer
    assert optimizer is not None
    average = optimizer.average
    return {
        "identity": training.identity,
        "settings": training.settings.to_dict(),
        "model": type(training.model).__name__,
        "weights": training.model.state_dict(),
        "training_state": training.model.training_state(),
        "loss_state": training.objective.training_state(),
        "auxiliary": training.auxiliary.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": None if average is None else average.state_dict(),
        "scaler": training.trainer.precision_plugin.state_dict(),
        "epoch": training.epoch,
        "step": training.step,
        "num_steps": training.num_steps,
        "updates": training.updates,
        "loss_sum": training.loss_sum,
        "part_sums": training.part_sums,
        "num_targets": training.num_targets,
        "num_without_negatives": training.num_without_negatives,
        "seconds": training.seconds if training.step else 0.0,
        "data_seconds": training.data_seconds if training.step else 0.0,
        "history": training.history,
        "best_epoch": training.best_epoch,
        "best_value": training.best_value,
        "best_weights": training.best_weights,
        "log_bytes": training.metrics_log.position if training.metrics_log is not None else 0,
    }


def load_state(training: SessionTraining, state: dict[str, Any]) -> None:
    """Makes a training that has not started go on from a state.

    What belongs to the optimiser follows in :func:`load_optimizer_state`, once there is one.

    Raises:
        ValueError: If the state is of another training, lacks something or holds tensors of
            another type or shape; nothing has changed then.
    """
    check_names(state)
    check_settings(state["settings"], training.settings)
    check_identity(state["identity"], training.identity)
    check_layout(
        state,
        weights=training.model.state_dict(),
        trained=training.trained,
        method=training.settings.optimizer,
        num_parts=len(training.part_names),
    )
    _check_end(training, state["history"])
    own = {name: value.shape for name, value in training.model.state_dict().items()}
    if {name: value.shape for name, value in state["weights"].items()} != own:
        raise ValueError(
            f"The checkpoint does not fit this training, its model ({state['model']}) has other "
            "weights: delete it or train without resume."
        )
    further = {name: value.shape for name, value in training.auxiliary.state_dict().items()}
    if {name: value.shape for name, value in state["auxiliary"].items()} != further:
        raise ValueError(
            "The checkpoint does not fit this training, its auxiliary losses are others: give it "
            "the same, in the same order, or train without resume."
        )
    if (state["average"] is None) != (training.settings.ema is None):
        raise ValueError("average of the checkpoint must be there where ema is set, and only then.")
    try:
        training.objective.load_training_state(state["loss_state"])
        training.model.load_training_state(state["training_state"])
    except (KeyError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"The checkpoint does not fit this training, what {state['model']} or the loss carries "
            f"from step to step is of another kind ({error!r}): train without resume."
        ) from error
    training.model.load_state_dict(state["weights"])
    training.auxiliary.load_state_dict(state["auxiliary"])
    training.epoch, training.step = state["epoch"], state["step"]
    training.updates = state["updates"]
    training.history = state["history"]
    training.best_epoch, training.best_value = state["best_epoch"], state["best_value"]
    training.best_weights = state["best_weights"]
    training.loss_sum = state["loss_sum"]
    training.part_sums = state["part_sums"]
    training.num_targets = state["num_targets"]
    training.num_without_negatives = state["num_without_negatives"]
    training.resumed = state


def _check_end(training: SessionTraining, history: list[dict[str, float]]) -> None:
    """Refuses epochs beyond the end that the settings of now would have set.

    Raises:
        ValueError: If there are some: the best of them may be one that this training never sees.
    """
    settings, metric = training.settings, training.settings.monitor
    end, patience = settings.max_epochs, settings.patience
    if training.validation is not None and patience is not None and history:
        values = [row.get(metric, -math.inf) for row in history]
        best = 0
        for epoch, value in enumerate(values):
            best = epoch if value > values[best] else best
            if epoch - best >= patience:
                end = min(end, epoch + 1)
                break
    if len(history) > end:
        raise ValueError(
            f"The checkpoint is of {len(history)} epochs, and this training ends after {end} "
            f"(max_epochs={settings.max_epochs}, patience={patience}): give it the settings that "
            "it had, or train without resume."
        )


def load_optimizer_state(training: SessionTraining) -> None:
    """The second part of :func:`load_state`, when Lightning has made optimiser and loader.

    Raises:
        ValueError: If an epoch has another number of batches than it had.
    """
    state, optimizer = training.resumed, training.optimizer
    if state is None:
        return
    assert optimizer is not None
    if state["num_steps"] != training.num_steps:
        raise ValueError(
            f"The checkpoint was made with {state['num_steps']} batches an epoch, here are "
            f"{training.num_steps}: the data differ; give it the same, or train without resume."
        )
    groups = optimizer.state_dict()["param_groups"]  # settings are those of now
    optimizer.load_state_dict({"state": state["optimizer"]["state"], "param_groups": groups})
    if optimizer.average is not None:
        optimizer.average.load_state_dict(state["average"])
    try:
        training.trainer.precision_plugin.load_state_dict(state["scaler"])
    except (KeyError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"scaler of the checkpoint is none of precision={training.settings.precision!r} "
            f"({error!r}): train without resume."
        ) from error
    training.loss_sum = state["loss_sum"].to(training.device)
    training.part_sums = state["part_sums"].to(training.device)
    training.earlier_seconds = state["seconds"]
    training.earlier_data_seconds = state["data_seconds"]
    training.started = time.perf_counter()
    training.resumed = None
