"""Serving: from a trained model to live recommendations."""

from graphseq.serving.indexes import (
    INDEXES,
    ExactIndex,
    FaissFlat,
    FaissHNSW,
    FaissIVFPQ,
    FaissScalar,
    Index,
    USearchIndex,
    USearchInt8,
    VoyagerIndex,
    build_index,
    load_index,
)
from graphseq.serving.item_vectors import ItemVectors, model_version, query_vectors

__all__ = [
    "INDEXES",
    "ExactIndex",
    "FaissFlat",
    "FaissHNSW",
    "FaissIVFPQ",
    "FaissScalar",
    "Index",
    "ItemVectors",
    "USearchIndex",
    "USearchInt8",
    "VoyagerIndex",
    "build_index",
    "load_index",
    "model_version",
    "query_vectors",
]
