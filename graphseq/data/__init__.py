"""From an event log to batches of session graphs."""

from graphseq.data.augment import (
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
from graphseq.data.catalog import Catalog
from graphseq.data.dataset import NO_TARGET, UNKNOWN_TARGET, SessionGraphDataset
from graphseq.data.describe import describe
from graphseq.data.features import Feature, feature_specs
from graphseq.data.filters import (
    collapse_repeats,
    keep_min_length,
    keep_min_support,
    keep_newest,
    suggest_max_length,
)
from graphseq.data.generate import generate_sessions
from graphseq.data.history import join_sessions, with_history
from graphseq.data.lanes import LaneSampler, SessionParallelLoader
from graphseq.data.loader import SessionGraphLoader
from graphseq.data.registry import DATASETS, load_dataset, load_split
from graphseq.data.samplers import ClickBatchSampler, SessionBatchSampler
from graphseq.data.session_graph import SessionGraph, SessionGraphBatch, build_session_graphs
from graphseq.data.sessions import Sessions
from graphseq.data.shards import Shards, build_shards, open_shards, steps_of_shards
from graphseq.data.sliding import sliding_windows
from graphseq.data.splits import (
    Split,
    fixed_split,
    leave_last_split,
    session_split,
    temporal_split,
)
from graphseq.data.transforms import (
    AddReverseEdges,
    DecayedWeights,
    EdgeTransform,
    RemoveSelfLoops,
)
from graphseq.data.views import augmented_view
from graphseq.data.vocabulary import Vocabulary

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
    "LaneSampler",
    "OneOf",
    "RaggedClicks",
    "RandomCrop",
    "RemoveSelfLoops",
    "SegmentReorder",
    "SessionBatchSampler",
    "SessionGraph",
    "SessionGraphBatch",
    "SessionGraphDataset",
    "SessionGraphLoader",
    "SessionParallelLoader",
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
    "join_sessions",
    "keep_min_length",
    "keep_min_support",
    "keep_newest",
    "leave_last_split",
    "load_dataset",
    "load_split",
    "open_shards",
    "session_split",
    "sliding_windows",
    "steps_of_shards",
    "suggest_max_length",
    "temporal_split",
    "with_history",
]
