"""Reads the atomic files of RecBole: tab-separated, with a type after each column name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from os import fspath
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from graphseq.data.formats.id_lines import ids_of_text, split_tokens
from graphseq.data.logs.door import open_log
from graphseq.data.logs.errors import rows_named
from graphseq.data.logs.source import LogOptions
from graphseq.data.logs.times import Duration
from graphseq.data.sessions.samples import merge_samples
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.data.splits.split_parts import Split
from graphseq.data.splits.splits import fixed_split
from graphseq.typing import StrPath

ATOMIC_TYPES = ("token", "float", "token_seq", "float_seq")
"""The types in the header of RecBole's atomic files."""


def read_atomic(path: StrPath, *, exact: Collection[str] = ()) -> pd.DataFrame:
    """One of RecBole's atomic files (``.inter``, ``.item``, ``.user``) as a frame.

    Zhao et al., "RecBole" (CIKM 2021): tab-separated, the header gives each column a name and a
    type, ``name:type``. A ``token`` column holds integers if every value is written as that
    integer, else text; ``float`` floats; ``token_seq`` and ``float_seq`` stay one text with blanks
    between the parts.

    Args:
        path: The file, compressed or not.
        exact: ``float`` columns that become integers if all of their values are integers: columns
            of times.

    Raises:
        ValueError: If the file is missing, damaged or truncated, its header has no such types, or a
            ``float`` column holds something else.
    """
    path = Path(fspath(path))
    if not path.is_file():
        raise ValueError(f"There is no file {path}.")
    with open_log([path], LogOptions(separator="\t", quote=None)) as source:
        header = list(source.names)
        kinds = dict(column.rpartition(":")[::2] for column in header)
        one = len(header) == 1 and "," in header[0]
        known = set(kinds.values()) <= set(ATOMIC_TYPES)
        if one or "" in kinds or len(kinds) < len(header) or not known:
            raise ValueError(
                f"{path} needs tabs and a header of name:type with types {', '.join(ATOMIC_TYPES)} "
                f"and each name once, got {header}."
            )
        frame = source.read(header, ids=[name for name in header if not name.endswith(":float")])
        frame.columns = pd.Index(list(kinds))
        for name, kind in kinds.items():
            column: Any = frame[name]
            if kind == "float" and not (
                name in exact and pd.api.types.is_integer_dtype(column.dtype)
            ):
                numbers = pd.to_numeric(column, errors="coerce")
                missing = column.isna() | column.astype(str).str.lower().eq("nan")
                odd = (numbers.isna() & ~missing).to_numpy()
                if odd.any():
                    raise ValueError(
                        f"{path}: column '{name}:float' holds {column[odd].iloc[0]!r} in "
                        f"{rows_named(odd, source.place)}: write numbers there, or call it a token."
                    )
                frame[name] = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
            elif kind.endswith("_seq"):
                frame[name] = column.astype("str").where(column.notna())
    return frame


def read_inter(
    path: StrPath,
    *,
    session: str | None = None,
    user: str | None = "user_id",
    item: str = "item_id",
    time: str | None = "timestamp",
    gap: Duration | None = None,
    features: Sequence[str] = (),
    item_file: StrPath | None = None,
    time_unit: str | None = None,
) -> Sessions:
    """Sessions of an atomic ``.inter`` file of RecBole (Zhao et al., CIKM 2021).

    Args:
        path: The file, compressed or not; see :func:`read_atomic`, which also reads ``.user``.
        session: Column of sessions; ``None``: a user's clicks are one session, or several with
            ``gap``.
        user, item, time: Names of columns, without their types.
        gap: The longest pause within a session, as ``"30min"`` or in seconds.
        features: Columns that describe the click.
        item_file: The ``.item`` file: its other columns become ``item_features``.
        time_unit: Unit of times, such as ``"ms"``; ``None``: seconds, or counters.

    Raises:
        ValueError: If a file is missing, damaged or truncated, or a column is missing.
    """
    frame = read_atomic(path, exact=() if time is None else [time])
    if f"{item}_list" in frame.columns:
        raise ValueError(
            f"{path} holds samples, the clicks before each in '{item}_list': read it, with the "
            "other parts of its split, by read_recbole_split."
        )
    described = None
    if item_file is not None:
        described = read_atomic(item_file)
        if item not in described.columns:
            raise ValueError(
                f"{item_file} has no column {item!r}; it has "
                f"{', '.join(map(repr, described.columns))}."
            )
        described = described.set_index(item)
    if session is not None:
        if gap is not None:
            raise ValueError("read_inter takes session or gap, got both.")
        return Sessions.from_frame(
            frame,
            session=session,
            item=item,
            time=time,
            user=user,
            features=features,
            item_features=described,
            time_unit=time_unit,
        )
    if user is None or time is None:
        raise ValueError("read_inter needs session, or user and time, got neither.")
    return Sessions.from_events(
        frame,
        user=user,
        item=item,
        time=time,
        gap=gap,
        features=features,
        item_features=described,
        time_unit=time_unit,
    )


def read_recbole_split(
    train: StrPath,
    test: StrPath | None = None,
    validation: StrPath | None = None,
    *,
    item: str = "item_id",
    item_list: str = "item_id_list",
    user: str = "user_id",
) -> Split:
    """The split of RecBole's benchmark files, ``x.train.inter``, ``.valid.inter``, ``.test.inter``.

    Each of their rows is a sample: the clicks before it as one text, and its target. They become
    sessions, see :func:`~graphseq.data.sessions.samples.merge_samples`: the targets of a part,
    with the
    clicks before each, are exactly the samples of its file.

    Args:
        train: The folder of the files, or the file of the training part.
        test, validation: The other files, if ``train`` is a file; ``validation`` is optional.
        item: Column of the target, without its type.
        item_list: Column of the clicks before it, a ``token_seq``.
        user: Column of users, read if the files have it.

    Raises:
        ValueError: If a file is missing, damaged or truncated, a column is missing, or a row has no
            click before its target.
    """
    files = _benchmark_files(train, test, validation)
    parts = [_samples(path, item, item_list, user) for path in files.values()]
    named = dict(zip(files, parts, strict=True))
    split = fixed_split(named["train"], named["test"], named.get("valid"))
    return replace(split, protocol={"split": "recbole", "files": [p.name for p in files.values()]})


def _benchmark_files(
    train: StrPath, test: StrPath | None, validation: StrPath | None
) -> dict[str, Path]:
    folder = Path(fspath(train))
    if not folder.is_dir():
        if test is None:
            raise ValueError(
                f"{folder} is not a folder: pass the folder of the files, or test= and, where "
                "there is one, validation= as well."
            )
        given = {"train": folder, "valid": validation, "test": test}
        return {part: Path(fspath(path)) for part, path in given.items() if path is not None}
    if test is not None or validation is not None:
        raise ValueError(f"{folder} is a folder: pass the training file, or no other file.")
    found: dict[str, Path] = {}
    for part in ("train", "valid", "test"):
        paths = sorted(p for p in folder.glob(f"*.{part}.inter*") if not p.name.startswith("."))
        if len(paths) > 1 or (not paths and part != "valid"):
            raise ValueError(
                f"{folder} needs one file named x.{part}.inter, it has "
                f"{', '.join(path.name for path in paths) or 'none'}: pass the files one by one."
            )
        found.update(zip([part], paths, strict=False))
    return found


def _samples(path: Path, item: str, item_list: str, user: str) -> Sessions:
    frame = read_atomic(path)
    for name in (item, item_list):
        if name not in frame.columns:
            raise ValueError(
                f"{path} has no column {name!r}; it has {', '.join(map(repr, frame.columns))}: "
                "read files without lists by read_inter."
            )
        missing = frame[name].isna().to_numpy()
        if missing.any():
            raise ValueError(
                f"{path}: {name} is empty in {rows_named(missing)}: a sample needs a target and at "
                "least one click before it."
            )
    whole = frame[item_list].astype("str").str.cat(frame[item].astype("str"), sep=" ")
    tokens, lengths = split_tokens(pa.array(whole, pa.large_string()))
    fields: dict[str, Any] = {}
    if user in frame.columns:
        vocabulary, codes = Vocabulary.factorize(frame[user])
        fields = {"users": codes.astype(np.int32), "user_vocabulary": vocabulary}
    return merge_samples(
        Sessions.from_ragged(ids_of_text(tokens), np.append(0, np.cumsum(lengths)), **fields)
    )
