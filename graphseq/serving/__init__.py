"""Serving: from a trained model to live recommendations."""

from graphseq.serving.cache import AnswerCache
from graphseq.serving.distilled_table import distill_table
from graphseq.serving.exploration import Choice, Explorer, Replayed, replay_policy
from graphseq.serving.fusion import fusion_weights
from graphseq.serving.indexes import (
    INDEXES,
    ExactIndex,
    FaissFlat,
    FaissHNSW,
    FaissIVFPQ,
    FaissRefined,
    FaissScalar,
    Index,
    USearchIndex,
    USearchInt8,
    VoyagerIndex,
    build_index,
    load_index,
)
from graphseq.serving.item_vectors import ItemVectors, model_version, query_vectors
from graphseq.serving.live import Click, LiveSessions, Reply, Request
from graphseq.serving.onnx import OnnxModel, export_onnx
from graphseq.serving.persistence import load, load_recommender
from graphseq.serving.prompting import PromptRecommender, PromptUsage
from graphseq.serving.recommender import Recommender
from graphseq.serving.report import ServingReport, serving_report
from graphseq.serving.reranking import fit_reranker
from graphseq.serving.scoring import Scored, score_log
from graphseq.serving.stores import (
    LMDBStore,
    MemoryStore,
    RedisStore,
    Store,
    StoreUnavailable,
    open_store,
)
from graphseq.serving.text_recommender import SentenceEncoder, TextRecommender

__all__ = [
    "INDEXES",
    "AnswerCache",
    "Choice",
    "Click",
    "ExactIndex",
    "Explorer",
    "FaissFlat",
    "FaissHNSW",
    "FaissIVFPQ",
    "FaissRefined",
    "FaissScalar",
    "Index",
    "ItemVectors",
    "LMDBStore",
    "LiveSessions",
    "MemoryStore",
    "OnnxModel",
    "PromptRecommender",
    "PromptUsage",
    "Recommender",
    "RedisStore",
    "Replayed",
    "Reply",
    "Request",
    "Scored",
    "SentenceEncoder",
    "ServingReport",
    "Store",
    "StoreUnavailable",
    "TextRecommender",
    "USearchIndex",
    "USearchInt8",
    "VoyagerIndex",
    "build_index",
    "distill_table",
    "export_onnx",
    "fit_reranker",
    "fusion_weights",
    "load",
    "load_index",
    "load_recommender",
    "model_version",
    "open_store",
    "query_vectors",
    "replay_policy",
    "score_log",
    "serving_report",
]
