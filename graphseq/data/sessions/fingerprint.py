"""What identifies data: a hash over arrays and ids."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
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
