"""Models in a folder: weights, settings and catalog, and never a pickled object."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from graphseq.data.catalog import Catalog
from graphseq.data.folders import replacing
from graphseq.data.vocabulary import Vocabulary
from graphseq.models.base import SessionModel

FORMAT = "graphseq.model"
FORMAT_VERSION = 1
HEADER = "model.json"
WEIGHTS = "weights.safetensors"
ITEMS = "items.parquet"
USERS = "users.parquet"
ITEM_FEATURES = "item_features.parquet"
FILES = {HEADER, WEIGHTS, ITEMS, USERS, ITEM_FEATURES}
CLICK_FEATURE = "click_feature_{}.parquet"
"""The values of a click feature, numbered as the header lists them."""


def save(model: SessionModel, folder: str | PathLike[str]) -> None:
    """Writes a model to a folder, from which :func:`load` makes it again.

    The folder holds ``weights.safetensors``, ``model.json`` (class, settings, format, versions) and
    the catalog as Parquet: ids and training counts of items, users, features. All is written
    to a folder beside it, which then gets the name, so that a folder of that name is always whole;
    a model that was saved there before is replaced.

    Args:
        model: Any model whose settings are numbers, text, lists or dicts of these.
        folder: The folder to make; folders above it are made as well.

    Raises:
        ValueError: If the folder holds anything but a saved model or cannot be written, or a
            setting, an id or a feature has a type that these files have no place for.
    """
    folder = Path(fspath(folder)).resolve()  # through a link, to the folder itself
    from graphseq.models import MODELS  # it imports the models

    names = [name for name, known in MODELS.items() if known is type(model)]
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": names[0] if names else None,
        "class": type(model).__name__,
        "settings": {name: _plain(name, value) for name, value in model.settings.items()},
        "catalog": None if model.catalog is None else {},
        "versions": {
            "graphseq": _version("graphseq"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
    with replacing(folder) as part:
        _refuse_to_replace(folder)
        try:
            save_file(_weights(model), part / WEIGHTS)
        except SafetensorError as error:  # a full disk, for one
            raise OSError(str(error)) from error
        if model.catalog is not None:
            header["catalog"] = _save_catalog(model.catalog, part)
        (part / HEADER).write_text(json.dumps(header, indent=2) + "\n", encoding="utf-8")


def load(
    folder: str | PathLike[str], *, model_class: type[SessionModel] | None = None
) -> SessionModel:
    """The model that :func:`save` wrote: same scores, same ids. On the CPU, in ``eval`` mode.

    Args:
        folder: The folder.
        model_class: The class of a model that is not in :data:`graphseq.models.MODELS`.

    Raises:
        ValueError: If the folder holds no saved model, one of a newer format or of an unknown
            class, or one of its files is missing, broken or cut off.
    """
    folder = Path(fspath(folder))
    header = _header(folder)
    model_class = _class_of(header, model_class, folder)
    try:
        with torch.random.fork_rng(devices=[]):  # first weights are drawn, then replaced
            model = model_class(**header["settings"])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{folder / HEADER} does not fit {model_class.__name__}: {error}."
        ) from error
    try:
        weights = load_file(folder / WEIGHTS)
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if name in weights:
                tensor.data = tensor.data.to(weights[name].dtype)
        model.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ValueError(f"{folder / WEIGHTS} is missing, broken or cut off: {error}.") from error
    if header.get("catalog") is not None:
        model.catalog = _load_catalog(folder, header["catalog"])
        if model.catalog.num_items != model.num_items:
            raise ValueError(
                f"{folder} holds a catalog of {model.catalog.num_items} items for a model of "
                f"{model.num_items}: its files are not of one model."
            )
    return model.eval()


def _weights(model: SessionModel) -> dict[str, Tensor]:
    """The state of a model, on the CPU; weights that are shared are written each time."""
    weights, storages = {}, set()
    for name, tensor in model.state_dict().items():
        tensor = tensor.detach().cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        weights[name] = tensor.clone() if storage in storages else tensor
        storages.add(storage)
    return weights


def _class_of(
    header: dict[str, Any], model_class: type[SessionModel] | None, folder: Path
) -> type[SessionModel]:
    from graphseq.models import MODELS  # it imports the models

    if model_class is not None:
        if model_class.__name__ != header["class"]:
            raise ValueError(
                f"{folder} holds a {header['class']}, not the {model_class.__name__} given as "
                "model_class."
            )
        return model_class
    if header.get("model") is None:
        raise ValueError(
            f"{folder} holds a {header['class']}, a class of your own: give it to "
            f"load(folder, model_class={header['class']})."
        )
    if header["model"] not in MODELS:
        raise ValueError(
            f"{folder} holds a model {header['model']!r}; this graphseq knows "
            f"{', '.join(MODELS)}: install the version that it was saved with, "
            f"{header['versions'].get('graphseq')}."
        )
    return MODELS[header["model"]]


def _header(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}.")
    path = folder / HEADER
    if not path.is_file():
        raise ValueError(f"{folder} holds no saved model: model.save(folder) makes such a folder.")
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is broken or cut off: {error}.") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError(f"{folder} holds no saved model: model.save(folder) makes such a folder.")
    missing = sorted({"format_version", "class", "settings", "versions"} - header.keys())
    if missing:
        raise ValueError(f"{path} is broken: it does not say {', '.join(missing)}.")
    if header["format_version"] > FORMAT_VERSION:
        raise ValueError(
            f"{folder} was saved in format {header['format_version']}, this graphseq reads up to "
            f"{FORMAT_VERSION}: install graphseq {header['versions'].get('graphseq')} or newer."
        )
    return header


def _plain(name: str, value: Any) -> Any:
    """A setting as JSON has it, or a sentence that says that it has not."""
    value = value.item() if isinstance(value, np.generic) else value
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The setting {name}={value!r} cannot be saved: settings are numbers, text, and lists "
            "or dicts of these."
        ) from error
    return value


def _save_catalog(catalog: Catalog, folder: Path) -> dict[str, Any]:
    """Writes the catalog's files; returns how ids are kept."""
    counts = np.asarray(catalog.counts)
    kept: dict[str, Any] = {"users": None, "click_features": []}
    kept["items"] = _write_ids(folder / ITEMS, catalog.items, {"count": counts})
    if catalog.users is not None:
        kept["users"] = _write_ids(folder / USERS, catalog.users, {})
    if catalog.item_features is not None:
        _write(folder / ITEM_FEATURES, catalog.item_features.reset_index(drop=True))
    for number, (name, vocabulary) in enumerate(catalog.click_vocabularies.items()):
        way = _write_ids(folder / CLICK_FEATURE.format(number), vocabulary, {})
        kept["click_features"].append({"name": name, "ids": way})
    return {**kept, "item_features": catalog.item_features is not None}


def _load_catalog(folder: Path, kept: dict[str, Any]) -> Catalog:
    items = _read(folder / ITEMS)
    users = None if kept["users"] is None else _read(folder / USERS)
    return Catalog(
        _vocabulary(items, kept["items"]),
        items["count"].to_numpy(dtype=np.int64),
        None if users is None else _vocabulary(users, kept["users"]),
        _read(folder / ITEM_FEATURES) if kept["item_features"] else None,
        {
            feature["name"]: _vocabulary(_read(folder / CLICK_FEATURE.format(n)), feature["ids"])
            for n, feature in enumerate(kept.get("click_features", []))  # none in older folders
        },
    )


def _write_ids(path: Path, vocabulary: Vocabulary, columns: dict[str, Any]) -> str:
    """Writes ids and what goes with them; returns "typed", or "json" for ids of several types."""
    ids, kept = vocabulary.ids, "typed"
    if ids.dtype == object:
        odd = [value for value in ids if type(value) not in (int, str, float, bool)]
        if odd:
            raise ValueError(
                f"An id of type {type(odd[0]).__name__}, {odd[0]!r}, cannot be saved: integers, "
                "text, numbers and dates can."
            )
        ids, kept = pd.Index([json.dumps(value) for value in ids]), "json"
    _write(path, pd.DataFrame({"id": ids, **columns}))
    return kept


def _vocabulary(frame: pd.DataFrame, kept: str) -> Vocabulary:
    if kept == "json":
        return Vocabulary([json.loads(text) for text in frame["id"]])
    return Vocabulary(pd.Index(frame["id"], name=None))


def _write(path: Path, frame: pd.DataFrame) -> None:
    try:
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path)
    except pa.ArrowException as error:
        raise ValueError(f"{path.stem} cannot be saved as Parquet: {error}.") from error


def _read(path: Path) -> pd.DataFrame:
    try:
        frame: pd.DataFrame = pq.read_table(path).to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is missing, broken or cut off: {error}.") from error
    return frame


def _refuse_to_replace(folder: Path) -> None:
    """Only what :func:`save` wrote may be replaced by it."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file: choose the name of a folder.")
    present = {path.name for path in folder.iterdir()}
    features = {CLICK_FEATURE.format(number) for number in range(len(present))}
    foreign = sorted(present - FILES - features)
    if foreign or (present and HEADER not in present):
        raise ValueError(
            f"{folder} holds {', '.join(foreign or sorted(present))}, which no saved model has: "
            "choose another folder."
        )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # used from a checkout
        return "not installed"
