"""Sessions in a folder: memory-mapped arrays, ids in Arrow files, a header in JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from graphseq.data.folders import replacing
from graphseq.data.sessions import Sessions
from graphseq.data.vocabulary import Vocabulary, as_index

FORMAT = "graphseq.sessions"
FORMAT_VERSION = 1
HEADER = "sessions.json"
ITEM_FEATURES = "item_features.parquet"

FIELDS = ("items", "ptr", "time", "users", "first_target")
"""Fields of :class:`Sessions` that are arrays of numbers, as they are named on disk."""


def save_sessions(sessions: Sessions, folder: str | PathLike[str]) -> None:
    """Writes all fields of sessions to a folder, for :func:`open_sessions`.

    All is written to a folder beside it, which then gets the name: a folder of that name is always
    whole. One that holds saved sessions is replaced; sessions opened from it stay as they were.

    Ids may be integers, text, floats, booleans or dates, or a mixture of integers, text, floats and
    booleans; numbers must not be Python objects.

    Args:
        sessions: Any sessions.
        folder: The folder to make.

    Raises:
        ValueError: If the folder cannot be written, holds something else, or ids or features are of
            a type that has no place in the format.
    """
    folder = Path(fspath(folder))
    check_replaceable(folder)
    with replacing(folder) as part:
        arrays = {name: getattr(sessions, name) for name in FIELDS}
        ids = {"item_ids": sessions.vocabulary, "user_ids": sessions.user_vocabulary}
        features = list(sessions.click_features)
        for number, name in enumerate(features):  # a name may hold what no file name may
            arrays[f"click_{number}"] = sessions.click_features[name]
            ids[f"click_{number}_ids"] = sessions.feature_vocabularies.get(name)
        if sessions.session_ids is not None:
            names = as_index(sessions.session_ids)
            if names.dtype.kind in "iufb":
                arrays["session_ids"] = names.to_numpy()
            else:
                ids["session_ids"] = Vocabulary.from_unique(names)
        written = {name: a for name, a in arrays.items() if a is not None}
        for name, array in written.items():
            _write_array(part / f"{name}.npy", np.asarray(array), name)
        kinds = {
            name: (write_ids(part / f"{name}.arrow", vocabulary.ids, name), len(vocabulary))
            for name, vocabulary in ids.items()
            if vocabulary is not None
        }
        if sessions.item_features is not None:
            write_item_features(part / ITEM_FEATURES, sessions.item_features)
        write_header(
            part,
            arrays={name: (a.dtype, len(a)) for name, a in written.items()},
            ids=kinds,
            click_features=features,
            item_features=sessions.item_features is not None,
        )


def open_sessions(folder: str | PathLike[str]) -> Sessions:
    """Sessions of a folder that :func:`save_sessions` wrote, in no time and next to no memory.

    Arrays and ids are memory-mapped and read only; item features are loaded.

    Args:
        folder: The folder.

    Raises:
        ValueError: If the folder does not exist, holds no saved sessions or those of a newer
            version, or one of its files is missing, broken or cut off.
    """
    folder = Path(fspath(folder))
    header = _header(folder)
    arrays = {
        name: _open_array(folder / f"{name}.npy", np.dtype(kind), size)
        for name, (kind, size) in header["arrays"].items()
    }
    ids = {
        name: open_ids(folder / f"{name}.arrow", kind, size)
        for name, (kind, size) in header["ids"].items()
    }
    vocabularies = {name: Vocabulary.from_unique(index) for name, index in ids.items()}
    features = list(enumerate(header["click_features"]))
    session_ids = ids["session_ids"].array if "session_ids" in ids else arrays.get("session_ids")
    return Sessions(
        **{name: arrays.get(name) for name in FIELDS},  # type: ignore[arg-type]
        vocabulary=vocabularies["item_ids"],
        user_vocabulary=vocabularies.get("user_ids"),
        click_features={name: arrays[f"click_{number}"] for number, name in features},
        feature_vocabularies={
            name: vocabularies[f"click_{number}_ids"]
            for number, name in features
            if f"click_{number}_ids" in vocabularies
        },
        item_features=_open_features(folder) if header["item_features"] else None,
        session_ids=session_ids,
    )


def check_replaceable(folder: Path) -> None:
    """Raises ValueError if a folder holds something other than saved sessions."""
    if folder.exists() and not (folder / HEADER).is_file() and not _is_empty(folder):
        raise ValueError(
            f"{folder} exists and holds something other than saved sessions: choose another folder."
        )


def write_header(
    folder: Path,
    *,
    arrays: Mapping[str, tuple[np.dtype[Any], int]],
    ids: Mapping[str, tuple[str, int]],
    click_features: Sequence[str],
    item_features: bool,
) -> None:
    """Writes what :func:`open_sessions` reads first: which arrays and ids there are, how long.

    Args:
        folder: The folder.
        arrays: Name -> type and length of each array.
        ids: Name -> kind (see :func:`write_ids`) and number of each list of ids.
        click_features: Names of click features, in the order of their arrays ``click_0``, ...
        item_features: Whether there are item features.
    """
    header = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "num_sessions": arrays["ptr"][1] - 1,
        "num_clicks": arrays["items"][1],
        "num_items": ids["item_ids"][1],
        "arrays": {name: [dtype.str, size] for name, (dtype, size) in arrays.items()},
        "ids": {name: list(kind_and_size) for name, kind_and_size in ids.items()},
        "click_features": list(click_features),
        "item_features": item_features,
    }
    (folder / HEADER).write_text(json.dumps(header, indent=2) + "\n", encoding="utf-8")


class ArrayFile:
    """An array of known length in a folder of saved sessions, written piece by piece.

    Args:
        path: The file, ``<name>.npy``.
        dtype: Type of the numbers.
        size: How many there will be.
    """

    def __init__(self, path: Path, dtype: DTypeLike, size: int) -> None:
        self.path, self.dtype, self.size = path, np.dtype(dtype), size

    def __enter__(self) -> ArrayFile:
        """Opens the file to append to."""
        self._file = self.path.open("wb")
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.size,)}
        np.lib.format.write_array_header_1_0(self._file, header)
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def append(self, values: NDArray[Any]) -> None:
        """Adds values [n]."""
        self._file.write(np.ascontiguousarray(values, dtype=self.dtype).data)


def _header(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}.")
    try:
        header = json.loads((folder / HEADER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        header = None
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder / HEADER} is broken: {error}.") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError(f"{folder} holds no saved sessions: Sessions.save makes such a folder.")
    if header.get("version", 0) > FORMAT_VERSION:
        raise ValueError(
            f"{folder} was saved in version {header['version']} of the format, this graphseq reads "
            f"up to {FORMAT_VERSION}: install a newer one."
        )
    absent = {"arrays", "ids", "click_features", "item_features"} - header.keys()
    if absent:
        raise ValueError(f"{folder / HEADER} is broken: it lacks {', '.join(sorted(absent))}.")
    return header


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _write_array(path: Path, array: NDArray[Any], name: str) -> None:
    if array.dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, which are not saved: give it a type.")
    with path.open("wb") as file:
        np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)


def _open_array(path: Path, dtype: np.dtype[Any], size: int) -> NDArray[Any]:
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            if version != (1, 0):
                raise ValueError(f"its format version is {version}")
            shape, _, kind = np.lib.format.read_array_header_1_0(file)
            start = file.tell()
        if shape != (size,) or kind != dtype:
            raise ValueError(f"it holds {kind} {list(shape)}, not {dtype} [{size}]")
        expected, found = start + size * dtype.itemsize, path.stat().st_size
        if found != expected:
            raise ValueError(f"it has {found} bytes, not {expected}")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is missing, broken or cut off: {error}.") from error
    if size == 0:  # nothing to map
        return np.empty(0, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=start, shape=(size,))


def write_ids(path: Path, ids: pd.Index, name: str) -> str:
    """Writes ids as one Arrow column; returns how they are kept: "arrow", or mixed ids "json"."""
    values, kind = ids, "arrow"
    if ids.dtype == object:
        odd = [v for v in ids if type(v) not in (int, str, float, bool)]
        if odd:
            raise ValueError(
                f"{name} holds ids of type {type(odd[0]).__name__}, which are not saved: integers, "
                "text, floats, booleans, dates, and mixtures of the first four are."
            )
        values, kind = pd.Index([json.dumps(v) for v in ids], dtype="str"), "json"
    try:
        column = (
            pa.chunked_array([pa.array(values)])
            if len(values)
            else pa.chunked_array([], type=pa.Array.from_pandas(values).type)
        )
        table = pa.table({"id": column})
    except pa.ArrowException as error:
        raise ValueError(f"{name} cannot be saved: {error}.") from error
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return kind


def open_ids(path: Path, kind: str, size: int) -> pd.Index:
    """The ids that :func:`write_ids` wrote, memory-mapped.

    Raises:
        ValueError: If the file is missing, broken, cut off or of other ids.
    """
    try:
        with pa.memory_map(str(path)) as file:
            column = pa.ipc.open_file(file).read_all().column(0)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is missing, broken or cut off: {error}.") from error
    if len(column) != size:
        raise ValueError(f"{path} is of other sessions: it holds {len(column)} ids, not {size}.")
    if kind == "json":
        values = [json.loads(text) for text in column.to_pylist()]
        column = np.fromiter(values, dtype=object, count=len(values))
    else:
        column = column.to_pandas()
    index: pd.Index = pd.Index(column)
    return index


def write_item_features(path: Path, features: pd.DataFrame) -> None:
    """Writes item features as Parquet."""
    try:
        features.reset_index(drop=True).to_parquet(path, index=False)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise ValueError(f"item_features cannot be saved as Parquet: {error}.") from error


def _open_features(folder: Path) -> pd.DataFrame:
    path = folder / ITEM_FEATURES
    try:
        return pd.read_parquet(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{path} is missing, broken or cut off: {error}.") from error
