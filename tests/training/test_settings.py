"""The settings of a run: checked, printed, and the same after a round trip through a file."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphseq.training.objectives.loss_choice import SampledLoss
from graphseq.training.settings import TrainingSettings, ks_of

OTHERS: dict[str, Any] = {
    "loss": SampledLoss("gbce", num_negatives=7, alpha=0.5, options={"t": 0.9}, in_batch=True),
    "max_epochs": 3,
    "batch_size": 7,
    "max_clicks": 4096,
    "samples": "prefixes",
    "lanes": 5,
    "optimizer": "rowwise_adagrad",
    "learning_rate": 0.5,
    "weight_decay": 0.25,
    "schedule": "step",
    "warmup": 0.125,
    "gradient_clip": 1.5,
    "accumulate": 4,
    "ema": 0.999,
    "precision": "bf16-mixed",
    "compile": True,
    "monitor": "ndcg@5",
    "patience": None,
    "exclude_seen": True,
    "order": "time",
    "seed": 9,
    "checkpoint_steps": 100,
    "checkpoint_minutes": None,
}
"""Another value than the default for every setting."""


def test_others_names_every_setting_with_another_value() -> None:
    assert set(OTHERS) == set(TrainingSettings.names())
    default = TrainingSettings()
    assert [name for name in OTHERS if getattr(default, name) == OTHERS[name]] == []


@pytest.mark.parametrize("name", TrainingSettings.names())
def test_each_setting_survives_a_round_trip_through_a_file(name: str, tmp_path: Path) -> None:
    settings = TrainingSettings(**{name: OTHERS[name]})
    settings.save(tmp_path / "settings.json")
    assert TrainingSettings.load(tmp_path / "settings.json") == settings
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]


def test_dict_holds_what_json_has_and_nothing_else() -> None:
    content = TrainingSettings(**OTHERS).to_dict()
    assert json.loads(json.dumps(content)) == content
    assert content["loss"]["options"] == {"t": 0.9}


def test_settings_cannot_be_changed_but_copied_with_a_change() -> None:
    settings = TrainingSettings(seed=1)
    with pytest.raises(FrozenInstanceError):
        settings.seed = 2  # type: ignore[misc]
    assert settings.replace(max_epochs=2) == TrainingSettings(seed=1, max_epochs=2)
    assert settings == TrainingSettings(seed=1)


def test_text_names_every_setting_on_a_line_of_its_own() -> None:
    lines = str(TrainingSettings(max_epochs=77)).splitlines()
    assert [line.split()[0] for line in lines] == list(TrainingSettings.names())
    assert "max_epochs          77" in lines


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"epochs": 3}', "no setting 'epochs'; the settings of a training are loss, max_epochs"),
        ('{"loss": {"negatives": 3}}', "no argument 'negatives'; it has name, num_negatives"),
        ('{"loss": {"name": "hinge"}}', "loss is one of"),
        ('{"batch_size": 0}', "batch_size must be at least 1, got 0"),
        ('{"learning_rte": 0.1}', "no setting 'learning_rte'; .*: did you mean 'learning_rate'"),
        ('{"exclude_seen": "no"}', "exclude_seen must be true or false, got 'no'"),
        ('{"max_epochs": 1.5}', r"max_epochs must be a whole number, got 1\.5"),
        ('{"learning_rate": 1e999}', "learning_rate must be a finite number, got inf"),
        ('{"patience": "None"}', "number, got 'None': None, which a file spells null, never stops"),
        ('{"learning_rate": Infinity}', "learning_rate must be a finite number, got inf"),
        ('{"ema": NaN}', "ema must be a finite number, got nan: None averages nothing"),
        ('{"seed": 1, "seed": 2}', "holds no settings of a training: seed is there twice"),
        ("[" * 100_000, "holds no settings of a training"),
        ("[1]", "settings are a mapping"),
        ('{"seed": ', "settings.json holds no settings of a training"),
    ],
)
def test_file_that_holds_no_settings_says_why(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        TrainingSettings.load(tmp_path / "settings.json")


WRONG: dict[str, list[tuple[Any, str]]] = {
    "loss": [(3, "loss is one of"), (None, "loss is one of"), ("bprr", "did you mean 'bpr'")],
    "optimizer": [
        ("Adam", "did you mean 'adam'"),
        (None, "optimizer is one of"),
        (["adam"], "is o"),
    ],
    "schedule": [(1, "schedule is one of"), ("cosin", "did you mean 'cosine'")],
    "precision": [(32, "precision is one of 32, .*, got 32, which is not text")],
    "monitor": [(20, "monitor is text"), (None, "monitor is text"), ("mrr@٣", "monitor is 'hr@k'")],
    "warmup": [
        (True, "warmup is a whole number of steps or a share"),
        ("3", "warmup is a whole number of steps or a share"),
        (float("nan"), "warmup is a whole number of steps or a share"),
        (None, "warmup is a whole number of steps or a share"),
    ],
    "seed": [(-1, "seed must not be negative"), (2**63, r"seed must be below 2\^63")],
    "learning_rate": [(0, "must be positive, got 0"), (10**400, "must be a finite number")],
    "weight_decay": [(-0.5, "must not be negative, got -0.5"), (None, "must be a finite number")],
    "ema": [(1.0, r"must lie in \(0, 1\), got 1\.0: None averages nothing"), (0.0, "must lie in")],
    "gradient_clip": [(0, "must be positive, got 0: None clips nothing")],
    "checkpoint_minutes": [(-1, "must be positive, got -1: None writes none by time")],
}
for _name in ("max_epochs", "batch_size", "max_clicks", "lanes", "accumulate", "patience"):
    WRONG[_name] = [
        (1.0, f"{_name} must be a whole number, got 1.0"),
        (True, f"{_name} must be a whole number, got True"),
        ("3", f"{_name} must be a whole number, got '3'"),
        (float("nan"), f"{_name} must be a whole number, got nan"),
        (0, f"{_name} must be at least 1, got 0"),
    ]
for _name in ("seed", "checkpoint_steps"):
    WRONG.setdefault(_name, []).append((2.0, f"{_name} must be a whole number, got 2.0"))
for _name in ("learning_rate", "weight_decay", "gradient_clip", "ema", "checkpoint_minutes"):
    for _value in (float("inf"), float("nan"), True, "0.1", [0.1]):
        WRONG[_name].append((_value, f"{_name} must be a finite number, got"))
WRONG["order"] = [("newest", "order is one of random, time, log, got 'newest'")]
WRONG["samples"] = [
    ("pairs", "samples is one of sessions, prefixes, got 'pairs': None takes what the model decl"),
    ("prefix", "samples is one of sessions, prefixes, got 'prefix': did you mean 'prefixes'"),
    (True, "samples is one of sessions, prefixes, got True, which is not text: None takes"),
]
for _name in ("compile", "exclude_seen"):
    WRONG[_name] = [(v, f"{_name} must be true or false") for v in ("no", 1, 0, None, "true")]


@pytest.mark.parametrize(("name", "value", "message"), [(n, *w) for n in WRONG for w in WRONG[n]])
def test_setting_of_a_wrong_type_or_value_is_named_with_its_rule(
    name: str, value: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingSettings(**{name: value})


def test_every_setting_has_a_rule_that_some_value_breaks() -> None:
    assert set(WRONG) == set(TrainingSettings.names())


def test_numbers_of_numpy_become_plain_ones() -> None:
    settings = TrainingSettings(
        max_epochs=np.int64(3),
        learning_rate=np.float32(0.5),
        exclude_seen=np.True_,
        warmup=np.int32(7),
        seed=np.uint8(2),
    )
    kinds = [type(getattr(settings, name)) for name in ("max_epochs", "learning_rate", "warmup")]
    assert kinds == [int, float, int]
    assert settings.exclude_seen is True
    assert json.loads(json.dumps(settings.to_dict())) == settings.to_dict()
    assert TrainingSettings(learning_rate=1).learning_rate == 1


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing\.json holds no settings"):
        TrainingSettings.load(tmp_path / "nothing.json")


@pytest.mark.parametrize(
    ("monitor", "ks"),
    [("mrr", (20,)), ("hr@5", (5, 20)), ("ndcg@20", (20,)), ("mrr@100", (20, 100))],
)
def test_cutoffs_are_those_of_the_metric_and_20(monitor: str, ks: tuple[int, ...]) -> None:
    assert ks_of(monitor) == ks


@pytest.mark.parametrize("monitor", ["auc", "hr", "mrr@", "mrr@0", "hr@-1", "hr@x", "loss"])
def test_metric_that_does_not_exist_is_refused(monitor: str) -> None:
    with pytest.raises(ValueError, match=r"monitor"):
        TrainingSettings(monitor=monitor)


def test_loss_given_as_a_mapping_is_saved_as_the_loss_that_it_names(tmp_path: Path) -> None:
    loss: Any = {"name": "bpr", "num_negatives": 5}
    TrainingSettings(loss=loss).save(tmp_path / "settings.json")
    read = TrainingSettings.load(tmp_path / "settings.json")
    assert read == TrainingSettings(loss=SampledLoss("bpr", num_negatives=5))
