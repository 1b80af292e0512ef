"""Wrong input raises an error of one sentence that states what is wrong."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import graphseq as gs
from graphseq.evaluation import (
    Protocol,
    audit,
    audit_model,
    bootstrap_interval,
    critical_difference,
    differences,
    evaluate_lists,
    evaluate_pairs,
    evaluate_several,
    gini,
    hit_rate_at_k,
    holm,
    ips,
    ndcg_at_k,
    paired_bootstrap,
    paired_test,
    rank_counts,
)
from graphseq.models.base import SessionModel

SPLIT = gs.session_split(gs.generate_sessions(num_sessions=60, num_items=20, seed=0))


class Shaped(SessionModel):
    """Scores of a wrong shape."""

    def __init__(self, *shape):
        super().__init__(SPLIT.num_items)
        self.shape = shape
        self.catalog = SPLIT.catalog

    def score(self, batch, items=None):
        return torch.zeros(*(batch.num_graphs if s is None else s for s in self.shape))


@pytest.mark.parametrize("shape", [(None, 3), (None,), (1, None), (None, 2, 2)])
@pytest.mark.parametrize("evaluate", [gs.evaluate, evaluate_lists, evaluate_several])
def test_scores_that_do_not_fit_name_both_shapes(shape, evaluate):
    with pytest.raises(ValueError, match=r"Shaped\.score must give shape \[\d+, \w+\] here,.* got"):
        evaluate(Shaped(*shape), SPLIT.test)


@pytest.mark.parametrize("shape", [(None, 3), (1, None)])
@pytest.mark.parametrize("evaluate", [evaluate_pairs, audit_model])
def test_scores_that_do_not_fit_are_refused_of_pairs_and_audits(shape, evaluate):
    with pytest.raises(ValueError, match=r"Shaped\.score.* must give shape \[\d+, \w+\].* got"):
        evaluate(Shaped(*shape), SPLIT.test)


ROWS = torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scores": np.zeros((2, 5))}, "tensors of torch, got ndarray and Tensor"),
        ({"targets": [1, 2]}, "tensors of torch, got Tensor and list"),
        ({"targets": torch.tensor([1.5, 2.0])}, "whole numbers, item codes, got torch.float32"),
        ({"targets": torch.tensor([True, False])}, "item codes, got torch.bool"),
        ({"scores": torch.zeros(2, 5).to(torch.complex64)}, "real numbers, got torch.complex64"),
        ({"targets": torch.tensor([1])}, r"got shapes \[2, 5\] and \[1\]"),
        ({"tolerance": torch.zeros(3)}, r"one value per target, \[2\], got \[3\]"),
        ({"tolerance": torch.tensor([0, torch.nan])}, "at least 0 per target, but is nan in row 1"),
        ({"tolerance": torch.tensor([-1.0, 0])}, r"at least 0 per target, but is -1\.0 in row 0"),
        ({"excluded": (ROWS, ROWS[:1])}, r"both \[n\], got shapes \[2\] and \[1\]"),
        ({"excluded": (ROWS + 1, ROWS)}, r"Excluded rows must be in 0\.\.1, got 1\.\.2"),
        ({"excluded": (ROWS, ROWS - 1)}, r"Excluded items must be in 0\.\.4, got -1\.\.0"),
    ],
)
def test_places_of_what_does_not_fit_are_refused(arguments, message):
    given = {"scores": torch.zeros(2, 5), "targets": torch.tensor([1, 2]), **arguments}
    with pytest.raises(ValueError, match=message) as refused:
        rank_counts(given.pop("scores"), given.pop("targets"), **given)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: gs.evaluate(m, SPLIT.test.select([])), "the part is empty"),
        (lambda m: gs.evaluate(m, []), "the list of sessions is empty"),
        (lambda m: evaluate_lists(m, SPLIT.test.select([])), "the part is empty"),
        (lambda m: gs.evaluate(m, SPLIT.test, ks=0), "ks must be whole numbers of at least 1"),
        (lambda m: gs.evaluate(m, SPLIT.test).values("map@5"), "got 'map@5'"),
        (lambda m: gs.evaluate(m, SPLIT.test).strata("gap", metrics=["hit@5"]), "got 'hit@5'"),
        (lambda m: gs.evaluate(m, SPLIT.test).confidence_interval("hr@0"), "got 'hr@0'"),
        (
            lambda m: audit(gs.Split(SPLIT.train, SPLIT.test.select([]))),
            "the test part of this split is empty",
        ),
    ],
)
def test_what_is_not_there_is_said_in_one_sentence(call, message):
    model = gs.models.Popularity(SPLIT.num_items)
    gs.fit(model, SPLIT)
    with pytest.raises(ValueError, match=message) as refused:
        call(model)
    assert "\n" not in str(refused.value)


def test_compare_of_parts_that_share_a_session_id_is_refused():
    parts = [replace(p, session_ids=np.arange(p.num_sessions)) for p in (SPLIT.train, SPLIT.test)]
    split = gs.fixed_split(*parts, shared_ids=True)
    with pytest.raises(ValueError, match="the id of a training session, the first session id 0"):
        gs.compare(split, ["popularity"], seeds=1, progress=False)
    found = gs.compare(split, ["popularity"], seeds=1, progress=False, audit=False)
    assert len(found.content["rows"]) == 1


def test_results_of_other_data_or_protocol_are_not_mixed_in_a_table(tmp_path):
    def run(folder, models, split=SPLIT, **options):
        gs.compare(split, models, seeds=1, progress=False, out=tmp_path / folder, **options)
        return tmp_path / folder

    one = run("one", ["popularity"])
    two = run("two", ["recency"], note="A note is words, by which rows do not differ.")
    joined = gs.Comparison.load(one, two)
    assert set(joined.models) == {"popularity", "recency"}
    with pytest.raises(ValueError, match="other data than"):
        gs.Comparison.load(one, run("other", ["recency"], gs.session_split(SPLIT.train)))
    with pytest.raises(ValueError, match="another protocol than"):
        gs.Comparison.load(one, run("rules", ["recency"], protocol="gru4rec"))
    with pytest.raises(ValueError, match="both hold rows of popularity"):
        gs.Comparison.load(one, one)


REPORT = gs.evaluate(Shaped(None, SPLIT.num_items), SPLIT.test)
TABLE = pd.DataFrame([[0.1, 0.2], [0.3, 0.1]], columns=["one", "other"])
ONES = np.ones(4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gs.evaluate(Shaped(None, 20), SPLIT.test, audit="yes"), r"found, got str\.$"),
        (lambda: REPORT.compare(3, "mrr"), r"another report of gs\.evaluate, got int\.$"),
        (lambda: differences([REPORT, REPORT], "mrr"), "one report per seed, got list"),
        (lambda: differences({"a": REPORT, "b": 3}, "mrr"), r"'b' needs .*, got \[3\]"),
        (lambda: differences({"a": REPORT, "b": []}, "mrr"), r"'b' needs at least one report"),
        (lambda: holm([0.1, np.nan]), "from 0 to 1"),
        (lambda: holm([[0.1]]), "from 0 to 1"),
        (lambda: holm([1.5]), "from 0 to 1"),
        (lambda: critical_difference(TABLE.to_numpy()), "a DataFrame of numbers, .* got ndarray"),
        (lambda: critical_difference(TABLE.astype(str)), "a DataFrame of numbers"),
        (lambda: paired_test(ONES, ONES * np.nan, range(4)), "4 of 4 values are not finite"),
        (lambda: paired_bootstrap(ONES, ONES * np.inf, range(4)), "4 of 4 values are not finite"),
        (lambda: bootstrap_interval([1.0, np.nan], [0, 1]), "1 of 2 values are not finite"),
        (lambda: paired_test(ONES, ONES, [0, 1, 2, np.nan]), "1 of 4 cases have no cluster"),
        (lambda: paired_test(ONES, ONES, [0, None, 2, None]), "2 of 4 .* the first is case 1"),
        (lambda: paired_bootstrap(ONES, ONES, [np.nan, 1, 2, 3]), "1 of 4 cases have no cluster"),
        (lambda: bootstrap_interval([1, 2], [0, None]), "1 of 2 cases have no cluster"),
        (lambda: gini(3), "one finite number of at least 0 per item"),
        (lambda: gini([-1, 2]), "one finite number of at least 0 per item"),
        (lambda: gini([[1, 2]]), "one finite number of at least 0 per item"),
        (
            lambda: hit_rate_at_k([[1]], [1], None),
            "k must be a whole number of at least 1, got None",
        ),
        (
            lambda: hit_rate_at_k([[[1, 0.5], [2, 0.1]]], [1], 1),
            r"An id is text or a number, got \[1, 0\.5\] in the ranked list of case 0: of pairs",
        ),
        (lambda: ndcg_at_k([[1]], [[[1]]], 1), r"got \[1\] in the truth of case 0"),
        (lambda: ndcg_at_k([[1]], [1], None), "k must be a whole number of at least 1, got None"),
        (
            lambda: REPORT.compare(REPORT, "mrr", method="x"),
            r"method is 't', 'sign_flip' or 'bootstrap', got 'x'\.$",
        ),
        (lambda: audit(SPLIT, "x"), "model must be a SessionModel, got str"),
        (lambda: audit(SPLIT, SPLIT.test), "model must be a SessionModel, got Sessions"),
        (lambda: Protocol(name=3), r"name is text, got 3\.$"),
        (lambda: ips(["a"], [0.5], [0.5]), r"rewards holds one number per case, got \['a'\]"),
    ],
)
def test_wrong_value_is_refused_in_one_sentence(call, message):
    with pytest.raises(ValueError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)
