"""One folder, one run; and what would fail at its end fails before its first step."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import graphseq as gs
from graphseq.models.base import SessionModel
from graphseq.training.lightning.run_folder import LOCK, only_run

NUM_ITEMS = 12
ROOT = Path(__file__).resolve().parents[3]

HOLDER = """
import os, sys, time
from pathlib import Path
from graphseq.training.lightning.run_folder import only_run
with only_run(Path(sys.argv[1])):
    if os.fork() == 0:  # as a process that builds batches, which outlives a kill for a while
        time.sleep(60)
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def sessions() -> gs.Sessions:
    starts = np.random.default_rng(0).integers(0, NUM_ITEMS, size=60)
    return gs.Sessions.from_lists([[int(s + i) % NUM_ITEMS for i in range(4)] for s in starts])


def model_of() -> SessionModel:
    torch.manual_seed(0)
    return gs.models.SASRec(NUM_ITEMS, 8)


def train(model: SessionModel, data: Any, out: Path, **options: Any) -> Any:
    options = {"max_epochs": 1, "batch_size": 16} | options
    return gs.fit(model, data, out=out, progress=False, **options)


def test_second_fit_of_another_thread_is_refused_and_changes_nothing(
    sessions: gs.Sessions, tmp_path: Path
) -> None:
    errors: list[Exception] = []

    def second() -> None:
        for model in (model_of(), gs.models.MarkovChain(NUM_ITEMS)):
            try:
                train(model, sessions, tmp_path, max_epochs=7)
            except ValueError as error:
                errors.append(error)

    def while_running(row: Any) -> None:
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()

    train(model_of(), sessions, tmp_path, on_epoch=while_running)
    assert len(errors) == 2
    assert all(f"Another fit is writing to {tmp_path}: wait" in str(e) for e in errors)
    assert gs.TrainingSettings.load(tmp_path / "settings.json").max_epochs == 1
    train(model_of(), sessions, tmp_path)  # the first has ended


def test_fit_within_a_fit_of_one_folder_is_refused(sessions: gs.Sessions, tmp_path: Path) -> None:
    def again(row: Any) -> None:
        train(model_of(), sessions, tmp_path)

    with pytest.raises(ValueError, match="Another fit is writing to"):
        train(model_of(), sessions, tmp_path, on_epoch=again)
    with only_run(tmp_path):  # an error has taken the lock back
        pass


def test_lock_of_another_process_dies_with_it_though_its_children_live(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ValueError, match="Another fit is writing to"), only_run(tmp_path):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with only_run(tmp_path):
            assert (tmp_path / LOCK).exists()
        assert list(tmp_path.iterdir()) == []
    finally:
        os.killpg(holder.pid, signal.SIGKILL)
        holder.wait()


class Unsaved(gs.models.SASRec):
    """A model with a setting that no JSON has."""

    def __init__(self, num_items: int, extra: Any = None) -> None:
        super().__init__(num_items, 8)
        self.extra = extra


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Unsaved(NUM_ITEMS, extra=object()), "The setting extra=.* cannot be saved"),
        (Unsaved(NUM_ITEMS, extra=float("nan")), "The setting extra=nan cannot be saved"),
        (Unsaved(NUM_ITEMS, extra={"a": [{1: 2}]}), "extra=.* cannot be saved: .* text as keys"),
    ],
)
def test_model_that_cannot_be_saved_is_refused_before_the_first_step(
    model: SessionModel, message: str, sessions: gs.Sessions, tmp_path: Path
) -> None:
    before = [parameter.detach().clone() for parameter in model.parameters()]
    with pytest.raises(ValueError, match=message):
        train(model, sessions, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize("kind", ["foreign", "file"])
def test_what_stands_in_the_models_place_is_refused_before_the_first_step(
    kind: str, sessions: gs.Sessions, tmp_path: Path
) -> None:
    place = tmp_path / "model"
    if kind == "file":
        place.write_text("mine")
    else:
        place.mkdir()
        (place / "thesis.txt").write_text("mine")
    for model in (model_of(), gs.models.MarkovChain(NUM_ITEMS)):
        with pytest.raises(ValueError, match=r"model (holds|is a file)"):
            train(model, sessions, tmp_path)
    assert not (tmp_path / "checkpoints").exists()
    assert (place if kind == "file" else place / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("kind", ["folder", "pipe"])
@pytest.mark.parametrize(
    "name",
    [
        ".lock",
        "settings.json",
        "history.csv",
        "learning_curves.png",
        "logs/metrics.csv",
        "checkpoints/last.ckpt",
    ],
)
def test_what_stands_in_a_files_place_is_refused_before_the_first_step(
    name: str, kind: str, sessions: gs.Sessions, tmp_path: Path
) -> None:
    place = tmp_path / name
    place.parent.mkdir(exist_ok=True)
    if kind == "folder":
        place.mkdir()
    else:
        os.mkfifo(place)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=f"{name} is a folder, pipe or device, and this run"):
        train(model_of(), sessions, tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_ids_that_cannot_be_saved_are_refused_before_the_first_step(tmp_path: Path) -> None:
    vocabulary = gs.data.Vocabulary(pd.Index([(0, 1), (1, 2)], tupleize_cols=False))
    flat = np.array([0, 1, 1, 0] * 4, dtype=np.int32)
    sessions = gs.Sessions(flat, np.arange(0, 17, 2), vocabulary)
    with pytest.raises(ValueError, match=r"item ids|An id"):
        train(gs.models.SASRec(2, 8), sessions, tmp_path)
    assert not (tmp_path / "checkpoints").exists()
