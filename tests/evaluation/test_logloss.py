"""The logloss of a report: torch's cross-entropy over all items, of models that give logits."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import graphseq as gs
from graphseq.evaluation import Protocol, Report, softmax_loss

LISTS = [[1, 2, 3, 1], [2, 3], [4, 1, 2, 4, 3], [3, 3, 1], [5, 2]]
TRAIN = gs.Sessions.from_lists(LISTS)
TEST = gs.Sessions.from_lists([[1, 2, 4], [9, 3, 1], [3, 9, 5], [2, 2, 2, 1]])


def built(family, **options):
    torch.manual_seed(3)
    model = family(num_items=TRAIN.num_items, **options)
    model.attach(TRAIN.catalog(), TRAIN)
    return model


@pytest.mark.parametrize(
    ("family", "options"),
    [
        (gs.models.SASRec, {"hidden_channels": 8, "max_length": 4}),
        (gs.models.SRGNN, {"hidden_channels": 8, "normalize": True}),
        (gs.models.TAGNN, {"hidden_channels": 8}),
    ],
)
@pytest.mark.parametrize("most", [2**24, 12])
def test_logloss_of_known_cases_is_the_cross_entropy_of_torch(family, options, most, monkeypatch):
    monkeypatch.setattr(softmax_loss, "MOST_SCORES", most)
    model = built(family, **options)
    report = gs.evaluate(model, TEST, logloss=True)
    encoded = TEST.with_vocabulary(TRAIN.vocabulary)
    dataset = gs.SessionGraphDataset(encoded, "prefixes")
    model.eval()
    for case, position in enumerate(report.ranks["position"]):
        session = encoded.to_lists()[report.ranks["session"][case]]
        history = [i for i in session[:position] if i is not None]
        target, found = session[position], report.values("logloss")[case]
        if target is None or not history:  # no more than chance is known
            assert found == pytest.approx(np.log(TRAIN.num_items))
            continue
        codes = TRAIN.vocabulary.encode([*history, target])
        one = gs.Sessions.from_lists([[*history, target]]).with_vocabulary(TRAIN.vocabulary)
        one = replace(one, first_target=np.array([len(history)]))
        batch = gs.SessionGraphDataset(one, "prefixes").batch([0])
        expected = cross_entropy(model.score(batch), torch.tensor(codes[-1:])).item()
        assert found == pytest.approx(expected, rel=1e-5)
    assert len(dataset) < report.num_cases  # some had no history
    assert report.metrics["logloss"] == pytest.approx(report.values("logloss").mean())
    plain = gs.evaluate(model, TEST)
    assert plain.metrics == {k: v for k, v in report.metrics.items() if k != "logloss"}


def test_logloss_is_kept_in_a_file_and_compared_like_other_metrics(tmp_path):
    one, two = (
        gs.evaluate(built(gs.models.SASRec, hidden_channels=width), TEST, logloss=True)
        for width in (4, 8)
    )
    one.save(tmp_path / "one.bin")
    again = Report.load(tmp_path / "one.bin")
    assert again.values("logloss").tolist() == one.values("logloss").tolist()
    difference = one.values("logloss").mean() - two.values("logloss").mean()
    assert one.compare(two, "logloss").difference == pytest.approx(difference)
    low, high = one.confidence_interval("logloss")
    assert low < one.metrics["logloss"] < high
    assert high > 1


def test_logloss_with_seen_items_both_ways_is_of_all_items():
    model = built(gs.models.SASRec, hidden_channels=8)
    both = gs.evaluate(model, TEST, protocol=Protocol(seen="both"), logloss=True)
    assert both.metrics["logloss"] == gs.evaluate(model, TEST, logloss=True).metrics["logloss"]
    with pytest.raises(ValueError, match="unseen logloss"):
        both.values("unseen logloss")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"logloss": "yes"}, "logloss"),
        ({"logloss": True, "exclude_seen": True}, "has seen='remove'"),
        ({"logloss": True, "protocol": Protocol(candidates=2)}, "has candidates=2"),
    ],
)
def test_logloss_of_less_than_all_items_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        gs.evaluate(built(gs.models.SASRec, hidden_channels=8), TEST, **options)


def test_logloss_of_counts_is_refused_and_of_a_report_without_it():
    model = gs.models.MarkovChain(TRAIN.num_items)
    gs.fit(model, TRAIN)
    with pytest.raises(ValueError, match="which MarkovChain does not give; its scores are counts"):
        gs.evaluate(model, TEST, logloss=True)
    with pytest.raises(ValueError, match=r"no .logloss.: evaluate with logloss=True"):
        gs.evaluate(model, TEST).values("logloss")


def test_infinite_logloss_leaves_the_other_metrics_their_intervals():
    class Masked(gs.models.GRU4Rec):
        def score(self, batch, items=None):
            scores = super().score(batch, items).clone()
            scores[:, 0] = -torch.inf
            return scores

    plain, masked = built(gs.models.GRU4Rec, hidden_channels=8), built(Masked, hidden_channels=8)
    report = gs.evaluate(masked, TEST, logloss=True)
    assert report.metrics["logloss"] == np.inf
    assert np.isnan(report.confidence_interval("logloss")).all()
    frame, strata = report.to_frame(), report.strata("position")
    assert frame.loc["mrr"].notna().all()
    assert strata["mrr low"].notna().any()
    for wrong in (0, 1):
        with pytest.raises(ValueError, match="level must lie between 0 and 1"):
            report.confidence_interval("logloss", level=wrong)
    with pytest.raises(ValueError, match="not finite"):
        report.compare(gs.evaluate(plain, TEST, logloss=True), "logloss")
