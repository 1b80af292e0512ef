"""Session-based and sequential recommendation on PyTorch Geometric: a session is a graph."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from graphseq.deprecation import watch_old_modules

if TYPE_CHECKING:  # loaded when used: see __getattr__
    from graphseq import (
        comparison,
        data,
        evaluation,
        explanations,
        models,
        nn,
        serving,
        testing,
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
        rolling_split,
        session_split,
        suggest_max_length,
        temporal_split,
    )
    from graphseq.evaluation import evaluate
    from graphseq.explanations import counterfactual, explain
    from graphseq.models.use.grow import grow
    from graphseq.models.use.recommend import recommend
    from graphseq.serving import Recommender
    from graphseq.serving.persistence import load
    from graphseq.training import (
        CrossEntropy,
        SampledLoss,
        SessionDataModule,
        SessionModule,
        TrainingSettings,
        fit,
    )

watch_old_modules()

__version__ = "0.1.0"

__all__ = [
    "Comparison",
    "CrossEntropy",
    "Recommender",
    "SampledLoss",
    "SessionDataModule",
    "SessionGraphDataset",
    "SessionGraphLoader",
    "SessionModule",
    "SessionParallelLoader",
    "Sessions",
    "Split",
    "TrainingSettings",
    "Tuning",
    "compare",
    "comparison",
    "counterfactual",
    "data",
    "evaluate",
    "evaluation",
    "explain",
    "explanations",
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
    "rolling_split",
    "serving",
    "session_split",
    "suggest_max_length",
    "temporal_split",
    "testing",
    "training",
    "tune",
    "visualization",
]

ROOMS = (
    "comparison",
    "data",
    "evaluation",
    "explanations",
    "models",
    "nn",
    "serving",
    "testing",
    "training",
    "visualization",
)

HOMES = {
    "graphseq.comparison": ("Comparison", "Tuning", "compare", "tune"),
    "graphseq.data": (
        "SessionGraphDataset",
        "SessionGraphLoader",
        "SessionParallelLoader",
        "Sessions",
        "Split",
        "fixed_split",
        "generate_sessions",
        "leave_last_split",
        "load_dataset",
        "load_split",
        "rolling_split",
        "session_split",
        "suggest_max_length",
        "temporal_split",
    ),
    "graphseq.evaluation": ("evaluate",),
    "graphseq.explanations": ("counterfactual", "explain"),
    "graphseq.models.use.grow": ("grow",),
    "graphseq.models.use.recommend": ("recommend",),
    "graphseq.serving": ("Recommender",),
    "graphseq.serving.persistence": ("load",),
    "graphseq.training": (
        "CrossEntropy",
        "SampledLoss",
        "SessionDataModule",
        "SessionModule",
        "TrainingSettings",
        "fit",
    ),
}
"""Module -> the public names that it has."""


def __getattr__(name: str) -> Any:
    """Loads what is asked for: ``import graphseq`` alone loads neither PyG nor Lightning."""
    if name in ROOMS:
        return import_module(f"graphseq.{name}")
    for module, names in HOMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(module), name)
            return value
    raise AttributeError(f"module 'graphseq' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
