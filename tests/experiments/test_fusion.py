"""Fusion of two rows: its weights come from models that the validation part did not train."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

import graphseq as gs
from experiments import fusion

LINE = ["--table", "rings", "--trained", "gru", "--counted", "markov"]


@pytest.fixture
def table(monkeypatch, tmp_path):
    """A table whose trained row knows nothing of the rings that its counted row counts."""
    log = gs.Sessions.from_lists([[(start + step) % 7 for step in range(4)] for start in range(60)])
    whole = gs.Split(log, log[:9])
    part = gs.Split(log[:40], whole.test, log[40:])
    monkeypatch.setattr(
        gs, "load_split", lambda *_, validation=0, **more: part if validation else whole
    )
    settings = tmp_path / "settings.json"
    untrained = {"max_epochs": 1, "learning_rate": 1e-9}
    lines = [
        {"name": "gru", "model": "gru4rec", "arguments": {"hidden_channels": 2}, "fit": untrained},
        {"name": "markov", "model": "markov"},
    ]
    settings.write_text(json.dumps({"models": lines}))
    content = {"dataset": str(settings), "protocol": "srgnn"}
    monkeypatch.setattr(fusion, "published", lambda name: content)
    return content


def test_the_weight_goes_to_the_row_that_knows_and_the_fusion_ranks_as_it_does(table, tmp_path):
    fusion.main([*LINE, "--out", str(tmp_path)])
    content = json.loads((tmp_path / "rings.json").read_text())
    assert content["data"]["sessions"] == 60  # the figures are of models of all sessions
    trained, counted, joined = content["rows"]
    assert joined["model"] == "gru and markov"
    assert counted["mrr@20"] == joined["mrr@20"] == 100
    assert trained["mrr@20"] < 100
    weights = np.array([float(weight) for weight in joined["weights"].split(", ")])
    assert weights[1] >= 0.5
    assert weights.sum() == pytest.approx(1)
    assert trained["mrr@20: fusion more"].startswith(f"+{100 - trained['mrr@20']:.2f} (")


def test_members_of_the_learned_weights_never_saw_the_validation_part(table, monkeypatch, tmp_path):
    seen = []
    fused = fusion.fused

    def spied(trained, counted, split, seed, folder):
        seen.append(split.train.num_sessions)
        return fused(trained, counted, split, seed, folder)

    monkeypatch.setattr(fusion, "fused", spied)
    fusion.main([*LINE, "--out", str(tmp_path)])
    assert seen == [40, 60]


def test_trainings_of_different_rows_do_not_resume_each_other(table, monkeypatch, tmp_path):
    content = json.loads((tmp_path / "settings.json").read_text())
    gru, markov = content["models"]
    content["models"] = [gru, {**gru, "name": "gru, again"}, markov]
    (tmp_path / "settings.json").write_text(json.dumps(content))
    folders = []

    def untrained(trained, counted, split, seed, folder):
        folders.append(folder)
        return SimpleNamespace(learn_weights=lambda *_, **options: None, weights=())

    monkeypatch.setattr(fusion, "fused", untrained)
    monkeypatch.setattr(fusion, "ranked", lambda *_: [])
    for name in ("gru", "gru, again"):
        line = [*LINE, "--trained", name, "--seeds", "0", "1"]
        fusion.main([*line, "--out", str(tmp_path / "out")])
    assert len(folders) == len(set(folders)) == 8


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        ({}, ["--trained", "gru5"], "has no row 'gru5': one of gru, markov"),
        ({"protocol": "leave-one-out"}, ["--trained", "gru"], "is no table of session data"),
        ({}, ["--trained", "gru", "--validation", "0"], "give --validation above 0"),
    ],
)
def test_what_cannot_be_fused_is_said_in_one_sentence(table, change, line, message, tmp_path):
    table.update(change)
    with pytest.raises(SystemExit, match=message):
        fusion.main([*line, "--counted", "markov", "--out", str(tmp_path)])
