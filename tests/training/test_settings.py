"""The settings of a run: checked, printed, and the same after a round trip through a file."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

from graphseq.training.loss_choice import SampledLoss
from graphseq.training.settings import TrainingSettings, ks_of

OTHERS: dict[str, Any] = {
    "loss": SampledLoss("gbce", num_negatives=7, alpha=0.5, options={"t": 0.9}, in_batch=True),
    "max_epochs": 3,
    "batch_size": 7,
    "max_clicks": 4096,
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
    assert settings.but(max_epochs=2) == TrainingSettings(seed=1, max_epochs=2)
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
        ("[1]", "settings are a mapping"),
        ('{"seed": ', "settings.json holds no settings of a training"),
    ],
)
def test_file_that_holds_no_settings_says_why(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        TrainingSettings.load(tmp_path / "settings.json")


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
