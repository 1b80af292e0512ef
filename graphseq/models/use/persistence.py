"""Models in a folder: weights, settings and catalog, never a pickled object."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.data.storage import (
    Folder,
    FolderKind,
    FolderWriter,
    check_ids_can_be_saved,
    check_replaceable,
    open_folder,
    write_folder,
)
from graphseq.data.storage.documents import json_text, parse_json
from graphseq.data.storage.rules import (
    anything,
    check_arguments,
    flag,
    list_of,
    mapping_of,
    optional,
    record,
    text,
)
from graphseq.deprecation import in_new_names
from graphseq.models.base import SessionModel
from graphseq.models.recommender import model_method
from graphseq.models.registry import MODELS, name_of
from graphseq.models.use.rounding import Precision, in_full, in_precision
from graphseq.nn.chance import OwnDraws

MODEL = FolderKind(
    format="graphseq.model",
    version=2,
    header="model.json",
    holds="saved model",
    made_by="model.save",
    rules={
        "model": optional(text()),
        "class": text(),
        "settings": mapping_of(anything()),
        "catalog": optional(
            record({"users": flag(), "click_features": list_of(text()), "item_features": flag()})
        ),
        "versions": mapping_of(text()),
    },
)

WEIGHTS = "weights.safetensors"

ROUNDED = "rounded"
"""Entry of the file of weights that lists those with fewer bits."""

OLD_WEIGHTS = {
    "item_embedding.": "items.",
    "output_embedding.": "items.",
    "embedding.weight": "items.weight",
    "bias": "items.bias",
    "item_table.": "items.features.",
    "position_embedding.": "positions.",
    "lin_item.": "items.lin.",
    "gap_embedding.": "gaps.",
}
"""Prefixes of weight names before graphseq 0.2 -> current prefixes."""


@model_method
def save(
    model: SessionModel, folder: str | PathLike[str], *, precision: Precision = "float32"
) -> None:
    """Writes a model to a folder; :func:`load` reads it.

    The folder holds ``weights.safetensors``, ``model.json`` (class, settings, versions, and size
    and checksum of every file) and the catalog: ids and training counts of items, users, features.
    It is written to a temporary folder, then renamed atomically: a reader gets the complete old or
    new model.

    Args:
        model: Any model whose settings are numbers, text, lists or dicts of these.
        folder: The folder to create, or one that holds only a saved model; parent folders are
            created.
        precision: Of tables and matrices in the file: ``"float32"`` is exact, ``"float16"`` takes
            half of the bytes, ``"int8"`` a quarter, with a scale per row. A loaded model computes
            in float32 with the rounded numbers, and is another version.

    Raises:
        ValueError: If the folder holds anything but a saved model or cannot be written, or a
            setting, an id or a feature has a type that these files do not support, or a weight is
            too large for the precision.
    """
    settings = {name: _plain(name, value) for name, value in model.settings.items()}
    weights, rounded = in_precision(_weights(model), precision)
    with write_folder(folder, MODEL) as out:
        out.content = {
            "model": name_of(type(model)),
            "class": type(model).__name__,
            "settings": settings,
            "catalog": None if model.catalog is None else _save_catalog(model.catalog, out),
            "versions": {
                "graphseq": _version("graphseq"),
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        }
        try:
            said = {ROUNDED: json_text(rounded)} if rounded else None
            save_file(weights, out.path / WEIGHTS, said)
        except SafetensorError as error:  # for example a full disk
            raise OSError(str(error)) from error
        out.add_file(WEIGHTS)


def check_can_save(model: SessionModel, folder: str | PathLike[str]) -> None:
    """Raises, before training, the errors that :func:`save` would raise afterwards.

    Args:
        model: The model with its catalog.
        folder: The folder to create later.

    Raises:
        ValueError: If the folder holds anything but a saved model, or a setting, an id or a feature
            has a type that these files do not support.
    """
    check_replaceable(folder, MODEL)
    for name, value in model.settings.items():
        _plain(name, value)
    catalog = model.catalog
    if catalog is None:
        return
    check_ids_can_be_saved(catalog.items.ids, "item ids")
    if catalog.users is not None:
        check_ids_can_be_saved(catalog.users.ids, "user ids")
    for name, vocabulary in catalog.click_vocabularies.items():
        check_ids_can_be_saved(vocabulary.ids, f"values of {name}")
    if catalog.item_features is not None:
        try:
            pa.Table.from_pandas(catalog.item_features.reset_index(drop=True))
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise ValueError(f"The item features cannot be saved as Parquet: {error}.") from error


def load(
    folder: str | PathLike[str],
    *,
    model_class: type[SessionModel] | None = None,
    verify: bool = True,
    expected: str | None = None,
) -> SessionModel:
    """Loads a model that :func:`save` wrote, with the same scores and ids, on the CPU in ``eval``
    mode.

    Args:
        folder: The folder.
        model_class: The class of a model that is not in :data:`graphseq.models.MODELS`.
        verify: Whether checksums of all files are compared. Without it, damage can go unnoticed.
        expected: Checksum of the header, if the enclosing folder states one.

    Raises:
        ValueError: If the folder holds no saved model, one of another version or of an unknown
            class, or one of its files is missing, damaged or of another model.
    """
    with open_folder(folder, MODEL, verify=verify, expected=expected) as opened:
        model_class = _class_of(opened, model_class)
        shown = f"{opened.path / MODEL.header}"
        settings = in_new_names(model_class.__init__, opened.header["settings"])
        check_arguments(model_class, settings, f"the settings of {shown}")
        try:
            weights = {name: value.clone() for name, value in _read_weights(opened).items()}
            weights = _in_new_names(weights)
            model = _built(model_class, settings, weights, shown)
            _fill(model, weights)
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"{opened.path / WEIGHTS} is broken, or of another model than {MODEL.header} says: "
                f"{reason.rstrip('.')}."
            ) from error
        kept = opened.header["catalog"]
        if kept is not None:
            model.catalog = _load_catalog(opened, kept)
            if model.catalog.num_items != model.num_items:
                raise ValueError(
                    f"{folder} holds a catalog of {model.catalog.num_items} items for a model of "
                    f"{model.num_items}: its files are not of one model."
                )
    return model.eval()


def _weights(model: SessionModel) -> dict[str, Tensor]:
    """The state of a model, on the CPU; shared weights are written each time."""
    weights, storages = {}, set()
    for name, tensor in model.state_dict().items():
        tensor = tensor.detach().cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        weights[name] = tensor.clone() if storage in storages else tensor
        storages.add(storage)
    return weights


def _in_new_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a model saved when tables and positions had family-specific names."""
    if any(name.removeprefix("inner.").startswith("items.") for name in weights):
        return weights
    renamed = {}
    for name, value in weights.items():
        prefix = "inner." if name.startswith("inner.") else ""
        own = name.removeprefix(prefix)
        scored_apart = f"{prefix}output_embedding.weight" in weights
        for old, new in OLD_WEIGHTS.items():
            if own.startswith(old):
                new = "input_embedding." if scored_apart and old == "item_embedding." else new
                own = new + own.removeprefix(old)
                break
        renamed[prefix + own] = value
    return renamed


def _read_weights(folder: Folder) -> dict[str, Tensor]:
    path = folder.file(WEIGHTS)
    weights: dict[str, Tensor] = load_file(path)
    with safe_open(path, framework="pt") as opened:
        said = (opened.metadata() or {}).get(ROUNDED)
    if said is None:
        return weights
    try:
        return in_full(weights, parse_json(said.encode(), WEIGHTS))
    except (KeyError, TypeError, ValueError) as error:
        raise RuntimeError(f"its list of rounded weights does not fit: {error}") from error


def _built(
    family: type[SessionModel], settings: dict[str, Any], weights: dict[str, Tensor], shown: str
) -> SessionModel:
    """A model of these settings on the meta device, without memory.

    Nothing is drawn or allocated before sizes are compared. A custom class may keep tensors that
    are not weights, so it is then built in the usual way.
    """
    try:
        with torch.device("meta"):
            model = family(**settings)
    except Exception as error:  # any error of a constructor with foreign settings
        if name_of(family):
            raise ValueError(f"{shown} does not fit {family.__name__}: {error}.") from error
    else:
        for name, tensor in model.state_dict().items():
            found = weights.get(name)
            if found is None or (tensor.numel() and tensor.shape != found.shape):
                raise RuntimeError(
                    f"{name} is {'missing' if found is None else list(found.shape)}, and the "
                    f"settings ask for {list(tensor.shape)}"
                )
        if name_of(family):
            return model
    try:
        with OwnDraws(0):  # torch's own random state, which all threads share, stays as it is
            return family(**settings)
    except Exception as error:
        raise ValueError(f"{shown} does not fit {family.__name__}: {error}.") from error


def _fill(model: SessionModel, weights: dict[str, Tensor]) -> None:
    """Sets the weights of a model, in their saved type; shared weights stay shared."""
    ties: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        ties.setdefault(id(parameter), []).append(name)
    model.load_state_dict(weights, assign=True)
    for first, *others in ties.values():
        for name in others:
            owner, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(owner), attribute, model.get_parameter(first))


def _class_of(folder: Folder, model_class: type[SessionModel] | None) -> type[SessionModel]:
    header = folder.header
    if model_class is not None:
        if model_class.__name__ != header["class"]:
            raise ValueError(
                f"{folder.path} holds a {header['class']}, not the {model_class.__name__} given as "
                "model_class."
            )
        return model_class
    if header["model"] is None:
        raise ValueError(
            f"{folder.path} holds a {header['class']}, a class of your own: give it to "
            f"load(folder, model_class={header['class']})."
        )
    if header["model"] not in MODELS:
        raise ValueError(
            f"{folder.path} holds a model {header['model']!r}; this graphseq knows "
            f"{', '.join(MODELS)}: install the version that it was saved with, "
            f"{header['versions'].get('graphseq')}."
        )
    found: type[SessionModel] = MODELS[header["model"]]
    return found


def _plain(name: str, value: Any) -> Any:
    """A setting as JSON; raises if it cannot be written as JSON."""
    value = value.item() if isinstance(value, np.generic) else value
    try:
        read = parse_json(json_text(value).encode(), name)
    except ValueError as error:
        raise _no_setting(name, value) from error
    if read != _with_lists(value):  # keys of another type come back as text
        raise _no_setting(name, value)
    return value


def _no_setting(name: str, value: Any) -> ValueError:
    return ValueError(
        f"The setting {name}={value!r} cannot be saved: settings are numbers, text, and lists "
        "or dicts of these, with text as keys."
    )


def _with_lists(value: Any) -> Any:
    """A value with lists instead of tuples, as in JSON."""
    if isinstance(value, Mapping):
        return {key: _with_lists(each) for key, each in value.items()}
    return [_with_lists(each) for each in value] if isinstance(value, (list, tuple)) else value


def _save_catalog(catalog: Catalog, out: FolderWriter) -> dict[str, Any]:
    """Writes the catalog's files; returns their entries in the header."""
    out.write_ids("items", catalog.items.ids)
    out.write_array("item_counts", np.asarray(catalog.counts))
    if catalog.users is not None:
        out.write_ids("users", catalog.users.ids)
    for number, vocabulary in enumerate(catalog.click_vocabularies.values()):
        out.write_ids(f"click_{number}_ids", vocabulary.ids)
    if catalog.item_features is not None:
        out.write_table("item_features", catalog.item_features)
    if len(catalog.delisted):
        out.write_array("delisted", catalog.delisted)
    return {
        "users": catalog.users is not None,
        "click_features": list(catalog.click_vocabularies),
        "item_features": catalog.item_features is not None,
    }


def _load_catalog(folder: Folder, kept: dict[str, Any]) -> Catalog:
    counts = np.array(folder.array("item_counts", np.int64))
    if (counts < 0).any():
        raise ValueError(f"{folder.path}/item_counts.npy is broken: a count is negative.")
    nothing = np.empty(0, dtype=np.int64)
    return Catalog(
        Vocabulary.from_unique(folder.ids("items")),
        counts,
        Vocabulary.from_unique(folder.ids("users")) if kept["users"] else None,
        folder.table("item_features") if kept["item_features"] else None,
        {
            name: Vocabulary.from_unique(folder.ids(f"click_{number}_ids"))
            for number, name in enumerate(kept["click_features"])
        },
        np.array(folder.array("delisted", np.int64)) if folder.has_array("delisted") else nothing,
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # used from a checkout
        return "not installed"
