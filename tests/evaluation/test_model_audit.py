"""The audit of a model: correct families pass, models that read their batch or the future fail."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch

import graphseq as gs
from graphseq.evaluation import audit_model, model_audit
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


def random_table(size: int) -> Tensor:
    return torch.rand(size, size, generator=torch.Generator().manual_seed(1))


class ByMates(SessionModel):
    """Scores of a table by the last item, which ``moved`` changes where there are batch mates."""

    def __init__(self, table: Tensor, moved: Tensor) -> None:
        super().__init__(len(table))
        self.table, self.moved = table, moved
        self.seen: set[int] = set()

    def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
        last = batch.click_item[batch.click_ptr[1:] - 1]
        self.seen.update(last.tolist())
        scores = self.table[last]
        return scores + self.moved[last] if batch.num_graphs > 1 else scores


@pytest.mark.parametrize(("size", "verdict"), [(1e-3, "ok"), (1.0, "fault")])
def test_audit_model_of_equal_scores_takes_their_size_for_the_spread(
    size: float, verdict: str
) -> None:
    table = torch.full((12, 12), 1000.0)
    found = audit_model(ByMates(table, torch.full((12, 12), size)), SESSIONS)
    assert found["batch mates"].verdict == verdict


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_audit_model_shows_up_to_three_prefixes_that_differ(count: int) -> None:
    table, moved = random_table(12), torch.zeros(12, 12)
    moved[11, 3] = 0.5
    sessions = gs.Sessions.from_lists(
        [*([n, n + 1] for n in range(10)), *[[11, 0]] * count],
        vocabulary=gs.data.Vocabulary(range(12)),
    )
    finding = audit_model(ByMates(table, moved), sessions)["batch mates"]
    assert (finding.verdict, finding.count, finding.total) == ("fault", count, 10 + count)
    assert len(finding.examples) == min(3, count)


@pytest.mark.parametrize("always", [True, False])
def test_audit_model_finds_items_that_only_batch_mates_hide(always: bool) -> None:
    table, moved = random_table(12), torch.zeros(12, 12)
    (table if always else moved)[:, 3] = -torch.inf
    verdict = audit_model(ByMates(table, moved), SESSIONS)["batch mates"].verdict
    assert verdict == ("ok" if always else "fault")


ALONE = gs.Sessions.from_lists([[n, n] for n in range(40)])
"""Sessions of one prefix each, which its item names."""


@pytest.mark.parametrize("num_sessions", [5, 36])
def test_audit_model_tries_as_many_sessions_as_asked(num_sessions: int) -> None:
    model = ByMates(random_table(40), torch.zeros(40, 40))
    assert audit_model(model, ALONE, num_sessions=num_sessions)["targets"].total == num_sessions
    assert len(model.seen) == num_sessions


@pytest.mark.parametrize("name", ["srgnn", "sasrec"])
def test_audit_model_scores_the_eight_last_prefixes_of_every_session(
    name: str, monkeypatch
) -> None:
    log = gs.Sessions.from_lists(np.random.default_rng(0).integers(0, 12, (50, 12)).tolist())
    model = gs.models.MODELS[name](num_items=12)
    for most in (model_audit.MOST_SCORES, 12 * 8 * 3, 1):  # all sessions at once, three, one
        monkeypatch.setattr(model_audit, "MOST_SCORES", most)
        found = audit_model(model, log, num_sessions=40)
        assert {finding.total for finding in found.findings} == {8 * 40}
        assert found.passed, found.to_frame()


def test_audit_model_finds_a_fault_in_any_of_its_batches(monkeypatch) -> None:
    monkeypatch.setattr(model_audit, "MOST_SCORES", 1)
    table, moved = random_table(12), torch.zeros(12, 12)
    moved[5, 3] = 0.5
    lists = [[n, n + 1, n] for n in range(10)]
    sessions = gs.Sessions.from_lists(lists, vocabulary=gs.data.Vocabulary(range(12)))
    finding = audit_model(ByMates(table, moved), sessions)["batch mates"]
    assert (finding.verdict, finding.count, finding.total) == ("fault", 2, 20)


def test_audit_model_by_another_seed_tries_other_sessions() -> None:
    def tried(seed: int) -> set[int]:
        model = ByMates(random_table(40), torch.zeros(40, 40))
        audit_model(model, ALONE, num_sessions=5, seed=seed)
        return model.seen

    assert tried(0) == tried(0) != tried(1)


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
