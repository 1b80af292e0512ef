"""Training with augmentations, hard negatives and further losses: it learns, and resumes alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from graphseq.data.graphs.augment import ClickDropout, SegmentReorder
from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.loading.loader import SessionGraphLoader
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.evaluation import evaluate
from graphseq.models import SRGNN, TAGNN, GRU4Rec, Popularity, SASRec
from graphseq.models.base import SessionModel
from graphseq.models.use.persistence import load
from graphseq.training import (
    ITEM_INDEXES,
    Auxiliary,
    Contrastive,
    DwellTime,
    FitResult,
    NextFeature,
    SampledLoss,
    Step,
    TrainingSettings,
    fit,
)

NUM_ITEMS = 10


def ring(seed: int, number: int = 60, length: int = 6) -> Sessions:
    start = np.random.default_rng(seed).integers(0, NUM_ITEMS, (number, 1))
    items = (start + np.arange(length)) % NUM_ITEMS
    sessions = Sessions.from_lists(items.tolist(), vocabulary=Vocabulary(np.arange(NUM_ITEMS)))
    # An even item is dwelt upon for long, and half of the ring is of one category.
    time = np.concatenate([np.cumsum(np.where(row % 2 == 0, 100.0, 1.0)) for row in items])
    time -= np.where(items.ravel() % 2 == 0, 100.0, 1.0)
    features = pd.DataFrame({"category": np.arange(NUM_ITEMS) // 5})
    return replace(sessions, time=time, item_features=features)


def model_of() -> SASRec:
    torch.manual_seed(0)
    return SASRec(NUM_ITEMS, 16, 1, max_length=6)


def quick(model: SessionModel, data: Any, **options: Any) -> FitResult:
    settings = {"max_epochs": 3, "batch_size": 16, "learning_rate": 0.01, "progress": False}
    return fit(model, data, **(settings | options))


def weights(model: SessionModel) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize(
    "options",
    [
        {"augmentation": ClickDropout(0.3)},
        {"loss": SampledLoss(num_negatives=4, from_index=2, refresh=3)},
    ],
)
def test_training_resumed_equals_one_that_never_stopped(
    options: dict[str, Any], tmp_path: Path
) -> None:
    whole, halves, fresh, plain = (model_of() for _ in range(4))
    quick(whole, ring(0), max_epochs=4, **options)
    quick(halves, ring(0), max_epochs=2, out=tmp_path, **options)
    quick(fresh, ring(0), max_epochs=4, out=tmp_path, resume=True, **options)
    assert torch.equal(weights(fresh), weights(whole))
    quick(plain, ring(0), max_epochs=4)
    assert not torch.equal(weights(plain), weights(whole))


def test_index_of_ones_own_goes_by_its_name_through_settings_and_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[int] = []

    class Worst:
        """Finds the items of lowest score, so that it cannot be taken for another index."""

        def build(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
            built.append(len(weight))
            self.weight = weight

        def search(self, vectors: torch.Tensor, k: int) -> torch.Tensor:
            return (-vectors @ self.weight.t()).topk(k, dim=1).indices

    with pytest.raises(ValueError, match=r"index is one of exact.*got 'worst'.*ITEM_INDEXES"):
        SampledLoss("bpr", 4, from_index=2, index="worst")
    monkeypatch.setitem(ITEM_INDEXES, "worst", Worst)
    loss = SampledLoss("bpr", 4, from_index=2, refresh=3, index="worst")
    whole, halves, fresh, exact = (model_of() for _ in range(4))
    quick(whole, ring(0), max_epochs=4, loss=loss)
    quick(halves, ring(0), max_epochs=2, out=tmp_path, loss=loss)
    settings = TrainingSettings.load(tmp_path / "settings.json")
    assert settings.loss == loss
    before = len(built)
    quick(fresh, ring(0), max_epochs=4, out=tmp_path, resume=True, loss=loss)
    assert len(built) > before
    assert set(built) == {NUM_ITEMS}
    assert torch.equal(weights(fresh), weights(whole))
    quick(exact, ring(0), max_epochs=4, loss=replace(loss, index="exact"))
    assert not torch.equal(weights(exact), weights(whole))
    with pytest.raises(ValueError, match="was made with loss"):
        quick(exact, ring(0), out=tmp_path, resume=True, loss=replace(loss, index="exact"))


def test_index_for_a_model_without_an_item_table_is_refused_before_training(
    tmp_path: Path,
) -> None:
    loss = SampledLoss("bpr", 4, from_index=2)
    with pytest.raises(ValueError, match="TAGNN scores in a way of its own: use hardest"):
        quick(TAGNN(NUM_ITEMS, 8), ring(0), loss=loss, out=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        {"augmentation": ClickDropout(0.1)},
        {"loss": SampledLoss(num_negatives=9, hardest=2, alpha=0)},
        {"loss": SampledLoss(num_negatives=2, from_index=2, alpha=0)},
        {"loss": SampledLoss(num_negatives=9, shared=False, uniform_share=0.5)},
        {"loss": SampledLoss(num_negatives=9, label_smoothing=0.05)},
        {"loss": {"name": "cross_entropy", "label_smoothing": 0.1}},
    ],
)
def test_training_in_every_way_learns_the_ring(options: dict[str, Any]) -> None:
    model = model_of()
    quick(model, ring(0, 120), max_epochs=15, learning_rate=0.02, **options)
    assert evaluate(model, ring(1), ks=(1,)).metrics["hr@1"] > 0.95


def test_training_without_the_sessions_own_items_learns_to_rank_all_others() -> None:
    model, loss = model_of(), SampledLoss(num_negatives=9, exclude_session=True)
    quick(model, ring(0, 300, length=2), max_epochs=15, learning_rate=0.02, loss=loss)
    assert evaluate(model, ring(1, length=2), ks=(1,), exclude_seen=True).metrics["hr@1"] > 0.95


def test_augmentation_of_a_loader_or_of_lanes_is_refused() -> None:
    loader = SessionGraphLoader(SessionGraphDataset(ring(0)), 16)
    with pytest.raises(ValueError, match="augmentation changes samples of a split"):
        quick(model_of(), loader, augmentation=ClickDropout())
    with pytest.raises(ValueError, match="it does not go with lanes"):
        quick(GRU4Rec(NUM_ITEMS, 8), ring(0), lanes=4, augmentation=ClickDropout())


def further() -> list[Auxiliary]:
    return [NextFeature("category", 0.5), DwellTime(0.5), Contrastive(SegmentReorder(0.5))]


@pytest.mark.parametrize("kind", [SASRec, SRGNN, TAGNN])
def test_training_with_further_losses_learns_all_tasks_and_tells_of_each(kind: type[Any]) -> None:
    torch.manual_seed(0)
    model = kind(NUM_ITEMS, 16)
    result = quick(
        model,
        ring(0, 120),
        validation=ring(1),
        max_epochs=15,
        learning_rate=0.02,
        patience=None,
        auxiliary=further(),
        seed=3,
    )
    history = result.history
    assert history["category_accuracy"].iloc[-1] > 0.95
    assert history["category_mrr"].iloc[-1] > 0.95
    assert history["dwell_time_mae"].iloc[-1] < 0.5  # of a difference of log(101) - log(2)
    names = ("next_item", "category", "dwell_time", "contrastive")
    parts = [history[f"{name}_loss"] for name in names]
    assert all(part.iloc[-1] < part.iloc[0] for part in parts)
    total = parts[0] + 0.5 * parts[1] + 0.5 * parts[2] + 0.1 * parts[3]
    np.testing.assert_allclose(history["loss"], total, rtol=1e-5)
    assert evaluate(model, ring(1), ks=(1,)).metrics["hr@1"] > 0.95


def test_training_with_further_losses_resumed_equals_one_that_never_stopped(
    tmp_path: Path,
) -> None:
    whole, halves, fresh = (model_of() for _ in range(3))
    options: dict[str, Any] = {"validation": ring(1), "patience": None}
    expected = quick(whole, ring(0), max_epochs=4, auxiliary=further(), **options)
    quick(halves, ring(0), max_epochs=2, out=tmp_path, auxiliary=further(), **options)
    options |= {"out": tmp_path, "resume": True}
    with pytest.raises(ValueError, match="its auxiliary losses are others"):
        quick(fresh, ring(0), max_epochs=4, auxiliary=further()[1:], **options)
    found = quick(fresh, ring(0), max_epochs=4, auxiliary=further(), **options)
    assert torch.equal(weights(fresh), weights(whole))
    columns = [name for name in expected.history if "seconds" not in name]
    pd.testing.assert_frame_equal(found.history[columns], expected.history[columns])
    log = pd.read_csv(tmp_path / "logs" / "metrics.csv")
    assert log["dwell_time_mae"].dropna().tolist() == found.history["dwell_time_mae"].tolist()
    assert log["category_loss"].dropna().tolist() == found.history["category_loss"].tolist()


class Stops(NextFeature):
    """Ctrl-C in the middle of a step."""

    calls = 0

    def forward(self, step: Step) -> Tensor:
        self.calls += 1
        if self.calls == 7:  # the third of four steps in the second epoch
            raise KeyboardInterrupt
        return super().forward(step)


def test_training_with_everything_resumed_within_an_epoch_equals_one_that_never_stopped(
    tmp_path: Path,
) -> None:
    def auxiliary(first: type[NextFeature]) -> list[Auxiliary]:
        return [
            first("category", 0.5),
            DwellTime(),
            Contrastive(SegmentReorder(0.5)),
            Contrastive(same_target=True, name="same target"),
        ]

    whole, resumed = model_of(), model_of()
    options: dict[str, Any] = {
        "loss": SampledLoss(num_negatives=4, from_index=2, refresh=2, uniform_share=0.5),
        "augmentation": ClickDropout(0.2),
        "max_epochs": 3,
    }
    expected = quick(whole, ring(0), auxiliary=auxiliary(NextFeature), **options)
    options |= {"out": tmp_path, "checkpoint_steps": 1}
    stopped = quick(resumed, ring(0), auxiliary=auxiliary(Stops), **options)
    assert stopped.interrupted
    assert len(stopped.history) == 1
    found = quick(model_of(), ring(0), auxiliary=auxiliary(NextFeature), resume=True, **options)
    columns = [name for name in expected.history if "seconds" not in name]
    pd.testing.assert_frame_equal(found.history[columns], expected.history[columns])
    loaded = load(tmp_path / "model")
    assert torch.equal(weights(loaded), weights(whole))


def test_further_losses_do_not_move_the_callers_random_numbers() -> None:
    state = torch.get_rng_state()
    models = [model_of(), model_of()]
    torch.set_rng_state(state)
    for model in models:
        quick(model, ring(0), max_epochs=1, auxiliary=further())
    assert torch.get_rng_state().equal(state)
    assert weights(models[0]).equal(weights(models[1]))


def test_further_losses_of_lanes_or_of_counting_are_refused() -> None:
    with pytest.raises(ValueError, match="Auxiliary losses read whole sessions"):
        quick(GRU4Rec(NUM_ITEMS, 8), ring(0), lanes=4, auxiliary=[DwellTime()])
    for options in ({"auxiliary": [DwellTime()]}, {"augmentation": ClickDropout()}):
        with pytest.raises(ValueError, match="Popularity counts sessions as they are"):
            fit(Popularity(NUM_ITEMS), ring(0), **options)
