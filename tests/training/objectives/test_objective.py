"""The loss of a batch against loops over its rows: what each row is compared with, and how."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.models.base import SessionModel
from graphseq.nn.item_table import ItemTable
from graphseq.training.lightning.collectives import Collectives
from graphseq.training.negatives.sampler import NegativeSampler
from graphseq.training.objectives.loss_choice import SAMPLED_LOSSES, CrossEntropy, SampledLoss
from graphseq.training.objectives.objective import Objective

LISTS = [[0, 1, 2, 0], [3, 1], [2, 2, 5], [4, 0, 1, 1], [5, 3, 1], [0, 4]]
SESSIONS = Sessions.from_lists(LISTS)
NUM_ITEMS = 6
CATALOG = SESSIONS.catalog()


class Table(SessionModel):
    """The vector of a session is that of its last click's item."""

    def __init__(self, num_items: int, width: int = 3) -> None:
        super().__init__(num_items)
        self.width = width
        generator = torch.Generator().manual_seed(0)
        draw = torch.randn(2, num_items, width, generator=generator, dtype=torch.float64)
        self.last, self.table = torch.nn.Parameter(draw[0]), torch.nn.Parameter(draw[1])

    def forward(self, batch: Batch) -> Tensor:
        return self.last[batch.click_item[batch.click_ptr[1:] - 1]]

    def item_weight(self) -> Tensor:
        return self.table


class OwnScore(Table):
    """The same scores, but computed against candidates by the model itself."""

    def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
        scores = self(batch) @ self.table.t()
        if items is not None and items.dim() == 1:
            return scores[:, items]
        return scores if items is None else scores.gather(1, items)


def batch() -> Batch:
    """All 12 prefixes."""
    dataset = SessionGraphDataset(SESSIONS)
    return dataset.batch(range(len(dataset)))


def naive(
    loss: SampledLoss, drawn: list[int], log_q: list[float] | None, *, mask: bool = True
) -> float:
    """Row by row: its target against the other rows' targets and the items drawn."""
    model, graphs = Table(NUM_ITEMS), batch()
    scores = model(graphs) @ model.table.t()
    targets = graphs.y.tolist()
    total = 0.0
    for row, target in enumerate(targets):
        others = [t for i, t in enumerate(targets) if i != row] if loss.in_batch else []
        met = [j for j in others + drawn if j != target or not mask]
        offset = np.zeros(NUM_ITEMS) if log_q is None else np.asarray(log_q)
        positive = scores[row, [target]] - offset[target]
        negative = scores[row, met] - torch.from_numpy(offset[met])
        options: dict[str, Any] = dict(loss.options)
        if loss.name == "gbce":
            options["num_items"] = NUM_ITEMS
        total += SAMPLED_LOSSES[loss.name](positive, negative.unsqueeze(0), **options).item()
    return total / len(targets)


def value(loss: SampledLoss, seed: int = 0, model: SessionModel | None = None) -> float:
    objective = Objective(loss, NUM_ITEMS, CATALOG, seed)
    return objective(model or Table(NUM_ITEMS), batch(), epoch=1, step=2).item()


def drawn(loss: SampledLoss, seed: int = 0) -> list[int]:
    if loss.num_negatives == 0:
        return []
    sampler = NegativeSampler(CATALOG.counts, loss.num_negatives, alpha=loss.alpha, seed=seed)
    return sampler.sample(1, 2).tolist()


@pytest.mark.parametrize("name", SAMPLED_LOSSES)
@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize(("in_batch", "num"), [(False, 7), (True, 7), (True, 0)])
def test_objective_of_each_loss_equals_a_loop_over_rows(
    name: str, mask: bool, in_batch: bool, num: int
) -> None:
    loss = SampledLoss(name, num, alpha=0.5, logq=False, in_batch=in_batch, mask_collisions=mask)
    assert value(loss) == pytest.approx(naive(loss, drawn(loss), None, mask=mask), rel=1e-6)


@pytest.mark.parametrize(("in_batch", "num"), [(False, 7), (True, 7), (True, 0)])
def test_objective_logq_equals_the_formula_for_each_kind_of_negatives(
    in_batch: bool, num: int
) -> None:
    loss = SampledLoss(num_negatives=num, alpha=0.5, in_batch=in_batch)
    counts = np.asarray(CATALOG.counts, dtype=float)
    expected = num * counts**0.5 / (counts**0.5).sum()
    if in_batch:
        expected += (batch().num_graphs - 1) * counts / counts.sum()
    log_q = np.log(expected).tolist()
    assert value(loss) == pytest.approx(naive(loss, drawn(loss), log_q), rel=1e-6)


@pytest.mark.parametrize(("in_batch", "num", "power"), [(False, 7, 0.5), (True, 0, 1.0)])
def test_objective_logq_of_one_kind_equals_raw_counts_as_in_the_program(
    in_batch: bool, num: int, power: float
) -> None:
    loss = SampledLoss(num_negatives=num, alpha=0.5, in_batch=in_batch)
    raw = (power * np.log(np.asarray(CATALOG.counts, dtype=float))).tolist()
    assert value(loss) == pytest.approx(naive(loss, drawn(loss), raw), rel=1e-6)


def test_objective_logq_is_the_log_of_how_often_a_row_meets_an_item() -> None:
    loss = SampledLoss(num_negatives=30, alpha=0.5, in_batch=True)
    objective = Objective(loss, NUM_ITEMS, CATALOG, 0)
    counts = torch.from_numpy(np.array(CATALOG.counts)).double()
    generator = torch.Generator().manual_seed(0)
    met, trials = torch.zeros(NUM_ITEMS), 3000
    for step in range(trials):
        targets = torch.multinomial(counts, 21, replacement=True, generator=generator)
        row = objective._negatives(targets, 0, step)[1:]  # what the first row meets
        met += torch.bincount(row, minlength=NUM_ITEMS)
    log_q = objective._log_q(torch.arange(NUM_ITEMS))
    assert log_q is not None
    torch.testing.assert_close(met / trials, log_q.exp(), rtol=0.03, atol=0.0)


@pytest.mark.parametrize("name", ["sampled_softmax", "bpr_max"])
def test_objective_of_a_model_with_its_own_score_meets_the_batch_too(name: str) -> None:
    loss = SampledLoss(name, 0, in_batch=True)
    assert value(loss, model=OwnScore(NUM_ITEMS)) == pytest.approx(value(loss), rel=1e-6)


@pytest.mark.parametrize("name", SAMPLED_LOSSES)
@pytest.mark.parametrize("mask", [True, False])
def test_objective_of_a_model_with_its_own_score_equals_that_by_the_table(
    name: str, mask: bool
) -> None:
    loss = SampledLoss(name, 7, alpha=0.5, mask_collisions=mask)
    assert value(loss, model=OwnScore(NUM_ITEMS)) == pytest.approx(value(loss), rel=1e-6)


@pytest.mark.parametrize("make", [Table, OwnScore])
@pytest.mark.parametrize("in_batch", [False, True])
def test_objective_with_draws_of_each_rows_own_equals_a_loop_over_rows(
    make: type[Table], in_batch: bool
) -> None:
    loss = SampledLoss("bpr", 7, alpha=0.5, in_batch=in_batch, shared=False)
    objective = Objective(loss, NUM_ITEMS, CATALOG, 0)
    model, graphs = make(NUM_ITEMS), batch()
    assert objective.sampler is not None
    each = objective.sampler.sample(1, 2, torch.arange(12)).tolist()
    scores, targets = model.score(graphs), graphs.y.tolist()
    total = 0.0
    for row, (target, met) in enumerate(zip(targets, each, strict=True)):
        met = [j for j in (targets if in_batch else []) + met if j != target]
        total += SAMPLED_LOSSES["bpr"](scores[row, [target]], scores[row, met][None]).item()
    assert value(loss, model=model) == pytest.approx(total / 12, rel=1e-6)


def test_objective_of_a_ranker_of_pairs_draws_for_each_row_where_nothing_else_is_said() -> None:
    ranker = OwnScore(NUM_ITEMS)
    ranker.samples = "pairs"  # type: ignore[misc]
    own = value(SampledLoss(num_negatives=7, shared=False), model=ranker)
    assert value(SampledLoss(num_negatives=7), model=ranker) == own
    shared = value(SampledLoss(num_negatives=7, shared=True), model=ranker)
    assert shared == value(SampledLoss(num_negatives=7), model=OwnScore(NUM_ITEMS)) != own


@pytest.mark.parametrize("make", [Table, OwnScore])
def test_objective_rows_without_a_known_target_are_no_negatives(make: type[Table]) -> None:
    loss = SampledLoss(num_negatives=0, in_batch=True)
    objective = Objective(loss, NUM_ITEMS, CATALOG, 0)
    graphs = batch()
    graphs.y[[1, 4]] = -1
    kept = SessionGraphDataset(SESSIONS).batch([i for i in range(12) if i not in (1, 4)])
    model = make(NUM_ITEMS)
    assert objective(model, graphs, 0, 0).item() == pytest.approx(
        objective(model, kept, 0, 0).item(), rel=1e-6
    )


def test_objective_in_batch_gradient_touches_targets_of_the_batch_alone() -> None:
    model = Table(NUM_ITEMS)
    graphs = SessionGraphDataset(SESSIONS).batch([0, 3])  # targets 1 and 1: nothing to compare
    loss = Objective(SampledLoss(num_negatives=0, in_batch=True), NUM_ITEMS, CATALOG, 0)
    nothing = loss(model, graphs, 0, 0)
    assert nothing.item() == 0
    assert not nothing.requires_grad
    assert not loss.compares
    graphs = SessionGraphDataset(SESSIONS).batch([0, 1])  # targets 1 and 2
    loss(model, graphs, 0, 0).backward()
    assert loss.compares
    assert model.table.grad.any(dim=1).tolist() == [False, True, True, False, False, False]


def test_sampled_loss_without_negatives_is_refused() -> None:
    with pytest.raises(ValueError, match="num_negatives must be at least 1, or 0 with in_batch"):
        SampledLoss(num_negatives=0)
    with pytest.raises(ValueError, match="got -1"):
        SampledLoss(num_negatives=-1, in_batch=True)


def test_objective_in_batch_logq_without_counts_is_refused() -> None:
    with pytest.raises(ValueError, match="SampledLoss\\(in_batch=True, logq=False\\)"):
        Objective(SampledLoss(num_negatives=0, in_batch=True), NUM_ITEMS, None, 0)
    loss = SampledLoss(num_negatives=3, alpha=0, in_batch=True, logq=False)
    without = Objective(loss, NUM_ITEMS, None, 0)(Table(NUM_ITEMS), batch(), 0, 0)
    assert math.isfinite(without.item())


class States(Table):
    """One vector a click, trained on whole sessions."""

    samples = "sessions"

    def click_states(self, batch: Batch) -> Tensor:
        return self.last[batch.click_item]


def scored(model: Table, graphs: Batch) -> list[tuple[Tensor, int, set[int]]]:
    """Scores of each row, its target, and what its session holds."""
    if model.samples == "sessions":
        states, sessions = model.click_states(graphs), graphs.click_batch.tolist()
    else:
        states, sessions = model(graphs), list(range(graphs.num_graphs))
    held = [set(graph.x.tolist()) | set(graph.y.tolist()) for graph in graphs.to_data_list()]
    scores = states @ model.table.t()
    rows = zip(scores, graphs.y.tolist(), sessions, strict=True)
    return [(row, target, held[session]) for row, target, session in rows]


@pytest.mark.parametrize("make", [Table, OwnScore, States])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("name", ["sampled_softmax", "bpr"])
@pytest.mark.parametrize("hard", [None, 2])
def test_objective_without_what_the_session_holds_equals_a_loop_over_rows(
    make: type[Table], shared: bool, name: str, hard: int | None
) -> None:
    loss = SampledLoss(
        name, 20, alpha=0.5, shared=shared, exclude_session=True, hardest=hard, uniform_share=0.1
    )
    objective = Objective(loss, NUM_ITEMS, CATALOG, 0)
    model = make(NUM_ITEMS)
    dataset = SessionGraphDataset(SESSIONS, "sessions" if make is States else "prefixes")
    graphs = dataset.batch(range(len(dataset)))
    rows = scored(model, graphs)
    sampler = objective.sampler
    assert sampler is not None
    number = torch.arange(len(rows))
    each = sampler.sample(1, 2).expand(len(rows), -1) if shared else sampler.sample(1, 2, number)
    offset = sampler.log_q.double() if loss.corrects else torch.zeros(NUM_ITEMS)
    total = 0.0
    for (scores, target, held), drawn in zip(rows, each.tolist(), strict=True):
        negatives = (scores - offset)[[item for item in drawn if item not in held]]
        negatives = negatives.sort(descending=True).values[:hard]
        positive = (scores - offset)[[target]]
        total += SAMPLED_LOSSES[name](positive, negatives[None]).item()
    value = objective(model, graphs, 1, 2)
    assert value.item() == pytest.approx(total / len(rows), rel=1e-6)
    value.backward()
    assert model.table.grad.isfinite().all()


@pytest.mark.parametrize("exclude", [False, True])
def test_objective_with_negatives_from_the_index_equals_a_loop_over_rows(exclude: bool) -> None:
    loss = SampledLoss("bpr", 0, in_batch=True, from_index=2, exclude_session=exclude)
    model, graphs = Table(NUM_ITEMS), batch()
    rows = scored(model, graphs)
    targets, total = graphs.y.tolist(), 0.0
    for scores, target, held in rows:
        best = [j for j in scores.argsort(descending=True).tolist() if j != target][:2]
        hidden = held if exclude else {target}
        met = [j for j in targets + best if j not in hidden]
        total += SAMPLED_LOSSES["bpr"](scores[[target]], scores[met][None]).item()
    assert value(loss, model=model) == pytest.approx(total / len(rows), rel=1e-6)


def test_objective_with_an_index_computes_all_rows_for_a_copy_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[int] = []
    rows = ItemTable.rows

    def watched(items: ItemTable, some: Tensor | None = None) -> Tensor:
        if some is None:
            read.append(step)
        return rows(items, some)

    monkeypatch.setattr(ItemTable, "rows", watched)
    objective = Objective(SampledLoss("bpr", 7, from_index=2, refresh=3), NUM_ITEMS, CATALOG, 0)
    for step in range(5):
        objective(Biased(NUM_ITEMS), batch(), 0, step).backward()
    assert read == [0, 3]


def test_objective_of_a_model_with_its_own_score_has_no_index_to_search() -> None:
    with pytest.raises(ValueError, match="OwnScore scores in a way of its own: use hardest"):
        value(SampledLoss(from_index=2), model=OwnScore(NUM_ITEMS))


class Behind(Collectives):
    """A process whose earlier ones have so many sessions and rows."""

    def __init__(self, number: int) -> None:
        super().__init__(0, 1)
        self.number = number

    def before(self, number: int, device: torch.device | None = None) -> int:
        return self.number


@pytest.mark.parametrize("make", [Table, OwnScore])
def test_objective_draws_of_each_row_are_those_of_its_number_among_all(make: type[Table]) -> None:
    objective = Objective(SampledLoss("bpr", 5, shared=False), NUM_ITEMS, CATALOG, 0)
    model, dataset = make(NUM_ITEMS), SessionGraphDataset(SESSIONS)
    whole = objective(model, dataset.batch(range(12)), 0, 3).item()
    first = objective(model, dataset.batch(range(5)), 0, 3).item()
    objective.collectives = Behind(5)
    rest = objective(model, dataset.batch(range(5, 12)), 0, 3).item()
    assert (5 * first + 7 * rest) / 12 == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("make", [Table, OwnScore])
def test_objective_exact_with_label_smoothing_equals_torchs(make: type[Table]) -> None:
    model, graphs = make(NUM_ITEMS), batch()
    loss = Objective(CrossEntropy(label_smoothing=0.2), NUM_ITEMS, None, 0)(model, graphs, 0, 0)
    expected = torch.nn.functional.cross_entropy(model.score(graphs), graphs.y, label_smoothing=0.2)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("make", [Table, OwnScore])
def test_objective_sampled_with_label_smoothing_spreads_over_what_was_drawn(
    make: type[Table],
) -> None:
    loss = SampledLoss(num_negatives=7, alpha=0.5, logq=False, label_smoothing=0.2)
    options = SampledLoss(num_negatives=7, options={"label_smoothing": 0.2})
    expected = naive(options, drawn(loss), None)
    assert value(loss, model=make(NUM_ITEMS)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("make", [Table, OwnScore])
def test_objective_with_exposure_adds_the_log_of_popularity_in_training(make: type[Table]) -> None:
    model, graphs = make(NUM_ITEMS), batch()
    counts = torch.from_numpy(CATALOG.counts).double() + 1
    scores = model.score(graphs) + 0.7 * (counts / counts.sum()).log()
    expected = torch.nn.functional.cross_entropy(scores, graphs.y)
    objective = Objective(CrossEntropy(exposure=0.7), NUM_ITEMS, CATALOG, seed=0)
    torch.testing.assert_close(objective(model, graphs, 0, 0), expected, atol=1e-6, rtol=1e-6)


def test_objective_with_exposure_recovers_what_people_like_from_what_they_were_shown() -> None:
    """All items are liked equally, item 5 is shown ten times as often: no item stands out."""
    random = np.random.default_rng(0)
    shown = np.array([1, 1, 1, 1, 1, 10.0])
    lists = [[int(random.integers(6)), int(i)] for i in random.choice(6, 4000, p=shown / 15)]
    targets = [each[1] for each in lists]
    counts = np.bincount(targets, minlength=6)
    catalog = Sessions.from_lists([[item] for item in targets], vocabulary=Vocabulary(range(6)))
    bias: dict[float, Tensor] = {}
    for exposure in (0.0, 1.0):
        loss = Objective(CrossEntropy(exposure=exposure), 6, catalog.catalog(), seed=0)
        offset = torch.zeros(6) if loss._exposure is None else loss._exposure
        learned = torch.zeros(6, requires_grad=True)
        optimizer = torch.optim.LBFGS([learned], max_iter=100)

        def step(learned: Tensor = learned, offset: Tensor = offset) -> Tensor:
            learned.grad = None
            rows = (learned + offset).log_softmax(0)
            value = -(torch.from_numpy(counts).float() * rows).mean()
            value.backward()
            return value

        optimizer.step(step)
        bias[exposure] = learned.detach()
    assert float(bias[0.0][5] - bias[0.0][:5].mean()) > 2
    assert float(bias[1.0].max() - bias[1.0].min()) < 0.2


def test_objective_with_exposure_and_no_counts_is_refused() -> None:
    with pytest.raises(ValueError, match=r"exposure=\.\.\.\) needs training counts"):
        Objective(CrossEntropy(exposure=0.5), NUM_ITEMS, None, seed=0)
    with pytest.raises(ValueError, match="exposure"):
        CrossEntropy(exposure=-1.0)


class Biased(SessionModel):
    """A table with a bias of each item, or with that bias as one more channel, read by ones."""

    def __init__(self, num_items: int, folded: bool = False) -> None:
        super().__init__(num_items)
        plain, bias = Table(num_items), torch.linspace(-1, 2, num_items, dtype=torch.float64)
        self.folded = folded
        self.last = torch.nn.Parameter(plain.last.detach())
        self.items = ItemTable(num_items, 3 + folded, bias=not folded).double()
        rows = plain.table.detach()
        self.items.weight.data = torch.cat([rows, bias[:, None]], dim=1) if folded else rows
        if self.items.bias is not None:
            self.items.bias.data = bias

    def forward(self, batch: Batch) -> Tensor:
        vectors = self.last[batch.click_item[batch.click_ptr[1:] - 1]]
        return torch.cat([vectors, vectors.new_ones(len(vectors), 1 * self.folded)], dim=1)


@pytest.mark.parametrize(
    "loss",
    [
        CrossEntropy(label_smoothing=0.1),
        CrossEntropy(exposure=0.7),
        SampledLoss(num_negatives=7, in_batch=True, label_smoothing=0.1),
        SampledLoss(num_negatives=7, logq=False),
        SampledLoss(num_negatives=7, mask_collisions=False),
        SampledLoss("bpr_max", 7, options={"regularization": 0.3}),
        SampledLoss("bpr", 7, hardest=2),
        SampledLoss("bpr", 0, from_index=2),
        SampledLoss(num_negatives=7, shared=False),
    ],
)
def test_objective_bias_of_items_is_one_more_channel(loss: CrossEntropy | SampledLoss) -> None:
    found = []
    for folded in (False, True):
        model = Biased(NUM_ITEMS, folded)
        value = Objective(loss, NUM_ITEMS, CATALOG, 0)(model, batch(), 1, 2)
        value.backward()
        grad = model.items.weight.grad
        bias = grad[:, 3] if model.items.bias is None else model.items.bias.grad
        found.append((value.detach(), grad[:, :3], bias, model.last.grad))
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("shared", [True, False])
def test_objective_with_all_options_together_equals_a_loop_over_rows(shared: bool) -> None:
    loss = SampledLoss(
        num_negatives=9,
        alpha=0.5,
        in_batch=True,
        shared=shared,
        uniform_share=0.2,
        label_smoothing=0.1,
        exclude_session=True,
        hardest=3,
        from_index=2,
    )
    objective = Objective(loss, NUM_ITEMS, CATALOG, 0)
    model, graphs = Biased(NUM_ITEMS), batch()
    sampler = objective.sampler
    assert sampler is not None
    drawn = (
        sampler.sample(1, 2).expand(12, -1) if shared else sampler.sample(1, 2, torch.arange(12))
    )
    scores, targets = model.score(graphs), graphs.y.tolist()
    held = [set(graph.x.tolist()) | set(graph.y.tolist()) for graph in graphs.to_data_list()]
    total = 0.0
    for row, (target, own) in enumerate(zip(targets, drawn.tolist(), strict=True)):
        by_score = scores[row].argsort(descending=True).tolist()
        pool = [j for j in targets + own if j not in held[row]]
        kept = sorted(pool, key=by_score.index)[:3]
        best = [j for j in by_score if j != target][:2]
        met = kept + [j for j in best if j not in held[row]]
        positive, negative = scores[row, [target]], scores[row, met][None]
        total += SAMPLED_LOSSES[loss.name](positive, negative, label_smoothing=0.1).item()
    value = objective(model, graphs, 1, 2).item()
    assert value == pytest.approx(total / 12, rel=1e-6)
