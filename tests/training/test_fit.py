"""Training: what it learns, what it keeps, how it ends, and that the same seed gives the same."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader

from graphseq.data.graphs.dataset import Samples, SessionGraphDataset
from graphseq.data.loading.loader import SessionGraphLoader
from graphseq.data.loading.session_parallel import SessionParallelLoader
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.splits.splits import Split, session_split
from graphseq.evaluation import evaluate
from graphseq.models import SRGNN, BERT4Rec, GRU4Rec, MarkovChain, SASRec
from graphseq.models.base import SessionModel
from graphseq.models.use.grow import grow
from graphseq.models.use.persistence import load
from graphseq.training.fit import fit
from graphseq.training.lightning.module import NOT_FINITE_BATCH
from graphseq.training.objectives.loss_choice import LOSSES, SampledLoss
from graphseq.training.settings import TrainingSettings

NUM_ITEMS = 12


@pytest.fixture(scope="module")
def split() -> Split:
    """Walks around a ring: the next item is the last one plus one, which anything can learn."""
    generator = np.random.default_rng(0)
    starts = generator.integers(0, NUM_ITEMS, size=120)
    lists = [
        [(s + i) % NUM_ITEMS for i in range(n)] for s, n in zip(starts, 3 + starts % 4, strict=True)
    ]
    return session_split(Sessions.from_lists(lists), 0.2, seed=0, validation=0.2)


def model_of(name: str, seed: int = 0) -> SessionModel:
    torch.manual_seed(seed)
    if name == "srgnn":
        return SRGNN(NUM_ITEMS, 16)
    if name == "gru4rec":
        return GRU4Rec(NUM_ITEMS, 16)
    if name == "bert4rec":
        return BERT4Rec(NUM_ITEMS, 16, dropout=0.3)
    return SASRec(NUM_ITEMS, 16, dropout=0.3)


def quick(model: SessionModel, data: Any, **options: Any) -> Any:
    settings = {"max_epochs": 3, "batch_size": 32, "learning_rate": 0.01, "progress": False}
    return fit(model, data, **(settings | options))


def weights(model: SessionModel) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("name", ["srgnn", "gru4rec", "sasrec"])
def test_every_family_learns_the_ring(name: str, split: Split) -> None:
    model = model_of(name)
    result = quick(model, split, max_epochs=20, learning_rate=0.02, monitor="hr@1", patience=None)
    assert evaluate(model, split.test, ks=(1,)).metrics["hr@1"] > 0.95
    assert result.history["loss"].iloc[-1] < result.history["loss"].iloc[0]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ["srgnn", "gru4rec"])
def test_every_loss_learns_the_ring(name: str, loss: str, split: Split) -> None:
    model = model_of(name)
    before = evaluate(model, split.test, ks=(1,)).metrics["mrr"]
    whole = replace(split, validation=None)
    few = loss if loss == "cross_entropy" else SampledLoss(loss, num_negatives=6)
    quick(model, whole, max_epochs=12, batch_size=8, learning_rate=0.02, loss=few)
    assert evaluate(model, split.test, ks=(1,)).metrics["mrr"] > before + 0.2


@pytest.mark.parametrize("name", ["srgnn", "sasrec", "bert4rec"])
def test_same_seed_gives_the_same_weights(name: str, split: Split) -> None:
    models = [model_of(name) for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        torch.manual_seed(id(model) % 1000)  # the caller's own random state plays no part
        quick(model, split, seed=seed, loss="sampled_softmax")
    assert torch.equal(weights(models[0]), weights(models[1]))
    assert not torch.equal(weights(models[0]), weights(models[2]))


def test_callers_random_state_is_left_alone(split: Split) -> None:
    model = model_of("sasrec")
    state = torch.get_rng_state()
    quick(model, split)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("schedule", ["constant", "step"])
def test_resumed_training_equals_one_that_never_stopped(
    schedule: str, split: Split, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"schedule": schedule, "loss": "sampled_softmax", "patience": None}
    whole, halves, fresh = (model_of("sasrec") for _ in range(3))
    expected = quick(whole, split, max_epochs=5, **options)
    quick(halves, split, max_epochs=2, out=tmp_path, **options)
    resumed = quick(fresh, split, max_epochs=5, out=tmp_path, resume=True, **options)
    assert torch.equal(weights(fresh), weights(whole))
    assert resumed.best_epoch == expected.best_epoch
    metrics = [c for c in expected.history if "seconds" not in c]
    pd.testing.assert_frame_equal(resumed.history[metrics], expected.history[metrics])


def test_checkpoint_of_another_seed_is_refused(split: Split, tmp_path: Path) -> None:
    quick(model_of("srgnn"), split, out=tmp_path, seed=1)
    with pytest.raises(ValueError, match="made with seed 1, this training has 2"):
        quick(model_of("srgnn"), split, out=tmp_path, seed=2, max_epochs=5, resume=True)


def test_checkpoint_of_another_model_is_refused(split: Split, tmp_path: Path) -> None:
    quick(model_of("srgnn"), split, out=tmp_path)
    with pytest.raises(ValueError, match="does not fit this training"):
        quick(SRGNN(NUM_ITEMS, 8), split, out=tmp_path, max_epochs=5, resume=True)


def test_best_weights_come_back(split: Split) -> None:
    model = model_of("srgnn")
    result = quick(model, split, max_epochs=8, learning_rate=0.3, patience=None, monitor="mrr@5")
    best = result.history["mrr@5"].idxmax()
    assert result.best_epoch == result.history["epoch"][best]
    assert evaluate(model, split.validation, ks=(5,)).metrics["mrr@5"] == pytest.approx(
        result.history["mrr@5"].max()
    )


def test_training_stops_when_the_metric_no_longer_rises(split: Split) -> None:
    model = model_of("srgnn")
    result = quick(model, split, max_epochs=60, learning_rate=0.02, patience=2)
    assert len(result.history) < 60
    assert len(result.history) == result.best_epoch + 2


def test_without_validation_all_epochs_run_and_the_last_weights_stay(split: Split) -> None:
    model = model_of("srgnn")
    result = quick(model, split.train, max_epochs=4)
    assert result.best_epoch == len(result.history) == 4
    assert not result.interrupted


class Interrupted:
    """A loader after whose second epoch somebody presses Ctrl-C."""

    def __init__(self, loader: SessionGraphLoader) -> None:
        self.loader, self.given = loader, 0

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            if self.given == 2 * len(self.loader):
                raise KeyboardInterrupt
            self.given += 1
            yield batch

    def __len__(self) -> int:
        return len(self.loader)


def test_ctrl_c_keeps_the_best_weights_so_far(split: Split, tmp_path: Path) -> None:
    def loader() -> SessionGraphLoader:
        return SessionGraphLoader(SessionGraphDataset(split.train), 32, shuffle=True, seed=0)

    handler = signal.getsignal(signal.SIGINT)
    stopped, whole = model_of("srgnn"), model_of("srgnn")
    arguments: dict[str, Any] = {"validation": split.validation, "patience": None}
    result = quick(stopped, Interrupted(loader()), max_epochs=9, out=tmp_path, **arguments)
    quick(whole, loader(), max_epochs=2, **arguments)
    assert result.interrupted
    assert len(result.history) == 2
    assert torch.equal(weights(stopped), weights(whole))
    assert torch.equal(weights(load(tmp_path / "model")), weights(whole))
    assert signal.getsignal(signal.SIGINT) is handler


def test_counting_models_are_counted(split: Split) -> None:
    model = MarkovChain(NUM_ITEMS)
    result = fit(model, split)
    assert result.best_epoch == 0
    assert evaluate(model, split.test, ks=(1,)).metrics["hr@1"] == 1.0


@pytest.mark.parametrize("make", [SessionGraphLoader, DataLoader], ids=["ours", "pyg"])
def test_own_loader_trains_with_the_catalog_of_its_sessions(make: Any, split: Split) -> None:
    model = model_of("srgnn")
    result = quick(model, make(SessionGraphDataset(split.train), batch_size=32))
    assert result.history["loss"].is_monotonic_decreasing
    assert model.catalog is not None
    assert model.catalog.counts.tolist() == split.catalog.counts.tolist()


def test_plain_list_of_batches_trains_without_a_catalog(split: Split) -> None:
    model = model_of("srgnn")
    batches = list(SessionGraphLoader(SessionGraphDataset(split.train), 32))
    result = quick(model, batches, loss=SampledLoss(alpha=0.0))
    assert result.history["loss"].is_monotonic_decreasing
    assert model.catalog is None


class Bilinear(SessionModel):
    """A model of a user's own that scores in its own way."""

    samples = "prefixes"

    def __init__(self, num_items: int) -> None:
        super().__init__(num_items)
        self.matrix = torch.nn.Parameter(torch.zeros(num_items, num_items))

    def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
        scores = self.matrix[batch.click_item[batch.click_ptr[1:] - 1]]
        if items is None:
            return scores
        return scores[:, items] if items.dim() == 1 else scores.gather(1, items)


def test_own_model_with_its_own_score_trains_evaluates_and_recommends(split: Split) -> None:
    model = Bilinear(NUM_ITEMS)
    quick(model, split, max_epochs=20, learning_rate=0.1)
    assert evaluate(model, split.test, ks=(1,)).metrics["hr@1"] == 1.0
    assert model.recommend([[3, 4]], k=1)[0][0][0] == 5


@pytest.mark.parametrize("loss", ["sampled_softmax", "bce"])
def test_own_model_with_its_own_score_learns_from_sampled_candidates(
    loss: str, split: Split
) -> None:
    model = Bilinear(NUM_ITEMS)
    quick(model, split, max_epochs=20, learning_rate=0.1, loss=SampledLoss(loss, num_negatives=6))
    assert evaluate(model, split.test, ks=(1,)).metrics["hr@1"] == 1.0


def test_gradient_clip_bounds_what_a_step_may_do(split: Split) -> None:
    model = model_of("srgnn")
    before = weights(model)
    quick(model, split.train, gradient_clip=1e-12, max_epochs=1)
    assert (weights(model) - before).abs().max() < 1e-4


def test_linear_schedule_ends_at_zero(split: Split) -> None:
    result = quick(model_of("srgnn"), split.train, schedule="linear", max_epochs=4)
    rates = result.history["learning_rate"].tolist()
    assert rates == pytest.approx([0.0075, 0.005, 0.0025, 0.0])


def test_step_schedule_falls_every_third_epoch(split: Split) -> None:
    result = quick(model_of("srgnn"), split.train, schedule="step", max_epochs=4)
    assert result.history["learning_rate"].round(6).tolist() == [0.01, 0.01, 0.001, 0.001]


def test_log_and_model_are_written(split: Split, tmp_path: Path) -> None:
    model = model_of("srgnn")
    result = quick(model, split, out=tmp_path)
    log = pd.read_csv(tmp_path / "logs" / "metrics.csv")
    assert log["mrr@20"].dropna().tolist() == pytest.approx(result.history["mrr@20"].tolist())
    assert result.checkpoint == tmp_path / "model"
    loaded = load(result.checkpoint)
    assert torch.equal(weights(loaded), weights(model))


def test_model_is_left_in_evaluation_mode_with_its_catalog(split: Split) -> None:
    model = model_of("sasrec")
    quick(model, split)
    assert not model.training
    assert model.catalog is not None
    assert model.catalog.items == split.train.vocabulary


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "hinge"}, "loss is one of cross_entropy"),
        ({"optimizer": "lamb"}, "optimizer is one of adam"),
        ({"schedule": "cubic"}, "schedule is one of constant, linear"),
        ({"monitor": "auc"}, "monitor is 'hr@k'"),
        ({"monitor": "hr"}, "monitor is 'hr@k'"),
        ({"max_epochs": 0}, "max_epochs must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"weight_decay": -1.0}, "weight_decay must not be negative"),
        ({"gradient_clip": 0.0}, "gradient_clip must be positive"),
        ({"warmup": -1}, "warmup is a whole number of steps or a share"),
        ({"warmup": 1.0}, "warmup is a whole number of steps or a share"),
        ({"accumulate": 0}, "accumulate must be at least 1"),
        ({"ema": 1.0}, r"ema must lie in \(0, 1\), got 1.0: None averages nothing"),
        ({"precision": "fp8"}, "precision is one of 32, bf16-mixed, 16-mixed"),
        ({"checkpoint_steps": 0}, "checkpoint_steps must be at least 1"),
        ({"checkpoint_minutes": 0.0}, "checkpoint_minutes must be positive"),
        ({"max_clicks": 1}, "more than max_clicks=1 clicks, up to"),
        ({"lanes": 8}, "states between steps, as GRU4Rec does; SRGNN does not"),
        ({"patience": 0}, "patience must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"resume": True}, "pass out="),
        ({"device": "cuda:7"}, "is not there"),
    ],
)
def test_wrong_argument_is_named(options: dict[str, Any], message: str, split: Split) -> None:
    with pytest.raises(ValueError, match=message):
        quick(model_of("srgnn"), split, **options)


def test_model_of_another_catalog_is_refused(split: Split) -> None:
    with pytest.raises(ValueError, match="The model has 5 items, the training data 12"):
        quick(SRGNN(5, 8), split)


def test_data_of_no_known_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="data is a Split"):
        quick(model_of("srgnn"), 3)


def test_output_folder_below_a_file_is_refused(split: Split, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot be written to"):
        quick(model_of("srgnn"), split, out=tmp_path / "file" / "folder")


def test_loss_that_is_no_number_ends_training_with_the_step_and_the_batch(
    split: Split, tmp_path: Path
) -> None:
    sessions = Sessions.from_lists([[0, 1], [1, 2], [3, 4]], vocabulary=split.train.vocabulary)
    dataset = SessionGraphDataset(sessions)
    batches = [dataset.batch([i]) for i in range(3)]
    model = Bilinear(NUM_ITEMS)
    with torch.no_grad():
        model.matrix[batches[2].x[0]] = float("nan")  # what follows the item of the last batch
    message = r"The loss is nan in epoch 1, step 2, at a learning rate of 0.01: .* batch lies in"
    with pytest.raises(ValueError, match=message):
        quick(model, batches, out=tmp_path)
    kept = load_file(tmp_path / NOT_FINITE_BATCH)
    assert torch.equal(kept["x"], batches[2].x)
    assert torch.equal(kept["y"], batches[2].y)


def test_loss_that_is_no_number_leaves_the_other_weights_as_they_were(split: Split) -> None:
    model = model_of("srgnn")
    with torch.no_grad():
        model.items.rows().fill_(float("nan"))
    before = model.conv.lin_in.weight.detach().clone()
    with pytest.raises(ValueError, match="The loss is nan in epoch 1, step 0"):
        quick(model, split.train)
    assert torch.equal(model.conv.lin_in.weight, before)


def test_unknown_sampled_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="A sampled loss is one of"):
        SampledLoss("cross_entropy")


def test_logq_of_another_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="logq corrects sampled_softmax alone"):
        SampledLoss("bpr", logq=True)


def test_options_go_before_settings_and_the_folder_keeps_both(split: Split, tmp_path: Path) -> None:
    settings = TrainingSettings(max_epochs=9, batch_size=32, learning_rate=0.01)
    first, second = model_of("srgnn"), model_of("srgnn")
    fit(first, split, settings, max_epochs=2, out=tmp_path, progress=False)
    quick(second, split, max_epochs=2)
    assert torch.equal(weights(first), weights(second))
    assert TrainingSettings.load(tmp_path / "settings.json") == settings.replace(max_epochs=2)


def test_unknown_option_names_the_settings_there_are(split: Split) -> None:
    with pytest.raises(TypeError, match=r"no setting 'lr'; the settings .* learning_rate"):
        quick(model_of("srgnn"), split, lr=0.1)


def test_lanes_are_those_of_the_session_parallel_loader(split: Split) -> None:
    by_setting, by_loader = model_of("gru4rec"), model_of("gru4rec")
    quick(by_setting, split.train, lanes=8, seed=3)
    graphs = SessionGraphDataset(split.train, "sessions")
    quick(by_loader, SessionParallelLoader(graphs, 8, shuffle=True, seed=3), seed=3)
    assert torch.equal(weights(by_setting), weights(by_loader))


@pytest.mark.parametrize("name", ["srgnn", "gru4rec"])
def test_batches_by_clicks_are_those_of_the_loader(split: Split, name: str) -> None:
    by_setting, by_loader = model_of(name), model_of(name)
    quick(by_setting, split.train, max_clicks=40, seed=3)
    samples: Samples = "prefixes" if name == "srgnn" else "sessions"
    graphs = SessionGraphDataset(split.train, samples)
    quick(by_loader, SessionGraphLoader(graphs, max_clicks=40, shuffle=True, seed=3), seed=3)
    assert torch.equal(weights(by_setting), weights(by_loader))


def test_lanes_and_clicks_of_a_batch_together_are_refused(split: Split) -> None:
    with pytest.raises(ValueError, match="leave one of the two None"):
        quick(model_of("gru4rec"), split, lanes=3, max_clicks=40)


def test_training_ends_after_the_epoch_whose_caller_says_so(split: Split) -> None:
    seen: list[dict[str, float]] = []

    def enough(row: Any) -> bool:
        seen.append(row)
        return row["epoch"] == 2

    result = quick(model_of("srgnn"), split, max_epochs=5, on_epoch=enough)
    assert len(result.history) == 2
    assert not result.interrupted
    pd.testing.assert_frame_equal(pd.DataFrame(seen), result.history)


def test_model_that_knows_its_items_reads_another_log_in_its_own_codes(split: Split) -> None:
    model, other = model_of("srgnn"), model_of("srgnn")
    quick(model, split.train, max_epochs=1)
    quick(other, split.train, max_epochs=1)
    backwards = split.train.with_vocabulary(split.train.vocabulary.subset(range(NUM_ITEMS)[::-1]))
    quick(model, split.train, max_epochs=1, seed=1)
    quick(other, backwards, max_epochs=1, seed=1)
    assert torch.equal(weights(model), weights(other))
    with pytest.raises(ValueError, match=r"1 of 2 items .* gs\.grow\(model, sessions\)"):
        quick(model, Sessions.from_lists([[0, NUM_ITEMS]]))


def test_grown_model_learns_the_new_items_and_keeps_the_ring(split: Split) -> None:
    model = model_of("srgnn")
    quick(model, split.train, max_epochs=15, learning_rate=0.02)
    later = Sessions.from_lists([["new", s, (s + 1) % NUM_ITEMS] for s in (4, 4, 4, 4, 4)])
    grown = grow(model, later, initial="neighbors")
    quick(grown, later, max_epochs=6, learning_rate=0.01)
    assert evaluate(grown, later, ks=(1,)).metrics["hr@1"] == 1.0
    assert evaluate(grown, split.test, ks=(5,)).metrics["hr@5"] > 0.9


def test_loss_that_rises_many_times_over_is_told(split: Split) -> None:
    model = model_of("srgnn")

    def spoil(row: dict[str, float]) -> None:
        model.items.rows().data.mul_(1e4)

    with pytest.warns(UserWarning, match=r"rose from .* in the first epoch to .* in epoch 2"):
        quick(model, split.train, on_epoch=spoil)


@pytest.mark.parametrize("loss", ["sampled_softmax", "bpr"])
@pytest.mark.parametrize("make", [model_of, lambda _: Bilinear(NUM_ITEMS)], ids=["table", "own"])
def test_epoch_in_which_no_negative_counts_is_an_error_and_no_loss_of_zero(
    loss: str, make: Any, split: Split
) -> None:
    alone = SampledLoss(loss, 0, in_batch=True)
    with pytest.raises(ValueError, match=r"In none of the \d+ batches of epoch 1 was there a neg"):
        quick(make("srgnn"), split, loss=alone, batch_size=1)


def test_batches_without_a_negative_are_counted_and_reported(
    split: Split, caplog: pytest.LogCaptureFixture
) -> None:
    graphs = SessionGraphDataset(split.train)
    batches = [graphs.batch(range(20)), graphs.batch([3])]
    model = model_of("srgnn")
    result = quick(model, batches, loss=SampledLoss("bpr", 0, in_batch=True), max_epochs=1)
    assert "In 1 of 2 batches of epoch 1 no negative counted" in caplog.text
    assert result.history["targets"].tolist() == [21]
