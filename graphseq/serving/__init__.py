"""Serving: from a trained model to live recommendations."""

from graphseq.serving.cache import AnswerCache
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
from graphseq.serving.persistence import load, load_recommender
from graphseq.serving.recommender import Recommender
from graphseq.serving.report import ServingReport, serving_report

__all__ = [
    "INDEXES",
    "AnswerCache",
    "ExactIndex",
    "FaissFlat",
    "FaissHNSW",
    "FaissIVFPQ",
    "FaissScalar",
    "Index",
    "ItemVectors",
    "Recommender",
    "ServingReport",
    "USearchIndex",
    "USearchInt8",
    "VoyagerIndex",
    "build_index",
    "load",
    "load_index",
    "load_recommender",
    "model_version",
    "query_vectors",
    "serving_report",
]
