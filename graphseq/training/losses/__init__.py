"""Losses as functions: pairwise, sampled, exact, distilled."""

from graphseq.training.losses.distillation import kl_distillation, ranking_distillation
from graphseq.training.losses.exact import full_cross_entropy
from graphseq.training.losses.ranking import (
    bce,
    bpr,
    bpr_max,
    gbce,
    sampled_softmax,
    top1,
    top1_max,
)

__all__ = [
    "bce",
    "bpr",
    "bpr_max",
    "full_cross_entropy",
    "gbce",
    "kl_distillation",
    "ranking_distillation",
    "sampled_softmax",
    "top1",
    "top1_max",
]
