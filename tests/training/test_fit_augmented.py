"""Training with augmentations and hard negatives: it learns, and resumes as if never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from graphseq.data.augment import ClickDropout
from graphseq.data.dataset import SessionGraphDataset
from graphseq.data.loader import SessionGraphLoader
from graphseq.data.sessions import Sessions
from graphseq.data.vocabulary import Vocabulary
from graphseq.evaluation import evaluate
from graphseq.models import GRU4Rec, SASRec
from graphseq.models.base import SessionModel
from graphseq.training import FitResult, SampledLoss, fit

NUM_ITEMS = 10


def ring(seed: int, number: int = 60, length: int = 6) -> Sessions:
    start = np.random.default_rng(seed).integers(0, NUM_ITEMS, (number, 1))
    items = (start + np.arange(length)) % NUM_ITEMS
    return Sessions.from_lists(items.tolist(), vocabulary=Vocabulary(np.arange(NUM_ITEMS)))


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
