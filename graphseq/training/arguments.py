"""Arguments of ``fit``, checked by type: one sentence states what was expected, and the way out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Any

import torch
from torch.utils.data import DataLoader
from torch_geometric.data import Data
from torch_geometric.loader import LinkLoader, NodeLoader

from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.graphs.session_graph import SessionGraph
from graphseq.data.loading.loader import EpochLoader
from graphseq.data.loading.shards import Shards
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.splits.splits import Split
from graphseq.models.base import SessionModel
from graphseq.models.counting.counting import CountingModel
from graphseq.training.objectives.auxiliary import Auxiliary
from graphseq.training.rules import Flag, Rule, Whole
from graphseq.training.settings import TrainingSettings

KINDS = "a Split, Sessions, Shards, a SessionGraphDataset or a loader of batches"

RULES: dict[str, Rule] = {
    "resume": Flag(),
    "progress": Flag(),
    "devices": Whole(1, none="takes one, or those that torchrun has started"),
    "num_nodes": Whole(1, none="takes one, or those of torchrun"),
    "num_workers": Whole(0),
}


def check_model(model: object, data: object) -> None:
    """Refuses anything but a model, and a model without trainable parts.

    Raises:
        ValueError: If it is not.
    """
    if isinstance(data, SessionModel) and not isinstance(model, SessionModel):
        raise ValueError(
            f"fit takes the model first and then the data, got {_kind(model)} and then a "
            f"{type(data).__name__}: fit(model, data)."
        )
    if isinstance(model, type):
        raise ValueError(
            f"fit takes a model, got the class {model.__name__}: build one, "
            f"{model.__name__}(num_items=split.num_items)."
        )
    if not isinstance(model, SessionModel):
        way_out = ""
        if isinstance(model, torch.nn.Module):
            way_out = (
                ": derive it from graphseq.models.SessionModel, with forward(batch) for session "
                "vectors and items = gs.nn.ItemTable(...), or with score(batch, items)"
            )
        raise ValueError(
            f"fit takes a model of gs.models or a subclass of SessionModel, got {_kind(model)}"
            f"{way_out}."
        )
    if isinstance(model, CountingModel):
        return
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(
            f"{type(model).__name__} has no parameter that learns, so there is nothing to train: "
            "give it parameters, or subclass CountingModel for one that counts."
        )


def check_data(data: object) -> None:
    """Refuses data without samples, and says how to make them.

    Raises:
        ValueError: If data is of another kind.
    """
    if isinstance(data, (NodeLoader, LinkLoader)):
        raise ValueError(
            f"data is {KINDS}, got a {type(data).__name__}, which cuts nodes out of graphs: "
            "session graphs are read whole, gs.SessionGraphLoader(dataset) gives batches of them."
        )
    if isinstance(data, (Split, Sessions, Shards, SessionGraphDataset, EpochLoader, DataLoader)):
        return
    got = f"data is {KINDS}, got {_kind(data)}"
    if isinstance(data, (str, bytes, PathLike)):
        raise ValueError(f"{got}: read it by gs.Sessions.from_frame(path, ...) first.")
    if hasattr(data, "columns"):  # a frame of any library
        raise ValueError(f"{got}: make sessions of it by gs.Sessions.from_frame(frame, ...) first.")
    if isinstance(data, Mapping) or not hasattr(data, "__iter__"):
        raise ValueError(f"{got}.")
    if isinstance(data, (list, tuple)) or hasattr(data, "__array__"):
        odd = next((each for each in data if not isinstance(each, SessionGraph)), None)
        if isinstance(odd, Data):
            raise ValueError(
                f"{got} of {type(odd).__name__}, which lacks the order of clicks: "
                "gs.data.build_session_graphs(items, ptr, y=targets) makes batches of session "
                "graphs."
            )
        if odd is not None or len(data) == 0:  # type: ignore[arg-type]
            of = "with nothing in it" if odd is None else f"of {_kind(odd)}"
            raise ValueError(
                f"{got} {of}: make sessions of lists of item ids by "
                "gs.Sessions.from_lists(lists) first."
            )
    elif iter(data) is data:
        raise ValueError(
            f"{got}, which can be read once, and each epoch reads it: pass a list of its batches, "
            "or a loader."
        )


def check_samples(model: SessionModel, data: object) -> None:
    """Refuses samples on which a model is not trained.

    Raises:
        ValueError: If whole sessions, with one target per click, go to one trained on prefixes, or
            a dataset has a transform, which belongs to the model.
    """
    dataset = data.graphs if isinstance(data, EpochLoader) else getattr(data, "dataset", data)
    if not isinstance(dataset, SessionGraphDataset):
        return
    if dataset.transform is not None:
        raise ValueError(
            f"The dataset has transform={dataset.transform}, which evaluate, recommend and a "
            "loaded model would not apply: build the dataset without it, and let the model begin "
            "with batch = gs.data.transformed(transform, batch) in its forward."
        )
    if isinstance(model, CountingModel):
        return
    if dataset.samples == "sessions" and model.samples in ("prefixes", "pairs"):
        raise ValueError(
            f"{type(model).__name__} is trained on prefixes, with one target each, got a dataset "
            "of samples='sessions', with one per click: build "
            "SessionGraphDataset(sessions, samples='prefixes')."
        )


def check_others(
    settings: object,
    validation: object,
    augmentation: object,
    auxiliary: object,
    out: object,
    on_epoch: object,
    **ruled: Any,
) -> None:
    """Refuses further arguments of a wrong type.

    Args:
        settings, validation, augmentation, auxiliary, out, on_epoch: As ``fit`` was given them.
        **ruled: Arguments that have a rule.

    Raises:
        ValueError: If one is wrong.
    """
    for name, rule in RULES.items():
        rule.check(name, ruled[name])
    if settings is not None and not isinstance(settings, TrainingSettings):
        way_out = (
            "TrainingSettings.from_dict(settings)"
            if isinstance(settings, Mapping)
            else "gs.TrainingSettings(...), and validation=, out= and others by their names"
        )
        raise ValueError(f"settings are TrainingSettings, got {_kind(settings)}: pass {way_out}.")
    if isinstance(validation, Split):
        raise ValueError(
            "validation is Sessions, one part of a split, got a whole Split: pass "
            "split.validation, or the split as data."
        )
    if validation is not None and not isinstance(validation, Sessions):
        raise ValueError(f"validation is Sessions, got {_kind(validation)}.")
    if augmentation is not None and not callable(augmentation):
        raise ValueError(
            f"augmentation is one of gs.data, several in PyG's Compose, or a function of your own, "
            f"got {_kind(augmentation)}."
        )
    many = isinstance(auxiliary, (Sequence, torch.nn.ModuleList))
    odd = (
        [a for a in auxiliary if not isinstance(a, Auxiliary)]
        if isinstance(auxiliary, Iterable)
        else []
    )
    if not many or odd:
        raise ValueError(
            "auxiliary is a list of further losses, as [gs.training.Contrastive(...)], got "
            f"{_kind(odd[0]) + ' in it' if odd else _kind(auxiliary)}."
        )
    if out is not None and not isinstance(out, (str, PathLike)):
        raise ValueError(f"out is the path of a folder, got {_kind(out)}.")
    if on_epoch is not None and not callable(on_epoch):
        raise ValueError(f"on_epoch is a function of a row of the history, got {_kind(on_epoch)}.")


def _kind(value: object) -> str:
    """The type of a value, with an article; a plain value itself."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
