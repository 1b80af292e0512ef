"""A replayed log: its metrics are those of evaluate, its clicks come in the order of time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import graphseq as gs
from experiments.replay import in_order, main, replay
from graphseq.serving import Recommender


def test_metrics_of_a_replay_are_those_of_evaluate() -> None:
    sessions = gs.generate_sessions(60, 40, mean_length=4.0, seed=0)
    torch.manual_seed(0)
    model = gs.models.GRU4Rec(40, 8).eval()
    model.attach(sessions.catalog())
    row = replay(Recommender(model), sessions, k=10)
    report = gs.evaluate(model, sessions, ks=10)
    assert row["clicks"] == sessions.num_clicks
    assert row["targets"] == report.num_cases
    for metric in ("hr@10", "mrr@10"):
        assert row[metric] == pytest.approx(report.metrics[metric], abs=1e-6)
    assert sum(row["histogram_ms"].values()) == row["clicks"]
    assert row["live_sessions"] == 60
    assert replay(Recommender(model), sessions, limit=7)["clicks"] == 7


def test_clicks_come_in_the_order_of_time() -> None:
    sessions = gs.generate_sessions(20, 20, seed=1)
    times = [time for _, _, time in in_order(sessions)]
    assert times == sorted(times)
    of_one = [item for session, item, _ in in_order(sessions) if session == 3]
    assert of_one == sessions.to_lists()[3]


def test_replay_writes_one_row(tmp_path: Path) -> None:
    split = gs.load_split("uci-eshop")
    torch.manual_seed(0)
    model = gs.models.GRU4Rec(split.num_items, 8).eval()
    model.attach(split.train.catalog())
    model.save(tmp_path / "model")
    main(
        [
            str(tmp_path / "model"),
            *("--dataset", "uci-eshop", "--limit", "40", "--out", str(tmp_path)),
        ]
    )
    (row,) = json.loads((tmp_path / "replay.json").read_text())["rows"]
    assert (row["model"], row["clicks"]) == ("GRU4Rec", 40)
    assert 0 <= row["hr@20"] <= 1
    assert np.isfinite(row["p99_ms"])


def test_replay_of_whole_sessions_has_the_metrics_of_evaluate_beside_its_own(
    tmp_path: Path,
) -> None:
    split = gs.load_split("uci-eshop")
    model = gs.models.MODELS["markov"](split.num_items)
    gs.fit(model, split, progress=False)
    model.save(tmp_path / "model")
    argv = [str(tmp_path / "model"), "--dataset", "uci-eshop", "--sessions", "30"]
    main([*argv, "--out", str(tmp_path)])
    (row,) = json.loads((tmp_path / "replay.json").read_text())["rows"]
    assert row["targets"] == split.test[:30].num_targets
    for metric in ("hr@20", "mrr@20"):
        assert row[metric] == pytest.approx(row[f"{metric} of evaluate"], abs=1e-9)
        assert row[metric] > 0
