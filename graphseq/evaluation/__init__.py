"""Evaluation: full rankings, metrics averaged over ties, cluster-robust intervals."""

from graphseq.evaluation.audit import Audit, Finding, audit
from graphseq.evaluation.beyond_accuracy import ListReport, evaluate_lists, gini, personalization
from graphseq.evaluation.bootstrap import bootstrap_interval, paired_bootstrap
from graphseq.evaluation.click_effect import click_effect
from graphseq.evaluation.ctr import PairReport, auc, evaluate_pairs, logloss
from graphseq.evaluation.differences import (
    CriticalDifference,
    Differences,
    critical_difference,
    differences,
    holm,
    smallest_difference,
)
from graphseq.evaluation.evaluate import evaluate
from graphseq.evaluation.list_metrics import hit_rate_at_k, mrr, ndcg_at_k
from graphseq.evaluation.metrics import metric_names, metric_values, parse_metric
from graphseq.evaluation.model_audit import audit_model
from graphseq.evaluation.off_policy import (
    OffPolicyEstimate,
    debiased,
    doubly_robust,
    ips,
    snips,
    uplift,
)
from graphseq.evaluation.protocol import PRESETS, Protocol
from graphseq.evaluation.rank_counts import rank_counts
from graphseq.evaluation.report import Report
from graphseq.evaluation.rerank import evaluate_reranker
from graphseq.evaluation.several_targets import SeveralTargetsReport, evaluate_several
from graphseq.evaluation.significance import PairedTest, mean_interval, paired_test

__all__ = [
    "PRESETS",
    "Audit",
    "CriticalDifference",
    "Differences",
    "Finding",
    "ListReport",
    "OffPolicyEstimate",
    "PairReport",
    "PairedTest",
    "Protocol",
    "Report",
    "SeveralTargetsReport",
    "auc",
    "audit",
    "audit_model",
    "bootstrap_interval",
    "click_effect",
    "critical_difference",
    "debiased",
    "differences",
    "doubly_robust",
    "evaluate",
    "evaluate_lists",
    "evaluate_pairs",
    "evaluate_reranker",
    "evaluate_several",
    "gini",
    "hit_rate_at_k",
    "holm",
    "ips",
    "logloss",
    "mean_interval",
    "metric_names",
    "metric_values",
    "mrr",
    "ndcg_at_k",
    "paired_bootstrap",
    "paired_test",
    "parse_metric",
    "personalization",
    "rank_counts",
    "smallest_difference",
    "snips",
    "uplift",
]
