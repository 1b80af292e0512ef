"""The public module: Lightning's own trainer trains it to the history of ``fit``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint, Timer
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.strategies import FSDPStrategy
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau, StepLR

import graphseq as gs
from graphseq.models.base import SessionModel

NUM_ITEMS = 20
QUIET: dict[str, Any] = {
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "logger": False,
}


@pytest.fixture(scope="module")
def split() -> gs.Split:
    rng = np.random.default_rng(0)
    lists = [
        [(start + int(step)) % NUM_ITEMS for step in rng.integers(0, 4, size=2 + start % 5)]
        for start in range(4 * NUM_ITEMS)
    ]
    return gs.session_split(gs.Sessions.from_lists(lists), 0.2, seed=0, validation=0.2)


def model_of(name: str = "sasrec") -> SessionModel:
    torch.manual_seed(0)
    return gs.models.MODELS[name](NUM_ITEMS, 8)


def weights(model: SessionModel) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def fitted(model: SessionModel, split: Any, **options: Any) -> gs.training.FitResult:
    settings: dict[str, Any] = {"max_epochs": 2, "batch_size": 16, "learning_rate": 0.01}
    return gs.fit(model, split, progress=False, **(settings | options))


def trained(
    model: SessionModel, split: Any, settings: gs.TrainingSettings, **options: Any
) -> gs.SessionModule:
    module = gs.SessionModule(model, settings)
    trainer = pl.Trainer(**(QUIET | {"max_epochs": 2} | options))
    trainer.fit(module, datamodule=gs.SessionDataModule(split, model, settings))
    return module


def without_times(history: Any) -> pd.DataFrame:
    table = pd.DataFrame(history)
    return table[[name for name in table if "seconds" not in name]]


# -- the same history ----------------------------------------------------------------------------

WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "exact": ("sasrec", {"schedule": "cosine", "warmup": 0.2}),
    "sampled": ("srgnn", {"loss": "sampled_softmax", "ema": 0.9, "gradient_clip": 0.1}),
    "groups": ("gru4rec", {"accumulate": 3, "schedule": "linear", "patience": None}),
    "lanes": ("gru4rec", {"lanes": 7, "loss": "bpr"}),
}


@pytest.mark.parametrize("way", WAYS)
def test_lightnings_trainer_gives_the_history_and_the_weights_of_fit(
    way: str, split: gs.Split
) -> None:
    name, options = WAYS[way]
    model, other = model_of(name), model_of(name)
    result = fitted(model, split, **options)
    settings = gs.TrainingSettings(batch_size=16, learning_rate=0.01).replace(**options)
    module = trained(other, split, settings)
    pd.testing.assert_frame_equal(without_times(module.history), without_times(result.history))
    assert module.best_epoch == result.best_epoch
    assert torch.equal(weights(other), weights(model))


def test_training_step_returns_the_loss_and_metrics_are_lightnings(split: gs.Split) -> None:
    seen: list[float] = []

    class Outputs(Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *_: Any) -> None:
            seen.append(float(outputs["loss"]))

        def on_train_end(self, trainer: pl.Trainer, module: Any) -> None:
            self.metrics = dict(trainer.callback_metrics)

    callback, model = Outputs(), model_of()
    result = fitted(model, split, max_epochs=1, callbacks=callback)
    targets = split.train.num_clicks - split.train.num_sessions
    assert len(seen) == -(-split.train.num_sessions // 16)
    assert result.history["targets"].tolist() == [targets]
    for name in ("mrr@20", "hr@20", "targets"):
        assert float(callback.metrics[name]) == pytest.approx(result.history[name][0])
    assert float(callback.metrics["epoch_loss"]) == pytest.approx(result.history["loss"][0])


def test_best_weights_are_in_the_model_when_lightnings_trainer_ends(split: gs.Split) -> None:
    model = model_of()
    settings = gs.TrainingSettings(batch_size=16, learning_rate=0.3, patience=None)
    module = trained(model, split, settings, max_epochs=5)
    values = [row["mrr@20"] for row in module.history]
    assert split.validation is not None
    found = gs.evaluate(model, split.validation, ks=(20,)).metrics["mrr@20"]
    assert found == pytest.approx(max(values))
    assert module.best_epoch == 1 + int(np.argmax(values))


def test_early_stopping_is_lightnings_and_gives_way_to_your_own(split: gs.Split) -> None:
    settings = gs.TrainingSettings(batch_size=16, learning_rate=1e-12, patience=2)
    assert len(trained(model_of(), split, settings, max_epochs=9).history) < 9
    own = EarlyStopping("mrr@20", patience=99, mode="max")
    module = trained(model_of(), split, settings, max_epochs=9, callbacks=[own])
    assert len(module.history) == 9


def test_checkpoint_of_your_own_is_lightnings_file_and_training_goes_on_from_it(
    split: gs.Split, tmp_path: Path
) -> None:
    settings = gs.TrainingSettings(batch_size=16, learning_rate=0.01, patience=None)
    whole, halves, resumed = model_of(), model_of(), model_of()
    expected = trained(whole, split, settings, max_epochs=3)
    keep = ModelCheckpoint(tmp_path, "{epoch}", every_n_train_steps=7, save_top_k=-1)
    kept: dict[str, Any] = {"callbacks": [keep], "enable_checkpointing": True}
    trained(halves, split, settings, max_epochs=2, **kept)
    path = keep.best_model_path
    torch.load(path, weights_only=True)  # plain tensors and values
    module = gs.SessionModule(resumed, settings)
    data = gs.SessionDataModule(split, resumed, settings)
    pl.Trainer(**QUIET, max_epochs=3).fit(module, datamodule=data, ckpt_path=path)
    assert torch.equal(weights(resumed), weights(whole))
    pd.testing.assert_frame_equal(without_times(module.history), without_times(expected.history))


# -- what users pass on --------------------------------------------------------------------------


def test_loggers_and_callbacks_of_your_own_stand_beside_those_of_fit(
    split: gs.Split, tmp_path: Path
) -> None:
    keep = ModelCheckpoint(tmp_path / "kept", monitor="mrr@20", mode="max", save_top_k=1)
    log = CSVLogger(tmp_path, name="mine", version="1")
    result = fitted(model_of(), split, callbacks=[keep], logger=log, out=tmp_path / "run")
    table = pd.read_csv(tmp_path / "mine" / "1" / "metrics.csv")
    assert table["mrr@20"].dropna().tolist() == pytest.approx(result.history["mrr@20"].tolist())
    assert (tmp_path / "run" / "logs" / "metrics.csv").exists()
    assert Path(keep.best_model_path).exists()
    assert float(keep.best_model_score) == pytest.approx(result.history["mrr@20"].max())  # type: ignore[arg-type]


OPTIONS: list[tuple[dict[str, Any], int, int]] = [
    ({"limit_train_batches": 2}, 2, 4),
    ({"limit_train_batches": 0.5, "limit_val_batches": 0}, 2, 2 * 2),
    ({"val_check_interval": 0.5}, 2, 8),
    ({"check_val_every_n_epoch": 2}, 2, 8),
    ({"fast_dev_run": True}, 1, 1),
    ({"max_steps": 3}, 1, 3),
    ({"num_sanity_val_steps": 2, "enable_checkpointing": False}, 2, 8),
    ({"profiler": "simple", "benchmark": False, "detect_anomaly": True}, 2, 8),
    ({"gradient_clip_algorithm": "value"}, 2, 8),
    ({"strategy": "auto", "plugins": [], "min_epochs": 1}, 2, 8),
]


@pytest.mark.parametrize(("options", "epochs", "steps"), OPTIONS, ids=lambda v: str(v)[:40])
def test_options_of_lightnings_trainer_work(
    options: dict[str, Any], epochs: int, steps: int, split: gs.Split
) -> None:
    updates: list[int] = []

    class Steps(Callback):
        def on_train_end(self, trainer: pl.Trainer, module: Any) -> None:
            updates.append(trainer.global_step)

    model = model_of()
    result = fitted(model, split, trainer_options=options, callbacks=Steps(), gradient_clip=1.0)
    assert len(result.history) == epochs
    assert updates == [steps]
    assert result.best_epoch in range(1, epochs + 1)
    assert result.history["loss"].notna().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trainer_options": {"max_epochs": 3}}, "which fit calls max_epochs: pass fit"),
        ({"trainer_options": {"accumulate_grad_batches": 3}}, "which fit calls accumulate: pass"),
        ({"trainer_options": {"gradient_clip_val": 3}}, "which fit calls gradient_clip: pass"),
        ({"trainer_options": {"precision": "bf16-mixed"}}, "which fit calls precision: pass"),
        ({"trainer_options": {"overfit_batches": 1}}, "use limit_train_batches"),
        (
            {"trainer_options": {"strategy": "ddp"}},
            r"strategy 'ddp' cannot .*fit\(\.\.\., devices=2\)",
        ),
        ({"trainer_options": {"strategy": FSDPStrategy()}}, "strategy 'FSDPStrategy' cannot train"),
        ({"trainer_options": {"limit_train": 1}}, "no argument 'limit_train': did you mean"),
        ({"trainer_options": [1]}, "trainer_options is a mapping of arguments"),
        ({"callbacks": [print]}, "callbacks takes a Callback of pytorch_lightning or a list"),
        ({"callbacks": 3}, "callbacks takes a Callback"),
        ({"logger": True}, "logger takes a Logger of pytorch_lightning or a list of them, got"),
    ],
)
def test_options_that_cannot_be_are_refused_in_a_sentence(
    options: dict[str, Any], message: str, split: gs.Split
) -> None:
    with pytest.raises(ValueError, match=message):
        fitted(model_of(), split, **options)


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        ({"accumulate": 2}, {"accumulate_grad_batches": 3}, "accumulate=2, .* leave one out"),
        ({"gradient_clip": 2.0}, {"gradient_clip_val": 3.0}, "gradient_clip=2.0, .* leave one"),
        ({"precision": "bf16-mixed"}, {}, "pass precision='bf16-mixed' to the trainer"),
        ({}, {"precision": "64-true"}, "have 32 bits, got precision='64-true' of the trainer"),
    ],
)
def test_settings_that_contradict_the_trainer_are_refused(
    settings: dict[str, Any], options: dict[str, Any], message: str, split: gs.Split
) -> None:
    with pytest.raises(ValueError, match=message):
        trained(model_of(), split, gs.TrainingSettings(**settings), **options)


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({"accumulate_grad_batches": 3}, {"accumulate": 3}),
        ({"gradient_clip_val": 0.05}, {"gradient_clip": 0.05}),
        ({"precision": "bf16-mixed"}, {"precision": "bf16-mixed"}),
        ({"max_time": "00:12:00:00", "deterministic": True}, {}),
    ],
)
def test_option_of_the_trainer_does_what_the_setting_does(
    options: dict[str, Any], settings: dict[str, Any], split: gs.Split
) -> None:
    common = gs.TrainingSettings(batch_size=16, learning_rate=0.01)
    model, other = model_of("gru4rec"), model_of("gru4rec")
    try:
        trained(model, split, common, **options)
    finally:
        torch.use_deterministic_algorithms(False)
    fitted(other, split, **settings)
    assert torch.equal(weights(model), weights(other))


def test_strategy_of_a_trainer_that_could_hang_is_refused_before_processes_meet(
    split: gs.Split,
) -> None:
    options = {"strategy": "ddp", "devices": 1, "accelerator": "cpu"}
    with pytest.raises(
        ValueError, match=r"'DDPStrategy' .* strategy=gs\.training\.RowSparseDDP\(\)"
    ):
        trained(model_of(), split, gs.TrainingSettings(), **options)
    assert not torch.distributed.is_initialized()


def test_batches_without_the_data_module_train_too(split: gs.Split) -> None:
    model, other = model_of("srgnn"), model_of("srgnn")
    graphs = gs.SessionGraphDataset(split.train)
    settings = gs.TrainingSettings(batch_size=16, learning_rate=0.01, schedule="linear")
    module = gs.SessionModule(model, settings)
    pl.Trainer(**QUIET, max_epochs=2).fit(module, gs.SessionGraphLoader(graphs, 16))
    result = fitted(other, gs.SessionGraphLoader(graphs, 16), schedule="linear")
    pd.testing.assert_frame_equal(without_times(module.history), without_times(result.history))
    assert torch.equal(weights(model), weights(other))


def test_counting_model_is_sent_to_fit(split: gs.Split) -> None:
    with pytest.raises(ValueError, match=r"nothing to train: use gs\.fit\(model, data\)"):
        gs.SessionDataModule(split, gs.models.MarkovChain(NUM_ITEMS))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"accumulate_grad_batches": 2}, "by accumulate_grad_batches of the trainer: 1 there, 2"),
        ({"precision": "bf16-mixed"}, "by precision of the trainer: 32-true there, bf16-mixed"),
        ({"gradient_clip_val": 0.1}, "by the clipping of gradients: None there, 0.1 by norm here"),
        ({"max_epochs": 3}, r"by the updates in all \(max_epochs, .*\): 10 there, 15 here"),
    ],
)
def test_trainer_of_other_updates_is_refused_also_without_the_data_module(
    option: dict[str, Any], message: str, split: gs.Split, tmp_path: Path
) -> None:
    settings = gs.TrainingSettings(learning_rate=0.01, schedule="linear", patience=None)
    whole, halves, resumed, other = (model_of("srgnn") for _ in range(4))
    loader = gs.SessionGraphLoader(gs.SessionGraphDataset(split.train), 32)

    def run(model: SessionModel, path: Path | None = None, **options: Any) -> None:
        trainer = pl.Trainer(**(QUIET | {"max_epochs": 2} | options))
        trainer.fit(gs.SessionModule(model, settings), loader, ckpt_path=path)

    keep = ModelCheckpoint(tmp_path, every_n_epochs=1, save_top_k=-1)
    run(whole)
    run(halves, callbacks=[keep], enable_checkpointing=True)
    path = next(tmp_path.glob("epoch=0*"))
    run(resumed, path)
    assert torch.equal(weights(resumed), weights(whole))
    with pytest.raises(ValueError, match=message):
        run(other, path, **option)


# -- optimizers and schedules of your own --------------------------------------------------------


@pytest.mark.parametrize(
    "optimizer",
    [
        torch.optim.SGD,
        partial(torch.optim.SGD, lr=0.01, weight_decay=0.1),
        lambda parameters: torch.optim.SGD(parameters, lr=0.01, weight_decay=0.1),
    ],
    ids=["class", "partial", "function"],
)
def test_optimizer_of_torch_makes_the_steps_of_the_same_by_name(
    optimizer: Any, split: gs.Split
) -> None:
    own, named = model_of(), model_of()
    common: dict[str, Any] = {"weight_decay": 0.1, "ema": 0.9}
    fitted(own, split, optimizer=optimizer, **common)
    fitted(named, split, optimizer="sgd", **common)
    torch.testing.assert_close(weights(own), weights(named), rtol=1e-4, atol=1e-6)


def test_training_by_an_optimizer_of_torch_goes_on_from_its_checkpoint(
    split: gs.Split, tmp_path: Path
) -> None:
    whole, halves, resumed = model_of(), model_of(), model_of()
    options: dict[str, Any] = {"optimizer": torch.optim.RMSprop, "patience": None}
    options["schedule"] = lambda optimizer: StepLR(optimizer, 3, gamma=0.5)
    fitted(whole, split, **options)
    fitted(halves, split, **(options | {"max_epochs": 1}), out=tmp_path)
    result = fitted(resumed, split, **options, out=tmp_path, resume=True)
    assert torch.equal(weights(resumed), weights(whole))
    assert result.history["learning_rate"].tolist() == pytest.approx([0.005, 0.0025])
    settings = (tmp_path / "settings.json").read_text()
    assert "torch.optim.rmsprop.RMSprop" in settings
    with pytest.raises(ValueError, match="is your own, which no file holds: pass optimizer= again"):
        gs.TrainingSettings.load(tmp_path / "settings.json")


def on_plateau(optimizer: Any) -> Mapping[str, Any]:
    scheduler = ReduceLROnPlateau(optimizer, patience=0, mode="max", threshold=1e9)
    return {"scheduler": scheduler, "interval": "epoch", "monitor": "hr@20"}


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        (lambda optimizer: StepLR(optimizer, 5, gamma=0.1), [0.01, 0.001]),
        (lambda optimizer: {"scheduler": StepLR(optimizer, 1), "interval": "epoch"}, [1e-3, 1e-4]),
        (partial(OneCycleLR, max_lr=0.1, total_steps=9, cycle_momentum=False), None),
        (on_plateau, [0.01, 0.01]),
        (partial(ReduceLROnPlateau, patience=0), [0.01, 0.01]),
    ],
    ids=["steps", "epochs", "one cycle", "plateau", "plain plateau"],
)
def test_schedule_of_torch_sets_the_rates(
    schedule: Any, rates: list[float] | None, split: gs.Split
) -> None:
    history = fitted(model_of(), split, schedule=schedule).history
    if rates is None:
        assert history["learning_rate"][1] == pytest.approx(0.1 / 25 / 1e4, rel=1e-3)
    else:
        assert history["learning_rate"].tolist() == pytest.approx(rates)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": lambda parameters: 3}, "optimizer is a name, .* that gives a int"),
        ({"schedule": lambda optimizer: 3}, "schedule is a name .* that gives a int"),
        ({"optimizer": 3}, "optimizer is one of adam, .* or a function that makes one"),
        ({"optimizer": "adm"}, "did you mean 'adam'"),
    ],
)
def test_what_makes_no_optimizer_or_schedule_is_refused(
    options: dict[str, Any], message: str, split: gs.Split
) -> None:
    with pytest.raises(ValueError, match=message):
        fitted(model_of(), split, **options)


def test_optimizer_that_is_made_already_is_refused_with_the_way_out(split: gs.Split) -> None:
    model = model_of()
    made = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="or a function that makes one, lambda parameters: SGD"):
        fitted(model, split, optimizer=made)


def test_plain_module_is_sent_to_session_model(split: gs.Split) -> None:
    with pytest.raises(ValueError, match=r"derive it from graphseq\.models\.SessionModel"):
        gs.fit(torch.nn.Linear(2, 2), split)  # type: ignore[arg-type]


def test_what_was_taken_over_is_given_back_after_an_error(split: gs.Split) -> None:
    class Fails(Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            raise ArithmeticError("mine")

    model, state = model_of(), torch.get_rng_state()
    settings = gs.TrainingSettings(batch_size=16, loss="sampled_softmax")
    with pytest.raises(ArithmeticError, match="mine"):
        trained(model, split, settings, callbacks=[Fails(), Timer("00:01:00:00")])
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(part._forward_pre_hooks for part in model.modules())
    assert logging.getLogger("graphseq").handlers == []


def test_trainer_validates_by_the_exact_ranking_of_evaluate(split: gs.Split) -> None:
    model = model_of()
    fitted(model, split, max_epochs=1)
    module, data = gs.SessionModule(model), gs.SessionDataModule(split, model)
    (found,) = pl.Trainer(**QUIET).validate(module, datamodule=data, verbose=False)
    assert split.validation is not None
    expected = gs.evaluate(model, split.validation, ks=(20,)).metrics
    assert found == pytest.approx({name: expected[name] for name in found})
    assert set(found) >= {"mrr@20", "hr@20"}


def test_checkpoint_of_a_validation_has_the_weights_that_training_goes_on_with(
    split: gs.Split, tmp_path: Path
) -> None:
    settings = gs.TrainingSettings(batch_size=16, learning_rate=0.01, ema=0.9, patience=None)
    whole, halves, resumed = model_of(), model_of(), model_of()
    trained(whole, split, settings, val_check_interval=2)
    keep = ModelCheckpoint(tmp_path, "{step}", every_n_epochs=1, save_top_k=-1)
    kept: dict[str, Any] = {"callbacks": [keep], "enable_checkpointing": True}
    trained(halves, split, settings, max_epochs=1, val_check_interval=2, **kept)
    (path,) = tmp_path.glob("*step=2*")
    module = gs.SessionModule(resumed, settings)
    data = gs.SessionDataModule(split, resumed, settings)
    trainer = pl.Trainer(**QUIET, max_epochs=2, val_check_interval=2)
    trainer.fit(module, datamodule=data, ckpt_path=path)
    assert torch.equal(weights(resumed), weights(whole))
