"""Session-based and sequential recommendation on PyTorch Geometric: a session is a graph."""

from graphseq import (
    comparison,
    data,
    deprecation,
    evaluation,
    models,
    nn,
    training,
    visualization,
)
from graphseq.comparison import Comparison, Tuning, compare, tune
from graphseq.data import (
    SessionGraphDataset,
    SessionGraphLoader,
    SessionParallelLoader,
    Sessions,
    Split,
    fixed_split,
    generate_sessions,
    leave_last_split,
    load_dataset,
    load_split,
    session_split,
    suggest_max_length,
    temporal_split,
)
from graphseq.evaluation import evaluate
from graphseq.models.use.grow import grow
from graphseq.models.use.persistence import load
from graphseq.models.use.recommend import recommend
from graphseq.training import CrossEntropy, SampledLoss, TrainingSettings, fit

deprecation.watch_old_modules()

__version__ = "0.1.0"

__all__ = [
    "Comparison",
    "CrossEntropy",
    "SampledLoss",
    "SessionGraphDataset",
    "SessionGraphLoader",
    "SessionParallelLoader",
    "Sessions",
    "Split",
    "TrainingSettings",
    "Tuning",
    "compare",
    "comparison",
    "data",
    "evaluate",
    "evaluation",
    "fit",
    "fixed_split",
    "generate_sessions",
    "grow",
    "leave_last_split",
    "load",
    "load_dataset",
    "load_split",
    "models",
    "nn",
    "recommend",
    "session_split",
    "suggest_max_length",
    "temporal_split",
    "training",
    "tune",
    "visualization",
]
