"""The learning rate of each step: warm-up, then constant, linear, cosine or in steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

Schedule = Literal["constant", "linear", "cosine", "step"]

SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
"""Names that ``fit(schedule=...)`` takes."""

STEP_EPOCHS, STEP_FACTOR = 3, 0.1
"""The ``"step"`` schedule, as in SR-GNN's code: learning rate x 0.1 every 3 epochs."""


def share_of_rate(
    schedule: Schedule, step: int, epoch: int, *, warmup: int = 0, total: int | None = None
) -> float:
    r"""The share of the learning rate that one step of the optimizer has.

    With :math:`W` steps of warm-up and :math:`T` steps in all, step :math:`t` has

    .. math::
        \frac{t + 1}{W} \text{ for } t < W, \quad \text{then with } p = \frac{t - W}{T - W}: \quad
        1 - p \text{ (linear)}, \quad \tfrac12 (1 + \cos \pi p) \text{ (cosine)}

    ``"constant"`` stays at 1 after the warm-up; ``"step"`` is multiplied by 0.1 every 3 epochs.

    Args:
        schedule: Its name.
        step: Steps of the optimizer made before, from 0.
        epoch: The epoch it is made in, from 0.
        warmup: Steps of warm-up.
        total: Steps in all, which ``"linear"`` and ``"cosine"`` need.
    """
    if step < warmup:
        rise = (step + 1) / warmup
        return rise * STEP_FACTOR ** (epoch // STEP_EPOCHS) if schedule == "step" else rise
    if schedule == "constant":
        return 1.0
    if schedule == "step":
        return float(STEP_FACTOR ** (epoch // STEP_EPOCHS))
    assert total is not None
    place = min(1.0, (step - warmup) / max(total - warmup, 1))
    return 1.0 - place if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * place))


def ends_with_training(schedule: object, warmup: int | float) -> bool:
    """Whether learning rates depend on the number of all steps.

    Args:
        schedule: Its name, or one of your own, which keeps its own count.
        warmup: Steps, or as a fraction below 1 a share of all steps.
    """
    return schedule in ("linear", "cosine") or _is_share(warmup)


def _is_share(warmup: int | float) -> bool:
    return isinstance(warmup, float) and warmup > 0


def steps_of(
    schedule: Schedule, warmup: int | float, count: Callable[[], int | None]
) -> tuple[int, int | None]:
    """Steps of warm-up and steps in all.

    Args:
        schedule: Its name.
        warmup: Steps, or as a fraction below 1 a share of all steps.
        count: Counts all steps, ``None``: nobody knows; called where their number is needed.

    Raises:
        ValueError: If the number of steps is needed and nobody knows it.
    """
    share = _is_share(warmup)
    if not ends_with_training(schedule, warmup):
        return int(warmup), None
    steps = count()
    if steps is None:
        what = f"warmup={warmup} as a share" if share else f"The {schedule} schedule"
        raise ValueError(
            f"{what} needs to know the number of steps, but this loader has no length: use "
            "schedule='constant' and a warmup in steps."
        )
    return round(warmup * steps) if share else int(warmup), steps
