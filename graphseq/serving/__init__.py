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
from graphseq.serving.report import ServingReport, serving_report

__all__ = [
    "INDEXES",
    "ExactIndex",
    "FaissFlat",
    "FaissHNSW",
    "FaissIVFPQ",
    "FaissScalar",
    "Index",
    "ItemVectors",
    "ServingReport",
    "USearchIndex",
    "USearchInt8",
    "VoyagerIndex",
    "build_index",
    "load_index",
    "model_version",
    "query_vectors",
    "serving_report",
]
