"""What a checkpoint holds, checked against the resumed training before anything is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from graphseq.data.storage.rules import (
    Rule,
    absent_or,
    check_record,
    list_of,
    mapping_of,
    number,
    optional,
    record,
    text,
    whole,
)
from graphseq.training.optim.optimizers import MEMORY

CHECKPOINT = "the checkpoint"


def check_names(state: Mapping[str, Any]) -> None:
    """Refuses a checkpoint that does not state which training it belongs to.

    Raises:
        ValueError: If it does not.
    """
    check_record(
        dict(state),
        {"identity": mapping_of(_anything), "settings": mapping_of(_anything)},
        CHECKPOINT,
    )
    if state["identity"]:  # empty where the data are your own
        told = ("the model", "the validation part", "the augmentation", "the auxiliary losses")
        check_record(state["identity"], dict.fromkeys(told, _anything), f"identity of {CHECKPOINT}")


def check_layout(
    checkpoint: Mapping[str, Any],
    state: Mapping[str, Any],
    *,
    weights: Mapping[str, Tensor],
    trained: Sequence[Tensor],
    method: object,
    num_parts: int,
) -> None:
    """Refuses a checkpoint that lacks something, or holds tensors of another type or shape.

    Args:
        checkpoint: What was read.
        state: The part of it that is not Lightning's.
        weights: The weights of the model, by name.
        trained: What the optimizer changes, in its order.
        method: The name of the optimizer; the state of your own is left to torch.
        num_parts: Losses that are added up.

    Raises:
        ValueError: If it does not fit; the message states what.
    """
    own = _optimizer(trained, method) if isinstance(method, str) else _anything
    rules: dict[str, Rule] = {
        "state_dict": mapping_of(_tensor()),
        "optimizer_states": list_of(own),
        "loops": mapping_of(_anything),
    }
    check_record(dict(checkpoint), rules, CHECKPOINT)
    history = state.get("history")
    epochs = len(history) + 1 if isinstance(history, list) else None
    rules = {
        "model": text(),
        "training_state": mapping_of(_tensor()),
        "loss_state": mapping_of(_tensor()),
        "average": optional(_average(trained)),
        "num_steps": optional(whole(1)),
        "step": whole(0),
        "loss_sum": _tensor(torch.double, ()),
        "part_sums": _tensor(torch.double, (num_parts,)),
        "num_targets": whole(0),
        "num_without_negatives": whole(0),
        "measured": mapping_of(number()),
        "seconds": number(0),
        "data_seconds": number(0),
        "history": list_of(record({"epoch": whole(1), "loss": number(), "seconds": number(0)})),
        "best_epoch": whole(0, epochs),
        "best_value": _float,
        "best_weights": optional(_like(weights)),
    }
    check_record(dict(state), rules, CHECKPOINT)


def _anything(value: Any, where: str) -> None:
    """Whatever is there."""


def _float(value: Any, where: str) -> None:
    if type(value) is not float:
        raise ValueError(f"{where} must be a number, got {value!r}.")


def _tensor(dtype: torch.dtype | None = None, shape: Sequence[int] | None = None) -> Rule:
    """A dense tensor of this type and shape; ``None``: of any."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, Tensor) or value.layout != torch.strided:
            raise ValueError(f"{where} must be a tensor, got {type(value).__name__}.")
        wanted = dtype or value.dtype, tuple(value.shape if shape is None else shape)
        if (value.dtype, tuple(value.shape)) != wanted:
            raise ValueError(
                f"{where} must be {wanted[0]} {list(wanted[1])}, got {value.dtype} "
                f"{list(value.shape)}."
            )

    return check


def _like(tensors: Mapping[str, Tensor]) -> Rule:
    return _exactly({name: _tensor(each.dtype, each.shape) for name, each in tensors.items()})


def _exactly(rules: Mapping[Any, Rule]) -> Rule:
    """A mapping with these keys and no others, except keys that may be absent."""

    def check(value: Any, where: str) -> None:
        check_record(value, rules, where)
        other = [name for name in value if name not in rules]
        if other:
            raise ValueError(f"{where} has {other[0]!r}, which nothing here is called.")

    return check


def _running(length: Callable[[], int]) -> Rule:
    """A running array of float64 with more places than a number of steps."""

    def check(value: Any, where: str) -> None:
        _tensor(torch.double)(value, where)
        if value.dim() != 1 or len(value) <= length():
            raise ValueError(
                f"{where} must have more than {length()} numbers, got {list(value.shape)}."
            )

    return check


def _last(rows: int, steps: int) -> Rule:
    """One step for every row, int32, from 0 to ``steps``."""

    def check(value: Any, where: str) -> None:
        _tensor(torch.int32, (rows,))(value, where)
        if rows and not 0 <= int(value.min()) <= int(value.max()) <= steps:
            raise ValueError(f"{where} must lie within 0..{steps}.")

    return check


def _optimizer(trained: Sequence[Tensor], method: str) -> Rule:
    """The state of each parameter, as the optimizer makes it."""

    def check(value: Any, where: str) -> None:
        check_record(value, {"state": _anything, "param_groups": list_of(_anything)}, where)
        if not isinstance(value["state"], dict):
            raise ValueError(f"state of {where} must be a mapping.")
        for place, state in value["state"].items():
            if type(place) is not int or not 0 <= place < len(trained):
                raise ValueError(
                    f"{where} has a state of parameter {place!r}, here are {len(trained)}."
                )
            _of_parameter(trained[place], method, state, f"state {place} of {where}")

    return check


def _of_parameter(parameter: Tensor, method: str, state: Any, where: str) -> None:
    if isinstance(state, dict) and not state:  # of a parameter that never had a gradient
        return
    rules: dict[Any, Rule] = {"step": _tensor(torch.float32, ())}
    same = _tensor(parameter.dtype, parameter.shape)
    if method in ("adam", "adamw"):
        rules |= {"exp_avg": same, "exp_avg_sq": same}
    elif method == "rowwise_adagrad" and parameter.dim() > 1:
        rules["sum"] = _tensor(parameter.dtype, parameter.shape[:1])
    elif method != "sgd":
        rules["sum"] = same
    if method == "sgd":
        rules = {}
    elif isinstance(state, dict) and isinstance(state.get("step"), Tensor):
        steps = float(state["step"]) if state["step"].numel() == 1 else -1.0
        if not 0 <= steps <= 2**24 or steps != int(steps):
            raise ValueError(f"step of {where} must be a whole number of steps, got {steps}.")
        if method in ("adam", "adamw") and parameter.dim() > 0:
            running = _running(lambda: int(steps))
            recent = _tensor(torch.double, (MEMORY + 1,))
            clock = _exactly({"recent": recent, "faded": running, "decay": running})
            rules |= {
                "clock": absent_or(clock),
                "last": absent_or(_last(len(parameter), int(steps))),
            }
            if ("clock" in state) != ("last" in state):
                raise ValueError(f"{where} has one of clock and last, which go together.")
    _exactly(rules)(state, where)


def _average(trained: Sequence[Tensor]) -> Rule:
    def check(value: Any, where: str) -> None:
        check_record(value, {"steps": whole(0), "averages": list_of(_tensor())}, where)
        steps = value["steps"]
        running = _running(lambda: steps)
        _exactly(
            {
                "steps": whole(0),
                "averages": _anything,
                "log_kept": running,
                "tables": mapping_of(_anything),
            }
        )(value, where)
        if len(value["averages"]) != len(trained):
            raise ValueError(
                f"{where} is of {len(value['averages'])} tensors, here are {len(trained)}."
            )
        for place, (parameter, each) in enumerate(zip(trained, value["averages"], strict=True)):
            _tensor(parameter.dtype, parameter.shape)(each, f"tensor {place} of {where}")
        for place, table in value["tables"].items():
            known = isinstance(place, str) and place.isascii() and place.isdigit()
            if not known or int(place) >= len(trained) or trained[int(place)].dim() == 0:
                raise ValueError(f"{where} has a table {place!r}, here are {len(trained)} tensors.")
            rows = len(trained[int(place)])
            names = ("faded", "averaged", "decay", "weighted")
            rules: dict[Any, Rule] = dict.fromkeys(names, running)
            rules |= {"last": _last(rows, steps), "recent": _tensor(torch.double, (MEMORY + 1,))}
            _exactly(rules)(table, f"table {place} of {where}")

    return check
