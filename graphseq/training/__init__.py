"""Losses, negatives, and fit: training on Lightning."""

from graphseq.training import losses
from graphseq.training.fit import FitResult, fit
from graphseq.training.lightning.data_module import SessionDataModule
from graphseq.training.lightning.distributed import RowSparseDDP
from graphseq.training.lightning.module import SessionModule
from graphseq.training.negatives.hard_negatives import ITEM_INDEXES, ItemIndex
from graphseq.training.negatives.sampler import NegativeSampler
from graphseq.training.objectives.auxiliary import Auxiliary, Step
from graphseq.training.objectives.auxiliary_heads import DwellTime, NextFeature
from graphseq.training.objectives.contrastive import Contrastive, info_nce
from graphseq.training.objectives.distillation import Distillation, temperature_of
from graphseq.training.objectives.loss_choice import LOSSES, CrossEntropy, SampledLoss
from graphseq.training.objectives.objective import Objective
from graphseq.training.relations import relation_vectors
from graphseq.training.settings import TrainingSettings

__all__ = [
    "ITEM_INDEXES",
    "LOSSES",
    "Auxiliary",
    "Contrastive",
    "CrossEntropy",
    "Distillation",
    "DwellTime",
    "FitResult",
    "ItemIndex",
    "NegativeSampler",
    "NextFeature",
    "Objective",
    "RowSparseDDP",
    "SampledLoss",
    "SessionDataModule",
    "SessionModule",
    "Step",
    "TrainingSettings",
    "fit",
    "info_nce",
    "losses",
    "relation_vectors",
    "temperature_of",
]
