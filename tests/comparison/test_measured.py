"""Families that beat counting models, measured by a comparison on the validation part."""

from __future__ import annotations

import numpy as np
import pytest

import graphseq as gs
from graphseq.comparison import Entry, measured
from graphseq.models import suggest


def a_split() -> gs.Split:
    """Sessions in which the next item depends on the last two, which counting models cannot
    learn."""
    shape = {"num_categories": 2, "pattern": 1.0, "loops": 0.0, "repeats": 0.0}
    log = gs.generate_sessions(400, 40, mean_length=8, seed=1, **shape)
    return gs.session_split(log, 0.2, validation=0.3)


def lines(*entries: Entry) -> object:
    return lambda split, seconds, seed: list(entries)


COUNTED = [Entry("markov", "markov"), Entry("popularity", "popularity")]


def test_measured_suggestion_names_what_beats_counting_with_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained = Entry("second order", "markov", {"order": 2})  # it sees what the rule is, at once
    lazy = Entry(
        "sasrec", "sasrec", {"hidden_channels": 8}, {"max_epochs": 1, "learning_rate": 1e-6}
    )
    monkeypatch.setattr(measured, "choose", lines(*COUNTED, lazy, trained))
    split = a_split()
    found = suggest(split, measure=True, minutes=0.1)
    values = found.measured["values"]
    counted = sorted(["markov", "popularity"], key=lambda name: -values[name])
    assert found.start_with == ["second order", *counted]
    assert found.measured["metric"] == "mrr@20"
    assert (
        f"mrr@20 {values['second order']:.4f} on the validation part"
        in found.reasons["second order"]
    )
    assert f"second order beats {counted[0]} by" in found.reasons["second order"]
    assert [note.split()[0] for note in found.notes] == ["sasrec"]
    assert list(found.frame().index) == found.start_with
    # The test part plays no part, and the validation part is what is ranked.
    other = gs.Split(split.train, split.test[:1], split.validation)
    again = suggest(other, measure=True, minutes=0.1)
    assert again.measured["values"] == values
    cases = {test["clusters"] for test in found.measured["tests"]}
    with_target = np.count_nonzero(split.validation.lengths > 1)  # type: ignore[union-attr]
    assert cases == {with_target}


def test_measured_suggestion_says_where_nothing_beats_counting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lazy = Entry(
        "sasrec", "sasrec", {"hidden_channels": 8}, {"max_epochs": 1, "learning_rate": 1e-6}
    )
    monkeypatch.setattr(measured, "choose", lines(*COUNTED, lazy))
    found = suggest(a_split(), measure=True)
    assert sorted(found.start_with) == ["markov", "popularity"]
    floor = found.start_with[0]
    assert found.notes[0].startswith(f"No trained family beats {floor} in this time")


def test_measured_suggestion_needs_a_split_with_a_validation_part() -> None:
    split = a_split()
    with pytest.raises(ValueError, match=r"takes a split with a validation part, .*got Sessions"):
        suggest(split.train, measure=True)
    with pytest.raises(ValueError, match="this split has none: pass validation="):
        suggest(gs.Split(split.train, split.test), measure=True)
    with pytest.raises(ValueError, match="measure must be True or False"):
        suggest(split, measure="yes")  # type: ignore[arg-type]
    for minutes in (0, -1.0, float("nan"), "2", None):
        with pytest.raises(ValueError, match=f"minutes must be positive, got {minutes!r}"):
            suggest(split, measure=True, minutes=minutes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="streaming=True"):
        suggest(split, measure=True, streaming=True)
    assert suggest(split).start_with == suggest(split.train).start_with
    with pytest.raises(ValueError, match=r"sessions must be gs\.Sessions, got list"):
        suggest([[1, 2]])  # type: ignore[arg-type]
