"""Values that ranx 0.3.21 gives for the same lists, recorded: it compiles for minutes to run here.

``ranx.evaluate(Qrels({"q0": {"d3": 1}, ...}), Run({"q0": {"d0": score, ...}, ...}), names)``.
"""

import numpy as np
import pytest
import torch

from graphseq.evaluation import hit_rate_at_k, metric_values, mrr, ndcg_at_k, rank_counts

GENERATOR = np.random.default_rng(7)
SCORES = GENERATOR.permuted(np.tile(np.arange(30.0), (40, 1)), axis=1)  # no ties
TARGETS = GENERATOR.integers(0, 30, 40)
TRUTH = [set(GENERATOR.choice(30, 3, replace=False).tolist()) for _ in SCORES]


@pytest.mark.parametrize(
    ("name", "of_ranx"),
    [
        ("hr@5", 0.225),
        ("recall@5", 0.225),
        ("precision@5", 0.045),
        ("ndcg@10", 0.19557106364005677),
        ("mrr@10", 0.14884920634920634),
        ("mrr", 0.18387141826169623),
    ],
)
def test_metrics_of_one_target_equal_those_of_ranx(name, of_ranx):
    better, tied = rank_counts(torch.from_numpy(SCORES), torch.from_numpy(TARGETS))
    assert metric_values(name, better, tied, 30).mean() == pytest.approx(of_ranx)


def test_list_metrics_of_several_targets_equal_those_of_ranx():
    lists = np.argsort(-SCORES, axis=1).tolist()
    assert hit_rate_at_k(lists, TRUTH, 5) == pytest.approx(0.45)
    assert ndcg_at_k(lists, TRUTH, 10) == pytest.approx(0.19221116465384705)
    assert mrr(lists, TRUTH, 10) == pytest.approx(0.2050595238095238)
    scores = torch.from_numpy(SCORES)
    found = np.zeros(len(TRUTH))
    for target in range(3):
        of_rows = torch.tensor([sorted(ids)[target] for ids in TRUTH])
        found += metric_values("precision@5", *rank_counts(scores, of_rows), 30)
    assert found.mean() == pytest.approx(0.09)
    assert (found * 5 / 3).mean() == pytest.approx(0.15)  # recall@5
