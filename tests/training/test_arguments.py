"""Wrong arguments of ``fit``: one sentence that says what was expected, and nothing is changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader, NeighborLoader
from torch_geometric.transforms import ToUndirected

import graphseq as gs
from graphseq.data import SessionGraphDataset, SessionGraphLoader
from graphseq.models import SRGNN, MarkovChain, SASRec
from graphseq.models.base import SessionModel
from graphseq.training import DwellTime
from graphseq.training.lightning.distributed import LaunchConfig

LISTS = [[0, 1, 2], [1, 2, 3], [2, 3, 0], [3, 0, 1], [0, 1]]
SESSIONS = gs.Sessions.from_lists(LISTS)
SPLIT = gs.session_split(SESSIONS, 0.3, seed=0)
V = SPLIT.num_items


class Bare(SessionModel):
    """A model with nothing to learn."""

    def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
        return torch.zeros(batch.num_graphs, self.num_items if items is None else len(items))


def frozen() -> SessionModel:
    model = SRGNN(V, 4)
    model.requires_grad_(False)
    return model


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (
            SESSIONS,
            SRGNN(V, 4),
            r"the model first and then the data, got a Sessions and then a SRG",
        ),
        (SPLIT, MarkovChain(V), r"the model first and then the data, got a Split and then a Mark"),
        (SRGNN, SPLIT, r"got the class SRGNN: build one, SRGNN\(num_items=split\.num_items\)"),
        (torch.nn.Linear(2, 2), SPLIT, "a subclass of SessionModel, got a Linear"),
        ("srgnn", SPLIT, "a subclass of SessionModel, got 'srgnn'"),
        (None, SPLIT, "a subclass of SessionModel, got None"),
        (Bare(V), SPLIT, "Bare has no parameter that learns, so there is nothing to train"),
        (frozen(), SPLIT, "SRGNN has no parameter that learns"),
    ],
)
def test_what_is_no_model_that_learns_is_named(model: Any, data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gs.fit(model, data, progress=False)


@pytest.mark.parametrize("model", [SRGNN(V, 4), MarkovChain(V)], ids=["neural", "counting"])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (LISTS, r"got a list of a list: make sessions .* gs\.Sessions\.from_lists\(lists\) first"),
        ([], "got a list with nothing in it"),
        ([1, 2, 3], "got a list of 1"),
        (tuple(map(tuple, LISTS)), "got a tuple of a tuple: make sessions of lists"),
        (np.zeros((3, 2), dtype=int), "got a ndarray of a ndarray: make sessions of lists"),
        (torch.zeros(3, 2), "got a Tensor of a Tensor: make sessions of lists"),
        (pd.DataFrame({"session_id": [0], "item_id": [0]}), r"a DataFrame: .*from_frame\(frame, "),
        ("log.csv", r"got 'log\.csv': read it by gs\.Sessions\.from_frame\(path"),
        (Path("log.csv"), r"got a PosixPath: read it by gs\.Sessions\.from_frame"),
        ({"train": SESSIONS}, "SessionGraphDataset or a loader of batches, got a dict"),
        (None, "a loader of batches, got None"),
        (3, "data is a Split, Sessions, Shards, .* got 3"),
        ((batch for batch in ()), "got a generator, which can be read once, and each epoch reads"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_what_is_no_data_is_named_with_the_way_out(
    model: SessionModel, data: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        gs.fit(model, data, progress=False)


@pytest.mark.parametrize("loader", ["none", "own", "foreign"])
@pytest.mark.parametrize("name", ["srgnn", "bst_ranker"])
def test_samples_that_a_model_is_not_trained_on_are_refused(name: str, loader: str) -> None:
    dataset = SessionGraphDataset(SESSIONS, "sessions")
    data = {
        "none": lambda: dataset,
        "own": lambda: SessionGraphLoader(dataset, 2),
        "foreign": lambda: DataLoader(dataset, 2),
    }[loader]()
    model = gs.models.MODELS[name](V)
    message = "is trained on prefixes, .* samples='sessions', .* samples='prefixes'"
    with pytest.raises(ValueError, match=message):
        gs.fit(model, data, progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resume": "no"}, "resume must be true or false, got 'no'"),
        ({"progress": 0}, "progress must be true or false, got 0"),
        ({"devices": "2"}, "devices must be a whole number, got '2'"),
        ({"devices": 0}, "devices must be at least 1, got 0"),
        ({"devices": 1.0}, r"devices must be a whole number, got 1\.0"),
        ({"num_nodes": True}, "num_nodes must be a whole number, got True"),
        ({"num_workers": -1}, "num_workers must not be negative, got -1"),
        ({"num_workers": 1.5}, r"num_workers must be a whole number, got 1\.5"),
        ({"validation": SPLIT}, "validation is Sessions, .* got a whole Split: pass split.valid"),
        ({"validation": LISTS}, "validation is Sessions, got a list"),
        ({"validation": 0.1}, r"validation is Sessions, got 0\.1"),
        ({"augmentation": 0.2}, r"augmentation is one of gs\.data, .*, got 0\.2"),
        ({"auxiliary": DwellTime()}, r"auxiliary is a list of further losses, .* got a DwellTime"),
        ({"auxiliary": [0.1]}, r"auxiliary is a list of further losses, .* got 0\.1 in it"),
        ({"auxiliary": None}, "auxiliary is a list of further losses, .* got None"),
        ({"out": 3}, "out is the path of a folder, got 3"),
        ({"on_epoch": 3}, "on_epoch is a function of a row of the history, got 3"),
        ({"settings": {"max_epochs": 3}}, r"got a dict: pass TrainingSettings\.from_dict\(settin"),
        ({"settings": 5}, r"settings are TrainingSettings, got 5: pass gs\.TrainingSettings"),
        ({"max_epochs": 1.0}, r"max_epochs must be a whole number, got 1\.0"),
    ],
)
def test_further_argument_of_another_type_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gs.fit(SASRec(V, 4), SPLIT, **{"progress": False, **options})


@pytest.mark.parametrize("device", ["gpu", "tpu9", "cuda:x", "", "CPU", "xpu", "meta", 0, None])
def test_unknown_device_is_named_with_those_there_are(device: Any) -> None:
    with pytest.raises(ValueError, match=r"device is 'cpu', 'cuda', 'cuda:1', 'mps' or 'auto', g"):
        gs.fit(SASRec(V, 4), SPLIT, device=device, progress=False)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:2", torch.device("cuda"), "mps"])
def test_device_that_is_not_there_says_how_many_are(
    device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(
        ValueError, match=r"is not there, this machine has 0 of '(cuda|mps)': use d"
    ):
        LaunchConfig.from_arguments(device)


def test_number_of_a_device_is_compared_with_how_many_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert LaunchConfig.from_arguments("cuda:1").devices == [1]
    with pytest.raises(ValueError, match="'cuda:2' is not there, this machine has 2 of 'cuda'"):
        LaunchConfig.from_arguments("cuda:2")


DATASET = SessionGraphDataset(SESSIONS, transform=ToUndirected())


@pytest.mark.parametrize(
    "data", [DATASET, SessionGraphLoader(DATASET, 2), DataLoader(DATASET, 2), DATASET[:3]]
)
@pytest.mark.parametrize("model", [SRGNN(V, 4), MarkovChain(V)])
def test_transform_of_the_data_alone_is_refused_with_the_way_to_have_it_everywhere(
    model: SessionModel, data: Any
) -> None:
    with pytest.raises(ValueError, match=r"transform=ToUndirected\(\), which evaluate, recommend"):
        gs.fit(model, data)


class Undirected(SRGNN):
    """SR-GNN on graphs without directions, as the message has it."""

    def forward(self, batch: Batch) -> Tensor:
        return super().forward(gs.data.transformed(ToUndirected(), batch))


def test_transform_in_the_model_applies_in_training_evaluation_and_recommendation() -> None:
    gs.testing.check_model(Undirected, hidden_channels=4)
    plain, model = SRGNN(V, 4), Undirected(V, 4)
    model.load_state_dict(plain.state_dict())
    for each in (plain, model):
        gs.fit(each, SESSIONS, max_epochs=1, progress=False)
    batch = SessionGraphDataset(SESSIONS).batch([0, 1, 2])
    with torch.no_grad():
        assert not torch.allclose(model.score(batch), plain.score(batch))
        plain.load_state_dict(model.state_dict())
        wanted = plain.score(
            SessionGraphDataset(SESSIONS, transform=ToUndirected()).batch([0, 1, 2])
        )
        assert torch.allclose(model.score(batch), wanted)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([Data(x=torch.arange(3))], "got a list of Data, which lacks the order of clicks"),
        (object.__new__(NeighborLoader), "got a NeighborLoader, which cuts nodes out of graphs"),
    ],
)
def test_data_of_pyg_that_are_no_session_graphs_are_named(data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gs.fit(SRGNN(V, 4), data)
