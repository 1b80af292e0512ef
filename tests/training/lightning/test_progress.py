"""What is seen of a training: a bar on a terminal, a line an epoch elsewhere, two logs."""

from __future__ import annotations

import io
import logging
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from rich.console import Console

import graphseq as gs
from graphseq.training.lightning.loggers import epoch_line
from graphseq.training.lightning.progress import lines_shown

ROW = {
    "epoch": 2.0,
    "loss": 3.25,
    "targets": 12_000.0,
    "seconds": 4.0,
    "data_seconds": 0.1,
    "mrr@20": 0.125,
    "validation_seconds": 1.0,
}


@pytest.fixture(scope="module")
def split() -> gs.Split:
    lists = [[(start + i) % 9 for i in range(2 + start % 4)] for start in range(60)]
    return gs.session_split(gs.Sessions.from_lists(lists), 0.2, seed=0, validation=0.2)


def trained(split: gs.Split, **options: Any) -> Any:
    torch.manual_seed(0)
    model = gs.models.GRU4Rec(split.num_items, 8)
    return gs.fit(model, split, **({"max_epochs": 2, "batch_size": 4, "patience": None} | options))


def test_line_of_an_epoch_says_what_matters() -> None:
    assert epoch_line(ROW, 10, "mrr@20", 2) == (
        "epoch 2/10, loss 3.2500, mrr@20 0.1250 (best so far), 3,000 targets/s, 4.0 s, 2.5% of it "
        "waiting for data, validation 1.0 s"
    )
    assert "mrr@20 0.1250 (best: epoch 1)" in epoch_line(ROW, 10, "mrr@20", 1)
    plain = {name: ROW[name] for name in ("epoch", "loss", "targets", "seconds", "data_seconds")}
    assert "mrr" not in epoch_line(plain, 10, "mrr@20", 2)


def test_lines_appear_where_no_bar_can_be_drawn(
    split: gs.Split, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own
    trained(split)
    lines = capsys.readouterr().err.splitlines()
    epochs = [line.split(" ", 1)[1] for line in lines if "epoch " in line]
    assert [line.split(",")[0] for line in epochs] == ["epoch 1/2", "epoch 2/2"]
    assert sum("Settings of this training:" in line for line in lines) == 1
    assert logging.getLogger("graphseq").handlers == []
    trained(split, progress=False)
    assert capsys.readouterr() == ("", "")


def test_lines_are_left_to_a_log_that_somebody_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.NullHandler()])
    with lines_shown():
        assert logging.getLogger("graphseq").handlers == []


def test_bar_shows_speed_loss_best_metric_and_time_left(
    split: gs.Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=200)
    monkeypatch.setattr(
        "pytorch_lightning.callbacks.progress.rich_progress.get_console", lambda: console
    )
    monkeypatch.setattr(
        "pytorch_lightning.callbacks.progress.rich_progress.reconfigure", lambda **_: None
    )
    monkeypatch.setattr(sys.modules["graphseq.training.fit"], "is_interactive", lambda: True)
    monkeypatch.setattr("graphseq.training.lightning.progress.REFRESH_SECONDS", 0.0)
    trained(split)
    shown = screen.getvalue()
    assert "Epoch 1/2" in shown
    assert "Epoch 2/2" in shown
    for name in ("loss:", "targets/s:", "best mrr@20:", "left: 0:00:"):
        assert name in shown


def test_log_has_a_row_every_ten_steps_and_one_an_epoch(split: gs.Split, tmp_path: Path) -> None:
    result = trained(split, out=tmp_path)
    log = pd.read_csv(tmp_path / "logs" / "metrics.csv")
    steps = -(-split.train.num_sessions // 4)
    each = log[log["epoch_loss"].isna()]
    assert each["step"].tolist() == list(range(0, 2 * steps, 10))
    assert each["loss"].notna().all()
    epochs = log[log["epoch_loss"].notna()]
    assert epochs["step"].tolist() == [steps - 1, 2 * steps - 1]
    for name in ("mrr@20", "hr@20", "targets", "learning_rate"):
        assert epochs[name].tolist() == pytest.approx(result.history[name].tolist())
    assert epochs["epoch_loss"].tolist() == pytest.approx(result.history["loss"].tolist())


def test_tensorboard_has_the_same_numbers(split: gs.Split, tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    result = trained(split, out=tmp_path)
    found = events.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    values = [event.value for event in found.Scalars("mrr@20")]
    assert values == pytest.approx(result.history["mrr@20"].tolist(), rel=1e-6)


def test_history_and_its_picture_are_written(split: gs.Split, tmp_path: Path) -> None:
    result = trained(split, out=tmp_path)
    history = pd.read_csv(tmp_path / "history.csv")
    pd.testing.assert_frame_equal(history, result.history, check_dtype=False)
    assert (tmp_path / "learning_curves.png").stat().st_size > 1000
    gs.visualization.plot_learning_curves(tmp_path)
