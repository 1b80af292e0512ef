"""Training on shards in one process; two processes are in test_ranks."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from graphseq.data.graphs.augment import ClickDropout
from graphseq.data.loading.shards import Shards, build_shards, open_shards
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.evaluation import evaluate
from graphseq.models import GCEGNN, SRGNN, GRU4Rec, Popularity, SASRec
from graphseq.models.base import SessionModel
from graphseq.models.use.grow import grow
from graphseq.training import Contrastive, DwellTime, FitResult, SampledLoss, fit
from graphseq.training.lightning import module

NUM_ITEMS = 12


def ring(seed: int, number: int = 90) -> Sessions:
    """Each item is followed by the next one; ids are tens, and their codes go the other way."""
    start = np.random.default_rng(seed).integers(0, NUM_ITEMS, (number, 1))
    lists = (10 * ((start + np.arange(5)) % NUM_ITEMS)).tolist()
    return Sessions.from_lists(lists, vocabulary=Vocabulary(10 * np.arange(NUM_ITEMS)[::-1]))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    folder = tmp_path_factory.mktemp("shards")
    frame = ring(0).to_frame()
    frame["shelf"] = frame["item_id"] // 40
    pq.write_table(pa.Table.from_pandas(frame), folder / "log.parquet")
    features = pd.DataFrame({"weight": np.arange(12.0)}, index=10 * np.arange(12))
    columns: dict[str, Any] = {"features": ["shelf"], "item_features": features}
    build_shards(folder / "log.parquet", folder / "shards", 3, **columns)
    return Shards(folder / "shards")


def sasrec() -> SASRec:
    torch.manual_seed(0)
    return SASRec(NUM_ITEMS, 16, 1, max_length=6)


def weights(model: SessionModel) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def quick(model: SessionModel, data: Any, **options: Any) -> FitResult:
    settings = {"max_epochs": 3, "batch_size": 16, "learning_rate": 0.02, "progress": False}
    return fit(model, data, **(settings | options))


@pytest.mark.parametrize(("make", "epochs"), [(sasrec, 20), (lambda: SRGNN(NUM_ITEMS, 16), 4)])
def test_training_on_shards_learns_the_ring_of_every_session(
    make: Any, epochs: int, shards: Shards
) -> None:
    model = make()
    result = quick(model, shards, loss=SampledLoss(num_negatives=8), max_epochs=epochs)
    assert result.history["targets"].tolist() == [90 * 4] * len(result.history)
    assert evaluate(model, ring(2), ks=(1,)).metrics["hr@1"] > 0.95


def test_model_of_shards_knows_the_catalog_of_the_whole_log(shards: Shards) -> None:
    model, whole = sasrec(), open_shards(shards.folder, rank=0, world_size=1).catalog()
    quick(model, shards, max_epochs=1)
    assert model.catalog is not None
    assert model.catalog.items == whole.items
    assert model.catalog.counts.tolist() == whole.counts.tolist()
    assert model.catalog.item_features is not None
    assert model.catalog.item_features.equals(whole.item_features)
    assert model.catalog.click_vocabularies == whole.click_vocabularies


@pytest.mark.parametrize(
    "options",
    [
        {"loss": SampledLoss(num_negatives=4, shared=False)},
        {"augmentation": ClickDropout(0.3), "num_workers": 1},
    ],
)
def test_training_on_shards_resumed_equals_one_that_never_stopped(
    options: dict[str, Any], shards: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, again, halves, fresh = (sasrec() for _ in range(4))
    quick(whole, shards, **options)
    quick(again, shards, **options)
    assert torch.equal(weights(again), weights(whole))

    def interrupting(seed: int, epoch: int, step: int, rank: int) -> int:
        if (epoch, step) == (1, 3):
            signal.raise_signal(signal.SIGINT)
        return seed_step(seed, epoch, step, rank)

    seed_step = module.seed_step
    with monkeypatch.context() as patch:
        patch.setattr(module, "seed_step", interrupting)
        assert quick(halves, shards, out=tmp_path, **options).interrupted
    assert not torch.equal(weights(halves), weights(whole))
    quick(fresh, shards, resume=True, out=tmp_path, **options)
    assert torch.equal(weights(fresh), weights(whole))


def test_shards_are_read_in_the_codes_of_a_model_that_knows_its_items(shards: Shards) -> None:
    model = sasrec()
    quick(model, ring(3), max_epochs=15)  # whose codes go the other way
    assert model.catalog is not None
    assert model.catalog.items != shards[0].vocabulary
    before = weights(model)
    quick(model, shards, max_epochs=1, learning_rate=1e-9)
    torch.testing.assert_close(weights(model), before)
    counts = dict(zip(model.catalog.items.ids, model.catalog.counts, strict=True))
    assert counts == dict(zip(shards[0].vocabulary.ids, shards.counts, strict=True))
    history = quick(model, shards, max_epochs=1, learning_rate=1e-9).history
    assert history["loss"][0] < 1  # it knows these sessions; chance is log(12) = 2.5

    small = SASRec(3, 8)
    quick(small, Sessions.from_lists([[0, 10, 20], [20, 10]]), max_epochs=1)
    with pytest.raises(ValueError, match="9 of 12 items of these sessions"):
        quick(small, shards)
    quick(grow(small, shards.each_item_once()), shards, max_epochs=1)


def test_what_cannot_be_had_of_shards_is_refused(
    shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="got lanes=4 and max_clicks=None: use batch_size"):
        quick(GRU4Rec(NUM_ITEMS, 8), shards, lanes=4)
    with pytest.raises(ValueError, match="got lanes=None and max_clicks=64: use batch_size"):
        quick(sasrec(), shards, max_clicks=64)
    with pytest.raises(ValueError, match=r"open_shards\(folder, rank=0, world_size=1\)"):
        quick(Popularity(NUM_ITEMS), shards)
    with pytest.raises(ValueError, match="The model has 5 items, the training data 12"):
        quick(SASRec(5, 8), shards)
    with pytest.raises(ValueError, match=r"call model\.attach\("):
        quick(GCEGNN(NUM_ITEMS, 8), shards)
    with pytest.raises(ValueError, match="pass a split, sessions or a dataset"):
        quick(sasrec(), shards, auxiliary=[Contrastive(same_target=True)])
    with pytest.raises(ValueError, match="DwellTime learns from the times of clicks"):
        quick(sasrec(), shards, auxiliary=[DwellTime()])
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    with pytest.raises(ValueError, match="3 shards of 360 samples give process 0 of 4 none"):
        quick(SRGNN(NUM_ITEMS, 8), shards, devices=4)
