"""The kind of training samples: whole sessions, or each prefix as a sample of its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch_geometric.data import Batch

from graphseq.data import SessionGraphDataset, Sessions, session_split
from graphseq.models import MODELS, SRGNN, SASRec, SessionModel
from graphseq.models.reading import TrainingRows
from graphseq.training import fit

LISTS = [[0, 1, 2, 3], [2, 0], [3, 3, 1, 0, 2], [1, 2, 1]]
TARGETS = sum(len(items) - 1 for items in LISTS)

IN_ONE_PASS = sorted(
    name
    for name, family in MODELS.items()
    if family.samples == "sessions" and family.causal and not name.startswith("with_")
)
"""Families that train all clicks of a session in one pass, apart from the wrappers."""


def new_model(name: str) -> SessionModel:
    more = {"embedding_dropout": 0.0} if name == "core" else {}
    return MODELS[name](4, hidden_channels=8, dropout=0.0, **more)


def history(model: SessionModel, **options: Any) -> dict[str, float]:
    result = fit(model, Sessions.from_lists(LISTS), max_epochs=1, progress=False, **options)
    return dict(result.history.iloc[0])


@pytest.mark.parametrize("name", IN_ONE_PASS)
def test_prefixes_have_the_loss_of_one_pass_before_the_first_step(name: str) -> None:
    # One batch of all targets: its loss is that of the first weights, where both read the same.
    model = new_model(name)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    one_pass = history(model, samples="sessions")
    model = new_model(name)
    model.load_state_dict(weights)
    prefixes = history(model, samples="prefixes")
    assert one_pass["targets"] == prefixes["targets"] == TARGETS
    assert prefixes["loss"] == pytest.approx(one_pass["loss"], rel=1e-5)


def test_samples_are_those_of_the_model_unless_chosen() -> None:
    class Counted(SASRec):
        graphs = 0

        def training_rows(self, batch: Batch, generator: torch.Generator) -> TrainingRows:
            self.graphs += batch.num_graphs
            return super().training_rows(batch, generator)

    def samples_of(samples: str | None) -> int:
        model = Counted(4, hidden_channels=8)
        history(model, samples=samples)
        return model.graphs

    assert [samples_of(kind) for kind in (None, "sessions", "prefixes")] == [4, 4, TARGETS]


def test_samples_that_do_not_go_with_model_or_data_are_refused() -> None:
    log = Sessions.from_lists(LISTS)
    split = session_split(log, test_fraction=0.5, seed=0)
    with pytest.raises(ValueError, match=r"^SRGNN is trained on prefixes, with one target each, g"):
        fit(SRGNN(split.num_items, 8), split, samples="sessions")
    with pytest.raises(ValueError, match=r"^samples='prefixes' makes samples of sessions, and a S"):
        fit(SASRec(4, 8), SessionGraphDataset(log, "prefixes"), samples="prefixes")
    with pytest.raises(ValueError, match=r"^lanes=2 walks through whole sessions, got samples='pr"):
        fit(MODELS["gru4rec"](4, 8), log, lanes=2, samples="prefixes")
