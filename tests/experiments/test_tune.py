"""The search: three tiny trials, resumed, on validation alone; spaces that fit their families."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import graphseq as gs
from experiments import tune
from experiments.protocol import Entry, Protocol
from experiments.spaces import FOLDER, Space, base_of

SPACE = {
    "arguments": {"hidden_channels": [4, 8], "dropout": {"low": 0.0, "high": 0.5}},
    "fit": {
        "learning_rate": {"low": 0.001, "high": 0.1, "log": True},
        "batch_size": 16,
        "loss": ["cross_entropy", {"name": "sampled_softmax", "num_negatives": 4}],
    },
}


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> gs.Split:
    lists = [[(s + i) % 9 for i in range(3 + s % 3)] for s in range(60)]
    split = gs.session_split(gs.Sessions.from_lists(lists), 0.2, seed=0, validation=0.2)
    monkeypatch.setattr(gs, "load_split", lambda *args, **options: split)
    return split


def arguments(tmp_path: Path, *more: str) -> list[str]:
    space = tmp_path / "space.json"
    space.write_text(json.dumps(SPACE))
    out = str(tmp_path / "out")
    return ["--model", "sasrec", "--epochs", "2", "--space", str(space), "--out", out, *more]


def trials(tmp_path: Path) -> list[dict[str, Any]]:
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    return [
        {key: value for key, value in row.items() if "seconds" not in key}
        for row in content["rows"]
    ]


def test_search_resumed_equals_one_that_never_stopped(
    tmp_path: Path, ring: gs.Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked = []
    real = gs.evaluate
    monkeypatch.setattr(gs, "evaluate", lambda m, s, **o: ranked.append(s) or real(m, s, **o))
    for name in ("whole", "halves"):
        (tmp_path / name).mkdir()
    tune.main(arguments(tmp_path / "whole", "--trials", "3"))
    tune.main(arguments(tmp_path / "halves", "--trials", "2"))
    tune.main(arguments(tmp_path / "halves", "--trials", "3", "--resume"))
    assert len(trials(tmp_path / "whole")) == 3
    assert trials(tmp_path / "halves") == trials(tmp_path / "whole")
    assert all(part is ring.validation for part in ranked)  # never the test part
    for name in ("results.csv", "study.db", "tuning.png"):
        assert (tmp_path / "whole" / "out" / name).stat().st_size > 0


def test_best_settings_are_a_file_that_comparisons_read(tmp_path: Path, ring: gs.Split) -> None:
    tune.main(arguments(tmp_path, "--trials", "2"))
    protocol = Protocol.read("movielens-small", tmp_path / "out" / "best.json")
    (entry,) = protocol.select(None)
    rows = trials(tmp_path)
    best = max(rows, key=lambda row: row["metrics"]["mrr@20"])
    assert entry.arguments == best["settings"]["arguments"]
    assert entry.training.max_epochs == best["epochs"]
    assert entry.training.batch_size == 16
    assert "validation part" in protocol.note
    assert protocol.exclude_seen  # as movielens-small has it
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    assert content["protocol"]["ranked"] == "validation"
    assert "test part was not ranked" in content["protocol"]["note"]


def test_counting_models_are_searched_too(tmp_path: Path, ring: gs.Split) -> None:
    out = str(tmp_path / "out")
    tune.main(["--model", "markov", "--trials", "2", "--out", out])
    assert [row["epochs"] for row in trials(tmp_path)] == [0, 0]


def test_settings_that_do_not_go_together_fail_their_trial_alone(
    tmp_path: Path, ring: gs.Split, capsys: pytest.CaptureFixture[str]
) -> None:
    space = {"arguments": {"hidden_channels": [4], "heads": [3]}, "fit": {"batch_size": [16]}}
    path = tmp_path / "space.json"
    path.write_text(json.dumps(space))
    command = ["--model", "sasrec", "--space", str(path), "--trials", "1"]
    with pytest.raises(SystemExit, match=r"No trial came to an end\. .*heads"):
        tune.main([*command, "--out", str(tmp_path / "out")])


def test_study_is_not_mixed_with_another(tmp_path: Path, ring: gs.Split) -> None:
    command = ["--model", "markov", "--trials", "1", "--out", str(tmp_path / "out")]
    tune.main(command)
    with pytest.raises(SystemExit, match="go on by --resume"):
        tune.main(command)
    with pytest.raises(SystemExit, match="another model, space, metric or seed"):
        tune.main([*command, "--seed", "1", "--resume"])


def test_search_says_what_is_missing(
    tmp_path: Path, ring: gs.Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match="There is no model 'gru5rec', but popularity"):
        tune.main(["--model", "gru5rec", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"no search space popularity\.json"):
        tune.main(["--model", "popularity", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="monitor is 'hr@k'"):
        tune.main(arguments(tmp_path, "--monitor", "recall"))
    monkeypatch.setattr(gs, "load_split", gs.data.load_split)
    with pytest.raises(SystemExit, match=r"There is nothing to tune on: .*part would be empty"):
        tune.main(arguments(tmp_path, "--validation", "100000"))
    known = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name == "optuna":
            raise ModuleNotFoundError(name)
        return known(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SystemExit, match=r"pip install 'graphseq\[tune\]'"):
        tune.main(arguments(tmp_path))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_every_space_fits_its_family(path: Path) -> None:
    space = Space.read(Entry(path.stem, path.stem))
    names = [name for name, _ in space.searched()]
    assert names
    for pick in (0, -1):

        def choose(name: str, choices: list[Any], pick: int = pick) -> Any:
            return choices[pick]

        def number(name: str, low: Any, high: Any, log: bool = False, pick: int = pick) -> Any:
            return (low, high)[pick]

        trial = SimpleNamespace(
            suggest_categorical=choose, suggest_int=number, suggest_float=number
        )
        entry = space.suggest(trial)
        gs.models.MODELS[path.stem](20, **entry.arguments)
        assert entry.training.batch_size > 0


def test_known_settings_are_the_first_trial_where_they_lie_in_the_space() -> None:
    base = Entry(
        "sasrec",
        "sasrec",
        {"hidden_channels": 8, "dropout": 0.9, "max_length": 7},
        {"loss": {"name": "sampled_softmax", "num_negatives": 4}, "learning_rate": 0.01},
    )
    space = Space(base, SPACE)
    known = space.of_base()
    assert known == {
        "arguments.hidden_channels": 8,
        "fit.learning_rate": 0.01,
        "fit.loss": json.dumps(SPACE["fit"]["loss"][1]),  # type: ignore[index]
    }
    assert space.entry({"arguments.hidden_channels": 8}).arguments["max_length"] == 7


def test_space_of_a_wrong_form_is_refused() -> None:
    base = base_of("sasrec", ())
    with pytest.raises(ValueError, match="has 'arguments' and 'fit', got model"):
        Space(base, {"model": {}})
    with pytest.raises(ValueError, match=r"fit\.learning_rate needs low < high, got 2, 1"):
        Space(base, {"fit": {"learning_rate": {"low": 2, "high": 1}}})
    with pytest.raises(ValueError, match=r"arguments\.heads has no choice"):
        Space(base, {"arguments": {"heads": []}})


def test_drawn_numbers_are_short_enough_to_read() -> None:
    draw = np.random.default_rng(0).uniform(0.001, 0.1)
    trial = SimpleNamespace(suggest_float=lambda *args, **options: float(draw))
    space = Space(base_of("sasrec", ()), {"fit": {"learning_rate": {"low": 0.001, "high": 0.1}}})
    rate = space.suggest(trial).fit["learning_rate"]
    assert rate == pytest.approx(draw, rel=1e-3)
    assert len(str(rate)) <= 8
