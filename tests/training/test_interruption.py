"""Ends that nobody planned: a full disk, a broken file, Ctrl-C, a worker that dies."""

from __future__ import annotations

import errno
import inspect
import logging
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader as PyGLoader

from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.loading.loader import SessionGraphLoader
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.splits.splits import Split, session_split
from graphseq.data.storage import files
from graphseq.models import HSTU, SASRec, WithUser
from graphseq.models.base import SessionModel
from graphseq.training.fit import CHECKPOINT, FitResult, fit
from graphseq.training.lightning.checkpoints import DurableCheckpointIO, read
from graphseq.training.lightning.collectives import Collectives
from graphseq.training.lightning.loggers import MetricsLog

NUM_ITEMS = 12


@pytest.fixture(scope="module")
def split() -> Split:
    generator = np.random.default_rng(0)
    starts = generator.integers(0, NUM_ITEMS, size=120)
    lists = [
        [(s + i) % NUM_ITEMS for i in range(n)] for s, n in zip(starts, 3 + starts % 4, strict=True)
    ]
    return session_split(Sessions.from_lists(lists), 0.2, seed=0, validation=0.2)


def model_of() -> SessionModel:
    torch.manual_seed(0)
    return SASRec(NUM_ITEMS, 8, dropout=0.3)


def weights(model: SessionModel) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def trained(model: SessionModel, data: Any, **options: Any) -> FitResult:
    settings: dict[str, Any] = {"max_epochs": 3, "batch_size": 16, "patience": None}
    return fit(model, data, **({"progress": False, "learning_rate": 0.01} | settings | options))


def position(out: Path) -> tuple[int, int]:
    """Epochs that are over and steps of the next one, by the checkpoint."""
    state = read(out / CHECKPOINT)["session_training"]
    return len(state["history"]), state["step"]


def full_disk(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# -- a checkpoint that cannot be written ---------------------------------------------------------


@pytest.mark.parametrize("where", ["_write", "fsync", "replace"])
def test_full_disk_ends_no_training_and_keeps_the_last_good_checkpoint(
    where: str,
    split: Split,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = model_of()
    trained(whole, split)
    trained(model_of(), split, max_epochs=1, out=tmp_path)
    good = (tmp_path / CHECKPOINT).read_bytes()
    places = {"_write": files, "fsync": os, "replace": Path}
    done = getattr(places[where], where)

    def full(first: Any, *others: Any) -> Any:
        own = isinstance(first, Path) and "ckpt" not in first.name
        return done(first, *others) if own else full_disk()

    monkeypatch.setattr(places[where], where, full)
    with caplog.at_level(logging.WARNING):
        stopped = model_of()
        trained(stopped, split, out=tmp_path, resume=True, checkpoint_steps=1)
    assert torch.equal(weights(stopped), weights(whole))
    assert (tmp_path / CHECKPOINT).read_bytes() == good
    warned = [r.getMessage() for r in caplog.records if "could not be written" in r.getMessage()]
    assert len(warned) == 1
    assert "the last one that could be stays" in warned[0]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]


def test_refused_resume_leaves_the_settings_of_the_run_as_they_are(
    split: Split, tmp_path: Path
) -> None:
    trained(model_of(), split, max_epochs=1, out=tmp_path)
    before = (tmp_path / "settings.json").read_bytes()
    with pytest.raises(ValueError, match="batch_size"):
        trained(model_of(), split, batch_size=8, out=tmp_path, resume=True)
    assert (tmp_path / "settings.json").read_bytes() == before


def test_file_that_outgrows_its_limit_leaves_the_last_good_one(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")  # a limit of the system, not a stand-in for it
    path = tmp_path / "last.ckpt"
    file = DurableCheckpointIO(path)
    file.save_checkpoint({"weights": torch.ones(3)}, path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        file.save_checkpoint({"weights": torch.ones(1_000_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert torch.equal(read(tmp_path / "last.ckpt")["weights"], torch.ones(3))
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_training_goes_on_where_the_log_of_tensorboard_has_no_more_room(
    split: Split,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    resource = pytest.importorskip("resource")
    pytest.importorskip("tensorboard")
    monkeypatch.setattr(sys.modules["graphseq.training.fit"], "EVERY", 1)
    whole, model = model_of(), model_of()
    expected = trained(whole, split, batch_size=4)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(row: Any) -> None:
        if row["epoch"] == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))

    try:
        result = trained(model, split, out=tmp_path, batch_size=4, on_epoch=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not result.interrupted
    assert torch.equal(weights(model), weights(whole))
    assert len(result.history) == len(expected.history)
    warned = [record.getMessage() for record in caplog.records]
    (told,) = (line for line in warned if "The log of TensorBoard could not be written" in line)
    assert "File too large" in told
    assert "Training goes on without." in told
    assert position(tmp_path) == (1, 0)  # the last one for which there was room


def test_row_of_the_log_that_cannot_be_written_leaves_no_half_of_it(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    log = MetricsLog(tmp_path, ["step", "loss"])
    log.log_metrics({"loss": 0.5}, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((log.position or 0) + 3, limits[1]))
    try:
        log.log_metrics({"loss": 0.25}, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    log.log_metrics({"loss": 0.125}, 3)
    assert log.path.read_text() == "step,loss\n1,0.5\n3,0.125\n"


def test_model_that_cannot_be_saved_is_still_trained(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole, model = model_of(), model_of()
    trained(whole, split)
    monkeypatch.setattr(SASRec, "save", full_disk)
    with caplog.at_level(logging.WARNING):
        result = trained(model, split, out=tmp_path)
    assert result.checkpoint is None
    assert "The model could not be saved" in caplog.text
    assert torch.equal(weights(model), weights(whole))


# -- a file that is no checkpoint ----------------------------------------------------------------


class Evil:
    def __reduce__(self) -> Any:
        return (os.mkdir, ("code-that-ran",))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "cut off",
            r"last\.ckpt is broken or cut off: make it again with graphseq\.fit without resume",
        ),
        ("empty", r"not a graphseq\.training file, or truncated"),
        ("text", r"not a graphseq\.training file"),
        ("weights", r"not a graphseq\.training file"),
        ("newer", "version 99 of the format, this graphseq reads version 3"),
        ("code", r"not a graphseq\.training file"),
        ("pickle", r"not a graphseq\.training file"),
    ],
)
def test_file_that_is_no_checkpoint_is_refused_and_none_of_its_code_run(
    kind: str, message: str, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / CHECKPOINT
    trained(model_of(), split, max_epochs=1, out=tmp_path)
    whole = path.read_bytes()
    if kind == "cut off":
        path.write_bytes(whole[: len(whole) * 2 // 3])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("hello")
    elif kind == "weights":
        torch.save(model_of().state_dict(), path)
    elif kind == "newer":
        path.write_bytes(whole.replace(b'"version": 3', b'"version": 99', 1))
    elif kind == "code":
        torch.save({"format": "graphseq.training", "format_version": 1, "x": Evil()}, path)
    else:
        path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match=message):
        trained(model_of(), split, out=tmp_path, resume=True)
    assert not (tmp_path / "code-that-ran").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.02}, "made with learning_rate 0.01, this training has 0.02"),
        ({"loss": "bpr"}, "made with loss cross_entropy, this training has bpr"),
        ({"batch_size": 8}, "made with batch_size 16, this training has 8"),
    ],
)
def test_other_settings_do_not_go_on(
    options: dict[str, Any], message: str, split: Split, tmp_path: Path
) -> None:
    trained(model_of(), split, max_epochs=1, out=tmp_path)
    with pytest.raises(ValueError, match=message):
        trained(model_of(), split, out=tmp_path, resume=True, **options)


def test_other_data_do_not_go_on(split: Split, tmp_path: Path) -> None:
    trained(model_of(), split, max_epochs=1, out=tmp_path)
    less = replace(split, train=split.train.select(np.arange(20)))
    with pytest.raises(
        ValueError,
        match=r"by the training sessions: 77 sessions of .*, 20 sess",
    ):
        trained(model_of(), less, out=tmp_path, resume=True)


def test_finished_training_that_goes_on_stays_as_it_is(split: Split, tmp_path: Path) -> None:
    first, second = model_of(), model_of()
    one = trained(first, split, out=tmp_path)
    other = trained(second, split, out=tmp_path, resume=True)
    assert torch.equal(weights(first), weights(second))
    pd.testing.assert_frame_equal(one.history, other.history)


def without_times() -> SessionModel:
    return HSTU(NUM_ITEMS, 8)


def without_users() -> SessionModel:
    return WithUser(NUM_ITEMS, 3, arguments={"hidden_channels": 8})


def with_a_frozen_table() -> SessionModel:
    model = model_of()
    model.items.weight.requires_grad_(False)
    return model


@pytest.mark.parametrize("make", [without_times, without_users, with_a_frozen_table])
@pytest.mark.parametrize("older", [False, True], ids=["", "older_checkpoint"])
def test_training_with_parameters_that_get_no_gradient_goes_on(
    make: Callable[[], SessionModel], older: bool, split: Split, tmp_path: Path
) -> None:
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(make())
    never_stopped, model = models
    trained(never_stopped, split, max_epochs=2)
    trained(model, split, max_epochs=1, out=tmp_path)
    path = tmp_path / CHECKPOINT
    checkpoint = read(path)
    states = checkpoint["optimizer_states"][0]["state"]
    assert all(states.values())  # what never had a gradient has no state at all
    if older:  # there it had an empty one
        number = len(checkpoint["optimizer_states"][0]["param_groups"][0]["params"])
        states |= {place: states.get(place, {}) for place in range(number)}
        DurableCheckpointIO(path).save_checkpoint(checkpoint, path)
    torch.manual_seed(0)
    model = make()
    trained(model, split, max_epochs=2, out=tmp_path, resume=True)
    assert torch.equal(weights(model), weights(never_stopped))


# -- validation that cannot be -------------------------------------------------------------------


def test_empty_validation_part_is_refused_before_training(split: Split) -> None:
    model = model_of()
    before = weights(model)
    assert split.validation is not None
    nothing = split.validation.select(np.arange(0))
    with pytest.raises(ValueError, match="The validation part is empty: none of its 0 sessions"):
        trained(model, split, validation=nothing)
    assert torch.equal(weights(model), before)


# -- Ctrl-C --------------------------------------------------------------------------------------


class Pressed:
    """A loader while whose n-th batch is built somebody presses Ctrl-C, or sends SIGTERM."""

    def __init__(
        self, loader: SessionGraphLoader, at: int, times: int = 1, number: int = signal.SIGINT
    ) -> None:
        self.loader, self.at, self.times, self.given = loader, at, times, 0
        self.number = number

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            self.given += 1
            if self.given == self.at:
                for _ in range(self.times):
                    signal.raise_signal(self.number)
            yield batch

    def __len__(self) -> int:
        return len(self.loader)


def loader_of(split: Split) -> SessionGraphLoader:
    return SessionGraphLoader(SessionGraphDataset(split.train, "sessions"), 16, seed=0)


@pytest.mark.parametrize(
    ("at", "number"),
    [(1, signal.SIGINT), (7, signal.SIGINT), (10, signal.SIGINT), (7, signal.SIGTERM)],
)
def test_signal_writes_a_checkpoint_from_which_training_goes_on_bit_for_bit(
    at: int, number: int, split: Split, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    whole, stopped, resumed = model_of(), model_of(), model_of()
    options: dict[str, Any] = {"validation": split.validation}
    expected = trained(whole, loader_of(split), **options)
    options["out"] = tmp_path
    result = trained(stopped, Pressed(loader_of(split), at, number=number), **options)
    assert result.interrupted
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    assert f"Stopping after this step. {name} again stops at once." in caplog.text
    epoch, step = position(tmp_path)
    steps = len(loader_of(split))
    assert epoch * steps + step == at
    again = trained(resumed, loader_of(split), resume=True, **options)
    assert not again.interrupted
    assert torch.equal(weights(resumed), weights(whole))
    kept = [name for name in expected.history if "seconds" not in name]
    pd.testing.assert_frame_equal(again.history[kept], expected.history[kept])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_second_signal_stops_at_once(number: int, split: Split, tmp_path: Path) -> None:
    pressed = Pressed(loader_of(split), 3, times=2, number=number)
    result = trained(model_of(), pressed, out=tmp_path)
    assert result.interrupted
    assert position(tmp_path) == (0, 2)  # the batch being built was not trained on


def test_ctrl_c_while_processes_exchange_stops_after_the_next_step(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, numbers = [0], Collectives.numbers

    def pressed(self: Collectives, number: int, device: Any = None) -> list[int]:
        given = numbers(self, number, device)
        calls[0] += inspect.stack()[1].function == "any"
        if calls[0] == 2:
            calls[0] += 1
            signal.raise_signal(signal.SIGINT)
        return given

    monkeypatch.setattr(Collectives, "numbers", pressed)
    result = trained(model_of(), loader_of(split), out=tmp_path)
    assert result.interrupted
    assert position(tmp_path) == (0, 3)


def test_ctrl_c_keeps_the_best_weights(split: Split) -> None:
    stopped, whole = model_of(), model_of()
    steps = len(loader_of(split))
    options: dict[str, Any] = {"validation": split.validation}
    result = trained(stopped, Pressed(loader_of(split), 2 * steps + 1), **options)
    trained(whole, loader_of(split), max_epochs=2, **options)
    assert result.interrupted
    assert torch.equal(weights(stopped), weights(whole))


# -- a worker that dies --------------------------------------------------------------------------


def test_worker_that_dies_is_named_with_the_way_out_and_training_goes_on_from_there(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, resumed = model_of(), model_of()
    trained(whole, split)
    batch, home = SessionGraphDataset.batch, os.getpid()

    def dies(self: SessionGraphDataset, index: Any) -> Batch:
        if os.getpid() != home and (tmp_path / CHECKPOINT).exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return batch(self, index)

    monkeypatch.setattr(SessionGraphDataset, "batch", dies)
    options: dict[str, Any] = {"out": tmp_path, "num_workers": 1, "checkpoint_steps": 2}
    with pytest.raises(RuntimeError, match=r"batches died in epoch 1 .* fewer num_workers"):
        trained(model_of(), split, **options)
    monkeypatch.undo()
    trained(resumed, split, resume=True, **options)
    assert torch.equal(weights(resumed), weights(whole))


# -- processes that build batches end with the training -------------------------------------------


def children() -> list[int]:
    """Processes of this one that have not ended, by the system's own list."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent, state = (folder / "stat").read_text().rpartition(")")[2].split()[1::-1]
        except OSError:  # it has ended meanwhile
            continue
        if int(parent) == os.getpid() and state != "Z":
            found.append(int(folder.name))
    return found


class Broken(SASRec):
    """A model whose third step fails."""

    steps = 0

    def training_vectors(self, batch: Batch, generator: Any) -> tuple[Tensor, Tensor]:
        self.steps += 1
        if self.steps == 3:
            raise ArithmeticError("a step that fails")
        return super().training_vectors(batch, generator)


@pytest.mark.parametrize("kind", ["own", "persistent", "passing", "foreign"])
@pytest.mark.parametrize("end", ["whole", "error", "signal"])
def test_no_process_that_builds_batches_outlives_the_training(
    kind: str, end: str, split: Split
) -> None:
    before = set(children())
    graphs = SessionGraphDataset(split.train, "sessions")
    data: Any = split.train
    options: dict[str, Any] = {"max_epochs": 1}
    if kind == "own":
        options["num_workers"] = 1
    elif kind == "foreign":
        data = PyGLoader(SessionGraphDataset(split.train), 16, num_workers=1)
    else:
        persistent = kind == "persistent"
        data = SessionGraphLoader(graphs, 16, num_workers=1, persistent_workers=persistent)
    during: list[int] = []

    def looking(*_: Any) -> None:
        during.extend(set(children()) - before)
        if end == "signal":
            signal.raise_signal(signal.SIGTERM)

    torch.manual_seed(0)
    model = Broken(NUM_ITEMS, 8) if end == "error" else SASRec(NUM_ITEMS, 8)
    model.register_forward_pre_hook(looking)
    states = type(model).click_states
    model.click_states = lambda batch: (looking(), states(model, batch))[1]  # type: ignore
    if end == "error":
        with pytest.raises(ArithmeticError) as kept:  # which keeps all that it has passed through
            trained(model, data, **options)
        assert kept.value is not None
    else:
        assert trained(model, data, **options).interrupted == (end == "signal")
    assert during
    assert set(children()) <= before
