"""Damages of each kind of file: each is refused in one sentence, or changes nothing."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest

from experiments.benchmarks import damage
from experiments.benchmarks.damage import BAD, BYTES, KINDS, Trial, judge, main

COUNTS = dict.fromkeys(KINDS, 500) | {"model": 250, "counting model": 250}


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_refused_in_one_sentence_or_changes_nothing(kind: str, tmp_path: Path) -> None:
    trial = Trial(kind, tmp_path)
    found = [
        (number, *each)
        for number in range(100_000, 100_000 + COUNTS[kind])
        for each in trial.run(number)
    ]
    assert [each for each in found if each[-1].split(" ")[0] in BAD] == []
    outcomes = {each[-1] for each in found if each[2] == "verified"}
    assert {"refused", "equal"} <= outcomes
    assert len([each for each in found if each[-1] == "refused"]) > 0.8 * COUNTS[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_trial_mends_what_it_damaged(kind: str, tmp_path: Path) -> None:
    trial = Trial(kind, tmp_path)
    for number in range(20):
        list(trial.run(number))
    trial.mend()
    assert trial.open(trial.root, True)() == trial.expected
    assert {path: path.read_bytes() for path in trial.whole} == trial.whole


@pytest.mark.parametrize("function", BYTES)
def test_damage_to_bytes_is_one(function: object) -> None:
    rng, data = random.Random(0), bytes(range(256)) * 8
    assert any(function(data, rng) != data for _ in range(5))  # type: ignore[operator]


def test_errors_that_are_no_sentence_are_told_apart(tmp_path: Path) -> None:
    root = tmp_path / "it"
    assert judge(ValueError(f"{root} is broken."), root) == "refused"
    for error in (ValueError("broken."), ValueError(f"{root}\nbroken."), UnicodeError(f"{root}.")):
        assert judge(error, root).startswith("traceback")


@pytest.mark.parametrize(("end", "seconds"), [("crash", 30.0), ("hang", 0.5)])
def test_script_counts_what_workers_tell_and_how_they_end(
    end: str, seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A worker of which each turn ends at the second damage.
    worker = """
import json, sys, time
start = int(sys.argv[-2])
for line in ([start, "cut_off", "verified", "refused"], [start, None, None, None]):
    print(json.dumps(line), flush=True)
time.sleep(60 * (sys.argv[1] == "hang"))
"""
    monkeypatch.setattr(damage, "WORKER", [sys.executable, "-S", "-c", worker, end])
    monkeypatch.setattr(damage, "SECONDS", seconds)
    monkeypatch.setattr(damage, "KINDS", {"report": KINDS["report"]})
    main(["--count", "3", "--out", str(tmp_path)])
    (row,) = json.loads((tmp_path / "damage.json").read_text())["rows"]
    assert row["damages"] == 3
    assert {name: row[name] for name in damage.OUTCOMES if row[name]} == {"refused": 2, end: 1}
