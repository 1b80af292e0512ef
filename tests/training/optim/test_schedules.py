"""Learning rates by hand: warm-up, then constant, linear, cosine or in steps."""

from __future__ import annotations

import math

import pytest

from graphseq.training.optim.schedules import SCHEDULES, Schedule, share_of_rate, steps_of


def shares(schedule: Schedule, warmup: int, total: int = 6, epoch: int = 0) -> list[float]:
    return [
        share_of_rate(schedule, step, epoch, warmup=warmup, total=total) for step in range(total)
    ]


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0, [1, 1, 1, 1, 1, 1]),
        ("constant", 3, [1 / 3, 2 / 3, 1, 1, 1, 1]),
        ("linear", 0, [1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]),
        ("linear", 2, [0.5, 1, 1, 0.75, 0.5, 0.25]),
        ("cosine", 2, [0.5, 1, 1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]),
        ("step", 2, [0.5, 1, 1, 1, 1, 1]),
    ],
)
def test_shares_of_six_steps_are_those_by_hand(
    schedule: Schedule, warmup: int, expected: list[float]
) -> None:
    assert shares(schedule, warmup) == pytest.approx(expected)


@pytest.mark.parametrize(("epoch", "share"), [(0, 1), (2, 1), (3, 0.1), (5, 0.1), (6, 0.01)])
def test_step_schedule_falls_by_ten_every_third_epoch(epoch: int, share: float) -> None:
    assert share_of_rate("step", 100, epoch) == pytest.approx(share)
    assert share_of_rate("step", 4, epoch, warmup=10) == pytest.approx(share / 2)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_falling_schedules_end_at_zero_and_stay_there(schedule: Schedule) -> None:
    assert share_of_rate(schedule, 6, 0, total=6) == pytest.approx(0.0)
    assert share_of_rate(schedule, 9, 0, total=6) == pytest.approx(0.0)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warm_up_rises_to_the_whole_rate(schedule: Schedule) -> None:
    rising = shares(schedule, 4, total=40)
    assert rising[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert max(rising) == pytest.approx(1.0)


def test_warm_up_longer_than_training_never_ends() -> None:
    assert shares("cosine", 12)[-1] == pytest.approx(0.5)


def test_warm_up_is_a_number_of_steps_or_a_share_of_them() -> None:
    assert steps_of("constant", 7, lambda: 100) == (7, None)
    assert steps_of("linear", 7, lambda: 100) == (7, 100)
    assert steps_of("constant", 0.07, lambda: 100) == (7, 100)
    assert steps_of("constant", 7, lambda: None) == (7, None)
    assert steps_of("step", 0.0, lambda: None) == (0, None)


@pytest.mark.parametrize(("schedule", "warmup"), [("linear", 0), ("cosine", 0), ("step", 0.1)])
def test_schedule_that_needs_the_number_of_steps_says_so(schedule: Schedule, warmup: float) -> None:
    with pytest.raises(ValueError, match="needs to know the number of steps"):
        steps_of(schedule, warmup, lambda: None)
