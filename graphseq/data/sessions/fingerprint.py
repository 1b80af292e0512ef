"""What identifies data: a hash over arrays and ids, or over a table."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from graphseq.data.sessions.vocabulary import Vocabulary

IDS_PER_CHUNK = 1 << 20
"""Number of ids that are Python objects at once."""


def fingerprint(
    arrays: Mapping[str, NDArray[Any] | None], vocabularies: Mapping[str, Vocabulary | None]
) -> str:
    """SHA-256, in hex, over named arrays and named ids, in the order of their names.

    Names, types and lengths are hashed too, so that the same bytes split differently give another
    hash.

    Args:
        arrays: Arrays; ``None`` is the same as a missing array.
        vocabularies: Ids; ``None`` is the same as missing ids.
    """
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        if array is not None:
            digest.update(f"{name!r} {array.dtype.str} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
    for name, vocabulary in sorted(vocabularies.items()):
        if vocabulary is not None:
            digest.update(f"{name!r} {len(vocabulary)}\n".encode())
            for start in range(0, len(vocabulary), IDS_PER_CHUNK):
                ids = vocabulary.ids[start : start + IDS_PER_CHUNK].tolist()
                digest.update("".join(f"{value!r}\n" for value in ids).encode())
    return digest.hexdigest()


def table_fingerprint(table: pd.DataFrame | pd.Series | pd.Index) -> str:
    """SHA-256, in hex, over the values of a table as text, and the names of its columns.

    Args:
        table: The table; cells may be lists, or arrays of any length.
    """
    # By default NumPy writes three numbers from each end of an array of more than 1,000.
    with np.printoptions(threshold=sys.maxsize, precision=8, linewidth=75, suppress=False):
        text = table.astype(str)
    rows = pd.util.hash_pandas_object(text, index=False).to_numpy()
    names = list(table) if isinstance(table, pd.DataFrame) else []
    return hashlib.sha256(repr(names).encode() + rows.tobytes()).hexdigest()
