"""Damages of each kind of file: each is refused in one sentence, or changes nothing."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

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


def test_script_writes_its_tally_in_which_a_worker_that_dies_is_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {"report": KINDS["report"], "unheard of by workers": KINDS["report"]}
    monkeypatch.setattr("experiments.benchmarks.damage.KINDS", kinds)
    main(["--count", "2", "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "damage.json").read_text())["rows"]
    verified = {row["kind"]: row for row in rows if row["how"] == "verified"}
    assert verified["report"]["damages"] == 1
    assert verified["report"]["crash"] == 0
    assert verified["unheard of by workers"]["crash"] == 1
