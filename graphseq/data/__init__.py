"""From an event log to batches of session graphs."""

from graphseq.data.datasets.registry import DATASETS, load_dataset, load_split
from graphseq.data.graphs.augment import (
    ClickAugmentation,
    ClickDropout,
    ClickReorder,
    CropToPrefix,
    ItemMask,
    OneOf,
    RaggedClicks,
    RandomCrop,
    SegmentReorder,
    Substitute,
)
from graphseq.data.graphs.dataset import NO_TARGET, UNKNOWN_TARGET, SessionGraphDataset
from graphseq.data.graphs.item_graph import transition_graph
from graphseq.data.graphs.knowledge_graph import knowledge_graph
from graphseq.data.graphs.session_graph import SessionGraph, SessionGraphBatch, build_session_graphs
from graphseq.data.graphs.transforms import (
    AddReverseEdges,
    DecayedWeights,
    EdgeTransform,
    RemoveSelfLoops,
    transformed,
)
from graphseq.data.graphs.views import augmented_view
from graphseq.data.loading.loader import SessionGraphLoader
from graphseq.data.loading.samplers import ClickBatchSampler, SessionBatchSampler
from graphseq.data.loading.session_parallel import SessionParallelLoader, SessionParallelSampler
from graphseq.data.loading.shards import Shards, build_shards, open_shards, steps_of_shards
from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.describe import describe
from graphseq.data.sessions.features import Feature, feature_specs
from graphseq.data.sessions.filters import (
    collapse_repeats,
    keep_min_length,
    keep_min_support,
    keep_newest,
    suggest_max_length,
)
from graphseq.data.sessions.generate import generate_sessions
from graphseq.data.sessions.history import join_sessions, with_history
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.text_vectors import hashed_text_vectors, text_vectors
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.data.sessions.windows import sliding_windows
from graphseq.data.splits.rolling import RollingSplits, rolling_split
from graphseq.data.splits.splits import (
    Split,
    fixed_split,
    leave_last_split,
    session_split,
    temporal_split,
)
from graphseq.deprecation import old_names

__getattr__ = old_names(__name__, {"LaneSampler": "graphseq.data.SessionParallelSampler"})

__all__ = [
    "DATASETS",
    "NO_TARGET",
    "UNKNOWN_TARGET",
    "AddReverseEdges",
    "Catalog",
    "ClickAugmentation",
    "ClickBatchSampler",
    "ClickDropout",
    "ClickReorder",
    "CropToPrefix",
    "DecayedWeights",
    "EdgeTransform",
    "Feature",
    "ItemMask",
    "OneOf",
    "RaggedClicks",
    "RandomCrop",
    "RemoveSelfLoops",
    "RollingSplits",
    "SegmentReorder",
    "SessionBatchSampler",
    "SessionGraph",
    "SessionGraphBatch",
    "SessionGraphDataset",
    "SessionGraphLoader",
    "SessionParallelLoader",
    "SessionParallelSampler",
    "Sessions",
    "Shards",
    "Split",
    "Substitute",
    "Vocabulary",
    "augmented_view",
    "build_session_graphs",
    "build_shards",
    "collapse_repeats",
    "describe",
    "feature_specs",
    "fixed_split",
    "generate_sessions",
    "hashed_text_vectors",
    "join_sessions",
    "keep_min_length",
    "keep_min_support",
    "keep_newest",
    "knowledge_graph",
    "leave_last_split",
    "load_dataset",
    "load_split",
    "open_shards",
    "rolling_split",
    "session_split",
    "sliding_windows",
    "steps_of_shards",
    "suggest_max_length",
    "temporal_split",
    "text_vectors",
    "transformed",
    "transition_graph",
    "with_history",
]
