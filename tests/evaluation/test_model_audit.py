"""The audit of a model: correct families pass, models that read their batch or the future fail."""

import numpy as np
import pytest
import torch

import graphseq as gs
from graphseq.evaluation import audit_model
from graphseq.models.base import SessionModel

LISTS = [np.random.default_rng(i).integers(0, 12, 3 + i % 6).tolist() for i in range(20)]
SESSIONS = gs.Sessions.from_lists(LISTS)


class Last(SessionModel):
    """The item of the last click, in a table: honest."""

    causal = True

    def __init__(self, num_items: int) -> None:
        super().__init__(num_items)
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.nn.Parameter(torch.randn(num_items, 4, generator=generator))

    def item_weight(self):
        return self.weight

    def click_states(self, batch):
        return self.weight[batch.click_item]

    def forward(self, batch):
        return self.click_states(batch)[batch.click_ptr[1:] - 1]


class BatchWideGraph(Last):
    """Adds the items that follow an item anywhere in the batch, as a graph over the batch does."""

    def click_states(self, batch):
        item = batch.click_item
        inside = batch.click_batch[1:] == batch.click_batch[:-1]
        source, follows = item[:-1][inside], item[1:][inside]
        sums = torch.zeros_like(self.weight).index_add_(0, source, self.weight[follows])
        return self.weight[item] + 0.1 * sums[item]


class Standardized(Last):
    """Takes the mean of the batch off every state: the mildest dependence."""

    def forward(self, batch):
        states = super().forward(batch)
        return states - 0.01 * states.mean(0)


class ReadsTargets(Last):
    def forward(self, batch):
        return super().forward(batch) + 0.1 * self.weight[batch.y.view(-1).clamp(min=0)]


class SeesLater(Last):
    """The state of a click holds the mean of its whole session."""

    def click_states(self, batch):
        states = self.weight[batch.click_item]
        mean = torch.zeros(batch.num_graphs, states.size(1)).index_add_(
            0, batch.click_batch, states
        )
        return states + 0.1 * mean[batch.click_batch] / batch.click_batch.bincount()[
            batch.click_batch
        ].unsqueeze(1)


class RunsOver(Last):
    """Sums the states of a session, but one pass over several does not begin anew at their borders.

    A prefix is scored by its own sum, so that only the pass over the batch is at fault.
    """

    def click_states(self, batch):
        return self.weight[batch.click_item].cumsum(0)

    def forward(self, batch):
        sums = self.click_states(batch)
        before = torch.cat([torch.zeros_like(sums[:1]), sums])[batch.click_ptr[:-1]]
        return sums[batch.click_ptr[1:] - 1] - before


@pytest.mark.parametrize(
    ("kind", "faults"),
    [
        (Last, []),
        (RunsOver, ["batch mates"]),
        (BatchWideGraph, ["batch mates", "later clicks"]),
        (Standardized, ["batch mates", "later clicks"]),
        (ReadsTargets, ["targets", "later clicks"]),
        (SeesLater, ["later clicks"]),
    ],
)
def test_audit_model_finds_what_a_model_should_not_read(kind, faults):
    model = kind(SESSIONS.num_items)
    found = audit_model(model, SESSIONS)
    assert [finding.check for finding in found.faults] == faults, found.to_frame()
    assert found.passed == (not faults)
    for finding in found.faults:
        assert 0 < finding.count <= finding.total
        assert finding.examples[0].startswith("session ")
        assert ", target at click " in finding.examples[0]
    assert model.training


@pytest.mark.parametrize("name", ["srgnn", "gru4rec", "sasrec", "markov", "vsknn", "bert4rec"])
def test_audit_model_of_our_own_families_passes(name):
    split = gs.session_split(SESSIONS, 0.5)
    model = gs.models.MODELS[name](num_items=split.num_items)
    if name in ("markov", "vsknn"):
        gs.fit(model, split)
    found = audit_model(model, split)
    assert found.passed, found.to_frame()
    assert found["batch mates"].total > 20


def test_audit_model_without_two_known_clicks_says_so():
    model = Last(SESSIONS.num_items)
    lone = gs.Sessions.from_lists([["a"]], vocabulary=gs.data.Vocabulary([*range(11), "a"]))
    with pytest.raises(ValueError, match="audit_model needs sessions of two clicks or more"):
        audit_model(model, lone)
    with pytest.raises(ValueError, match="num_sessions must be at least 1"):
        audit_model(model, SESSIONS, num_sessions=0)


@pytest.mark.parametrize("where", ["table", "states"])
def test_audit_model_of_nan_scores_says_so_and_accuses_nobody(where):
    class Broken(Last):
        def click_states(self, batch):
            states = super().click_states(batch)
            return states.fill_(torch.nan) if len(batch.ptr) == 2 else states

    model = Broken(SESSIONS.num_items) if where == "states" else Last(SESSIONS.num_items)
    if where == "table":
        model.weight.data[3] = torch.nan
    with pytest.raises(
        ValueError, match=r"(Scores|States) must be numbers, but \d+ of \d+ are NaN"
    ):
        audit_model(model, SESSIONS)
