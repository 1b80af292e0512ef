"""The atomic files of RecBole: tab-separated, with a type to each column's name."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv

from graphseq.data.sessions import Sessions
from graphseq.data.tables import CODES, read_csv, readable

StrPath = str | PathLike[str]

ATOMIC_TYPES = {
    "token": None,
    "float": pa.float64(),
    "token_seq": CODES,
    "float_seq": CODES,
}
"""Arrow types of the types in the header of RecBole's atomic files; token: integers or text."""


def read_atomic(path: StrPath) -> pd.DataFrame:
    """One of RecBole's atomic files (``.inter``, ``.item``, ``.user``) as a frame.

    Zhao et al., "RecBole" (CIKM 2021): tab-separated, the header gives each column a name and a
    type, ``name:type``. A ``token`` column holds integers if all its values are such, else text;
    ``float`` floats; ``token_seq`` and ``float_seq`` stay one text with blanks between the parts.

    Args:
        path: The file, compressed or not.

    Raises:
        ValueError: If the file is missing, broken or cut off, or its header has no such types.
    """
    path = Path(fspath(path))
    if not path.is_file():
        raise ValueError(f"There is no file {path}.")
    with readable(path):
        with pa_csv.open_csv(
            pa.input_stream(path, compression="detect"),
            parse_options=pa_csv.ParseOptions(delimiter="\t", quote_char=False),
        ) as file:
            header = file.schema.names
        kinds = dict(column.rpartition(":")[::2] for column in header)
        unknown = [kind for kind in kinds.values() if kind not in ATOMIC_TYPES]
        if unknown or "" in kinds:
            raise ValueError(
                f"{path} needs a header of name:type with types {', '.join(ATOMIC_TYPES)}, "
                f"got {header}."
            )
        table = read_csv(
            path,
            None,
            ids=header,
            separator="\t",
            quoted=False,
            types={
                column: kind
                for column, name in zip(header, kinds, strict=True)
                if (kind := ATOMIC_TYPES[kinds[name]]) is not None
            },
        )
    frame: pd.DataFrame = table.unify_dictionaries().to_pandas(split_blocks=True)
    return frame.set_axis(list(kinds), axis=1)


def read_inter(
    path: StrPath,
    *,
    session: str | None = None,
    user: str | None = "user_id",
    item: str = "item_id",
    time: str | None = "timestamp",
    gap: str | float | None = None,
    features: Sequence[str] = (),
    item_file: StrPath | None = None,
) -> Sessions:
    """Sessions of an atomic ``.inter`` file of RecBole (Zhao et al., CIKM 2021).

    Args:
        path: The file, compressed or not; see :func:`read_atomic`, which also reads ``.user``.
        session: Column of sessions; ``None``: a user's clicks are one session, or, with ``gap``,
            several.
        user, item, time: Names of columns, without their types.
        gap: The longest pause within a session, as ``"30min"`` or in seconds.
        features: Columns that describe the click.
        item_file: The ``.item`` file: its other columns become ``item_features``.

    Raises:
        ValueError: If a file is missing, broken or cut off, or a column is missing.
    """
    frame = read_atomic(path)
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
    )
