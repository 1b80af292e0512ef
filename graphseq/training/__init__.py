"""Losses, negatives, and fit: training on Lightning."""

from graphseq.training import losses
from graphseq.training.auxiliary import Auxiliary, Step
from graphseq.training.contrastive import Contrastive, info_nce
from graphseq.training.fit import FitResult, fit
from graphseq.training.hard_negatives import ITEM_INDEXES, ItemIndex
from graphseq.training.loss_choice import LOSSES, CrossEntropy, SampledLoss
from graphseq.training.negatives import NegativeSampler
from graphseq.training.objective import Objective
from graphseq.training.settings import TrainingSettings
from graphseq.training.tasks import DwellTime, NextFeature

__all__ = [
    "ITEM_INDEXES",
    "LOSSES",
    "Auxiliary",
    "Contrastive",
    "CrossEntropy",
    "DwellTime",
    "FitResult",
    "ItemIndex",
    "NegativeSampler",
    "NextFeature",
    "Objective",
    "SampledLoss",
    "Step",
    "TrainingSettings",
    "fit",
    "info_nce",
    "losses",
]
