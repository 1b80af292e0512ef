"""Sessions in a folder: memory-mapped arrays and ids, and a header with their checksums."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from graphseq.data.sessions.vocabulary import UNKNOWN, Vocabulary
from graphseq.data.storage.folders import (
    Folder,
    FolderKind,
    FolderWriter,
    open_folder,
    write_folder,
)
from graphseq.data.storage.rules import flag, list_of, text

Made = TypeVar("Made")

SESSIONS = FolderKind(
    format="graphseq.sessions",
    version=2,
    header="sessions.json",
    holds="saved sessions",
    made_by="Sessions.save",
    rules={"click_features": list_of(text()), "item_features": flag()},
)

FIELDS = {
    "items": "<i4",
    "ptr": "<i8",
    "time": "<f8",
    "users": "<i4",
    "first_target": "<i8",
    "listed": "|b1",
}
"""Fields of :class:`~graphseq.data.Sessions` that are arrays of numbers, and their types."""

VALUES_PER_STEP = 1 << 22
"""Number of values checked at once."""


def as_saved(name: str, values: Any) -> NDArray[Any]:
    """A field of sessions in the type in which it is saved, the only one that opens again.

    Args:
        name: One of :data:`FIELDS`.
        values: Its values, [n].

    Raises:
        ValueError: If it has another number of dimensions, or this type would change a value.
    """
    wanted = np.dtype(FIELDS[name])
    given = values if isinstance(values, np.ndarray) else np.asarray(values)
    if given.ndim == 1 and given.dtype == wanted:
        return given
    if given.ndim == 1 and given.dtype.kind in "iufb":
        with np.errstate(invalid="ignore"):
            found = given.astype(wanted)
        if np.array_equal(found, given, equal_nan=True):
            return found
    raise ValueError(
        f"Sessions.{name} must be {wanted.name} with one dimension, got {given.dtype} "
        f"{list(given.shape)}, which cannot be converted without a change of its values."
    )


def save_sessions(fields: Mapping[str, Any], folder: str | PathLike[str]) -> None:
    """Writes all fields of sessions to a folder, for :func:`open_sessions`.

    Everything is written to a temporary folder, then renamed atomically: a reader gets the complete
    old or new sessions. Sessions that are already open do not change.

    Ids may be integers, text, floats, booleans or dates, or a mixture of integers, text, floats and
    booleans; numbers must not be Python objects.

    Args:
        fields: The fields of :class:`~graphseq.data.Sessions`, by name; absent ones are ``None``.
        folder: The folder to create, or one that holds only saved sessions.

    Raises:
        ValueError: If the folder cannot be written, holds something else, or ids or features have a
            type that cannot be saved.
    """
    with write_folder(folder, SESSIONS) as out:
        for name in FIELDS:
            if (array := fields.get(name)) is not None:
                out.write_array(name, array)
        out.write_ids("item_ids", fields["vocabulary"].ids)
        if (users := fields.get("user_vocabulary")) is not None:
            out.write_ids("user_ids", users.ids)
        click_features = fields.get("click_features", {})
        vocabularies = fields.get("feature_vocabularies", {})
        for number, (name, values) in enumerate(click_features.items()):
            out.write_array(f"click_{number}", np.asarray(values))
            if (vocabulary := vocabularies.get(name)) is not None:
                out.write_ids(f"click_{number}_ids", vocabulary.ids)
        if (names := fields.get("session_ids")) is not None:
            out.write_ids("session_ids", names)
        describe_sessions(out, list(click_features), fields.get("item_features"))


def describe_sessions(
    out: FolderWriter, click_features: Sequence[str], item_features: pd.DataFrame | None
) -> None:
    """Writes the header fields of saved sessions besides arrays and ids, and item features.

    Args:
        out: A folder of kind :data:`SESSIONS`. Its arrays are named as in :data:`FIELDS`, its ids
            ``item_ids``, ``user_ids`` and ``session_ids``; click feature ``n`` is the array
            ``click_n``, with ids ``click_n_ids`` if it is categorical.
        click_features: Names of click features, which may contain characters that file names
            cannot.
        item_features: One row per item in code order.
    """
    if item_features is not None:
        out.write_table("item_features", item_features)
    out.content = {
        "click_features": list(click_features),
        "item_features": item_features is not None,
    }


def open_sessions(
    folder: str | PathLike[str],
    make: Callable[..., Made],
    *,
    verify: bool = True,
    expected: str | None = None,
) -> Made:
    """Opens sessions written by :func:`save_sessions`, with very little memory.

    Arrays and ids are memory-mapped and read only; item features are loaded. All files are read
    once to compare their checksums, at the speed of the disk; later the same process opens the
    folder immediately.

    Args:
        folder: The folder.
        make: :class:`~graphseq.data.Sessions`, or another function of their fields by name.
        verify: Whether checksums and all values are compared. Without it, damage can go unnoticed.
        expected: Checksum of the header, if a folder of shards states one.

    Raises:
        ValueError: If the folder does not exist, or holds no saved sessions, or sessions of another
            version. Also if one of its files is missing, damaged or of other sessions.
    """
    with open_folder(folder, SESSIONS, verify=verify, expected=expected) as opened:
        fields = _read(opened)
        try:
            sessions = make(**fields)
        except ValueError as error:
            raise ValueError(f"{opened.path} is broken: {error}") from error
        _check_values(fields, opened)
    return sessions


def _read(folder: Folder) -> dict[str, Any]:
    arrays = {
        name: folder.array(name, dtype)
        for name, dtype in FIELDS.items()
        if name in ("items", "ptr") or folder.has_array(name)
    }
    names = folder.header["click_features"]
    numbered = {f"click_{number}": name for number, name in enumerate(names)}
    if len(set(names)) != len(names):
        raise ValueError(f"{folder.path / SESSIONS.header} names a click feature twice.")
    vocabularies = {
        name: Vocabulary.from_unique(folder.ids(name))
        for name in ("item_ids", "user_ids", *(f"{place}_ids" for place in numbered))
        if name == "item_ids" or name in folder.header["ids"]
    }
    has_names = "session_ids" in folder.header["ids"]
    session_ids = folder.ids("session_ids", distinct=False) if has_names else None
    return dict(
        **{name: arrays.get(name) for name in FIELDS},
        vocabulary=vocabularies["item_ids"],
        user_vocabulary=vocabularies.get("user_ids"),
        click_features={name: folder.array(place) for place, name in numbered.items()},
        feature_vocabularies={
            name: vocabularies[f"{place}_ids"]
            for place, name in numbered.items()
            if f"{place}_ids" in vocabularies
        },
        item_features=folder.table("item_features") if folder.header["item_features"] else None,
        session_ids=None if session_ids is None else plain_values(session_ids),
    )


def plain_values(ids: pd.Index) -> Any:
    """Ids as :class:`Sessions` stores session names: NumPy if NumPy has the type."""
    return ids.to_numpy() if isinstance(ids.dtype, np.dtype) else ids.array


def _check_values(fields: Mapping[str, Any], folder: Folder) -> None:
    """Checks the range of pointers and codes; codes of clicks only for full verification."""
    lengths = np.diff(fields["ptr"])
    if (lengths < 0).any():
        raise ValueError(f"{folder.path}/ptr.npy is broken: a session ends before it begins.")
    if fields["first_target"] is not None:
        _check_range(fields["first_target"], 0, lengths, f"{folder.path}/first_target.npy")
    if fields["users"] is not None:
        users = fields["user_vocabulary"]
        most = np.iinfo(np.int32).max if users is None else len(users) - 1
        _check_range(fields["users"], UNKNOWN, most, f"{folder.path}/users.npy")
    if not folder.verify:
        return
    num_items = len(fields["vocabulary"])
    _check_range(fields["items"], UNKNOWN, num_items - 1, f"{folder.path}/items.npy")
    for number, (name, codes) in enumerate(fields["click_features"].items()):
        if (vocabulary := fields["feature_vocabularies"].get(name)) is not None:
            shown = f"{folder.path}/click_{number}.npy"
            _check_range(codes, UNKNOWN, len(vocabulary) - 1, shown)


def _check_range(
    values: NDArray[Any], least: int, most: int | NDArray[np.int64], shown: str
) -> None:
    if values.dtype.kind not in "iu":
        raise ValueError(f"{shown} is broken: it holds {values.dtype}, not whole numbers.")
    for start in range(0, len(values), VALUES_PER_STEP):
        part = values[start : start + VALUES_PER_STEP]
        end = most[start : start + VALUES_PER_STEP] if isinstance(most, np.ndarray) else most
        if (bad := (part < least) | (part > end)).any():
            row = int(bad.argmax())
            raise ValueError(
                f"{shown} is broken: value {start + row} is {part[row]}, outside what it may be "
                f"({int(bad.sum())} such)."
            )
