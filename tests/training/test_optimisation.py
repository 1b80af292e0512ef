"""Accumulated gradients, averaged weights, rates and precision of a whole training."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._inductor.runtime.cache_dir_utils import default_cache_dir

from graphseq.data.sessions.sessions import Sessions
from graphseq.data.splits.splits import Split, session_split
from graphseq.evaluation import evaluate
from graphseq.models import SRGNN, GRU4Rec, SASRec
from graphseq.models.base import SessionModel
from graphseq.training.fit import fit
from graphseq.training.objectives.loss_choice import SampledLoss
from graphseq.training.optim import optimizers
from graphseq.training.optim.optimizers import RowSparseOptimizer

NUM_ITEMS = 30


@pytest.fixture(scope="module")
def split() -> Split:
    generator = np.random.default_rng(0)
    lists = [
        [(start + int(step)) % NUM_ITEMS for step in generator.integers(0, 4, size=2 + start % 5)]
        for start in range(2 * NUM_ITEMS)
    ]
    sessions = Sessions.from_lists(lists)
    return session_split(sessions, 0.2, seed=0, validation=0.2)


def model_of(name: str) -> SessionModel:
    torch.manual_seed(0)
    classes: dict[str, Any] = {"srgnn": SRGNN, "gru4rec": GRU4Rec, "sasrec": SASRec}
    return classes[name](NUM_ITEMS, 8, **({"dropout": 0.0} if name == "sasrec" else {}))


def weights(model: SessionModel) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def trained(name: str, data: Split | Sessions, **options: Any) -> Tensor:
    model = model_of(name)
    settings = {"max_epochs": 2, "batch_size": 16, "progress": False, "optimizer": "sgd"}
    fit(model, data, **({"learning_rate": 0.1} | settings | options))
    return weights(model)


@pytest.mark.parametrize("accumulate", [2, 3, 1000])
def test_accumulated_batches_equal_one_batch_of_them_all(accumulate: int, split: Split) -> None:
    # The last group of three is not full, and the last batch is a short one.
    one = trained("srgnn", split.train, batch_size=16 * min(accumulate, 100))
    several = trained("srgnn", split.train, accumulate=accumulate)
    torch.testing.assert_close(several, one, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(trained("srgnn", split.train), one, atol=1e-4)


def test_accumulated_batches_of_click_losses_are_weighed_by_their_targets(split: Split) -> None:
    # The whole epoch as one step: batches of like length have unlike numbers of targets.
    one = trained("sasrec", split.train, batch_size=1000)
    several = trained("sasrec", split.train, batch_size=7, accumulate=1000)
    torch.testing.assert_close(several, one, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "adagrad", "rowwise_adagrad", "sgd"])
def test_accumulated_row_sparse_gradients_equal_dense_ones(
    optimizer: str, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {
        "loss": SampledLoss("sampled_softmax", num_negatives=4, alpha=0.0),
        "optimizer": optimizer,
        "accumulate": 3,
        "gradient_clip": 0.5,
        "learning_rate": 0.01,
    }
    dense = trained("gru4rec", split.train, **options)
    monkeypatch.setattr(optimizers, "SPARSE_FROM", 1)
    sparse = trained("gru4rec", split.train, **options)
    torch.testing.assert_close(sparse, dense, rtol=1e-3, atol=2e-5)


def test_warm_up_and_schedule_are_those_of_the_steps(split: Split) -> None:
    model = model_of("srgnn")
    common: dict[str, Any] = {"batch_size": 16, "max_epochs": 4, "progress": False}
    result = fit(model, split.train, schedule="cosine", warmup=0.5, **common)
    # Of T steps half are warm-up: after two epochs the rate is whole, after four it is zero.
    rates = result.history["learning_rate"].tolist()
    assert rates[1] == pytest.approx(1e-3)
    assert rates[2] == pytest.approx(0.5e-3)
    assert rates[3] == pytest.approx(0.0)


@pytest.mark.parametrize("sparse", [False, True])
def test_averaged_weights_of_a_training_equal_the_plain_recurrence(
    sparse: bool, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sparse:
        monkeypatch.setattr(optimizers, "SPARSE_FROM", 1)
    options: dict[str, Any] = {"loss": SampledLoss(num_negatives=4), "optimizer": "adam"}
    options |= {"max_epochs": 5, "learning_rate": 0.01}
    averaged = trained("gru4rec", split.train, ema=0.9, **options)

    model = model_of("gru4rec")
    expected, seen = [weights(model).double()], [0]
    step = RowSparseOptimizer.step

    def watched(self: RowSparseOptimizer, closure: Any = None) -> Any:
        result = step(self, closure)
        self.settle()
        seen[0] += 1
        beta = min(0.9, (1 + seen[0]) / (10 + seen[0]))
        expected[0] = beta * expected[0] + (1 - beta) * weights(model).double()
        return result

    monkeypatch.setattr(RowSparseOptimizer, "step", watched)
    fit(model, split.train, batch_size=16, progress=False, **options)
    assert seen[0] > 10
    torch.testing.assert_close(averaged.double(), expected[0], rtol=1e-4, atol=1e-6)


def test_averaged_weights_are_validated_and_come_back(split: Split) -> None:
    model = model_of("srgnn")
    options: dict[str, Any] = {"learning_rate": 0.05, "patience": None, "monitor": "mrr@5"}
    result = fit(model, split, ema=0.9, max_epochs=6, batch_size=16, progress=False, **options)
    plain = fit(model_of("srgnn"), split, max_epochs=6, batch_size=16, progress=False, **options)
    assert split.validation is not None
    found = evaluate(model, split.validation, ks=(5,)).metrics["mrr@5"]
    assert found == pytest.approx(result.history["mrr@5"].max())
    assert result.history["mrr@5"].tolist() != plain.history["mrr@5"].tolist()
    assert result.history["loss"].tolist() == plain.history["loss"].tolist()  # steps as without


@pytest.mark.parametrize("loss", ["cross_entropy", "sampled_softmax", "bpr_max"])
@pytest.mark.parametrize("name", ["srgnn", "gru4rec", "sasrec"])
def test_half_precision_trains_row_sparse_tables_to_nearly_the_same(
    name: str, loss: str, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimizers, "SPARSE_FROM", 1)
    options: dict[str, Any] = {"loss": loss, "optimizer": "adam", "learning_rate": 0.01}
    half = trained(name, split, precision="bf16-mixed", **options)
    whole = trained(name, split, **options)
    assert half.dtype == torch.float32
    assert not torch.equal(half, whole)
    assert (half - whole).abs().mean() < 0.03


def test_half_precision_is_left_behind_with_the_training(split: Split) -> None:
    model = model_of("srgnn")
    fit(model, split, max_epochs=1, progress=False, precision="bf16-mixed")
    assert "training_rows" not in vars(model)
    assert evaluate(model, split.test, ks=(5,)).metrics["mrr"] > 0


def test_scaled_half_precision_without_a_gpu_is_refused(split: Split) -> None:
    with pytest.raises(ValueError, match="use 'bf16-mixed' on a CPU"):
        fit(model_of("srgnn"), split, precision="16-mixed", progress=False)


def test_history_counts_targets_and_the_wait_for_data(split: Split) -> None:
    history = fit(model_of("sasrec"), split.train, max_epochs=2, progress=False).history
    clicks, sessions = split.train.num_clicks, split.train.num_sessions
    assert history["targets"].tolist() == [clicks - sessions] * 2
    assert (history["data_seconds"] > 0).all()
    assert (history["data_seconds"] < history["seconds"]).all()


def test_compiled_model_reads_in_training_alone_and_is_itself_again(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[bool] = []
    model = model_of("srgnn")

    def compiled(method: Any, *, dynamic: bool) -> Any:  # a real one takes minutes
        def read(*args: Any, **kwargs: Any) -> Any:
            calls.append(dynamic and model.training)
            return method(*args, **kwargs)

        return read

    monkeypatch.setattr(torch, "compile", compiled)
    result = fit(model, split, max_epochs=2, batch_size=16, progress=False, compile=True)
    assert calls == [True] * len(calls)
    assert len(calls) == 2 * -(-split.train.num_targets // 16)
    assert "training_rows" not in vars(model)
    plain = fit(model_of("srgnn"), split, max_epochs=2, batch_size=16, progress=False)
    assert result.history["loss"].tolist() == plain.history["loss"].tolist()


@pytest.mark.parametrize("chosen", [True, False])
def test_programs_of_a_compiled_model_are_gone_unless_a_folder_was_chosen(
    chosen: bool, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "TORCHINDUCTOR_CACHE_DIR"
    before = str(tmp_path) if chosen else default_cache_dir()
    monkeypatch.setenv(name, before)  # as torch itself sets the default
    places: set[str] = set()

    def compiled(method: Any, *, dynamic: bool) -> Any:
        def read(*args: Any, **kwargs: Any) -> Any:
            places.add(os.environ[name])
            (Path(os.environ[name]) / "program").touch()
            return method(*args, **kwargs)

        return read

    monkeypatch.setattr(torch, "compile", compiled)
    options = {"max_epochs": 1, "batch_size": 16, "progress": False, "compile": True}
    fit(model_of("srgnn"), split, **options)
    (place,) = places
    assert os.environ[name] == before
    assert (place == before) == chosen
    assert Path(place).exists() == chosen

    def fails(row: Any) -> None:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fit(model_of("srgnn"), split, on_epoch=fails, **options)
    assert [Path(each).exists() for each in places] == [chosen] * len(places)
    assert os.environ[name] == before


def test_compiled_model_without_a_compiler_says_so(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="needs a compiler, and this machine has none of g"):
        fit(model_of("srgnn"), split, progress=False, compile=True)
