"""Finds families that beat counting models on a log, by a comparison on its validation part."""

from __future__ import annotations

from typing import Any

from graphseq.arguments import check_positive
from graphseq.comparison.choice import COUNTED, choose
from graphseq.comparison.compare import compare
from graphseq.comparison.verdicts import sentence
from graphseq.data.splits.splits import Split, fixed_split
from graphseq.models.use.suggest import Suggestion

EPOCHS_CHOSEN_ON = 0.1
"""Share of the training sessions (the last ones) used to choose the epoch of each model."""


def measured_suggestion(split: Split, minutes: float, *, seed: int = 0) -> Suggestion:
    """Families that beat the best counting model on the validation part; the test part is not used.

    Families come from :func:`~graphseq.comparison.choose`. They are trained on the training part,
    whose last tenth chooses the epoch, and ranked on the validation part.

    Args:
        split: The parts, with a validation part.
        minutes: Approximate time for training and ranking.
        seed: Seed of the models.

    Returns:
        First the families whose difference from the best counting family has an interval above
        zero, best first; then the counting families. Notes state what happened to the others.

    Raises:
        ValueError: If there is no validation part, or the time is not positive.
    """
    if split.validation is None:
        raise ValueError(
            "suggest(measure=True) ranks on a validation part, and this split has none: pass "
            "validation= when making it, as in temporal_split(sessions, test_days=1, validation=1)."
        )
    check_positive(minutes=minutes)
    inner = fixed_split(split.train, split.validation, EPOCHS_CHOSEN_ON)
    lines = choose(inner, 60 * minutes, seed=seed)
    comparison = compare(inner, lines, seeds=[seed], audit=False, progress=False)
    metric = comparison.content["monitor"]
    values = {row["model"]: row["metrics"][metric] for row in comparison.content["rows"]}
    counted = sorted((name for name in values if name in COUNTED), key=lambda name: -values[name])
    floor = counted[0]
    start_with, reasons, notes = [], {}, []
    for name in sorted(set(values) - set(counted), key=lambda name: -values[name]):
        test = _against(comparison.content["tests"], name, floor, metric)
        low = test["low"] if test["model"] == name else test["high"] and -test["high"]
        said = f"{metric} {values[name]:.4f} on the validation part: {sentence(test)}"
        if low is not None and low > 0:
            start_with.append(name)
            reasons[name] = said
        else:
            notes.append(f"{name} does not beat counting here, {said}")
    for name in counted:
        reasons[name] = f"{metric} {values[name]:.4f} on the validation part, by counting."
    if not start_with:
        notes.insert(0, f"No trained family beats {floor} in this time: give it more minutes.")
    measured = {"metric": metric, "values": values, "tests": comparison.content["tests"]}
    return Suggestion([*start_with, *counted], reasons, notes, measured)


def _against(tests: list[dict[str, Any]], name: str, floor: str, metric: str) -> dict[str, Any]:
    """The paired test of two models, found in either order."""
    return next(
        test
        for test in tests
        if test["metric"] == metric and {test["model"], test["against"]} == {name, floor}
    )
