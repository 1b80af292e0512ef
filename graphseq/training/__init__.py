"""Losses, negatives, and fit: training on Lightning."""

from graphseq.training import losses
from graphseq.training.fit import FitResult, fit
from graphseq.training.loss_choice import LOSSES, CrossEntropy, SampledLoss
from graphseq.training.negatives import NegativeSampler
from graphseq.training.objective import Objective
from graphseq.training.settings import TrainingSettings

__all__ = [
    "LOSSES",
    "CrossEntropy",
    "FitResult",
    "NegativeSampler",
    "Objective",
    "SampledLoss",
    "TrainingSettings",
    "fit",
    "losses",
]
