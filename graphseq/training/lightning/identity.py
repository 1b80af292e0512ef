"""Model, data and further parts of a training, as plain values that a checkpoint keeps."""

from __future__ import annotations

import hashlib
import inspect
import reprlib
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import partial
from itertools import zip_longest
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor
from torch.nn import Module, Parameter

from graphseq.data.graphs.augment import Augmentation, ClickAugmentation
from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.loading.loader import EpochLoader
from graphseq.data.loading.shards import Shards
from graphseq.data.sessions.fingerprint import table_fingerprint
from graphseq.data.sessions.sessions import Sessions
from graphseq.models.base import SessionModel
from graphseq.training.lightning.functions import function_told, names_in
from graphseq.training.objectives.auxiliary import Auxiliary

AUXILIARY = "the auxiliary losses"

DEEPEST = 6
"""Objects within objects that are looked into."""


def identity_of(
    model: SessionModel,
    source: Any,
    validation: Sessions | None,
    augmentation: Augmentation | None,
    auxiliary: Sequence[Auxiliary],
    processes: int,
) -> dict[str, Any]:
    """What must be the same when a training resumes, by the name that an error gives it.

    All sessions are read for their fingerprints: some seconds for 100 million clicks. Of a custom
    loader, only what it states about its data is taken.

    Args:
        model: Its class and arguments.
        source: Sessions in the codes of the model, shards, a dataset or a loader.
        validation: Sessions in the codes of the model.
        augmentation, auxiliary: Their classes and arguments.
        processes: How many train together.
    """
    arguments = {f"{name} of the model": described(v) for name, v in model.settings.items()}
    return {
        "the model": type(model).__name__,
        **arguments,
        **_data_of(source),
        "the validation part": described(validation),
        "the augmentation": described(augmentation),
        AUXILIARY: [described(each) for each in auxiliary],
        "the number of processes": processes,
    }


def check_identity(saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuses to resume with another model, other data or other parts.

    Only what both state is compared.

    Args:
        saved: What :func:`identity_of` gave for the checkpoint.
        now: What it gives for the training that resumes.

    Raises:
        ValueError: If one differs; it names both sides.
    """
    for name in [name for name in now if name in saved]:
        here = _in_the_form_of(saved[name], now[name])
        where, then, here = first_difference(name, saved[name], here)
        if then != here:
            others = ", its auxiliary losses are others" if name == AUXILIARY else ""
            raise ValueError(
                f"The checkpoint does not fit this training{others}, by {where}: {shown(then)} "
                f"there, {shown(here)} here; give it the same, or train without resume."
            )


def described(value: Any, depth: int = 0, names: frozenset[str] | None = None) -> Any:
    """A value as plain ones, equal for what does the same, in every process.

    Arrays become their hash, objects their class and attributes, functions their code and what it
    reads; below a depth of ``DEEPEST``, values become their type.

    Args:
        value: The value.
        depth: How deep within other values it was found.
        names: Attributes and keys that the function names which reads the value. Others of an
            object are left out, and others of a mapping if it names any: ``args.resume`` of the
            command line has no part in an optimizer that reads ``args.lr``. ``None``: all.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Sessions):
        return _sessions(value)
    if names is not None and isinstance(value, Parameter):  # the checkpoint has its values
        return f"Parameter {list(value.shape)}"
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return f"{value.dtype} {list(value.shape)} {digest}"
    if isinstance(value, (pd.DataFrame, pd.Series, pd.Index)):
        return f"{type(value).__name__} {table_fingerprint(value)}"
    if depth == DEEPEST:
        return type(value).__qualname__
    if isinstance(value, Mapping):
        named = value if names is None else {key: value[key] for key in value if key in names}
        pairs = (named or value).items()
        return {str(key): described(each, depth + 1, names) for key, each in pairs}
    if isinstance(value, (list, tuple)):
        return [described(each, depth + 1, names) for each in value]
    if isinstance(value, (set, frozenset)):
        return sorted(repr(described(each, depth + 1, names)) for each in value)
    if isinstance(value, partial):
        function = value.func
        read = names_in(function) if isinstance(function, FunctionType) else None
        given = [{key: described(v, depth + 2, read) for key, v in value.keywords.items()}]
        return [described(function, depth + 1), described(value.args, depth + 1, read), *given]
    if isinstance(
        getattr(value, "__func__", value) if type(value) is MethodType else value, FunctionType
    ):
        return function_told(value, depth, described)
    if isinstance(value, type):
        return value.__qualname__
    if isinstance(value, ModuleType):
        return value.__name__
    kind = _kind(value)
    held = vars(value) if hasattr(value, "__dict__") else {}
    if isinstance(value, Module):  # by its arguments: what it has learnt lies in the checkpoint
        accepted = inspect.signature(kind).parameters
        held = {name: getattr(value, name) for name in accepted if hasattr(value, name)}
    elif names is not None and not isinstance(value, Enum):
        held = {name: each for name, each in held.items() if name in names}
    kept = {name: described(each, depth + 1, names) for name, each in held.items()}
    return {"class": kind.__qualname__, **kept}


def _kind(value: object) -> type:
    """The class of a part: of one that extends a part of this package, the one that it extends."""
    own = (each for each in type(value).__mro__ if each.__module__.startswith("graphseq."))
    found = next(own, type(value))
    return type(value) if found in (Auxiliary, ClickAugmentation) else found


def _data_of(source: Any) -> dict[str, Any]:
    if isinstance(source, Sessions):
        return {"the training sessions": _sessions(source)}
    if isinstance(source, Shards):
        return {"the training sessions": f"shards {source.fingerprint()}"}
    if isinstance(source, SessionGraphDataset):
        return {
            "the training sessions": _sessions(source.sessions),
            "the samples": source.samples,
            "max_length of the samples": source.max_length,
            "target_fields of the samples": list(source.target_fields),
        }
    told: dict[str, Any] = {}
    dataset = source.graphs if isinstance(source, EpochLoader) else getattr(source, "dataset", None)
    if isinstance(dataset, SessionGraphDataset):
        told |= _data_of(dataset)
    names = ("batch_size", "drop_last", "max_clicks", "shuffle", "bucket", "num_lanes")
    sampler = getattr(source, "sampler_of_batches", None)
    for part in (source, sampler):
        for name in names:
            value = getattr(part, name, None)
            if isinstance(value, (bool, int, float, str)):
                told[f"{name} of the loader"] = value
    if sampler is not None:
        told["the seed of the loader"] = sampler.seed
    return told


def _sessions(sessions: Sessions) -> dict[str, Any]:
    told: dict[str, Any] = {
        "sessions": sessions.num_sessions,
        "clicks": sessions.num_clicks,
        "fingerprint": sessions.fingerprint(),
    }
    if sessions.item_features is not None:
        told["item features"] = table_fingerprint(sessions.item_features)
    return told


def _in_the_form_of(then: Any, here: Any) -> Any:
    """A description with functions as an earlier checkpoint has them: by name and code alone."""
    if isinstance(here, Mapping):
        if here.keys() >= {"function", "code", "reads"}:
            if isinstance(then, str):
                return f"{here['function']} {here['code']}"
            if then == {"class": "method"}:
                return then
        if isinstance(then, Mapping):
            return {key: _in_the_form_of(then.get(key), each) for key, each in here.items()}
    if isinstance(here, list) and isinstance(then, list) and len(then) == len(here):
        return [_in_the_form_of(*pair) for pair in zip(then, here, strict=True)]
    return here


def first_difference(name: str, then: Any, here: Any) -> tuple[str, Any, Any]:
    """The innermost place where two values differ, and what is there on both sides.

    Args:
        name: What the values are of.
        then, here: The values, as :func:`described` gives them.
    """
    told = isinstance(then, Mapping) and isinstance(here, Mapping)
    if told and then.get("fingerprint") == here.get("fingerprint"):
        for key in [*here, *then]:
            if then.get(key) != here.get(key):
                return first_difference(f"{key} of {name}", then.get(key), here.get(key))
    if isinstance(then, list) and isinstance(here, list) and len(then) == len(here):
        for number, (one, other) in enumerate(zip_longest(then, here)):
            if one != other:
                return first_difference(f"number {number} of {name}", one, other)
    return name, then, here


def shown(value: Any) -> str:
    """A value, as :func:`described` gives it, in a few words."""
    if isinstance(value, str):
        return value if len(value) <= 64 else f"{value[:64]}..."
    if isinstance(value, Mapping) and "fingerprint" in value:
        return (
            f"{value['sessions']:,} sessions of {value['clicks']:,} clicks "
            f"({value['fingerprint'][:12]}...)"
        )
    return reprlib.repr(value)
