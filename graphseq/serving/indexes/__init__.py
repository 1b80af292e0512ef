"""Indexes of item vectors behind one interface: exact and approximate, large and small."""

from __future__ import annotations

from os import PathLike
from typing import Any

from graphseq.models.base import SessionModel
from graphseq.serving.indexes.base import INDEX, Index, open_index
from graphseq.serving.indexes.exact import ExactIndex
from graphseq.serving.indexes.faiss_indexes import (
    FaissFlat,
    FaissHNSW,
    FaissIVFPQ,
    FaissRefined,
    FaissScalar,
)
from graphseq.serving.indexes.usearch_indexes import USearchIndex, USearchInt8
from graphseq.serving.indexes.voyager_index import VoyagerIndex

INDEXES: dict[str, type[Index]] = {
    family.kind: family
    for family in (
        ExactIndex,
        FaissFlat,
        FaissScalar,
        FaissHNSW,
        FaissIVFPQ,
        FaissRefined,
        USearchIndex,
        USearchInt8,
        VoyagerIndex,
    )
}
"""Name -> index."""

__all__ = [
    "INDEX",
    "INDEXES",
    "ExactIndex",
    "FaissFlat",
    "FaissHNSW",
    "FaissIVFPQ",
    "FaissRefined",
    "FaissScalar",
    "Index",
    "USearchIndex",
    "USearchInt8",
    "VoyagerIndex",
    "build_index",
    "index_named",
    "load_index",
]


def index_named(kind: str) -> type[Index]:
    """The index of this name.

    Raises:
        ValueError: If there is none.
    """
    if kind not in INDEXES:
        raise ValueError(f"An index is one of {', '.join(INDEXES)}, got {kind!r}.")
    return INDEXES[kind]


def build_index(model: SessionModel, kind: str = "faiss_hnsw", **settings: Any) -> Index:
    """The index of all items of a model.

    Args:
        model: A model whose scores are inner products with one item table.
        kind: A name in :data:`INDEXES`.
        **settings: Options of that kind of index.

    Raises:
        ValueError: If there is no such index, its library is missing, or the family scores in
            another way.
    """
    return index_named(kind).of(model, **settings)


def load_index(
    folder: str | PathLike[str],
    *,
    model: SessionModel | None = None,
    expected: str | None = None,
) -> Index:
    """The index that ``index.save`` wrote, memory-mapped where its library can.

    Args:
        folder: The folder.
        model: The model that it is to serve, whose version is compared.
        expected: Checksum of the header, where the folder that it lies in says so.

    Raises:
        ValueError: If the folder holds no index or a damaged one, its library is missing, or it is
            of another model version; the file is named.
    """
    with open_index(folder, expected=expected) as opened:
        kind = opened.header["kind"]
        if kind not in INDEXES:
            raise ValueError(f"{opened.path} holds an index {kind!r}, known are {list(INDEXES)}.")
        index = INDEXES[kind]._of_folder(opened)
    if model is not None:
        index.check_version(model)
    return index
